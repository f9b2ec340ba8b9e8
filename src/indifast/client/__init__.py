"""INDI client library: `IPyClient`, its events, and the awaitable and synchronous interfaces built on them."""

from __future__ import annotations

from indifast.client.commandchecks import INDICheckError, INDIUnknown
from indifast.client.events import (
    ConnectionLost,
    ConnectionMade,
    Message,
    VectorTimeOut,
    defBLOBVector,
    defLightVector,
    defNumberVector,
    defSwitchVector,
    defTextVector,
    delProperty,
    getProperties,
    setBLOBVector,
    setLightVector,
    setNumberVector,
    setSwitchVector,
    setTextVector,
)
from indifast.client.formats import inflated
from indifast.client.frames import Frame, frame_array, frame_sizes
from indifast.client.ipyclient import IPyClient
from indifast.client.propertymembers import getfloat
from indifast.client.propertyvectors import ClientEvent
from indifast.client.sync import SyncClient, SyncDevice, connect
from indifast.client.waiting import INDIAlert, INDIDeleted

version = "0.9.4"
"""Version of the indipyclient interface that this package provides."""

__all__ = [
    "ClientEvent", "ConnectionLost", "ConnectionMade", "Frame", "INDIAlert", "INDICheckError", "INDIDeleted",
    "INDIUnknown", "IPyClient", "Message", "SyncClient", "SyncDevice", "VectorTimeOut", "connect", "defBLOBVector",
    "defLightVector", "defNumberVector", "defSwitchVector", "defTextVector", "delProperty", "frame_array",
    "frame_sizes", "getProperties", "getfloat", "inflated", "setBLOBVector", "setLightVector", "setNumberVector",
    "setSwitchVector", "setTextVector", "version",
]  # fmt: skip
