"""The servers by which a message has come: `via`, an attribute of ours that goes from server to server only.

A definition on its way between servers names each that it has passed. So no server takes a device from a link that has
it from nobody but that server itself: what is under way in a ring when a device vanishes would go round for ever. In a
getProperties the attribute says that a server asks.

Servers of other kinds ignore it. What has come through one that does not keep it is taken as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Wire

if TYPE_CHECKING:
    from indifast.protocol.message import Routable


def via_of(message: Routable) -> tuple[str, ...]:
    """The names of the servers by which a message has come, the first one first."""
    return tuple(message.element().attrs.get("via", "").split())


def with_via(message: Routable, servers: Iterable[str]) -> Routable:
    """The same message, one without BLOB content, with `via` as its first attribute, or without servers: without it.

    One that has the attribute elsewhere was written anew by a stranger; it is given back as it is.
    """
    data = b"".join(message.parts(False) or ())
    stands_first = wire.begins_with(data, message.tag, "via")
    if not stands_first and "via" in message.element().attrs:
        return message
    written = wire.with_first(data, message.tag, "via", " ".join(servers) or None)
    return Wire(message.tag, message.device, message.name, written)
