"""An asyncio event loop with little overhead between the arrival of data and the code that reads it.

asyncio's own loop makes a list of the ready descriptors, creates a handle for each, and calls the handles in its next
iteration. For a small message, this takes about as long as everything that a server does with it. In this loop, the
callbacks of `add_reader` and `add_writer` are called as soon as the kernel reports their descriptor, and asyncio's
iteration is left out as long as there is nothing else to do: no callback, no timer that is due. Everything else is
asyncio's.

While short messages follow each other closely, the loop does not sleep between them. Falling asleep and being woken
takes longer than handling such a message, and just as much processor time. So if the last few waits after a short
message were brief, the loop asks the kernel again and again for a moment before it sleeps, and lets other processes run
in between. One longer wait ends this. With a single core, nobody could answer meanwhile, and the loop always sleeps.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import select
import selectors
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVarTuple

from indifast.transport.cores import usable_cores

Ts = TypeVarTuple("Ts")

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_READS = ~_OUT  # events of those who read: errors and hang-ups concern both directions
_WRITES = ~_IN
_AT_ONCE = 64  # events per poll; the kernel reports any others first at the next poll
_LONGEST = 3600.0  # seconds of one poll: the kernel can't wait for more than a few weeks
_CANCELLED = 100  # cancelled timers above which asyncio looks whether to remove them
_BRIEF = 0.0001  # seconds of a wait that is worth staying awake for; half of them are for being woken
_AWAKE = 0.00005  # seconds to stay awake
_CONVINCING = 3  # brief waits in a row: a single command and its answer have two
_MEMORY_PAUSE = 0.01  # seconds to wait after an iteration that memory ran out in


class _Watch:
    """The callbacks for one descriptor."""

    __slots__ = ("readable", "writable")

    def __init__(self) -> None:
        self.readable: partial[object] | None = None
        self.writable: partial[object] | None = None

    @property
    def events(self) -> int:
        return (_IN if self.readable is not None else 0) | (_OUT if self.writable is not None else 0)


class _Selector(selectors.BaseSelector):
    """An epoll selector that itself calls the registered callbacks, and reports all other events to the loop."""

    def __init__(self) -> None:
        self.watches: dict[int, _Watch] = {}
        self.dispatching = False
        """True while the callbacks of ready descriptors are being called."""
        self.at_end: list[Callable[[], object]] = []
        """Functions to be called after those callbacks."""
        self.on_error: Callable[[object, BaseException], object] = lambda callback, exc: None
        """Called with each exception of a callback, which must not end the loop."""
        self.polled: list[tuple[selectors.SelectorKey, int]] | None = None
        """What `poll` has returned, if `select` is to return it instead of polling again."""
        self.answer_expected = False
        """Whether a short message has been sent since the last wait, to which an answer may come at once."""
        self._brief_waits = 0  # in a row, for such an answer
        self._convincing = _CONVINCING if usable_cores() > 1 else sys.maxsize
        self._epoll = select.epoll()
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self._closed = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        polled, self.polled = self.polled, None
        return self.poll(timeout) if polled is None else polled

    def poll(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, call the callbacks of those that have any, and return the others."""
        if self.answer_expected and timeout != 0:
            events = self._await_answer(timeout)
        else:
            events = self._epoll.poll(timeout, _AT_ONCE)
        watches, keys = self.watches, self._keys
        ready: list[tuple[selectors.SelectorKey, int]] = []
        if not events:
            return ready
        # Look up all callbacks before calling any: a callback may close a descriptor, and its number may be reused.
        found: Sequence[tuple[int, _Watch | None, selectors.SelectorKey | None]]
        if len(events) == 1:
            ((fd, event),) = events
            found = ((event, watches.get(fd), keys.get(fd)),)
        else:
            found = [(event, watches.get(fd), keys.get(fd)) for fd, event in events]
        self.dispatching = True
        try:
            for event, watch, key in found:
                if watch is not None:
                    if (event == _IN or event & _READS) and (call := watch.readable) is not None:
                        try:
                            call()
                        except BaseException as exc:
                            self._failed(call.args[0], exc)
                    if event != _IN and event & _WRITES and (call := watch.writable) is not None:
                        try:
                            call()
                        except BaseException as exc:
                            self._failed(call.args[0], exc)
                if key is not None:
                    wanted = selectors.EVENT_WRITE if event & _WRITES else 0
                    wanted |= selectors.EVENT_READ if event & _READS else 0
                    ready.append((key, wanted & key.events))
        finally:
            self.dispatching = False
            if self.at_end:
                self._call_at_end()
        # Leave out keys that a callback has changed: their events will be reported again.
        return [(key, events) for key, events in ready if keys.get(key.fd) is key] if ready else ready

    def _await_answer(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for events that may come at once: without sleeping at first, if the last ones did."""
        self.answer_expected = False
        poll, clock = self._epoll.poll, time.perf_counter
        begin = clock()
        if self._brief_waits >= self._convincing and (timeout is None or timeout > _AWAKE):
            until, give_way = begin + _AWAKE, os.sched_yield
            while True:
                events = poll(0, _AT_ONCE)
                if events:
                    return events
                if clock() >= until:
                    break
                give_way()
            self._brief_waits = 0
            return poll(timeout if timeout is None else max(0.0, timeout - (clock() - begin)), _AT_ONCE)
        events = poll(timeout, _AT_ONCE)
        self._brief_waits = self._brief_waits + 1 if clock() - begin < _BRIEF else 0
        return events

    def _call_at_end(self) -> None:
        callbacks, self.at_end = self.at_end, []
        for callback in callbacks:
            try:
                callback()
            except BaseException as exc:
                self._failed(callback, exc)

    def _failed(self, callback: object, exc: BaseException) -> None:
        """Report what a callback has raised, unless it is to end the program."""
        if isinstance(exc, SystemExit | KeyboardInterrupt):
            raise exc
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
        return None if self._closed else self._keys  # type: ignore[return-value]  # as selectors.BaseSelector specifies

    def wanted(self, fd: int) -> int:
        """Return the events to watch for, for the registered callbacks and for the loop."""
        watch, key = self.watches.get(fd), self._keys.get(fd)
        return (0 if watch is None else watch.events) | (0 if key is None else _epoll_events(key.events))

    def update(self, fd: int, before: int) -> None:
        """Tell the kernel which events to watch for, if they differ from those before.

        Raises:
            OSError: The descriptor can't be watched.
        """
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
        """Do the same as `update` for a descriptor that may have been closed in the meantime."""
        try:  # noqa: SIM105 - `suppress` needs memory, without which the kernel would go on watching
            self.update(fd, before)
        except OSError:
            pass

    def _set_key(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        before = self.wanted(key.fd)
        self._keys[key.fd] = key
        try:
            self.update(key.fd, before)
        except OSError:
            del self._keys[key.fd]
            raise
        return key


def _epoll_events(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop for Linux that calls readers and writers from within its poll.

    They are called before the callbacks that `call_soon` has queued.
    """

    def __init__(self) -> None:
        self._direct = _Selector()
        self._direct.on_error = self._report
        super().__init__(self._direct)

    def _run_once(self) -> None:
        """Run one iteration. Lack of memory must not end the loop: what it prevents is done in a later iteration."""
        try:
            self._serve_watches()
            super()._run_once()  # type: ignore[misc]  # asyncio's own, which all its loops have
        except MemoryError:
            time.sleep(_MEMORY_PAUSE)

    def _serve_watches(self) -> None:
        """Wait for events and call the callbacks of their descriptors, until asyncio's loop has something to do."""
        direct, clock = self._direct, time.monotonic
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        polled: list[tuple[selectors.SelectorKey, int]] | None = None
        while not (polled or ready or self._stopping or self._timer_cancelled_count > _CANCELLED):  # type: ignore[attr-defined]
            if scheduled:
                first = scheduled[0]
                timeout = first._when - clock()
                if timeout <= 0 or first._cancelled:
                    break
                if timeout > _LONGEST:
                    timeout = _LONGEST
            else:
                timeout = None
            polled = direct.poll(timeout)
        direct.polled = polled

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the callbacks of all descriptors that the current poll found ready.

        Outside of a poll, this is `call_soon`. Readers use it to defer work without the overhead of `call_soon`, and
        without their context.
        """
        direct = self._direct
        if direct.dispatching:
            direct.at_end.append(callback)
        else:
            self.call_soon(callback)

    def expect_answer(self) -> None:
        """Note that a short message has been sent, to which an answer may come at once."""
        self._direct.answer_expected = True

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "readable", partial(contextvars.copy_context().run, callback, *args))

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(_number(fd), "writable", partial(contextvars.copy_context().run, callback, *args))

    def remove_reader(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "readable") or super().remove_reader(fd)  # for asyncio's own readers

    def remove_writer(self, fd: Any) -> bool:
        return self._unwatch(_number(fd), "writable") or super().remove_writer(fd)  # for asyncio's own writers

    def _watch(self, fd: int, direction: str, callback: partial[object]) -> None:
        self._ensure_fd_no_transport(fd)  # type: ignore[attr-defined]  # asyncio's own check, with its message
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        before = self._direct.wanted(fd)
        watch = self._direct.watches.setdefault(fd, _Watch())
        previous = getattr(watch, direction)
        setattr(watch, direction, callback)
        try:
            self._direct.update(fd, before)
        except (OSError, MemoryError):
            setattr(watch, direction, previous)
            if not watch.events:
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

    def _report(self, callback: object, exc: BaseException) -> None:
        self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": exc})
