"""What one peer wants to hear: everything, devices or properties, and which BLOBs."""

from __future__ import annotations

from indifast.protocol.message import Routable
from indifast.protocol.vocabulary import ALSO, BLOB_POLICIES, NEVER, ONLY

MAX_ENTRIES = 10_000
"""Devices and properties that one peer may name. Further ones are refused and counted."""


class Interests:
    """Devices and properties that a peer has named. A wider request widens, a narrower one changes nothing."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self.everything = False
        self._devices: set[str] = set()
        self._properties: dict[str, set[str]] = {}
        self._count = 0
        self._max = max_entries

    def add(self, device: str | None, name: str | None) -> bool:
        """Remember an interest; return False if there is no room for it.

        Args:
            device: The device; None for everything.
            name: The property; None for the whole device.
        """
        if device is None:
            self.everything = True
            return True
        if self.everything or device in self._devices:
            return True
        if name is not None and name in self._properties.get(device, ()):
            return True
        freed = len(self._properties.get(device, ())) if name is None else 0
        if self._count - freed >= self._max:
            return False
        if name is None:
            self._properties.pop(device, None)
            self._devices.add(device)
        else:
            self._properties.setdefault(device, set()).add(name)
        self._count += 1 - freed
        return True

    def wants(self, device: str, name: str | None) -> bool:
        """Return whether a property is of interest or, if `name` is None, the device as a whole."""
        if self.everything or device in self._devices:
            return True
        return name is not None and name in self._properties.get(device, ())

    def touches(self, device: str) -> bool:
        """Return whether the device or any of its properties is of interest."""
        return self.everything or device in self._devices or device in self._properties

    def only_parts(self, device: str) -> bool:
        """Return whether some properties of the device are of interest, but not the device as a whole."""
        return device in self._properties and not self.everything

    def exactly(self, device: str, name: str | None) -> bool:
        """Return whether this very device or property was named."""
        return device in self._devices or (name is not None and name in self._properties.get(device, ()))

    def __bool__(self) -> bool:
        return self.everything or bool(self._devices or self._properties)

    def clear(self) -> None:
        """Forget all interests."""
        self.everything = False
        self._devices.clear()
        self._properties.clear()
        self._count = 0


class BlobPolicies:
    """The enableBLOB settings of one connection: per device, with exceptions per property.

    A setting for a device clears those of its properties. "Only" for a property means "Also".

    Args:
        default: The policy where none is set.
        max_entries: How many settings are kept at most.
    """

    def __init__(self, default: str = NEVER, max_entries: int = MAX_ENTRIES) -> None:
        self._default = default
        self._devices: dict[str, str] = {}
        self._properties: dict[str, dict[str, str]] = {}
        self._count = 0
        self._max = max_entries

    def set(self, device: str, name: str | None, policy: str) -> bool:
        """Remember a setting; return False if there is no room for a further one.

        An existing setting can always be changed, and one without effect takes no room. An unknown policy changes
        nothing.
        """
        if policy not in BLOB_POLICIES:
            return True
        if name is None:
            needless = policy == self._default
            freed = len(self._properties.get(device, ())) + (device in self._devices)
            if not (needless or freed) and self._count >= self._max:
                return False
            self._properties.pop(device, None)
            self._devices.pop(device, None)
            self._count -= freed
            if not needless:
                self._devices[device] = policy
                self._count += 1
            return True
        needless = (policy == NEVER) == (self._of_device(device) == NEVER)
        properties = self._properties.get(device, {})
        freed = int(name in properties)
        if not (needless or freed) and self._count >= self._max:
            return False
        properties.pop(name, None)
        self._count -= freed
        if not needless:
            properties[name] = policy
            self._count += 1
        if properties:
            self._properties[device] = properties
        else:
            self._properties.pop(device, None)
        return True

    def passes(self, message: Routable) -> bool:
        """Return whether these settings let a message pass to the connection that made them."""
        device, tag = message.device, message.tag
        if device is None or tag in ("getProperties", "delProperty") or tag.startswith("def"):
            return True
        if message.blob:
            return self.content(device, message.name)
        return tag == "setBLOBVector" or not self.silent(device)

    def content(self, device: str, name: str | None) -> bool:
        """Return whether content of this BLOB property is wanted."""
        policy = self._properties.get(device, {}).get(name or "") or self._of_device(device)
        return policy in (ALSO, ONLY)

    def silent(self, device: str) -> bool:
        """Return whether only BLOBs of this device are wanted."""
        return self._devices.get(device) == ONLY

    def _of_device(self, device: str) -> str:
        return self._devices.get(device, self._default)

    def clear(self) -> None:
        """Forget all settings."""
        self._devices.clear()
        self._properties.clear()
        self._count = 0
