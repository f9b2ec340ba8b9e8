"""`indifast-server` listens as soon as it runs, and is Python's command in everything else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.serve.front_support import Stubbed, build
from tests.serve.support import LIMIT, SOURCE, Client, Server, free_port, installed, port_of, running, script, until
from tests.serve.test_serve import TOY

GET = "<getProperties version='1.7'/>"

LISTENER = """
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) /* -p PORT */
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return bind(fd, (void *)&address, sizeof address) || listen(fd, 5) || pause();
}
"""


@pytest.fixture(autouse=True)
def links_are_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("front"))


@pytest.fixture
def stubbed(program: Path, tmp_path: Path) -> Stubbed:
    return Stubbed(program, tmp_path)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy_driver"
    path.write_text(f"#!{sys.executable}\n{TOY}")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def started(command: list[object]) -> Iterator[subprocess.Popen]:
    """A process that has just executed its program, ended without ceremony."""
    environment = os.environ | {"PYTHONPATH": SOURCE}
    words = [str(word) for word in command]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def connect(port: int, process: subprocess.Popen) -> socket.socket:
    """A connection, as soon as there is somebody to take it."""
    deadline = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), LIMIT)
        assert process.poll() is None
        assert time.monotonic() < deadline


# -- the start


def test_a_hundred_starts_are_refused_no_more_often_than_a_few_lines_of_c(tmp_path):
    """A client connects when two other programs, executed one after the other, have run to their ends: some 2 ms, or
    what they take under this load. KStars takes about as long. An interpreter is never in time."""
    (tmp_path / "listener.c").write_text(LISTENER)
    subprocess.run(["gcc", "-O2", "-o", str(tmp_path / "listener"), str(tmp_path / "listener.c")], check=True)
    front = installed(tmp_path, "indiserver")

    def refused(*command: object) -> bool:
        port = free_port()
        with started([*command, "-p", port, "cat"]), socket.socket() as sock:
            for _ in range(2):
                subprocess.run(["true"], check=True)
            return sock.connect_ex(("127.0.0.1", port)) != 0

    port = free_port()
    with started([tmp_path / "listener", "-p", port]) as process:
        connect(port, process).close()  # it is there, if not in time
    listener, ours = 0, 0
    for turn in range(100):
        listener += refused(tmp_path / "listener")
        ours += refused(front, "-u", f"{tmp_path}/{turn}")
    assert ours <= listener + 5, f"{ours} refusals, {listener} of a few lines of C"


def test_who_connects_at_once_is_answered(tmp_path, toy):
    for _ in range(5):
        port = free_port()
        with running(tmp_path, "-p", port, toy, name="indiserver") as server:
            client = Client(connect(port, server.process)).say(GET)
            local = socket.socket(socket.AF_UNIX)
            local.connect(f"\0{tmp_path}/local")
            for each in (client, Client(local).say(GET)):
                assert each.get("defTextVector", "Toy")
                each.close()


def test_as_many_may_wait_as_for_python(tmp_path, toy):
    """None of them is answered yet, as the process stands still."""
    port = free_port()
    with running(tmp_path, "-p", port, toy, name="indiserver") as server:
        connect(port, server.process).close()
        server.process.send_signal(signal.SIGSTOP)
        clients = []
        for _ in range(200):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            clients[-1].connect(f"\0{tmp_path}/local")
        server.process.send_signal(signal.SIGCONT)
        assert Client(clients[-1]).say(GET).get("defTextVector", "Toy")
        for each in clients:
            each.close()


def test_commands_that_come_at_once_are_obeyed(tmp_path, toy):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    port = free_port()
    with running(tmp_path, "-p", port, "-f", fifo, name="indiserver") as server:
        connect(port, server.process).close()
        with open(fifo, "w") as file:  # waits for a reader
            file.write(f'start {toy} -n "Early"\n')
        client = Client.tcp(port).say(GET)
        assert client.get("defTextVector", "Early")
        client.close()


# -- the process


@pytest.mark.parametrize("name", ["indifast-server", "indiserver", "a server of ours"])
def test_the_name_of_the_process_is_the_same_from_first_to_last(tmp_path, toy, name):
    server = Server(tmp_path, "-v", "-u", f"{tmp_path}/local", "-p", "0", toy, name=name)
    comm = Path(f"/proc/{server.process.pid}/comm")
    while (found := comm.read_text()) != f"{name[:15]}\n":  # the system gives it a moment after it lets us go on
        assert found == Path("/proc/self/comm").read_text()
    seen = set()
    for done in (lambda: "pid=" in server.log, lambda: server.process.poll() is not None):
        while not done():
            seen |= {comm.read_text() for _ in range(100)}
        server.process.terminate()
    assert seen == {f"{name[:15]}\n"}


@pytest.mark.parametrize("program", [script, installed])
@pytest.mark.parametrize("name", ["sérveur", "\udce9\udcff"])
def test_any_name_will_do_in_any_locale(tmp_path, toy, monkeypatch, program, name):
    """Names are bytes: these two are not ASCII, and one is not text in any sense."""
    for variable, value in (("LC_ALL", "POSIX"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0")):
        monkeypatch.setenv(variable, value)
    with running(tmp_path, "-v", "-p", "0", toy, name=name, program=program) as server:
        port_of(server)
        comm = Path(f"/proc/{server.process.pid}/comm")
        assert comm.read_bytes() == os.fsencode(name) + b"\n"


def test_the_command_line_is_that_of_the_script(tmp_path, toy):
    lines = []
    for program in (script, installed):
        words = ["-v", "-p", "0", toy]
        with running(tmp_path, *words, name=f"{program.__name__}-server", program=program) as server:
            port_of(server)
            lines.append(psutil.Process(server.process.pid).cmdline())
    python, path, *words = lines[0]
    assert lines[1] == [sys.executable, path.replace("script-", "installed-"), *words]
    assert os.path.samefile(python, sys.executable)


def test_python_does_not_look_into_the_current_folder(tmp_path, toy):
    for name in ("indifast", "signal", "asyncio", "runpy", "zipimport", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('from the current folder')\n")
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", cwd=tmp_path) as server:
        client = Client.tcp(port_of(server)).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_at_any_time_from_when_it_listens(tmp_path, toy, number):
    for turn in range(12):
        port = free_port()
        server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", port, toy, name="indiserver")
        connect(port, server.process).close()
        time.sleep(turn * 0.01)  # in the front, in the interpreter, while it imports, while it serves
        server.process.send_signal(number)
        assert server.ended() == 0, (turn, server.log)
        assert "Traceback" not in server.log


def test_signals_that_come_again_and_again_end_it_as_one_does(tmp_path, toy):
    """A terminal that is closed sends SIGHUP, and whoever waits for the end grows impatient."""
    for turn in range(12):
        port = free_port()
        server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", port, toy, name="indiserver")
        connect(port, server.process).close()
        time.sleep(turn * 0.01)
        while server.process.poll() is None:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                server.process.send_signal(number)
            time.sleep(0.0005)  # so that it gets to its end
        assert server.ended() == 0, (turn, server.log)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_were_ignored_at_the_start_mean_nothing_at_any_time(tmp_path, toy, number):
    """As after `nohup`, and in the background of a script. The front holds them back, and they are released."""
    for turn in range(6):
        port = free_port()
        words = ["-p", port, toy]
        before = partial(signal.signal, number, signal.SIG_IGN)
        with running(tmp_path, *words, name="indiserver", preexec_fn=before) as server:
            connect(port, server.process).close()
            time.sleep(turn * 0.02)
            server.process.send_signal(number)
            client = Client.tcp(port).say(GET)
            assert client.get("defTextVector", "Toy")
            server.process.send_signal(number)
            assert client.say(GET).get("defTextVector", "Toy")
            client.close()


def test_signals_end_it_while_it_reads_its_configuration(tmp_path):
    os.mkfifo(tmp_path / "config")
    server = Server(tmp_path, "-u", f"{tmp_path}/x", "--config", tmp_path / "config", name="indiserver")
    server.wait_for("startup:")
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0, server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("words", [["--host", "slow.invalid", "cat"], ["-p", "0", "@slow.invalid"]])
def test_signals_end_it_while_it_looks_up_a_name(tmp_path, monkeypatch, words):
    """The system's look-up does not return for a signal. Nor does a mutex that is locked twice."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, pathlib, socket\n"
        "def getaddrinfo(*args, **keywords):\n"
        f"    pathlib.Path({str(tmp_path / 'asked')!r}).touch()\n"
        "    mutex = ctypes.create_string_buffer(128)\n"
        "    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = Server(tmp_path, "-u", f"{tmp_path}/x", *words, name="indiserver")
    until((tmp_path / "asked").exists, "the look-up")
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0, server.log
    assert "Traceback" not in server.log


