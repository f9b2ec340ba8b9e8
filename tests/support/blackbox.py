"""Helpers to test programs as black boxes: their processes, and the messages that they send.

Nothing here imports indifast, so that a fault of its tokenizer cannot hide itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from xml.etree import ElementTree as ET

SLOWNESS = float(os.environ.get("INDIFAST_PATIENCE", "1"))
"""How many times slower than usual programs may run: `instrumented/` sets the variable."""

LIMIT = 60.0 * SLOWNESS
"""Seconds to wait for a condition before the test fails: generous, because the machine may be busy."""

_MARKUP = re.compile(
    rb"<\?.*?\?>|<!--.*?-->|<!\[CDATA\[.*?\]\]>|</[^>]*>|<[A-Za-z_](?:[^>\"']|\"[^\"]*\"|'[^']*')*>", re.DOTALL
)


class Splitter:
    """Cuts a stream into the bytes of its root elements. `junk` holds the bytes between them."""

    def __init__(self) -> None:
        self.junk = bytearray()
        self._pending = bytearray()
        self._at = 0
        self._depth = 0

    def feed(self, data: bytes) -> list[bytes]:
        self._pending += data
        found: list[bytes] = []
        while (opening := self._pending.find(b"<", self._at)) >= 0:
            markup = _MARKUP.match(self._pending, opening)
            if markup is None:
                self._at = opening
                break
            self._at = markup.end()
            if self._pending[opening + 1 : opening + 2] in b"?!":
                continue
            if self._depth == 0:
                self.junk += self._pending[:opening]
                del self._pending[:opening]
                self._at -= opening
                opening = 0
            if self._pending[opening + 1 : opening + 2] == b"/":
                self._depth = max(self._depth - 1, 0)
            elif self._pending[self._at - 2 : self._at] != b"/>":
                self._depth += 1
            if self._depth == 0:
                found.append(bytes(self._pending[: self._at]))
                del self._pending[: self._at]
                self._at = 0
        else:
            self._at = len(self._pending)
        return found


class Channel:
    """A byte stream to a peer: a socket, or the two pipes of a child."""

    def __init__(self, reading: int, writing: int, owner: object = None) -> None:
        self._reading, self._writing, self._owner = reading, writing, owner
        os.set_blocking(reading, False)
        self.splitter = Splitter()
        self.messages: list[bytes] = []
        self.raw = bytearray()
        self.ended = False

    @classmethod
    def connect(cls, port: int, host: str = "localhost", limit: float = LIMIT) -> Channel:
        """Connect by TCP, as soon as the peer listens."""
        deadline = time.monotonic() + limit
        while True:
            try:
                connected = socket.create_connection((host, port), timeout=LIMIT)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            return cls(connected.fileno(), connected.fileno(), connected)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        deadline = time.monotonic() + LIMIT
        while view:
            _, writable, _ = select.select([], [self._writing], [], 0.5)
            if writable:
                view = view[os.write(self._writing, view[:65536]) :]
            elif time.monotonic() > deadline:
                raise TimeoutError("the peer does not read")

    def pump(self, limit: float) -> bool:
        """Read once. Return False if nothing came within the limit, or the stream has ended."""
        if self.ended:
            return False
        readable, _, _ = select.select([self._reading], [], [], max(limit, 0))
        if not readable:
            return False
        try:
            data = os.read(self._reading, 1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self.raw += data
        self.messages += self.splitter.feed(data)
        return True

    def until(self, wanted: Callable[[bytes], bool], limit: float = LIMIT) -> list[bytes]:
        """Take the messages up to and including the first that is wanted.

        Raises:
            EOFError: The peer closed the stream before it sent such a message.
            TimeoutError: The peer did not send such a message within `limit` seconds.
        """
        deadline = time.monotonic() + limit
        checked = 0
        expired = False
        while True:
            for index in range(checked, len(self.messages)):
                if wanted(self.messages[index]):
                    taken, self.messages = self.messages[: index + 1], self.messages[index + 1 :]
                    return taken
            checked = len(self.messages)
            if self.ended:
                raise EOFError(f"the peer closed the stream; its last bytes: {bytes(self.raw[-500:])!r}")
            if expired:
                raise TimeoutError(f"not sent within {limit} s; the last bytes: {bytes(self.raw[-500:])!r}")
            remaining = deadline - time.monotonic()
            expired = remaining < 0  # what came while this process did not run is still read once
            self.pump(remaining)

    def until_text(self, text: str | bytes, limit: float = LIMIT) -> list[bytes]:
        """Take the messages up to and including the first that contains `text`."""
        wanted = text.encode() if isinstance(text, str) else text
        return self.until(lambda message: wanted in message, limit)

    def until_end(self, limit: float = LIMIT) -> list[bytes]:
        """Take all messages up to the end of the stream."""
        with contextlib.suppress(EOFError):
            self.until(lambda message: False, limit)
        taken, self.messages = self.messages, []
        return taken

    def port(self) -> int:
        """Return the TCP port of this end."""
        assert isinstance(self._owner, socket.socket)
        return int(self._owner.getsockname()[1])

    def close(self) -> None:
        if isinstance(self._owner, socket.socket):
            self._owner.close()
            return
        for fd in {self._reading, self._writing}:
            with contextlib.suppress(OSError):
                os.close(fd)


def free_port() -> int:
    """Return an unused TCP port, for programs that cannot choose one themselves.

    The port is below the range from which the kernel picks ports for outgoing connections. A socket that is named after
    the port, and lives as long as this process, keeps other test processes of this machine from taking the same one.
    """
    start = os.getpid() * 61 % 10000
    for offset in range(2000):
        port = 20000 + (start + next(_numbers) + offset) % 12000
        with socket.socket() as probe:
            reservation = socket.socket(socket.AF_UNIX)
            try:
                reservation.bind(f"\0indifast-tests-port-{port}")
                probe.bind(("0.0.0.0", port))
            except OSError:
                reservation.close()
                continue
            _reservations.append(reservation)
            return port
    raise RuntimeError("no free TCP port")


_numbers = count()
_reservations: list[socket.socket] = []


class Child:
    """A process that does not outlive its test. A file keeps what it writes to stderr."""

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        folder: Path,
        *,
        env: dict[str, str] | None = None,
        stdio: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        stdout: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.stderr_path = folder / f"stderr-{next(_numbers)}.txt"
        with self.stderr_path.open("wb") as errors:
            self.process = subprocess.Popen(
                [os.fspath(word) for word in argv],
                stdin=subprocess.PIPE if stdio else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdio else (errors if stdout is None else stdout),
                stderr=errors,
                bufsize=0,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                pass_fds=pass_fds,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def channel(self) -> Channel:
        assert self.process.stdin is not None and self.process.stdout is not None
        return Channel(os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno()))

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, limit: float = LIMIT) -> int:
        return self.process.wait(limit)

    def until_stderr(self, text: str, limit: float = LIMIT) -> str:
        """Wait until the program has written `text` to stderr, and return all that it has written there."""
        try:
            until(lambda: text in self.stderr, limit)
        except TimeoutError:
            raise TimeoutError(f"{text!r} is not in the program's log:\n{self.stderr[-2000:]}") from None
        return self.stderr

    def kill(self) -> None:
        """Kill the process and everything in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait(LIMIT)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def python_environment(**extra: str) -> dict[str, str]:
    """Return variables by which a child interpreter finds the indifast that this process finds."""
    found = importlib.util.find_spec("indifast")
    assert found is not None and found.origin is not None
    home = Path(found.origin).resolve().parents[1]
    paths = [str(home), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(paths), **extra}


