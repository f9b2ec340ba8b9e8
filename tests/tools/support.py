"""Runs the tools of indifast, and servers for them that send fixed bytes."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON, Child, python_environment

CAMERA = "CCD Simulator"
MOUNT = "Telescope Simulator"

PATIENT = ("-t", "8")
"""Arguments with which a tool waits for definitions until none has arrived for two seconds: the server may be slow.

They are for tools that cannot know when they have all that they look for, and for names that do not exist.
"""

THEIRS = ("-t", "5")
"""Arguments with which a tool of libindi waits in these cases: for the whole time."""

LESS_PATIENT = ("-t", "4")
"""The same for a server in the process of the test, which sends all definitions at once."""

SURE = ("-t", str(LIMIT))
"""Arguments with which a tool waits for properties that exist, each named in full, for as long as it takes.

Within the two seconds that are usual, the server on a busy machine may have answered nothing at all.
"""


def tool(name: str, port: int | None, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `indifast NAME`, with a server unless `port` is None. See `commands.run` for the options.

    Whatever waits for a state or a frame is SURE, and what waits for definitions LESS_PATIENT, unless the words say
    otherwise with -t.
    """
    server = [] if port is None else ["-p", port]
    sure: tuple[str, ...] = ()
    if name == "expose" or "--wait" in words:
        sure = SURE
    elif port is not None and name in ("devices", "eval", "get", "set", "snap") and "-t" not in words:
        sure = LESS_PATIENT
    return commands.run(name, *server, *sure, *words, **options)


def without_messages(errors: str) -> str:
    """Return what a tool has said itself on standard error, without messages of simulated drivers."""
    return "".join(line for line in errors.splitlines(keepends=True) if not re.search(r"Simulator: \[[A-Z]+\] ", line))


def last_values(output: str) -> dict[str, str]:
    """Read lines of the form name=value. A name that is repeated keeps its place and has its last value."""
    return dict(line.split("=", 1) for line in output.splitlines())


def line_with(child: Child, text: str) -> str:
    """Read the child's output until a line contains `text`, and return that line."""
    assert child.process.stdout is not None
    os.set_blocking(child.process.stdout.fileno(), True)
    for line in iter(child.process.stdout.readline, b""):
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"the output ended without {text!r}: {child.stderr}")


class Answering:
    """A server that sends the same bytes to each client, once the client has sent something.

    Attributes:
        port: The port of the server.
        heard: What the clients have sent; complete after the `with` block.

    With `pings`, it answers those as well.
    """

    def __init__(
        self, answer: bytes, *, context: ssl.SSLContext | None = None, close: bool = False, pings: bool = False
    ) -> None:
        self.heard = bytearray()
        self._answer = answer
        self._context = context
        self._close = close
        self._pings = pings
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Answering:
        self._listening = socket.create_server(("localhost", 0))
        self.port = int(self._listening.getsockname()[1])
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # closing the socket alone would not wake the thread
        for thread in self._threads:
            thread.join(LIMIT)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(LIMIT)
        with suppress(OSError), self._client(peer) as client:
            self.heard += client.recv(1000)
            client.sendall(self._answer)
            if self._close:
                client.shutdown(socket.SHUT_RDWR)
            while data := client.recv(1 << 16):
                self.heard += data
                for uid in re.findall(rb'<pingRequest uid="([^"]*)"', data) if self._pings else ():
                    client.sendall(b'<pingReply uid="%s"/>' % uid)

    def _client(self, peer: socket.socket) -> socket.socket:
        if self._context is None:
            return peer
        client = self._context.wrap_socket(peer, True, do_handshake_on_connect=False)
        try:
            client.do_handshake()
        except OSError:
            # To close now would reset the connection, and the client might lose the reason why it was refused.
            with suppress(OSError), socket.socket(fileno=client.detach()) as plain:
                plain.settimeout(LIMIT)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(1 << 16):
                    pass
            raise
        return client

    def members(self) -> list[tuple[str, str]]:
        """Return the names and values in the commands that were received."""
        return re.findall(r'<one\w+ name="(.*?)">(.*?)</one', self.heard.decode())


@contextmanager
def answering(answer: bytes, *, context: ssl.SSLContext | None = None, close: bool = False) -> Iterator[int]:
    """An `Answering` server; yields its port."""
    with Answering(answer, context=context, close=close) as server:
        yield server.port


@contextmanager
def not_permitted() -> Iterator[Path]:
    """A folder with a file `secret` that no other user may read, and a folder `private` that none may search."""
    with tempfile.TemporaryDirectory() as name:  # others may enter it, as they may not pytest's
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "secret").write_bytes(b"secret")
        (folder / "private").mkdir()
        for each in ("secret", "private"):
            (folder / each).chmod(0)
        yield folder
        (folder / "private").chmod(0o700)


_UNPRIVILEGED = """
import os, sys
from indifast.cli.main import main
main(sys.argv[1:])  # loads what others may not read
os.seteuid(os.geteuid() or 65534)  # root may read everything
print("now", file=sys.stderr, flush=True)
sys.exit(main(sys.argv[1:]))
"""


def unprivileged(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `indifast` with these words as a user who is not root."""
    argv = [PYTHON, "-c", _UNPRIVILEGED, *map(str, words)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=2 * LIMIT, env=python_environment(), check=False
    )
    done.stderr = done.stderr.partition("now\n")[2] or done.stderr
    return done
