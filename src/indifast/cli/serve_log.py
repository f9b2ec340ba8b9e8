"""What the server's command writes on standard error."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)


def log_to_stderr() -> None:
    """Lines as indiserver writes them: `2026-11-20T17:50:03: text`, UTC."""
    formatter = logging.Formatter("%(asctime)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.raiseExceptions = False  # a closed standard error is no reason to fail


def good_bye(why: str | None = None) -> int:
    """The last lines of a server that could not do what it was to do; gives the exit status."""
    if why is not None:
        logger.error("%s", why)
    logger.error("good bye")
    return 1


def sentence(exc: BaseException) -> str:
    """What an error says to people."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)
