"""Writing that never waits, on real pipes, sockets, terminals and files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indifast.cli import lossy
from indifast.cli.lossy import BOUND, LossyWriter

LIMIT = 30.0
MISSING = re.compile(rb"(\d+) lines? (?:is|are) missing here")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Reader:
    """One end of something whose other end is written to; reads when it is told to."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs
        self.data = bytearray()

    def read_until(self, wanted: Callable[[bytearray], object]) -> bytearray:
        """Read until what has come is as wanted."""
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
    tty.setraw(theirs)  # a line feed stays one
    return Reader(ours, theirs)


@pytest.fixture(params=["pipe", "socket", "terminal", "pumped"])
def reader(request, monkeypatch) -> Iterator[Reader]:
    """Whatever can keep a writer waiting; pumped: a pipe that can't be opened again, as one of another user."""
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


def plain(sentence: str) -> str:
    return f"({sentence})"


def line(number: int, length: int = 100) -> bytes:
    return b"%-*d\n" % (length - 1, number)


def numbers(data: bytearray) -> list[int]:
    return [int(each) for each in data.splitlines() if each.strip().isdigit()]


def missing(data: bytearray) -> int:
    return sum(map(int, MISSING.findall(data)))


def test_what_is_read_comes_whole_and_in_order(reader):
    writer = LossyWriter(reader.theirs, plain)
    for number in range(2000):
        writer.put(line(number))
        if not number % 20:
            reader.read_until(lambda data, number=number: data.endswith(line(number)))
    data = reader.read_until(lambda data: data.endswith(line(1999)))
    assert data == b"".join(map(line, range(2000)))


def test_who_does_not_read_stops_nobody_and_finds_out_later_what_is_missing(reader):
    count = 4 * BOUND // 100
    writer = LossyWriter(reader.theirs, plain)
    for number in range(count):
        writer.put(line(number))
    assert writer._queued <= BOUND + 100
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    seen = numbers(data)
    assert seen == list(range(len(seen)))
    assert len(seen) + missing(data) == count
    writer.put(b"afterwards\n")
    assert reader.read_until(lambda data: data.endswith(b"afterwards\n")).count(b"missing") == 1


