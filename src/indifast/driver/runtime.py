"""Runtime of a driver: opens its link, passes received messages on, and ends the run."""

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
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.streamlink import OwnLink, Refuse
    from indifast.routing.link import Link

GRACE = 2.0
"""Seconds that user code has after a shutdown before it is cancelled. Then, the peer has at least as long to read."""

_TURN = 64  # messages handled before other tasks get a turn


class Program(UserCode, Protocol):
    """What the runtime needs of a driver; see `IPyDriver`."""

    stopped: asyncio.Event
    shutdownrequested: asyncio.Event

    def shutdown(self) -> None:
        """Stop the driver."""
        ...

    async def send(self, xmldata: TreeElement) -> None:
        """Send an element of `xml.etree.ElementTree`."""
        ...

    async def hardware(self) -> None:
        """Control the hardware while the driver runs."""
        ...


class Runtime:
    """Running side of one driver, and the port of its vectors. It is made of parts that know nothing of it.

    A driver either gets its link from a server, which then isolates the faults of user code, or opens its own link
    (stdin and stdout, or a port), in which case a fault ends it.
    """

    def __init__(self, driver: Program) -> None:
        self._driver = driver
        self.served_by: str | None = None
        self.grace = GRACE
        """Seconds that user code has after a shutdown, unless `asyncrun` is told otherwise."""
        self.up = asyncio.Event()
        self.main: asyncio.Task[None] | None = None
        self.open_link: Callable[[Refuse], Awaitable[OwnLink]] | None = None
        self._running = False
        self._ended = asyncio.Event()
        self._arrived = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._outlet = outlet = Outlet(driver, self.counters)
        self._refusals = refusals = Refusals(self.counters)
        self._faults = faults = UserFaults(self.counters, outlet.send_as_is, lambda: self._ended.set())
        self._tasks = tasks = Tasks(faults.report)
        outlet.start = tasks.start
        self.home = self._thread = thread = LoopThread()
        self.snoops = snoops = SnoopMonitor(driver, outlet.send)
        self._dispatcher = Dispatcher(driver, tasks, refusals, faults, send=outlet.send, heard=snoops.heard)
        # The attributes of a `VectorPort`, except `run` and `count`
        self.send = outlet.send
        self.transmit = outlet.transmit
        self.transmit_as_is = outlet.transmit_as_is
        self.filtered = outlet.filtered
        self.sending_link = outlet.sending_link
        self.wanted = outlet.wanted
        self.add = tasks.add
        self.start = tasks.start
        self.call = thread.call
        self.wait_for = thread.wait_for
        self.user_fault = faults.report

    @property
    def run(self) -> object | None:
        """Identity of the current run; None while the driver does not run. See `ThreadPort`."""
        return self._thread.run

    def count(self, what: str) -> None:
        """Increment a counter of the driver's `stats`. See `Port`."""
        self.counters[what] += 1

    # -- Server and link

    @property
    def link(self) -> Link | None:
        """Link that the driver runs on; None while it has none."""
        return self._outlet.link

    def serve(self, server: str) -> None:
        """Assign the driver to a server.

        A driver whose run is over may be assigned anew.

        Args:
            server: The name of the server, for messages.

        Raises:
            RuntimeError: The driver is assigned already.
        """
        if self.served_by and not self._driver.stopped.is_set():
            raise RuntimeError(f"can't assign this driver to {server}: it is already assigned to {self.served_by}")
        self.served_by = server
        self.open_link = None
        self._faults.isolated = True

    def serve_itself(self, server: str, open_link: Callable[[Refuse], Awaitable[OwnLink]]) -> None:
        """Have the driver open its own link with `open_link` instead of a server. See `serve`."""
        self.serve(server)
        self.open_link = open_link
        self._faults.isolated = False

    def attach(self, link: Link, grace: float = GRACE) -> None:
        """Set the link to run on, and `grace`. Called by a server in this process, which then begins the run."""
        self._outlet.link = link
        self.grace = grace
        self.prepare()

    def prepare(self) -> None:
        """Prepare another run: forget the `shutdown` of the previous one. A `shutdown` from now on counts."""
        driver = self._driver
        if driver.stopped.is_set():
            driver.stopped.clear()
            driver.shutdownrequested.clear()
            self._outlet.stopping = False

    # -- Running

    async def run_until_end(self, grace: float | None = None) -> None:
        """Run until shutdown, the end of the link, or a fault of user code that no server isolates."""
        if grace is None:
            grace = self.grace
        if self._running:
            raise RuntimeError("this driver is running already")
        self.prepare()
        self._ended, self._arrived = asyncio.Event(), asyncio.Event()  # for the current event loop
        self._faults.fatal = None
        if self._outlet.stopping:
            self._skip_run()
            return
        self._running = True
        try:
            await self._run(grace)
        finally:
            self._running = False
            self._driver.stopped.set()
        if self._faults.fatal is not None:
            raise self._faults.fatal

    def _skip_run(self) -> None:
        """End the run before it begins: the driver has already been shut down."""
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
        if self._outlet.stopping:  # shut down in the meantime, perhaps by another thread
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
                await self._until_ended(receiving)
            except asyncio.CancelledError:
                grace = 0
                raise
            finally:
                receiving.cancel()
                await asyncio.wait((receiving,))
                self.shut_down()
                self.snoops.stop()
                await self._tasks.finish(grace if self._faults.fatal is None else 0)
            if not receiving.cancelled() and (error := receiving.exception()):
                raise error
        finally:
            self._close(link)
            if own is None:
                link.close()
            else:
                own.close(max(grace, GRACE))
                await own.wait_closed()

    async def _until_ended(self, receiving: asyncio.Task[None]) -> None:
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
            if own is not None and own.ended:  # the peer sends nothing more, but it still reads answers
                await self._dispatcher.idle(grace)
                return
            self._arrived.clear()
            await self._arrived.wait()

    def _close(self, link: Link) -> None:
        link.on_receive(None)
        self.snoops.stop()
        self._dispatcher.clear()
        self._tasks.close()
        self._outlet.link = None
        self._thread.end()
        self.up.clear()
        logger.info("driver stopped")

    # -- Ending

    @property
    def stopping(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._outlet.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._outlet.stopping = value

    def shut_down(self) -> None:
        """Call the driver's `shutdown`, which a program may have overridden, unless it was called; end the run."""
        if not self._driver.shutdownrequested.is_set():
            try:
                self._driver.shutdown()
            except Exception as error:
                self._faults.report(error, "shutdown", None)
        self.note_stop()  # also if the program's own `shutdown` does not
        self.end()

    def note_stop(self) -> None:
        """Tell user code to stop."""
        self._outlet.stopping = True
        self._driver.shutdownrequested.set()
        for device in self._driver.data.values():
            device.shutdown()

    def end(self) -> None:
        """End the run. May be called from any thread."""
        if self._thread.elsewhere():
            self._thread.call(self._ended.set)
        else:
            self._ended.set()