def test_counters_are_asked_for_at_once(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", port, "--stats", toy, name="indiserver") as server:
        connect(port, server.process).close()
        server.process.send_signal(signal.SIGUSR1)
        client = Client.tcp(port).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("stats: ")


# -- what it hands on


def test_signals_are_held_back_for_python_and_their_dispositions_are_kept(stubbed):
    def before() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT, signal.SIGUSR2})

    usual = stubbed.start("-p", "0", "-u", f"{stubbed.folder}/x", "cat", preexec_fn=lambda: None)
    other = stubbed.start("-p", "0", "-u", f"{stubbed.folder}/x", "cat", preexec_fn=before)
    held = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
    assert usual.mask("SigBlk") == held
    assert other.mask("SigBlk") == held | {signal.SIGUSR2}
    assert usual.front["held"] == ",".join(str(int(number)) for number in sorted(held))
    assert other.front["held"] == ",".join(str(int(number)) for number in sorted(held - {signal.SIGINT}))
    assert other.mask("SigIgn") - usual.mask("SigIgn") == {signal.SIGHUP}


@pytest.mark.parametrize("program", [script, installed])
def test_drivers_start_as_the_server_was_started(tmp_path, program):
    driver = tmp_path / "lister"
    code = "import os\nprint(sorted(os.environ), *open('/proc/self/status'), file=__import__('sys').stderr)\ninput()"
    driver.write_text(f"#!{sys.executable} -IS\n{code}\n")
    driver.chmod(0o755)

    def before() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGALRM, signal.SIGUSR1})

    words = ["-p", "0", driver]
    with running(tmp_path, *words, name="indiserver", program=program, preexec_fn=before) as server:
        server.wait_for("nonvoluntary_ctxt_switches")
        masks = dict(re.findall(r"(Sig\w+):\t(\w+)", server.log))
        assert int(masks["SigBlk"], 16) == 1 << signal.SIGALRM - 1 | 1 << signal.SIGUSR1 - 1
        assert int(masks["SigIgn"], 16) >> signal.SIGUSR2 - 1 & 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            assert not int(masks["SigIgn"], 16) >> number - 1 & 1
        assert "'PATH'" in server.log
        assert "INDIFAST_FRONT" not in server.log


