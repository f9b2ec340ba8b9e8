"""Child processes that communicate over their standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from indifast.transport.files import FileStream, enlarge_pipe
from indifast.transport.stream import MEMORY_PAUSE, SocketStream, Stream

SOCKET_BUFFER = 4 << 20
"""Bytes that the socket between us and a child may hold, as far as the system allows."""

LONGEST_LINE = 16 << 10
"""Maximum bytes in a line of standard error. Longer lines are reported in pieces."""

LINE_RATE = 200
"""Maximum lines of standard error reported per second. Of any others, only the number is reported."""

LAST_WORDS = 20
"""How many of the last lines are reported nevertheless, since they may say why the child ends soon afterwards."""

_READ = 64 << 10

_USAGE_TIMEOUT = 5.0  # seconds that a program has to say what options it has


class Child:
    """A running child process, made by `spawn`. Its `stream` is connected to the child's standard input and output.

    The code that starts a child must end it with `stop`, even if the stream has already ended.
    """

    def __init__(self, process: subprocess.Popen[bytes], stream: Stream, lines: _Lines) -> None:
        self.process = process
        self.pid = process.pid
        self.stream = stream
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()
        self._stopping = False
        self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            self._loop.run_in_executor(None, self._wait_in_thread)
        else:
            self._loop.add_reader(self._pidfd, self._reap)

    @property
    def returncode(self) -> int | None:
        """The exit status as in `subprocess`: None while the child runs, negative if a signal ended it."""
        return self._over.result() if self._over.done() else None

    async def wait(self) -> int:
        """Wait for the child to end. Return its exit status."""
        return await asyncio.shield(self._over)

    async def stop(self, grace: float) -> int:
        """End the child and its process group with SIGTERM, then with SIGKILL if it still runs after `grace` seconds.

        Returns:
            The exit status.
        """
        self._stopping = True
        if not self._over.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait((self._over,), timeout=grace)
            if not self._over.done():
                self._signal(signal.SIGKILL)
        return await self.wait()

    def kill(self) -> None:
        """Send SIGKILL to the process group of the child."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # The child is never reaped without our knowledge, so its process group number can't have been reused.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _wait_in_thread(self) -> None:
        self.process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        if self._pidfd >= 0:  # before reaping, end any processes that the child has left in its group
            self._signal(signal.SIGKILL if self._stopping else signal.SIGTERM)
        status = self.process.poll()
        if status is None:
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._lines.drain()
        if not self._over.done():
            self._over.set_result(status)


