"""Errors of the program in the app's own messages, as nothing else may write on the screen."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from indifast.terminal.board import Board


class BoardHandler(logging.Handler):
    """Shows records from ERROR on as messages. May be used from any thread once the loop runs."""

    def __init__(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.ERROR)
        self.board = board
        self.loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """Show the message; where the fault is says the log file."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.board.note, text)


def open_log(path: Path, level: int) -> logging.Handler:
    """Write the records of indifast from a level on to the end of a file. OSError."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(level)
    logger = logging.getLogger("indifast")
    logger.addHandler(handler)
    logger.setLevel(min(level, logging.INFO))
    return handler
