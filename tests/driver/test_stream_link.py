"""A driver's link over a Unix socket, with BLOBs that arrive as descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from indifast._parser import Element
from indifast.driver.streamlink import StreamLink
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.transport.shm import close_all
from indifast.transport.stream import SocketStream
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

START = "<newBLOBVector device='Dev' name='{}'>"
ONE = "<oneBLOB name='m' size='{size}' format='.bin' attached='true'/>"
END = "</newBLOBVector>"


def memory(content: bytes) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


class Peer:
    """The other end of a link, with what the link receives and refuses."""

    def __init__(self, limits: Limits) -> None:
        ours, self._socket = socket.socketpair()
        self.refused: list[str] = []
        self.link = StreamLink(SocketStream(ours), self._refuse, limits=limits)
        self._arrived = asyncio.Event()
        self.link.on_receive(self._arrived.set)
        self.link.start()

    def _refuse(self, kind: object, text: str, *args: Any) -> None:
        self.refused.append(text % args)

    def send(self, text: str, *fds: int) -> None:
        socket.send_fds(self._socket, [text.encode()], fds)
        close_all(fds)

    async def received(self) -> Element:
        """Return the next element that the link receives."""
        async with asyncio.timeout(LIMIT):
            while (element := self.link.receive()) is None:
                self._arrived.clear()
                await self._arrived.wait()
        return element

    def close(self) -> None:
        self.link.close()
        self._socket.close()


@contextlib.asynccontextmanager
async def linked(**limits: int) -> AsyncIterator[Peer]:
    """A peer with a link, which leaves no descriptors behind."""
    before = set(os.listdir("/proc/self/fd"))
    peer = Peer(replace(DEFAULT_LIMITS, **limits))
    yield peer
    peer.close()
    await eventually(lambda: not set(os.listdir("/proc/self/fd")) - before, "all new descriptors closed")


def vector(name: str, size: int = 5) -> str:
    return START.format(name) + ONE.format(size=size) + END


def content(element: Element) -> tuple[str | None, bytes | None]:
    return element.name, element.members[0].data


def test_the_descriptor_of_a_damaged_blob_is_not_used_for_the_next_blob() -> None:
    async def run() -> None:
        async with linked() as peer:
            damaged = START.format("a") + ONE.format(size=5)
            peer.send(damaged + vector("b"), memory(b"wrong"), memory(b"right"))
            peer.send(vector("c"), memory(b"right"))
            assert content(await peer.received()) == ("c", b"right")
            peer.send(damaged + "<getProperties version='1.7'/>", memory(b"wrong"))
            peer.send(vector("d"), memory(b"right"))
            assert (await peer.received()).tag == "getProperties"
            assert content(await peer.received()) == ("d", b"right")
            (refusal,) = [text for text in peer.refused if "can't be told apart" in text]
            assert "newBLOBVector for Dev.b" in refusal

    asyncio.run(run())


def test_blobs_that_are_too_large_are_refused() -> None:
    async def run() -> None:
        async with linked(blob=1000) as peer:
            for size in (1001, (1 << 40) - 1):
                fd = memory(b"")
                os.ftruncate(fd, size)
                peer.send(vector("large", size), fd)
            peer.send(vector("next"), memory(b"12345"))
            assert content(await peer.received()) == ("next", b"12345")
            assert [text.split("refused: ")[1] for text in peer.refused] == [
                "a BLOB of 1001 bytes, more than 1000",
                "a BLOB of 1099511627775 bytes, more than 1000",
            ]

    asyncio.run(run())
