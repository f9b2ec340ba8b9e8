"""The FIFO: what is no command is told as that, however its lines arrive."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from fuzzing.inputs import Input, chunks
from fuzzing.world import running
from indifast.server.fifo import LONGEST_LINE, LONGEST_VALUE, Command, CommandError, Fifo, parse

_home = tempfile.TemporaryDirectory(prefix="indifast-fuzzing-")
_PATH = Path(_home.name) / "fifo"
_VALUE = r'"[^"\0]{1,511}"'
_GOOD = re.compile(rf"start [\w/.+]+(?: -n {_VALUE})?(?: --pipes)?|stop [\w/.+]+(?: -n {_VALUE})?", re.ASCII)
"""Lines that are commands beyond doubt."""
_LETTERS = {"INDIDEV": "n", "INDICONFIG": "c", "INDISKEL": "s", "INDIPREFIX": "p"}


class _TestedFifo(Fifo):
    """Not watched by a loop: the target says when there is something to read."""

    def _watch(self) -> None:
        """Nobody waits."""


def run(data: bytes) -> None:
    """Write to a FIFO: a byte for the cuts, then the lines."""
    given = Input(data)
    way = given.byte()
    written = given.rest()
    lines, problems = _through_fifo(chunks(written, way))
    expected: list[str] = []
    too_long = 0
    for raw in written.split(b"\n"):
        if len(raw) > LONGEST_LINE:
            too_long += 1
        elif text := raw.decode("utf-8", "backslashreplace").strip():
            expected.append(text)
    assert lines == expected and len(problems) == too_long
    for line in lines:
        try:
            command = parse(line)
        except CommandError as error:
            assert str(error) and _GOOD.fullmatch(line) is None
        else:
            _check(command)


def _through_fifo(pieces: list[bytes]) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    problems: list[str] = []
    if not _PATH.exists():
        os.mkfifo(_PATH)
    with running() as loop:
        loop.remove_reader = loop.add_reader = lambda *args: False  # type: ignore[method-assign,assignment]
        fifo = _TestedFifo(str(_PATH), lines.append, problems.append)
        writer = os.open(_PATH, os.O_WRONLY)
        try:
            for piece in pieces:
                if piece:
                    os.write(writer, piece)
                    fifo._read()
        finally:
            os.close(writer)
        fifo._read()  # the end
        fifo.close()
    return lines, problems


def _check(command: Command) -> None:
    """Check that a command is one that can be carried out, and that it says the same when it is written again."""
    assert command.verb in ("start", "stop")
    assert command.target and "\0" not in command.target and '"' not in command.target
    if command.remote:
        assert not command.options and not command.pipes
        return
    assert re.search(r"\s", command.target) is None and not command.target.startswith("-")
    words = [command.verb, command.target]
    for name, value in command.options.items():
        assert 0 < len(value) <= LONGEST_VALUE
        words += [f"-{_LETTERS[name]}", f'"{value}"']
    words += ["--pipes"] if command.pipes else []
    assert parse(" ".join(words)) == command