def test_sockets_of_somebody_else_are_left_to_python_and_are_not_for_drivers(stubbed, monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "indi")
    told = stubbed.start("-p", "0", "-u", f"{stubbed.folder}/x", "cat")
    assert (told.front["sockets"], told.all("open")) == ("", [])
    driver = stubbed.folder / "lister"
    driver.write_text("#!/bin/sh\nenv >&2\ncat\n")
    driver.chmod(0o755)
    for name in (None, "indiserver"):
        with running(stubbed.folder, "-v", "-p", "0", driver, name=name) as server:
            port_of(server)
            server.wait_for("PATH=")
            assert "LISTEN_" not in server.log


@pytest.mark.parametrize("told", ["pid=1 held=15 sockets=0,1 fifo=2", "nonsense"])
def test_what_another_process_was_told_means_nothing(tmp_path, toy, monkeypatch, told):
    monkeypatch.setenv("INDIFAST_FRONT", told)
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", program=script) as server:
        client = Client.tcp(port_of(server)).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()


def test_no_descriptor_survives_an_exec(tmp_path, toy):
    os.mkfifo(tmp_path / "fifo")
    with running(tmp_path, "-v", "-p", "0", "-f", tmp_path / "fifo", toy, name="indiserver") as server:
        port_of(server)
        server.wait_for("pid=")
        kinds, fifos = {}, 0
        for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
            if int(entry.name) > 2:
                info = (entry.parent.parent / "fdinfo" / entry.name).read_text()
                kinds[os.readlink(entry)] = int(re.search(r"flags:\s+(\d+)", info)[1], 8)
                fifos += os.readlink(entry) == str(tmp_path / "fifo")
        assert sum(kind.startswith("socket:") for kind in kinds) >= 4
        assert fifos == 1
        assert {kind for kind, flags in kinds.items() if not flags & os.O_CLOEXEC} == set()


