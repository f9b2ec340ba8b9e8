"""An event loop whose clock jumps to whatever is due next.

It is asyncio's own selector loop on a selector that never waits. Timers are the only source of time, so a run takes as
long as its computations, and happens in the same order every time.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Mapping
from typing import Any

START = 1000.0
"""Time at which every run begins, in seconds."""

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Stuck(Exception):
    """Everything waits, and nothing will ever happen."""


class Poll:
    """Selector for modelled descriptors; it also keeps the time."""

    def __init__(self) -> None:
        self.now = START
        self.events = 0
        """Callbacks and descriptor events so far."""
        self.ready_callbacks: Callable[[], int] = lambda: 0
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._ready: dict[int, int] = {}
        self._wanted: set[int] = set()  # those that are ready for what is waited for: mostly none

    def set_ready(self, fd: int, event: int, ready: bool) -> None:
        """Say whether a descriptor can be read, or written."""
        mask = self._ready.get(fd, 0)
        mask = mask | event if ready else mask & ~event
        if mask:
            self._ready[fd] = mask
        else:
            self._ready.pop(fd, None)
        self._compare(fd)

    def _compare(self, fd: int) -> None:
        key = self._keys.get(fd)
        if key is not None and self._ready.get(fd, 0) & key.events:
            self._wanted.add(fd)
        else:
            self._wanted.discard(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = []
        if self._wanted:
            keys = self._keys
            for fd, mask in self._ready.items():  # in the order in which they became ready
                if fd in self._wanted:
                    key = keys[fd]
                    found.append((key, mask & key.events))
        self.events += self.ready_callbacks() + len(found)
        if not found and timeout != 0:
            if timeout is None:
                raise Stuck("nothing is scheduled any more")
            self.now += timeout
        return found

    # What else asyncio needs of a selector

    def register(self, fileobj: int, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._compare(fileobj)
        return key

    modify = register

    def unregister(self, fileobj: int) -> selectors.SelectorKey:
        key = self._keys.pop(fileobj)
        self._compare(fileobj)
        return key

    def get_key(self, fileobj: int) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def get_map(self) -> Mapping[int, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()
        self._ready.clear()
        self._wanted.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop in virtual time."""

    def __init__(self) -> None:
        self.poll = Poll()
        self.after_turn: Callable[[], None] | None = None
        """Called after each turn."""
        self.job_time: Callable[[], float] = lambda: 0.0
        """How long the next piece of work in a thread takes."""
        self.jobs: dict[Job, None] = {}
        """Work in threads that has not ended."""
        super().__init__(self.poll)  # type: ignore[arg-type]
        self.poll.ready_callbacks = self._ready.__len__  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.poll.now

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if self.after_turn is not None:
            self.after_turn()

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps, so nobody has to wake it."""

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.Handle:
        handle = self.call_soon(callback, *args, **options)
        job = Job.current()
        if job is not None:
            job.pause()
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        job = Job(self, func, args)
        self.jobs[job] = None
        return job.future

    def finish_jobs(self) -> None:
        """Let all threads run to their ends: the world they work for is over."""
        for job in list(self.jobs):
            job.finish()


class Job:
    """Work in a thread, in pieces: it stops whenever it tells the loop something, and goes on a little later.

    Exactly one of the two threads runs at any time, so the order of everything is fixed.
    """

    _local = threading.local()

    def __init__(self, loop: VirtualLoop, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self._loop = loop
        self._work: tuple[Callable[..., Any], tuple[Any, ...]] | None = (func, args)
        self._go = threading.Lock()  # released to let the thread run on; a lock takes a tenth of what a semaphore does
        self._stopped = threading.Lock()  # released when it has paused
        self._go.acquire()
        self._stopped.acquire()
        self._thread: threading.Thread | None = None
        self._result: tuple[Any, BaseException | None] | None = None
        self._hurry = False
        loop.call_later(loop.job_time(), self._resume)

    @classmethod
    def current(cls) -> Job | None:
        """Return the job that runs in this thread, if it is the thread of one."""
        return getattr(cls._local, "job", None)

    def pause(self) -> None:
        """Let the loop go on (in the job's thread)."""
        if self._hurry:
            return
        self._stopped.release()
        self._go.acquire()

    def _resume(self) -> None:
        if self._result is None:
            self.advance()
        if self._result is None:
            self._loop.call_later(self._loop.job_time(), self._resume)
            return
        (value, error), self._result = self._result, (None, None)
        if not self.future.done():
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)

    def advance(self) -> None:
        """Let it run up to its next pause, or its end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._stopped.acquire()
        if self._result is not None:
            self._thread.join()
            self._work = None
            self._loop.jobs.pop(self, None)

    def _run(self) -> None:
        Job._local.job = self
        assert self._work is not None
        func, args = self._work
        try:
            result, failure = func(*args), None
        except BaseException as error:
            result, failure = None, error
        del func, args
        self._result = (result, failure)
        self._stopped.release()

    def finish(self) -> None:
        """Run to the end without further pauses."""
        self._hurry = True
        if self._thread is not None and self._result is None:
            self.advance()


class JobLock:
    """Lock between the loop and its jobs. Whoever waits for a job that holds it lets that run on."""

    def __init__(self) -> None:
        self._holder: Job | None = None
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            if self._holder is None or self._holder is Job.current():
                raise RuntimeError("a lock is taken again by the one who holds it")
            self._holder.advance()
        self._held = True
        self._holder = Job.current()

    def __exit__(self, *exc_info: object) -> None:
        self._held = False
        self._holder = None
