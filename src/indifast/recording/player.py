"""Plays a recording on a link, as a driver that has all of its devices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Routable, Wire
from indifast.protocol.timestamps import timestamp_text
from indifast.protocol.vocabulary import NEW_VECTORS
from indifast.recording.fileformat import Direction, Party, RecordingError
from indifast.recording.reader import Record, Recording
from indifast.recording.state import Devices, Property
from indifast.transport.blobs import BlobContent, BlobMessage, routable

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.routing.link import Link

ANSWER = "this is a replay: commands change nothing"
"""What clients are told that command something."""


class Player:
    """Says on a link what was said in a recording, at the times at which it was said.

    Requests for definitions are answered with how things stand at that moment of the recording, commands with a
    message and the values as they are.

    Args:
        speed: 2 plays twice as fast; None as fast as the readers take it.
        start_at: seconds of the recording that are passed over; what they say is known, but not played.
        loop: from the beginning again after the end.
        now: time stamps within messages become those of the moment at which they are sent.
    """

    def __init__(
        self,
        path: str,
        link: Link,
        *,
        speed: float | None = 1.0,
        start_at: float = 0.0,
        loop: bool = False,
        now: bool = False,
    ) -> None:
        self.path = path
        self.link = link
        self.speed = speed
        self.start_at = start_at
        self.loop = loop
        self.now = now
        self.seconds = 0.0
        """Where in the recording it is."""
        self.share = 0.0
        """Share of the file that was read."""
        self.sent = 0
        """Messages that were sent."""
        self.rounds = 0
        """How often the recording was played to its end."""
        self.skipped = 0
        """Messages of the recording that are not what they should be."""
        self.cut: str | None = None
        """That the recording was cut short, in a sentence."""
        self.asked = asyncio.Event()
        """Set when somebody has asked for definitions."""
        self._devices = Devices()
        self._began: float | None = None  # on the loop's clock, the moment 0 of the recording
        link.on_receive(self._hear_soon)

    async def play(self) -> None:
        """Play to the end; with `loop`, until cancelled.

        Raises:
            OSError, RecordingError: the file can't be read, or is damaged; what comes before the damage was played.
        """
        while True:
            with Recording(self.path) as recording:
                before = self.sent
                await self._play(recording)
                self.cut = recording.cut
                self.skipped = recording.skipped
            self.rounds += 1
            if not self.loop:
                return
            if self.sent == before:
                raise RecordingError(f"{self.path} has nothing to play over and over")
            for device in self._devices:
                self._forget(device)
            await asyncio.sleep(0)

    async def _play(self, recording: Recording) -> None:
        loop = asyncio.get_running_loop()
        batches = recording.batches()
        self._began = None
        passed_over = self.start_at > 0
        while (records := await loop.run_in_executor(None, next, batches, None)) is not None:
            self.share = recording.position / max(1, recording.size)
            for record in records:
                if passed_over and record.seconds >= self.start_at:
                    passed_over = False
                    await self._define()
                if not passed_over:
                    await self._reach(record.seconds)
                self.seconds = record.seconds
                if record.played:
                    await self._say(record, passed_over)
        if passed_over:
            await self._define()
        if recording.seconds >= self.start_at:
            await self._reach(recording.seconds)  # silence up to the end is part of the recording
        self.seconds = recording.seconds

    async def _reach(self, seconds: float) -> None:
        """Wait for a moment of the recording."""
        if self.speed is None:
            return
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now - self.start_at / self.speed
        wait = self._began + seconds / self.speed - now
        if wait > 0:
            await asyncio.sleep(wait)

    async def _define(self) -> None:
        """Tell clients, some of which have asked long ago, what they were not told while it was passed over."""
        for found in self._devices.find(None):
            self.link.send(self._definition(found))
            await self.link.not_full()

    def _definition(self, found: Property) -> Wire:
        return found.definition(timestamp_text() if self.now else None)

    async def _say(self, record: Record, passed_over: bool) -> None:
        owner = f"{record.head.party.value} {record.head.label}"
        element = record.message
        if element is None:
            if record.head.direction is Direction.LOST:
                for device in self._devices.of(owner):
                    self._forget(device)
            return
        if record.head.party is Party.SERVER and element.tag == "delProperty" and element.device:
            owner = self._devices.owner(element.device)  # the server speaks for a driver that is gone
        if not self._devices.take(element, owner) or passed_over:
            return
        self._send(self._message(element))
        if element.blob and element.device and element.name:
            await self.link.paced(element.device, element.name)
        await self.link.not_full()

    def _message(self, element: Element) -> Routable:
        """What is sent for a recorded message."""
        stamp = timestamp_text() if self.now and "timestamp" in element.attrs else None
        if element.attached:  # BLOBs that were not recorded: what is known of the property, without them
            attributes: dict[str, str | None] = dict(element.attrs)
            if stamp:
                attributes["timestamp"] = stamp
            return wire.vector(element.tag, attributes, "")
        if stamp is None:
            return routable(element)
        if element.blob:
            contents = [
                BlobContent(member.name, member.format, member.data or b"", member.blob_size)
                for member in element.members
            ]
            return BlobMessage.from_members(element.tag, element.attrs | {"timestamp": stamp}, contents)
        data = wire.with_timestamp(b"".join(element.parts(False) or ()), stamp)
        return Wire(element.tag, element.device, element.name, data)

    def _send(self, message: Routable) -> None:
        self.link.send(message)
        self.sent += 1

    def _forget(self, device: str) -> None:
        self._devices.forget(device)
        self._send(wire.del_property(device))

    # -- what clients say

    def _hear_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._hear)

    def _hear(self) -> None:
        while (message := self.link.take()) is not None:
            if message.tag == "getProperties":
                self.asked.set()
                for found in self._devices.find(message.device, message.name):
                    self.link.send(self._definition(found))
            elif message.tag in NEW_VECTORS and message.device:
                self._refuse(message.device, message.name or "")

    def _refuse(self, device: str, name: str) -> None:
        """A command: the values as they are let a client's display go back to them."""
        stamp = timestamp_text()
        answers = [found.answer(ANSWER, stamp) for found in self._devices.find(device, name)]
        self.link.send((answers[0] if answers else None) or wire.message(ANSWER, stamp, device))
