"""The newest frame of each BLOB that somebody looks at, and what is made of it: once, for all viewers."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from indifast.client import IPyClient, frame_sizes
from indifast.client.frames import Frame
from indifast.client.malloc import keep_blocks
from indifast.picture import opened, reading
from indifast.protocol import jsonform
from indifast.protocol.jsonform import Plain
from indifast.web.bounds import FRAME_REST, FRAME_SOURCES, MAPPED, PICTURES
from indifast.web.hub import Busy
from indifast.web.measures import measured
from indifast.web.mosaics import Mosaic, of_camera
from indifast.web.pictures import Negative
from indifast.web.views import View

_Made = TypeVar("_Made")

_NEGATIVE = "negative"

RATE_FRAMES = 20
"""Frames of whose times the rate is made."""


class Shown(NamedTuple):
    """A picture of a frame, and what is said about both."""

    image: bytes
    text: str
    """An object as JSON, to which more is added for each viewer."""


class Kept:
    """A frame, and what was made of it."""

    def __init__(
        self,
        frame: Frame,
        number: int,
        sizes: list[tuple[int, int]],
        threads: ThreadPoolExecutor,
        mosaic: Mosaic | None = None,
    ) -> None:
        self.frame = frame
        self.number = number
        self.received = datetime.now(UTC)
        self.arrived = asyncio.get_running_loop().time()
        self._sizes = sizes
        self._mosaic = mosaic
        self._threads = threads
        self._made: dict[Any, asyncio.Future[Any]] = {}
        self._waiting: Counter[Any] = Counter()
        self._replaced = False

    @property
    def about(self) -> Plain:
        """What is known of it without looking at its content."""
        return jsonform.of_frame(self.frame, self.number, self.received)

    @property
    def weight(self) -> int:
        """Bytes that it takes, with what was made of it."""
        ended = (each for each in self._made.values() if each.done() and not each.cancelled())
        made = [each.result() for each in ended if each.exception() is None]
        pictures = sum(len(each.image) for each in made if isinstance(each, Shown))
        return len(self.frame.data) + pictures + sum(each.nbytes for each in made if isinstance(each, Negative))

    def own(self) -> None:
        """Hold a small content in memory of its own: many may be kept, and there are few descriptors."""
        data = self.frame.data
        if len(data) < MAPPED and not isinstance(data.obj, bytes):
            self.frame._own()

    def replace(self) -> None:
        """Note that there is a newer frame: few pictures will be made of this one, so it is read for each of them."""
        self._replaced = True
        self._made.pop(_NEGATIVE, None)

    async def picture(self, view: View) -> Shown:
        """Return a picture of the frame.

        Raises:
            NoPreview: There is no picture of the content.
        """
        negative = None if view in self._made else await self._once(_NEGATIVE, self._negative)

        def make() -> Shown:
            assert negative is not None
            with reading(self.frame.format):
                picture = negative.picture(view)
            return Shown(picture.image, jsonform.text({"frame": self.about, "picture": picture.about}, indent=None))

        try:
            made: Shown = await self._once(view, make)
        finally:
            if self._replaced:
                self._made.pop(_NEGATIVE, None)
        return made

    async def measures(self) -> Plain:
        """Return header, statistics and histogram."""
        return await self._once("measures", lambda: measured(self.frame))

    def _negative(self) -> Negative:
        frame = self.frame
        return Negative(opened(frame.data, frame.format, size=frame.size, sizes=self._sizes), self._mosaic)

    async def _once(self, key: Any, make: Callable[[], _Made]) -> _Made:
        if key not in self._made:
            done = (each for each, future in self._made.items() if isinstance(each, View) and future.done())
            if len(self._made) >= PICTURES and (oldest := next(done, None)) is not None:
                del self._made[oldest]
            self._made[key] = asyncio.get_running_loop().run_in_executor(self._threads, make)
        making = self._made[key]
        self._waiting[key] += 1
        try:
            result: _Made = await asyncio.shield(making)  # one viewer that leaves does not end it for others
            return result
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if isinstance(key, View) and not making.done():  # else those who ask and leave would fill the queue
                    making.cancel()
                    del self._made[key]


class Source:
    """The frames of one property, while anybody asks for them."""

    def __init__(self, client: IPyClient, device: str, name: str, threads: ThreadPoolExecutor) -> None:
        self._client, self._device, self._name, self._threads = client, device, name, threads
        self.asked = asyncio.get_running_loop().time()
        self.kept: dict[str, Kept] = {}
        self.rate = 0.0
        """Frames that arrive in a second, of all members."""
        self._listeners: set[asyncio.Event] = set()
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """Whether frames are asked for, or waited for."""
        return bool(self._listeners) or self._asking

    @property
    def _asking(self) -> bool:
        return self._task is not None and not self._task.done()

    def ask(self) -> None:
        """Ask for frames, for a while from now on."""
        self.asked = asyncio.get_running_loop().time()
        if not self._asking:
            self._task = asyncio.create_task(self._take(), name=f"frames of {self._device}")

    async def newer(self, member: str, after: int, wait: float) -> Kept | None:
        """Return the newest frame of a member if its number is above `after`; else wait for one, for a time.

        A number that no frame has had yet is one of another run of the program, and excludes none.
        """
        if after > self._count:
            after = 0
        try:
            async with asyncio.timeout(wait):
                with self.listening() as arrived:
                    while (kept := self.kept.get(member)) is None or kept.number <= after:
                        arrived.clear()
                        await arrived.wait()
                    return kept
        except TimeoutError:
            return None

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Within a block, have an event set whenever a frame arrives."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    async def _take(self) -> None:
        stream = self._client.frames(self._device, self._name, newest=True)
        loop = asyncio.get_running_loop()
        times: deque[float] = deque(maxlen=RATE_FRAMES)
        rest = loop.call_later(FRAME_REST, self._rest_maybe, stream)
        try:
            async for frame in stream:
                self._count += 1
                if (former := self.kept.get(frame.membername)) is not None:
                    former.replace()
                camera = self._client.get(self._device)
                sizes, mosaic = frame_sizes(camera), of_camera(camera, self._name)
                self.kept[frame.membername] = kept = Kept(frame, self._count, sizes, self._threads, mosaic)
                times.append(kept.arrived)
                self.rate = (len(times) - 1) / ((times[-1] - times[0]) or 1)
                for event in self._listeners:
                    event.set()
        finally:
            rest.cancel()
            stream.close()
        await self._client.send_enableBLOB("Never", self._device, self._name)

    def _rest_maybe(self, stream: Any) -> None:
        loop = asyncio.get_running_loop()
        left = self.asked + FRAME_REST - loop.time()
        if left <= 0:
            stream.close()
        else:
            loop.call_later(left, self._rest_maybe, stream)

    def close(self) -> None:
        """Ask for no more frames."""
        if self._task is not None:
            self._task.cancel()


class Frames:
    """The sources of frames that were asked for."""

    def __init__(self, client: IPyClient) -> None:
        keep_blocks()
        self._client = client
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="previews")
        self._sources: dict[tuple[str, str], Source] = {}

    def of(self, device: str, name: str) -> Source:
        """Return the source of a property's frames, and ask for them.

        Raises:
            Busy: The frames of too many properties are asked for.
        """
        key = device, name
        if key not in self._sources:
            if len(self._sources) >= FRAME_SOURCES:
                rested = [each for each, source in self._sources.items() if not source.active]
                if not rested:
                    raise Busy(f"the frames of {FRAME_SOURCES} properties are looked at already")
                del self._sources[rested[0]]
            self._sources[key] = Source(self._client, device, name, self._threads)
        source = self._sources[key]
        source.ask()
        return source

    def close(self) -> None:
        """Ask for nothing any more, and make nothing more of what there is."""
        for source in self._sources.values():
            source.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
