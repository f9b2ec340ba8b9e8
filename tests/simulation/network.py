"""The network: connections that delay, cut, hold back and lose what is written to them.

A connection has two ends, each a `SimulatedSocket` with the few calls that `SocketStream` makes. What is written leaves
at the connection's bandwidth, arrives after its latency, and is read in pieces of any size. Descriptors travel with the
first byte of what they were written with, as on a Unix socket; they are real ones.
"""

from __future__ import annotations

import errno
import math
import os
import random
import socket
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.simulation.clock import READ, WRITE, VirtualLoop
from tests.simulation.journal import Journal


@dataclass
class Conditions:
    """What a connection is like at the moment."""

    latency: float = 0.001
    """Seconds from one end to the other, at least."""
    jitter: float = 1.0
    """Share of the latency that may be added."""
    bandwidth: float = math.inf
    """Bytes per second."""
    capacity: int = 20 << 10
    """Bytes under way or unread at which the writer has to wait."""
    pieces: tuple[int, ...] = ()
    """Sizes in which it is read; empty: all there is."""
    short_writes: float = 0.0
    """Share of writes of which only a part is taken."""
    partitioned: bool = False
    """Whether nothing arrives for now."""


class Segment:
    """What was written by one call, with the descriptors that travel with its first byte."""

    __slots__ = ("data", "fds")

    def __init__(self, data: bytes, fds: list[int]) -> None:
        self.data = data
        self.fds = fds


class _End:
    """Stands behind the last segment: end of file, or an error."""

    __slots__ = ("error",)

    def __init__(self, error: int = 0) -> None:
        self.error = error