def test_a_reader_that_is_too_slow_is_told_each_time_where_lines_are_missing(pipe):
    writer = LossyWriter(pipe.theirs, plain)
    count = 10 * BOUND // 100
    for part in range(1, 6):
        for number in range((part - 1) * count // 5, part * count // 5):
            writer.put(line(number))
        pipe.read_until(lambda data, end=part * BOUND * 3 // 4: len(data) >= end)
    pipe.read_until(lambda data: data.endswith((b")\n", line(count - 1))))
    writer.put(line(count))
    data = pipe.read_until(lambda data: data.endswith(line(count)))
    assert 2 <= len(MISSING.findall(data)) <= 10, "a note now and then, not for each line"
    at = 0  # each note stands where the lines would
    for each in data.splitlines():
        if found := MISSING.search(each):
            at += int(found[1])
        else:
            assert int(each) == at
            at += 1
    assert at == count + 1


def test_lines_with_a_key_are_kept_beyond_the_bound_the_latest_of_each(reader):
    writer = LossyWriter(reader.theirs, plain)
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


def test_in_the_end_lines_with_a_key_come_first(reader):
    writer = LossyWriter(reader.theirs, plain)
    for number in range(BOUND // 200):
        writer.put(line(number))
    writer.put(b"end of a\n", "a")
    for number in range(BOUND // 200, BOUND // 50):
        writer.put(line(number))
    writer.put(b"end of b\n", "b")
    finishing = threading.Thread(target=writer.finish, args=(LIMIT,))
    finishing.start()
    before = reader.read_until(lambda data: b"end of a\n" in data)
    assert before.index(b"end of a\n") <= 300_000, "what the system had taken already; nothing of the queue"
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    finishing.join(LIMIT)
    assert not finishing.is_alive()
    assert data.index(b"end of b\n") == data.index(b"end of a\n") + len(b"end of a\n")
    seen = numbers(data)
    assert seen == list(range(len(seen)))
    assert len(seen) + missing(data) == BOUND // 50


def test_the_end_waits_no_longer_than_it_is_told(reader):
    writer = LossyWriter(reader.theirs, plain)
    for number in range(2 * BOUND // 100):
        writer.put(line(number))
    writer.finish(0.1)
    writer.put(b"said behind the end\n")


def test_a_long_line_passes_when_nothing_waits_and_is_whole(reader):
    writer = LossyWriter(reader.theirs, plain)
    long = b"x" * (3 * BOUND) + b"\n"
    writer.put(long)
    writer.put(b"one\ntwo\n")
    data = reader.read_until(lambda data: data.endswith(b")\n"))
    assert data == long + b"(2 lines are missing here: not written in time)\n"


@pytest.mark.parametrize("wait", [False, True])
def test_a_reader_that_has_gone_is_no_error_unless_that_is_wanted(pipe, wait):
    writer = LossyWriter(pipe.theirs, plain)
    strict = LossyWriter(pipe.theirs, plain, strict=True)
    if wait:
        for number in range(BOUND // 100):
            writer.put(line(number))
            strict.put(line(number))
    os.close(pipe.ours)
    pipe.ours = -1
    for number in range(100):
        writer.put(line(number))
    until(lambda: not writer._waiting and not strict._waiting, "the threads")
    assert not writer._queue
    assert writer._lost >= 100
    with pytest.raises(BrokenPipeError):
        strict.put(b"x\n")
    writer.finish(LIMIT)
    strict.finish(LIMIT)


def test_a_full_disk_makes_lines_missing_and_is_told_when_there_is_room(tmp_path):
    """The file may not grow, as on a disk that is full; then it may."""
    code = (
        "import os, resource, signal, sys\n"
        "from indifast.cli.lossy import LossyWriter\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "writer = LossyWriter(fd, str)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (105, resource.RLIM_INFINITY))\n"
        "for number in range(30): writer.put(b'%09d\\n' % number)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.put(b'room\\n')\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "log"], check=True, timeout=LIMIT)
    begin = b"".join(b"%09d\n" % number for number in range(10))
    note = b"20 lines are missing here: not written in time\n"
    assert (tmp_path / "log").read_bytes() == begin + b"00000\n" + note + b"room\n"


def test_others_who_have_the_descriptor_see_no_change(reader):
    flags = fcntl.fcntl(reader.theirs, fcntl.F_GETFL)
    writer = LossyWriter(reader.theirs, plain)
    for number in range(2 * BOUND // 100):
        writer.put(line(number))
    assert fcntl.fcntl(reader.theirs, fcntl.F_GETFL) == flags


def test_many_threads_and_what_finalizers_write(pipe):
    """A finalizer runs wherever memory is allocated, also in the middle of writing a line."""
    writer = LossyWriter(pipe.theirs, plain)

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


def test_the_child_of_a_fork_writes_its_own_lines_only(tmp_path):
    code = (
        "import os, sys\n"
        "from indifast.cli.lossy import never_wait\n"
        "writer = never_wait('stderr')\n"
        "print('x' * 100_000, file=sys.stderr)\n"  # more than the pipe takes
        "child = os.fork()\n"
        "print('child' if not child else 'parent', file=sys.stderr)\n"
        "if child: os.waitpid(child, 0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert errors.count(b"x") == 100_000
    assert errors.count(b"child\n") == errors.count(b"parent\n") == 1


def test_all_that_python_writes_goes_by_the_stream(tmp_path):
    """Tracebacks, warnings, logging of others, and what is said at the very end; all of it in order, in a file."""
    code = (
        "import logging, sys, threading, warnings\n"
        "from indifast.cli.lossy import never_wait\n"
        "assert never_wait('stderr') is not None\n"
        "assert sys.stderr.fileno() == 2 and not sys.stderr.isatty()\n"
        "print('printed \\udcff', end='', file=sys.stderr)\n"
        "print(' to the end', file=sys.stderr)\n"
        "sys.stderr.buffer.write(b'bytes\\n')\n"
        "warnings.warn('a warning')\n"
        "logging.getLogger('other').error('logged')\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "class Late:\n"
        "    def __del__(self): raise ValueError('late')\n"
        "late = Late()\n"
        "{}['missing']\n"
    )
    with open(tmp_path / "log", "wb") as log:
        assert subprocess.run([sys.executable, "-c", code], stderr=log, timeout=LIMIT, check=False).returncode == 1
    text = (tmp_path / "log").read_text()
    said = ["printed \\udcff to the end\nbytes\n", "UserWarning: a warning\n", "logged\n", "ZeroDivisionError"]
    said += ["KeyError: 'missing'\n", "ValueError: late\n"]
    places = [text.find(each) for each in said]
    assert -1 not in places, text
    assert places == sorted(places)


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
"""Writes more than a pipe takes: as a program, as it ends with an error, and when hardly anything is left of it."""


def test_what_comes_at_the_very_end_is_whole_for_who_reads():
    done = subprocess.run([sys.executable, "-c", LATE], stderr=subprocess.PIPE, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert re.search(rb"^y{200000}\nTraceback .*\nKeyError: 'missing'\n.*ValueError: x{200000}\n$", done.stderr, re.S)


def test_what_comes_at_the_very_end_holds_nothing_up_where_nobody_reads(pipe):
    assert subprocess.run([sys.executable, "-c", LATE], stderr=pipe.theirs, timeout=LIMIT, check=False).returncode == 1


def test_a_thread_that_has_ended_in_the_middle_holds_up_no_end(pipe):
    """As threads do that the interpreter leaves behind."""
    writer = LossyWriter(pipe.theirs, plain)
    writer.put(line(1))
    thread = threading.Thread(target=writer._lock.acquire)
    thread.start()
    thread.join()
    writer.finish(0.1)
    writer.put(line(2))


def test_an_abort_loses_nothing_that_the_reader_had_room_for(pipe):
    code = (
        "import os, sys\n"
        "from indifast.cli.lossy import never_wait\n"
        "never_wait('stderr')\n"
        "print('last words', file=sys.stderr)\n"
        "os.abort()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], stderr=pipe.theirs, timeout=LIMIT, check=False).returncode < 0
    assert pipe.read_until(lambda data: data.endswith(b"words\n")) == b"last words\n"


def test_a_stream_without_a_descriptor_stays_as_it_is(monkeypatch):
    import io

    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert lossy.never_wait("stderr") is None
        assert sys.stderr is stream


def test_what_is_opened_is_not_inherited(tmp_path):
    path = Path(tmp_path / "fifo")
    os.mkfifo(path)
    code = (
        "import subprocess, sys\n"
        "from indifast.cli.lossy import never_wait\n"
        "never_wait('stderr')\n"
        "print(len(subprocess.run(['ls', '/proc/self/fd'], stdout=subprocess.PIPE, close_fds=False).stdout.split()))\n"
    )
    with open(path, "r+b", buffering=0) as fifo:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=fifo, timeout=LIMIT,
            check=True,
        )  # fmt: skip
    assert done.stdout == b"4\n", "the standard streams, and that of the listing"
