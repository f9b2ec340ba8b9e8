"""The faults of a soak test. Each is made, lasts a while, and is taken back; then everything has to work again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.soak.checks import check_recording
from tests.soak.processes import LIMIT, Failure, Program, limited, seen_by, until, usage
from tests.soak.proxy import Proxy, choose
from tests.soak.world import World
from tests.support.blackbox import PYTHON

_RESET = struct.pack("ii", 1, 0)
_GET = b'<getProperties version="1.7"/>'
_DEVICES = ("Alpha", "Beta", "Gamma", "CCD Simulator")
_BLOBS = b"".join(b'<enableBLOB device="%s">Also</enableBLOB>' % device.encode() for device in _DEVICES)
_HALF = b'<newBLOBVector device="Alpha" name="b"><oneBLOB name="b" size="99999999" format=".x">'


class Skipped(Exception):
    """This fault can't be made here; the text says why."""


@dataclass(frozen=True)
class Fault:
    """A fault, and what it may cost."""

    name: str
    make: Callable[[World, random.Random], object]
    """Makes the fault, waits and takes it back; what it returns goes to the log."""
    loses_frames: bool
    """Frames may be missing without an announcement: those that there were no descriptors or no memory for."""


FAULTS: dict[str, Fault] = {}

Make = Callable[[World, random.Random], object]


def fault(*, loses_frames: bool = False) -> Callable[[Make], Make]:
    """Add a function to the faults under its own name."""

    def add(make: Make) -> Make:
        name = make.__name__.replace("_", " ")
        FAULTS[name] = Fault(name, make, loses_frames)
        return make

    return add


# -- Drivers


def _drivers(world: World) -> list[tuple[str, str]]:
    """Server and a word of the command line, for each driver that is a program."""
    found = [("a", "Alpha"), ("a", "indi_simulator_ccd"), ("b", "Beta"), ("b", "indi_simulator_telescope")]
    return [*found, *([("a", "Peer")] if world.has_peer else [])]


def _running(world: World, server: str, word: str) -> int:
    until(lambda: world.driver_pid(server, word) is not None, f"{word} runs")
    pid = world.driver_pid(server, word)
    assert pid is not None
    return pid


@fault()
def driver_is_killed(world: World, draw: random.Random) -> str:
    """By a signal that it does not survive; the server starts it again."""
    server, word = draw.choice(_drivers(world))
    number = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV))
    pid = _running(world, server, word)
    os.kill(pid, number)
    until(lambda: world.driver_pid(server, word) not in (None, pid), f"{word} is started again")
    return f"{word} by {number.name}"


@fault()
def driver_is_stopped(world: World, draw: random.Random) -> str:
    """SIGSTOP and SIGCONT; the commands that it is sent meanwhile are not lost."""
    server, word = draw.choice([driver for driver in _drivers(world) if not driver[1].startswith("indi_")])
    pid = _running(world, server, word)
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(draw.randrange(1, 30)):
            world.send_command("tcp-a", word)
        time.sleep(draw.uniform(0.5, 3))
    finally:
        os.kill(pid, signal.SIGCONT)
    return word


# -- The network


def _proxy(world: World, draw: random.Random) -> tuple[str, Proxy]:
    name = draw.choice(list(world.proxies))
    return name, world.proxies[name]


@fault()
def network_stalls(world: World, draw: random.Random) -> str:
    """In both directions or in one, and then goes on: nothing is lost."""
    name, proxy = _proxy(world, draw)
    directions = draw.choice(((0, 1), (0,), (1,)))
    proxy.stall(directions)
    time.sleep(draw.uniform(0.5, 5))
    proxy.resume()
    return f"{name} {directions}"


@fault()
def network_is_slow(world: World, draw: random.Random) -> str:
    """It delays, and passes on small pieces."""
    name, proxy = _proxy(world, draw)
    delay, piece = draw.uniform(0, 0.05), draw.choice((1, 17, 1460, 16384))
    proxy.slow(delay, piece)
    time.sleep(draw.uniform(0.5, 3))
    proxy.resume()
    return f"{name} {delay:.3f} s, {piece} bytes"


