"""A server as a service of systemd: sockets that are passed to it, readiness, watchdog."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.serve.support import GET, SOURCE, Client, Server, refusal, running
from tests.support.blackbox import LIMIT, free_port, until
from tests.support.programs import python_program
from tests.support.systemd import UserManager, user_manager

# Passes descriptors on as systemd does: from number 3, to a process that knows that they are meant for it.
PASS = """
import fcntl, os, sys
given = [int(each) for each in sys.argv[1].split(",") if each]
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in given]
os.closerange(3, 100)
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""

LISTER = """
import os, sys
names = [name for name in os.environ if name.startswith(("LISTEN", "NOTIFY", "WATCHDOG"))]
print("inherited", names, sorted(os.listdir("/proc/self/fd")), file=sys.stderr, flush=True)
"""

BOTH = pytest.mark.parametrize("name", [None, "indiserver"])


class Systemd:
    """What systemd does for a service, with real sockets."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = monkeypatch
        self.passed: list[socket.socket] = []
        self.names: list[str] = []
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.settimeout(LIMIT)

    def passes(self, sock: socket.socket, name: str) -> socket.socket:
        """Pass a socket to the service."""
        self.passed.append(sock)
        self.names.append(name)
        return sock

    def tcp(self, name: str = "tcp") -> int:
        """Pass a TCP socket. Return its port."""
        return self.passes(socket.create_server(("127.0.0.1", 0)), name).getsockname()[1]

    def unix(self, name: str = "unix", mode: int = 0o666) -> str:
        """Pass a Unix socket with a mode, by default that of systemd. Return its path."""
        path = str(self.folder / f"socket-{len(self.passed)}")
        sock = self.passes(socket.socket(socket.AF_UNIX), name)
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen()
        return path

    def listens(self, address: str | None = None) -> None:
        """Listen to what the service says."""
        address = address or str(self.folder / "notify")
        self.heard.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.patch.setenv("NOTIFY_SOCKET", address)

    def hears(self) -> list[str]:
        """Return what the service says next."""
        return self.heard.recv(1 << 16).decode().splitlines()

    def launcher(self) -> Sequence[str]:
        """Return the command that starts the service."""
        self.patch.setenv("LISTEN_FDS", str(len(self.passed)))
        self.patch.setenv("LISTEN_FDNAMES", ":".join(self.names))
        return [sys.executable, "-c", PASS, ",".join(str(sock.fileno()) for sock in self.passed)]

    def starting(self) -> dict[str, object]:
        """Return the keywords of a server that is started in this way."""
        return {"launcher": self.launcher(), "pass_fds": [sock.fileno() for sock in self.passed]}

    def close(self) -> None:
        for sock in [*self.passed, self.heard]:
            sock.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path, monkeypatch)
    yield made
    made.close()


def at(path: str) -> Client:
    """Connect to a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return Client(sock)


