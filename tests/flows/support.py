"""A camera that sends frames of two members, and a client that keeps what it receives."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import indifast as ipd
from indifast.client import IPyClient, setBLOBVector
from tests.support.waiting import eventually


class Camera(ipd.IPyDriver):
    """Sends frames of two members, and keeps what it is sent."""

    def __init__(self, blobformat: str = ".bin") -> None:
        members = [ipd.BLOBMember("a", blobformat=blobformat), ipd.BLOBMember("b", blobformat=".bin")]
        super().__init__(ipd.Device("Cam", [ipd.BLOBVector("frames", "F", "G", "rw", "Ok", members)]))
        self.uploads: list[dict[str, bytes]] = []

    async def expose(self, content: bytes, number: int = 0) -> None:
        vector = self["Cam"]["frames"]
        vector["a"], vector["b"] = content, b"small"
        await vector.send_setVectorMembers(members=["a", "b"], message=f"frame {number}")

    async def rxevent(self, event: Any) -> None:
        if isinstance(event, ipd.newBLOBVector):
            self.uploads.append(dict(event))


class Watcher(IPyClient):
    """Keeps the frames that it receives, and their formats."""

    retry_min = 0.05

    def __init__(self, *words: Any, **keywords: Any) -> None:
        super().__init__(*words, **keywords)
        self.frames: list[tuple[str | None, dict[str, bytes]]] = []
        self.formats: list[list[str]] = []

    async def rxevent(self, event: Any) -> None:
        if isinstance(event, setBLOBVector):
            self.frames.append((event.message, dict(event)))
            self.formats.append([event.vector.member(name).blobformat for name in event])

    @property
    def form(self) -> int:
        """The form in which it sends BLOBs."""
        assert self._indifast.link.connection is not None
        return self._indifast.link.connection.queue.form

    @property
    def received_bytes(self) -> int:
        assert self._indifast.link.connection is not None
        return self._indifast.link.connection.received_bytes


@contextlib.asynccontextmanager
async def watching(port: int, **settings: Any) -> AsyncIterator[Watcher]:
    """Run a client that wants all frames of the camera."""
    client = Watcher("localhost", port)
    for name, value in settings.items():
        setattr(client, name, value)
    async with client:
        await eventually(lambda: "Cam" in client and "frames" in client["Cam"], "the definition of the camera")
        await client.send_enableBLOB("Also", "Cam", "frames")
        yield client
