"""Errors of the program as messages of the app, because nothing else may write to the screen."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from indifast.terminal.board import Board


class BoardHandler(logging.Handler):
    """Shows log records of level ERROR and above as messages; usable from any thread once the loop runs."""

    def __init__(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.ERROR)
        self.board = board
        self.loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """Show the message and the exception; the log file has the traceback."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.board.note, text)


def open_log(path: Path, level: int) -> logging.Handler:
    """Append indifast's log records of a level and above to a file.

    Raises:
        OSError: The file cannot be opened.
    """
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(level)
    logger = logging.getLogger("indifast")
    logger.addHandler(handler)
    logger.setLevel(min(level, logging.INFO))
    return handler
