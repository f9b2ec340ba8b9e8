"""What runs while a driver runs: its tasks, the messages that come in, the faults of user code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from indifast.driver.dispatch import Dispatcher
from indifast.driver.snooping import SnoopMonitor
from indifast.protocol import wire
from indifast.protocol.complaints import Allowances, more
from indifast.protocol.shown import shown
from indifast.protocol.timestamps import timestamp_text

if TYPE_CHECKING:
    from concurrent.futures import Future

    from indifast.driver.ipydriver import IPyDriver
    from indifast.driver.propertyvectors import PropertyVector
    from indifast.driver.streamlink import OwnLink
    from indifast.protocol.message import Routable
    from indifast.routing.link import Link

logger = logging.getLogger("indifast.driver.ipydriver")

GRACE = 2.0
"""Seconds that user code has after shutdown, before it is cancelled."""

_TURN = 64  # messages handled before the other tasks have their turn
_QUIET = 10.0  # seconds for which the same refusal is not logged again
_FAULT_QUIET = 1.0  # and the same fault of user code


class Runtime:
    """The running side of one driver.

    A driver is either given a link by a server, which then isolates the faults of user code, or opens one of its own
    (stdin and stdout, or a port), and then a fault ends it.
    """

    def __init__(self, driver: IPyDriver) -> None:
        self.driver = driver
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.session = object()
        """Another one in each run."""
        self.link: Link | None = None
        self.served_by: str | None = None
        self.open_link: Callable[[Callable[..., None]], Awaitable[OwnLink]] | None = None
        self.snoops = SnoopMonitor(self)
        self.counters: Counter[str] = Counter()
        self.up = asyncio.Event()
        self.main: asyncio.Task[None] | None = None
        self.waiting_threads: set[Future[None]] = set()
        self._dispatcher = Dispatcher(self)
        self._background: list[tuple[Coroutine[Any, Any, Any], str]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._ended = asyncio.Event()
        self._arrived = asyncio.Event()
        self.fault: BaseException | None = None
        self._refusals = Allowances(1, 1 / _QUIET)
        self._faults = Allowances(1, 1 / _FAULT_QUIET)

    # who carries the driver

    def serve(self, server: str) -> None:
        """A server takes the driver over; RuntimeError when it is taken already."""
        if self.served_by:
            raise RuntimeError(f"this driver can't be given to {server}: it already belongs to {self.served_by}")
        self.served_by = server

    def attach(self, link: Link) -> None:
        """The link to run on, from a server in this process, which will begin the run."""
        self.link = link
        self.prepare()

    def prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `shutdown` from now on counts."""
        if self.driver.stopped.is_set():
            self.driver.stopped.clear()
            self.driver.shutdownrequested.clear()
            self.driver._stop = False

    @property
    def supervised(self) -> bool:
        """Faults of user code end this driver's task at most, never the driver."""
        return self.open_link is None

    # tasks

    def add(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine with the driver: now, or from the start on."""
        if self.loop is None:
            self._background.append((coro, what))
        else:
            self.start(coro, what)

    def start(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine of the user's now; its fault is the user's."""
        task = asyncio.get_running_loop().create_task(self._guard(coro, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coro.close())  # cancelled before its first step, it was never awaited

    async def _guard(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        try:
            await coro
        except asyncio.CancelledError as error:
            self.cancellation(error, what, None)
        except Exception as error:
            self.user_fault(error, what, None)

    def cancellation(self, error: asyncio.CancelledError, what: str, devicename: str | None) -> None:
        """Raise it again if the running task is being cancelled; else user code has waited for something cancelled,
        and that is a fault like any other.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        fault = RuntimeError("it waited for something that was cancelled")
        fault.__cause__ = error
        self.user_fault(fault, what, devicename)

    async def run(self, grace: float) -> None:
        """Run until shutdown, the end of the link, or a fault of user code where nobody isolates it."""
        if self._running:
            raise RuntimeError("this driver is running already")
        driver = self.driver
        self.prepare()
        self._ended, self._arrived = asyncio.Event(), asyncio.Event()  # of this event loop
        self.fault = None
        if driver._stop:
            self._leave_out()
            return
        self._running = True
        try:
            await self._run(grace)
        finally:
            self._running = False
            driver.stopped.set()
        if self.fault is not None:
            raise self.fault

    def _leave_out(self) -> None:
        """The driver was shut down before it began."""
        if self.link is not None:
            self.link.close()
            self.link = None
        waiting, self._background = self._background, []
        for coro, _ in waiting:
            coro.close()
        self.driver.stopped.set()

    async def _run(self, grace: float) -> None:
        driver = self.driver
        own = None if self.open_link is None else await self.open_link(self.refuse)
        if own is not None:
            self.link = own
        link = self.link
        if link is None:
            raise RuntimeError("this driver has no link to run on")
        self.session = object()
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        if driver._stop:  # shut down meanwhile, maybe by another thread
            self._ended.set()
        else:
            self._note_start()
        logger.info("driver started: %s", ", ".join(driver.data) or "no devices")
        try:
            link.on_receive(self._arrived.set)
            self._start_all()
            self.up.set()
            receiving = asyncio.create_task(self._receive(link, own, grace))
            try:
                await self._first_of(receiving)
            except asyncio.CancelledError:
                grace = 0
                raise
            finally:
                receiving.cancel()
                await asyncio.wait((receiving,))
                self.note_stop()
                await self._finish(grace if self.fault is None else 0)
            if not receiving.cancelled() and (error := receiving.exception()):
                raise error
        finally:
            self._close(link)
            if own is not None:
                await own.wait_closed()

    def _start_all(self) -> None:
        driver = self.driver
        waiting, self._background = self._background, []
        for coro, what in waiting:
            self.start(coro, what)
        self.start(driver.hardware(), "hardware")
        self.snoops.start()

    async def _first_of(self, receiving: asyncio.Task[None]) -> None:
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((receiving, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    async def _finish(self, grace: float) -> None:
        """Let user code end by itself, then cancel it."""
        self.snoops.stop()
        if grace and (tasks := set(self._tasks)):
            await asyncio.wait(tasks, timeout=grace)
        deadline = time.monotonic() + max(grace, 1.0)
        while (tasks := set(self._tasks)) and time.monotonic() < deadline:
            for task in tasks:  # more than once: a task may swallow its cancellation
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        if self._tasks:
            logger.error("%d tasks of the driver ignore their cancellation and are left behind", len(self._tasks))

    def _close(self, link: Link) -> None:
        link.on_receive(None)
        link.close()
        self.snoops.stop()
        self._dispatcher.clear()
        self.loop = None
        self.link = None
        for future in list(self.waiting_threads):
            future.cancel()
        self.up.clear()
        logger.info("driver stopped")

    def _note_start(self) -> None:
        for device in self.driver.data.values():
            device._stop = False
            for vector in device.data.values():
                vector._stop = False

    def note_stop(self) -> None:
        """Let user code see that it is to stop."""
        self.driver._stop = True
        self.driver.shutdownrequested.set()
        for device in self.driver.data.values():
            device.shutdown()

    def end(self) -> None:
        """Make `run` come to its end. For any thread."""
        loop = self.loop
        if loop is None or threading.get_ident() == self.thread:
            self._ended.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs
                loop.call_soon_threadsafe(self._ended.set)

    # receiving

    async def _receive(self, link: Link, own: OwnLink | None, grace: float) -> None:
        handled = 0
        while True:
            while (message := link.take()) is not None:
                try:
                    await self._dispatcher.dispatch(message)
                except Exception as error:
                    self.counters["refused"] += 1
                    where = f"{message.tag} for {shown(message.device)}.{shown(message.name)}"
                    unsaid = self._faults.ask(("lost", type(error)), time.monotonic())
                    if unsaid is not None:
                        logger.exception("%s is lost%s", where, more(unsaid))
                handled += 1
                if handled % _TURN == 0:
                    await asyncio.sleep(0)
            if link.closed:
                return
            if own is not None and own.ended:  # nobody says anything more, but answers are still read
                await self._dispatcher.idle(grace)
                return
            self._arrived.clear()
            await self._arrived.wait()

    def refuse(self, kind: Hashable, text: str, *args: object) -> None:
        """Count and log a message from outside that is not obeyed; the same kind is not logged all the time."""
        self.counters["refused"] += 1
        unsaid = self._refusals.ask(kind, time.monotonic())
        if unsaid is not None:
            told = [shown(str(one), 200) if isinstance(one, str | Exception) else one for one in args]
            logger.error(text + "%s", *told, more(unsaid))

    def left_out(self, what: str, faults: Sequence[str]) -> None:
        """Count and log what can't be read in a message that is obeyed all the same."""
        self.counters["left_out"] += len(faults)
        unsaid = self._refusals.ask(("left out", what), time.monotonic())
        if unsaid is not None:
            logger.warning("%s: %s%s", what, shown("; ".join(faults), 200), more(unsaid))

    def user_fault(self, error: Exception, what: str, devicename: str | None) -> None:
        """User code has raised: a standalone driver ends with it, a served one tells and goes on."""
        self.counters["user_faults"] += 1
        if not self.supervised:
            if self.fault is None:
                self.fault = error
            self._ended.set()
            return
        unsaid = self._faults.ask((what, type(error)), time.monotonic())
        if unsaid is None:
            return
        logger.error("%s failed, the driver goes on%s", what, more(unsaid), exc_info=error)
        text = f"{what} failed: {type(error).__name__}: {error}"
        self.send(wire.message(text, timestamp_text(), devicename))

    # sending

    def sending_link(self) -> Link | None:
        """The link, if something sent now would go anywhere."""
        link = self.link
        if link is None or link.closed or self.driver._stop:
            self.counters["sent_nowhere"] += 1
            return None
        return link

    def send(self, message: Routable) -> None:
        """Send one message; dropped and counted when the driver does not run or has been stopped."""
        link = self.sending_link()
        if link is not None:
            link.send(message)
            if self.driver.debug_enable and logger.isEnabledFor(logging.DEBUG):
                self._log_sent(message)

    async def transmit(self, message: Routable) -> None:
        """`send`, and wait while the peer is far behind."""
        self.send(message)
        if self.link is not None:
            await self.link.not_full()

    def wanted(self, vector: PropertyVector) -> bool:
        """Somebody wants the content of this BLOBVector, as far as another thread can tell."""
        link = self.link
        if link is None or vector.devicename is None:
            return False
        try:
            return any(link.demand(vector.devicename, vector.name))
        except RuntimeError:  # the event loop's thread was changing what is looked at
            return True

    def _log_sent(self, message: Routable) -> None:
        if message.blob:
            logger.debug("TX:: <%s device=%r name=%r> with BLOBs", message.tag, message.device, message.name)
        else:
            parts = message.parts(False) or ()
            logger.debug("TX:: %s", b"".join(parts).decode("utf-8", "replace"))

    def count(self, what: str) -> None:
        """Count something that `stats` shows."""
        self.counters[what] += 1