class Pipe:
    """One direction of a connection."""

    def __init__(self, loop: VirtualLoop, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        self.written = 0
        """Bytes that the writer has written."""
        self.read_bytes = 0
        """Bytes that the reader has read."""
        self.writer: SimulatedSocket | None = None
        self.reader: SimulatedSocket | None = None
        self._loop = loop
        self._rng = rng
        self._held = 0  # bytes under way or unread
        self._busy_until = 0.0
        self._last_arrival = 0.0
        self._flying: deque[Segment | _End] = deque()
        self._overdue = 0  # of these, as many would have arrived but for the partition
        self._arrived: deque[Segment] = deque()
        self._end: _End | None = None
        self._black_hole = False  # what is written from now on vanishes
        self._deaf_since = math.inf  # when the reader closed its end

    @property
    def over(self) -> bool:
        """Whether the reader has read all, up to the end."""
        return self._end is not None and not self._arrived

    # Writing

    @property
    def room(self) -> int:
        return self.conditions.capacity - self._held

    def write(self, parts: Sequence[bytes | memoryview], fds: Iterable[int]) -> int:
        """Take as much as there is room for.

        Raises:
            BlockingIOError: There is none.
            BrokenPipeError: The reader is gone, and the writer could know.
        """
        if self._deaf_since < math.inf:
            if self._loop.time() > self._deaf_since + self.conditions.latency:
                raise BrokenPipeError(errno.EPIPE, "the peer has closed the connection")
            return sum(map(len, parts))  # the news of the end is under way: what is written is lost
        room = self.room
        if room <= 0:
            self._update_writable()
            raise BlockingIOError(errno.EAGAIN, "no room")
        data = b"".join(parts)
        nbytes = min(len(data), room)
        if nbytes > 1 and self._rng.random() < self.conditions.short_writes:
            nbytes = self._rng.randrange(1, nbytes)
        self.written += nbytes
        self._held += nbytes
        if not self._black_hole:
            now = self._loop.time()
            self._busy_until = max(now, self._busy_until) + nbytes / self.conditions.bandwidth
            self._send(Segment(data[:nbytes], [os.dup(fd) for fd in fds]), self._busy_until)
        self._update_writable()
        return nbytes

    def finish(self, error: int = 0) -> None:
        """Write nothing more: the reader finds the end behind what is under way."""
        if not self._black_hole:
            self._send(_End(error), max(self._loop.time(), self._busy_until))
            self._black_hole = True

    def _send(self, what: Segment | _End, departure: float) -> None:
        conditions = self.conditions
        arrival = departure + conditions.latency * (1 + conditions.jitter * self._rng.random())
        self._last_arrival = max(arrival, self._last_arrival)
        self._flying.append(what)
        self._loop.call_at(self._last_arrival, self._arrive)

    def _update_writable(self) -> None:
        if self.writer is not None:
            self.writer.set_ready(WRITE, self.room * 3 >= self.conditions.capacity or self._deaf_since < math.inf)

    # On the way

    def _arrive(self) -> None:
        if self.conditions.partitioned:
            self._overdue += 1
        elif self._flying:
            what = self._flying.popleft()
            if isinstance(what, _End):
                self._end = what
            elif self._deaf_since < math.inf:
                _close(what.fds)
            else:
                self._arrived.append(what)
            self._update_readable()

    def heal(self) -> None:
        """The partition is over: what was held back arrives now, each piece after the other."""
        overdue, self._overdue = self._overdue, 0
        for _ in range(overdue):
            self._loop.call_later(self.conditions.latency, self._arrive)

    def cut(self, error: int, notice: float) -> None:
        """Lose the connection: a part of what is under way still arrives, then the reader finds an error.

        Args:
            error: The error, or 0 for an end of file.
            notice: Seconds until it is found.
        """
        self.conditions.partitioned = False
        keep = self._rng.randrange(len(self._flying) + 1)
        flying = list(self._flying)
        self._flying = deque(flying[:keep])
        lost = flying[keep:]
        if lost and isinstance(lost[0], Segment) and len(lost[0].data) > 1:
            first = lost.pop(0)
            assert isinstance(first, Segment)
            self._flying.append(Segment(first.data[: self._rng.randrange(1, len(first.data))], first.fds))
        for what in lost:
            if isinstance(what, Segment):
                _close(what.fds)
        self._black_hole = True
        self._flying.append(_End(error))
        for _ in range(self._overdue + 1):
            self._loop.call_later(notice, self._arrive)
        self._overdue = 0

    # Reading

    def read(self, limit: int) -> tuple[bytes, list[int]]:
        """Return what is there, at most `limit` bytes, and the descriptors that belong to it; nothing at the end.

        Raises:
            BlockingIOError: There is nothing yet.
            OSError: The connection was cut.
        """
        arrived = self._arrived
        if not arrived:
            end = self._end
            if end is None:
                raise BlockingIOError(errno.EAGAIN, "nothing there")
            if end.error:
                raise OSError(end.error, os.strerror(end.error))
            return b"", []
        if self.conditions.pieces:
            limit = min(limit, self._rng.choice(self.conditions.pieces))
        out: list[bytes] = []
        fds: list[int] = []
        while arrived and limit:
            segment = arrived[0]
            if segment.fds and out and self._rng.random() < 0.5:
                break  # the kernel may, or may not, join what has descriptors to what has none
            data = segment.data
            fds, segment.fds = segment.fds, []
            if len(data) > limit:
                out.append(data[:limit])
                segment.data = data[limit:]
                limit = 0
            else:
                out.append(data)
                limit -= len(data)
                arrived.popleft()
            if fds:
                break
        data = b"".join(out)
        self._held -= len(data)
        self.read_bytes += len(data)
        self._update_readable()
        self._update_writable()
        return data, fds

    def _update_readable(self) -> None:
        if self.reader is not None:
            self.reader.set_ready(READ, bool(self._arrived) or self._end is not None)

    def stop_reading(self) -> None:
        """The reader has closed its end: what is there, or comes later, is lost."""
        if self._deaf_since == math.inf:
            self._deaf_since = self._loop.time()
        for segment in self._arrived:
            _close(segment.fds)
        self._arrived.clear()
        self._update_writable()

    def destroy(self) -> None:
        """Close all descriptors that are under way."""
        for segment in (*self._arrived, *self._flying):
            if isinstance(segment, Segment):
                _close(segment.fds)
                segment.fds = []


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


class Connection:
    """Two sockets and the two pipes between them.

    Attributes:
        name: What the ends are called in labels of peers; unique.
        sockets: The end that has connected, and the end that has accepted.
    """

    def __init__(self, loop: VirtualLoop, name: str, family: int, conditions: Conditions, seed: str) -> None:
        self.name = name
        self.conditions = conditions
        self.broken = False
        """Whether it was cut, so that either side may have missed something."""
        self.owner: object = None
        """The client whose connection it is, if it is one's."""
        self.journals = [Journal(f"one end of {name}"), Journal(f"the other end of {name}")]
        """What each side is told to send."""
        rng = random.Random(f"{seed}/{name}")
        self.rng = rng
        there, back = Pipe(loop, conditions, rng), Pipe(loop, conditions, rng)
        self.pipes = (there, back)
        near = SimulatedSocket(loop, self, 0, family, back, there)
        far = SimulatedSocket(loop, self, 1, family, there, back)
        self.sockets = (near, far)

    def partition(self) -> None:
        """Let nothing arrive, in either direction."""
        self.conditions.partitioned = True

    def heal(self) -> None:
        """End the partition."""
        self.conditions.partitioned = False
        for pipe in self.pipes:
            pipe.heal()

    def cut(self) -> None:
        """Lose the connection, perhaps in the middle of a message. Each end notices at a time of its own."""
        if not self.broken:
            self.broken = True
            for pipe in self.pipes:
                error = self.rng.choice((0, errno.ECONNRESET, errno.ETIMEDOUT))
                pipe.cut(error, self.rng.choice((0.0, 0.01, 0.5)))

    def destroy(self) -> None:
        for end in self.sockets:
            end.close()
        for pipe in self.pipes:
            pipe.destroy()


class SimulatedSocket:
    """The calls of a connected stream socket that `SocketStream` makes."""

    def __init__(
        self, loop: VirtualLoop, connection: Connection, side: int, family: int, incoming: Pipe, outgoing: Pipe
    ) -> None:
        self.connection = connection
        self.side = side
        self.family = family
        self.incoming, self.outgoing = incoming, outgoing
        self._poll = loop.poll
        self._fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)  # a number that nobody else has
        incoming.reader = outgoing.writer = self
        self.set_ready(WRITE, True)

    def set_ready(self, event: int, ready: bool) -> None:
        if self._fd >= 0:
            self._poll.set_ready(self._fd, event, ready)

    def fileno(self) -> int:
        return self._fd

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        return self.outgoing.write((data,), ())

    def sendmsg(
        self, parts: Sequence[bytes | memoryview], ancillary: Sequence[tuple[int, int, array[int]]], flags: int = 0
    ) -> int:
        return self.outgoing.write(parts, [fd for _, _, fds in ancillary for fd in fds])

    def recv(self, nbytes: int, flags: int = 0) -> bytes:
        data, fds = self.incoming.read(nbytes)
        _close(fds)
        return data

    def recv_into(self, room: memoryview, nbytes: int, flags: int = 0) -> int:
        data, fds = self.incoming.read(nbytes)
        _close(fds)
        room[: len(data)] = data
        return len(data)

    def recvmsg_into(
        self, rooms: Sequence[memoryview], ancillary_size: int, flags: int = 0
    ) -> tuple[int, list[tuple[int, int, bytes]], int, None]:
        data, fds = self.incoming.read(len(rooms[0]))
        rooms[0][: len(data)] = data
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds).tobytes())] if fds else []
        return len(data), ancillary, 0, None

    def setsockopt(self, *args: object) -> None:
        """Take any option."""

    def getsockopt(self, *args: object) -> bytes:
        """Know nothing of acknowledgements: a far side that vanishes without a word is not simulated."""
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def shutdown(self, how: int) -> None:
        if self._fd >= 0:
            self.outgoing.finish()

    def close(self) -> None:
        if self._fd >= 0:
            self.outgoing.finish()
            self.incoming.stop_reading()
            self._poll.set_ready(self._fd, READ | WRITE, False)
            os.close(self._fd)
            self._fd = -1


class Network:
    """All connections of a site, and those to come."""

    def __init__(self, loop: VirtualLoop, seed: str, conditions_of: Callable[[str], Conditions]) -> None:
        self.connections: list[Connection] = []
        self._loop = loop
        self._seed = seed
        self._conditions_of = conditions_of
        self._numbers: dict[str, int] = {}

    def connect(self, name: str, *, local: bool = False) -> Connection:
        """Return a new connection; `name` with a number is what it is called."""
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        family = socket.AF_UNIX if local else socket.AF_INET
        conditions = self._conditions_of(name)
        connection = Connection(self._loop, f"{name}#{number}", family, conditions, self._seed)
        self.connections.append(connection)
        return connection

    def named(self, name: str) -> Connection | None:
        """Return the newest connection of a name."""
        full = f"{name}#{self._numbers.get(name, 0)}"
        return next((each for each in reversed(self.connections) if each.name == full), None)

    def destroy(self) -> None:
        """Close everything."""
        for connection in self.connections:
            connection.destroy()
        self.connections.clear()
