"""`indifast-server` listens as soon as it runs. Apart from that, it behaves like the command in Python."""

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

from tests.serve.front_support import Stubbed, build, compile_c
from tests.serve.support import GET, SOURCE, Client, Server, connect, installed, running, script
from tests.support.blackbox import free_port, until
from tests.support.programs import executable, python_program
from tests.support.signals import in_mask

LISTENER = """
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) /* -p PORT */
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc > 2 ? 2 : 0]))};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return bind(fd, (void *)&address, sizeof address) || listen(fd, 5) || pause();
}
"""


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the front make its link to the interpreter in the folder of the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("front"))


@pytest.fixture
def stubbed(program: Path, tmp_path: Path) -> Stubbed:
    return Stubbed(program, tmp_path)


@contextlib.contextmanager
def started(command: list[object]) -> Iterator[subprocess.Popen]:
    """Start a program, and kill it in the end."""
    environment = os.environ | {"PYTHONPATH": SOURCE}
    words = [str(word) for word in command]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


# -- The start


def test_in_a_hundred_starts_it_refuses_no_more_clients_than_a_few_lines_of_c(tmp_path):
    """A client connects after two other programs have run one after the other, which takes about 2 ms.

    They take longer on a busy machine. KStars takes about as long. An interpreter would never listen in time. A few
    starts more than those of C are interrupted if the machine is busy, so that only the best of five series counts.
    """
    compile_c(tmp_path / "listener", LISTENER)
    front = installed(tmp_path, "indiserver")

    def refused(*command: object) -> bool:
        port = free_port()
        with started([*command, "-p", port, "cat"]), socket.socket() as sock:
            for _ in range(2):
                subprocess.run(["true"], check=True)
            return sock.connect_ex(("127.0.0.1", port)) != 0

    port = free_port()
    with started([tmp_path / "listener", "-p", port]) as process:
        connect(port, process).close()  # the listener works, even if it may be late
    counts = []
    for series in range(5):
        listener, ours = 0, 0
        for turn in range(100):
            listener += refused(tmp_path / "listener")
            ours += refused(front, "-u", f"{tmp_path}/{series}.{turn}")
        counts.append((ours, listener))
        if ours <= listener + 5:
            break
    else:
        pytest.fail(f"refusals, and those by a few lines of C: {counts}")


def test_clients_that_connect_at_once_are_answered(tmp_path, toy):
    for _ in range(5):
        port = free_port()
        with running(tmp_path, "-p", port, toy, name="indiserver") as server:
            for each in [server.connect(port).say(GET), Client.local(tmp_path / "local").say(GET)]:
                assert each.get("defTextVector", "Toy")
                each.close()


def test_as_many_clients_may_wait_as_for_python(tmp_path, toy):
    """None of them is answered while the process is stopped."""
    with running(tmp_path, "-p", free_port(), toy, name="indiserver") as server:
        Client.local(tmp_path / "local").close()  # it listens there last
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


def test_commands_sent_at_once_are_carried_out(tmp_path, toy, fifo):
    port = free_port()
    with running(tmp_path, "-p", port, "-f", fifo, name="indiserver") as server:
        connect(port, server.process).close()
        with open(fifo, "w") as file:  # waits for a reader
            file.write(f'start {toy} -n "Early"\n')
        assert server.serves("Early", port=port)


# -- The process


@pytest.mark.parametrize("name", ["indifast-server", "indiserver", "a server of ours"])
def test_the_name_of_the_process_never_changes(tmp_path, toy, name):
    server = Server(tmp_path, "-v", "-u", f"{tmp_path}/local", "-p", "0", toy, name=name)
    comm = Path(f"/proc/{server.process.pid}/comm")
    while (found := comm.read_text()) != f"{name[:15]}\n":  # the system sets it a moment after our process continues
        assert found == Path("/proc/self/comm").read_text()
    seen = {found}
    for done in (lambda: "pid=" in server.log, lambda: server.process.poll() is not None):
        while not done():
            seen |= {comm.read_text() for _ in range(100)}
        server.process.terminate()
    assert seen == {f"{name[:15]}\n"}


