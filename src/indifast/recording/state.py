"""Current state of the devices in a recording, for clients that connect late, and for reading from the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Routable, Wire
from indifast.protocol.vectors import read_value, state_of
from indifast.protocol.vocabulary import DEF_VECTORS, SET_VECTORS
from indifast.recording.fileformat import Party

if TYPE_CHECKING:
    from indifast._parser import Element

Owner = tuple[Party, str]
"""Who has defined a device: the kind of party and its name."""

_OF_VECTOR = ("state", "timeout", "timestamp")
_OF_NUMBER = ("min", "max", "step")
_RARE = (b"timeout=", b"min=", b"max=", b"step=")  # attributes that updates seldom have
_MOST_UNREAD = 32
_OF_PROPERTIES = DEF_VECTORS | SET_VECTORS


class Property:
    """Definition of a property, changed by the updates since.

    Updates are not read when they come, but when the result is asked for: of many updates, only the newest matters,
    unless an older one says something that it does not.
    """

    def __init__(self, definition: Element) -> None:
        self._unread: list[Routable] = []
        self._definition: Wire | None = None
        self.tag = definition.tag
        self.attributes: dict[str, str | None] = wire.passed_on(definition.attrs)
        self.attributes.pop("message", None)
        self.members = {
            member.name: (member.tag, wire.passed_on(member.attrs), member.text)
            for member in definition.members
            if member.name and member.tag == self.tag.removesuffix("Vector")
        }

    def update(self, message: Routable) -> None:
        """Apply an update; members that were not defined and values that can't be read are ignored."""
        self._definition = None
        if message.blob:  # it would hold its content
            self._read()
            self._apply(message.element())
            return
        self._unread.append(message)
        if len(self._unread) >= _MOST_UNREAD:
            self._read()

    def _read(self) -> None:
        """Apply the updates that were not read yet, except for those that newer ones make irrelevant."""
        unread, self._unread = self._unread, []
        relevant: list[Element] = []
        attributes = {"state", "timestamp"}
        members = set() if self.tag == "defBLOBVector" else set(self.members)
        for message in reversed(unread):
            if attributes or members or _says_something_rare(message):
                element = message.element()
                relevant.append(element)
                attributes -= {name for name in attributes if _says(element, name)}
                members -= {
                    member.name
                    for member in element.members
                    if member.name in members and self._can_read(member.name, member.text)
                }
        for element in reversed(relevant):
            self._apply(element)

    def _apply(self, element: Element) -> None:
        for name in _OF_VECTOR:
            if _says(element, name):
                self.attributes[name] = element.attrs[name]
        if self.tag == "defBLOBVector":
            return
        for member in element.members:
            known = self.members.get(member.name)
            if known is not None:
                tag, attributes, _ = known
                attributes |= {name: value for name, value in member.attrs.items() if name in _OF_NUMBER}
                if self._can_read(member.name, member.text):
                    self.members[member.name] = (tag, attributes, member.text)

    def _can_read(self, name: str, text: str) -> bool:
        return read_value(self.members[name][0].removeprefix("def"), text) is not None

    def definition(self, timestamp: str | None = None) -> Wire:
        """Return the definition with the current values; `timestamp` replaces its timestamp, if it has one."""
        if timestamp is not None:
            return self._defined(timestamp)
        if self._definition is None:
            self._definition = self._defined(None)
        return self._definition

    def _defined(self, timestamp: str | None) -> Wire:
        self._read()
        attributes = self.attributes
        if timestamp is not None and "timestamp" in attributes:
            attributes = attributes | {"timestamp": timestamp}
        members = [wire.text_element(tag, attributes, text) for tag, attributes, text in self.members.values()]
        return wire.vector(self.tag, attributes, "".join(members))

    def answer(self, message: str, timestamp: str) -> Wire | None:
        """Return an update with the current values and a message; None for BLOBs, whose content is not kept."""
        if self.tag == "defBLOBVector":
            return None
        self._read()
        kind = self.tag.removeprefix("def").removesuffix("Vector")
        attributes = {name: self.attributes.get(name) for name in ("device", "name", "state", "timeout")}
        members = [wire.one(kind, name, text) for name, (_, _, text) in self.members.items()]
        attributes |= {"timestamp": timestamp, "message": message}
        return wire.vector(f"set{kind}Vector", attributes, "".join(members))


def _says(element: Element, name: str) -> bool:
    """Return whether an update has a valid value for an attribute."""
    return name in element.attrs and (name != "state" or bool(state_of(element.attrs[name])))


def _says_something_rare(message: Routable) -> bool:
    parts = message.parts(False) or ()
    return any(word in part for part in parts for word in _RARE)


class Devices:
    """All devices, in the order in which they were defined."""

    def __init__(self) -> None:
        self._properties: dict[str, dict[str, Property]] = {}
        self._owners: dict[str, Owner] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._properties))

    def take(self, message: Routable, owner: Owner) -> bool:
        """Apply a message.

        Args:
            message: The message.
            owner: Who sent it.

        Returns:
            False if the message is not for clients, or is about a device that someone else has defined.
        """
        tag, device, name = message.tag, message.device, message.name
        if tag == "message":
            return True
        if not device or (tag != "delProperty" and (not name or tag not in _OF_PROPERTIES)):
            return False
        if owner[0] is Party.SERVER and tag == "delProperty":
            owner = self._owners.get(device, owner)  # the server speaks for a driver that is gone
        if self._owners.get(device, owner) != owner:
            return False
        if tag in DEF_VECTORS:
            self._owners[device] = owner
            self._properties.setdefault(device, {})[name or ""] = Property(message.element())
            return True
        known = self._properties.get(device, {})
        if tag == "delProperty":
            if name is None:
                self.forget(device)
            else:
                known.pop(name, None)
            return True
        if (found := known.get(name or "")) is not None:
            found.update(message)
        return True

    def definitions(self) -> Iterator[tuple[Owner, Wire]]:
        """Yield who has defined each property, and its definition with the current values."""
        for device, properties in self._properties.items():
            for found in properties.values():
                yield self._owners[device], found.definition()

    def forget(self, device: str) -> None:
        """Remove a device."""
        self._properties.pop(device, None)
        self._owners.pop(device, None)

    def of(self, owner: Owner) -> list[str]:
        """Return the devices that `owner` has defined."""
        return [device for device, name in self._owners.items() if name == owner]

    def find(self, device: str | None, name: str | None = None) -> list[Property]:
        """Return the properties with these names; None stands for all."""
        devices = [self._properties.get(device, {})] if device is not None else list(self._properties.values())
        return [found for each in devices for key, found in each.items() if name in (None, key)]
