"""Parts of a soak test that are more than a process."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.soak.processes import LIMIT, QUICK, Failure, Program, until
from tests.support.terminals import end
from tests.terminal.pty_support import Terminal


@dataclass
class Server:
    """One of the servers, and what is needed to reach it."""

    name: str
    program: Program
    port: int
    local: str
    """The name of its local socket."""
    devices: tuple[str, ...]


class Screen:
    """A terminal in which `indifast term` runs; a thread reads what it draws while `drawing` is set."""

    def __init__(self, port: int, log: Path, environment: dict[str, str]) -> None:
        words = ("-m", "indifast", "term", f"127.0.0.1:{port}", "--log", str(log))
        self.terminal = Terminal(*words, columns=100, lines=30, environment=environment)
        self.drawing = threading.Event()
        self.drawing.set()
        self._ended = self._closing = False
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self.drawing.wait() and not self._closing:
            if not self.terminal.read(0.1):
                self._ended = True
                return

    @property
    def pid(self) -> int:
        """The process in the terminal."""
        return int(self.terminal.child.pid)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self.terminal.text

    def shows(self, text: str) -> bool:
        """Whether a text is on the screen.

        Raises:
            Failure: The program has ended.
        """
        if self._ended:
            raise Failure(f"the terminal has ended:\n{self.text}")
        return text in self.text

    def until(self, text: str) -> None:
        """Wait until a text is on the screen."""
        until(lambda: self.shows(text), lambda: f"the terminal shows {text!r}, but:\n{self.text}")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.terminal.type(keys)

    def hang_up(self) -> None:
        """Close the terminal under the program, and wait until that has ended."""
        self._stop_reading()
        process = self.terminal.child.ptyproc
        process.fileobj.close()
        until(lambda: not process.isalive(), "the program in the closed terminal ends", QUICK)

    def end(self) -> int:
        """Wait until the program has ended, and return its exit status, or the negative number of a signal."""
        until(lambda: self._ended, lambda: f"the terminal ends\n{self.text}", QUICK)
        child = self.terminal.child
        end(child, None)
        return int(child.exitstatus if child.exitstatus is not None else -child.signalstatus)

    def close(self) -> None:
        """End the program, whatever it does."""
        self._stop_reading()
        end(self.terminal.child)

    def _stop_reading(self) -> None:
        self._closing = True
        self.drawing.set()
        self._thread.join(LIMIT)


class Pipe:
    """A named pipe for the log of a program; a thread copies it to a file while `reading` is set."""

    def __init__(self, path: Path, target: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.reading = threading.Event()
        self.reading.set()
        self._open = os.open(path, os.O_RDWR)  # so that it does not end when the program does
        self._target = target
        self._closing = False
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._target.open("ab", buffering=0) as target:
            while self.reading.wait() and not self._closing:
                target.write(os.read(self._open, 1 << 16))

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self.reading.set()
        os.write(self._open, b"\n")
        self._thread.join(LIMIT)
        os.close(self._open)
