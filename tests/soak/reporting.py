"""How the programs of the soak test and the test itself talk: lines over standard input and output."""

from __future__ import annotations

import json
import os
from collections.abc import Callable


class Commands:
    """The lines that arrive on standard input: `report`, `token DEVICE|TEXT`, `send XML` and `quit`."""

    def __init__(
        self,
        report: Callable[[], object],
        command: Callable[[str, str], object],
        quit: Callable[[], object],
        send: Callable[[bytes], object] = lambda text: None,
    ) -> None:
        self._report, self._command, self._quit, self._send = report, command, quit, send
        self._rest = b""

    def read(self) -> None:
        """Take what has arrived, and obey it. The end of the input is a `quit`."""
        data = os.read(0, 1 << 16)
        if not data:
            self._quit()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, argument = line.partition(b" ")
            if word == b"report":
                answer(self._report())
            elif word == b"token":
                device, _, text = argument.decode().partition("|")
                self._command(device, text)
            elif word == b"send":
                self._send(argument)
            elif word == b"quit":
                self._quit()


def answer(content: object) -> None:
    """Write a line to the soak test."""
    view = memoryview(json.dumps(content).encode() + b"\n")
    while view:
        view = view[os.write(1, view) :]