class _Lines:
    """Reads lines of any bytes from a pipe and reports at most `LINE_RATE` of them per second.

    The last lines of a second are reported in any case, when it ends: the child may end a moment later because of them.
    """

    def __init__(self, fd: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)  # does not affect the child, which has the other end
        self._fd = fd
        self._on_line = on_line
        self._rest = b""
        self._room = LINE_RATE  # lines that may still be reported until `_second_ends`
        self._second_ends = 0.0
        self._left_out = 0
        self._last: deque[bytes] = deque(maxlen=LAST_WORDS)  # the last of the lines left out
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._watch()

    def drain(self) -> None:
        """Report a limited amount of what is in the pipe, then stop reading: grandchildren may keep the pipe open."""
        for _ in range(16):
            if self._fd < 0 or not self._read():
                break
        self._close()

    def _watch(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> bool:
        """Read once. Return whether there may be more to read."""
        try:
            data = os.read(self._fd, _READ)
        except (BlockingIOError, InterruptedError):
            return False
        except MemoryError:
            self._loop.call_later(MEMORY_PAUSE, self._watch)  # first: there may be no memory for the timer either
            self._loop.remove_reader(self._fd)
            return False
        except OSError:
            data = b""
        if not data:
            self._close()
            return False
        self._rest = self._take(self._rest + data)
        return True

    def _take(self, data: bytes) -> bytes:
        """Report or count the lines in `data`. Return the remaining beginning of an incomplete line."""
        if self._loop.time() >= self._second_ends:
            self._begin_second()
        start = 0
        while self._room and (end := data.find(b"\n", start)) >= 0:
            self._report(data[start:end])
            start = end + 1
        if (end := data.rfind(b"\n") + 1) > start:  # not line by line, as there may be very many
            self._leave_out(data[start:end].count(b"\n"), data[start : end - 1].rsplit(b"\n", LAST_WORDS))
            start = end
        while len(data) - start > LONGEST_LINE:
            self._report(data[start : start + LONGEST_LINE])
            start += LONGEST_LINE
        return data[start:]

    def _report(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), LONGEST_LINE):
            piece = line[start : start + LONGEST_LINE]
            if self._room:
                self._room -= 1
                self._say(piece)
            else:
                self._leave_out(1, [piece])

    def _say(self, line: bytes) -> None:
        self._on_line(line.rstrip(b"\r").decode("utf-8", "backslashreplace"))

    def _leave_out(self, count: int, last: Sequence[bytes]) -> None:
        self._left_out += count
        self._last.extend(line[:LONGEST_LINE] for line in last[-LAST_WORDS:])
        if self._timer is None:
            self._timer = self._loop.call_at(self._second_ends, self._begin_second)

    def _begin_second(self) -> None:
        self._second_ends = self._loop.time() + 1
        self._room = LINE_RATE - len(self._last)
        self._end_second()

    def _end_second(self) -> None:
        """Report how many lines were left out, and the last of these."""
        last = list(self._last)
        if count := self._left_out - len(last):
            self._on_line(f"(lines left out in that second: {count})")
        self._left_out = 0
        self._last.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for line in last:
            self._say(line)

    def _close(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._rest:
            self._report(self._rest)
        self._end_second()


def spawn(
    program: str,
    args: Sequence[str] = (),
    *,
    on_stderr: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    pipes: bool = False,
) -> Child:
    """Start a child whose standard input and output are one AF_UNIX socket, like those of a driver under indiserver.

    The child leads its own process group, so that an interrupt from the terminal reaches only us. If we die without
    ending the child, the system kills it (on Linux, if `setpriv` is available). Signals that have been ignored since we
    were started are ignored in the child as well; all others have their default actions.

    Args:
        program: The name or path of the program.
        args: Its arguments.
        on_stderr: Called with each line of its standard error. At most `LINE_RATE` lines are reported per second,
            followed by the number of lines left out.
        env: The whole environment of the child; None for ours.
        pipes: Use two pipes instead of a socket. A driver then sends its BLOBs inline.

    Raises:
        FileNotFoundError: There is no such program. The text says what to do about it.
        PermissionError: The program can't be executed. The text says what to do about it.
    """
    _must_exist(program, env)
    command = [*_killed_with_us(), program, *args]
    stream: Stream
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:  # ours stay open if all goes well
        if pipes:
            child_in, our_out = _pipe(theirs, ours)
            our_in, child_out = _pipe(ours, theirs)
        else:
            sock, child_sock = _socket_pair(ours, theirs)
            child_in = child_out = child_sock.fileno()
        stderr_read, stderr_write = _pipe(ours, theirs)
        process = subprocess.Popen(
            command, stdin=child_in, stdout=child_out, stderr=stderr_write, env=env, process_group=0
        )
        try:
            if pipes:
                for fd in (our_in, our_out):
                    os.set_blocking(fd, False)  # each end of a pipe has its own flags
                    enlarge_pipe(fd)
                stream = FileStream(our_in, our_out, program)
            else:
                stream = SocketStream(sock, program)
            lines = _Lines(stderr_read, on_stderr)
        except BaseException:
            process.kill()
            process.wait()
            raise
        ours.pop_all()
    return Child(process, stream, lines)


def _killed_with_us() -> tuple[str, ...]:
    """Return the prefix for a command that makes the system kill it when we die; empty if unsupported.

    Only the child itself can ask for this. `setpriv` asks and then executes the program, so none of our own code runs
    after the fork.
    """
    setpriv = _find("setpriv")
    try:
        supported = setpriv is not None and _can_kill(setpriv)
    except (OSError, subprocess.TimeoutExpired):  # the system is short of something: ask again for the next child
        supported = False
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv is not None and supported else ()


@functools.cache
def _can_kill(setpriv: str) -> bool:
    """Return whether a `setpriv` has the option that we need: BusyBox's has not.

    Raises:
        OSError: It could not be asked.
        TimeoutExpired: It has not answered.
    """
    usage = subprocess.run([setpriv, "--help"], capture_output=True, timeout=_USAGE_TIMEOUT)
    return usage.returncode == 0 and b"--pdeathsig" in usage.stdout


def _find(program: str, env: Mapping[str, str] | None = None) -> str | None:
    """Return the path at which `subprocess` would find a program. `shutil.which` would import bz2, lzma and zlib."""
    for folder in [""] if os.sep in program else os.get_exec_path(env):
        path = os.path.join(folder, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _must_exist(program: str, env: Mapping[str, str] | None) -> None:
    if (path := _find(program, env)) is not None:
        if (interpreter := _interpreter(path)) and not os.path.exists(interpreter):
            why = f"its first line names an interpreter that is not there: {os.fsdecode(interpreter)!r}"
            raise FileNotFoundError(errno.ENOENT, f"{program} can't be executed: {why}")
        return
    if os.sep in program and os.path.exists(program):
        raise PermissionError(errno.EACCES, f"{program} can't be executed: make it executable, or name another program")
    if os.sep not in program and os.path.isfile(program):
        remedy = f"write ./{program} for the file in the current folder"
    else:
        remedy = "install it, correct the name or PATH, or give a full path"
    raise FileNotFoundError(errno.ENOENT, f"program {program!r} not found: {remedy}")


def _interpreter(path: str) -> bytes:
    """Return the interpreter that the first line of a program names; empty if it names none, or can't be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            line = file.read(256).partition(b"\n")[0]  # the system reads no more either
    except OSError:
        return b""
    return line[2:].strip(b" \t").partition(b" ")[0].partition(b"\t")[0] if line.startswith(b"#!") else b""


def _socket_pair(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return our end of a new socket pair and the child's, each to be closed by its stack."""
    our_end, child_end = socket.socketpair()
    for sock, stack in ((our_end, ours), (child_end, theirs)):
        stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    our_end.setblocking(False)  # the other end has its own flags
    return our_end, child_end


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    """Return the reading and the writing end of a new pipe, each to be closed by its stack."""
    source, sink = os.pipe()
    readers.callback(os.close, source)
    writers.callback(os.close, sink)
    return source, sink
