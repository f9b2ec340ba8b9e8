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
from collections.abc import Callable, Mapping
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
        self.epoll = select.epoll()
        self.watches: dict[int, _Watch] = {}
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self._closed = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = []
        watches = self.watches
        for fd, event in self.epoll.poll(timeout, _AT_ONCE):
            watch = watches.get(fd)
            if watch is None:
                key = self._keys.get(fd)
                if key is not None:  # None: unregistered by one who was called just now
                    wanted = (selectors.EVENT_WRITE if event & ~_IN else 0) | (
                        selectors.EVENT_READ if event & ~_OUT else 0
                    )
                    ready.append((key, wanted & key.events))
                continue
            # An error or a hang-up is news for both directions.
            if event & ~_OUT and watch.readable is not None:
                watch.readable()
            if event & ~_IN and watch.writable is not None and watches.get(fd) is watch:
                watch.writable()
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is already registered")
        self.epoll.register(fd, _epoll_events(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._keys.pop(_number(fileobj))
        with contextlib.suppress(OSError):  # it was closed meanwhile
            self.epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        old = self._keys[fd]
        if events != old.events:
            self.epoll.modify(fd, _epoll_events(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def close(self) -> None:
        self._closed = True
        self.epoll.close()
        self.watches.clear()
        self._keys.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return None if self._closed else self._keys  # type: ignore[return-value]  # so says selectors.BaseSelector


def _epoll_events(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


class EventLoop(asyncio.SelectorEventLoop):
    """The event loop of this module, for Linux.

    What `add_reader` and `add_writer` register is called from within the loop's look at its descriptors, before what
    `call_soon` has queued, and must be able to meet a descriptor that is not ready after all.
    """

    def __init__(self) -> None:
        self._direct = _Selector()
        super().__init__(self._direct)

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "readable", self._guarded(callback, args))

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "writable", self._guarded(callback, args))

    def remove_reader(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "readable") or super().remove_reader(fd)  # of asyncio's own

    def remove_writer(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "writable") or super().remove_writer(fd)  # of asyncio's own

    def _watch(self, fd: int, direction: str, callback: Callable[[], object]) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        watch = self._direct.watches.get(fd)
        if watch is None:
            watch = _Watch()
            setattr(watch, direction, callback)
            self._direct.epoll.register(fd, watch.events)
            self._direct.watches[fd] = watch
            return
        before = watch.events
        setattr(watch, direction, callback)
        if watch.events != before:
            self._direct.epoll.modify(fd, watch.events)

    def _unwatch(self, fd: int, direction: str) -> bool:
        watch = self._direct.watches.get(fd)
        if watch is None or getattr(watch, direction) is None:
            return False
        setattr(watch, direction, None)
        events = watch.events
        if not events:
            del self._direct.watches[fd]
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if events:
                self._direct.epoll.modify(fd, events)
            else:
                self._direct.epoll.unregister(fd)
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
                self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": exc})

        return call