@pytest.mark.parametrize("program", [script, installed])
@pytest.mark.parametrize("name", ["sérveur", "\udce9\udcff"])
def test_any_name_works_in_any_locale(tmp_path, toy, monkeypatch, program, name):
    """Names are bytes: neither of these is ASCII, and one is not even text."""
    for variable, value in (("LC_ALL", "POSIX"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0")):
        monkeypatch.setenv(variable, value)
    with running(tmp_path, "-v", "-p", "0", toy, name=name, program=program) as server:
        server.port()
        comm = Path(f"/proc/{server.process.pid}/comm")
        assert comm.read_bytes() == os.fsencode(name) + b"\n"


def test_the_command_line_is_the_same_as_for_the_script(tmp_path, toy):
    lines = []
    for program in (script, installed):
        words = ["-v", "-p", "0", toy]
        with running(tmp_path, *words, name=f"{program.__name__}-server", program=program) as server:
            server.port()
            lines.append(psutil.Process(server.process.pid).cmdline())
    python, path, *words = lines[0]
    assert lines[1] == [sys.executable, path.replace("script-", "installed-"), *words]
    assert os.path.samefile(python, sys.executable)


def test_python_does_not_look_into_the_current_folder(tmp_path, toy):
    for name in ("indifast", "signal", "asyncio", "runpy", "zipimport", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('from the current folder')\n")
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", cwd=tmp_path) as server:
        assert server.serves()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_at_any_time_once_it_listens(tmp_path, toy, number):
    for turn in range(12):
        port = free_port()
        server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", port, toy, name="indiserver")
        connect(port, server.process).close()
        # The times differ so that the signal arrives in the front, the interpreter, the imports and the running server.
        time.sleep(turn * 0.01)
        server.end(number)


def test_repeated_signals_end_it_like_a_single_one(tmp_path, toy):
    """A terminal that is closed sends SIGHUP, and users who wait for the end press Ctrl-C several times."""
    for turn in range(12):
        port = free_port()
        server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", port, toy, name="indiserver")
        connect(port, server.process).close()
        time.sleep(turn * 0.01)  # see above
        while server.process.poll() is None:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                server.process.send_signal(number)
            time.sleep(0.0005)  # gives it a chance to end
        assert server.ended() == 0, (turn, server.log)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_ignored_at_the_start_are_always_ignored(tmp_path, toy, number):
    """`nohup` ignores one, and so does a script that runs it in the background. The front blocks them for a while."""
    for turn in range(6):
        port = free_port()
        words = ["-p", port, toy]
        before = partial(signal.signal, number, signal.SIG_IGN)
        with running(tmp_path, *words, name="indiserver", preexec_fn=before) as server:
            connect(port, server.process).close()
            time.sleep(turn * 0.02)  # see above
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
    server.end_while_it_waits()


@pytest.mark.parametrize("words", [["--host", "slow.invalid", "cat"], ["-p", "0", "@slow.invalid"]])
def test_signals_end_it_while_it_looks_up_a_name(tmp_path, monkeypatch, words):
    """A signal does not interrupt the system's lookup, nor the locked mutex that replaces it here."""
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
    until((tmp_path / "asked").exists, what="the lookup")
    server.end()


def test_a_signal_for_counters_may_arrive_at_once(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", port, "--stats", toy, name="indiserver") as server:
        connect(port, server.process).close()
        server.process.send_signal(signal.SIGUSR1)
        assert server.serves(port=port)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("stats: ")


# -- What it passes on to Python


def test_signals_are_blocked_for_python_and_their_dispositions_kept(stubbed):
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
def test_drivers_start_with_the_signals_and_environment_of_the_server(tmp_path, program):
    code = "import os\nprint(sorted(os.environ), *open('/proc/self/status'), file=__import__('sys').stderr)\ninput()"
    driver = python_program(tmp_path / "lister", code, "-IS")

    def before() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGALRM, signal.SIGUSR1})

    words = ["-p", "0", driver]
    with running(tmp_path, *words, name="indiserver", program=program, preexec_fn=before) as server:
        server.wait_for("nonvoluntary_ctxt_switches")
        masks = dict(re.findall(r"(Sig\w+):\t(\w+)", server.log))
        assert in_mask(masks["SigBlk"]) == {signal.SIGALRM, signal.SIGUSR1}
        ignored = in_mask(masks["SigIgn"])
        assert signal.SIGUSR2 in ignored
        assert not ignored & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        assert "'PATH'" in server.log
        assert "INDIFAST_FRONT" not in server.log


def test_sockets_passed_to_another_process_are_ignored_and_hidden_from_drivers(stubbed, monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "indi")
    report = stubbed.start("-p", "0", "-u", f"{stubbed.folder}/x", "cat")
    assert (report.front["sockets"], report.all("open")) == ("", [])
    driver = executable(stubbed.folder / "lister", "#!/bin/sh\nenv >&2\ncat\n")
    for name in (None, "indiserver"):
        with running(stubbed.folder, "-v", "-p", "0", driver, name=name) as server:
            server.port()
            server.wait_for("PATH=")
            assert "LISTEN_" not in server.log


@pytest.mark.parametrize("front", ["pid=1 held=15 sockets=0,1 fifo=2", "nonsense"])
def test_a_message_of_the_front_to_another_process_is_ignored(tmp_path, toy, monkeypatch, front):
    monkeypatch.setenv("INDIFAST_FRONT", front)
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", program=script) as server:
        assert server.serves()


def test_no_descriptor_survives_an_exec(tmp_path, toy, fifo):
    with running(tmp_path, "-v", "-p", "0", "-f", fifo, toy, name="indiserver") as server:
        server.port()
        server.wait_for("pid=")
        kinds, fifos = {}, 0
        for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
            if int(entry.name) > 2:
                with contextlib.suppress(FileNotFoundError):  # it was closed in the meantime
                    kind = os.readlink(entry)
                    info = (entry.parent.parent / "fdinfo" / entry.name).read_text()
                    kinds[kind] = int(re.search(r"flags:\s+(\d+)", info)[1], 8)
                    fifos += kind == str(fifo)
        assert sum(kind.startswith("socket:") for kind in kinds) >= 4
        assert fifos == 1
        assert {kind for kind, flags in kinds.items() if not flags & os.O_CLOEXEC} == set()


def test_no_socket_takes_the_place_of_a_closed_standard_stream(stubbed, fifo):
    output = stubbed.folder / "output"
    command = f"exec {stubbed.program} -p 0 -u {stubbed.folder}/x -f {fifo} <&- 2>&-"
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(stubbed.folder)}
    with output.open("w") as file:
        subprocess.run(["sh", "-c", command], stdout=file, env=environment, check=True)
    assert "sockets=3,4,5 fifo=6" in output.read_text()


# -- The same as in Python


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
        ["--socket", "none/local", "-p", "0", "cat"],
        ["--no-abstract", "-p", "0", "-f", "none"],
        ["-f", "none", "-p", "0", "cat"],
        ["-f", ".", "-p", "0", "cat"],
        ["-p", "0", "@"],
        ["--tls-ca", "x.pem", "-p", "0", "cat"],
    ],
)
def test_its_messages_are_those_of_the_script(tmp_path, words):
    results = []
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
            text = re.sub(r"(listening on port) \d+", r"\1 PORT", text)
            results.append((status, text.replace(program.__name__, "")))
    assert results[0] == results[1]
    assert results[0][1]


