"""The server's command as a process, and plain clients of it."""

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

import indifast
from indifast._parser import Tokenizer
from tests.support.blackbox import LIMIT, alive, free_port, until
from tests.support.programs import python_program

HOME = Path(__file__).resolve().parents[2]
SOURCE = str(Path(indifast.__file__).parents[1])

GET = "<getProperties version='1.7'/>"

TOY = """
import os, sys
device = os.environ.get("INDIDEV", "Toy")
for line in sys.stdin:
    if "getProperties" in line:
        print(f"<defTextVector device='{device}' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText>"
              "</defTextVector>", flush=True)
        print(f"<message device='{device}' timestamp='2026-01-02T03:04:05' message='hello &amp; welcome'/>", flush=True)
    if "die" in line:
        os._exit(3)
"""
"""A small driver. See the fixture `toy`."""


def installed(folder: Path, name: str) -> Path:
    """Return the installed `indifast-server` under another name: a link, such as an administrator makes."""
    path = folder / name
    if not path.exists():
        path.symlink_to(Path(sysconfig.get_path("scripts")) / "indifast-server")
    return path


def script(folder: Path, name: str) -> Path:
    """Return `indifast-server` as it is installed where its native front can't be built: as a script."""
    _, _, text = (HOME / "src" / "indifast" / "front" / "indifast-server").read_text().partition("\n")
    return python_program(folder / name, text)


class Server:
    """A running server. A file keeps its output, except for streams that go to a descriptor of the caller.

    Args:
        folder: The folder for its log.
        arguments: The arguments of the command.
        name: The name under which `program` provides the command; None for `indifast serve`.
        stdout: A descriptor for its standard output.
        stderr: A descriptor for its standard error.
        before: Python code that runs in the process of `indifast serve` before the command.
        program: Returns the path of the command, for a folder and a name.
        launcher: A command that executes the words that follow it.
        keywords: Further arguments of `subprocess.Popen`.
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
        launcher: Sequence[str] = (),
        **keywords,
    ) -> None:
        self.log_path = folder / f"log-{free_port()}"
        if name is None:
            code = f"import sys; from indifast.cli.main import run\n{before}\nsys.exit(run())"
            command = [sys.executable, "-c", code, "serve"]
        else:
            command = [str(program(folder, name))]
        paths = filter(None, (SOURCE, os.environ.get("PYTHONPATH")))  # an empty path would be the current folder
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with open(self.log_path, "wb") as log:
            words = [*launcher, *command, *map(str, arguments)]
            output, errors = log if stdout is None else stdout, log if stderr is None else stderr
            self.process = subprocess.Popen(words, stderr=errors, stdout=output, env=environment, **keywords)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the log contains `text`."""
        with contextlib.suppress(TimeoutError):  # the log says more
            until(lambda: text in self.log or self.process.poll() is not None)
        assert text in self.log, self.log

    def port(self) -> int:
        """Return the port that a server started with -v reports."""
        self.wait_for("listening to port")
        match = re.search(r"listening to port (\d+)", self.log)
        assert match is not None
        return int(match[1])

    def connect(self, port: int | None = None) -> Client:
        """Connect a client as soon as the server listens, to the port that it reports if none is given."""
        return Client(connect(port or self.port(), self.process))

    def serves(self, device: str = "Toy", port: int | None = None) -> bool:
        """Wait until a new client has been sent the definition of this device."""
        with contextlib.closing(self.connect(port)) as client:
            return bool(client.say(GET).get("defTextVector", device))

    def ended(self) -> int:
        """Wait for the end of the server. Return its exit status."""
        return self.process.wait(LIMIT)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and check that the server ends as it should."""
        self.process.send_signal(number)
        assert self.ended() == 0, self.log
        assert "Traceback" not in self.log, self.log

    def end_while_it_waits(self, number: int = signal.SIGTERM) -> None:
        """End a server that opens a FIFO for which there is no writer.

        Python sees a signal that comes right before it opens the FIFO only after the next one.
        """
        process = self.process
        until(lambda: process.send_signal(number) or process.poll() is not None, what=f"the end: {self.log}")
        self.end(number)

    def kill(self) -> None:
        """Kill the server if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def running(folder: Path, *arguments: object, **keywords) -> Iterator[Server]:
    """Run a server with its own local socket. SIGTERM must end it and its children."""
    server = Server(folder, "-u", f"{folder}/local", *arguments, **keywords)
    try:
        yield server
        children = server.children()
        server.end()
        for child in children:
            until(lambda child=child: not alive(child.pid), what="the end of a child")
    finally:
        server.kill()


def refusal(folder: Path, *arguments: object, status: int = 1, **keywords) -> str:
    """Run a server that must refuse to start. Return its log."""
    server = Server(folder, "-u", f"{folder}/refused", *arguments, **keywords)
    assert server.ended() == status, server.log
    assert "Traceback" not in server.log, server.log
    return server.log


def connect(port: int, process: subprocess.Popen) -> socket.socket:
    """Connect to a server as soon as it listens."""
    deadline = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), LIMIT)
        assert process.poll() is None, f"ended with status {process.returncode} before it listened"
        assert time.monotonic() < deadline, f"does not listen on port {port}"
        time.sleep(0.001)


class Client:
    """A client on a plain socket, which sends text and receives elements."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(LIMIT)
        self.tokenizer = Tokenizer()
        self.elements: list = []

    @classmethod
    def tcp(cls, port: int, host: str = "127.0.0.1") -> Client:
        return cls(socket.create_connection((host, port), timeout=LIMIT))

    @classmethod
    def local(cls, path: object) -> Client:
        """Connect to the abstract local socket of this name as soon as a server listens there.

        It listens on its port before.
        """
        sock = socket.socket(socket.AF_UNIX)

        def connected() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                sock.connect(f"\0{path}")
                return True
            return False

        until(connected, what=f"a server at the local socket {path}")
        return cls(sock)

    def say(self, text: str) -> Client:
        self.sock.sendall(text.encode())
        return self

    def get(self, tag: str, device: str | None = None, name: str | None = None):
        """Return the next such element, reading until there is one. Each element is returned once."""
        while True:
            for element in self.elements:
                if element.tag == tag and device in (None, element.device) and name in (None, element.name):
                    self.elements.remove(element)
                    return element
            data = self.sock.recv(1 << 16)
            assert data, f"the server closed the connection before a {tag} of {device}"
            self.elements += self.tokenizer.feed(data)

    def close(self) -> None:
        self.sock.close()
