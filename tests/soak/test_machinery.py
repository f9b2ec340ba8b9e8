"""The soak test's own parts: what they check is found when it is wrong, and the faults that they make are made."""

from __future__ import annotations

import itertools
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import payload
from tests.soak.__main__ import build_clock, deck
from tests.soak.faults import FAULTS
from tests.soak.ledger import COUNTER, TOKEN, Ledger
from tests.soak.payload import Damaged, Identity
from tests.soak.processes import MARK, Failure, Program, SmallDisks, limited, marked, until, usage
from tests.soak.proxy import Network, Proxy
from tests.support.blackbox import LIMIT, free_port

# -- Frames


@pytest.mark.parametrize("size", [1, 5000])
def test_a_frame_says_which_it_is(size: int) -> None:
    content = payload.frame("Dev.frame.data", Identity(7, 9), size)
    assert payload.identify("Dev.frame.data", content) == (7, 9)


def test_every_damage_of_a_frame_is_found() -> None:
    content = payload.frame("Dev.frame.data", Identity(7, 9), 300)
    for at in range(len(content)):
        with pytest.raises(Damaged):
            payload.identify("Dev.frame.data", content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    for damaged in (b"", content[:20], content[:-1], content + b"x", content[:100] + content[:100]):
        with pytest.raises(Damaged):
            payload.identify("Dev.frame.data", damaged)
    with pytest.raises(Damaged, match=r"came as one of Dev\.pair\.one"):
        payload.identify("Dev.pair.one", content)


# -- Ledgers


class Told:
    """A ledger that was told of a device with a counter and frames."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.made()
        self.define(1, 5)

    def define(self, run: int, number: int) -> None:
        self.ledger.defined("Dev", COUNTER, {"run": run, "number": number})

    def count(self, *numbers: int, run: int = 1) -> None:
        for number in numbers:
            self.ledger.updated("Dev", COUNTER, {"run": run, "number": number})

    def frames(self, *numbers: int, form: str = payload.FORMAT) -> None:
        for number in numbers:
            content = payload.frame("Dev.frame.data", Identity(1, number), 10)
            self.ledger.frame("Dev", "frame", "data", form, content)

    @property
    def faults(self) -> list[str]:
        return self.ledger.violations


def test_what_is_in_order_is_no_fault() -> None:
    told = Told()
    told.count(6, 7)
    told.define(1, 7)  # somebody else has asked
    told.count(8)
    told.frames(1, 2, 3)
    told.ledger.deleted("Dev", None)
    told.define(1, 20)
    told.frames(9)
    told.ledger.lost()
    told.count(25)  # before the definition that was asked for
    told.ledger.made()
    told.define(2, 0)
    told.count(1, run=2)
    assert not told.faults and not told.ledger.unannounced


@pytest.mark.parametrize("numbers", [(7,), (6, 6), (6, 5), (6, 8)])
def test_a_counter_that_jumps_is_found(numbers: tuple[int, ...]) -> None:
    told = Told()
    told.count(*numbers)
    assert len(told.faults) == 1


def test_a_counter_that_goes_back_is_found_whatever_has_happened() -> None:
    told = Told()
    told.count(6)
    told.ledger.lost()
    told.define(1, 5)
    assert len(told.faults) == 1


def test_a_new_run_must_be_told_by_a_deletion() -> None:
    told = Told()
    told.count(1, run=2)
    assert len(told.faults) == 1


def test_frames_that_are_missing_are_counted_unless_they_are_announced() -> None:
    told = Told()
    told.frames(1, 4)
    assert told.ledger.unannounced == {"Dev.frame.data": 2}
    told.ledger.said("Dev", "3 BLOBs of frame dropped: this connection reads too slowly")
    told.frames(8, 10)
    assert told.ledger.unannounced == {"Dev.frame.data": 3} and told.ledger.announced == 3
    told.frames(20, form=payload.STREAM_FORMAT)  # a newer one may replace others
    assert told.ledger.unannounced == {"Dev.frame.data": 3} and not told.faults


def test_an_announcement_counts_messages_which_may_have_several_frames() -> None:
    told = Told()
    for number in (1, 4):
        for member in ("one", "two"):
            content = payload.frame(f"Dev.pair.{member}", Identity(1, number), 10)
            told.ledger.frame("Dev", "pair", member, payload.FORMAT, content)
        told.ledger.said("Dev", "2 BLOBs of pair dropped: this connection reads too slowly")
    assert not told.ledger.unannounced and not told.faults


def test_frames_that_come_twice_go_back_or_are_damaged_are_found() -> None:
    told = Told()
    told.frames(3, 3, 2)
    told.ledger.frame("Dev", "frame", "data", payload.FORMAT, b"nonsense")
    assert len(told.faults) == 3


def test_commands_out_of_order_are_found() -> None:
    told = Told()
    told.ledger.defined("Dev", TOKEN, {"text": "none"})
    for text in ("x:1", "y:1", "x:3", "x:2"):
        told.ledger.updated("Dev", TOKEN, {"text": text})
    assert len(told.faults) == 1


# -- The network


@pytest.fixture
def link() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and both ends of a connection through it."""
    network = Network()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = Proxy(network, free_port(), listening.getsockname()[1])
        near = socket.create_connection(("127.0.0.1", proxy.port), LIMIT)
        far, _ = listening.accept()
        far.settimeout(LIMIT)
        until(lambda: proxy.relays, "the connection is relayed", LIMIT)
        with near, far:
            yield proxy, near, far
        proxy.close()
    network.close()


def read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data


def test_a_stalled_network_loses_nothing(link: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = link
    proxy.stall()
    near.sendall(b"hello")
    far.settimeout(0.3)
    with pytest.raises(TimeoutError):
        far.recv(10)
    far.settimeout(LIMIT)
    proxy.resume()
    assert read(far, 5) == b"hello"


def test_a_slow_network_passes_on_pieces_in_order(link: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = link
    proxy.slow(0.001, 3)
    far.sendall(bytes(range(200)))
    assert read(near, 200) == bytes(range(200))


@pytest.mark.parametrize("direction", [0, 1])
def test_a_connection_is_cut_behind_a_byte(link: tuple[Proxy, socket.socket, socket.socket], direction: int) -> None:
    proxy, near, far = link
    source, target = (near, far) if direction == 0 else (far, near)
    proxy.cut(7, direction)
    source.sendall(b"123")
    assert read(target, 3) == b"123"
    source.sendall(b"4567890")
    assert read(target, 100) == b"4567"
    assert proxy.cuts == 1


def test_connections_are_reset(link: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = link
    proxy.reset()
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_a_network_that_is_gone_comes_back(link: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, _ = link
    proxy.refuse()
    assert near.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), LIMIT)
    proxy.accept()
    socket.create_connection(("127.0.0.1", proxy.port), LIMIT).close()


# -- Processes


def test_the_clock_of_a_program_is_moved_and_no_other(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_bytes((-3600 * 24 * 365 * 40).to_bytes(8, "little", signed=True))
    environment = {**os.environ, "LD_PRELOAD": str(build_clock(tmp_path)), "SOAK_CLOCK": str(clock)}
    before = time.monotonic()
    code = "import time, datetime; print(time.time(), datetime.datetime.now().year, time.monotonic())"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    moved, year, monotonic = said.stdout.split()
    assert time.time() - float(moved) > 39 * 365 * 24 * 3600 and int(year) <= time.gmtime().tm_year - 39
    assert before <= float(monotonic) <= time.monotonic()


def test_a_limit_is_taken_back() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        with limited([process.pid], resource.RLIMIT_NOFILE, 7):
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] == 7
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == before
        process.communicate()


def test_small_disks_are_seen_by_their_program_only(tmp_path: Path) -> None:
    disks = SmallDisks()
    if disks.missing:
        pytest.skip(disks.missing)
    folder = tmp_path / "disk"
    folder.mkdir()
    script = 'head -c 200000 /dev/zero > "$1/file"; wc -c < "$1/file"'
    command = disks.command([folder], "100k", ["sh", "-c", script, "sh", folder])
    done = subprocess.run(command, capture_output=True, text=True)
    assert int(done.stdout) <= 102_400 and "No space left" in done.stderr
    assert not list(folder.iterdir())


HUNGRY = """
import os, socket, sys, threading
print("ready", flush=True)
sys.stdin.readline()
kept = [open(os.devnull), socket.socket(), os.memfd_create("test")]
threading.Thread(target=threading.Event().wait, daemon=True).start()
memory = os.urandom(1 << 20) * 32
print("ready", flush=True)
sys.stdin.readline()
"""


def test_what_a_process_uses_is_measured() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before = usage(child.pid)
        print(file=child.stdin, flush=True)
        assert child.stdout.readline() == "ready\n"
        now = usage(child.pid)
        child.stdin.close()
    assert now.descriptors - before.descriptors == {os.devnull: 1, "socket": 1, "memfd": 1}
    assert now.threads == before.threads + 1
    assert now.memory > before.memory + (16 << 20)


def test_a_program_that_ends_is_noticed_and_one_that_is_left_is_found(tmp_path: Path) -> None:
    mark = f"test-{os.getpid()}"
    program = Program("sleeper", ["sleep", "1000"], tmp_path, {MARK: mark})
    try:
        assert program.alive()
        until(lambda: marked(mark) == [program.pid], "it is found", LIMIT)
    finally:
        program.kill()
    with pytest.raises(Failure, match="sleeper has ended"):
        program.alive()
    until(lambda: not marked(mark), "it is gone", LIMIT)


def test_every_start_of_a_program_has_a_log_of_its_own(tmp_path: Path) -> None:
    def run(word: str) -> Program:
        return Program("speaker", ["sh", "-c", f"echo {word} >&2"], tmp_path, {})

    first = run("one")
    first.child.wait(LIMIT)
    first.start()
    first.child.wait(LIMIT)
    second = run("two")  # another program of the same name, as when a recorder is replaced
    second.child.wait(LIMIT)
    logs = [path.read_text() for path in sorted(tmp_path.glob("speaker-*.log"))]
    assert logs == ["one\n", "one\n", "two\n"]
    assert (first.log, second.log) == ("one\n", "two\n")


def test_what_does_not_come_true_is_a_failure() -> None:
    with pytest.raises(Failure, match="not: the moon is full"):
        until(lambda: False, "the moon is full", 0.1)


# -- The order of faults


def test_the_seed_decides_the_order_of_faults_and_none_is_left_out() -> None:
    names = list(FAULTS)

    def drawn(seed: int) -> list[str]:
        return [fault.name for fault in itertools.islice(deck(random.Random(seed), names), 2 * len(names))]

    assert drawn(1) == drawn(1) != drawn(2)
    assert sorted(drawn(1)[: len(names)]) == sorted(drawn(1)[len(names) :]) == sorted(names)
