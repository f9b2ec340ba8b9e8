"""Routes: where updates of one kind about one property go, remembered until anything changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from indifast.protocol.message import Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.frames import Property
from indifast.routing.peer import Append, Peer, Peers, Route, RouteKey

_MAX_ROUTES = 20_000  # kinds of message remembered per peer
_MAX_FRAMES = 256  # properties with frames, of all peers, whose receivers are remembered
_SMALL_BACKLOG = 1 << 20  # bytes of messages without BLOBs at which a reader counts as outrun


class Routes:
    """The routes of all peers (`Peer.routes`), and how many messages took them.

    Each message is counted on its route. The counts of the receivers are only updated once in a while, not with each
    message.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._passed: Counter[Property] = Counter()
        self._frames: dict[tuple[Peer, str | None, str | None], Sequence[tuple[Peer, Append]]] = {}
        self._frames_version = -1

    def renew(self, peer: Peer, message: Routable, receivers: Iterable[tuple[Peer, Append]]) -> Route:
        """Let messages like this one go to these receivers from now on, and return their route."""
        key: RouteKey = (message.tag, message.device, message.name)
        route = peer.routes.get(key)
        if route is None:
            if len(peer.routes) >= _MAX_ROUTES:
                self.forget(peer)
            route = peer.routes[key] = Route()
        self._add_up(key, route)
        found = list(receivers)
        route.receivers = tuple(other for other, _ in found)
        route.appends = tuple(append for _, append in found)
        route.readers = tuple(other.outbox for other, _ in found if isinstance(other.outbox, Outbox))
        route.version = self._peers.version
        return route

    def of_frame(
        self, peer: Peer, message: Routable, find: Callable[[Peer, Routable], Iterable[tuple[Peer, Append]]]
    ) -> Sequence[tuple[Peer, Append]]:
        """Return who gets the frames of a property. `find` is asked only if anything has changed since the last one."""
        if self._frames_version != self._peers.version or len(self._frames) >= _MAX_FRAMES:
            self._frames.clear()
            self._frames_version = self._peers.version
        key = peer, message.device, message.name
        receivers = self._frames.get(key)
        if receivers is None:
            receivers = self._frames[key] = tuple(find(peer, message))
        return receivers

    def forget(self, peer: Peer) -> None:
        """Forget the routes of a peer. They are found again when they are needed."""
        for key, route in peer.routes.items():
            self._add_up(key, route)
        peer.routes.clear()
        self._frames.clear()  # the peer may be among the receivers, and be gone for good

    def traffic(self) -> Counter[Property]:
        """Return how many updates without BLOB content were passed on, by property. Brings `Peer.told` up to date."""
        for peer in self._peers:
            for key, route in peer.routes.items():
                self._add_up(key, route)
        return self._passed.copy()

    def _add_up(self, key: RouteKey, route: Route) -> None:
        if route.count:
            about = key[1:]
            if about in self._passed or len(self._passed) < _MAX_ROUTES:
                self._passed[about] += route.count
            for receiver in route.receivers:
                receiver.note(about, route.count)
            route.count = 0

    def outrun(self, peer: Peer) -> bool:
        """Return whether all readers of this producer's small messages are far behind."""
        route = peer.last_route
        if route is None or route.version != self._peers.version or not route.readers:
            return False
        for outbox in route.readers:  # without a generator: this is asked after every read  # noqa: SIM110
            if outbox.small <= _SMALL_BACKLOG:
                return False
        return True
