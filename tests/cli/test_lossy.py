"""Streams that never wait for their reader, on real pipes, sockets, terminals and files."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from indifast.cli import lossy
from indifast.cli.lossy import BOUND, LossyWriter
from tests.support.blackbox import LIMIT, PYTHON, until

MISSING = re.compile(rb"(\d+) lines? (?:is|are) missing here")


class Reader:
    """Two ends of a pipe, socket or terminal: `theirs` is written to, and `ours` is read only when a test says so."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs
        self.data = bytearray()

    def read_until(self, wanted: Callable[[bytearray], object]) -> bytearray:
        """Read until the data fulfills a condition, and return it."""
        deadline = time.monotonic() + LIMIT
        while not wanted(self.data):
            assert time.monotonic() < deadline, self.data[-1000:]
            if select.select([self.ours], [], [], 0.1)[0]:
                self.data += os.read(self.ours, 1 << 16)
        return self.data

    def close(self) -> None:
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


def make_pipe() -> Reader:
    reader = Reader(*os.pipe())
    fcntl.fcntl(reader.theirs, fcntl.F_SETPIPE_SZ, 4096)
    return reader


def make_socket() -> Reader:
    ours, theirs = socket.socketpair()
    return Reader(ours.detach(), theirs.detach())


def make_terminal() -> Reader:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)  # line feeds are not translated
    return Reader(ours, theirs)