def until(condition: Callable[[], object], limit: float = LIMIT, what: str = "the condition") -> None:
    """Block this thread until `condition` holds.

    Raises:
        TimeoutError: It did not hold within `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not become true within {limit} s")
        time.sleep(0.02)


def tree(message: bytes) -> ET.Element:
    return ET.fromstring(message)


PYTHON = sys.executable


RELAY = """#!{python}
import os, socket, sys, threading
control = socket.socket(socket.AF_UNIX)
control.connect({path!r})
control.sendall({name!r}.encode() + b"\\n")
def inwards():
    try:
        while data := control.recv(65536):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view):]
    finally:
        os._exit(0)
threading.Thread(target=inwards, daemon=True).start()
while data := os.read(0, 65536):
    control.sendall(data)
control.close()
os._exit(0)
"""


class Hub:
    """Executable drivers that the test plays: programs that only pass bytes between fd 0/1 and a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = tempfile.mktemp(prefix="hub-", dir="/tmp")  # short: paths of Unix sockets are limited
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._listener.settimeout(LIMIT)
        self._channels: list[Channel] = []

    def program(self, name: str) -> str:
        """Write a driver for a server to start, and return its path."""
        path = self.folder / name
        path.write_text(RELAY.format(python=sys.executable, path=self.path, name=name))
        path.chmod(0o755)
        return str(path)

    def accept(self) -> tuple[str, Channel]:
        """Wait for the next program to start. Return its name and the stream to its server."""
        peer, _ = self._listener.accept()
        peer.settimeout(LIMIT)
        name = b""
        while not name.endswith(b"\n"):
            name += peer.recv(1)
        self._channels.append(Channel(peer.fileno(), peer.fileno(), peer))
        return name.decode().strip(), self._channels[-1]

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self._listener.close()
        os.unlink(self.path)


def processor_seconds(pid: int) -> float:
    """Return the user and system time that a process has used so far, as if it ran at its usual speed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") / SLOWNESS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Return the number of files that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
