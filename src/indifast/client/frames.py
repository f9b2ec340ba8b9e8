"""Camera frames: as a stream, one exposure at a time, and as arrays."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any

from indifast.client import events
from indifast.client.blobrequests import BlobRequests
from indifast.client.formats import Kind, fits_image, format_of, image, inflated, raw_pixels
from indifast.client.lifecycle import Lifecycle
from indifast.client.snapshot import _ParentDevice
from indifast.client.streams import Stream
from indifast.client.watchers import Watchers

if TYPE_CHECKING:
    import numpy


class Frame:
    """One BLOB that was received.

    `data` is a read-only memoryview of the content, `format` the file suffix it was sent with, `timestamp` the UTC
    time of the update, `size` the bytes announced, `state` the vector's state.
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

    @property
    def data(self) -> memoryview:
        """The content. ValueError once it was released, see `FrameStream`."""
        if self._content is None:
            raise ValueError("this frame was released: take what you need of it before asking for the next one")
        return memoryview(self._content).toreadonly()

    def array(self) -> numpy.ndarray[Any, Any]:
        """The picture: of FITS the first image (this needs astropy: `pip install indifast[fits]`), of raw streams an
        array by the frame properties of the camera, a view without a copy unless it was compressed, of JPEG, PNG and
        their like what Pillow reads (`pip install indifast[term]`).

        Colour of streams and images comes as (height, width, 3). ValueError for other formats and damaged content.
        """
        content = self._content if isinstance(self._content, bytes) else self.data
        return frame_array(content, self.format, size=self.size, sizes=self._sizes)

    def release(self) -> None:
        """Let go of the content. Arrays and views made of it stay valid and keep it alive."""
        self._content = None


def frame_sizes(device: _ParentDevice | None) -> list[tuple[int, int]]:
    """Width and height in pixels that raw frames of a camera may have, likeliest first, as its own properties tell now.

    `device` is a device of a client or of a snapshot; of one that is no camera the list is empty.
    """
    found = (_stream_size(device), _frame_size(device), _sensor_size(device))
    return list(dict.fromkeys(size for size in found if size))


def why_no_frames(device: _ParentDevice | None) -> str:
    """Why a camera sends no frames, as a sentence, if its own properties tell; else "".

    `device` is a device of a client or of a snapshot.
    """
    mode = device.data.get("UPLOAD_MODE") if device is not None else None
    if device is None or mode is None or not mode.enable or mode.get("UPLOAD_LOCAL") != "On":
        return ""
    return f"{device.devicename} keeps its frames where its driver runs (UPLOAD_MODE is UPLOAD_LOCAL)"


def frame_array(
    content: Any, form: str, *, size: int = 0, sizes: Sequence[tuple[int, int]] = ()
) -> numpy.ndarray[Any, Any]:
    """The picture in the content of a BLOB, as `Frame.array` gives it, for those who have no Frame.

    `form` is the BLOB's format, `size` its announced bytes (0: unknown), `sizes` what `frame_sizes` gave, for raw
    streams. ValueError for other formats, damaged content and raw streams that fit none of the sizes.
    """
    kind = format_of(form).kind
    if kind is Kind.OTHER:
        raise ValueError(f"frames of format {form!r} have no known array form; see `data`")
    content = inflated(content, form, size)
    if kind is Kind.RAW:
        return raw_pixels(content, sizes)
    pixels: numpy.ndarray[Any, Any] = fits_image(content)[1] if kind is Kind.FITS else image(content).pixels
    return pixels


def _numbers(device: _ParentDevice | None, vectorname: str) -> dict[str, float]:
    vector = device.data.get(vectorname) if device is not None else None
    if vector is None or not vector.enable or vector.vectortype != "NumberVector":
        return {}
    return {name: member.getfloatvalue() for name, member in vector.data.items()}


def _stream_size(device: _ParentDevice | None) -> tuple[int, int] | None:
    """In binned pixels already, unlike the others."""
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
    """Pixels of a region that the camera's properties give in unbinned pixels."""
    whole = _size(width, height)
    if whole is None:
        return None
    binning = _numbers(device, "CCD_BINNING")
    across, down = binning.get("HOR_BIN", 1), binning.get("VER_BIN", 1)
    return int(whole[0] // across if across >= 1 else whole[0]), int(whole[1] // down if down >= 1 else whole[1])


class _Newest(OrderedDict[tuple[str, str], Frame]):
    """Of each member the newest frame, in the order in which these came."""

    def append(self, frame: Frame) -> None:
        key = frame.vectorname, frame.membername
        self.pop(key, None)
        self[key] = frame

    def popleft(self) -> Frame:
        return self.popitem(last=False)[1]


class FrameStream(Stream[Frame]):
    """The BLOBs of a device, or of one vector of it, as an asynchronous iterator, from the moment it was made.

    The device is told that BLOBs are wanted (`Also`), now or as soon as it is defined, again after a restart of its
    driver or a reconnection. The iterator ends when the client stops.

    `newest=False`, every frame: when `queue` frames wait, no more is received, and so the driver's server has to wait,
    until one was taken. `newest=True`: of the waiting frames of a member only the newest is kept, and nobody waits.

    `keep=False` for least memory: neither the model nor the iterator keeps a frame; the one handed out is released
    when the next is asked for, and until then no more is received. An array or view made of it stays valid.

    While somebody waits for an answer (`wait_for`, `send_newVector(wait=True)`, `ping`), receiving goes on in any case.
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
        """No more should be received before a frame was taken."""
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
        """Take no more frames. What the server was told of BLOBs stays as it is."""
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
