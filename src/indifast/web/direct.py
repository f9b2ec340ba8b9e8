"""WebSockets without a task, a queue or a buffer each: what thousands of viewers are sent goes straight to the sockets.

Such a WebSocket has been opened, checked and accepted like all others; then its connection was handed over. Frames are
bytes that many have in common. What the kernel does not take of one is remembered as a place in these bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import Callable
from typing import TypeVar

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import apply_mask as _slow_mask

from indifast.web.bounds import LEAST_RATE, LIVE_REQUEST, NOTES, UNREAD_TIME

try:
    from websockets.speedups import apply_mask
except ImportError:
    apply_mask = _slow_mask

_Result = TypeVar("_Result")

_logger = logging.getLogger("indifast.web.direct")

_PIECE = 256
"""Bytes that are read at once: requests are short, and so is the way to memory of this size."""

_AT_ONCE = 64
"""WebSockets that have their turn before the event loop looks at anything else."""

_CLOSING = 10.0
"""Seconds that a peer has to say that it closes its side, too."""

_PING = 20.0
"""Seconds of silence after which a peer is asked for a sign of life; it has as many for it."""

_SWEEP = 1.0
"""Seconds between two looks at those who are silent, slow or late."""

_TEXT, _PONG = 0x80 | Opcode.TEXT, 0x80 | Opcode.PONG


def frame_of(content: str | bytes) -> bytes:
    """Return the bytes of a message on a WebSocket, as a server sends it."""
    if isinstance(content, str):
        return Frame(Opcode.TEXT, content.encode()).serialize(mask=False)
    return Frame(Opcode.BINARY, content).serialize(mask=False)


class Direct:
    """A WebSocket. A subclass says what is done with what it says.

    Args:
        crowd: Who tells it when there is something to read, and when there is room to write.
        fd: The connection. It is closed with the WebSocket.
    """

    __slots__ = (
        "_after", "_alive", "_asked", "_closing", "_crowd", "_due", "_heard", "_library", "_partial", "_parts",
        "fd", "patient", "stuck", "waits",
    )  # fmt: skip

    def __init__(self, crowd: Crowd, fd: int) -> None:
        self.fd = fd
        """-1 when it is closed."""
        self.patient = False
        """Whether it was sent something: until then, it has its turn before others."""
        self.waits = False
        """Whether nothing is to be read until `Crowd.resume`."""
        self._crowd = crowd
        self.stuck: memoryview | None = None
        """What is left of a frame that the system did not take as a whole."""
        self._after = b""
        self._due = 0.0
        self._closing = False
        self._heard = crowd.now()
        self._alive = self._asked = False
        self._library: Protocol | None = None
        self._partial = self._parts = b""

    # -- For subclasses

    def count(self) -> None:
        """Note that something has arrived, whatever it is: only so much is read in a second."""
        raise NotImplementedError

    def obey(self, message: bytes) -> None:
        """Do what a message asks for."""
        raise NotImplementedError

    def free(self) -> None:
        """All that was sent has gone: there is room for the next frame."""
        raise NotImplementedError

    def lost(self) -> None:
        """The WebSocket has ended."""

    @property
    def busy(self) -> bool:
        """Whether a frame is still on its way, or there will be no further one."""
        return self.stuck is not None or self._closing or self.fd < 0

    def send(self, frame: bytes) -> None:
        """Send a frame; the WebSocket must not be `busy`."""
        try:
            sent = os.write(self.fd, frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        if sent < len(frame):
            self.stuck = memoryview(frame)[sent:]
            self._due = self._crowd.now() + UNREAD_TIME + len(frame) / LEAST_RATE
            self._crowd.blocked(self)

    def note(self, frame: bytes) -> None:
        """Send something short, after what is on its way. Who asks for ever more of it and reads nothing is cut off."""
        if self.fd < 0:
            return
        if self.stuck is None:
            self.send(frame)
        elif len(self._after) + len(frame) > NOTES:
            self.end()
        else:
            self._after += frame

    def close(self, code: int, reason: str = "") -> None:
        """Say that it ends, and why; it ends when the peer says so, too, or after a while."""
        if self.fd >= 0 and not self._closing:
            self.note(Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False))
            self._closing = True
            self._due = self._crowd.now() + _CLOSING

    def end(self) -> None:
        """End it at once."""
        if self.fd >= 0:
            self._crowd.forget(self)
            os.close(self.fd)
            self.fd = -1
            self.stuck, self._after, self._library = None, b"", None
            self.lost()

    # -- What the kernel says

    def write(self) -> None:
        """Send what is left, as far as there is room."""
        while self.stuck is not None:
            try:
                sent = os.write(self.fd, self.stuck)
            except BlockingIOError:
                return
            except OSError:
                self.end()
                return
            if sent < len(self.stuck):
                self.stuck = self.stuck[sent:]
                return
            self.stuck = memoryview(self._after) if self._after else None
            self._after = b""
        self._crowd.unblocked(self)
        if not self._closing:
            self.free()

    def read(self) -> bool:
        """Read what has arrived, or a part of it; return whether there may be more."""
        if self.waits:
            return False
        try:
            data = os.read(self.fd, _PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.end()
            return False
        self.hear(data)
        return len(data) == _PIECE and self.fd >= 0

    def hear(self, data: bytes) -> None:
        """Understand what has arrived."""
        self._alive = True
        if self._partial:
            data, self._partial = self._partial + data, b""
        at, end = 0, len(data)
        while end - at >= 2:
            start, length = at + 6, data[at + 1] - 0x80
            if length > 125:
                start = at + (8 if length == 126 else 14)
                if end < start:
                    break
                length = int.from_bytes(data[at + 2 : start - 4], "big")
            if not 0 <= length <= LIVE_REQUEST:
                self._hear_odd(data[at:])  # refuses it: it is too long, or not masked
                return
            stop = start + length
            if stop > end:
                break
            self.count()
            if data[at] == _TEXT and self._library is None:
                if not self._closing:
                    self.obey(apply_mask(data[start:stop], data[start - 4 : start]))
            elif data[at] != _PONG or self._library is not None:
                self._hear_odd(data[at:stop])
            if self.fd < 0:
                return
            at = stop
        if at < end:
            self._partial = data[at:]

    def _hear_odd(self, data: bytes) -> None:
        """Understand a frame that is not just a short message: have the library do it, until the message is whole."""
        library = self._library or Protocol(Side.SERVER, state=State.OPEN, max_size=LIVE_REQUEST, logger=_logger)
        library.receive_data(data)
        for event in library.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts += event.data
                self._library = None if event.fin else library
                if event.fin:
                    message, self._parts = self._parts, b""
                    if not self._closing:
                        self.obey(message)
        answer = b"".join(library.data_to_send())
        if answer and not self._closing:
            self.note(answer)
        if library.state is not State.OPEN:  # the peer has said that it ends, or what cannot be understood
            self.end()

    def check(self, now: float) -> None:
        """End the WebSocket if its peer is gone, reads too slowly, or is late."""
        if (self.stuck is not None or self._closing) and now > self._due:
            self.end()
        elif self._alive:
            self._heard, self._alive, self._asked = now, False, False
        elif now - self._heard > _PING and not self.busy:  # behind a frame that is read slowly, it would come too late
            if self._asked:
                self.end()
            else:
                self._heard, self._asked = now, True
                self.note(Frame(Opcode.PING, b"").serialize(mask=False))


class Crowd:
    """Tells WebSockets when there is something to read, or room to write, and looks at all of them once a second."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._all: dict[int, Direct] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self.now = self._loop.time

    def __len__(self) -> int:
        return len(self._all)

    def add(self, direct: Direct) -> None:
        """Begin to tell a WebSocket.

        Raises:
            OSError: The system has no memory for that.
        """
        self._watch(direct)
        self._all[direct.fd] = direct
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP, self._sweep)

    def forget(self, direct: Direct) -> None:
        """Tell it nothing any more."""
        del self._all[direct.fd]
        self._unwatch(direct)

    def blocked(self, direct: Direct) -> None:
        """Tell it when there is room to write."""
        self._loop.add_writer(direct.fd, self.write, direct)

    def unblocked(self, direct: Direct) -> None:
        """Do not tell it any more."""
        if direct.fd >= 0:
            self._loop.remove_writer(direct.fd)

    def settle(self, direct: Direct) -> None:
        """Give it its turns among the others from now on."""
        direct.patient = True

    def read(self, direct: Direct) -> None:
        """Have it read what there is."""
        if direct.waits:
            self._loop.remove_reader(direct.fd)
        else:
            self._have(direct, direct.read)

    def write(self, direct: Direct) -> None:
        """Have it send what is left."""
        self._have(direct, direct.write)

    def resume(self, direct: Direct) -> None:
        """Have one read again that was to wait."""
        if direct.fd >= 0:
            self._watch(direct)

    def end_behind(self, frame: bytes) -> None:
        """End those who have not read all of a frame."""
        for each in list(self._all.values()):
            if each.stuck is not None and each.stuck.obj is frame:
                each.end()

    def close(self, code: int) -> None:
        """End all of them."""
        for each in list(self._all.values()):
            each.close(code)
            each.end()
        if self._sweeping is not None:
            self._sweeping.cancel()

    @staticmethod
    def _have(direct: Direct, act: Callable[[], _Result]) -> _Result | None:
        """Have one do something. A fault ends that one only: the system would not tell the others again."""
        try:
            return act()
        except Exception:
            _logger.exception("a fault of this program has ended a WebSocket")
            direct.end()
            return None

    def _watch(self, direct: Direct) -> None:
        self._loop.add_reader(direct.fd, self.read, direct)

    def _unwatch(self, direct: Direct) -> None:
        self._loop.remove_reader(direct.fd)
        self._loop.remove_writer(direct.fd)

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(_SWEEP, self._sweep) if self._all else None
        self._check(list(self._all.values()))

    def _check(self, left: list[Direct]) -> None:
        """Check some, and the rest after others had their turn: if all have been silent, all are asked."""
        now = self.now()
        for each in left[-_AT_ONCE:]:
            if each.fd >= 0:
                each.check(now)
        del left[-_AT_ONCE:]
        if left:
            self._loop.call_soon(self._check, left)


