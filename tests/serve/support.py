"""Runs the server's command as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import indifast
from indifast._parser import Tokenizer
from tests.support.blackbox import LIMIT, free_port

SOURCE = str(Path(indifast.__file__).parents[1])


def until(condition: Callable[[], object], what: str = "condition") -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def installed(folder: Path, name: str) -> Path:
    """The installed `indifast-server` under a name of its own: a link, as an administrator makes it."""
    path = folder / name
    if not path.exists():
        path.symlink_to(Path(sysconfig.get_path("scripts")) / "indifast-server")
    return path


def script(folder: Path, name: str) -> Path:
    """The command as it is where the native front can't be built: a script."""
    _, _, text = (Path(SOURCE) / "indifast" / "front" / "indifast-server").read_text().partition("\n")
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


class Server:
    """A running server; what it writes is in a file, unless it is to go to a descriptor of the caller's.

    It is `indifast serve`, or with a name what `program` gives for that name. `before` is Python that is run in the
    process of `indifast serve` before the command.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        name: str | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        before: str = "",
        program: Callable[[Path, str], Path] = installed,
        **keywords,
    ) -> None:
        self.log_path = folder / f"log-{free_port()}"
        if name is None:
            code = f"import sys; from indifast.cli.main import run\n{before}\nsys.exit(run())"
            command = [sys.executable, "-c", code, "serve"]
        else:
            command = [str(program(folder, name))]
        paths = filter(None, (SOURCE, os.environ.get("PYTHONPATH")))  # an empty one is the current folder
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with open(self.log_path, "wb") as log:
            words = [*command, *map(str, arguments)]
            output, errors = log if stdout is None else stdout, log if stderr is None else stderr
            self.process = subprocess.Popen(words, stderr=errors, stdout=output, env=environment, **keywords)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.log or self.process.poll() is not None, text)
        assert text in self.log, self.log

    def ended(self) -> int:
        return self.process.wait(LIMIT)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def running(folder: Path, *arguments: object, **keywords) -> Iterator[Server]:
    """A server on a local socket of its own, ended by SIGTERM; nothing of it is left afterwards."""
    server = Server(folder, "-u", f"{folder}/local", *arguments, **keywords)
    try:
        yield server
        children = server.children()
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0, server.log
        for child in children:
            until(lambda child=child: has_ended(child), "child's end")
        assert "Traceback" not in server.log, server.log
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def has_ended(child: psutil.Process) -> bool:
    """A process has ended, whether its parent has been told or not; it may vanish between two looks at it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    return True


def getprop(port: int, what: str, seconds: int = 2) -> str:
    command = ["indi_getprop", "-p", str(port), "-t", str(seconds), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT).stdout


class Client:
    """A plain client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(LIMIT)
        self.tokenizer = Tokenizer()
        self.elements: list = []

    @classmethod
    def tcp(cls, port: int, host: str = "127.0.0.1") -> Client:
        return cls(socket.create_connection((host, port), timeout=LIMIT))

    def say(self, text: str) -> Client:
        self.sock.sendall(text.encode())
        return self

    def get(self, tag: str, device: str | None = None, name: str | None = None):
        """Read until such an element is there; each is given once."""
        while True:
            for element in self.elements:
                if element.tag == tag and device in (None, element.device) and name in (None, element.name):
                    self.elements.remove(element)
                    return element
            data = self.sock.recv(1 << 16)
            assert data, f"closed before {tag} of {device}"
            self.elements += self.tokenizer.feed(data)

    def close(self) -> None:
        self.sock.close()


def port_of(server: Server) -> int:
    """The port that a server run with -v tells."""
    server.wait_for("listening to port")
    match = re.search(r"listening to port (\d+)", server.log)
    assert match is not None
    return int(match[1])
