"""The running server: the router, the streams and drivers around it, and the few timers they need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Callable, Sequence

from indifast.protocol.complaints import Complaints
from indifast.protocol.escape import for_log
from indifast.protocol.limits import Limits
from indifast.protocol.message import Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.frames import Property
from indifast.routing.peer import Kind, Peer
from indifast.routing.queuelistener import Loss
from indifast.routing.router import Router
from indifast.routing.routerlistener import RouterListener
from indifast.routing.tap import TapFunction
from indifast.server.connections import Connection
from indifast.transport.incoming import most_unfinished
from indifast.transport.loop import end_of_turn
from indifast.transport.stream import Stream, read_buffer

logger = logging.getLogger(__name__)

READ_TIMEOUT = 120.0
"""Seconds for which a peer may take nothing of what waits for it."""

COMMAND_TIMEOUT = 30.0
"""Seconds for which a client whose command does not fit into a driver's queue is kept waiting."""

_HELD_TICK = 0.05  # seconds after which to look again at what is held back, at the latest
_CHECKS_PER_TIMEOUT = 4


class Hub(RouterListener):
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
        tap: TapFunction | None = None,
    ) -> None:
        """`tap` sees all traffic."""
        self.limits = limits
        self.newest_wins = newest_wins
        self.newest_wins_of: frozenset[Property] = frozenset()
        self.read_timeout = read_timeout
        self.command_timeout = command_timeout
        self.loop = asyncio.get_running_loop()
        self._at_end_of_turn = end_of_turn(self.loop)
        self.router = Router(self, accept_links=accept_links, tap=tap)
        self._tap = tap
        self.route = self.router.receive if tap is None else self._route_tapped
        """Takes one message from a peer: who, message, when."""
        self.demand = self.router.demand
        self.outrun = self.router.outrun
        self._held: asyncio.TimerHandle | None = None
        self.connections: dict[Peer, Connection] = {}
        self._complaints = Complaints(logger)
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
        if peer.kind is not Kind.CLIENT:
            self.router.start(peer, time.monotonic())
        stream.start(connection, peer.outbox)

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """A peer takes part; `wake` tells it that its outbox has something."""
        self._wakes[peer] = wake
        if peer not in self.router.peers:
            self.router.attach(peer)

    def lose(self, peer: Peer) -> None:
        """A driver or link is gone but may come back: its devices vanish, what it snoops on is remembered."""
        self._forget(peer)
        self.router.lose(peer, time.monotonic())

    def remove(self, peer: Peer) -> None:
        """A peer is gone for good."""
        self._forget(peer)
        self.router.detach(peer, time.monotonic())

    def _forget(self, peer: Peer) -> None:
        self._wakes.pop(peer, None)
        self._waiting_since.pop(peer, None)  # if it comes back, it begins anew
        connection = self.connections.pop(peer, None)
        if connection is not None:
            connection.stream.abort()

    def ended(self, connection: Connection) -> None:
        """The stream of a connection is over."""
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]

    def new_outbox(self, *, attached: bool = False) -> Outbox:
        """An outbox towards a client or a link, with this server's limits."""
        outbox = Outbox(self.limits, attached=attached, newest_wins=self.newest_wins)
        outbox.newest_wins_of = self.newest_wins_of
        return outbox

    def tell_clients(self, text: str) -> None:
        """Tell the users of all clients something that belongs to no device."""
        from indifast.protocol.timestamps import timestamp_text  # and with it datetime: not at every start

        self.router.tell_clients(text, time.monotonic(), timestamp_text())

    # -- what peers do

    def complain(self, level: int, text: str, *args: object) -> None:
        """Log it, at a limited rate."""
        self._complaints.say(level, time.monotonic(), text, *args)

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str) -> None:
        """A message of the peer can't be obeyed: count it, log it, and tell the peer if it is a client."""
        self.router.refuse(peer, reason, device, text, time.monotonic())

    def count_refused(self, peer: Peer, reason: str) -> None:
        """Count something of the peer that is not obeyed."""
        peer.refused[reason] += 1
        self.router.refused[reason] += 1

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """Log it once per peer, property and kind of loss; the counters tell how many."""
        if peer.to_be_logged(f"{how} {message.name}", message.device):
            self.complain(
                logging.WARNING,
                "%s reads too slowly: %s of %s.%s %s, %d bytes behind",
                peer.label,
                message.tag,
                for_log(message.device),
                for_log(message.name),
                how,
                peer.outbox.queued,
            )

    def on_overflow(self, peer: Peer) -> None:
        """It is disconnected."""
        connection = self.connections.get(peer)
        if connection is not None:
            connection.overflow()

    # -- batches

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        """Route what one read brought. What comes of it is written at the end of this turn of the loop."""
        now = time.monotonic()
        route = self.route
        self._read_from.append(connection)
        if not self._flush_due:
            self.on_dirty()
        for message in messages:
            route(peer, message, now)

    def _route_tapped(self, peer: Peer, message: Routable, now: float) -> None:
        assert self._tap is not None
        self._tap("from", peer, message)
        self.router.receive(peer, message, now)

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

    def on_dirty(self) -> None:
        """Write what there is at the end of this turn of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self._at_end_of_turn(self.flush)

    def on_held(self) -> None:
        """See `RouterListener`."""
        if self._held is None and not self._closed:
            # Another one's requests may be due earlier than those that the timer was set for.
            self._held = self.loop.call_later(min(self.router.held_for, _HELD_TICK), self._send_held)

    def _send_held(self) -> None:
        self._held = None
        if self.router.send_held(time.monotonic()):
            self.on_held()

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
            self.complain(logging.WARNING, text, largest.peer.label, largest.held)
            largest.abandon()

    # -- pauses

    def on_pause(self, peer: Peer) -> None:
        """It is not read, but not for longer than `command_timeout`."""
        self._waiting_since[peer] = time.monotonic()
        self.watch()
        connection = self.connections.get(peer)
        if connection is not None:
            connection.pause("command")

    def on_resume(self, peer: Peer) -> None:
        """It is read again."""
        self._waiting_since.pop(peer, None)
        connection = self.connections.get(peer)
        if connection is not None:
            connection.resume("command")

    def close(self) -> None:
        """No more timers, no more frames."""
        self._closed = True
        for timer in (self._check, self._held):
            if timer is not None:
                timer.cancel()
        self._check = self._held = None
        read_buffer().give_back()


def raise_descriptor_limit() -> None:
    """As many connections as the system allows: the soft limit of descriptors becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
