"""Commands read from a FIFO, by which KStars and INDI Web Manager start and stop drivers while the server runs."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from indifast.protocol.drivernames import is_program, split_remote
from indifast.transport.stream import MEMORY_PAUSE

LONGEST_LINE = 1023
"""Maximum bytes in a line, without its line break, as in libindi's indiserver."""

LONGEST_VALUE = 511
"""Maximum characters in the value of an option."""

_VERBS = ("start", "stop")
_OPTIONS = {"n": "INDIDEV", "c": "INDICONFIG", "s": "INDISKEL", "p": "INDIPREFIX"}
_PIPES = "--pipes"
# Compiled when the first line is read, to save time at the start.
_LINE = r"(?P<verb>\S+)\s+(?P<driver>.*)"
_PROGRAM = r"(?P<name>[^\s\"]+)(?P<options>(?:\s.*)?)"
_OPTION = r'\s+(?:-(?P<letter>[^\s-]\S*)\s+"(?P<value>[^"]*)"|(?P<pipes>--pipes)(?!\S))'
_QUOTED = r'"[^"]*"'


class CommandError(ValueError):
    """A line is not a valid command. The text of the exception says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command from one line.

    Attributes:
        verb: "start" or "stop".
        target: A program, or `[device]@host[:port]`.
        options: Environment variables for the program: INDIDEV (its device), INDICONFIG, INDISKEL and INDIPREFIX.
        pipes: Whether the program is connected by two pipes instead of one socket.
    """

    verb: str
    target: str
    options: dict[str, str] = field(default_factory=dict)
    pipes: bool = False

    @property
    def remote(self) -> bool:
        """Whether the target is another server, not a program."""
        return not is_program(self.target)


def parse(line: str) -> Command:
    """Parse one line.

    A command is `start program [-n "device"] [-c "config file"] [-s "skeleton file"] [-p "prefix"] [--pipes]`, or
    `stop program [-n "device"]`, or either verb with `[device]@host[:port]`, any part of which may be in double quotes.

    Raises:
        CommandError: The line is not a valid command.
    """
    if "\0" in line:
        raise CommandError("the line contains a NUL character")
    match = re.fullmatch(_LINE, line.strip())
    if match is None:
        raise CommandError("a command is `start` or `stop`, followed by the name of a driver")
    verb, driver = match["verb"], match["driver"]
    if verb not in _VERBS:
        raise CommandError(f"there is no command {verb!r}, only start and stop")
    bare = _without_quoted(driver)
    if not is_program(bare):
        if split_remote(bare) is None:
            raise CommandError(f"{driver!r} is not [device]@host[:port], which takes no options")
        target = driver.replace('"', "").strip()
        if is_program(target):
            raise CommandError(f"{target!r} names a device like the path of a program")
        return Command(verb, target)
    found = re.fullmatch(_PROGRAM, driver)
    if found is None or found["name"].startswith("-"):
        raise CommandError(f"{driver!r} does not begin with the name of one driver")
    options, pipes = _parse_options(found["options"])
    return Command(verb, found["name"], options, pipes)


def _without_quoted(driver: str) -> str:
    """Mask text in quotes, because an `@` or a port in it only counts if there is no `@` outside the quotes."""
    bare = re.sub(_QUOTED, lambda quoted: "x" * len(quoted[0]), driver)
    return driver.replace('"', "") if driver.startswith('"') and "@" not in bare else bare


def _parse_options(text: str) -> tuple[dict[str, str], bool]:
    """Return the environment variables, and whether to use pipes."""
    options: dict[str, str] = {}
    pipes = False
    while text.strip():
        match = re.match(_OPTION, text)
        if match is None:
            raise CommandError(f"{text.strip()!r} is not an option with its value in double quotes")
        letter, value = match["letter"], match["value"]
        if match["pipes"]:
            pipes = True
        elif letter not in _OPTIONS:
            raise CommandError(f"there is no option -{letter}, only -n, -c, -s, -p and {_PIPES}")
        elif not value or len(value) > LONGEST_VALUE:
            raise CommandError(f"the value of -{letter} has {len(value)} characters, not 1 to {LONGEST_VALUE}")
        elif _OPTIONS[letter] in options:
            raise CommandError(f"-{letter} is given twice")
        else:
            options[_OPTIONS[letter]] = value
        text = text[match.end() :]
    return options, pipes


class Fifo:
    """Reads lines from a FIFO as long as the server runs, even if its writers open and close it many times.

    Args:
        path: The path of the FIFO.
        on_line: Called with each line, without its line break. An unterminated last line counts as well, when the
            writer closes the FIFO.
        on_error: Called with an error message, for example when a line is left out because it is too long.
        fd: The descriptor of the FIFO, if it is already open.

    Raises:
        OSError: `path` can't be opened, or is not a FIFO.
    """

    def __init__(
        self, path: str, on_line: Callable[[str], None], on_error: Callable[[str], None], fd: int | None = None
    ) -> None:
        self.path = path
        self._on_line = on_line
        self._on_error = on_error
        self._rest = b""
        self._too_long = False
        self._loop = asyncio.get_running_loop()
        self._fd = self._open() if fd is None else fd
        self._watch()

    def close(self) -> None:
        """Stop reading and close the FIFO."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no FIFO {self.path}: make one with mkfifo") from None
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(f"{self.path} is not a FIFO: make one with mkfifo")
        return fd

    def _watch(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except MemoryError:
            self._loop.remove_reader(self._fd)
            self._loop.call_later(MEMORY_PAUSE, self._watch)
            return
        if data:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._line(line)
            if len(self._rest) > LONGEST_LINE:
                self._rest, self._too_long = b"", True
            return
        last, self._rest = self._rest, b""
        if last or self._too_long:
            self._line(last)
        self._reopen()

    def _reopen(self) -> None:
        """Reopen the FIFO after its last writer has closed it, which the old descriptor would keep reporting.

        The new descriptor is opened before the old one is closed, so that no line is lost.
        """
        self._loop.remove_reader(self._fd)
        old = self._fd
        try:
            self._fd = self._open()
        except OSError as exc:
            self._fd = -1
            self._on_error(f"no longer reading commands: {exc}")
        else:
            self._watch()
        os.close(old)

    def _line(self, line: bytes) -> None:
        if self._too_long or len(line) > LONGEST_LINE:
            self._too_long = False
            self._on_error(f"a line of more than {LONGEST_LINE} bytes")
        elif text := line.decode("utf-8", "backslashreplace").strip():
            self._on_line(text)
