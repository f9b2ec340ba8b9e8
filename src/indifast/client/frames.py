"""Camera frames: streams of them, and their pictures as arrays."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any

from indifast.client import events
from indifast.client.blobrequests import BlobRequests
from indifast.client.formats import Kind, format_of, image, inflated, raw_pixels
from indifast.client.lifecycle import Lifecycle
from indifast.client.snapshot import _ParentDevice
from indifast.client.streams import Stream
from indifast.client.watchers import Watchers
from indifast.fits import read_image
from indifast.protocol.escape import one_line

if TYPE_CHECKING:
    import numpy


class Frame:
    """A received BLOB.

    Attributes:
        devicename, vectorname, membername: The names of the device, the vector and the member.
        format: The file suffix with which the BLOB was sent.
        size: The announced size in bytes.
        timestamp: The UTC time of the update.
        state: The state of the vector.
    """

    def __init__(self, event: events.setBLOBVector, member: str, sizes: Sequence[tuple[int, int]]) -> None:
        self.devicename: str = event.devicename or ""
        self.vectorname: str = event.vectorname or ""
        self.membername = member
        self.size, self.format = event.sizeformat[member]
        self.timestamp: datetime = event.timestamp
        self.state = event.vector.state
        self._content: Any = event.data[member]
        self._sizes = sizes

    def __repr__(self) -> str:
        content = "released" if self._content is None else f"{len(self._content)} bytes {self.format}".rstrip()
        return f"<Frame {one_line(f'{self.devicename}.{self.vectorname}.{self.membername}: {content}')}>"

    @property
    def data(self) -> memoryview:
        """A read-only view of the content.

        Raises:
            ValueError: The frame was released: see `FrameStream`.
        """
        if self._content is None:
            raise ValueError("this frame was released: take what you need of it before asking for the next one")
        return memoryview(self._content).toreadonly()

    def array(self) -> numpy.ndarray[Any, Any]:
        """Return the picture as an array.

        For FITS these are the values of the first image: see `indifast.fits.Image.scaled`. For the stored pixels and
        the header, call `indifast.fits.read_image(frame.data)`. A raw stream gives an array whose shape follows the
        camera's frame properties; it is a view without a copy unless the stream was compressed. JPEG, PNG and the like
        are read by Pillow (`pip install indifast[images]`). Color pictures from streams and images have the shape
        (height, width, 3).

        Raises:
            ValueError: The frame has another format, is damaged, or was released.
        """
        content = self._content if isinstance(self._content, bytes) else self.data
        return frame_array(content, self.format, size=self.size, sizes=self._sizes)

    def _own(self) -> None:
        """Hold the content in memory of its own. One that a server of this machine shares takes a descriptor."""
        self._content = bytes(self.data)

    def release(self) -> None:
        """Let go of the content. Arrays and views made from it stay valid and keep it alive."""
        self._content = None


def frame_sizes(device: _ParentDevice | None) -> list[tuple[int, int]]:
    """Return the sizes that raw frames of a camera may have, from the current values of its properties.

    Args:
        device: A device of a client or of a snapshot.

    Returns:
        Pairs of width and height in pixels, the likeliest first; empty if the device is not a camera.
    """
    found = (_stream_size(device), _frame_size(device), _sensor_size(device))
    return list(dict.fromkeys(size for size in found if size))


def why_no_frames(device: _ParentDevice | None) -> str:
    """Return a sentence that says why a camera sends no frames, or "" if its properties give no reason.

    `device` is a device of a client or of a snapshot.
    """
    mode = device.data.get("UPLOAD_MODE") if device is not None else None
    if device is None or mode is None or not mode.enable or mode.get("UPLOAD_LOCAL") != "On":
        return ""
    return f"{device.devicename} keeps its frames where its driver runs (UPLOAD_MODE is UPLOAD_LOCAL)"


def frame_array(
    content: Any, form: str, *, size: int = 0, sizes: Sequence[tuple[int, int]] = ()
) -> numpy.ndarray[Any, Any]:
    """Return the picture in the content of a BLOB, for programs that have no `Frame`. See `Frame.array`.

    Args:
        content: The content of the BLOB.
        form: The BLOB's format.
        size: The announced size in bytes, 0 if unknown.
        sizes: The result of `frame_sizes`; needed for raw streams only.

    Raises:
        ValueError: The format has no array form, the content is damaged, or a raw stream fits none of the sizes.
    """
    kind = format_of(form).kind
    if kind is Kind.OTHER:
        raise ValueError(f"frames of format {form!r} have no known array form; see `data`")
    content = inflated(content, form, size)
    if kind is Kind.RAW:
        return raw_pixels(content, sizes)
    pixels: numpy.ndarray[Any, Any] = read_image(content).scaled() if kind is Kind.FITS else image(content).pixels
    return pixels


def _numbers(device: _ParentDevice | None, vectorname: str) -> dict[str, float]:
    vector = device.data.get(vectorname) if device is not None else None
    if vector is None or not vector.enable or vector.vectortype != "NumberVector":
        return {}
    return {name: member.getfloatvalue() for name, member in vector.data.items()}


def _stream_size(device: _ParentDevice | None) -> tuple[int, int] | None:
    """Return the size of the stream, which is already in binned pixels, unlike the other sizes."""
    frame = _numbers(device, "CCD_STREAM_FRAME")
    return _size(frame.get("WIDTH"), frame.get("HEIGHT"))


def _frame_size(device: _ParentDevice | None) -> tuple[int, int] | None:
    frame = _numbers(device, "CCD_FRAME")
    return _binned(frame.get("WIDTH"), frame.get("HEIGHT"), device)


def _sensor_size(device: _ParentDevice | None) -> tuple[int, int] | None:
    info = _numbers(device, "CCD_INFO")
    return _binned(info.get("CCD_MAX_X"), info.get("CCD_MAX_Y"), device)


def _size(width: float | None, height: float | None) -> tuple[int, int] | None:
    if not (width and height and 0 < width < inf and 0 < height < inf):
        return None
    return int(width), int(height)


def _binned(width: float | None, height: float | None, device: _ParentDevice | None) -> tuple[int, int] | None:
    """Return the size in binned pixels of a region that the camera's properties give in unbinned pixels."""
    whole = _size(width, height)
    if whole is None:
        return None
    binning = _numbers(device, "CCD_BINNING")
    across, down = binning.get("HOR_BIN", 1), binning.get("VER_BIN", 1)
    return int(whole[0] // across if across >= 1 else whole[0]), int(whole[1] // down if down >= 1 else whole[1])


class _Newest(OrderedDict[tuple[str, str], Frame]):
    """The newest frame of each member, in order of arrival."""

    def append(self, frame: Frame) -> None:
        key = frame.vectorname, frame.membername
        self.pop(key, None)
        self[key] = frame

    def popleft(self) -> Frame:
        return self.popitem(last=False)[1]


class FrameStream(Stream[Frame]):
    """The BLOBs of a device, or of one of its vectors, as an asynchronous iterator that starts when it is created.

    The client asks for the BLOBs (`Also`) at once or as soon as the device is defined, and again after a restart of
    its driver or a reconnection. The iterator ends when the client stops.

    `newest=False` delivers every frame: while `queue` frames wait to be taken, receiving pauses, so the server has to
    wait as well. `newest=True` keeps only the newest waiting frame of each member, and holds nothing up.

    `keep=False` takes the least memory: neither the model nor the iterator keeps a frame. The frame handed out is
    released when the next one is requested, and nothing is received until then. Arrays and views made from it stay
    valid.

    While a task waits for an answer (`wait_for`, `send_newVector(wait=True)`, `ping`), receiving goes on regardless.
    """

    def __init__(
        self,
        watchers: Watchers,
        lifecycle: Lifecycle,
        blobs: BlobRequests,
        counts: Counter[str],
        device: str,
        vector: str | None,
        *,
        keep: bool = True,
        newest: bool = False,
        queue: int = 2,
    ) -> None:
        super().__init__(watchers, lifecycle)
        self._blobs = blobs
        self._counts = counts
        self._device = device
        self._vector = vector
        self._keep = keep
        self._newest = newest
        if newest:
            self._waiting = _Newest()
        self._most = max(1, queue)
        self._out: Frame | None = None
        watchers.attach(self)
        if not keep:
            blobs.unkeep(device, vector)
        for known in blobs.known(device):
            self._want(known)

    def _want(self, vector: Any) -> None:
        if self._vector in (None, vector.name):
            self._blobs.want(vector)

    @property
    def holding(self) -> bool:  # type: ignore[override]
        """Whether receiving should pause until a frame is taken."""
        if not self._keep:
            return bool(self._waiting) or self._out is not None
        return not self._newest and len(self._waiting) >= self._most

    def notify(self, event: Any) -> None:
        if event is None:
            self._end_with_client()
            return
        if event.devicename != self._device or self._vector not in (None, event.vectorname):
            return
        if isinstance(event, events.defBLOBVector):
            self._want(event.vector)
        elif isinstance(event, events.setBLOBVector) and event.data:
            sizes = frame_sizes(event.device)
            for name in event.data:
                self._add(Frame(event, name, sizes))
            self._wake()

    def _add(self, frame: Frame) -> None:
        waited = len(self._waiting)
        self._waiting.append(frame)
        self._counts["frames_replaced"] += waited + 1 - len(self._waiting)

    async def __anext__(self) -> Frame:
        out, self._out = self._out, None
        if out is not None:
            out.release()
            out = None
            self._watchers.wake()
        await self._arrival()
        frame = self._waiting.popleft()
        if not self._keep:
            self._out = frame
        else:
            self._watchers.wake()
        return frame

    def close(self) -> None:
        """Stop taking frames. The BLOB policy that was sent to the server stays as it is."""
        if not self._open and not self._attached:
            return
        self._open = False
        self._waiting.clear()
        self._detach()
        self._watchers.wake()
        self._wake()

    _attached = True

    def _detach(self) -> None:
        if self._attached:
            self._attached = False
            self._watchers.detach(self)
            if not self._keep:
                self._blobs.keep(self._device, self._vector)

    def __del__(self) -> None:
        self._detach()
