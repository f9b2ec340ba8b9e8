"""A server listens before it is ready. Clients that connect meanwhile wait, and are answered in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from tests.serve.support import GET, SOURCE, Client, Server, refusal, running
from tests.support.blackbox import LIMIT, free_port, until
from tests.support.programs import executable

# A slow module: it creates the file "waiting", and continues when something is written into the FIFO "go".
SLOW = """
from pathlib import Path
import indifast

Path("waiting").touch()
if Path("go").read_text() == "fail":
    raise ImportError("no such camera")

def make():
    member = indifast.TextMember("m", "M", "hi")
    vector = indifast.TextVector("T", "T", "Main", "ro", "Ok", [member])
    return indifast.IPyDriver(indifast.Device("Slow", [vector]))
"""


class Slow:
    """A server that is held up while it imports its driver."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        (folder / "slow.py").write_text(SLOW)
        os.mkfifo(folder / "go")
        self.folder = folder
        self.port = free_port()
        words = ["-u", f"{folder}/local", "-p", self.port, *arguments, "slow:make"]
        self.server = Server(folder, *words, cwd=folder)

    def wait_for_import(self) -> None:
        process = self.server.process
        until(lambda: (self.folder / "waiting").exists() or process.poll() is not None, what="the import")
        assert process.poll() is None, self.server.log
        # Python would handle a signal that comes right before it begins to wait for the FIFO when that is opened.
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, what="the import to wait")

    def go_on(self, how: str = "succeed") -> None:
        """Let the import succeed, or fail."""
        (self.folder / "go").write_text(how)

    def connect(self) -> list[socket.socket]:
        """Connect to every socket of the server. The first attempt must succeed."""
        local = socket.socket(socket.AF_UNIX)
        local.connect(f"\0{self.folder}/local")
        return [socket.create_connection((host, self.port)) for host in ("127.0.0.1", "::1")] + [local]


@contextlib.contextmanager
def slow(folder: Path, *arguments: object) -> Iterator[Slow]:
    server = Slow(folder, *arguments)
    try:
        server.wait_for_import()
        yield server
    finally:
        server.server.kill()


def refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_clients_that_connect_early_are_answered_later(tmp_path):
    with slow(tmp_path) as held:
        clients = [Client(sock).say(GET) for sock in held.connect()]
        held.go_on()
        for client in clients:
            assert client.get("defTextVector", "Slow", "T")
        more = [Client(sock).say(GET) for sock in held.connect()]
        for client in more:
            assert client.get("defTextVector", "Slow", "T")
        held.server.end()
        for client in clients + more:
            client.close()
        assert refused(held.port)


def test_a_client_that_connects_early_with_tls_is_answered_later(tmp_path):
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with slow(tmp_path, "--tls-cert", tmp_path / "server.pem") as held:
        sock = socket.create_connection(("127.0.0.1", held.port), LIMIT)
        secure = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
        held.go_on()
        secure.do_handshake()
        client = Client(secure).say(GET)
        assert client.get("defTextVector", "Slow", "T")
        client.close()


def test_a_driver_that_fails_to_import_ends_it_and_closes_the_connections(tmp_path):
    with slow(tmp_path) as held:
        waiting = held.connect()
        held.go_on("fail")
        assert held.server.ended() == 1
        assert "driver slow:make: no such camera\n" in held.server.log
        assert held.server.log.endswith(": good bye\n")
        assert "Traceback" not in held.server.log
        for sock in waiting:
            sock.settimeout(LIMIT)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            sock.close()
        assert refused(held.port)


DRIVERS = [  # module, what is said in the end, the end of the traceback
    (
        "def make():\n    raise ValueError('no port given\\nmore')",
        "driver made:make cannot be made: ValueError: no port given (correct make(), or leave the driver out)",
        "line 2, in make\n",
    ),
    (
        "def make():\n    return None.port",
        "driver made:make cannot be made: AttributeError: 'NoneType' object has no attribute 'port' "
        "(correct make(), or leave the driver out)",
        "line 2, in make\n",
    ),
    (
        "def make():\n    raise KeyError",
        "driver made:make cannot be made: KeyError (correct make(), or leave the driver out)",
        "line 2, in make\n",
    ),
    (
        "open('/no such file')",
        "driver made:make cannot be made: FileNotFoundError: [Errno 2] No such file or directory: '/no such file' "
        "(correct module made, or leave the driver out)",
        "line 1, in <module>\n",
    ),
    (
        "def make(:",
        "driver made:make cannot be made: SyntaxError: invalid syntax (made.py, line 1) "
        "(correct module made, or leave the driver out)",
        "SyntaxError: invalid syntax\n",
    ),
    (
        "raise SystemExit('no licence')",
        "driver made:make cannot be made: module made ends the process (no licence)",
        None,
    ),
    ("import no_such_module", "driver made:make: No module named 'no_such_module'", None),
    ("def other(): pass", "driver made:make: module made ({folder}/made.py) has no make", None),
    ("def make(): pass", "driver made:make: drivers must be IPyDriver objects, not None", None),
]