@fault()
def network_resets(world: World, draw: random.Random) -> str:
    """Connections are reset, perhaps again while they are being made."""
    name, proxy = _proxy(world, draw)
    times = draw.randrange(1, 4)
    for _ in range(times):
        proxy.reset()
        time.sleep(draw.choice((0, 0.2, 1)))
    return f"{name} {times} times"


@fault()
def network_cuts_a_message(world: World, draw: random.Random) -> str:
    """A connection ends within a message."""
    name, proxy = _proxy(world, draw)
    within, direction = choose(draw), draw.choice((0, 1, 1))
    before = proxy.cuts
    proxy.cut(within, direction)
    deadline = time.monotonic() + draw.uniform(0.5, 3)
    while proxy.cuts == before and time.monotonic() < deadline:
        time.sleep(0.05)
    proxy.resume()
    return f"{name} after {within} bytes of direction {direction}"


@fault()
def network_is_gone(world: World, draw: random.Random) -> str:
    """Connections are refused for a while."""
    name, proxy = _proxy(world, draw)
    proxy.refuse()
    time.sleep(draw.uniform(0.2, 3))
    proxy.accept()
    return name


# -- Clients


def _connect(world: World, draw: random.Random) -> socket.socket:
    server = world.servers[draw.choice("abc")]
    local = draw.random() < 0.4
    connection = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
    connection.settimeout(LIMIT)
    connection.connect("\0" + server.local[1:] if local else ("127.0.0.1", server.port))
    return connection


def _leave(connection: socket.socket, draw: random.Random) -> None:
    if draw.random() < 0.5:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


@fault()
def clients_stall(world: World, draw: random.Random) -> str:
    """They ask for everything, read nothing, perhaps send half a message of their own, and leave."""
    count = draw.randrange(1, 8)
    connections = [_connect(world, draw) for _ in range(count)]
    for connection in connections:
        connection.sendall(_GET + _BLOBS)
    time.sleep(draw.uniform(1, 6))
    for connection in connections:
        if draw.random() < 0.5:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(_HALF + b"A" * (1 << 20))
    for connection in connections:
        _leave(connection, draw)
    return f"{count} clients"


@fault()
def clients_come_and_go(world: World, draw: random.Random) -> str:
    """A crowd of them: some say nothing, some leave in the middle of their words or of the answer."""
    count = draw.randrange(20, 80)
    for _ in range(count):
        connection = _connect(world, draw)
        words = draw.choice((b"", _GET, _GET + _BLOBS, (_GET + _BLOBS)[: draw.randrange(1, 60)]))
        connection.sendall(words)
        if words.startswith(_GET) and draw.random() < 0.5:
            connection.recv(1 << draw.randrange(0, 16))
        _leave(connection, draw)
    return f"{count} clients"


@fault()
def client_is_stopped(world: World, draw: random.Random) -> str:
    """SIGSTOP and SIGCONT of a client or the recorder, which is then told how many frames it has missed."""
    program = draw.choice([*world.clients.values(), world.recorder])
    program.send(signal.SIGSTOP)
    try:
        time.sleep(draw.uniform(0.5, 8))
    finally:
        program.send(signal.SIGCONT)
    return program.name


@fault()
def clients_talk_nonsense(world: World, draw: random.Random) -> str:
    """Bytes that are no INDI, damaged messages, wrong base64, unfinished messages."""
    words = (
        draw.randbytes(draw.randrange(1, 100_000)),
        b"<" * 10_000,
        b'<newTextVector device="Alpha" name="token"><oneText name="text">never',
        b'<newTextVector device="Alpha" name="beat"><oneText name="text">x</oneText></newTextVector>',
        b'<setNumberVector device="Alpha" name="beat"><oneNumber name="number">1</oneNumber></setNumberVector>',
        b'<defTextVector device="Alpha" name="mine" state="Ok" perm="ro"><defText name="t">x</defText></defTextVector>',
        b'<newBLOBVector device="Alpha" name="frame"><oneBLOB name="data" size="5">AA?A</oneBLOB></newBLOBVector>',
        b'<delProperty device="Alpha"/>',
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>" * 1000,
        b'<newNumberVector device="CCD Simulator" name="CCD_EXPOSURE"><oneNumber name="CCD_EXPOSURE_VALUE">nan',
    )
    chosen = [draw.choice(words) for _ in range(draw.randrange(1, 6))]
    for said in chosen:
        connection = _connect(world, draw)
        with contextlib.suppress(ConnectionError):
            connection.sendall(_GET + said)
        time.sleep(draw.choice((0, 0.1)))
        _leave(connection, draw)
    return f"{len(chosen)} clients"


