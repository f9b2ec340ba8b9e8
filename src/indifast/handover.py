"""Coroutines that are awaited in the event loop of another thread, and are handed over to the one they belong to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from concurrent.futures import Future

_T = TypeVar("_T")
_Method = TypeVar("_Method", bound=Callable[..., Coroutine[Any, Any, Any]])


class Home:
    """Event loop and thread on which a driver or a client runs, while it does."""

    def __init__(self) -> None:
        self.thread = 0
        """Identity of the thread; 0 while there is no run."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run = object()  # another one for each run, perhaps on the same event loop
        self._waited_for: set[Future[Any]] = set()

    def begin(self) -> None:
        """Note that a run begins on the event loop of this thread."""
        self._run = object()
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    def end(self) -> None:
        """Note that the run has ended; release those in other threads who are waiting for it."""
        self._loop = None
        self.thread = 0
        for future in list(self._waited_for):
            future.cancel()

    def elsewhere(self) -> bool:
        """Return whether the event loop runs in a thread other than the current one."""
        thread = self.thread
        return thread != 0 and threading.get_ident() != thread

    def start(self, coro: Coroutine[Any, Any, _T]) -> Future[_T] | None:
        """Have the event loop await a coroutine. Its future is cancelled when the run ends.

        Returns:
            None if the run has ended.
        """
        loop, run = self._loop, self._run
        if loop is None:
            coro.close()
            return None
        try:
            future = asyncio.run_coroutine_threadsafe(coro, loop)
        except RuntimeError:  # the loop is closed, perhaps without the end of the run
            coro.close()
            if self._loop is loop:
                self.end()
            return None
        self._waited_for.add(future)
        future.add_done_callback(self._waited_for.discard)
        if self._loop is None or self._run is not run:  # the run ended without knowing that this thread is waiting
            future.cancel()
        return future

    async def hand_over(self, coro: Coroutine[Any, Any, _T]) -> _T:
        """Have the event loop await a coroutine, and return its result. For the event loops of other threads.

        Raises:
            RunEnded: The run ended first.
        """
        run = self._run
        future = self.start(coro)
        if future is None:
            raise RunEnded
        try:
            return await asyncio.wrap_future(future)
        except (asyncio.CancelledError, CancelledError):
            task = asyncio.current_task()
            running = self._loop is not None and self._run is run
            if running or (task is not None and task.cancelling()):
                raise
            raise RunEnded from None


_LIBRARY = "_indifast_method"  # the attribute of a method that is one of the library: the method itself


def overridden(program: object, name: str) -> Any:
    """Return a method that a program has put, in its class or in the object, in the place of one that is `at_home`.

    Returns:
        The method, or None if it is that of the library.
    """
    own = program.__dict__.get(name)
    if own is not None:
        return own
    method = getattr(type(program), name)
    return None if getattr(method, _LIBRARY, None) is method else getattr(program, name)


def library_method(program: type, name: str) -> Any:
    """Return the method of the library that is `at_home` and that a class has or overrides; None if there is none."""
    for cls in program.__mro__:
        method = cls.__dict__.get(name)
        if method is not None and getattr(method, _LIBRARY, None) is method:
            return method
    return None


async def awaited(work: Awaitable[None]) -> None:
    """Await what a method of a program has returned, so that it can run as a task."""
    await work


class RunEnded(Exception):
    """The run to which a coroutine was handed over has ended."""


def at_home(path: str) -> Callable[[_Method], _Method]:
    """Make an asynchronous method run on the event loop of its driver or client, wherever it is awaited.

    If the run ends meanwhile, the method does what it does without a run.

    Args:
        path: Where an object has its `Home`, a dotted name. An object that has none there yet is at home everywhere.
    """
    home_of = attrgetter(path)
    get_ident = threading.get_ident

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        async def at_home_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                home: Home | None = home_of(self)
            except AttributeError:
                home = None
            while home is not None and (thread := home.thread) and thread != get_ident():
                try:
                    return await home.hand_over(method(self, *args, **kwargs))
                except RunEnded:
                    pass
            return await method(self, *args, **kwargs)

        setattr(at_home_method, _LIBRARY, at_home_method)
        return cast("_Method", at_home_method)

    return decorate
