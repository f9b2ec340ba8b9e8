"""The servers that a message has passed, listed in `via`, an attribute of ours that only servers send each other.

A definition that travels between servers names each server that it has passed. So no server takes a device from a link
that has it only from that server itself: otherwise, what is under way in a ring when a device vanishes would go round
forever. In a getProperties, the attribute says that a server asks.

Other servers ignore the attribute. A message that came through a server that drops it is accepted as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Wire

if TYPE_CHECKING:
    from indifast.protocol.message import Routable


def via_of(message: Routable) -> tuple[str, ...]:
    """Return the names of the servers that a message has passed, the first one first."""
    return tuple(message.element().attrs.get("via", "").split())


def with_via(message: Routable, servers: Iterable[str]) -> Routable:
    """Return a message with `via` as its first attribute, or without it if there are no servers.

    The message has no BLOB content. If the attribute is elsewhere in it, another program has rewritten the message,
    which is then returned unchanged.
    """
    data = b"".join(message.parts(False) or ())
    stands_first = wire.begins_with(data, message.tag, "via")
    if not stands_first and "via" in message.element().attrs:
        return message
    written = wire.with_first(data, message.tag, "via", " ".join(servers) or None)
    return Wire(message.tag, message.device, message.name, written)