# -- Servers


@fault()
def server_is_stopped(world: World, draw: random.Random) -> str:
    """SIGSTOP and SIGCONT."""
    server = world.servers[draw.choice("abc")]
    server.program.send(signal.SIGSTOP)
    try:
        time.sleep(draw.uniform(0.5, 5))
    finally:
        server.program.send(signal.SIGCONT)
    return server.name


@fault()
def server_is_killed(world: World, draw: random.Random) -> str:
    """SIGKILL; its drivers end with it. It is started again, and everybody finds it."""
    server = world.servers[draw.choice("abc")]
    drivers = psutil.Process(server.program.pid).children(recursive=True)
    server.program.send(signal.SIGKILL)
    server.program.child.wait(LIMIT)
    until(lambda: not any(_runs(driver) for driver in drivers), "its drivers end")
    time.sleep(draw.uniform(0, 2))
    server.program.start()
    world.wait_for_port(server.port)
    return server.name


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@fault()
def nobody_reads_the_log(world: World, draw: random.Random) -> str:
    """The reader of a server's standard error stops reading while there is much to log."""
    world.pipe.reading.clear()
    connections = []
    for _ in range(draw.randrange(5, 20)):
        connections.append(_connect(world, draw))
        connections[-1].sendall(b"<junk>" * draw.randrange(1, 20_000))
    time.sleep(draw.uniform(0.5, 3))
    for connection in connections:
        _leave(connection, draw)
    world.pipe.reading.set()
    return "server b"


# -- Limits of the system


@fault(loses_frames=True)
def descriptors_run_out_in_a_server(world: World, draw: random.Random) -> str:
    """While clients come, and a driver has to be started again."""
    server = world.servers[draw.choice("abc")]
    room = draw.randrange(0, 12)
    connections: list[socket.socket] = []
    with limited([server.program.pid], resource.RLIMIT_NOFILE, usage(server.program.pid).open + room):
        try:
            for _ in range(draw.randrange(5, 30)):
                connections.append(_connect(world, draw))
                connections[-1].sendall(_GET + _BLOBS)
            if server.name != "c" and draw.random() < 0.5:
                word = {"a": "Alpha", "b": "Beta"}[server.name]
                os.kill(_running(world, server.name, word), signal.SIGKILL)
            time.sleep(draw.uniform(0.5, 3))
        finally:
            for connection in connections:
                _leave(connection, draw)
    return f"{server.name} with {room} more"


@fault(loses_frames=True)
def descriptors_run_out_elsewhere(world: World, draw: random.Random) -> str:
    """In a client, the recorder, the terminal or a driver."""
    pids = world.pids() | {"Alpha": _running(world, "a", "Alpha"), "Beta": _running(world, "b", "Beta")}
    name = draw.choice([name for name in pids if not name.startswith("server")])
    used = usage(pids[name])
    room = draw.randrange(0, 3)
    with limited([pids[name]], resource.RLIMIT_NOFILE, used.open + room):
        if name == "client-b" and draw.random() < 0.7:
            world.proxies["client"].reset()
        time.sleep(draw.uniform(0.5, 3))
    return f"{name} with {room} more"


@fault(loses_frames=True)
def files_may_not_grow(world: World, draw: random.Random) -> str:
    """RLIMIT_FSIZE, which also limits the shared memory that BLOBs travel in."""
    pids = world.pids() | {"Alpha": _running(world, "a", "Alpha"), "Beta": _running(world, "b", "Beta")}
    name = draw.choice([name for name in pids if name not in ("recorder", "server-a")])
    most = draw.choice((0, 4096, 200_000))
    with limited([pids[name]], resource.RLIMIT_FSIZE, most):
        time.sleep(draw.uniform(0.5, 4))
    return f"{name} at {most} bytes"


