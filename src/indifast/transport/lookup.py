"""Looking up names of hosts, which may take as long as a name server likes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def look_up(function: Callable[..., Result], *arguments: object, **keywords: object) -> Future[Result]:
    """Call a function that may ask a name server, in a thread that keeps no signal and no end of the program waiting.

    The system's look-up hears no signals, and event loops wait at their end for the threads of their executors.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as exc:
            future.set_exception(exc)

    future.set_running_or_notify_cancel()  # it can't be cancelled: the thread goes on, whoever waits for it
    Thread(target=work, name="look-up", daemon=True).start()
    return future
