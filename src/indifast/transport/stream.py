"""Byte streams under an event loop: their common base, and streams over sockets.

A stream moves bytes between the kernel and two objects that belong to its owner: a `Receiver`, which gets what arrives,
and an outbox, which supplies what to write next. It knows nothing about messages. All methods must be called in the
event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import select
import socket
import struct
import sys
import termios
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from indifast.protocol.complaints import Complaints
from indifast.protocol.message import Buffer
from indifast.transport.alive import Guard, tune_tcp
from indifast.transport.loop import expect_answer

if TYPE_CHECKING:
    from indifast._senders import Job
    from indifast.routing.bytequeue import ByteQueue
    from indifast.transport.drain import Drain
    from indifast.transport.senders import Senders

logger = logging.getLogger(__name__)

MAX_FDS = 16
"""The number of descriptors per Unix socket message that every INDI peer has room for."""

CLOSE_GRACE = 2.0
"""Seconds that `close` gives a peer to read what is queued."""

MEMORY_PAUSE = 0.1
"""Seconds before reading is retried when there was no memory for it."""

_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array("i").itemsize)
IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024)
"""Pieces that one system call writes at most."""

_READ_CHUNK = 2 << 20  # bytes read at once into memory of the receiver
_JOB = 1 << 20  # bytes that senders are given at once: with more, nothing would be gained, and others would wait
_WRITE_BUDGET = 512 << 10
"""Bytes that the loop writes at most for one stream before the others have their turn.

