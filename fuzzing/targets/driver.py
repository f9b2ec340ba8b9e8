"""A driver: whatever clients and other drivers say, its program meets no surprise, and what it sends is clean."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from fuzzing.checks import check_output
from fuzzing.inputs import Input, chunks
from fuzzing.world import VirtualLoop, file_of, no_descriptor_left, running
from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.message import Routable
from indifast.routing.link import Demand, Link
from indifast.transport.incoming import MessageReader

MOST = 1 << 20
"""Bytes that a driver may send in answer to one input."""


def device() -> Device:
    """Return a device with a vector of each kind, all of which commands can change."""
    switches = [SwitchMember("a", membervalue="On"), SwitchMember("b", "Bee")]
    texts = [TextMember("t", "T", 'a<b>&"c" é'), TextMember("e", None, "")]
    numbers = [NumberMember("n", None, "%9.6m", -5, 10.5, 0, 1.25), NumberMember("m", None, "%g", 0, 0, 0, 1)]
    return Device(
        "D",
        [
            SwitchVector("S", "SwL", "G", "rw", "OneOfMany", "Ok", switches),
            NumberVector("N", "NuL", "G", "rw", "Busy", numbers),
            TextVector("T", "TxL", "G", "rw", "Idle", texts),
            LightVector("L", "LiL", "G", "Alert", [LightMember("l", None, "Busy")]),
            BLOBVector("B", "BlL", "G", "rw", "Ok", [BLOBMember("b")]),
        ],
    )


class Program(IPyDriver):
    """Does what it is told."""

    async def rxevent(self, event: Any) -> None:
        """Take the values of a command over, and say so."""
        assert event.root.tag and isinstance(str(event.timestamp), str)
        if not hasattr(event, "items"):
            return
        for name, value in event.items():
            if hasattr(event, "getfloatvalue"):
                assert math.isfinite(event.getfloatvalue(name))
                assert isinstance(event.getformattedvalue(name), str)
            if hasattr(event, "buffer"):
                assert bytes(event.buffer(name)) == value
            event.vector[name] = value
        await event.vector.send_setVectorMembers(state="Ok", members=list(event))

    async def snoopevent(self, event: Any) -> None:
        """Look at all that another driver says."""
        assert event.root.tag and isinstance(str(event.timestamp), str)
        for name, value in event.items() if hasattr(event, "items") else ():
            assert value is None or isinstance(value, str | bytes)
            if hasattr(event, "getfloatvalue"):
                assert isinstance(event.getfloatvalue(name), float)


class MemoryLink(Link):
    """A link whose other end is the target."""

    def __init__(self, demand: Demand) -> None:
        self.closed = False
        self.waiting: deque[Routable] = deque()
        self.sent = bytearray()
        self._demand = demand
        self._callback: Callable[[], None] | None = None

    def demand(self, device: str, name: str) -> Demand:
        """Say whether BLOBs are wanted."""
        return self._demand

    def send(self, message: Routable) -> None:
        """Write a message down, also the piece that is not there before the next turn."""
        if self.closed:
            return
        parts = message.parts(False)
        assert parts is not None, "no form of a small message"
        self.sent += b"".join(bytes(part) for part in parts)
        assert len(self.sent) < MOST

    async def paced(self, device: str, name: str) -> None:
        """Wait for nobody."""

    async def not_full(self) -> None:
        """Wait for nobody."""

    def take(self) -> Routable | None:
        """Return the next message."""
        return self.waiting.popleft() if self.waiting and not self.closed else None

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Remember whom to tell."""
        self._callback = callback

    def close(self) -> None:
        """End."""
        self.closed = True
        self.arrived()

    def arrived(self) -> None:
        """Tell the driver that there is something."""
        if self._callback is not None:
            self._callback()


class Ignoring:
    """Listens to a reader of messages."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


def run(data: bytes) -> None:
    """Talk to a driver: a byte of options, one for the cuts, then what is said."""
    given = Input(data)
    options, way = given.byte(), given.byte()
    said = given.rest()
    with no_descriptor_left(), running() as loop:
        driver = Program(device())
        driver.snoopall = bool(options & 1)
        driver.auto_send_def = bool(options & 2)
        link = MemoryLink(Demand(inline=bool(options & 4), attached=False))
        reader = MessageReader(Ignoring(), DEFAULT_LIMITS, loop.call_later, relay=bool(options & 8))
        pieces = [(chunk, [file_of(b"abc")] if options & 16 else []) for chunk in chunks(said, way)]
        _converse(loop, driver, link, reader, pieces)


def _converse(
    loop: VirtualLoop, driver: Program, link: MemoryLink, reader: MessageReader, said: list[tuple[bytes, list[int]]]
) -> None:
    """Say something in pieces, with the descriptors that each of them brings."""
    driver._indifast_runtime.serve("the target")
    driver._indifast_runtime.attach(link)
    life = loop.create_task(driver.asyncrun(grace=0))
    loop.settle()
    for chunk, fds in said:
        link.waiting += reader.read(chunk, 0, len(chunk), fds)
        link.arrived()
        loop.settle()
    assert not link.waiting, "the driver has stopped taking messages"
    loop.advance(5)
    stats = driver.stats()
    assert not stats.get("user_faults"), "an event was not what programs rely on"
    check_output(bytes(link.sent))
    reader.close()
    link.close()
    loop.advance(5)
    assert life.done()
    life.result()
