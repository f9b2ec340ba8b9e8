"""What runs while a driver runs: it opens its link, hands received messages on, and ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from indifast.driver.device import begin
from indifast.driver.dispatch import Dispatcher, UserCode
from indifast.driver.faults import Refusals, UserFaults, logger
from indifast.driver.loopthread import LoopThread
from indifast.driver.outlet import Outlet
from indifast.driver.snooping import SnoopMonitor
from indifast.driver.tasks import Tasks

if TYPE_CHECKING:
    from indifast.driver.streamlink import OwnLink, Refuse
    from indifast.routing.link import Link

GRACE = 2.0
"""Seconds that user code has after shutdown, before it is cancelled."""

_TURN = 64  # messages handled before the other tasks have their turn


class Program(UserCode, Protocol):
    """The driver, as the program has written it; see `IPyDriver`."""

    stopped: asyncio.Event
    shutdownrequested: asyncio.Event

    async def hardware(self) -> None:
        """Runs with the driver."""
        ...


class Runtime:
    """The running side of one driver, put together of parts that don't know it; and the port of its vectors.

    A driver is either given a link by a server, which then isolates the faults of user code, or opens one of its own
    (stdin and stdout, or a port), and then a fault ends it.
    """

    def __init__(self, driver: Program) -> None:
        self._driver = driver
        self.served_by: str | None = None
        self.up = asyncio.Event()
        self.main: asyncio.Task[None] | None = None
        self.open_link: Callable[[Refuse], Awaitable[OwnLink]] | None = None
        self._running = False
        self._ended = asyncio.Event()
        self._arrived = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._outlet = outlet = Outlet(driver, self.counters)
        self._refusals = refusals = Refusals(self.counters)
        self._faults = faults = UserFaults(self.counters, outlet.send, lambda: self._ended.set())
        self._tasks = tasks = Tasks(faults.report)
        self._thread = thread = LoopThread()
        self.snoops = snoops = SnoopMonitor(driver, outlet.send)
        self._dispatcher = Dispatcher(driver, tasks, refusals, faults, send=outlet.send, heard=snoops.heard)
        # what makes it a `VectorPort`, but for `run` and `count`
        self.send = outlet.send
        self.transmit = outlet.transmit
        self.sending_link = outlet.sending_link
        self.wanted = outlet.wanted
        self.add = tasks.add
        self.start = tasks.start
        self.call = thread.call
        self.wait_for = thread.wait_for
        self.user_fault = faults.report

    @property
    def run(self) -> object | None:
        """See `ThreadPort`."""
        return self._thread.run

    def count(self, what: str) -> None:
        """See `Port`."""
        self.counters[what] += 1

    # who carries the driver

    @property
    def link(self) -> Link | None:
        """The link that the driver runs on; None while there is none."""
        return self._outlet.link

    def serve(self, server: str) -> None:
        """A server takes the driver over; RuntimeError when it is taken already."""
        if self.served_by:
            raise RuntimeError(f"this driver can't be given to {server}: it already belongs to {self.served_by}")
        self.served_by = server

    def serve_itself(self, server: str, open_link: Callable[[Refuse], Awaitable[OwnLink]]) -> None:
        """The driver opens a link of its own; RuntimeError when it is taken already."""
        self.serve(server)
        self.open_link = open_link
        self._faults.isolated = False

    def attach(self, link: Link) -> None:
        """The link to run on, from a server in this process, which will begin the run."""
        self._outlet.link = link
        self.prepare()

    def prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `shutdown` from now on counts."""
        driver = self._driver
        if driver.stopped.is_set():
            driver.stopped.clear()
            driver.shutdownrequested.clear()
            self._outlet.stopping = False

    # running

    async def run_until_end(self, grace: float) -> None:
        """Run until shutdown, the end of the link, or a fault of user code where nobody isolates it."""
        if self._running:
            raise RuntimeError("this driver is running already")
        self.prepare()
        self._ended, self._arrived = asyncio.Event(), asyncio.Event()  # of this event loop
        self._faults.fatal = None
        if self._outlet.stopping:
            self._leave_out()
            return
        self._running = True
        try:
            await self._run(grace)
        finally:
            self._running = False
            self._driver.stopped.set()
        if self._faults.fatal is not None:
            raise self._faults.fatal

    def _leave_out(self) -> None:
        """The driver was shut down before it began."""
        outlet = self._outlet
        if outlet.link is not None:
            outlet.link.close()
            outlet.link = None
        self._tasks.discard()
        self._driver.stopped.set()

    async def _run(self, grace: float) -> None:
        own = None if self.open_link is None else await self.open_link(self._refusals.refuse)
        if own is not None:
            self._outlet.link = own
        link = self._outlet.link
        if link is None:
            raise RuntimeError("this driver has no link to run on")
        self._thread.begin()
        if self._outlet.stopping:  # shut down meanwhile, maybe by another thread
            self._ended.set()
        else:
            for device in self._driver.data.values():
                begin(device)
        logger.info("driver started: %s", ", ".join(self._driver.data) or "no devices")
        try:
            link.on_receive(self._arrived.set)
            self._tasks.begin()
            self._tasks.start(self._driver.hardware(), "hardware")
            self.snoops.start()
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
                self.snoops.stop()
                await self._tasks.finish(grace if self._faults.fatal is None else 0)
            if not receiving.cancelled() and (error := receiving.exception()):
                raise error
        finally:
            self._close(link)
            if own is not None:
                await own.wait_closed()

    async def _first_of(self, receiving: asyncio.Task[None]) -> None:
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((receiving, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    async def _receive(self, link: Link, own: OwnLink | None, grace: float) -> None:
        handled = 0
        while True:
            while (message := link.take()) is not None:
                try:
                    await self._dispatcher.dispatch(message)
                except Exception as error:
                    self._refusals.lost(message, error)
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

    def _close(self, link: Link) -> None:
        link.on_receive(None)
        link.close()
        self.snoops.stop()
        self._dispatcher.clear()
        self._tasks.close()
        self._outlet.link = None
        self._thread.end()
        self.up.clear()
        logger.info("driver stopped")

    # ending

    @property
    def stopping(self) -> bool:
        """The driver has been told to stop."""
        return self._outlet.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._outlet.stopping = value

    def note_stop(self) -> None:
        """Let user code see that it is to stop."""
        self._outlet.stopping = True
        self._driver.shutdownrequested.set()
        for device in self._driver.data.values():
            device.shutdown()

    def end(self) -> None:
        """Make the run come to its end. For any thread."""
        if self._thread.elsewhere():
            self._thread.call(self._ended.set)
        else:
            self._ended.set()