def test_python_can_run_it_as_a_script(program, tmp_path):
    """Even after `strip`, which packagers use, has removed everything that is not part of the program."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
    environment = os.environ | {"PYTHONPATH": SOURCE}
    for path in (program, stripped):
        done = subprocess.run([sys.executable, path, "--version"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout[:9]) == (0, "indifast "), done.stderr


# -- The interpreter


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
def test_the_interpreter_is_that_of_the_command_in_the_same_folder(program, tmp_path, shebang, words):
    folder = tmp_path / ("in two words" if '"{stub}"' in shebang or "'{stub}'" in shebang else "one")
    folder.mkdir()
    stubbed = Stubbed(program, folder, shebang=shebang)
    shutil.copy(stubbed.stub, folder / "python3")
    link = tmp_path / "elsewhere"
    link.symlink_to(stubbed.program)
    report = stubbed.start("-p", "0", program=link)
    expected = [word.format(stub=stubbed.stub, python3=folder / "python3") for word in words]
    assert report.all("word") == [*expected, str(link), "-p", "0"]
    assert report.all("comm") == ["elsewhere"]


def test_without_an_interpreter_it_names_the_places_it_has_searched(program, tmp_path):
    shutil.copy(program, tmp_path)
    done = subprocess.run([tmp_path / "indifast-server", "cat"], capture_output=True, text=True)
    assert done.returncode == 127
    assert re.search(rf"cannot start Python: .*indifast.* {tmp_path}/python3: No such file", done.stderr)


def link_folder(stubbed: Stubbed, place: Path) -> Path:
    found = stubbed.stub.stat()
    return place / f"indifast-{os.geteuid()}" / f"{found.st_dev:x}-{found.st_ino:x}"


def test_the_link_that_keeps_the_name_can_not_be_forged(stubbed):
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
if os.geteuid() == 0:  # only root can give a folder away; the variable is kept by `su`
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


def test_the_link_is_never_missing_when_another_server_starts(stubbed):
    """Not even while it is replaced. The kernel reports everything that happens to it."""
    stubbed.start("cat")
    link = link_folder(stubbed, stubbed.folder) / "indifast-server"
    (stubbed.folder / "gone").symlink_to("/no/such/python")
    (stubbed.folder / "gone").replace(link)
    deleted, moved_here = 0x200, 0x80  # IN_DELETE, IN_MOVED_TO
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init()
    assert libc.inotify_add_watch(watch, os.fsencode(link.parent), deleted | moved_here) > 0
    assert stubbed.start("cat").all("comm") == ["indifast-server"]
    data, events = os.read(watch, 1 << 16), []
    os.close(watch)
    while data:
        _, what, _, length = struct.unpack_from("iIII", data)
        events.append((what, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    assert events == [(moved_here, b"indifast-server")]
    assert os.listdir(link.parent) == ["indifast-server"]


def test_without_a_compiler_it_is_a_script(tmp_path, toy):
    program = build(tmp_path, CC="/no/such/compiler")
    assert program.read_text().startswith(f"#!{sys.executable}\n")
    with running(tmp_path, "-v", "-p", "0", toy, name="indiserver", program=lambda *_: program) as server:
        server.port()
