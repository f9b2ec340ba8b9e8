"""Commands that run while a test does something, and recordings for them to replay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from indifast._parser import Tokenizer
from indifast.recording import Direction, Party, Recorder
from tests.support.blackbox import Channel, Child, python_environment, until
from tests.support.commands import INDIFAST

GET = b'<getProperties version="1.7"/>\n'
DEFINITION = "<defTextVector device='Dome' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText></defTextVector>"


class Command(Child):
    """`indifast` with some words, perhaps started by another program. Its output and its log are in one file.

    Args:
        folder: The working directory.
        words: The arguments of the command.
        launcher: A program with arguments that starts the command whose words follow, for example `nohup`.
    """

    def __init__(self, folder: Path, *words: object, launcher: Sequence[str] = ()) -> None:
        super().__init__([*launcher, *INDIFAST, *map(str, words)], folder, env=python_environment(), cwd=folder)

    def printed(self, pattern: str) -> str:
        """Wait until the output matches a pattern. Return the last group of the match, or the match if it has none."""
        until(lambda: self._match(pattern) or not self.running(), what=pattern)
        found = self._match(pattern)
        assert found is not None, self.stderr
        return found[found.lastindex or 0]

    def _match(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.stderr, re.MULTILINE)

    def client(self, pattern: str) -> Channel:
        """Return a client of the server whose port is the group of a pattern; the server has answered it."""
        client = Channel.connect(int(self.printed(pattern)), "127.0.0.1")
        client.send(GET)
        client.until_text("defTextVector")
        return client


def record(path: Path, text: str) -> None:
    """Make a recording in which a driver says `text`."""
    recorder = Recorder(str(path), source="a test", blobs=False)
    for element in Tokenizer(relay=True).feed(text.encode()):
        recorder.put(Direction.FROM, Party.DRIVER, "dome", element)
    recorder.close()
