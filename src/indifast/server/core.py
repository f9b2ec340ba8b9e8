"""The running server: the router, the streams and drivers around it, and the few timers they need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Callable, Sequence

from indifast.protocol.complaints import Complaints
from indifast.protocol.limits import Limits
from indifast.protocol.message import Routable
from indifast.protocol.shown import shown
from indifast.routing.outbox import Outbox, Property
from indifast.routing.peer import MAX_LOGGED, Kind, Peer
from indifast.routing.router import Router
from indifast.server.connections import Connection
from indifast.transport.incoming import most_unfinished
from indifast.transport.loop import end_of_turn
from indifast.transport.stream import Stream, read_buffer

logger = logging.getLogger(__name__)

READ_TIMEOUT = 120.0
"""Seconds for which a peer may take nothing of what waits for it."""

COMMAND_TIMEOUT = 30.0
"""Seconds for which a client whose command does not fit into a driver's queue is kept waiting."""

_ASK_TICK = 0.05  # seconds after which to look again at what is held back, at the latest
_CHECKS_PER_TIMEOUT = 4


class Core:
    """Connects streams and drivers in this process with the router, for as long as the server runs.

    Everything happens on the event loop's thread. What is received in one turn of the loop is written at the end of it:
    one wake-up and one write per peer. So whoever hears an answer can rely on it that all that came to the server
    before the question is done: a connection accepted, the end of another one noticed and its descriptors closed.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        accept_links: bool = True,
        newest_wins: bool = False,
        read_timeout: float = READ_TIMEOUT,
        command_timeout: float = COMMAND_TIMEOUT,
    ) -> None:
        self.limits = limits
        self.newest_wins = newest_wins
        self.newest_wins_of: frozenset[Property] = frozenset()
        self.read_timeout = read_timeout
        self.command_timeout = command_timeout
        self.loop = asyncio.get_running_loop()
        self._at_end_of_turn = end_of_turn(self.loop)
        self.router = Router(
            accept_links=accept_links, on_pause=self._pause, on_resume=self._resume, on_dirty=self._flush_soon
        )
        self.router.on_held = self._ask_later
        self._asking: asyncio.TimerHandle | None = None
        self.connections: dict[Peer, Connection] = {}
        self.complaints = Complaints(logger)
        """Of what peers do; each one's own limit begins anew whenever it connects."""
        self.tap: Callable[[str, Peer, Routable], None] | None = None
        """Told "from" or "to", the peer, and each message that it says or is told. To be set before any peer comes."""
        self.held = 0
        """Bytes of all unfinished elements."""
        self.max_held = most_unfinished(limits)
        self._wakes: dict[Peer, Callable[[], None]] = {}
        self._flush_due = False
        self._read_from: list[Connection] = []
        self._check: asyncio.TimerHandle | None = None
        self._waiting_since: dict[Peer, float] = {}
        self._closed = False

    # -- peers

    def carry(
        self, peer: Peer, stream: Stream, on_lost: Callable[[Exception | None], None], *, forgiving: bool = False
    ) -> None:
        """Attach the peer unless it is already, ask it for its devices, and move bytes between it and the stream.

        `on_lost` is called once, when the stream has ended. `forgiving`: a BLOB that comes without its descriptor costs
        that message, not the connection.
        """
        connection = Connection(self, peer, stream, on_lost, forgiving=forgiving)
        self.connections[peer] = connection
        self.attach(peer, stream.wake)
        if isinstance(peer.outbox, Outbox):
            peer.outbox.on_overflow = connection.overflow
        if peer.kind is not Kind.CLIENT:
            self.router.start(peer, time.monotonic())
        stream.start(connection, peer.outbox)

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """A peer takes part; `wake` tells it that its outbox has something."""
        self._wakes[peer] = wake
        if peer not in self.router.peers:
            peer.outbox.on_drop = lambda message, how: self._log_loss(peer, message, how)
            if self.tap is not None:
                self._tap_outbox(peer, self.tap)
            self.router.attach(peer)

    def lose(self, peer: Peer) -> None:
        """A driver or link is gone but may come back: its devices vanish, what it snoops on is remembered."""
        self._forget(peer)
        self.router.lose(peer, time.monotonic())

    def remove(self, peer: Peer) -> None:
        """A peer is gone for good."""
        self._forget(peer)
        if isinstance(peer.outbox, Outbox):
            peer.outbox.on_overflow = None  # routes may know the outbox for a while; the connection should go now
        self._waiting_since.pop(peer, None)
        self.router.detach(peer, time.monotonic())

    def _forget(self, peer: Peer) -> None:
        self._wakes.pop(peer, None)
        connection = self.connections.pop(peer, None)
        if connection is not None:
            connection.stream.abort()

    def new_outbox(self, *, attached: bool = False) -> Outbox:
        """An outbox towards a client or a link, with this server's limits."""
        outbox = Outbox(self.limits, attached=attached, newest_wins=self.newest_wins)
        outbox.newest_wins_of = self.newest_wins_of
        return outbox

    def _log_loss(self, peer: Peer, message: Routable, how: str) -> None:
        """Once per peer, property and kind of loss; the counters tell how many."""
        key = (f"{how} {message.name}", message.device)
        if key not in peer.logged and len(peer.logged) < MAX_LOGGED:
            peer.logged.add(key)
            self.complaints.say(
                logging.WARNING,
                time.monotonic(),
                "%s reads too slowly: %s of %s.%s %s, %d bytes behind",
                peer.label,
                message.tag,
                shown(message.device),
                shown(message.name),
                how,
                peer.outbox.queued,
            )

    def _tap_outbox(self, peer: Peer, tap: Callable[[str, Peer, Routable], None]) -> None:
        """Have everything reported that is put into the outbox of a peer."""
        for method in ("append", "append_replaceable", "expedite"):
            put = getattr(peer.outbox, method, None)
            if put is not None:

                def put_and_tell(message: Routable, *args: object, put: Callable[..., None] = put) -> None:
                    tap("to", peer, message)
                    put(message, *args)

                setattr(peer.outbox, method, put_and_tell)

    # -- batches

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        """Route what one read brought. What comes of it is written at the end of this turn of the loop."""
        now = time.monotonic()
        receive = self.router.receive
        self._read_from.append(connection)
        if not self._flush_due:
            self._flush_soon()
        for message in messages:
            if self.tap is not None:
                self.tap("from", peer, message)
            receive(peer, message, now)

    def flush(self) -> None:
        """Wake those who have something new to be told; then stop reading those who go too fast for them."""
        self._flush_due = False
        for peer in self.router.take_dirty():
            wake = self._wakes.get(peer)
            if wake is not None:
                wake()
        for connection in self._read_from:
            connection.keep_pace()
        self._read_from.clear()
        if self._check is None and not self._closed:
            self._schedule_check()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._at_end_of_turn(self.flush)

    def _ask_later(self) -> None:
        """Requests for definitions are held back: send them by and by."""
        if self._asking is None and not self._closed:
            # Another one's requests may be due earlier than those that the timer was set for.
            self._asking = self.loop.call_later(min(self.router.ask_interval, _ASK_TICK), self._ask_held)

    def _ask_held(self) -> None:
        self._asking = None
        if self.router.ask_held(time.monotonic()):
            self._ask_later()

    # -- what takes too long

    def watch(self) -> None:
        """Something has begun that should not take for ever."""
        if self._check is None and not self._closed:
            self._schedule_check()

    def _schedule_check(self) -> None:
        interval = min(self.read_timeout, self.command_timeout) / _CHECKS_PER_TIMEOUT
        self._check = self.loop.call_later(interval, self._check_all)

    def _check_all(self) -> None:
        """End the connections that have stood still for too long; look again later if any might."""
        self._check = None
        now = time.monotonic()
        again = False
        for peer, connection in list(self.connections.items()):
            if peer.outbox.queued:
                again = True
                if peer.kind is not Kind.DRIVER and peer.outbox.stalled(now, self.read_timeout):
                    connection.end(f"has read nothing for {self.read_timeout:g} s, {peer.outbox.queued} bytes behind")
                    continue
            since = self._waiting_since.get(peer)
            if since is not None:
                again = True
                if now - since > self.command_timeout:
                    names = ", ".join(driver.label for driver in peer.waits_for)
                    connection.end(f"has sent more commands than {names} took in {self.command_timeout:g} s")
        if again and not self._closed:
            self._schedule_check()

    def hold(self, change: int) -> None:
        """Unfinished elements have grown by so many bytes; the largest is refused when they take too much together."""
        self.held += change
        while self.held > self.max_held:
            largest = max(self.connections.values(), key=lambda connection: connection.held, default=None)
            if largest is None or not largest.held:
                return
            text = "%s: unfinished element of %d bytes refused"
            self.complaints.say(logging.WARNING, time.monotonic(), text, largest.peer.label, largest.held)
            largest.abandon()

    # -- pauses

    def _pause(self, peer: Peer) -> None:
        self._waiting_since[peer] = time.monotonic()
        self.watch()
        connection = self.connections.get(peer)
        if connection is not None:
            connection.pause("command")

    def _resume(self, peer: Peer) -> None:
        self._waiting_since.pop(peer, None)
        connection = self.connections.get(peer)
        if connection is not None:
            connection.resume("command")

    def close(self) -> None:
        """No more timers, no more frames."""
        self._closed = True
        for timer in (self._check, self._asking):
            if timer is not None:
                timer.cancel()
        self._check = self._asking = None
        read_buffer().give_back()


def raise_descriptor_limit() -> None:
    """As many connections as the system allows: the soft limit of descriptors becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