class EpollCrowd(Crowd):
    """The same for systems with epoll, which tells many at once, and does not have to be told who is blocked.

    Of those who have their turn, a few are told before anything else in the event loop has its own. Those who were sent
    nothing yet do not wait for the turn of all others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first, self._others = select.epoll(), select.epoll()
        for each in (self._first, self._others):
            self._loop.add_reader(each.fileno(), self._tell, each)

    def blocked(self, direct: Direct) -> None:
        """Nothing has to be done."""

    def unblocked(self, direct: Direct) -> None:
        """Nothing has to be done."""

    def read(self, direct: Direct) -> None:
        if direct.fd >= 0 and self._have(direct, direct.read):
            self._loop.call_soon(self.read, direct)  # the kernel will not tell it again

    def resume(self, direct: Direct) -> None:
        self.read(direct)

    def settle(self, direct: Direct) -> None:
        self._unwatch(direct)
        direct.patient = True
        try:
            self._watch(direct)
        except OSError:  # the system has no memory for it
            direct.end()

    def close(self, code: int) -> None:
        super().close(code)
        for each in (self._first, self._others):
            self._loop.remove_reader(each.fileno())
            each.close()

    def _watch(self, direct: Direct) -> None:
        events = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        (self._others if direct.patient else self._first).register(direct.fd, events)

    def _unwatch(self, direct: Direct) -> None:
        with contextlib.suppress(OSError):
            (self._others if direct.patient else self._first).unregister(direct.fd)

    def _tell(self, poller: select.epoll) -> None:
        # Looked up before any is told: one may end another, and its number may be that of a new one then.
        found = [(self._all.get(fd), event) for fd, event in poller.poll(0, _AT_ONCE)]
        for direct, event in found:
            if direct is None or direct.fd < 0:
                continue
            if event & select.EPOLLOUT and direct.stuck is not None:
                self.write(direct)
            if event & ~select.EPOLLOUT:
                self.read(direct)


def crowd() -> Crowd:
    """Return a crowd for the running event loop."""
    return EpollCrowd() if hasattr(select, "epoll") else Crowd()
