"""How messages are written, byte for byte.

Attributes in double quotes and in a fixed order, members without white space between them, ` />` at the end of an
element without content, UTF-8. No terminator: what stands between messages is the stream's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from indifast._parser import escape_attr, escape_text
from indifast.protocol.message import Wire
from indifast.protocol.vocabulary import VERSION


def start_tag(tag: str, attributes: Mapping[str, str | None]) -> str:
    """`<tag name="value"` without its end; attributes whose value is None are left out."""
    written = [f' {name}="{escape_attr(value)}"' for name, value in attributes.items() if value is not None]
    return f"<{tag}{''.join(written)}"


def element(tag: str, attributes: Mapping[str, str | None], content: str = "") -> str:
    """One element; `content` is XML already, see `text_element`."""
    start = start_tag(tag, attributes)
    return f"{start}>{content}</{tag}>" if content else f"{start} />"


def text_element(tag: str, attributes: Mapping[str, str | None], text: str) -> str:
    """One element that holds text."""
    return element(tag, attributes, escape_text(text))


def message(text: str | None, timestamp: str | None, device: str | None = None) -> Wire:
    """A message for the user, from a device or from the system."""
    attributes = {"device": device, "timestamp": timestamp, "message": text}
    return Wire("message", device, None, element("message", attributes).encode())


def del_property(device: str, name: str | None = None, timestamp: str | None = None, text: str | None = None) -> Wire:
    """A property is gone, or the whole device when no name is given."""
    attributes = {"device": device, "name": name, "timestamp": timestamp, "message": text}
    return Wire("delProperty", device, name, element("delProperty", attributes).encode())


def get_properties(device: str | None = None, name: str | None = None, *, via: str | None = None) -> Wire:
    """Ask for definitions: of everything, of a device, or of one property of it. `via`: see `protocol/via.py`."""
    device, name = device or None, name or None  # an empty one would not be understood everywhere
    attributes = {"version": VERSION, "device": device, "name": name, "via": via}
    return Wire("getProperties", device, name, element("getProperties", attributes).encode())


def enable_blob(device: str, name: str | None, policy: str) -> Wire:
    """Say whether BLOBs are wanted: of a device, or of one property of it."""
    name = name or None
    text = text_element("enableBLOB", {"device": device, "name": name}, policy)
    return Wire("enableBLOB", device, name, text.encode())


def ping_reply(uid: str) -> Wire:
    """The answer to a pingRequest."""
    return Wire("pingReply", None, None, element("pingReply", {"uid": uid}).encode())


def vector(tag: str, attributes: Mapping[str, str | None], members: str) -> Wire:
    """A def…, set… or new… vector; `attributes` hold device and name, `members` is XML already."""
    return Wire(tag, attributes["device"], attributes["name"], element(tag, attributes, members).encode())
