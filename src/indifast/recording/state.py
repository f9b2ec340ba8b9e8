"""Current state of the devices in a recording, for clients that connect late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.vectors import read_value, state_of
from indifast.protocol.vocabulary import DEF_VECTORS, SET_VECTORS

if TYPE_CHECKING:
    from indifast._parser import Element

_OF_VECTOR = ("state", "timeout", "timestamp")
_OF_NUMBER = ("min", "max", "step")


class Property:
    """Definition of a property, changed by the updates since."""

    def __init__(self, definition: Element) -> None:
        self.tag = definition.tag
        self.attributes: dict[str, str | None] = wire.passed_on(definition.attrs)
        self.attributes.pop("message", None)
        self.members = {
            member.name: (member.tag, wire.passed_on(member.attrs), member.text)
            for member in definition.members
            if member.name
        }

    def update(self, element: Element) -> None:
        """Apply an update; members that were not defined and values that can't be read are ignored."""
        for name in _OF_VECTOR:
            if name in element.attrs and (name != "state" or state_of(element.attrs[name])):
                self.attributes[name] = element.attrs[name]
        if self.tag == "defBLOBVector":
            return
        for member in element.members:
            known = self.members.get(member.name)
            if known is not None:
                tag, attributes, _ = known
                attributes |= {name: value for name, value in member.attrs.items() if name in _OF_NUMBER}
                if read_value(tag.removeprefix("def"), member.text) is not None:
                    self.members[member.name] = (tag, attributes, member.text)

    def definition(self, timestamp: str | None = None) -> Wire:
        """Return the definition with the current values; `timestamp` replaces its timestamp, if it has one."""
        attributes = self.attributes
        if timestamp is not None and "timestamp" in attributes:
            attributes = attributes | {"timestamp": timestamp}
        members = [wire.text_element(tag, attributes, text) for tag, attributes, text in self.members.values()]
        return wire.vector(self.tag, attributes, "".join(members))

    def answer(self, message: str, timestamp: str) -> Wire | None:
        """Return an update with the current values and a message; None for BLOBs, whose content is not kept."""
        if self.tag == "defBLOBVector":
            return None
        kind = self.tag.removeprefix("def").removesuffix("Vector")
        attributes = {name: self.attributes.get(name) for name in ("device", "name", "state", "timeout")}
        members = [wire.one(kind, name, text) for name, (_, _, text) in self.members.items()]
        attributes |= {"timestamp": timestamp, "message": message}
        return wire.vector(f"set{kind}Vector", attributes, "".join(members))


class Devices:
    """All devices, in the order in which they were defined."""

    def __init__(self) -> None:
        self._properties: dict[str, dict[str, Property]] = {}
        self._owners: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._properties))

    def take(self, element: Element, owner: str) -> bool:
        """Apply a message.

        Args:
            element: The message.
            owner: Who sent it.

        Returns:
            False if the message is not for clients, or is about a device that someone else has defined.
        """
        tag, device, name = element.tag, element.device, element.name
        if tag == "message":
            return True
        if not device or (tag != "delProperty" and (not name or tag not in DEF_VECTORS | SET_VECTORS)):
            return False
        if self._owners.get(device, owner) != owner:
            return False
        if tag in DEF_VECTORS:
            self._owners[device] = owner
            self._properties.setdefault(device, {})[name or ""] = Property(element)
            return True
        known = self._properties.get(device, {})
        if tag == "delProperty":
            if name is None:
                self.forget(device)
            else:
                known.pop(name, None)
            return True
        if (found := known.get(name or "")) is not None:
            found.update(element)
        return True

    def forget(self, device: str) -> None:
        """Remove a device."""
        self._properties.pop(device, None)
        self._owners.pop(device, None)

    def owner(self, device: str) -> str:
        """Return who has defined a device; empty if nobody has."""
        return self._owners.get(device, "")

    def of(self, owner: str) -> list[str]:
        """Return the devices that `owner` has defined."""
        return [device for device, name in self._owners.items() if name == owner]

    def find(self, device: str | None, name: str | None = None) -> list[Property]:
        """Return the properties with these names; None stands for all."""
        devices = [self._properties.get(device, {})] if device is not None else list(self._properties.values())
        return [found for each in devices for key, found in each.items() if name in (None, key)]
