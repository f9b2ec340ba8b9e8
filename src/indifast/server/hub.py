"""The running server: the router, the streams and drivers connected to it, and the timers that they need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Callable, Sequence

from indifast.protocol.complaints import Complaints
from indifast.protocol.compress import AUTO
from indifast.protocol.escape import for_log
from indifast.protocol.limits import Limits
from indifast.protocol.message import INLINE, Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.frames import Property
from indifast.routing.peer import Kind, Peer
from indifast.routing.queuelistener import Loss
from indifast.routing.router import Router
from indifast.routing.routerlistener import RouterListener
from indifast.routing.tap import TapFunction
from indifast.server.connections import Connection
from indifast.server.metrics import Labels, Traffic
from indifast.transport.incoming import most_unfinished
from indifast.transport.loop import end_of_turn
from indifast.transport.packing import wanted
from indifast.transport.rawframes import offer
from indifast.transport.senders import make_senders
from indifast.transport.stream import Stream, read_buffer

logger = logging.getLogger(__name__)

READ_TIMEOUT = 120.0
"""Seconds for which a peer may read nothing of what is queued for it."""

COMMAND_TIMEOUT = 30.0
"""Seconds for which a client is kept waiting if its command does not fit into a driver's queue."""

_HELD_TICK = 0.05  # maximum seconds between checks of what is held back
_CHECKS_PER_TIMEOUT = 4