@pytest.fixture(params=["pipe", "socket", "terminal", "pumped"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Everything that can block a writer. "pumped": a pipe that cannot be opened again, such as another user's."""
    if request.param == "pumped":
        monkeypatch.setattr(lossy, "_AGAIN", "/nonexistent/{}")
    made = {"pipe": make_pipe, "pumped": make_pipe, "socket": make_socket, "terminal": make_terminal}[request.param]()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[Reader]:
    made = make_pipe()
    yield made
    made.close()


def in_parentheses(sentence: str) -> str:
    return f"({sentence})"


def line(number: int, length: int = 100) -> bytes:
    return b"%-*d\n" % (length - 1, number)


def numbers(data: bytearray) -> list[int]:
    return [int(each) for each in data.splitlines() if each.strip().isdigit()]


def missing(data: bytearray) -> int:
    """Return how many lines are missing according to the notes in the data."""
    return sum(map(int, MISSING.findall(data)))


def python(code: str, *words: object, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """Run Python code in a separate process, with streams as `subprocess.run` takes them."""
    command = [PYTHON, "-c", textwrap.dedent(code), *map(str, words)]
    return subprocess.run(command, timeout=LIMIT, check=False, **streams)


def test_lines_that_are_read_arrive_complete_and_in_order(reader: Reader) -> None:
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(2000):
        writer.put(line(number))
        if not number % 20:
            reader.read_until(lambda data, number=number: data.endswith(line(number)))
    data = reader.read_until(lambda data: data.endswith(line(1999)))
    assert data == b"".join(map(line, range(2000)))


def test_a_reader_that_does_not_read_learns_later_how_much_is_missing(reader: Reader) -> None:
    count = 4 * BOUND // 100
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(count):
        writer.put(line(number))
    assert writer._queued <= BOUND + 100
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    seen = numbers(data)
    assert seen == list(range(len(seen)))
    assert len(seen) + missing(data) == count
    writer.put(b"afterwards\n")
    assert reader.read_until(lambda data: data.endswith(b"afterwards\n")).count(b"missing") == 1


def test_a_slow_reader_finds_a_note_wherever_lines_are_missing(pipe: Reader) -> None:
    writer = LossyWriter(pipe.theirs, in_parentheses)
    count = 10 * BOUND // 100
    for part in range(1, 6):
        for number in range((part - 1) * count // 5, part * count // 5):
            writer.put(line(number))
        pipe.read_until(lambda data, end=part * BOUND * 3 // 4: len(data) >= end)
    pipe.read_until(lambda data: data.endswith((b")\n", line(count - 1))))
    writer.put(line(count))
    data = pipe.read_until(lambda data: data.endswith(line(count)))
    assert 2 <= len(MISSING.findall(data)) <= 10, "a few notes, not one for each line"
    at = 0  # each note is in the place of the missing lines
    for each in data.splitlines():
        if found := MISSING.search(each):
            at += int(found[1])
        else:
            assert int(each) == at
            at += 1
    assert at == count + 1


def test_the_latest_line_of_each_key_is_kept_beyond_the_bound(reader: Reader) -> None:
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(2 * BOUND // 100):
        writer.put(line(number))
    for number in range(1000):
        writer.put(b"end of a, %d\n" % number, "a")
        writer.put(b"end of b, %d\n" % number, "b")
        writer.put(line(number))
    assert writer._queued <= BOUND + 100
    assert len(writer._kept) == 2
    data = reader.read_until(lambda data: data.endswith(b"end of b, 999\n"))
    assert re.findall(rb"end of ., \d+\n", data) == [b"end of a, 999\n", b"end of b, 999\n"]
    assert len(numbers(data)) + missing(data) + 2 == 2 * BOUND // 100 + 3000


def test_finish_writes_lines_with_a_key_first(reader: Reader) -> None:
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(BOUND // 200):
        writer.put(line(number))
    writer.put(b"end of a\n", "a")
    for number in range(BOUND // 200, BOUND // 50):
        writer.put(line(number))
    writer.put(b"end of b\n", "b")
    finishing = threading.Thread(target=writer.finish, args=(LIMIT,))
    finishing.start()
    before = reader.read_until(lambda data: b"end of a\n" in data)
    assert before.index(b"end of a\n") <= 300_000, "only what the system had already accepted, nothing from the queue"
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    finishing.join(LIMIT)
    assert not finishing.is_alive()
    assert data.index(b"end of b\n") == data.index(b"end of a\n") + len(b"end of a\n")
    seen = numbers(data)
    assert seen == list(range(len(seen)))
    assert len(seen) + missing(data) == BOUND // 50


def test_finish_waits_no_longer_than_its_timeout(reader: Reader) -> None:
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(2 * BOUND // 100):
        writer.put(line(number))
    writer.finish(0.1)
    writer.put(b"after the end\n")


def test_a_line_longer_than_the_queue_is_written_completely_if_nothing_waits(reader: Reader) -> None:
    writer = LossyWriter(reader.theirs, in_parentheses)
    long = b"x" * (3 * BOUND) + b"\n"
    writer.put(long)
    writer.put(b"one\ntwo\n")
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    assert data == long + b"(2 lines are missing here: not written in time)\n"


@pytest.mark.parametrize("wait", [False, True])
def test_a_closed_reader_is_an_error_only_for_strict_writers(pipe: Reader, wait: bool) -> None:
    writer = LossyWriter(pipe.theirs, in_parentheses)
    strict = LossyWriter(pipe.theirs, in_parentheses, strict=True)
    if wait:
        for number in range(BOUND // 100):
            writer.put(line(number))
            strict.put(line(number))
    os.close(pipe.ours)
    pipe.ours = -1
    for number in range(100):
        writer.put(line(number))
    until(lambda: not writer._waiting and not strict._waiting, what="the end of the threads")
    assert not writer._queue
    assert writer._lost >= 100
    with pytest.raises(BrokenPipeError):
        strict.put(b"x\n")
    writer.finish(LIMIT)
    strict.finish(LIMIT)


def test_lines_that_a_full_disk_refuses_are_counted_when_there_is_room(tmp_path: Path) -> None:
    """A limit keeps the file from growing, as on a full disk, and is then removed."""
    code = r"""
        import os, resource, signal, sys
        from indifast.cli.lossy import LossyWriter
        fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        writer = LossyWriter(fd, str)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (105, resource.RLIM_INFINITY))
        for number in range(30): writer.put(b'%09d\n' % number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.put(b'room\n')
    """
    assert python(code, tmp_path / "log").returncode == 0
    begin = b"".join(b"%09d\n" % number for number in range(10))
    note = b"20 lines are missing here: not written in time\n"
    assert (tmp_path / "log").read_bytes() == begin + b"00000\n" + note + b"room\n"


def test_the_flags_of_a_shared_descriptor_do_not_change(reader: Reader) -> None:
    flags = fcntl.fcntl(reader.theirs, fcntl.F_GETFL)
    writer = LossyWriter(reader.theirs, in_parentheses)
    for number in range(2 * BOUND // 100):
        writer.put(line(number))
    assert fcntl.fcntl(reader.theirs, fcntl.F_GETFL) == flags


def test_threads_and_finalizers_may_write_at_any_time(pipe: Reader) -> None:
    """A finalizer runs wherever memory is allocated, even while a line is being written."""
    writer = LossyWriter(pipe.theirs, in_parentheses)

    class Talkative:
        def __del__(self) -> None:
            writer.put(b"finalized\n")

    def say() -> None:
        for _ in range(500):
            ring = Talkative()
            ring.ring = ring  # type: ignore[attr-defined]
            writer.put(line(1))

    threads = [threading.Thread(target=say) for _ in range(8)]
    for each in threads:
        each.start()
    data = pipe.read_until(lambda data: data.endswith(b"\n") and data.count(line(1)) == 4000)
    for each in threads:
        each.join(LIMIT)
    assert all(each in (line(1), b"finalized\n") for each in data.splitlines(keepends=True))


def test_a_forked_child_writes_only_its_own_lines() -> None:
    code = """
        import os, sys
        from indifast.cli import lossy
        from indifast.cli.lossy import never_wait
        lossy.PATIENCE = 60.0
        writer = never_wait('stderr')
        print('x' * 100_000, file=sys.stderr)  # more than the pipe takes
        child = os.fork()
        print('child' if not child else 'parent', file=sys.stderr)
        if child: os.waitpid(child, 0)
    """
    done = python(code, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.count(b"x") == 100_000
    assert done.stderr.count(b"child\n") == done.stderr.count(b"parent\n") == 1


def test_everything_that_python_writes_uses_the_stream(tmp_path: Path) -> None:
    """Tracebacks, warnings, log records, and errors at the very end are all in the file, in order."""
    code = r"""
        import logging, sys, threading, warnings
        from indifast.cli.lossy import never_wait
        assert never_wait('stderr') is not None
        assert sys.stderr.fileno() == 2 and not sys.stderr.isatty()
        print('printed \udcff', end='', file=sys.stderr)
        print(' to the end', file=sys.stderr)
        sys.stderr.buffer.write(b'bytes\n')
        warnings.warn('a warning')
        logging.getLogger('other').error('logged')
        thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
        class Late:
            def __del__(self): raise ValueError('late')
        late = Late()
        {}['missing']
    """
    with open(tmp_path / "log", "wb") as log:
        assert python(code, stderr=log).returncode == 1
    text = (tmp_path / "log").read_text()
    written = ["printed \\udcff to the end\nbytes\n", "UserWarning: a warning\n", "logged\n", "ZeroDivisionError"]
    written += ["KeyError: 'missing'\n", "ValueError: late\n"]
    places = [text.find(each) for each in written]
    assert -1 not in places, text
    assert places == sorted(places)


PATIENT = "from indifast.cli import lossy; lossy.PATIENCE = 60.0\n"
"""Gives this process time to read what a program writes at its end."""

LATE = """
import sys
from indifast.cli.lossy import never_wait
never_wait('stderr')
class Late:
    def __del__(self): raise ValueError('x' * 200_000)
late = Late()
print('y' * 200_000, file=sys.stderr)
{}['missing']
"""
"""Writes more than a pipe takes: while running, as it ends with an error, and when the interpreter is almost gone."""


def test_what_is_written_at_the_very_end_is_complete() -> None:
    done = python(PATIENT + LATE, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert re.search(rb"^y{200000}\nTraceback .*\nKeyError: 'missing'\n.*ValueError: x{200000}\n$", done.stderr, re.S)


def test_the_program_ends_although_nobody_reads_what_it_writes_at_the_very_end(pipe: Reader) -> None:
    assert python(LATE, stderr=pipe.theirs).returncode == 1


def test_finish_does_not_wait_for_a_thread_that_ended_while_writing(pipe: Reader) -> None:
    """The interpreter ends daemon threads at any point."""
    writer = LossyWriter(pipe.theirs, in_parentheses)
    writer.put(line(1))
    thread = threading.Thread(target=writer._lock.acquire)
    thread.start()
    thread.join()
    writer.finish(0.1)
    writer.put(line(2))


def test_an_abort_loses_nothing_that_the_pipe_had_room_for(pipe: Reader) -> None:
    code = """
        import os, sys
        from indifast.cli.lossy import never_wait
        never_wait('stderr')
        print('last words', file=sys.stderr)
        os.abort()
    """
    assert python(code, stderr=pipe.theirs).returncode < 0
    assert pipe.read_until(lambda data: data.endswith(b"words\n")) == b"last words\n"


def test_a_stream_without_a_descriptor_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert lossy.never_wait("stderr") is None
        assert sys.stderr is stream


def test_opened_descriptors_are_not_inherited(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    code = """
        import subprocess
        from indifast.cli.lossy import never_wait
        never_wait('stderr')
        listing = subprocess.run(['ls', '/proc/self/fd'], stdout=subprocess.PIPE, close_fds=False).stdout
        print(len(listing.split()))
    """
    with open(path, "r+b", buffering=0) as fifo:
        done = python(code, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=fifo)
    assert done.returncode == 0
    assert done.stdout == b"4\n", "the standard streams, and the directory that is listed"
