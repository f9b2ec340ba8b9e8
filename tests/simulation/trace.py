"""Shows what happens in a run, line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from indifast.protocol.message import Routable
from indifast.routing.peer import Peer
from indifast.server.connections import Connection
from tests.simulation.clock import START
from tests.simulation.journal import Journal, show
from tests.simulation.ledger import Mark
from tests.simulation.nodes import Node
from tests.simulation.script import Step
from tests.simulation.site import Site


@contextlib.contextmanager
def shown(text: str) -> Iterator[None]:
    """Print steps, and the messages of all whose names hold a text."""
    tap, routing_of, arrive, do, end, lost = (
        Node.tap,
        Node.routing_of,
        Site.arrive,
        Site.do,
        Connection.end,
        Node.lost,
    )

    def told(node: Node, direction: str, peer: Peer, message: Routable) -> None:
        if direction == "to" and text in f"{node.name} {peer.label}":
            _print(node.site, f"{node.name} -> {peer.label}: {show(node.site.mark(message))}, {message.size} bytes")
        tap(node, direction, peer, message)

    def routed(node: Node, peer: Peer, message: Routable) -> Any:
        if text in f"{node.name} {peer.label}":
            _print(node.site, f"{node.name} <- {peer.label}: {show(node.site.mark(message))}")
        return routing_of(node, peer, message)

    def arrived(site: Site, journal: Journal, reader: object, mark: Mark, message: Routable, frame: bool) -> bool:
        if text in f"{journal.title} {reader}" and not isinstance(reader, Node):
            _print(site, f"{reader} hears {show(mark)}")
        return arrive(site, journal, reader, mark, message, frame)

    def done(site: Site, step: Step) -> None:
        _print(site, f"## {step.who} {step.does}{step.args}")
        do(site, step)

    def ended(connection: Connection, why: str) -> None:
        print(f"           {connection.peer.label} {why}: disconnected")
        end(connection, why)

    def given_up(node: Node, peer: Peer, message: Routable, how: Any) -> None:
        if text in f"{node.name} {peer.label}":
            _print(node.site, f"{node.name} to {peer.label}: {show(node.site.mark(message))} {how}")
        lost(node, peer, message, how)

    with (
        mock.patch.object(Node, "tap", told),
        mock.patch.object(Node, "routing_of", routed),
        mock.patch.object(Site, "arrive", arrived),
        mock.patch.object(Site, "do", done),
        mock.patch.object(Connection, "end", ended),
        mock.patch.object(Node, "lost", given_up),
    ):
        yield


def _print(site: Site, line: str) -> None:
    print(f"{site.now - START:9.4f}  {line}")