class Hub(RouterListener):
    """Connects streams, and drivers in this process, to the router for as long as the server runs.

    Everything happens on the event loop's thread. What is received in one iteration of the loop is written at its end,
    with one wake-up and one write per peer. So a peer that gets an answer knows that everything that reached the server
    before its question has been handled: connections have been accepted, and ended ones closed with their descriptors.

    The arguments are those of `IPyServer`, and `tap`, which is called with all messages.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        accept_links: bool = True,
        newest_wins: bool = False,
        read_timeout: float = READ_TIMEOUT,
        command_timeout: float = COMMAND_TIMEOUT,
        senders: int | None = None,
        raw_frames: bool = True,
        compress: str = AUTO,
        tap: TapFunction | None = None,
    ) -> None:
        self.limits = limits
        self.newest_wins = newest_wins
        self.newest_wins_of: frozenset[Property] = frozenset()
        self.read_timeout = read_timeout
        self.command_timeout = command_timeout
        self.raw_frames = raw_frames
        self.compress = compress
        self.loop = asyncio.get_running_loop()
        self.senders = make_senders(senders)
        """The threads that write frames."""
        self._at_end_of_turn = end_of_turn(self.loop)
        self.router = Router(self, accept_links=accept_links, tap=tap)
        self._tap = tap
        self.route = self.router.receive if tap is None else self._route_tapped
        """Function that routes one message; its arguments are the sender, the message and the time."""
        self.demand = self.router.demand
        self.outrun = self.router.outrun
        self._held: asyncio.TimerHandle | None = None
        self.connections: dict[Peer, Connection] = {}
        self._complaints = Complaints(logger)
        self._device_labels = Labels()
        self._gone = Traffic(self._device_labels)  # that of peers that are gone
        self.held = 0
        """Bytes of all unfinished elements."""
        self.max_held = most_unfinished(limits)
        self._wakes: dict[Peer, Callable[[], None]] = {}
        self._flush_due = False
        self._read_from: list[Connection] = []
        self._check: asyncio.TimerHandle | None = None
        self._waiting_since: dict[Peer, float] = {}
        self._closed = False

    # -- Peers

    def carry(
        self,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool = False,
        compress: str | None = None,
    ) -> None:
        """Attach the peer unless it is attached already, ask it for its devices, and connect it to the stream.

        Args:
            peer: The peer.
            stream: The stream that carries its messages.
            on_lost: Called once, when the stream has ended.
            forgiving: Whether a BLOB without its descriptor costs only that message, and not the connection.
            compress: How frames are compressed; None for what holds for all connections.
        """
        compress = self.compress if compress is None else compress
        connection = Connection(self, peer, stream, on_lost, forgiving=forgiving, compress=compress)
        self.connections[peer] = connection
        if self.senders is not None:
            stream.senders = self.senders
        self.attach(peer, stream.wake)
        if peer.kind is Kind.REMOTE and not stream.local:
            peer.outbox.form = INLINE  # a new connection begins anew
            self.forms_changed()
            if self.raw_frames:
                peer.outbox.instruct(offer(wanted(compress, stream)()), time.monotonic())
        if peer.kind is not Kind.CLIENT:
            self.router.start(peer, time.monotonic())
        stream.start(connection, peer.outbox)

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """Attach a peer to the router. `wake` is called when there is something in its outbox."""
        self._wakes[peer] = wake
        if peer not in self.router.peers:
            self.router.attach(peer)

    def forms_changed(self) -> None:
        """Note that a peer is sent BLOBs in another form from now on."""
        self.router.peers.changed()

    def lose(self, peer: Peer) -> None:
        """Note that a driver or link is gone but may return: delete its devices, but remember what it snoops on."""
        self._forget(peer)
        self.router.lose(peer, time.monotonic())

    def remove(self, peer: Peer) -> None:
        """Remove a peer for good."""
        self._forget(peer)
        if peer in self.router.peers:
            self._gone.add(peer)
        self.router.detach(peer, time.monotonic())

    def traffic(self) -> tuple[Traffic, dict[str, int]]:
        """Return what all peers have sent and been sent so far, and the number of updates by device."""
        updates = self.router.traffic()
        total = Traffic(self._device_labels, self._gone)
        for peer in self.router.peers:
            total.add(peer)
        return total, self._device_labels.sums((device, count) for (device, _), count in updates.items())

    def _forget(self, peer: Peer) -> None:
        self._wakes.pop(peer, None)
        self._waiting_since.pop(peer, None)  # if the peer returns, its time starts anew
        connection = self.connections.pop(peer, None)
        if connection is not None:
            connection.stream.abort()

    def ended(self, connection: Connection) -> None:
        """Note that the stream of a connection has ended."""
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]

    def new_outbox(self, *, attached: bool = False) -> Outbox:
        """Return an outbox for a client or a link, with this server's limits."""
        outbox = Outbox(self.limits, attached=attached, newest_wins=self.newest_wins)
        outbox.newest_wins_of = self.newest_wins_of
        return outbox

    def tell_clients(self, text: str) -> None:
        """Send all clients a message for their users that belongs to no device."""
        from indifast.protocol.timestamps import timestamp_text  # imports datetime, which the start should not wait for

        self.router.tell_clients(text, time.monotonic(), timestamp_text())

    # -- What peers do

    def complain(self, level: int, text: str, *args: object) -> None:
        """Log what a peer does, at a limited rate."""
        self._complaints.say(level, time.monotonic(), text, *args)

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str) -> None:
        """Count and log a refused message of the peer, and tell the peer if it is a client."""
        self.router.refuse(peer, reason, device, text, time.monotonic())

    def count_refused(self, peer: Peer, reason: str) -> None:
        """Count something from the peer that is refused."""
        peer.refused[reason] += 1
        self.router.refused[reason] += 1

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """Log a lost message, once per peer, property and kind of loss. The counters say how many were lost."""
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
        """Disconnect a peer that is too far behind."""
        connection = self.connections.get(peer)
        if connection is not None:
            connection.overflow()

    # -- Batches

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        """Route the messages of one read. The results are written at the end of this iteration of the loop."""
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
        """Wake all peers that have new messages, then stop reading producers that are too fast for their readers."""
        self._flush_due = False
        for peer in self.router.take_dirty():
            wake = self._wakes.get(peer)
            if wake is not None:
                try:
                    wake()
                except MemoryError:  # that of a driver in this process
                    self.router.mark_dirty(peer)
                    self.on_dirty()
                if peer.outbox.queued and self._check is None and peer in self.connections:
                    self.watch()
        for connection in self._read_from:
            connection.keep_pace()
        self._read_from.clear()

    def on_dirty(self) -> None:
        """Schedule a `flush` for the end of this iteration of the loop."""
        if not self._flush_due:
            self._at_end_of_turn(self.flush)
            self._flush_due = True  # not before: without memory, this is tried again with the next message

    def on_held(self) -> None:
        """Schedule the sending of what the router holds back."""
        if self._held is None and not self._closed:
            # The requests of another peer may be due earlier than those that the timer was set for.
            self._held = self.loop.call_later(min(self.router.held_for, _HELD_TICK), self._send_held)

    def _send_held(self) -> None:
        self._held = None
        if self.router.send_held(time.monotonic()):
            self.on_held()

    # -- Timeouts

    def watch(self) -> None:
        """Check for timeouts from now on, as something has begun that should not take forever."""
        if self._check is None and not self._closed:
            self._schedule_check()

    def _schedule_check(self) -> None:
        interval = min(self.read_timeout, self.command_timeout) / _CHECKS_PER_TIMEOUT
        self._check = self.loop.call_later(interval, self._check_all)

    def _check_all(self) -> None:
        """End the connections that have timed out, and check again later if any others might."""
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
        """Note that unfinished elements have grown by `change` bytes. If they exceed the limit, refuse the largest."""
        self.held += change
        while self.held > self.max_held:
            largest = max(self.connections.values(), key=lambda connection: connection.held, default=None)
            if largest is None or not largest.held:
                return
            text = "%s: unfinished element of %d bytes refused"
            self.complain(logging.WARNING, text, largest.peer.label, largest.held)
            largest.abandon()

    # -- Pauses

    def on_pause(self, peer: Peer) -> None:
        """Stop reading a peer, for at most `command_timeout` seconds."""
        self._waiting_since[peer] = time.monotonic()
        self.watch()
        connection = self.connections.get(peer)
        if connection is not None:
            connection.pause("command")

    def on_resume(self, peer: Peer) -> None:
        """Read a peer again."""
        self._waiting_since.pop(peer, None)
        connection = self.connections.get(peer)
        if connection is not None:
            connection.resume("command")

    def close(self) -> None:
        """Cancel the timers, end the sending threads, and free the unused receive buffers."""
        self._closed = True
        for timer in (self._check, self._held):
            if timer is not None:
                timer.cancel()
        self._check = self._held = None
        if self.senders is not None:
            self.senders.close()
        read_buffer().give_back()


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard limit, to allow as many connections as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
