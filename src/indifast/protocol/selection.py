"""What a message selects by its device and name: an empty one counts as absent.

Clients write both forms, and libindi accepts both. delProperty differs: there an empty name deletes nothing (drivers
send it by mistake), and only an absent name stands for the whole device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Routable


def selected(message: Routable | Element) -> tuple[str | None, str | None]:
    """Return the (device, name) of a getProperties or enableBLOB. None stands for all; a name needs a device."""
    device = message.device or None
    return device, (message.name or None) if device is not None else None


def speaker(message: Routable | Element) -> str | None:
    """Return the device that a `message` comes from; None if it comes from the system."""
    return message.device or None
