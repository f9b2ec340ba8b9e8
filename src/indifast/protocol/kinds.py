"""What kinds of devices there are: what the bits of DRIVER_INTERFACE mean."""

from __future__ import annotations

from typing import Any

from indifast.protocol.numbers import read_integer

CAMERA = "camera"

INTERFACES = {
    0: "telescope", 1: CAMERA, 2: "guider", 3: "focuser", 4: "filter wheel", 5: "dome", 6: "GPS", 7: "weather",
    8: "adaptive optics", 9: "dust cap", 10: "light box", 11: "detector", 12: "rotator", 13: "spectrograph",
    14: "correlator", 15: "auxiliary", 16: "output", 17: "input", 18: "power", 19: "imu",
}  # fmt: skip
"""Kinds of devices, by their bits in DRIVER_INTERFACE."""


def interfaces(text: str) -> list[str]:
    """Return the kinds that a DRIVER_INTERFACE stands for; none if the text is not a number."""
    bits = read_integer(text)
    if bits is None or bits < 0:
        return []
    return [name for bit, name in INTERFACES.items() if bits >> bit & 1]


def kinds_of(device: Any) -> list[str]:
    """Return the kinds that a device says it is."""
    info = device.get("DRIVER_INFO")
    return interfaces(info.get("DRIVER_INTERFACE", "")) if info is not None and info.enable else []
