"""Log of the server command on standard error."""

from __future__ import annotations

import logging
import time

from indifast.cli.lossy import LossyWriter, never_wait

logger = logging.getLogger(__name__)


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


def log_to_stderr() -> None:
    """Log lines as indiserver does: `2026-11-20T17:50:03: text`, in UTC.

    From now on nothing that is written to standard error waits for its reader.
    """
    formatter = logging.Formatter("%(asctime)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime

    def line(sentence: str) -> str:
        return formatter.format(logging.LogRecord(__name__, logging.ERROR, "", 0, sentence, None, None))

    writer = never_wait("stderr", line)
    handler = logging.StreamHandler() if writer is None else _LossyHandler(writer)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.raiseExceptions = False  # a closed standard error is no reason to fail


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
