"""Test doubles for queues: messages whose form can be held back, and a listener that records its calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indifast.protocol.message import Form, Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import Loss, QueueListener


class Observer(QueueListener):
    """A listener that counts the calls of a queue, and keeps the messages that the queue has lost."""

    def __init__(self, queue: ByteQueue | None = None) -> None:
        self.pending = self.room = self.overflow = 0
        self.lost: list[tuple[Routable, str]] = []
        if queue is not None:
            queue.listener = self

    def on_pending(self) -> None:
        self.pending += 1

    def on_room(self) -> None:
        self.room += 1

    def on_lost(self, message: Routable, how: Loss) -> None:
        self.lost.append((message, how))

    def on_overflow(self) -> None:
        self.overflow += 1


class Fake:
    """A message with the given bytes.

    With `ready=False` it has no form before `make_ready()` is called. If `shown` is not None, it has that many of its
    `pieces` until `grow()` adds more.
    """

    def __init__(
        self,
        tag: str,
        device: str | None,
        name: str | None,
        data: bytes,
        *,
        formats: tuple[str, ...] = (),
        carried: frozenset[str] = frozenset(),
        pieces: int = 1,
        fds: Sequence[int] = (),
        ready: bool = True,
        shown: int | None = None,
        text: str = "",
    ) -> None:
        self.tag, self.device, self.name = tag, device, name
        self.blob = bool(formats)
        self.formats, self.carried = formats, carried
        self.size = len(data)
        self.data = data
        self.pieces = pieces
        self.ready = ready
        self.shown = shown
        self.asked = 0
        self.text = text
        self.attrs: dict[str, str] = {}
        self.age = 0
        self._fds = fds
        self._callbacks: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<{self.tag} {self.device}.{self.name} {self.size} bytes>"

    def parts(self, form: Form) -> Sequence[bytes] | None:
        if not self.ready:
            return None
        step = max(1, -(-len(self.data) // self.pieces))
        return [self.data[i : i + step] for i in range(0, len(self.data), step)][: self.shown]

    @property
    def growing(self) -> bool:
        return self.shown is not None

    def grow(self, shown: int | None) -> None:
        """Show the given number of pieces, or all if it is None."""
        self.shown = None if shown is None or shown >= self.pieces else shown
        self.notify()

    def fds(self) -> Sequence[int]:
        return self._fds

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        assert not self.ready or self.growing
        self.asked += 1
        self._callbacks.append(callback)

    def make_ready(self) -> None:
        self.ready = True
        self.notify()

    def notify(self) -> None:
        """Call those that wait for the form."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def element(self) -> Fake:
        return self


def drain(queue: ByteQueue, chunk: int = 1 << 20) -> bytes:
    """Return all that a queue writes to a peer that takes `chunk` bytes at a time, as streams over sockets do it."""
    out = b""
    while queue.pending:
        single = queue.take_single()
        parts = queue.take(1 << 20, 1024)[0] if single is None else [single]
        data = b"".join(map(bytes, parts))
        if not data:
            break
        if single is not None and chunk >= len(data):
            queue.sent_single(0.0)
        else:
            assert queue.sent(min(chunk, len(data)), 0.0) == queue.pending
        out += data[:chunk]
    return out


def small(name: str = "P", data: bytes = b"<s/>", tag: str = "setNumberVector", device: str = "D") -> Fake:
    return Fake(tag, device, name, data)


def frame(
    name: str = "B",
    size: int = 10,
    *,
    format: str = ".fits",
    members: str = "m",
    fill: bytes = b"f",
    tag: str = "setBLOBVector",
    device: str = "D",
    **more: object,
) -> Fake:
    return Fake(
        tag,
        device,
        name,
        (fill * size)[:size],
        formats=tuple(format for _ in members),
        carried=frozenset(members),
        **more,  # type: ignore[arg-type]
    )
