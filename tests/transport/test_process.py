"""Child processes: their streams, standard error, and their end."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest

from indifast.transport import process
from indifast.transport.process import LONGEST_LINE, Child, spawn
from tests.transport.support import LIMIT, Pieces, Recorder, no_fd_leak, until


def python(code: str, lines: list[str] | None = None, **keywords) -> Child:
    on_stderr = ([] if lines is None else lines).append
    return spawn(sys.executable, ["-c", code], on_stderr=on_stderr, **keywords)


async def finish(child: Child) -> None:
    child.stream.abort()
    await child.stop(grace=0.0)


@pytest.mark.parametrize("pipes", [False, True])
def test_a_child_speaks_on_its_standard_input_and_output(run, pipes):
    code = (
        "import os, socket, stat\n"
        "is_socket = stat.S_ISSOCK(os.fstat(0).st_mode) and os.fstat(0).st_ino == os.fstat(1).st_ino\n"
        "os.write(1, b'socket ' if is_socket else b'pipes ')\n"
        "os.write(1, os.read(0, 100))\n"
    )

    async def scenario():
        async with no_fd_leak():
            child = python(code, pipes=pipes)
            got, out = Recorder(), Pieces()
            out.feed(child.stream, got)
            assert child.stream.local is not pipes
            out.put(b"question")
            await until(lambda: got.lost == [None])
            assert got.data == (b"pipes question" if pipes else b"socket question")
            assert await child.wait() == 0
            assert child.returncode == 0

    run(scenario())


def test_nothing_else_is_inherited(run):
    code = "import os; os.write(1, ' '.join(sorted(os.listdir('/proc/self/fd'))).encode())"

    async def scenario():
        extra = os.open("/dev/null", os.O_RDONLY)
        child = python(code)
        got = Recorder()
        child.stream.start(got, Pieces())
        await until(lambda: got.lost)
        await child.wait()
        assert got.data == b"0 1 2 3"  # 3: the listing itself
        os.close(extra)

    run(scenario())


def test_standard_error_line_by_line_whatever_it_is(run):
    code = (
        "import os\n"
        "os.write(2, b'first\\nsecond')\n"
        "os.write(2, b' half\\r\\n\\n\\xff\\x00latin \\xe9\\n')\n"
        f"os.write(2, b'x' * {LONGEST_LINE * 3 + 5} + b'\\nend without newline')\n"
    )

    async def scenario():
        lines: list[str] = []
        child = python(code, lines)
        await child.wait()
        assert lines[:4] == ["first", "second half", "", "\\xff\x00latin \\xe9"]
        assert [len(line) for line in lines[4:-1]] == [LONGEST_LINE] * 3 + [5]
        assert lines[-1] == "end without newline"
        await finish(child)

    run(scenario())


LEFT_OUT = re.compile(r"\(lines left out in that second: (\d+)\)")


def test_standard_error_is_limited_by_rate_and_what_is_left_out_is_told(run):
    """By rate, not in total: who falls silent for a second is heard again. What comes last is told in any case."""
    count = 300_000
    code = (
        "import os\n"
        f"lines = b''.join(b'line %d\\n' % number for number in range({count}))\n"
        "os.write(1, b'x')\n"
        "while lines: lines = lines[os.write(2, lines):]\n"
        "os.read(0, 1)\n"
        "os.write(2, b'again\\n')\n"
        "os.read(0, 1)\n"
        "os.write(2, b'line\\n' * 1000 + b'last words')\n"
    )

    async def scenario():
        lines: list[str] = []
        child = python(code, lines)
        got, out = Recorder(half_open=True), Pieces()
        out.feed(child.stream, got)
        await until(lambda: lines and LEFT_OUT.fullmatch(lines[-1]) and heard(lines) == count)
        assert lines.count("line 0") == lines.count("line 199") == 1
        told = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
        assert told == sorted(set(told))
        assert len(told) <= count // 2
        out.put(b"x")
        await until(lambda: lines[-1] == "again")
        del lines[:]
        out.put(b"x")
        await child.wait()
        assert lines[-1] == "last words"
        assert heard(lines) == 1001
        child.stream.abort()

    run(scenario())


def heard(lines: list[str]) -> int:
    """Lines that were told, and those of which it was told that they are left out."""
    return sum(int(found[1]) if (found := LEFT_OUT.fullmatch(line)) else 1 for line in lines)


def test_what_is_left_out_costs_no_look_at_each_line(run, monkeypatch):
    """A driver that writes nothing but line feeds would stop the server otherwise."""
    calls = 0

    def counted(self, line, before=process._Lines._say):
        nonlocal calls
        calls += 1
        before(self, line)

    monkeypatch.setattr(process._Lines, "_say", counted)

    async def scenario():
        lines: list[str] = []
        child = python("import os\nos.write(2, b'\\n' * 60_000)\nos.read(0, 1)", lines)
        await until(lambda: lines and LEFT_OUT.fullmatch(lines[-1]))
        assert heard(lines) == 60_000
        assert calls == len(lines) - sum(LEFT_OUT.fullmatch(line) is not None for line in lines)
        assert calls <= 200 * 10
        await finish(child)

    run(scenario())


def test_a_line_without_end_is_limited_like_others(run):
    code = f"import os\nline = b'x' * {1000 * LONGEST_LINE}\nwhile line: line = line[os.write(2, line):]\n"

    async def scenario():
        lines: list[str] = []
        child = python(code, lines)
        await child.wait()
        assert heard(lines) == 1000
        assert {line for line in lines if not LEFT_OUT.fullmatch(line)} == {"x" * LONGEST_LINE}
        child.stream.abort()

    run(scenario())


def test_a_child_that_closes_its_standard_error_lives_on(run):
    async def scenario():
        child = python("import os; os.close(2); os.write(1, b'still here'); os.read(0, 1)")
        got = Recorder()
        child.stream.start(got, Pieces())
        await until(lambda: got.data == b"still here")
        await asyncio.sleep(0.05)
        assert child.returncode is None
        await finish(child)

    run(scenario())


def test_terminate_and_kill(run):
    stubborn = "import signal, os; signal.signal(15, signal.SIG_IGN); os.write(1, b'x'); signal.pause()"

    async def scenario():
        async with no_fd_leak():
            child = python("import signal, os; os.write(1, b'x'); signal.pause()")
            got = Recorder()
            child.stream.start(got, Pieces())
            await until(lambda: got.data)
            assert await child.stop(grace=LIMIT) == -signal.SIGTERM
            child = python(stubborn)
            got = Recorder()
            child.stream.start(got, Pieces())
            await until(lambda: got.data)
            assert await child.stop(grace=0.1) == -signal.SIGKILL
            assert not psutil.pid_exists(child.pid), "reaped"

    run(scenario())


def test_what_a_child_leaves_behind_goes_with_it(run):
    code = (
        "import subprocess, os\n"
        "left = subprocess.Popen(['sleep', '1000'])\n"
        "os.write(1, str(left.pid).encode() + b'\\n')\n"
        "os.read(0, 1)\n"
    )

    async def scenario():
        child = python(code)
        got, out = Recorder(half_open=True), Pieces()
        out.feed(child.stream, got)
        await until(lambda: b"\n" in got.data)
        out.put(b"x")
        await child.wait()
        pid = int(got.data)
        await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        child.stream.abort()

    run(scenario())


def test_environment(run):
    async def scenario():
        child = python("import os; os.write(1, os.environ['INDIDEV'].encode())", env=os.environ | {"INDIDEV": "My CCD"})
        got = Recorder()
        child.stream.start(got, Pieces())
        await until(lambda: got.lost)
        assert got.data == b"My CCD"
        await child.wait()

    run(scenario())


def test_a_missing_program_is_an_error_with_a_remedy(run, tmp_path):
    async def scenario():
        async with no_fd_leak():
            with pytest.raises(FileNotFoundError, match="program 'indi_no_such_driver' not found: install it"):
                spawn("indi_no_such_driver", on_stderr=print)
            with pytest.raises(FileNotFoundError):
                spawn(str(tmp_path / "missing"), on_stderr=print)
            (tmp_path / "notes").write_text("not a program")
            with pytest.raises(PermissionError, match="make it executable"):
                spawn(str(tmp_path / "notes"), on_stderr=print)

    run(scenario())


def test_a_program_that_is_none_ends_with_a_line(run, tmp_path):
    (tmp_path / "broken").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "broken").chmod(0o755)

    async def scenario():
        async with no_fd_leak():
            lines: list[str] = []
            try:
                child = spawn(str(tmp_path / "broken"), on_stderr=lines.append)
            except OSError:
                return
            assert await child.wait() != 0
            assert lines
            await finish(child)

    run(scenario())


@pytest.mark.parametrize("pipes", [False, True])
def test_a_system_out_of_descriptors_gives_an_error_and_keeps_nothing(pipes):
    """However far it comes: no descriptor is left open, and no child behind."""
    process._killed_with_us()  # asked once, while there are descriptors
    outcomes = []

    async def attempt(left: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        fillers: list[int] = []
        child = None
        try:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    fillers.append(os.open("/dev/null", os.O_RDONLY))
            for _ in range(left):
                os.close(fillers.pop())
            try:
                child = spawn("cat", on_stderr=print, pipes=pipes)
            except OSError as exc:
                assert exc.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        outcomes.append(child is not None)
        if child is not None:
            await finish(child)

    async def scenario():
        before = psutil.Process().children()
        for left in range(16):
            async with no_fd_leak():
                await attempt(left)
        assert psutil.Process().children() == before

    asyncio.run(scenario())
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)


@pytest.mark.parametrize(
    "answer", ["echo unrecognized option >&2; exit 1", "echo '-d, --dump  --nnp'", "echo --nnp >&2"]
)
def test_a_setpriv_that_knows_no_such_option_is_done_without(run, tmp_path, monkeypatch, answer):
    fake = tmp_path / "setpriv"
    fake.write_text(f"#!/bin/sh\n[ $# -eq 1 ] || exit 1\n{answer}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process._killed_with_us.cache_clear()

    async def scenario():
        child = python("import os; os.write(1, b'up')")
        got = Recorder()
        child.stream.start(got, Pieces())
        await until(lambda: got.data == b"up")
        assert await child.wait() == 0

    try:
        run(scenario())
    finally:
        process._killed_with_us.cache_clear()


def test_no_orphan_when_the_parent_is_killed():
    """Even a child that ignores the end of its input and every signal that can be ignored."""
    code = (
        "import asyncio, sys, os\n"
        "from indifast.transport.process import spawn\n"
        "stubborn = 'import signal\\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\\n"
        'print("up", flush=True)\\nsignal.pause()\'\n'
        "async def main():\n"
        "    child = spawn(sys.executable, ['-c', stubborn], on_stderr=print, pipes=True)\n"
        "    class Tell:\n"
        "        def data_received(self, *args): print(child.pid, flush=True)\n"
        "        def connection_lost(self, exc): pass\n"
        "    from indifast.routing.bytequeue import ByteQueue\n"
        "    child.stream.start(Tell(), ByteQueue())\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + LIMIT
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "orphan"
        time.sleep(0.01)
    parent.stdout.close()
