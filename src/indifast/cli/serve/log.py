"""Log of the server command on standard error."""

from __future__ import annotations

import logging
import os
import time

from indifast.cli.lossy import LossyWriter, never_wait
from indifast.protocol.loglevels import NOTICE

logger = logging.getLogger(__name__)

_TRAFFIC = "indifast.server.trafficlog"
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6))  # levels, and syslog's numbers
_DEBUG = 7


class _LossyHandler(logging.Handler):
    """Writes records without waiting. Lines about the end of a driver (`log_end` in `exdriver`) are dropped last."""

    def __init__(self, writer: LossyWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # for example arguments that don't fit their format
            self.handleError(record)
        else:
            self._writer.put(f"{text}\n".encode("utf-8", "backslashreplace"), getattr(record, "driver_end", None))


class _StampFormatter(logging.Formatter):
    """Formats records as indiserver does: `2026-11-20T17:50:03: text`, in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class _JournalFormatter(logging.Formatter):
    """Formats records for journald: a priority before each line, and no time, which journald adds."""

    def format(self, record: logging.LogRecord) -> str:
        start = f"<{_priority(record)}>"
        return "\n".join(start + line for line in super().format(record).split("\n"))


def _priority(record: logging.LogRecord) -> int:
    if hasattr(record, "driver_line"):  # written by a driver: nobody knows how serious it is
        return 5
    return next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)


def log_to_stderr() -> None:
    """Log to standard error, from level NOTICE.

    From now on nothing that is written to standard error waits for its reader.
    """
    formatter = _JournalFormatter() if _is_journal() else _StampFormatter()

    def line(sentence: str) -> str:
        return formatter.format(logging.LogRecord(__name__, logging.WARNING, "", 0, sentence, None, None))

    writer = never_wait("stderr", line)
    handler = logging.StreamHandler() if writer is None else _LossyHandler(writer)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.raiseExceptions = False  # a closed standard error is no reason to fail
    logging.getLogger("indifast").setLevel(NOTICE)


def set_verbosity(verbose: int) -> None:
    """Log more: key events from 1, traffic from 2."""
    if verbose:
        logging.getLogger("indifast").setLevel(logging.INFO)
    if verbose > 1:
        logging.getLogger(_TRAFFIC).setLevel(logging.DEBUG)


def _is_journal() -> bool:
    """Return whether standard error leads to journald.

    The variable alone does not show it: a process started by a service inherits it, whatever its standard error is.
    """
    try:
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        found = os.fstat(2)
    except (ValueError, OSError):
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def log_why(why: str, *, failed: bool = False) -> None:
    """Log that the server ends, and why."""
    logger.log(logging.ERROR if failed else NOTICE, "the server ends: %s", why)


def good_bye(why: str | None = None) -> int:
    """Log the last lines of a server that failed, and return its exit status."""
    if why is not None:
        logger.error("%s", why)
    logger.error("good bye")
    return 1


def sentence(exc: BaseException) -> str:
    """Return the text of an error for people."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)
