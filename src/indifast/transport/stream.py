"""Byte streams under an event loop: what they have in common, and the one over a socket.

A stream moves bytes between the kernel and two objects that belong to its owner: a `Receiver`, told what arrives, and
an outbox, asked for what to write next. It knows nothing of messages. All methods are for the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from indifast.protocol.complaints import Complaints
from indifast.protocol.message import Buffer

logger = logging.getLogger(__name__)

MAX_FDS = 16
"""Descriptors per message of a Unix socket that every INDI peer has room for."""

CLOSE_GRACE = 2.0
"""Seconds that `close` gives a peer to read what is queued."""

MEMORY_PAUSE = 0.1
"""Seconds after which to read again what there was no memory for."""

_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array("i").itemsize)
_IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024)
_WRITE_CHUNK = 1 << 20  # bytes per system call: larger ones gain nothing and hold up the loop
_WRITE_BUDGET = 4 << 20  # bytes per turn of the loop for one stream, so that the others have their turn
_DISCARDS = 64  # reads at most of input that nobody wants any more
_MIN_ROOM = 128 << 10  # a receive buffer with less room than this is given back
_SPARE = 16  # unused receive buffers that a thread keeps for good
_MOST_SPARE = 1024  # and at any time
_TRIM_INTERVAL = 1.0  # seconds for which the others are kept at least, unused
_WORTH_IT = 1 << 20  # bytes of an unfinished message from which on giving it up helps those who find no memory

_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECV_FLAGS = socket.MSG_DONTWAIT
_RECVMSG_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN})


class Receiver(Protocol):
    """The reading side's owner.

    It may also have a method `eof_received() -> bool`: True keeps the stream open for writing after the peer has said
    its last word (`connection_lost` then comes with the end of the other direction). One that gathers messages from
    several reads has `held`, the bytes of the unfinished one, and `out_of_memory()`, which gives that up.
    """

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int], /) -> None:
        """`data[start:end]` has arrived and is never changed any more; `fds` belong to the receiver from now on."""
        ...

    def connection_lost(self, exc: Exception | None, /) -> None:
        """The stream is over, called once; None: the peer closed it, or the owner did."""
        ...


class Queue(Protocol):
    """What a stream needs of an outbox."""

    @property
    def pending(self) -> bool:
        """Something could be written now."""
        ...

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        ...

    def take(self, max_bytes: int, max_parts: int, /) -> tuple[Sequence[Buffer], Sequence[int]]:
        """What to write next, and the descriptors that go with its first byte; nothing is removed."""
        ...

    def sent(self, nbytes: int, now: float, /) -> None:
        """So many bytes of what `take` gave were written; said once for each `take`, also when there were none."""
        ...


class _ReadBuffer(threading.local):
    """The receive block that all streams of a thread fill one after the other.

    What one read leaves free serves the next read, of whichever stream: idle streams hold no memory, and small messages
    do not cost a block each. Frames on their way fill many blocks; as new memory costs more than what is done with it,
    those that come back are kept while such traffic goes on.
    """

    def __init__(self) -> None:
        from indifast._parser import BlockPool

        self._pool = BlockPool(keep=_MOST_SPARE)
        self._trimming: asyncio.AbstractEventLoop | None = None  # on which the next look at unused blocks is due
        self._block: Any = None
        self._view: memoryview | None = None
        self._complaints = Complaints(logger)
        self.start = 0
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        """Those of this thread."""

    @property
    def blocks(self) -> int:
        """How many there are, in use or not."""
        return self._pool.blocks

    def room(self) -> tuple[Any, memoryview]:
        """The block and its free part, which begins at `start`. MemoryError: there is none, and nothing to give up."""
        if self._view is None:
            try:
                self._block = self._pool.get()
            except MemoryError:
                if not self.relieve():
                    raise
                self._block = self._pool.get()
            if self._pool.blocks > _SPARE:
                self._trim_later()
            self._view = memoryview(self._block).cast("B")
            self.start = 0
        return self._block, self._view[self.start :]

    def fill(self, nbytes: int) -> int:
        """So many bytes of the free part are taken; returns where they end."""
        end = self.start + nbytes
        assert self._view is not None
        if len(self._view) - end < _MIN_ROOM:
            self._view = self._block = None
        self.start = end
        return end

    def relieve(self) -> bool:
        """There is no memory: have the largest unfinished message given up, whoever's it is. False: none is large.

        Otherwise those would suffer who happen to need some, while the one that takes it goes on.
        """
        largest = max(self.streams, key=lambda stream: stream.held, default=None)
        if largest is None or largest.held < _WORTH_IT:
            return False
        largest.out_of_memory()
        self.give_back()
        return True

    def warn(self, text: str) -> None:
        """Log something that may happen at any rate."""
        self._complaints.say(logging.WARNING, time.monotonic(), "%s", text)

    def complain(self, text: str, peername: str, error: BaseException) -> None:
        """Log a fault of ours that a peer may bring about with all that it sends, or by coming again and again."""
        self._complaints.say(logging.ERROR, time.monotonic(), text, peername, exc_info=error)

    def give_back(self) -> None:
        """Free the unused blocks but for a few: no more frames will come soon."""
        self._pool.trim(_SPARE)
        self._pool.trim(_SPARE)  # none was needed in between

    def _trim_later(self) -> None:
        loop = asyncio.get_running_loop()
        if self._trimming is not loop:
            self._trimming = loop
            loop.call_later(_TRIM_INTERVAL, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        self._pool.trim(_SPARE)
        if self._pool.blocks > _SPARE + 1:  # one is being filled
            self._trim_later()


def hang_up_probe(loop: asyncio.AbstractEventLoop, fd: int) -> Callable[[int], object] | None:
    """Says, called with 0, whether the peer of `fd` is gone; None where that need not be asked.

    asyncio's loops call a reader for as long as there is something to read, the end included. Those on libuv (uvloop's)
    stop watching a descriptor once they have told of an error, such as a reset: a reader that has taken the last bytes
    would never hear of the end behind them.
    """
    if isinstance(loop, asyncio.SelectorEventLoop):
        return None
    probe = select.poll()
    probe.register(fd, 0)  # errors and hang-ups are told all the same
    return probe.poll


_read_buffer: _ReadBuffer | None = None


def read_buffer() -> _ReadBuffer:
    """This process's receive buffers (one per thread behind one object)."""
    global _read_buffer
    if _read_buffer is None:
        _read_buffer = _ReadBuffer()
    return _read_buffer