def get(port: int) -> bytes:
    """Ask for the counters."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        return sock.recv(15)


# -- Sockets


@BOTH
def test_each_socket_is_used_as_its_name_says(systemd, tmp_path, toy, name):
    port, path, metrics, other = systemd.tcp(), systemd.unix(), systemd.tcp("metrics"), systemd.tcp()
    with running(tmp_path, "-p", "1", toy, name=name, **systemd.starting()) as server:
        for client in (Client.tcp(port), Client.tcp(other), at(path)):
            assert client.say(GET).get("defTextVector", "Toy")
            client.close()
        assert get(metrics) == b"HTTP/1.1 200 OK"
        hint = "this machine only; ListenStream= in the socket unit for others"
        server.wait_for(f"listening on 127.0.0.1:{port} and 127.0.0.1:{other} and {path}, {hint}\n")
        with pytest.raises(ConnectionRefusedError):
            at(f"\0{tmp_path}/local")
    assert os.path.exists(path), "systemd goes on listening there"
    at(path).close()


@BOTH
def test_what_is_not_passed_is_opened_as_the_options_say(systemd, tmp_path, toy, name):
    path, port = systemd.unix(), free_port()
    with running(tmp_path, "-p", port, toy, name=name, **systemd.starting()) as server:
        assert server.serves(port=port)
        client = at(path).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()


@BOTH
def test_a_file_that_an_option_names_is_added_to_the_sockets_of_systemd(systemd, tmp_path, toy, name):
    port, path, added = systemd.tcp(), systemd.unix(mode=0o600), str(tmp_path / "added")
    with running(tmp_path, "--no-abstract", "--socket", added, toy, name=name, **systemd.starting()) as server:
        places = f"127.0.0.1:{port} and {path} (this user only) and {added} (this user only)"
        server.wait_for(f"listening on {places}, this machine only; ListenStream=")
        for client in (Client.tcp(port), at(path), at(added)):
            assert client.say(GET).get("defTextVector", "Toy")
            client.close()
    assert os.path.exists(path)
    assert not os.path.exists(added)


def test_with_a_port_of_systemd_there_is_still_the_local_socket(systemd, tmp_path, toy):
    port = systemd.tcp()
    with running(tmp_path, toy, **systemd.starting()) as server:
        assert server.serves(port=port)
        client = Client.local(tmp_path / "local").say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()


def test_clients_that_have_connected_before_the_start_are_served(systemd, tmp_path, toy):
    client = Client.tcp(systemd.tcp()).say(GET)
    with running(tmp_path, toy, **systemd.starting()):
        assert client.get("defTextVector", "Toy")
        client.close()


@BOTH
def test_drivers_inherit_nothing_of_it(systemd, tmp_path, monkeypatch, name):
    systemd.tcp(), systemd.unix(), systemd.tcp("metrics"), systemd.listens()
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("LISTEN_PIDFDID", "1")
    driver = python_program(tmp_path / "lister", LISTER + "sys.stdin.read()")
    with running(tmp_path, driver, name=name, **systemd.starting()) as server:
        server.wait_for("inherited [] ['0', '1', '2', '3']")


@BOTH
def test_the_page_in_the_browser_is_there_when_it_is_ready(systemd, tmp_path, toy, name):
    port = systemd.tcp("web")
    systemd.listens()
    with running(tmp_path, "-p", 0, toy, name=name, **systemd.starting()):
        assert systemd.hears()[0] == "READY=1"
        with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
    assert systemd.hears()[0] == "STOPPING=1"


def test_sockets_for_another_process_are_left_alone(systemd, tmp_path, toy, monkeypatch):
    taken, port = systemd.tcp(), free_port()
    keywords = systemd.starting()
    monkeypatch.setenv("LISTEN_PID", "1")
    del keywords["launcher"]
    with running(tmp_path, "-p", port, toy, **keywords) as server:
        assert server.serves(port=port)
        systemd.passed[0].settimeout(LIMIT)
        socket.create_connection(("127.0.0.1", taken)).close()
        accepted, _ = systemd.passed[0].accept()  # nobody else has taken the connection
        accepted.close()


def connected() -> socket.socket:
    return socket.socketpair()[0]


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (lambda: socket.create_server(("127.0.0.1", 0)), "indi.socket", "set FileDescriptorName= in its unit"),
        (lambda: socket.create_server(("127.0.0.1", 0)), "unix", "its ListenStream= must be a path"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "tcp", "ListenStream= and Accept=no are needed"),
        (connected, "unix", "ListenStream= and Accept=no are needed"),
        (lambda: open(os.devnull), "tcp", "which is not a socket"),  # noqa: SIM115 - closed by the test
    ],
)
def test_a_socket_of_no_use_ends_it(systemd, tmp_path, toy, make, name, why):
    with make() as file:
        systemd.passed.append(file)
        systemd.names.append(name)
        systemd.listens()
        assert why in refusal(tmp_path, toy, **systemd.starting())
        stopping, status = systemd.hears()
        assert stopping == "STOPPING=1"
        assert why in status


def test_a_unix_socket_for_tcp_ends_it(systemd, tmp_path, toy):
    systemd.unix("tcp")
    assert "its ListenStream= must be a port" in refusal(tmp_path, toy, **systemd.starting())


@pytest.mark.parametrize("number", ["many", "-1", "65", "9999999", "1"])
def test_variables_that_are_wrong_end_it(systemd, tmp_path, toy, monkeypatch, number):
    keywords = systemd.starting()
    monkeypatch.setenv("LISTEN_FDS", number)
    monkeypatch.setenv("LISTEN_FDNAMES", "tcp")
    log = refusal(tmp_path, toy, **keywords)
    assert ("descriptor 3: Bad file descriptor" if number == "1" else "LISTEN_FDS is") in log


# -- Notifications


@BOTH
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_when_clients_are_served_and_why_the_server_ends(systemd, tmp_path, toy, name, abstract):
    systemd.listens(f"@{tmp_path}/notify" if abstract else None)
    port = free_port()
    with running(tmp_path, "-p", port, "--host", "127.0.0.1", toy, name=name, **systemd.starting()):
        place = f"127.0.0.1:{port} and @{tmp_path}/local"
        hint = "this machine only; --host 0.0.0.0 for others"
        assert systemd.hears() == ["READY=1", f"STATUS=listening on {place}, {hint}"]
        client = Client.tcp(port).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()
    assert systemd.hears() == ["STOPPING=1", "STATUS=SIGTERM"]


@pytest.mark.parametrize("arguments", [["indi_no_such"], ["no_such_module:make"], ["--host", "192.0.2.1", "cat"]])
def test_a_server_that_cannot_start_is_never_ready(systemd, tmp_path, arguments):
    systemd.listens()
    refusal(tmp_path, "-p", 0, *arguments, **systemd.starting())
    stopping, status = systemd.hears()
    assert stopping == "STOPPING=1"
    assert arguments[0] in status or arguments[1] in status


def test_a_signal_before_the_server_is_ready_is_told(systemd, tmp_path):
    systemd.listens()
    os.mkfifo(tmp_path / "config")
    server = Server(tmp_path, "--config", tmp_path / "config", **systemd.starting())
    server.wait_for("startup: ")
    server.end_while_it_waits()
    assert systemd.hears() == ["STOPPING=1", "STATUS=SIGTERM"]


def test_nobody_to_tell_is_worth_a_line(systemd, tmp_path, toy, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    port = free_port()
    with running(tmp_path, "-p", port, toy, **systemd.starting()) as server:
        assert server.serves(port=port)
        server.wait_for(f"systemd cannot be told of the server: {tmp_path}/nobody: No such file or directory\n")
    assert server.log.count("systemd") == 1


def test_systemd_hears_it_later_if_it_is_busy(systemd, tmp_path, toy):
    systemd.listens()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
        other.setblocking(False)
        while True:
            other.sendto(b"full", str(tmp_path / "notify"))
    port = free_port()
    with running(tmp_path, "-p", port, toy, **systemd.starting()) as server:
        assert server.serves(port=port)
        while (words := systemd.hears()) == ["full"]:
            pass
        assert words[0] == "READY=1"


# -- Watchdog


@BOTH
def test_the_watchdog_hears_from_it_only_while_its_loop_runs(systemd, tmp_path, toy, monkeypatch, name):
    systemd.listens()
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with running(tmp_path, "-p", 0, toy, name=name, **systemd.starting()) as server:
        assert systemd.hears()[0] == "READY=1"

        def four_take_long_enough() -> bool:
            """Return whether they came in half the time that is allowed; several at once if this process was late."""
            begin = time.monotonic()
            for _ in range(4):
                assert systemd.hears() == ["WATCHDOG=1"]
            return time.monotonic() > begin + 0.5

        until(four_take_long_enough, what="a series of messages at the usual rate")
        server.process.send_signal(signal.SIGSTOP)
        systemd.heard.settimeout(1.0)
        with pytest.raises(TimeoutError):
            while True:
                systemd.hears()
        systemd.heard.settimeout(LIMIT)
        server.process.send_signal(signal.SIGCONT)
        assert systemd.hears() == ["WATCHDOG=1"]


@pytest.mark.parametrize(("variable", "value"), [("USEC", "0"), ("USEC", "soon"), ("USEC", ""), ("PID", "1")])
def test_no_watchdog(systemd, tmp_path, toy, monkeypatch, variable, value):
    systemd.listens()
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    keywords = systemd.starting()
    if variable == "PID":
        words = [*keywords["launcher"]]
        words[2] = words[2].replace('os.environ["WATCHDOG_PID"] = ', "")
        keywords["launcher"] = words
    monkeypatch.setenv(f"WATCHDOG_{variable}", value)
    with running(tmp_path, "-p", 0, toy, **keywords):
        assert systemd.hears()[0] == "READY=1"
        systemd.heard.settimeout(0.5)
        with pytest.raises(TimeoutError):
            systemd.hears()


# -- The programs of systemd


@BOTH
def test_socket_activation_by_the_program_of_systemd(tmp_path, toy, name):
    port, metrics = free_port(), free_port()
    places = [f"127.0.0.1:{port}", str(tmp_path / "unix"), f"127.0.0.1:{metrics}"]
    launcher = ["systemd-socket-activate", "--fdname=tcp:unix:metrics"]
    launcher += ["-E", "PYTHONPATH", *(word for place in places for word in ("-l", place))]
    server = Server(tmp_path, toy, name=name, launcher=launcher)
    try:
        server.wait_for("Listening on")
        client = server.connect(port).say(GET)
        assert client.get("defTextVector", "Toy")
        assert get(metrics) == b"HTTP/1.1 200 OK"
        local = at(places[1]).say(GET)
        assert local.get("defTextVector", "Toy")
        for each in (client, local):
            each.close()
        server.end()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserManager]:
    with user_manager(tmp_path_factory.mktemp("systemd")) as found:
        yield found


def shown(manager: UserManager, unit: str, name: str) -> str:
    """Return a property of a unit."""
    return manager.control("show", "--value", "-p", name, unit).strip()


def test_a_service_of_a_real_systemd(tmp_path, toy, manager):
    unit, port = f"indifast-test-{os.getpid()}", free_port()
    command = [sys.executable, "-m", "indifast", "serve", "-u", f"{tmp_path}/local", "-p", str(port), str(toy)]
    options = [
        "--user",
        "--collect",
        f"--unit={unit}",
        "-pType=notify",
        "-pWatchdogSec=10",  # it hears from a busy server in time
        f"-EPATH={os.environ['PATH']}",
    ]
    manager.run("systemd-run", *options, f"-EPYTHONPATH={SOURCE}", *command)  # returns when the server is ready
    try:
        client = Client.tcp(port).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()
        assert shown(manager, unit, "StatusText").startswith(f"listening on localhost:{port}")
        before = int(shown(manager, unit, "WatchdogTimestampMonotonic"))
        until(lambda: int(shown(manager, unit, "WatchdogTimestampMonotonic")) > before + 10_000_000)
        assert shown(manager, unit, "ActiveState") == "active"
        assert shown(manager, unit, "NRestarts") == "0"
        process = int(shown(manager, unit, "MainPID"))
        os.kill(process, signal.SIGSTOP)  # it hangs
        until(lambda: shown(manager, unit, "Result") == "watchdog" or shown(manager, unit, "LoadState") == "not-found")
    finally:
        subprocess.run([*manager.prefix, "systemctl", "--user", "stop", unit], capture_output=True, timeout=LIMIT)


def test_sockets_of_a_real_systemd(tmp_path, toy, manager):
    """The first client starts the server, and a server that was killed is started again for the next."""
    name, port, metrics = f"indifast-test-{os.getpid()}-sockets", free_port(), free_port()
    manager.units.mkdir(parents=True, exist_ok=True)
    places = {"tcp": f"127.0.0.1:{port}", "unix": f"{tmp_path}/unix", "metrics": f"127.0.0.1:{metrics}"}
    units = {
        f"{name}-{what}.socket": f"[Socket]\nListenStream={place}\nFileDescriptorName={what}\nService={name}.service\n"
        for what, place in places.items()
    }
    units[f"{name}.service"] = (
        "[Service]\nType=notify\nRestart=on-failure\nRestartSec=0\n"
        f"Environment=PATH={os.environ['PATH']} PYTHONPATH={SOURCE}\n"
        f"ExecStart={sys.executable} -m indifast serve -v {toy}\n"
        f"Sockets={' '.join(units)}\n"
    )
    sockets = [unit for unit in units if unit.endswith(".socket")]
    for unit, text in units.items():
        (manager.units / unit).write_text(text)
    try:
        manager.control("daemon-reload")
        manager.control("start", *sockets)
        assert shown(manager, f"{name}.service", "ActiveState") == "inactive"
        for client in (Client.tcp(port), at(places["unix"])):
            assert client.say(GET).get("defTextVector", "Toy")
            client.close()
        assert get(metrics) == b"HTTP/1.1 200 OK"
        os.kill(int(shown(manager, f"{name}.service", "MainPID")), signal.SIGKILL)
        client = Client.tcp(port)
        assert client.say(GET).get("defTextVector", "Toy")
        client.close()
        assert shown(manager, f"{name}.service", "NRestarts") == "1"
    finally:
        manager.control("stop", *sockets, f"{name}.service")
        for unit in units:
            (manager.units / unit).unlink()
