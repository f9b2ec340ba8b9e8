"""Lookup of host names, which may take as long as a name server likes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def look_up(function: Callable[..., Result], *arguments: object, **keywords: object) -> Future[Result]:
    """Call a function that may ask a name server, in a thread that delays neither signals nor the exit of the program.

    The system's lookup is not interrupted by signals, and event loops wait for their executor threads when they end.

    Returns:
        A future with the result. It can't be cancelled.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as exc:
            future.set_exception(exc)

    future.set_running_or_notify_cancel()  # prevents cancellation, which could not stop the thread
    Thread(target=work, name="look-up", daemon=True).start()
    return future
