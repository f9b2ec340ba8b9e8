"""What a message selects by its device and name: an empty text says as little as an attribute that is not there.

Clients write both forms, libindi serves both. Not for delProperty: there an empty name deletes nothing (drivers send
it by mistake), and only a name that is not there stands for the whole device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Routable


def selected(message: Routable | Element) -> tuple[str | None, str | None]:
    """(device, name) that a getProperties or enableBLOB is about. None stands for all; a name needs its device."""
    device = message.device or None
    return device, (message.name or None) if device is not None else None


def speaker(message: Routable | Element) -> str | None:
    """The device that a `message` is from; None: nobody but the system."""
    return message.device or None