def test_closed_standard_streams_are_no_sockets(stubbed):
    output = stubbed.folder / "output"
    os.mkfifo(stubbed.folder / "fifo")
    command = f"exec {stubbed.program} -p 0 -u {stubbed.folder}/x -f {stubbed.folder}/fifo <&- 2>&-"
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(stubbed.folder)}
    with output.open("w") as file:
        subprocess.run(["sh", "-c", command], stdout=file, env=environment, check=True)
    assert "sockets=3,4,5 fifo=6" in output.read_text()


# -- Python, as ever


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-h"],
        ["-p"],
        ["-vvp", "x", "cat"],
        ["-p", "65536", "cat"],
        ["-m", "x", "cat"],
        ["--help"],
        ["-v", "cat", "--version"],
        ["--nonsense"],
        ["--config", "none.toml"],
        ["--host", "no-such-host.invalid", "cat"],
        ["--host", "192.0.2.1", "cat"],
        ["-p", "{taken}", "cat"],
        ["-u", "{taken}", "-p", "0", "cat"],
        ["-u", "x" * 108, "-p", "0", "cat"],
        ["-f", "none", "-p", "0", "cat"],
        ["-f", ".", "-p", "0", "cat"],
        ["-p", "0", "@"],
        ["--tls-ca", "x.pem", "-p", "0", "cat"],
    ],
)
def test_it_says_what_python_says(tmp_path, words):
    told = []
    with socket.create_server(("", 0)) as taken, socket.socket(socket.AF_UNIX) as local:
        port = taken.getsockname()[1]
        local.bind(f"\0{port}")
        local.listen()
        for program in (script, installed):
            given = ["-u", f"{tmp_path}/{program.__name__}", *(word.format(taken=port) for word in words)]
            (tmp_path / program.__name__).mkdir()
            server = Server(tmp_path / program.__name__, *given, name="indiserver", program=program, cwd=tmp_path)
            status = server.ended()
            text = re.sub(r"^[\d-]+T[\d:]+", "", server.log, flags=re.MULTILINE)
            told.append((status, text.replace(program.__name__, "")))
    assert told[0] == told[1]
    assert told[0][1]


