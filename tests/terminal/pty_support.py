"""A terminal emulator for tests: it types keys, and records the screen and every byte that the program writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fcntl import ioctl
from ssl import SSLContext
from termios import TIOCSWINSZ
from typing import Any

import pexpect
import pyte

from indifast import IPyDriver, IPyServer
from tests.support.blackbox import LIMIT, python_environment
from tests.support.terminals import end


class Terminal:
    """Runs Python with `arguments` in a pseudo-terminal.

    `attributes` is what the terminal answers when the program asks for its device attributes; None: nothing.
    """

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
        attributes: str | None = "62;22",
        cell: tuple[int, int] = (0, 0),
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.output = bytearray()
        self._stream = pyte.ByteStream(self.screen)
        self._attributes = attributes
        self._answered = 0
        kept = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "STY", "COLORTERM")
        }
        self.child = pexpect.spawn(
            sys.executable,
            list(arguments),
            dimensions=(lines, columns),
            env={**kept, **python_environment(TERM="xterm-256color"), **(environment or {})},
        )
        self.child.delaybeforesend = None
        if cell != (0, 0):
            size = struct.pack("4H", lines, columns, columns * cell[0], lines * cell[1])
            ioctl(self.child.child_fd, TIOCSWINSZ, size)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        end(self.child)

    @property
    def text(self) -> str:
        """The text on the screen."""
        return "\n".join(self.screen.display)

    def read(self, seconds: float = 0.05) -> bool:
        """Read what the program writes. Return False if it has ended."""
        try:
            data = self.child.read_nonblocking(1 << 16, seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.output += data
        self._stream.feed(data)
        asked = self.output.count(b"\x1b[c")
        if self._attributes is not None and asked > self._answered:
            self.child.send(f"\x1b[?{self._attributes}c" * (asked - self._answered))
        self._answered = asked
        return True

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Read until a condition holds."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert self.read() or condition(), f"the program ended before {what}:\n{self.text}"
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.text}"

    def shows(self, *texts: str) -> None:
        """Read until all these texts are on the screen."""
        self.until(lambda: all(text in self.text for text in texts), f"{texts}")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.child.send(keys)

    def ended(self) -> int:
        """Read to the end of the program. Return its exit status, or minus the signal that ended it."""
        deadline = time.monotonic() + LIMIT
        while self.read():
            assert time.monotonic() < deadline, f"the program is still running:\n{self.text}"
        end(self.child, None)
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)


@contextlib.contextmanager
def served(*drivers: IPyDriver | str, ssl: SSLContext | None = None) -> Iterator[int]:
    """A server in a separate thread, with drivers of this process and executable drivers; yields its port."""
    server = IPyServer(*(each for each in drivers if isinstance(each, IPyDriver)), host="127.0.0.1", port=0, ssl=ssl)
    for each in drivers:
        if isinstance(each, str):
            server.add_exdriver(each)
    ready = threading.Event()

    async def run() -> None:
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        ready.set()
        await running

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(LIMIT), "the server does not start"
        yield server.port
    finally:
        server.shutdown()
        thread.join(LIMIT)
