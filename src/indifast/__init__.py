"""A fast INDI stack: drivers, server and client for instruments on a network."""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from `typing`, which takes longer to load than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from indifast.client import IPyClient
    from indifast.driver import events as events
    from indifast.driver import ipydriver as ipydriver
    from indifast.driver import propertymembers as propertymembers
    from indifast.driver import propertyvectors as propertyvectors
    from indifast.driver.device import Device
    from indifast.driver.events import (
        Message,
        defBLOBVector,
        defLightVector,
        defNumberVector,
        defSwitchVector,
        defTextVector,
        delProperty,
        enableBLOB,
        getProperties,
        newBLOBVector,
        newNumberVector,
        newSwitchVector,
        newTextVector,
        setBLOBVector,
        setLightVector,
        setNumberVector,
        setSwitchVector,
        setTextVector,
    )
    from indifast.driver.ipydriver import IPyDriver
    from indifast.driver.propertymembers import BLOBMember, LightMember, NumberMember, SwitchMember, TextMember
    from indifast.driver.propertyvectors import BLOBVector, LightVector, NumberVector, SwitchVector, TextVector
    from indifast.protocol.numbers import getfloat
    from indifast.server import IPyServer
    from indifast.transport.loop import new_event_loop

version = "0.1.0"

__all__ = [
    "BLOBMember",
    "BLOBVector",
    "Device",
    "IPyClient",
    "IPyDriver",
    "IPyServer",
    "LightMember",
    "LightVector",
    "Message",
    "NumberMember",
    "NumberVector",
    "SwitchMember",
    "SwitchVector",
    "TextMember",
    "TextVector",
    "defBLOBVector",
    "defLightVector",
    "defNumberVector",
    "defSwitchVector",
    "defTextVector",
    "delProperty",
    "enableBLOB",
    "getProperties",
    "getfloat",
    "newBLOBVector",
    "newNumberVector",
    "newSwitchVector",
    "newTextVector",
    "new_event_loop",
    "setBLOBVector",
    "setLightVector",
    "setNumberVector",
    "setSwitchVector",
    "setTextVector",
    "version",
]

_MODULES = ("events", "ipydriver", "propertymembers", "propertyvectors")


def __getattr__(name: str) -> Any:
    """Import an exported name on first use, so that `import indifast` itself stays fast."""
    from importlib import import_module

    if name in _MODULES:
        value: Any = import_module(f"indifast.driver.{name}")
    elif name in __all__:
        value = getattr(import_module(_home(name)), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _home(name: str) -> str:
    """Return the name of the module that defines an exported name."""
    homes = {
        "Device": "driver.device",
        "IPyClient": "client",
        "IPyDriver": "driver.ipydriver",
        "IPyServer": "server",
        "getfloat": "protocol.numbers",
        "new_event_loop": "transport.loop",
    }
    if name in homes:
        return f"indifast.{homes[name]}"
    if name[0].isupper() and name.endswith("Vector"):
        return "indifast.driver.propertyvectors"
    if name.endswith("Member"):
        return "indifast.driver.propertymembers"
    return "indifast.driver.events"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