@pytest.mark.parametrize(("code", "sentence", "traceback"), DRIVERS)
def test_a_driver_that_cannot_be_made_is_named_in_the_end(tmp_path, code, sentence, traceback):
    (tmp_path / "made.py").write_text(code + "\n")
    server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", "0", "made:make", cwd=tmp_path)
    assert server.ended() == 1
    *before, why, last = server.log.splitlines(keepends=True)
    assert why.partition(": ")[2] == sentence.format(folder=tmp_path) + "\n"
    assert last.endswith(": good bye\n")
    assert ("Traceback" in server.log) == (traceback is not None)
    assert traceback is None or traceback in "".join(before)


MEANT = [
    (
        ["made.py"],
        "Driver made.py: program 'made.py' not found: write ./made.py for the file in the current folder, or "
        "made:FUNCTION if a function in it makes the driver\n",
    ),
    (["made.py:make"], "driver made.py:make: write made:make, without .py\n"),
    (["--config", "made.toml"], "Driver made:make: this is not a program: write python = 'made:make'\n"),
]


@pytest.mark.parametrize(("words", "sentence"), MEANT)
def test_what_was_meant_by_the_name_of_a_driver_is_said(tmp_path, words, sentence):
    (tmp_path / "made.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "made.toml").write_text("[[drivers]]\nprogram = 'made:make'\n")
    log = refusal(tmp_path, "-p", "0", *words, cwd=tmp_path)
    assert sentence in log
    assert "AssertionError" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_before_it_is_ready(tmp_path, number):
    with slow(tmp_path) as held:
        held.server.end(number)
        assert refused(held.port)


@pytest.mark.parametrize("passes", range(3))
def test_a_signal_ends_it_while_it_becomes_ready(tmp_path, passes):
    """The signal comes after some passes of the event loop, before or while the command looks at the server's start."""
    (tmp_path / "made.py").write_text(f"""
import asyncio, os, signal
from indifast import IPyDriver

def make():
    end_in({passes})
    return IPyDriver()

def end_in(passes):
    if passes < 0:
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        asyncio.get_running_loop().call_soon(end_in, passes - 1)
""")
    server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", "0", "made:make", cwd=tmp_path)
    assert server.ended() == 0, server.log
    assert server.log.endswith(": the server ends: SIGTERM\n")


def test_a_signal_ends_it_even_if_its_exception_is_lost(tmp_path, monkeypatch):
    """Python drops exceptions in finalizers and in callbacks of weak references. The driver's module does so here."""
    waiting = 'Path("waiting").touch()\n'
    careless = f"try:\n    {waiting}    Path('go').read_text()\nexcept SystemExit:\n    Path('dropped').touch()\n"
    monkeypatch.setattr(sys.modules[__name__], "SLOW", SLOW.replace(waiting, careless))
    with slow(tmp_path) as held:
        held.server.process.send_signal(signal.SIGTERM)
        until((tmp_path / "dropped").exists, what="the signal")
        held.go_on()
        assert held.server.ended() == 0, held.server.log
        assert "Traceback" not in held.server.log
        assert refused(held.port)


def test_a_signal_for_counters_is_harmless_before_it_is_ready(tmp_path):
    with slow(tmp_path, "--stats") as held:
        held.server.process.send_signal(signal.SIGUSR1)
        client = Client.tcp(held.port).say(GET)
        held.go_on()
        assert client.get("defTextVector", "Slow", "T")
        held.server.process.send_signal(signal.SIGUSR1)
        held.server.wait_for('stats: {"version": 1, "running": true')
        client.close()


def test_a_port_in_use_is_reported_before_a_driver_is_imported(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = refusal(tmp_path, "-p", port, "slow:make", cwd=tmp_path)
    assert f"port {port} of localhost is in use by another program: stop the program" in log
    assert not (tmp_path / "waiting").exists()


def test_an_impossible_port_is_reported(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("port = 70000\n[[drivers]]\nprogram = 'cat'\n")
    log = refusal(tmp_path, "--config", config)
    assert "the port must be a number from 0 (any free port) to 65535, not 70000\n" in log


def test_rarely_needed_modules_are_not_imported_at_the_start(tmp_path, fifo, monkeypatch):
    """Every import delays the first answer. shutil alone imports three modules for compression."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    code = "#!/bin/sh\nwhile read line; do echo \"<message device='Toy' message='up'/>\"; done\n"
    driver = executable(tmp_path / "driver", code)
    with running(tmp_path, "-v", "-p", "0", "-f", fifo, driver, name="indifast-server") as server:
        client = server.connect().say(GET)
        assert client.get("message", "Toy")
        client.close()
        imported = {line.rpartition("|")[2].strip() for line in server.log.splitlines() if line.startswith("import ")}
    assert "indifast.server.exdriver" in imported
    late = {"numpy", "shutil", "lzma", "bz2", "datetime", "json", "tomllib", "indifast.server.trafficlog"}
    assert not imported & late


def test_modules_not_needed_for_listening_are_imported_later():
    code = "import sys; there = set(sys.modules); import indifast.cli.serve.command; print(*set(sys.modules) - there)"
    environment = os.environ | {"PYTHONPATH": SOURCE}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    imported = set(found.stdout.split())
    assert "indifast.transport.sockets" in imported
    assert not imported & {"asyncio", "numpy", "ssl", "subprocess", "typing", "indifast._parser"}
