"""What the log says by default, how serious each line is, and what journald is sent."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Sequence

import pytest

from indifast.cli.serve.places import where
from indifast.transport.sockets import addresses_of, tcp_sockets, unix_path, unix_socket
from tests.serve.support import GET, TOY, Server, refusal, running
from tests.support.blackbox import free_port, until
from tests.support.programs import python_program

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: "


def lines(server: Server) -> list[str]:
    """Return what the log says, without the times."""
    found = server.log.splitlines()
    assert all(re.match(STAMP, line) for line in found), server.log
    return [line.partition(": ")[2] for line in found]


# -- Where it listens, and for whom


def test_one_line_says_where_it_listens_and_for_whom(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", port, toy) as server:
        server.wait_for("listening on")
        assert lines(server)[1:] == [
            f"listening on localhost:{port} and @{tmp_path}/local, this machine only; --host 0.0.0.0 for others"
        ]


def test_one_line_says_that_it_listens_for_everybody(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", port, toy, name="indiserver") as server:
        server.wait_for("listening on")
        place = f"port {port} of all interfaces and @{tmp_path}/local"
        assert lines(server)[1:] == [f"listening on {place}: anyone who can connect can use the drivers"]


@pytest.fixture
def listening(tmp_path):
    """Return a function that opens sockets for hosts, and one with an abstract name."""
    opened: list[socket.socket] = []

    def listen(*hosts: str) -> Sequence[socket.socket]:
        tcp = tcp_sockets(addresses_of(hosts), 0, hosts) if hosts else []
        opened.extend([*tcp, unix_socket(unix_path(f"@{tmp_path}/name"))])
        return opened

    yield listen
    for sock in opened:
        sock.close()


HERE = "this machine only; --host 0.0.0.0 for others"
ANYONE = "anyone who can connect can use the drivers"


@pytest.mark.parametrize(
    ("hosts", "authority", "text"),
    [
        (["localhost"], None, f"localhost:PORT and @NAME, {HERE}"),
        (["127.0.0.1"], None, f"127.0.0.1:PORT and @NAME, {HERE}"),
        (["127.9.9.9"], None, f"127.9.9.9:PORT and @NAME, {HERE}"),
        (["::1"], None, f"[::1]:PORT and @NAME, {HERE}"),
        ([""], None, f"port PORT of all interfaces and @NAME: {ANYONE}"),
        (["0.0.0.0"], None, f"port PORT of all interfaces and @NAME: {ANYONE}"),
        (
            [""],
            "ca.pem",
            "port PORT of all interfaces (only with a certificate from ca.pem) and @NAME (this machine only)",
        ),
        (["::1"], "ca.pem", f"[::1]:PORT (only with a certificate from ca.pem) and @NAME, {HERE}"),
        ([], None, "@NAME, this machine only"),
    ],
)
def test_where(listening, tmp_path, hosts, authority, text):
    sockets = listening(*hosts)
    port = sockets[0].getsockname()[1] if hosts else None
    expected = text.replace("PORT", str(port)).replace("NAME", f"{tmp_path}/name")
    assert where(sockets, authority=authority) == expected


@pytest.mark.parametrize(
    ("mode", "whose"),
    [
        (0o600, "this user only"),
        (0o640, "this user only"),
        (0o660, "this user and the group GROUP only"),
        (0o020, "the group GROUP only"),
        (0o000, "root only"),
        (0o666, None),
    ],
)
def test_for_whom_a_socket_is_that_is_a_file(tmp_path, mode, whose):
    path = tmp_path / "socket"
    with unix_socket(str(path), mode) as local, tcp_sockets(addresses_of("127.0.0.1"), 0, None)[0] as here:
        tcp = f"127.0.0.1:{here.getsockname()[1]}"
        place = f"{path} ({whose})".replace("GROUP", path.group()) if whose else str(path)
        assert where([here, local]) == f"{tcp} and {place}, {HERE}"
        with tcp_sockets(addresses_of(""), 0, None)[0] as everywhere:
            text = where([everywhere, local], authority="ca.pem")
        assert text.endswith(f" and {place if whose else f'{place} (this machine only)'}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_the_socket_of_another_user(tmp_path):
    path = tmp_path / "socket"
    with unix_socket(str(path)) as local:
        os.chown(path, 54321, 54321)
        assert where([local]) == f"{path} (the user 54321 only), this machine only"
        path.chmod(0o060)
        assert where([local]) == f"{path} (the group 54321 only), this machine only"
        path.unlink()
        assert where([local]) == f"{path}, this machine only"


# -- Why a driver ended


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.abort()", "ended with signal 6 (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended with signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), 40)", "ended with signal 40"),
        ("sys.exit(3)", "ended with status 3"),
        ("sys.exit()", "ended with status 0"),
        (
            "os.close(0); os.close(1); time.sleep(99)",
            "its connection is closed, but it ran on: stopped, ended with signal 15 (SIGTERM)",
        ),
    ],
)
def test_one_line_says_why_a_driver_ended(tmp_path, code, why):
    """The server asks a new driver for its properties, so no client is needed, and none would come in time.

    After its connection, a driver that ends by itself may end late.
    """
    driver = python_program(tmp_path / "driver", f"import os, signal, sys, time\nsys.stdin.readline()\n{code}\n")
    before = "" if "closed" in why else "import indifast.server.exdriver as each; each._FAREWELL = 60.0"
    server = Server(tmp_path, "-r", 0, "-u", f"{tmp_path}/x", "-p", 0, driver, before=before)
    assert server.ended() == 1
    assert lines(server)[2:] == [
        f"Driver {driver}: {why}",
        f"Driver {driver}: Terminated after #0 restarts.",
        "the server ends: no driver is left, and there is no FIFO to start one",
        "good bye",
    ]


def test_a_driver_that_is_to_end_is_not_worth_a_line(tmp_path, toy, fifo):
    with running(tmp_path, "-p", 0, "-f", fifo, toy) as server:
        server.wait_for("listening on")
        until(lambda: len(server.children()) == 1, what="the driver")
        fifo.write_text(f"stop {toy}\n")
        until(lambda: not server.children(), what="the end of the driver")
    assert lines(server)[2:] == ["the server ends: SIGTERM"]


# -- Why the server ended


@pytest.mark.parametrize("name", [None, "indiserver"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_line_says_which_signal_ended_it(tmp_path, toy, name, number):
    server = Server(tmp_path, "-u", f"{tmp_path}/x", "-p", 0, toy, name=name)
    server.wait_for("listening on")
    server.end(number)
    assert lines(server)[2:] == [f"the server ends: {number.name}"]


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_a_signal_that_ends_it_early_is_named(tmp_path, name):
    os.mkfifo(tmp_path / "config")
    server = Server(tmp_path, "-u", f"{tmp_path}/x", "--config", tmp_path / "config", name=name)
    server.wait_for("startup:")
    server.end_while_it_waits()
    assert lines(server)[1:] == ["the server ends: SIGTERM"]


def test_a_driver_without_which_it_does_not_start_is_named(tmp_path):
    log = refusal(tmp_path, "-p", 0, "indi_no_such")
    assert ": the server ends: driver indi_no_such cannot be started\n" in log


# -- The journal


class Journal:
    """A socket such as journald gives a service for its standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, self.theirs = socket.socketpair()
        status = os.fstat(self.theirs.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")

    def read(self) -> list[str]:
        """Return the lines up to the end of the server."""
        self.theirs.close()
        with self.ours, self.ours.makefile() as file:
            return file.read().splitlines()


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_the_journal_gets_priorities_and_no_times(tmp_path, monkeypatch, name):
    line = "print('driver line', file=sys.stderr, flush=True)\n"
    code = TOY.replace("import os, sys\n", f"import os, sys\n{line}").replace("os._exit(3)", "os.abort()")
    driver = python_program(tmp_path / "driver", code)
    journal = Journal(monkeypatch)
    port = free_port()
    words = ["-vv", "-r", 0, "-u", f"{tmp_path}/x", "-p", port, driver]
    server = Server(tmp_path, *words, name=name, stderr=journal.theirs.fileno())
    client = server.connect(port).say(GET)
    assert client.get("defTextVector", "Toy")
    client.say("<newTextVector device='Toy' name='T'><oneText name='m'>die</oneText></newTextVector>")
    assert server.ended() == 1
    client.close()
    text = journal.read()
    assert all(re.match(r"<[3-7]>\S", line) for line in text), text
    assert not [line for line in text if re.search(STAMP, line)]

    def priority(words: str) -> set[str]:
        return {line[1] for line in text if words in line}

    assert priority(": Terminated after #0 restarts.") == {"3"}
    assert priority(": no driver is left") == {"3"}
    assert priority("ended with signal 6") == {"4"}
    for notice in ("startup: ", "anyone who" if name else "this machine only", "driver line"):
        assert priority(notice) == {"5"}, notice
    for key_event in ("listening to port", "pid=", "welcome!"):
        assert priority(key_event) == {"6"}, key_event
    assert priority("read <getProperties") == {"7"}
    assert text.count(f"<3>Driver {driver}: Terminated after #0 restarts.") == 1


def test_each_line_of_a_traceback_has_a_priority(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(
        "import indifast\n"
        "class Broken(indifast.IPyDriver):\n"
        "    async def hardware(self): 1 / 0\n"
        "def make(): return Broken(indifast.Device('Broken', []))\n"
    )
    journal = Journal(monkeypatch)
    server = Server(
        tmp_path, "-u", f"{tmp_path}/x", "-p", 0, "broken:make", cwd=tmp_path, stderr=journal.theirs.fileno()
    )
    data = b""
    while b"ZeroDivisionError" not in data:
        data += journal.ours.recv(1 << 16)
    server.end()
    journal.read()
    text = data.decode().splitlines()
    assert "<3>ZeroDivisionError: division by zero" in text
    assert "<3>Traceback (most recent call last):" in text
    assert all(re.match("<[3-7]>", line) for line in text), text


@pytest.mark.parametrize("value", ["8:15", "", "8", "x:y", "8:15:1", "9" * 5000 + ":1"])
def test_a_variable_that_names_another_file_changes_nothing(tmp_path, monkeypatch, toy, value):
    monkeypatch.setenv("JOURNAL_STREAM", value)
    with running(tmp_path, "-p", 0, toy) as server:
        server.wait_for("listening on")
    assert lines(server)[0].startswith("startup: ")


def test_what_a_driver_writes_is_never_taken_for_a_priority(tmp_path, monkeypatch):
    code = "import sys\nprint('<0>the end is near', file=sys.stderr, flush=True)\n"
    driver = python_program(tmp_path / "driver", code)
    journal = Journal(monkeypatch)
    words = ["-r", 0, "-u", f"{tmp_path}/x", "-p", 0, driver]
    server = Server(tmp_path, *words, stderr=journal.theirs.fileno())
    assert server.ended() == 1
    assert f"<5>Driver {driver}: <0>the end is near" in journal.read()
