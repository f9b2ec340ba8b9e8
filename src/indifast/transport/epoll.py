"""An asyncio event loop that wastes little time between "there is something to read" and the code that reads it.

asyncio's own loop makes a list of what is ready, a handle to be called of each entry, and comes to call it in its next
round: for a small message that takes about as long as everything that a server does with it. Here what was registered
by `add_reader` and `add_writer` is called as soon as the kernel names its descriptor. Everything else is asyncio's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import select
import selectors
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_AT_ONCE = 64  # events per look: those beyond are first next time


class _Watch:
    """What to call for one descriptor."""

    __slots__ = ("readable", "writable")

    def __init__(self) -> None:
        self.readable: Callable[[], object] | None = None
        self.writable: Callable[[], object] | None = None

    @property
    def events(self) -> int:
        return (_IN if self.readable is not None else 0) | (_OUT if self.writable is not None else 0)


class _Selector(selectors.BaseSelector):
    """An epoll that calls those who watch a descriptor itself, and tells the loop of the others."""

    def __init__(self) -> None:
        self.watches: dict[int, _Watch] = {}
        self.looking = False
        """Those whose descriptors are ready are being called."""
        self.at_end: list[Callable[[], object]] = []
        """To be called after them. What they raise goes to `on_error`."""
        self.on_error: Callable[[object, BaseException], object] = lambda callback, exc: None
        self._epoll = select.epoll()
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self._closed = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        watches, keys = self.watches, self._keys
        events = self._epoll.poll(timeout, _AT_ONCE)
        ready: list[tuple[selectors.SelectorKey, int]] = []
        if not events:
            return ready
        # Who is meant is settled before anybody is called: a number may be somebody else's a moment later.
        found: Sequence[tuple[int, _Watch | None, selectors.SelectorKey | None]]
        if len(events) == 1:
            ((fd, event),) = events
            found = ((event, watches.get(fd), keys.get(fd)),)
        else:
            found = [(event, watches.get(fd), keys.get(fd)) for fd, event in events]
        self.looking = True
        try:
            for event, watch, key in found:
                # An error or a hang-up is news for both directions.
                if watch is not None:
                    if event & ~_OUT and watch.readable is not None:
                        watch.readable()
                    if event & ~_IN and watch.writable is not None:
                        watch.writable()
                if key is not None:
                    wanted = selectors.EVENT_WRITE if event & ~_IN else 0
                    wanted |= selectors.EVENT_READ if event & ~_OUT else 0
                    ready.append((key, wanted & key.events))
        finally:
            self.looking = False
            if self.at_end:
                self._call_at_end()
        # A key that one of those called has changed is looked at again: its event comes again.
        return [(key, events) for key, events in ready if keys.get(key.fd) is key] if ready else ready

    def _call_at_end(self) -> None:
        callbacks, self.at_end = self.at_end, []
        for callback in callbacks:
            try:
                callback()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.on_error(callback, exc)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is already registered")
        return self._set_key(selectors.SelectorKey(fileobj, fd, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return self._set_key(selectors.SelectorKey(fileobj, fd, events, data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = _number(fileobj)
        before = self.wanted(fd)
        key = self._keys.pop(fd)
        self.forget(fd, before)
        return key

    def close(self) -> None:
        self._closed = True
        self._epoll.close()
        self.watches.clear()
        self._keys.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return None if self._closed else self._keys  # type: ignore[return-value]  # so says selectors.BaseSelector

    def wanted(self, fd: int) -> int:
        """The events that are to be heard of, for those called from here and for the loop."""
        watch, key = self.watches.get(fd), self._keys.get(fd)
        return (0 if watch is None else watch.events) | (0 if key is None else _epoll_events(key.events))

    def tell(self, fd: int, before: int) -> None:
        """Tell the kernel what is wanted now, if it is more or less than before. OSError: it can't be watched."""
        now = self.wanted(fd)
        if now == before:
            return
        if not before:
            self._epoll.register(fd, now)
        elif now:
            self._epoll.modify(fd, now)
        else:
            self._epoll.unregister(fd)

    def forget(self, fd: int, before: int) -> None:
        """As `tell`, for a descriptor that may have been closed meanwhile."""
        with contextlib.suppress(OSError):
            self.tell(fd, before)

    def _set_key(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        before = self.wanted(key.fd)
        self._keys[key.fd] = key
        try:
            self.tell(key.fd, before)
        except OSError:
            del self._keys[key.fd]
            raise
        return key


def _epoll_events(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


class EventLoop(asyncio.SelectorEventLoop):
    """The event loop of this module, for Linux.

    What `add_reader` and `add_writer` register is called from within the loop's look at its descriptors, before what
    `call_soon` has queued.
    """

    def __init__(self) -> None:
        self._direct = _Selector()
        self._direct.on_error = self._report
        super().__init__(self._direct)

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call back when all whose descriptors were found ready by the same look at them have been called.

        Outside of a look: soon. It is `call_soon` for what a reader leaves to be done, without its detour, and without
        the reader's context.
        """
        direct = self._direct
        if direct.looking:
            direct.at_end.append(callback)
        else:
            self.call_soon(callback)

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "readable", self._guarded(callback, args))

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "writable", self._guarded(callback, args))

    def remove_reader(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "readable") or super().remove_reader(fd)  # of asyncio's own

    def remove_writer(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "writable") or super().remove_writer(fd)  # of asyncio's own

    def _watch(self, fd: int, direction: str, callback: Callable[[], object]) -> None:
        self._ensure_fd_no_transport(fd)  # type: ignore[attr-defined]  # of asyncio: who is asked has the right words
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        before = self._direct.wanted(fd)
        watch = self._direct.watches.setdefault(fd, _Watch())
        setattr(watch, direction, callback)
        try:
            self._direct.tell(fd, before)
        except OSError:
            del self._direct.watches[fd]
            raise

    def _unwatch(self, fd: int, direction: str) -> bool:
        watch = self._direct.watches.get(fd)
        if watch is None or getattr(watch, direction) is None:
            return False
        before = self._direct.wanted(fd)
        setattr(watch, direction, None)
        if not watch.events:
            del self._direct.watches[fd]
        self._direct.forget(fd, before)
        return True

    def _guarded(self, callback: Callable[[*Ts], Any], args: tuple[*Ts]) -> Callable[[], object]:
        """In the context of the one who registers it; what it raises is reported, and the loop goes on."""
        run = partial(contextvars.copy_context().run, partial(callback, *args))

        def call() -> None:
            try:
                run()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._report(callback, exc)

        return call

    def _report(self, callback: object, exc: BaseException) -> None:
        self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": exc})
