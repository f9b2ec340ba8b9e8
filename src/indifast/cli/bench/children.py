"""Child processes of `indifast bench`: they are started, read from, and always ended."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 20.0
"""Seconds that a process may take to start."""

GRACE = 5.0
"""Seconds that a process may take to end."""

LOOK = 0.1
"""Seconds between two calls of `look` while waiting for output."""


class TurnFailed(Exception):
    """The reason, in one sentence, why there is no figure."""


def driver_script(folder: Path, module: str) -> Path:
    """Write an executable script that runs `module`, for servers that start drivers by name only; return its path."""
    path = folder / module.rpartition(".")[2]
    words = shlex.join([sys.executable, "-P", "-m", module])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


class Children:
    """The processes of one turn, as a context manager.

    Each has its own session, out of reach of the terminal's Ctrl-C, and as its input a pipe that closes when we end.

    Args:
        folder: The current directory of the processes. Their errors are stored there.
        look: Called regularly while we wait; may raise.
    """

    def __init__(self, folder: Path, look: Callable[[], None]) -> None:
        self.folder = folder
        self._look = look
        self._running: list[subprocess.Popen[bytes]] = []
        self._errors = folder / "errors"

    def __enter__(self) -> Self:
        self._errors.write_bytes(b"")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._running):
            _signal_group(child, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
            _signal_group(child, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program. Its errors go to a file, whose last line is reported if the program fails.

        Raises:
            TurnFailed: The program can't be started.
        """
        with self._errors.open("ab") as errors:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                    env={**os.environ, **(environment or {})},
                    cwd=self.folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise TurnFailed(f"{command[0]} did not start: {error.strerror}") from None
        self._running.append(child)
        return child

    def python(self, module: str, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a module of this package."""
        return self.start(sys.executable, "-P", "-m", module, *words, environment=environment)

    def line(self, child: subprocess.Popen[bytes], what: str, patience: float = PATIENCE) -> str:
        """Read a line of the program's output.

        Args:
            child: The program.
            what: What the error calls it.
            patience: Seconds to wait.

        Raises:
            TurnFailed: The program ended, or took too long.
        """
        assert child.stdout is not None
        text = b""
        end = time.monotonic() + patience
        while not text.endswith(b"\n"):
            self._look()
            if time.monotonic() > end:
                raise TurnFailed(f"{what} printed nothing for {patience:.0f} s")
            if select.select([child.stdout], [], [], LOOK)[0]:
                data = child.stdout.read(1 << 16)
                if not data:
                    raise TurnFailed(self._ended(what))
                text += data
        return text.decode()

    def wait_for_port(self, port: int, child: subprocess.Popen[bytes], what: str) -> None:
        """Wait until the program listens on a port.

        Raises:
            TurnFailed: The program ended, or took too long.
        """
        end = time.monotonic() + PATIENCE
        while child.poll() is None:
            self._look()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise TurnFailed(f"{what} does not listen: {error.strerror}") from None
            time.sleep(0.02)
        raise TurnFailed(self._ended(what))

    def _ended(self, what: str) -> str:
        lines = self._errors.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{what} ended unexpectedly" + (f": {last}" if last else "")


def free_port() -> int:
    """Return a TCP port that is free on loopback at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the program and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
