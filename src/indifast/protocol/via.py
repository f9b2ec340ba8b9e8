"""The servers by which a message has come: `via`, an attribute of ours that goes from server to server only.

A definition on its way between servers names each that it has passed. So no server takes a device from a link that has
it from nobody but that server itself: what is under way in a ring when a device vanishes would go round for ever. In a
getProperties the attribute says that a server asks.

Servers of other kinds ignore it. What has come through one that does not keep it is taken as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from indifast._parser import escape_attr
from indifast.protocol.message import Wire

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

_START = re.compile(rb'<(\w+)( via="[^"]*")?(?=[ />])')  # as the tokenizer and `wire` write it


def via_of(message: Routable) -> tuple[str, ...]:
    """The names of the servers by which a message has come, the first one first."""
    return tuple(message.element().attrs.get("via", "").split())


def with_via(message: Routable, servers: Iterable[str]) -> Routable:
    """The same message, one without BLOB content, with `via` as its first attribute, or without servers: without it.

    One that has the attribute elsewhere was written anew by a stranger; it is given back as it is.
    """
    data = b"".join(message.parts(False) or ())
    start = _START.match(data)
    if start is None or (start[2] is None and "via" in message.element().attrs):
        return message
    names = " ".join(servers)
    attribute = f' via="{escape_attr(names)}"'.encode() if names else b""
    return Wire(message.tag, message.device, message.name, b"<" + start[1] + attribute + data[start.end() :])