def test_python_runs_it_as_a_script(program, tmp_path):
    """Also when whoever packages it has removed all that is no part of the program."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
    environment = os.environ | {"PYTHONPATH": SOURCE}
    for path in (program, stripped):
        done = subprocess.run([sys.executable, path, "--version"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout[:9]) == (0, "indifast "), done.stderr


# -- the interpreter


@pytest.mark.parametrize(
    ("shebang", "words"),
    [
        ("#!{stub}\nimport sys\n", ["{stub}"]),
        ("#! \t{stub}\t \r\n", ["{stub}"]),
        ("#!{stub} -s  -P \n", ["{stub}", "-s  -P"]),
        ("#!/bin/sh\n'''exec' \"{stub}\" \"$0\" \"$@\"\n' '''\n", ["{stub}"]),
        ("#!/bin/sh\n'''exec' {stub} \"$0\" \"$@\"\n' '''\n", ["{stub}"]),
        ("#!/bin/sh\n'''exec' '{stub}' \"$0\" \"$@\"\n' '''\n", ["{stub}"]),
        ("#!{stub}", ["{stub}"]),
        ("#!python\n", ["{python3}"]),
        ("#!/bin/sh\nexec {stub} {stub}\n", ["{python3}"]),
        ('#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$0")"/\'python\' "$0" "$@"\n', ["{python3}"]),
        ("#!{stub}-that-is-gone\n", ["{python3}"]),
        ("import sys\n", ["{python3}"]),
        ("", ["{python3}"]),
    ],
)
def test_the_interpreter_is_the_one_of_the_command_beside_it(program, tmp_path, shebang, words):
    folder = tmp_path / ("in two words" if '"{stub}"' in shebang or "'{stub}'" in shebang else "one")
    folder.mkdir()
    stubbed = Stubbed(program, folder, shebang=shebang)
    shutil.copy(stubbed.stub, folder / "python3")
    link = tmp_path / "elsewhere"
    link.symlink_to(stubbed.program)
    told = stubbed.start("-p", "0", program=link)
    expected = [word.format(stub=stubbed.stub, python3=folder / "python3") for word in words]
    assert told.all("word") == [*expected, str(link), "-p", "0"]
    assert told.all("comm") == ["elsewhere"]


def test_without_an_interpreter_it_says_where_it_has_looked(program, tmp_path):
    shutil.copy(program, tmp_path)
    done = subprocess.run([tmp_path / "indifast-server", "cat"], capture_output=True, text=True)
    assert done.returncode == 127
    assert re.search(rf"cannot start Python: .*indifast.* {tmp_path}/python3: No such file", done.stderr)


def link_folder(stubbed: Stubbed, place: Path) -> Path:
    found = stubbed.stub.stat()
    return place / f"indifast-{os.geteuid()}" / f"{found.st_dev:x}-{found.st_ino:x}"


def test_the_link_that_keeps_the_name_is_nobody_elses(stubbed):
    """A folder that others can write to is not used, nor is a link to something else."""
    mine = stubbed.folder / f"indifast-{os.geteuid()}"
    elsewhere = link_folder(stubbed, Path("/dev/shm")) / "indifast-server"
    assert stubbed.start("cat").all("comm") == ["indifast-server"]
    (link,) = mine.rglob("indifast-server")
    assert os.readlink(link) == str(stubbed.stub)
    assert stat.S_IMODE(mine.stat().st_mode) == stat.S_IMODE(link.parent.stat().st_mode) == 0o700
    link.unlink()
    link.symlink_to("/bin/false")
    assert stubbed.start("cat").all("comm") == ["indifast-server"]
    assert os.readlink(link) == str(stubbed.stub)
    for open_to_others in (link.parent, mine):
        link.unlink(missing_ok=True)
        open_to_others.chmod(0o777)
        assert stubbed.start("cat").all("comm") == ["indifast-server"]
        assert not link.is_symlink()
        assert os.readlink(elsewhere) == str(stubbed.stub)
        open_to_others.chmod(0o700)
    shutil.rmtree(mine)
    mine.symlink_to(stubbed.folder)
    assert stubbed.start("cat").all("comm") == ["indifast-server"]
    assert list(stubbed.folder.rglob("indifast-server")) == [stubbed.program]
    shutil.rmtree(elsewhere.parent)


OTHERS_CAN = {"open to all": lambda folder: folder.chmod(0o777)}
if os.geteuid() == 0:  # who else can give a folder to another user? `su` keeps the variable of who called it
    OTHERS_CAN["of another user"] = lambda folder: os.chown(folder, 65534, -1)


@pytest.mark.parametrize("change", OTHERS_CAN.values(), ids=OTHERS_CAN)
def test_the_link_is_not_made_where_another_user_could_replace_it(stubbed, change):
    place = stubbed.folder / "run"
    mine = place / f"indifast-{os.geteuid()}"
    place.mkdir()

    def start() -> bool:
        assert stubbed.start("cat", env={"XDG_RUNTIME_DIR": str(place)}).all("comm") == ["indifast-server"]
        return mine.exists()

    assert start()
    shutil.rmtree(mine)
    change(place)
    assert not start()
    os.chown(place, os.geteuid(), -1)
    place.chmod(0o1777)  # as /tmp
    assert start()
    shutil.rmtree(link_folder(stubbed, Path("/dev/shm")))


def test_the_link_is_never_missing_for_another_server_that_starts(stubbed):
    """Also when it is made anew. The system tells of all that becomes of it."""
    stubbed.start("cat")
    link = link_folder(stubbed, stubbed.folder) / "indifast-server"
    (stubbed.folder / "gone").symlink_to("/no/such/python")
    (stubbed.folder / "gone").replace(link)
    deleted, moved_here = 0x200, 0x80  # IN_DELETE, IN_MOVED_TO
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init()
    assert libc.inotify_add_watch(watch, os.fsencode(link.parent), deleted | moved_here) > 0
    assert stubbed.start("cat").all("comm") == ["indifast-server"]
    told, events = os.read(watch, 1 << 16), []
    os.close(watch)
    while told:
        _, what, _, length = struct.unpack_from("iIII", told)
        events.append((what, told[16 : 16 + length].rstrip(b"\0")))
        told = told[16 + length :]
    assert events == [(moved_here, b"indifast-server")]
    assert os.listdir(link.parent) == ["indifast-server"]


def test_without_a_compiler_it_is_a_script(tmp_path, toy):
    program = build(tmp_path, CC="/no/such/compiler")
    assert program.read_text().startswith(f"#!{sys.executable}\n")
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", program=lambda *_: program) as server:
        port_of(server)
