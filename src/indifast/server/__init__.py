"""The server that connects drivers and clients."""

from __future__ import annotations

from indifast.server.ipyserver import IPyServer
from indifast.server.remote import RemoteConnection

__all__ = ["IPyServer", "RemoteConnection"]
