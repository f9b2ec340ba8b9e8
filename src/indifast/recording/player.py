"""Player that replays a recording on a link, like a driver that has all of its devices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Routable, Wire
from indifast.protocol.timestamps import timestamp_text
from indifast.protocol.vocabulary import NEW_VECTORS
from indifast.recording.fileformat import Direction, RecordingError
from indifast.recording.reader import Record, Recording
from indifast.recording.state import Devices, Property
from indifast.transport.blobs import BlobContent, BlobMessage, routable

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.routing.link import Link

ANSWER = "this is a replay: commands have no effect"
"""Message sent in answer to commands."""


class Player:
    """Sends the messages of a recording on a link, at the times at which they were recorded.

    Requests for definitions are answered with the state at that moment of the recording, commands with a message and
    the current values.

    Args:
        path: The file.
        link: The link to play on.
        speed: 2 plays twice as fast; None plays as fast as the readers can keep up.
        start_at: Seconds of the recording to skip. Messages in that part are taken into account, but not sent.
        loop: Whether to play from the beginning again after the end.
        now: Whether to replace the timestamps in messages by the time at which they are sent.
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
        """Current position in the recording."""
        self.share = 0.0
        """Share of the file that has been read, from 0 to 1."""
        self.sent = 0
        """Messages sent so far."""
        self.rounds = 0
        """Number of times that the recording has been played to its end."""
        self.skipped = 0
        """Invalid messages in the recording."""
        self.cut: str | None = None
        """Sentence saying that the recording was cut short, if it was."""
        self.asked = asyncio.Event()
        """Set when a client has asked for definitions."""
        self._devices = Devices()
        self._began: float | None = None  # second 0 of the recording, on the event loop's clock
        link.on_receive(self._hear_soon)

    async def play(self) -> None:
        """Play to the end; with `loop`, until cancelled.

        Raises:
            OSError: The file can't be read.
            RecordingError: The file is not a recording, has nothing to play in a loop, or is damaged; what comes before
                the damage has been played.
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
        skipping = self.start_at > 0
        if skipping:
            await loop.run_in_executor(None, recording.seek, self.start_at)
        while (records := await loop.run_in_executor(None, next, batches, None)) is not None:
            self.share = recording.position / max(1, recording.size)
            for record in records:
                if skipping and record.seconds >= self.start_at:
                    skipping = False
                    await self._define()
                if not skipping:
                    await self._reach(record.seconds)
                self.seconds = record.seconds
                if record.played:
                    await self._say(record, skipping)
        if skipping:
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
        """Send the definitions that were skipped; some clients have asked for them long ago."""
        for found in self._devices.find(None):
            self.link.send(self._definition(found))
            await self.link.not_full()

    def _definition(self, found: Property) -> Wire:
        return found.definition(timestamp_text() if self.now else None)

    async def _say(self, record: Record, skipping: bool) -> None:
        owner = record.head.party, record.head.label
        element = record.message
        if element is None:
            if record.head.direction is Direction.LOST:
                for device in self._devices.of(owner):
                    self._forget(device)
            return
        if not self._devices.take(element, owner) or skipping:
            return
        self._send(self._message(element))
        if element.blob and element.device and element.name:
            await self.link.paced(element.device, element.name)
        await self.link.not_full()

    def _message(self, element: Element) -> Routable:
        """Return the message to send for a recorded one."""
        stamp = timestamp_text() if self.now and "timestamp" in element.attrs else None
        if element.attached:  # the BLOBs were not recorded: send what is known of the property without them
            attributes = wire.passed_on(element.attrs)
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
            attributes = wire.passed_on(element.attrs) | {"timestamp": stamp}
            return BlobMessage.from_members(element.tag, attributes, contents)
        data = wire.with_timestamp(b"".join(element.parts(False) or ()), stamp)
        return Wire(element.tag, element.device, element.name, data)

    def _send(self, message: Routable) -> None:
        self.link.send(message)
        self.sent += 1

    def _forget(self, device: str) -> None:
        self._devices.forget(device)
        self._send(wire.del_property(device))

    # -- Messages from clients

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
        """Answer a command with a message and the current values, to which clients can reset their display."""
        stamp = timestamp_text()
        answers = [found.answer(ANSWER, stamp) for found in self._devices.find(device, name)]
        self.link.send((answers[0] if answers else None) or wire.message(ANSWER, stamp, device))