@fault(loses_frames=True)
def memory_runs_out_in_a_server(world: World, draw: random.Random) -> str:
    """RLIMIT_AS a little above what it uses, while clients send messages without an end and read nothing."""
    server = world.servers[draw.choice("abc")]
    room = draw.choice((1, 4, 16, 64)) << 20
    connections: list[socket.socket] = []
    with limited([server.program.pid], resource.RLIMIT_AS, _address_space(server.program.pid) + room):
        try:
            began = time.monotonic()
            for _ in range(4):
                connection = _connect(world, draw)
                connections.append(connection)
                connection.sendall(_GET + _BLOBS)
                connection.sendall(_HALF)
                connection.setblocking(False)
            text = b"A" * (1 << 16)
            seconds = draw.uniform(1, 4)
            sent = 0
            while time.monotonic() < began + seconds:
                _, writable, _ = select.select([], connections, [], 0.1)
                for connection in writable:
                    with contextlib.suppress(OSError):
                        sent += connection.send(text)
                if sent > 200 << 20:
                    break
                time.sleep(0.002)
        finally:
            for connection in connections:
                _leave(connection, draw)
    return f"{server.name} with {room >> 20} MiB more, {sent >> 20} MiB sent"


@fault(loses_frames=True)
def memory_runs_out_elsewhere(world: World, draw: random.Random) -> str:
    """In a client of indifast, the recorder or a driver."""
    pids = {"Alpha": _running(world, "a", "Alpha"), "Beta": _running(world, "b", "Beta")}
    pids |= {name: world.pids()[name] for name in ("client-b", "local-c", "recorder")}
    name = draw.choice(list(pids))
    room = draw.choice((1, 8, 32)) << 20
    with limited([pids[name]], resource.RLIMIT_AS, _address_space(pids[name]) + room):
        time.sleep(draw.uniform(0.5, 3))
    return f"{name} with {room >> 20} MiB more"


def _address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


# -- Disks


@fault()
def disk_of_a_server_is_full(world: World, draw: random.Random) -> str:
    """Its recording ends with a sentence; its log of messages goes on when there is room again."""
    if world.disks.missing:
        raise Skipped(world.disks.missing)
    server = world.servers["a"].program
    disk = seen_by(server.pid, world.disk)

    def message_log() -> int:
        return sum(path.stat().st_size for path in disk.glob("*.islog"))

    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * (1 << 16))
    time.sleep(draw.uniform(2, 4))
    for recording in disk.glob("*.indi"):  # it may have filled the disk by itself
        until(lambda: "recording has ended" in server.log, "the recording ends")
        check_recording(world, recording, cut=True)
        recording.unlink()
    before = message_log()
    filler.unlink()
    until(lambda: message_log() > before, "the log of messages goes on")
    return "server a"


@fault()
def disk_of_a_recorder_is_full(world: World, draw: random.Random) -> str:
    """`record` ends with status 2 and a sentence; what it has written can be read up to there."""
    if world.disks.missing:
        raise Skipped(world.disks.missing)
    folder = world.folder / "small"
    folder.mkdir(exist_ok=True)
    where = f"127.0.0.1:{world.servers[draw.choice('abc')].port}"
    record = [PYTHON, "-m", "indifast", "record", where, "-o", folder / "full.indi", "--blobs"]
    keep = f'"$@"; status=$?; cp "{folder}/full.indi" "{world.folder}/full.indi"; exit $status'
    command = world.disks.command([folder], f"{draw.choice((64, 300, 2000))}k", ["sh", "-c", keep, "sh", *record])
    recorder = Program("full", command, world.folder, world.environment, controlled=False)
    try:
        status = recorder.child.wait(LIMIT)
    finally:
        recorder.kill()
    if status != 2 or "no space left" not in recorder.log.lower():
        raise Failure(f"record on a full disk ended with status {status}:\n{recorder.log}")
    check_recording(world, world.folder / "full.indi", cut=True)
    (world.folder / "full.indi").unlink()
    return where