class Stream:
    """A connection in both directions; see `SocketStream`, `FileStream` and `TLSStream` for what carries it.

    `peername` is for logs; `local` says that the peer is on an AF_UNIX socket, where descriptors can travel.
    """

    def __init__(self, peername: str, local: bool) -> None:
        self.peername = peername
        self.local = local
        self.read_limit = 1 << 30
        """Bytes per read at most, for the owner to set: what is read at once is handled at once."""
        self._loop = asyncio.get_running_loop()
        self._buffer = read_buffer()
        self._receiver: Receiver | None = None
        self._outbox: Queue | None = None
        self._reading = False  # the loop watches for input
        self._paused = False
        self._input_over = False
        self._hang_up: Callable[[int], object] | None = None  # see `hang_up_probe`
        self._write_blocked = False  # a writability event will come
        self._wake_due = False
        self._closing = False
        self._closed = False
        self._lost_told = False
        self._starved: asyncio.TimerHandle | None = None  # there was no memory to read
        self._grace: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # -- for the owner

    def start(self, receiver: Receiver, outbox: Queue) -> None:
        """Begin to read and write. An outbox whose `on_pending` nobody has set wakes this stream by itself."""
        self._receiver = receiver
        self._outbox = outbox
        if getattr(outbox, "on_pending", self) is None:
            outbox.on_pending = self.wake_soon  # type: ignore[attr-defined]
        if self._closed:  # closed before it began
            self._loop.call_soon(self._tell_lost, None)
            return
        self._buffer.streams.add(self)
        self._watch_input()
        if outbox.pending:
            self.wake()

    def wake(self) -> None:
        """The outbox has something: write what the kernel takes now, the rest when it takes more."""
        if not (self._write_blocked or self._closed) and self._outbox is not None:
            self._write()

    def wake_soon(self) -> None:
        """As `wake`, once the code that runs now has returned to the loop: many calls cost one write."""
        if not (self._wake_due or self._write_blocked or self._closed):
            self._wake_due = True
            self._loop.call_soon(self._wake_now)

    def pause_reading(self) -> None:
        """Leave what arrives in the kernel, so that the peer has to wait."""
        self._paused = True
        if self._reading:
            self._unwatch_input()

    def resume_reading(self) -> None:
        self._paused = False
        self._watch_input()

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """Read no more, write what is queued, for at most `grace` seconds, then close."""
        if self._closing or self._closed:
            return
        self._closing = True
        if self._reading:
            self._unwatch_input()
        if self._outbox is None:
            self._end(None)
            return
        self._grace = self._loop.call_later(grace, self.abort)
        self._finish_if_flushed()
        if not self._closed and not self._write_blocked:
            self.wake_soon()

    def abort(self) -> None:
        """Close now; what is queued is lost."""
        self._end(None)

    async def wait_closed(self) -> None:
        """Wait until the stream has ended, by whichever side."""
        if not self._closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    @property
    def closed(self) -> bool:
        return self._closed or self._closing

    # -- for those who share the memory

    @property
    def held(self) -> int:
        """Bytes of the unfinished message that came by this stream."""
        held: int = getattr(self._receiver, "held", 0)
        return held

    def out_of_memory(self) -> None:
        """Give the unfinished message up."""
        self._receiver.out_of_memory()  # type: ignore[union-attr]  # who has `held` has this

    # -- for the kinds of stream

    def _wake_now(self) -> None:
        self._wake_due = False
        self.wake()

    def _watch_input(self) -> None:
        if self._reading or self._paused or self._input_over or self._closing or self._closed or self._receiver is None:
            return
        if self._starved is not None:
            return
        self._reading = True
        self._open_input()

    def _unwatch_input(self) -> None:
        self._reading = False
        self._shut_input()

    def _read_later(self) -> None:
        """There is no memory, and nothing was read: what is to be read would be told again and again until there is."""
        self._buffer.warn(f"{self.peername}: not read for now: there is no memory")
        if self._reading:
            self._unwatch_input()
        if self._starved is None:
            self._starved = self._loop.call_later(MEMORY_PAUSE, self._read_again)

    def _read_again(self) -> None:
        self._starved = None
        self._watch_input()

    def _no_memory(self, what: str) -> None:
        """Half of something was done when there was no memory: only the end is certain."""
        self._buffer.relieve()
        self._buffer.warn(f"{self.peername}: closed: there is no memory for {what}")
        self._end(MemoryError(f"there is no memory for {what}"))

    def _deliver(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Hand on what was read; an exception in the receiver ends this stream and no other."""
        assert self._receiver is not None
        try:
            self._receiver.data_received(data, start, end, fds)
        except MemoryError:
            self._no_memory("what it sends")
        except Exception as exc:
            self._buffer.complain("%s: closed after an internal error", self.peername, exc)
            self._end(exc, at_once=True)
        if self._hang_up is not None and self._reading and self._hang_up(0):
            self._shut_input()  # watched anew, there is news again: what is left, then the end
            self._open_input()

    def _end_of_input(self) -> None:
        self._input_over = True
        if self._reading:
            self._unwatch_input()
        eof_received = getattr(self._receiver, "eof_received", None)
        if eof_received is None or self._closing or not eof_received():
            self._end(None, at_once=True)

    def _finish_if_flushed(self) -> None:
        if self._closing and not self._closed and self._flushed():
            self._end(None)

    def _flushed(self) -> bool:
        outbox = self._outbox
        return outbox is None or not (outbox.pending or outbox.queued)

    def _end(self, exc: Exception | None, at_once: bool = False) -> None:
        """Release everything; the receiver hears of it now or from the loop, where the caller may be the receiver."""
        if self._closed:
            return
        self._closed = True
        if self._reading:
            self._unwatch_input()
        for timer in (self._grace, self._starved):
            if timer is not None:
                timer.cancel()
        self._buffer.streams.discard(self)
        self._release()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if at_once:
            self._tell_lost(exc)
        else:
            self._loop.call_soon(self._tell_lost, exc)

    def _tell_lost(self, exc: Exception | None) -> None:
        if self._receiver is None or self._lost_told:
            return
        self._lost_told = True
        try:
            self._receiver.connection_lost(exc)
        except Exception as error:
            self._buffer.complain("%s: error in connection_lost", self.peername, error)

    def _open_input(self) -> None:
        raise NotImplementedError

    def _shut_input(self) -> None:
        raise NotImplementedError

    def _write(self) -> None:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError


class SocketStream(Stream):
    """A stream over a connected TCP or AF_UNIX stream socket, which it owns.

    Every call says MSG_DONTWAIT, so the flags of a description that is shared with other processes stay as they are.
    """

    def __init__(self, sock: socket.socket, peername: str = "") -> None:
        local = sock.family == socket.AF_UNIX
        super().__init__(peername or peer_name(sock), local)
        self.socket = sock
        self._fd = sock.fileno()
        self._blocking = os.get_blocking(self._fd)
        self._more_fds: Sequence[int] = ()
        self._write_failure = False  # kept without the exception: its traceback would hold what was being sent
        self._watching_output = False
        self._readable: Callable[[], None] = self._read_unix if local else self._read_tcp
        self._hang_up = hang_up_probe(self._loop, self._fd)
        if not local:
            tune_tcp(sock)

    def _open_input(self) -> None:
        self._loop.add_reader(self._fd, self._readable)
        self._keep_flags()

    def _shut_input(self) -> None:
        self._loop.remove_reader(self._fd)

    def _keep_flags(self) -> None:
        """uvloop makes what it watches non-blocking; a description that was blocking may be others' as well."""
        if self._blocking and not os.get_blocking(self._fd):
            os.set_blocking(self._fd, True)

    # One read per readiness event: a stream that always has more does not keep the others waiting.

    def _read_tcp(self) -> None:
        try:
            block, room = self._buffer.room()
        except MemoryError:
            self._read_later()
            return
        start = self._buffer.start
        try:
            nbytes = self.socket.recv_into(room, min(len(room), self.read_limit), _RECV_FLAGS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc, at_once=True)
            return
        except MemoryError:
            self._no_memory("what it sends")
            return
        if nbytes:
            self._deliver(block, start, self._buffer.fill(nbytes), [])
        else:
            self._end_of_input()

    def _read_unix(self) -> None:
        try:
            block, room = self._buffer.room()
        except MemoryError:
            self._read_later()
            return
        start = self._buffer.start
        try:
            nbytes, ancillary, flags, _ = self.socket.recvmsg_into(
                [room[: self.read_limit]], _ANCILLARY, _RECVMSG_FLAGS
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc, at_once=True)
            return
        except MemoryError:
            self._no_memory("what it sends")
            return
        fds = _descriptors(ancillary) if ancillary else []
        if flags & socket.MSG_CTRUNC:
            # Which of the descriptors are missing can't be known, so none can be told to belong to a message.
            for fd in fds:
                os.close(fd)
            self._end(OSError(errno.EMFILE, "descriptors were lost: too many in one message, or none free here"), True)
        elif nbytes:
            self._deliver(block, start, self._buffer.fill(nbytes), fds)
        else:
            self._end_of_input()

    def _write(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        if self._write_failure:
            return
        budget = _WRITE_BUDGET
        while outbox.pending:
            try:
                parts, fds = outbox.take(_WRITE_CHUNK, _IOV_MAX)
                if not parts:
                    break
                nbytes, asked = self._send(parts, fds)
            except (BlockingIOError, InterruptedError):
                outbox.sent(0, time.monotonic())
                self._await_writable()
                return
            except OSError as exc:
                self._write_failed(exc)
                return
            except MemoryError:
                self._no_memory("what it is to be told")
                return
            outbox.sent(nbytes, time.monotonic())
            budget -= nbytes
            if nbytes < asked or budget <= 0:
                self._await_writable()
                return
        if self._closing:
            self._finish_if_flushed()

    def _send(self, parts: Sequence[Buffer], fds: Sequence[int]) -> tuple[int, int]:
        """One system call; returns the bytes written and the bytes offered."""
        fds = fds or self._more_fds
        if not fds:
            if len(parts) == 1:
                return self.socket.send(parts[0], _SEND_FLAGS), len(parts[0])
            return self.socket.sendmsg(parts, (), _SEND_FLAGS), sum(map(len, parts))
        now, later = fds[:MAX_FDS], fds[MAX_FDS:]
        if later:  # each further batch needs a byte of its own to travel with
            parts = [memoryview(parts[0])[:1]]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", now))]
        nbytes = self.socket.sendmsg(parts, rights, _SEND_FLAGS)
        self._more_fds = later
        return nbytes, sum(map(len, parts))

    def _await_writable(self) -> None:
        self._write_blocked = True
        if not self._watching_output:
            self._watching_output = True
            self._loop.add_writer(self._fd, self._writable)
            self._keep_flags()

    def _writable(self) -> None:
        self._write_blocked = False
        self._write()
        if not self._write_blocked:
            self._unwatch_output()

    def _unwatch_output(self) -> None:
        if self._watching_output:
            self._watching_output = False
            self._loop.remove_writer(self._fd)

    def _write_failed(self, exc: OSError) -> None:
        self._write_failure = True
        if exc.errno in _PEER_GONE and self._reading:
            return  # what the peer said before it left is still to be read; its end of file comes behind that
        self._end(exc)

    def _release(self) -> None:
        self._write_blocked = False
        self._unwatch_output()
        with contextlib.suppress(OSError):
            # Unread input would make the kernel reset the connection, and the peer would lose what we said last.
            self.socket.shutdown(socket.SHUT_WR)
            for _ in range(_DISCARDS):
                if not self.socket.recv(1 << 16, _RECV_FLAGS):
                    break
        self.socket.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def tune_tcp(sock: socket.socket) -> None:
    """Small messages leave at once; a peer whose machine vanished is noticed in about two minutes."""
    with contextlib.suppress(OSError):  # a socket that is already dead says so when it is read
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def peer_name(sock: socket.socket) -> str:
    """The peer's address for people: `127.0.0.1:7624`, `[::1]:7624`, or `local pid 17 (user: 0:0)`."""
    try:
        if sock.family == socket.AF_UNIX:
            if not hasattr(socket, "SO_PEERCRED"):
                return "local"
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, gid = struct.unpack("3i", credentials)
            return f"local pid {pid} (user: {uid}:{gid})"
        return address_name(sock.getpeername())
    except OSError:
        return "unknown"


def address_name(address: tuple[Any, ...]) -> str:
    """`host:port` of a socket address of the Internet families."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
