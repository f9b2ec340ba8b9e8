"""What every part of a client needs: the connection, the event loop, and telling the program and those who wait."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import Counter, UserDict, deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from indifast.client import events
from indifast.client.enabled import Names
from indifast.client.trace import Trace
from indifast.protocol.complaints import Allowance, Complaints, more
from indifast.protocol.message import Wire
from indifast.protocol.shown import shown

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.client.connection import Connection
    from indifast.client.waiting import Watcher
    from indifast.protocol.message import Routable

logger = logging.getLogger("indifast.client.ipyclient")

COUNTS = (
    "connections", "received", "received_bytes", "sent", "refused", "left_out", "skipped", "skipped_bytes", "unknown",
    "failed", "faults", "frames_replaced", "not_sent", "timeouts", "warnings_left_out",
)  # fmt: skip

_MOST_PROBLEMS = 1000
"""Properties whose first problem is remembered."""


class Base(UserDict[str, Any]):
    """The lowest part of a client."""

    def __init__(self) -> None:
        self.data = {}
        self.messages: deque[tuple[datetime, str]] = deque(maxlen=8)
        self.enable_reports = True
        self.on_message: Callable[[Routable], None] | None = None
        self.on_problem: Callable[[str, str, str], None] | None = None
        """Called with device, property and a sentence when some of what a server says of a property can't be taken,
        or all of it: once for each property."""
        self.problems: dict[tuple[str, str], str] = {}
        """These sentences since the connection was made, by device and property."""
        self.idle_timer = time.monotonic()
        self.tx_timer: float | None = None
        self._verbose = 1
        self._trace = Trace(logger)
        self._connected = False
        self._stopping = False
        self._stop_asked: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watchers: list[weakref.ref[Watcher]] = []
        self._enabled = Names()  # devices with enabled vectors; others among them go when somebody looks
        self._counts: Counter[str] = Counter()
        self._complaints = Allowance()
        self._faults = Complaints(logger)
        self._unsaid: deque[str] = deque(maxlen=8)
        """Warnings that the receiving task is to give."""
        self._nameless: set[tuple[str | None, str | None]] = set()
        """Properties of which was said that they have members without a name."""

    @property
    def connected(self) -> bool:
        """True from the moment the server took the connection until it is closed and the devices are gone."""
        return self._connected

    @property
    def stop(self) -> bool:
        """True after `shutdown`, and when `asyncrun` has ended."""
        return self._stopping

    @property
    def _stop(self) -> bool:
        """The same, for programs that write `while not self._stop`."""
        return self._stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        self._stopping = value
        if value:
            self._call_soon(self._stop_now)

    async def rxevent(self, event: Any) -> None:
        """Called with every event; override it. While it runs, nothing more is read."""

    def _stop_now(self) -> None:
        if self._stop_asked is not None:
            self._stop_asked.set()
        if self._connection is not None:
            self._connection.wake()

    def _call_soon(self, callback: Any) -> None:
        """Run on the event loop's thread, if the client runs at all."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- telling

    async def _tell(self, event: Any) -> None:
        """Hand an event to the program; what it raises is logged and goes no further."""
        if self._watchers:
            self._notify_watchers(event)
        try:
            await self.rxevent(event)
        except Exception as error:
            self._log_fault(error, "Error in rxevent, handling %s", event.eventtype)

    def _log_fault(self, error: Exception, text: str, *args: object) -> None:
        """Log what went wrong with something that was received; it may go wrong each time."""
        self._faults.say(logging.ERROR, time.monotonic(), text, *args, exc_info=error)

    def _notify_watchers(self, event: Any) -> None:
        for reference in tuple(self._watchers):
            watcher = reference()
            if watcher is not None:
                watcher.notify(event)

    async def report(self, message: str) -> None:
        """Log a text at INFO and, unless `enable_reports` is off, hand it to the program as a message."""
        logger.info(message)
        if self.enable_reports:
            await self._notice(message)

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and hand it to the program as a message."""
        logger.warning(message)
        await self._notice(message)

    async def _complain(self, text: str) -> None:
        """Warn of what was left out; of many such warnings some are not given, but the next that is tells how many."""
        unsaid = self._complaints.ask(time.monotonic())
        if unsaid is not None:
            await self.warning(text + more(unsaid))

    def _complain_soon(self, text: str) -> None:
        """The same for what is no coroutine: the receiving task says it."""
        if len(self._unsaid) == self._unsaid.maxlen:
            self._unsaid.popleft()
            self._complaints.leave_out()
        self._unsaid.append(text)
        if self._connection is not None:
            self._connection.wake()

    def _left_out(self, element: Element, nameless: int, faults: Sequence[str]) -> None:
        """Members of a message were left out, or got a default: count them, and say so once for each property.

        That a name is missing is for the log only: drivers of libindi define such members without meaning anything.
        """
        self._counts["left_out"] += nameless + len(faults)
        if faults:
            text = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
            if self._is_new_problem(element, text):
                self._complain_soon(told_of(element, text))
        elif (element.device, element.name) not in self._nameless and len(self._nameless) < _MOST_PROBLEMS:
            self._nameless.add((element.device, element.name))
            logger.info("%s", told_of(element, f"{nameless} members without a name are left out"))

    def _is_new_problem(self, element: Element, text: str) -> bool:
        """Remember what is wrong with a property; False if it is not the first thing that is, or nobody's property."""
        key = (element.device or "", element.name or "")
        if not element.device or key in self.problems or len(self.problems) >= _MOST_PROBLEMS:
            return False
        self.problems[key] = text
        if self.on_problem is not None:
            try:
                self.on_problem(*key, text)
            except Exception:
                logger.exception("Error in on_problem, handling %s", element.tag)
        return True

    def stats(self) -> dict[str, int]:
        """Counts since the client was made: what came and went, and whatever was refused, skipped or dropped.

        `connections`; `received`, `received_bytes`, `sent` messages; `refused` messages that say what they may not,
        `left_out` members of others (without a name, or with a value that can't be read and has a default then),
        `skipped` pieces and `skipped_bytes` that are no messages, `unknown` messages about devices that were never
        defined, `failed` messages that could not be handled, `faults` of BLOBs that were not saved or inflated,
        `frames_replaced` by newer ones, `not_sent` messages while there was no connection and answers to pings while
        the server read nothing, `timeouts` of vectors, and `warnings_left_out` of those that told of all this.
        """
        connection = self._connection
        counts = dict.fromkeys(COUNTS, 0) | dict(self._counts)
        counts["warnings_left_out"] = self._complaints.left_out
        if connection is not None:
            counts["received"] += connection.received
            counts["received_bytes"] += connection.received_bytes
        return counts

    async def _notice(self, text: str) -> None:
        event = events.Message._notice(text)
        self.messages.appendleft((event.timestamp, text))
        await self._tell(event)

    def debug_verbosity(self, verbose: int) -> None:
        """What the DEBUG log says of the traffic: 0 nothing, 1 start tags, 2 all but BLOB content, 3 all."""
        if verbose not in (0, 1, 2, 3):
            raise ValueError("the verbosity is 0, 1, 2 or 3")
        self._verbose = verbose

    # -- sending

    @property
    def _can_send(self) -> bool:
        return self._connected and not self._stopping

    def _send_now(self, message: Wire) -> None:
        """Queue a message; dropped while not connected or stopping."""
        connection = self._connection
        if connection is None or not self._can_send:
            self._counts["not_sent"] += 1
            return
        connection.send(message)
        self._counts["sent"] += 1
        self.idle_timer = time.monotonic()
        if self.tx_timer is None and message.tag != "enableBLOB":
            self.tx_timer = self.idle_timer
            self._expect_answer()
        if self._verbose and logger.isEnabledFor(logging.DEBUG):
            self._trace.sent(message, self._verbose)

    async def _transmit(self, message: Wire) -> None:
        """Queue a message, and wait while the server is far behind."""
        self._send_now(message)
        if self._connection is not None:
            await self._connection.room()

    def _expect_answer(self) -> None:
        """The server should answer from now on; see `Timers`."""

    def enabledlen(self) -> int:
        """Number of devices that have an enabled vector."""
        return sum(device.enable for device in self.data.values())

    def _any_enabled(self) -> bool:
        """Whether there is any such device: a look at one of them instead of at all, as each deletion asks for it."""
        return self._enabled.any(lambda name: name in self.data and self.data[name].enable)


def told_of(element: Element, text: str) -> str:
    """A sentence about a message, after the device and property it is about."""
    return ": ".join([*(shown(name) for name in (element.device, element.name) if name), text])