@fault()
def recorder_may_not_write(world: World, draw: random.Random) -> str:
    """RLIMIT_FSIZE of the recorder: it ends with status 2; another one is started."""
    recorder = world.recorder
    path = world.recording
    resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (path.stat().st_size + draw.randrange(0, 300_000), -1))
    status = recorder.child.wait(LIMIT)
    if status != 2 or "file too large" not in recorder.log.lower():
        raise Failure(f"record that may not write ended with status {status}:\n{recorder.log}")
    check_recording(world, path, cut=True)
    world.start_recorder()
    return path.name


@fault()
def recorder_is_killed(world: World, draw: random.Random) -> str:
    """Its file can be read up to there; another one is started."""
    recorder, path = world.recorder, world.recording
    recorder.send(signal.SIGKILL)
    recorder.child.wait(LIMIT)
    check_recording(world, path, cut=True)
    world.start_recorder()
    return path.name


# -- The clock


@fault()
def clock_jumps(world: World, draw: random.Random) -> str:
    """By seconds, hours or decades, forward and back, for all programs at once."""
    jumps = [
        draw.choice((-1, 1)) * draw.choice((2, 3600, 86400 * 365, 86400 * 365 * 25))
        for _ in range(draw.randrange(1, 4))
    ]
    for jump in jumps:
        world.set_clock(jump)
        time.sleep(draw.uniform(0.3, 1.5))
    world.set_clock(0)
    return str(jumps)


# -- The terminal and the tools


@fault()
def terminal_is_not_read(world: World, draw: random.Random) -> str:
    """Nobody reads what it draws, as when a connection over SSH stalls."""
    world.screen.drawing.clear()
    time.sleep(draw.uniform(0.5, 4))
    world.screen.drawing.set()
    return ""


@fault()
def terminal_is_stopped(world: World, draw: random.Random) -> str:
    """SIGSTOP and SIGCONT."""
    os.kill(world.screen.pid, signal.SIGSTOP)
    time.sleep(draw.uniform(0.5, 4))
    os.kill(world.screen.pid, signal.SIGCONT)
    return ""


@fault()
def terminal_is_closed(world: World, draw: random.Random) -> str:
    """The terminal hangs up, as when its window is closed; the program ends. Another one is started."""
    world.screen.hang_up()
    world.start_terminal()
    return ""


_STATUSES = {0, 1, 2, 3, 4}


@fault()
def tools_in_a_bad_network(world: World, draw: random.Random) -> str:
    """Tools that are run while the link stalls and is reset: each ends in time with one of its statuses."""
    port = world.proxies["client"].port
    commands = (
        ["get", "-p", port, "-t", 1, "Alpha.beat.*"],
        ["get", "-p", port, "-t", 1, "*"],
        ["set", "-p", port, "-t", 1, "--wait", "Ok", "--timeout", 2, "Alpha.token.text=tool"],
        ["watch", "-p", port, "Beta"],
        ["devices", "-p", port, "-t", 1],
        ["snap", "-p", port, "-t", 1, "--json"],
        ["eval", "-p", port, "-t", 1, '"Alpha.beat.number">0'],
        ["expose", "-p", port, "-t", 1, "--timeout", 3, "-o", f"{world.folder}/images/", "CCD Simulator", 0.01],
    )
    chosen = [draw.choice(commands) for _ in range(3)]
    proxy = world.proxies["client"]
    environment = {**os.environ, **world.environment}
    with contextlib.ExitStack() as stack:
        running = []
        for words in chosen:
            command = [PYTHON, "-m", "indifast", *map(str, words)]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            stack.callback(process.kill)
            running.append((words, process))
        time.sleep(draw.uniform(0.1, 1))
        for trouble in (proxy.stall, proxy.reset, proxy.resume, proxy.reset):
            if draw.random() < 0.7:
                trouble()
            time.sleep(draw.uniform(0, 0.6))
        proxy.resume()
        for words, process in running:
            if words[0] == "watch":
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=LIMIT)[0].decode(errors="replace")
            allowed = {*_STATUSES, 130, -signal.SIGTERM, 143} if words[0] == "watch" else _STATUSES
            if process.returncode not in allowed or re.search("Traceback|Exception ignored", output):
                raise Failure(f"indifast {words} ended with status {process.returncode}:\n{output[-3000:]}")
    return ", ".join(str(words[0]) for words in chosen)
