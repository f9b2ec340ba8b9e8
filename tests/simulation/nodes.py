"""Servers: the real `IPyServer`, with all that it says and hears written down."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from indifast.protocol.limits import Limits
from indifast.protocol.message import Routable
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.queuelistener import Loss
from indifast.routing.rings import RING_CHECK
from indifast.server.exdriver import ExDriver
from indifast.server.hub import Hub
from indifast.server.ipyserver import IPyServer
from indifast.transport.stream import Stream
from tests.simulation.journal import Journal, Mismatch
from tests.simulation.ledger import Mark
from tests.simulation.network import Connection
from tests.simulation.rules import Rules, Verdict

if TYPE_CHECKING:
    from tests.simulation.site import Site


UNCOUNTED = ("getProperties", "enableBLOB")


@dataclass(frozen=True)
class Settings:
    """How the servers of a site are set up."""

    limits: Limits
    driver_room: int = 4 << 10
    """Bytes towards a driver at which clients have to wait."""
    newest_wins: bool = False
    accept_links: bool = True
    read_timeout: float = 20.0
    command_timeout: float = 6.0
    keepalive: float = 0.0


@dataclass(eq=False)
class Routing:
    """One message that a server takes, and whom it tells."""

    peer: Peer
    message: Routable
    mark: Mark
    frame: bool
    verdict: Verdict | None = None
    commanded: Peer | None = None
    """The owner of the device of a command."""
    withdrawn: list[str] = field(default_factory=list)
    """Devices that the peer is to be told are gone."""
    told: list[tuple[Peer, Mark]] = field(default_factory=list)
    lost: int = 0
    """Messages that were given up meanwhile."""


def is_frame(message: Routable) -> bool:
    """Whether a message is one that queues may drop."""
    return message.blob and message.tag == "setBLOBVector"


def _unmeasured(method: Callable[..., None]) -> Callable[..., None]:
    """Leave a method out of what a message is said to cost."""

    @functools.wraps(method)
    def wrapped(*args: Any) -> None:
        trace = sys.gettrace()
        if trace is None:
            method(*args)
            return
        sys.settrace(None)
        try:
            method(*args)
        finally:
            sys.settrace(trace)

    return wrapped


class ObservedHub(Hub):
    """The hub, whose node is told of everything."""

    node: Node

    def carry(
        self,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool = False,
        compress: str | None = None,
    ) -> None:
        self.node.connected(peer, stream)
        super().carry(peer, stream, on_lost, forgiving=forgiving, compress=compress)

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        self.node.attached(peer)
        super().attach(peer, wake)

    def lose(self, peer: Peer) -> None:
        with self.node.losing(self, peer, gone=False):
            super().lose(peer)

    def remove(self, peer: Peer) -> None:
        with self.node.losing(self, peer, gone=True):
            super().remove(peer)

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        self.node.lost(peer, message, how)
        super().on_lost(peer, message, how)

    def on_overflow(self, peer: Peer) -> None:
        self.node.overflowed[peer.label] += 1
        super().on_overflow(peer)

    def on_pause(self, peer: Peer) -> None:
        connection = self.connections.get(peer)
        if connection is not None:
            self.node.site.excuse(connection_of(connection.stream), "it has sent more commands than a driver reads")
        super().on_pause(peer)

    def flush(self) -> None:
        super().flush()
        for check in self.node.site.on_flushed:
            check(self.node)

    def _route_tapped(self, peer: Peer, message: Routable, now: float) -> None:
        if self.node.too_late(peer, message):
            return
        with self.node.routing_of(peer, message):
            super()._route_tapped(peer, message, now)


class ObservedServer(IPyServer):
    """The server with a hub of ours."""

    node: Node

    def _indifast_tap(self) -> Any:
        return self.node.tap

    def _indifast_make_hub(self) -> Hub:
        hub = super()._indifast_make_hub()
        assert isinstance(hub, ObservedHub)
        hub.node = self.node
        self.node.begin(hub)
        return hub


class Node:
    """One server of the site: running, or gone for a while."""

    def __init__(self, site: Site, name: str, settings: Settings) -> None:
        self.site = site
        self.name = name
        self.settings = settings
        self.server: ObservedServer | None = None
        self.hub: ObservedHub | None = None
        self.rules: Rules
        self.outgoing: dict[Peer, Journal] = {}
        self.incoming: dict[Peer, Journal] = {}
        self.received: Counter[Peer] = Counter()
        self.overflowed: Counter[str] = Counter()
        self.returned: set[Peer] = set()
        """Peers that were lost before: their counters go on."""
        self.routing: Routing | None = None
        self._losing: list[tuple[Peer, Mark]] | None = None
        self._task: asyncio.Task[None] | None = None
        self.links: list[tuple[str, bool, str | None]] = []
        """The links that this server makes, whether BLOBs pass, and the device, if it is for one."""

    def __repr__(self) -> str:
        return f"<server {self.name}>"

    @property
    def up(self) -> bool:
        return self.server is not None and self.hub is not None

    # Life

    async def start(self) -> None:
        """Start the server, and what belongs to it."""
        if self.server is not None:
            return
        settings = self.settings
        server = self.server = ObservedServer(
            port=None,
            maxconnections=90,
            limits=settings.limits,
            accept_links=settings.accept_links,
            newest_wins=settings.newest_wins,
            read_timeout=settings.read_timeout,
            command_timeout=settings.command_timeout,
            senders=0,  # streams have `ModelledSenders`
            compress=self.site.compress,
        )
        server.node = self
        server.keepalive = settings.keepalive
        for title, blobs, device in self.links:
            server.add_remote(title, 1, blobs, device=device)
        self._task = asyncio.get_running_loop().create_task(server.asyncrun(), name=f"server {self.name}")
        await server.ready()

    def link(self, title: str, blobs: bool, device: str | None) -> None:
        """Link this server to another one."""
        self.links.append((title, blobs, device))
        if self.server is not None:
            self.server.add_remote(title, 1, blobs, device=device)

    def begin(self, hub: ObservedHub) -> None:
        """The server runs."""
        self.hub = hub
        self.rules = Rules(hub.router._id, self.settings.accept_links)
        self.outgoing.clear()
        self.incoming.clear()
        self.received.clear()
        self.returned.clear()

    async def stop(self) -> None:
        """Shut the server down in good order."""
        if self.server is None:
            return
        server, task = self.server, self._task
        self.server = None
        server.shutdown()
        assert task is not None
        try:
            await task
        finally:
            self.hub = None
            for journal in self.outgoing.values():
                journal.broken = True
            self.outgoing.clear()
            self.incoming.clear()
            self.received.clear()
            self.returned.clear()
            del self.rules

    async def crash(self) -> None:
        """End the server as a lost machine ends: all its connections are cut."""
        if self.hub is not None:
            for connection in list(self.hub.connections.values()):
                connection_of(connection.stream).cut()
        await self.stop()

    def accept(self, connection: Connection) -> None:
        """A client or another server has connected."""
        stream = self.site.stream(connection, 1, connection.name)
        if self.server is None or self.hub is None:
            stream.abort()
            return
        self.server._indifast_accept(stream)

    # What the hub does

    def attached(self, peer: Peer) -> None:
        self.rules.attach(peer)
        self.site.peers.add(peer)
        if peer not in self.outgoing:
            self.outgoing[peer] = self._new_journal(peer)

    def _new_journal(self, peer: Peer) -> Journal:
        return Journal(f"{self.name} to {peer.label}", replaceable=peer.kind is Kind.DRIVER)

    def connected(self, peer: Peer, stream: Stream) -> None:
        """A peer has a stream now."""
        self.attached(peer)
        connection, side = connection_of(stream), stream.socket.side  # type: ignore[attr-defined]
        journal = connection.journals[side]
        journal.take_over(self.outgoing[peer])
        self.outgoing[peer] = journal
        self.incoming[peer] = connection.journals[1 - side]
        self.rules.start(peer)

    @contextlib.contextmanager
    def losing(self, hub: ObservedHub, peer: Peer, *, gone: bool) -> Iterator[None]:
        """A peer is lost or removed within this block."""
        if hub is not self.hub or peer not in hub.router.peers:
            yield
            return
        expected = self.rules.lose(peer, gone=gone)
        told = self._losing = []
        journal = self.outgoing.pop(peer, None)
        if journal is not None:
            journal.broken = True
        if gone:
            self.incoming.pop(peer, None)
            self.received.pop(peer, None)
            self.returned.discard(peer)
        else:
            self.outgoing[peer] = self._new_journal(peer)
            self.returned.add(peer)
        try:
            yield
        finally:
            self._losing = None
        for check in self.site.on_gone:
            check(self, peer, expected, told)

    @_unmeasured
    def lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """A queue gives a message up."""
        if self.routing is not None:
            self.routing.lost += 1
        mark = self.site.mark(message)
        try:
            entry = self.outgoing[peer].lose(mark, how)
        except Mismatch as mismatch:
            self.site.fail(mismatch.invariant, str(mismatch))
            return
        for check in self.site.on_lost:
            check(self, peer, message, entry, how)

    def too_late(self, peer: Peer, message: Routable) -> bool:
        """Take a message of a driver that was meant to be forged, if the device has no owner any more.

        The driver would become the owner, and nothing be forged.
        """
        mark = self.site.mark(message)
        said = self.site.ledger.find(mark.what)
        if said is None or not said.forged or peer.kind is not Kind.DRIVER or mark.device in self.rules.owners:
            return False
        journal = self.incoming.get(peer)
        if journal is not None:
            self.site.arrive(journal, self, mark, message, is_frame(message))
        return True

    @contextlib.contextmanager
    def routing_of(self, peer: Peer, message: Routable) -> Iterator[None]:
        """A message is routed within this block."""
        mark, frame = self.site.mark(message), is_frame(message)
        self.received[peer] += 1
        self.site.messages += 1
        journal = self.incoming.get(peer)
        if journal is not None:
            self.site.arrive(journal, self, mark, message, frame)
        routing = Routing(peer, message, mark, frame)
        if message.tag.startswith("new"):
            routing.commanded = self.rules.command(peer, message)
        else:
            routing.verdict = self.rules.hear(peer, message, frame)
            routing.withdrawn = self.rules.withdrawn
        self.routing = routing
        try:
            with self.site.measured(self, routing):
                yield
        finally:
            self.routing = None
        for check in self.site.on_routed:
            check(self, routing)

    @_unmeasured
    def tap(self, direction: str, peer: Peer, message: Routable) -> None:
        """See what peers are told."""
        if direction == "from":
            return
        mark = self.site.mark(message)
        entry = self.outgoing[peer].tell(
            mark,
            frame=is_frame(message),
            blob=message.blob,
            size=message.size,
            carried=message.carried,
            formats=message.formats,
        )
        passed_on = self.routing is not None and mark == self.routing.mark and mark.tag not in UNCOUNTED
        if mark.device not in (None, RING_CHECK) and (passed_on or mark.tag == "delProperty"):
            entry.counted = True
        if self.routing is not None:
            self.routing.told.append((peer, mark))
        elif self._losing is not None:
            self._losing.append((peer, mark))
        for check in self.site.on_told:
            check(self, peer, entry, message)


def connection_of(stream: Stream) -> Connection:
    """Return the modelled connection below a stream."""
    connection: Connection = stream.socket.connection  # type: ignore[attr-defined]
    return connection


class SmallExDriver(ExDriver):
    """External driver with a small queue."""

    room = 4 << 10

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.peer = Peer(Kind.DRIVER, self.peer.label, DriverOutbox(self.room, terminator=b"\n"))