All receivers of a frame are sent one such part of it before the next one, while it is in the processor's cache.
"""
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.05  # seconds between looks at what is under way before the socket is closed
_DISCARDS = 64  # maximum reads of input that is no longer wanted
_MIN_ROOM = 128 << 10  # a receive buffer with less room than this is given back
_SPARE = 16  # unused receive buffers that a thread keeps permanently
_MOST_SPARE = 1024  # maximum unused receive buffers that a thread keeps at any time
_TRIM_INTERVAL = 1.0  # seconds for which the other unused buffers are kept at least
_WORTH_DISCARDING = 1 << 20  # bytes of the smallest unfinished message that is worth discarding to free memory

_SHORT = 4096  # bytes of the longest message that may be answered as soon as it has been sent
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECV_FLAGS = socket.MSG_DONTWAIT
_RECVMSG_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_NO_MEMORY = MemoryError("not enough memory")  # made in advance
_TRUNCATED = int(socket.MSG_CTRUNC)  # a plain number: `&` with an enum calls three Python functions for each read
_ALL_SENT = frozenset({0, errno.ECANCELED})  # ECANCELED: the threads have ended, and the loop writes the rest
_PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN})


class Receiver(Protocol):
    """The owner of the reading side of a stream.

    A receiver may also have a method `eof_received() -> bool`. If it returns True, the stream stays open for writing
    after the peer has finished sending, and `connection_lost` is called when the other direction ends. A receiver that
    assembles messages from several reads also has `held`, the bytes of the unfinished message, and `out_of_memory()`,
    which discards that message. A receiver that wants large contents in memory of its own has `target()`, which returns
    what is to be filled next, or None, and `arrived(nbytes)`, which is called instead of `data_received` after that. A
    receiver whose reading depends on what it can write has `output_lost()`, which is called when nothing more can be
    written although the peer's last data are still to be read.
    """

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int], /) -> None:
        """Called with each read. `data[start:end]` will not change; the receiver now owns the descriptors `fds`."""
        ...

    def connection_lost(self, exc: Exception | None, /) -> None:
        """Called once, when the stream has ended. `exc` is None if the peer or the owner has closed it."""
        ...


class Queue(Protocol):
    """What a stream needs from an outbox.

    After `take`, the stream writes what it was given, perhaps in a thread. `sent` follows before the next `take`, at
    once or much later, or never if the stream ends. Meanwhile, more may be put into the outbox, but what it has given
    out stays.
    """

    @property
    def pending(self) -> bool:
        """Whether something can be written now."""
        ...

    @property
    def queued(self) -> int:
        """Bytes waiting to be sent."""
        ...

    def take_single(self) -> Buffer | None:
        """Do the same as `take` if one small message is all that waits; otherwise return None.

        If all of it was written, `sent_single` follows before anything else is put into the outbox; otherwise `sent`.
        """
        ...

    def sent_single(self, now: float, /) -> None:
        """Note that all of what `take_single` returned was written, so that nothing waits."""
        ...

    def take(self, max_bytes: int, max_parts: int, /) -> tuple[Sequence[Buffer], Sequence[int]]:
        """Return what to write next, and the descriptors to send with its first byte. Nothing is removed."""
        ...

    def sent(self, nbytes: int, now: float, /) -> bool:
        """Note that `nbytes` of what `take` returned were written, perhaps 0; return whether something is pending."""
        ...


class _ReadBuffer:
    """The receive block that all streams of a thread fill in turn.

    The space that one read leaves free is used by the next read of any stream, so idle streams hold no memory, and a
    small message does not take a whole block. Frames in transit fill many blocks. Allocating new memory costs more than
    processing what is read into it, so blocks that are freed are kept for as long as such traffic lasts.
    """

    def __init__(self) -> None:
        from indifast._parser import BlockPool

        self._pool = BlockPool(keep=_MOST_SPARE)
        self._trimming: asyncio.AbstractEventLoop | None = None  # the loop on which the next trim is scheduled
        self._block: Any = None
        self._view: memoryview | None = None  # the free part of the block
        self._complaints = Complaints(logger)
        self.start = 0
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        """The streams of this thread."""

    @property
    def blocks(self) -> int:
        """The number of blocks, in use or not."""
        return self._pool.blocks

    def room(self) -> tuple[Any, memoryview]:
        """Return the block and its free part, which begins at `start`.

        Raises:
            MemoryError: There is no memory for a block, and no unfinished message that is worth discarding.
        """
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
        return self._block, self._view

    def fill(self, nbytes: int) -> int:
        """Mark the first `nbytes` of the free part as used. Return the offset of their end."""
        end = self.start + nbytes
        assert self._view is not None
        left = self._view[nbytes:]
        if len(left) < _MIN_ROOM:
            self._view = self._block = None
        else:
            self._view = left
        self.start = end
        return end

    def relieve(self) -> bool:
        """Free memory by discarding the largest unfinished message of any stream.

        Otherwise the streams that happen to need memory would suffer, rather than the stream that uses it up.

        Returns:
            False if there is no message that is large enough.
        """
        largest = max(self.streams, key=lambda stream: stream.held, default=None)
        if largest is None or largest.held < _WORTH_DISCARDING:
            return False
        largest.out_of_memory()
        self.give_back()
        return True

    def warn(self, text: str) -> None:
        """Log a warning at a limited rate, unless there is no memory for it."""
        with contextlib.suppress(MemoryError):
            self._complaints.say(logging.WARNING, time.monotonic(), "%s", text)

    def complain(self, text: str, peername: str, error: BaseException) -> None:
        """Log an internal error at a limited rate: a peer may cause it with every message, or by reconnecting."""
        self._complaints.say(logging.ERROR, time.monotonic(), text, peername, exc_info=error)

    def give_back(self) -> None:
        """Free all but a few of the unused blocks, because no more frames are expected soon."""
        self._pool.trim(_SPARE)
        self._pool.trim(_SPARE)  # the pool frees blocks that were not needed since the previous call

    def _trim_later(self) -> None:
        loop = asyncio.get_running_loop()
        if self._trimming is not loop:
            loop.call_later(_TRIM_INTERVAL, self._trim)
            self._trimming = loop  # not before, as there may be no memory for the timer

    def _trim(self) -> None:
        self._trimming = None
        self._pool.trim(_SPARE)
        if self._pool.blocks > _SPARE + 1:  # one is being filled
            self._trim_later()


def hang_up_probe(loop: asyncio.AbstractEventLoop, fd: int) -> Callable[[int], object] | None:
    """Return a function that, called with 0, says whether the peer of `fd` is gone; None if `loop` needs no such check.

    asyncio's loops call a reader as long as there is anything to read, including the end of file. Loops based on libuv
    (uvloop) report an error, such as a reset, to the reader and the writer of a descriptor once, and then stop watching
    it. A reader that has read some bytes would then never learn of those that follow, and of the end of file.
    """
    if isinstance(loop, asyncio.SelectorEventLoop):
        return None
    probe = select.poll()
    probe.register(fd, 0)  # errors and hang-ups are always reported
    return probe.poll


class _ReadBuffers(threading.local):
    """Gives each thread its own buffer. Streams keep theirs, because finding it takes longer than reading a message."""

    def __init__(self) -> None:
        self.own = _ReadBuffer()


_read_buffers: _ReadBuffers | None = None


def read_buffer() -> _ReadBuffer:
    """Return the receive buffer of this thread."""
    global _read_buffers
    if _read_buffers is None:
        _read_buffers = _ReadBuffers()
    return _read_buffers.own


class Life(Enum):
    """The stages in the life of a stream."""

    OPEN = "open"
    CLOSING = "closing"  # no longer reads, but still writes what is queued
    CLOSED = "closed"


class Input(Enum):
    """The states of the reading side of a stream."""

    IDLE = "idle"  # not watched (yet), although neither owner nor peer prevents it
    WATCHED = "watched"  # the loop reports when there is something to read
    PAUSED = "paused"
    OVER = "over"  # the peer has finished sending


class Output(Enum):
    """The states of the writing side of a stream."""

    READY = "ready"
    DUE = "due"  # will write at the end of this iteration of the loop
    SENDING = "sending"  # a thread writes what was taken from the outbox
    BLOCKED = "blocked"  # an event will report when more can be written
    FAILED = "failed"  # nothing more can be written, but the last data from the peer is still read


OPEN, CLOSING, CLOSED = Life
IDLE, WATCHED, PAUSED, OVER = Input
READY, DUE, SENDING, BLOCKED, FAILED = Output


class Stream:
    """A bidirectional connection, the base of `SocketStream`, `FileStream` and `TLSStream`.

    A stream has three independent states:

    * life: open, closing (after `close`), or closed (after `abort`, an error, the end of file, or when everything is
      written while closing);
    * input: idle until the stream is started, while there is no memory, and while the receiver is to be called again;
      otherwise watched until `pause_reading` (which `resume_reading` undoes) or closing; over for good after the end of
      file;
    * output: ready, due (after `wake_soon`, until the end of the iteration), sending (until a thread has written what
      it was given), or blocked (until the kernel takes more); failed for good if the peer turns out to be gone.

    Attributes:
        peername: The name of the peer, for logs.
        local: Whether the peer is on an AF_UNIX socket, which can carry descriptors.
    """

    def __init__(self, peername: str, local: bool) -> None:
        self.peername = peername
        self.local = local
        self.read_limit = 1 << 30
        """Maximum number of bytes per read, set by the owner. Everything from one read is handled at once."""
        self.senders: Senders | None = None
        """The threads that write what is large, set by the owner. Only a `SocketStream` uses them."""
        self._drain: Drain | None = None  # if the queue is adapted to the rate of the peer
        self._loop = asyncio.get_running_loop()
        self._buffer = read_buffer()
        self._receiver: Receiver | None = None
        self._has_target = False  # the receiver may want to be read into memory of its own
        self._outbox: Queue | None = None
        self._lost_early: Exception | None = None  # why the stream has ended before its start
        self._life = OPEN
        self._input = IDLE
        self._output = READY
        self._starved: asyncio.TimerHandle | None = None  # set while there is no memory for reading
        self._again: float | None = None  # after which pause the receiver is to be called before anything is read
        self._again_due = False  # the loop will do that
        self._ending: Callable[[], None] | None = None  # what ends the stream afterwards
        self._grace: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._failure: Exception | None = None  # to be reported with the end of the input
        self._looks = 0  # at what is under way after the last write
        self._look: asyncio.TimerHandle | None = None  # the next one

    # -- For the owner

    def start(self, receiver: Receiver, outbox: Queue) -> None:
        """Start reading and writing. Call `wake` or `wake_soon` whenever something is put into the outbox."""
        self._receiver = receiver
        self._outbox = outbox
        self._has_target = hasattr(receiver, "target")
        if self._life is CLOSED:  # closed before the start
            self._loop.call_soon(self._report_lost, self._lost_early)
            return
        self._buffer.streams.add(self)
        self._watch_input()
        if outbox.pending:
            self.wake()

    def wake(self) -> None:
        """Write what is in the outbox: as much as the kernel takes now, the rest when it takes more."""
        output = self._output
        if (output is READY or output is DUE) and self._life is not CLOSED and self._outbox is not None:
            try:
                self._write()
            except MemoryError:
                self._no_memory("write to it")

    def wake_soon(self) -> None:
        """Do the same as `wake` once the running code has returned to the loop. Many calls result in one write."""
        if self._output is READY and self._life is not CLOSED:
            self._loop.call_soon(self._wake_now)
            self._output = DUE  # not before, as there may be no memory for the call

    def call_again(self, pause: float = 0.0) -> None:
        """Call the receiver's `data_received` again, without data, and read nothing until then.

        This is for a receiver that has worked on a part of what was read for as long as one turn may take. While
        reading is paused, it is not called.

        Args:
            pause: Seconds until then; 0 for as soon as the others have had their turn.
        """
        self._again = pause
        self._unwatch_input()
        self._watch_input()

    def _call_again(self) -> None:
        self._again_due = False
        if self._again is not None and self._input is IDLE and self._life is OPEN:
            self._again = None
            self._deliver(b"", 0, 0, [])
            if self._again is None and self._ending is not None:
                self._ending()
            else:
                self._watch_input()

    def _put_off(self, ending: Callable[[], None]) -> bool:
        """Have `ending` called once the receiver has nothing left to do. Return False if it has nothing left now."""
        if self._again is None or self._life is not OPEN:
            return False
        self._ending = ending
        return True

    def pause_reading(self) -> None:
        """Stop reading, so that data stays in the kernel and the peer has to wait."""
        self._unwatch_input()
        if self._input is not OVER:
            self._input = PAUSED

    def resume_reading(self) -> None:
        """Read again after `pause_reading`."""
        if self._input is PAUSED:
            self._input = IDLE
            self._watch_input()

    @property
    def under_way(self) -> int:
        """Bytes that were written but are not known to have arrived, as far as the kernel says."""
        return 0

    @property
    def unsent(self) -> int:
        """Bytes that wait in the outbox, or were written but are not known to have arrived.

        A message that is partly written counts as a whole.
        """
        return self._queued + self.under_way

    @property
    def paused(self) -> bool:
        """Whether `pause_reading` was called last."""
        return self._input is PAUSED

    @property
    def nearby(self) -> bool:
        """Whether the peer is known to be on this machine."""
        return self.local

    def pace(self, queue: ByteQueue, method: Callable[[float], str] | None = None) -> None:
        """Cut the frames of the outbox, which is `queue`, into pieces that suit the rate of the peer. See `Drain`."""

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """Stop reading, write what is queued for at most `grace` seconds, then close."""
        if self._life is not OPEN:
            return
        self._life = CLOSING
        self._unwatch_input()
        if self._outbox is None or self._output is FAILED:
            self._end(self._failure)
            return
        self._grace = self._loop.call_later(grace, self._give_up, grace)
        self._finish_if_flushed()
        self.wake_soon()

    def abort(self) -> None:
        """Close now and discard what is queued."""
        self._end(None)

    def _give_up(self, grace: float) -> None:
        """End the stream although the peer has not taken everything."""
        left = self._unwritten()
        text = f"closed after {grace:g} s, in which the peer did not read the last {left} bytes"
        self._end(TimeoutError(text) if left else None)

    async def wait_closed(self) -> None:
        """Wait until either side has ended the stream."""
        if self._life is not CLOSED:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    @property
    def closed(self) -> bool:
        """True if the stream is closing or closed."""
        return self._life is not OPEN

    @property
    def connected(self) -> bool:
        """True until the stream is closing or closed."""
        return self._life is OPEN

    # -- For streams in need of memory

    @property
    def held(self) -> int:
        """Bytes of the unfinished message from this stream."""
        held: int = getattr(self._receiver, "held", 0)
        return held

    def out_of_memory(self) -> None:
        """Discard the unfinished message from this stream."""
        self._receiver.out_of_memory()  # type: ignore[union-attr]  # a receiver with `held` has this method as well

    # -- For subclasses

    def _wake_now(self) -> None:
        if self._output is DUE:
            self._output = READY
            self.wake()

    def _watch_input(self) -> None:
        if self._input is IDLE and self._life is OPEN and self._receiver is not None and self._starved is None:
            if self._again is not None:
                if not self._again_due:
                    self._loop.call_later(self._again, self._call_again)
                    self._again_due = True  # not before, as there may be no memory for the call
                return
            self._input = WATCHED
            try:
                self._open_input()
            except (MemoryError, SystemError):  # the latter is what CPython's weak dictionaries raise without memory
                self._input = IDLE
                self._read_later()
                if self._starved is None:
                    raise

    def _reading(self, fd: int, read: Callable[[], None]) -> Callable[[], None]:
        """Return what the loop calls when `fd` can be read: `read`, and what some loops need in addition."""
        hung_up = hang_up_probe(self._loop, fd)
        if hung_up is None:
            return read

        def read_and_watch() -> None:
            read()
            try:
                if self._input is WATCHED and hung_up(0):
                    self._watch_again()
            except (MemoryError, SystemError):
                self._no_memory("watch it")

        return read_and_watch

    def _watch_again(self) -> None:
        """Make the loop report what is left to be read, and then the end. See `hang_up_probe`."""
        self._shut_input()
        self._open_input()

    def _unwatch_input(self) -> None:
        if self._input is WATCHED:
            self._input = IDLE
            self._shut_input()

    def _read_later(self) -> None:
        """Pause reading for lack of memory. Otherwise the loop would keep reporting the unread data."""
        if self._starved is None:
            try:
                self._starved = self._loop.call_later(MEMORY_PAUSE, self._read_again)
            except MemoryError:
                return  # without a timer, reading must not be paused
        self._unwatch_input()
        self._buffer.warn(f"{self.peername}: reading paused: not enough memory")

    def _read_again(self) -> None:
        self._starved = None
        self._watch_input()

    def _no_memory(self, what: str) -> None:
        """End the stream after memory ran out in the middle of something, which leaves its state unknown."""
        exc = _NO_MEMORY
        try:
            self._buffer.relieve()
            self._buffer.warn(f"{self.peername}: closed: not enough memory to {what}")
            exc = MemoryError(f"not enough memory to {what}")
        except MemoryError:
            pass
        finally:
            self._end(exc)

    def _deliver(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Pass on what was read. An exception in the receiver ends this stream, but no others."""
        assert self._receiver is not None
        try:
            self._receiver.data_received(data, start, end, fds)
        except MemoryError:
            self._no_memory("read from it")
        except Exception as exc:
            self._buffer.complain("%s: closed after an internal error", self.peername, exc)
            self._end(exc, at_once=True)

    def _end_of_input(self) -> None:
        if self._life is CLOSED or self._put_off(self._end_of_input):
            return
        self._unwatch_input()
        self._input = OVER
        eof_received = getattr(self._receiver, "eof_received", None)
        if eof_received is None or self._life is not OPEN or not eof_received():
            self._end(self._failure, at_once=True)

    def _finish_if_flushed(self) -> None:
        if self._life is CLOSING and self._flushed():
            self._end(None)

    @property
    def _queued(self) -> int:
        """Bytes that wait in the outbox."""
        return getattr(self._outbox, "queued", 0)

    def _unwritten(self) -> int:
        """Return how many bytes this process still has."""
        return self._queued

    def _look_later(self) -> None:
        """Have `_finish_if_flushed` called again."""
        if self._look is None:
            self._looks += 1
            self._look = self._loop.call_later(min(_FIRST_LOOK * self._looks, _LONGEST_LOOK), self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._finish_if_flushed()

    def _output_failed(self) -> None:
        """Note that nothing more can be written, while what the peer has written is still read."""
        self._output = FAILED
        output_lost = getattr(self._receiver, "output_lost", None)
        if output_lost is not None:
            output_lost()

    def _flushed(self) -> bool:
        outbox = self._outbox
        return outbox is None or not (outbox.pending or outbox.queued)

    def _end(self, exc: Exception | None, at_once: bool = False) -> None:
        """Release everything and notify the receiver: from the loop, as it may be the caller, unless `at_once`."""
        if self._life is CLOSED:
            return
        self._life = CLOSED
        self._unwatch_input()
        for timer in (self._grace, self._starved, self._look):
            if timer is not None:
                timer.cancel()
        self._buffer.streams.discard(self)
        try:
            self._release()
        finally:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            if not at_once:
                try:
                    self._loop.call_soon(self._report_lost, exc)
                except MemoryError:
                    at_once = True
            if at_once:
                self._report_lost(exc)

    def _report_lost(self, exc: Exception | None) -> None:
        receiver = self._receiver
        self._receiver = None  # a stream that ends before its start gets here twice
        if receiver is None:
            self._lost_early = exc
            return
        try:
            receiver.connection_lost(exc)
        except Exception as error:
            self._buffer.complain("%s: error in connection_lost", self.peername, error)

    def _open_input(self) -> None:
        raise NotImplementedError

    def _shut_input(self) -> None:
        raise NotImplementedError

    def _unwatch_output(self) -> None:
        raise NotImplementedError

    def _writable(self) -> None:
        self._output = READY
        self.wake()
        if self._output is not BLOCKED:
            self._unwatch_output()

    def _write(self) -> None:
        raise NotImplementedError

    def _release(self) -> None:
        """Release the resources. What the kernel has is still sent."""
        raise NotImplementedError


class SocketStream(Stream):
    """A stream over a connected TCP or AF_UNIX stream socket, which it owns.

    Every call passes MSG_DONTWAIT, so the flags of a file description shared with other processes do not change.

    What is large is written by `senders`, if there are any. Until they are done with it, nothing else is written, and
    the socket is not closed: another connection might get its number, and what was meant for this peer.
    """

    def __init__(self, sock: socket.socket, peername: str = "") -> None:
        local = sock.family == socket.AF_UNIX
        super().__init__(peername or peer_name(sock), local)
        self.socket = sock
        self._fd = sock.fileno()
        self._blocking = os.get_blocking(self._fd)
        self._more_fds: Sequence[int] = ()
        self._job: Job | None = None  # what `senders` are writing
        self._watching_output = False
        self._expect_answer = expect_answer(self._loop)
        self._readable = self._reading(self._fd, self._read_unix if local else self._read_tcp)
        self._guard: Guard | None = None
        if not local:
            tune_tcp(sock)
            self._guard = Guard(self._loop, sock, self._end)

    @property
    def under_way(self) -> int:
        """See `Stream.under_way`. On a Unix socket, what the peer has not read."""
        return bytes_under_way(self.socket)

    @property
    def nearby(self) -> bool:
        """See `Stream.nearby`."""
        return self.local or is_nearby(self.socket)

    def pace(self, queue: ByteQueue, method: Callable[[float], str] | None = None) -> None:
        """See `Stream.pace`."""
        from indifast.transport.drain import Drain  # not before it is needed: most connections never do

        self._drain = Drain(queue, self.socket, method, nearby=self.nearby)

    def _open_input(self) -> None:
        self._loop.add_reader(self._fd, self._readable)
        self._keep_flags()

    def _shut_input(self) -> None:
        self._loop.remove_reader(self._fd)

    def _watch_again(self) -> None:
        watching_output = self._watching_output
        self._unwatch_output()  # the loop has one record for both directions, and ends it when we return
        super()._watch_again()
        if watching_output:
            self._await_writable()

    def _keep_flags(self) -> None:
        """Make the socket blocking again if uvloop made it non-blocking: other processes may share its description."""
        if self._blocking and not os.get_blocking(self._fd):
            os.set_blocking(self._fd, True)

    # One read per readiness event, so that a stream that always has more does not keep the others waiting.

    def _read_tcp(self) -> None:
        if self._has_target:
            target = self._receiver.target()  # type: ignore[union-attr]  # see `Receiver`
            if target is not None:
                self._read_into(target)
                return
        try:
            block, room = self._buffer.room()
        except MemoryError:
            self._read_later()
            return
        start = self._buffer.start
        try:
            nbytes = self.socket.recv_into(room, min(len(room), self.read_limit), _RECV_FLAGS)
            if nbytes:
                self._deliver(block, start, self._buffer.fill(nbytes), [])
            else:
                self._end_of_input()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc, at_once=True)
        except MemoryError:  # perhaps after something was read, which is lost then
            self._no_memory("read from it")

    def _read_into(self, target: memoryview) -> None:
        """Read into memory of the receiver."""
        try:
            nbytes = self.socket.recv_into(target, min(len(target), self.read_limit, _READ_CHUNK), _RECV_FLAGS)
            target.release()
            if nbytes:
                self._receiver.arrived(nbytes)  # type: ignore[union-attr]
            else:
                self._end_of_input()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc, at_once=True)
        except MemoryError:
            self._no_memory("read from it")
        except Exception as exc:
            self._buffer.complain("%s: closed after an internal error", self.peername, exc)
            self._end(exc, at_once=True)

    def _read_unix(self) -> None:
        try:
            block, room = self._buffer.room()
        except MemoryError:
            self._read_later()
            return
        start = self._buffer.start
        ancillary: list[tuple[int, int, bytes]] = []
        fds: list[int] | None = None
        try:
            whole = len(room) <= self.read_limit
            nbytes, ancillary, flags, _ = self.socket.recvmsg_into(
                [room if whole else room[: self.read_limit]], _ANCILLARY, _RECVMSG_FLAGS
            )
            end = self._buffer.fill(nbytes) if nbytes else start
            fds = _descriptors(ancillary) if ancillary else []
            truncated = flags & _TRUNCATED
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(exc, at_once=True)
            return
        except MemoryError:  # perhaps after something was read, which is lost then
            self._no_memory("read from it")
            for fd in _descriptors(ancillary) if fds is None else fds:
                os.close(fd)
            return
        if truncated:
            # Which descriptors are missing is unknown, so none can be assigned to a message.
            for fd in fds:
                os.close(fd)
            self._end(OSError(errno.EMFILE, "descriptors were lost: too many in one message, or none free here"), True)
        elif nbytes:
            self._deliver(block, start, end, fds)
        else:
            self._end_of_input()

    def _write(self) -> None:
        assert self._outbox is not None
        single = self._outbox.take_single()
        if single is None or (self.senders is not None and len(single) >= self.senders.smallest):
            self._write_several()
        else:
            self._write_single(single)
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _write_single(self, single: Buffer) -> None:
        """Write a small message, which is all that waits."""
        outbox = self._outbox
        assert outbox is not None
        try:
            nbytes = self.socket.send(single, _SEND_FLAGS)
        except (BlockingIOError, InterruptedError):
            outbox.sent(0, time.monotonic())
            self._await_writable()
            return
        except OSError as exc:
            self._write_failed(exc)
            return
        now = time.monotonic()
        if nbytes == len(single):
            outbox.sent_single(now)
            if nbytes < _SHORT and self._expect_answer is not None:
                self._expect_answer()
        else:
            outbox.sent(nbytes, now)
            self._await_writable()
        if self._drain is not None:
            self._drain.took(nbytes, now)
        guard = self._guard
        if guard is not None and not guard.watching:
            guard.watch()

    def _write_several(self) -> None:
        """Write what waits, or have senders write it."""
        outbox = self._outbox
        assert outbox is not None
        guard, drain = self._guard, self._drain
        senders = self.senders if drain is None or not drain.slow else None
        budget = _WRITE_BUDGET
        if drain is not None:
            drain.go_on(time.monotonic())
        pending = outbox.pending
        while pending:
            try:
                parts, fds = outbox.take(budget if senders is None else _JOB, IOV_MAX)
                if not parts:
                    break
                if senders is not None and not fds and self._hand_over(senders, parts):
                    return
                nbytes, asked = self._send(parts, fds, budget)
            except (BlockingIOError, InterruptedError):
                outbox.sent(0, time.monotonic())
                self._await_writable()
                return
            except OSError as exc:
                self._write_failed(exc)
                return
            now = time.monotonic()
            pending = outbox.sent(nbytes, now)
            if nbytes < _SHORT and self._expect_answer is not None:
                self._expect_answer()  # also to a frame that is attached
            budget -= nbytes
            if drain is not None:
                drain.took(nbytes, now, more=budget <= 0 and nbytes == asked)
            if guard is not None and not guard.watching:
                guard.watch()
            if nbytes < asked or budget <= 0:
                self._await_writable()
                return

    def _send(self, parts: Sequence[Buffer], fds: Sequence[int], most: int) -> tuple[int, int]:
        """Make one system call, for at most `most` bytes. Return the number of bytes written and of bytes offered."""
        fds = fds or self._more_fds
        if not fds:
            total = sum(map(len, parts))
            if total > most:
                parts, total = _beginning(parts, most), most
            if len(parts) == 1:
                return self.socket.send(parts[0], _SEND_FLAGS), total
            return self.socket.sendmsg(parts, (), _SEND_FLAGS), total
        now, later = fds[:MAX_FDS], fds[MAX_FDS:]
        if later:  # each further batch has to be sent with a byte of data
            parts = _beginning(parts, 1)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", now))]
        nbytes = self.socket.sendmsg(parts, rights, _SEND_FLAGS)
        self._more_fds = later
        return nbytes, sum(map(len, parts))

    def _hand_over(self, senders: Senders, parts: Sequence[Buffer]) -> bool:
        """Have the threads write these parts. Return False if the loop is to write them, because they are few bytes."""
        if (len(parts) == 1 and len(parts[0]) < senders.smallest) or self._more_fds:
            return False
        job = self._job = senders.send(self._fd, parts, self._handed_back)
        if job is None:
            return False
        self._output = SENDING
        return True

    def _handed_back(self, nbytes: int, error: int) -> None:
        """Go on after the threads have written `nbytes`. Nothing is raised here: others wait for their turn."""
        self._job = None
        self._output = READY
        try:
            assert self._outbox is not None
            now = time.monotonic()
            self._outbox.sent(nbytes, now)
            if self._life is CLOSED:
                return
            if self._drain is not None:
                self._drain.took(nbytes, now)
            if self._guard is not None and not self._guard.watching:
                self._guard.watch()
            if error == errno.EAGAIN:
                self._await_writable()
            elif error in _ALL_SENT:
                self._write()
            else:
                self._write_failed(OSError(error, os.strerror(error)))
        except MemoryError:
            self._no_memory("write to it")
        except Exception as exc:
            self._buffer.complain("%s: closed after an internal error", self.peername, exc)
            self._end(exc)

    def _flushed(self) -> bool:
        """Return whether the peer's kernel has everything.

        If it has not, and the peer sends something after the socket has been closed, the connection is reset, and what
        is under way is lost.
        """
        if self._output is SENDING or not super()._flushed():
            return False
        if self._guard is None or not self._guard.under_way:
            return True
        if not self._looks:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        self._look_later()
        return False

    def _await_writable(self) -> None:
        self._output = BLOCKED
        if not self._watching_output:
            self._watching_output = True
            self._loop.add_writer(self._fd, self._writable)
            self._keep_flags()

    def _unwatch_output(self) -> None:
        if self._watching_output:
            self._watching_output = False
            self._loop.remove_writer(self._fd)

    def _write_failed(self, exc: OSError) -> None:
        if exc.errno in _PEER_GONE and self._input is not OVER and self._life is OPEN:
            self._output_failed()
            return  # the last data from the peer is still to be read, then its end of file
        self._end(exc)

    def _release(self) -> None:
        self._unwatch_output()
        if self._guard is not None:
            self._guard.close()
        try:
            # Unread input would make the kernel reset the connection, and the peer would lose our last data.
            self.socket.shutdown(socket.SHUT_WR)
            for _ in range(_DISCARDS):
                if not self.socket.recv(1 << 16, _RECV_FLAGS):
                    break
        except (OSError, MemoryError):
            pass
        finally:
            if self._job is not None and self.senders is not None:
                self.senders.withdraw(self._job)  # waits for no more than a system call, which `shutdown` has ended
                self._job = None
            self.socket.close()


def _beginning(parts: Sequence[Buffer], nbytes: int) -> list[Buffer]:
    """Return the first bytes of some parts."""
    out: list[Buffer] = []
    for part in parts:
        if len(part) >= nbytes:
            out.append(memoryview(part)[:nbytes])
            break
        out.append(part)
        nbytes -= len(part)
    return out


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def peer_name(sock: socket.socket) -> str:
    """Return the peer's address for display: `127.0.0.1:7624`, `[::1]:7624`, or `local pid 17 (user: 0:0)`."""
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


def bytes_under_way(sock: socket.socket) -> int:
    """Return how many bytes the far side of a socket has not acknowledged; 0 where the kernel does not say."""
    if sys.platform != "linux":
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # closed
        return 0
    return int(count)


def is_nearby(sock: socket.socket) -> bool:
    """Return whether the peer of a TCP socket is known to be on this machine."""
    try:
        here, there = sock.getsockname()[0], sock.getpeername()[0]
    except OSError:
        return False
    return bool(here == there or there.startswith("127."))


def address_name(address: tuple[Any, ...]) -> str:
    """Return an IPv4 or IPv6 socket address as `host:port`."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
