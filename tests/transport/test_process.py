"""Child processes: their streams, standard error, and their end."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from indifast.transport import process
from indifast.transport.process import LONGEST_LINE, Child, spawn
from tests.support.blackbox import LIMIT, alive, until
from tests.support.descriptors import no_fd_leak
from tests.support.programs import executable
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder


def python(code: str, lines: list[str] | None = None, **keywords) -> Child:
    on_stderr = ([] if lines is None else lines).append
    return spawn(sys.executable, ["-c", code], on_stderr=on_stderr, **keywords)


def recorded(child: Child) -> Recorder:
    """Start the child's stream. Return what it receives."""
    got = Recorder()
    child.stream.start(got, Pieces())
    return got


async def finish(child: Child) -> None:
    child.stream.abort()
    await child.stop(grace=0.0)


@pytest.mark.parametrize("pipes", [False, True])
def test_a_child_communicates_over_its_standard_input_and_output(run, pipes):
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
            await eventually(lambda: got.lost == [None])
            assert got.data == (b"pipes question" if pipes else b"socket question")
            assert await child.wait() == 0
            assert child.returncode == 0

    run(scenario())


def test_nothing_else_is_inherited(run):
    code = "import os; os.write(1, ' '.join(sorted(os.listdir('/proc/self/fd'))).encode())"

    async def scenario():
        extra = os.open("/dev/null", os.O_RDONLY)
        child = python(code)
        got = recorded(child)
        await eventually(lambda: got.lost)
        await child.wait()
        assert got.data == b"0 1 2 3"  # 3 is the folder that is listed
        os.close(extra)

    run(scenario())


def test_standard_error_is_reported_by_line_whatever_its_bytes(run):
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


def test_standard_error_is_limited_in_rate_and_lines_left_out_are_counted(run):
    """The limit is not on the total: after a silent second, lines are reported again. The last ones always are."""
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
        await eventually(lambda: accounted_for(lines) == count)
        assert any(map(LEFT_OUT.fullmatch, lines)) and lines[-1] == f"line {count - 1}"
        assert lines.count("line 0") == lines.count("line 199") == 1
        numbers = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
        assert numbers == sorted(set(numbers))
        assert len(numbers) <= count // 2
        out.put(b"x")
        await eventually(lambda: lines[-1] == "again")
        del lines[:]
        out.put(b"x")
        await child.wait()
        assert lines[-1] == "last words"
        assert accounted_for(lines) == 1001
        child.stream.abort()

    run(scenario())


def accounted_for(lines: list[str]) -> int:
    """Return the number of lines reported, and of those reported as left out."""
    return sum(int(found[1]) if (found := LEFT_OUT.fullmatch(line)) else 1 for line in lines)


def test_lines_left_out_are_not_processed_one_by_one(run, monkeypatch):
    """Otherwise, a driver that writes nothing but line feeds would stop the server."""
    calls = 0

    def counted(self, line, before=process._Lines._say):
        nonlocal calls
        calls += 1
        before(self, line)

    monkeypatch.setattr(process._Lines, "_say", counted)

    async def scenario():
        lines: list[str] = []
        child = python("import os\nos.write(2, b'\\n' * 60_000)\nos.read(0, 1)", lines)
        await eventually(lambda: accounted_for(lines) == 60_000)
        assert calls == len(lines) - sum(LEFT_OUT.fullmatch(line) is not None for line in lines)
        assert calls <= 200 * 10
        await finish(child)

    run(scenario())


def test_an_endless_line_is_limited_like_others(run):
    code = f"import os\nline = b'x' * {1000 * LONGEST_LINE}\nwhile line: line = line[os.write(2, line):]\n"

    async def scenario():
        lines: list[str] = []
        child = python(code, lines)
        await child.wait()
        assert accounted_for(lines) == 1000
        assert {line for line in lines if not LEFT_OUT.fullmatch(line)} == {"x" * LONGEST_LINE}
        child.stream.abort()

    run(scenario())


def test_a_child_may_close_its_standard_error(run):
    async def scenario():
        child = python("import os\nos.close(2)\nfor _ in range(3): os.write(1, os.read(0, 1))\nos.read(0, 1)")
        got, out = Recorder(), Pieces()
        out.feed(child.stream, got)
        for count in (1, 2, 3):  # the end of the standard error is noticed before the last answer
            out.put(b"x")
            await eventually(lambda count=count: got.data == b"x" * count)
        assert child.returncode is None
        await finish(child)

    run(scenario())


def test_terminate_and_kill(run):
    stubborn = "import signal, os; signal.signal(15, signal.SIG_IGN); os.write(1, b'x'); signal.pause()"

    async def scenario():
        async with no_fd_leak():
            child = python("import signal, os; os.write(1, b'x'); signal.pause()")
            got = recorded(child)
            await eventually(lambda: got.data)
            assert await child.stop(grace=LIMIT) == -signal.SIGTERM
            child = python(stubborn)
            got = recorded(child)
            await eventually(lambda: got.data)
            assert await child.stop(grace=0.1) == -signal.SIGKILL
            assert child.pid not in {each.pid for each in psutil.Process().children()}, "reaped"

    run(scenario())


def test_processes_that_a_child_leaves_behind_end_with_it(run):
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
        await eventually(lambda: b"\n" in got.data)
        out.put(b"x")
        await child.wait()
        pid = int(got.data)
        await eventually(lambda: not alive(pid))
        child.stream.abort()

    run(scenario())


def test_environment(run):
    async def scenario():
        child = python("import os; os.write(1, os.environ['INDIDEV'].encode())", env=os.environ | {"INDIDEV": "My CCD"})
        got = recorded(child)
        await eventually(lambda: got.lost)
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


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("#!/no/python3 -u", "/no/python3"),
        ("#! \t/no/python3\t-u", "/no/python3"),
        ("#!/bin/sh\r", "/bin/sh\\r"),
        ("#!/bin/sh", None),
        ("#!/usr/bin/env sh", None),
    ],
)
def test_a_missing_interpreter_is_named(run, tmp_path, line, missing):
    async def scenario():
        async with no_fd_leak():
            program = executable(tmp_path / "driver", f"{line}\nexit 0\n")
            if missing is not None:
                with pytest.raises(FileNotFoundError) as caught:
                    spawn(str(program), on_stderr=print)
                assert f"its first line names an interpreter that is not there: '{missing}'" in str(caught.value)
                return
            child = spawn(str(program), on_stderr=print)
            await child.wait()
            child.stream.abort()

    run(scenario())


def test_a_program_in_the_current_folder_needs_its_path(run, tmp_path, monkeypatch):
    executable(tmp_path / "my_driver", "#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)

    async def scenario():
        async with no_fd_leak():
            with pytest.raises(FileNotFoundError, match=r"not found: write \./my_driver for the file in the current"):
                spawn("my_driver", on_stderr=print)

    run(scenario())


def test_a_broken_program_is_reported_with_a_line_or_an_error(run, tmp_path):
    broken = executable(tmp_path / "broken", "\x7fELF nonsense")

    async def scenario():
        async with no_fd_leak():
            lines: list[str] = []
            try:
                child = spawn(str(broken), on_stderr=lines.append)
            except OSError:
                return
            assert await child.wait() != 0
            assert lines
            await finish(child)

    run(scenario())


@pytest.mark.parametrize("pipes", [False, True])
def test_a_system_out_of_descriptors_causes_an_error_and_leaves_nothing_behind(pipes):
    """Neither a descriptor nor a child is left, whichever descriptor is the first one missing."""
    process._killed_with_us()  # caches its result while there are descriptors
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
        before = set(psutil.Process().children())
        for left in range(16):
            async with no_fd_leak():
                await attempt(left)
        assert not set(psutil.Process().children()) - before

    asyncio.run(scenario())
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)


async def starts_and_ends(child: Child) -> None:
    got = recorded(child)
    await eventually(lambda: got.data == b"up")
    assert await child.wait() == 0


@pytest.mark.parametrize(
    "answer", ["echo unrecognized option >&2; exit 1", "echo '-d, --dump  --nnp'", "echo --nnp >&2"]
)
def test_a_setpriv_without_the_option_is_not_used(run, tmp_path, monkeypatch, answer):
    executable(tmp_path / "setpriv", f"#!/bin/sh\n[ $# -eq 1 ] || exit 1\n{answer}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def scenario():
        await starts_and_ends(python("import os; os.write(1, b'up')"))

    run(scenario())


def test_without_setpriv_a_child_is_started_directly(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    async def scenario():
        child = python("import os; os.write(1, b'up')")
        assert child.process.args[0] == sys.executable
        await starts_and_ends(child)

    run(scenario())


def test_a_setpriv_that_does_not_answer_is_asked_again_for_the_next_child(run, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_USAGE_TIMEOUT", 0.1)
    answers, real = tmp_path / "answers", shutil.which("setpriv")
    hangs = f"[ -e {answers} ] || exec sleep 100"
    executable(tmp_path / "setpriv", f'#!/bin/sh\n{hangs}\nexec {real} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def scenario():
        child = python("import os; os.write(1, b'up')")
        assert child.process.args[0] == sys.executable
        await starts_and_ends(child)
        answers.touch()
        monkeypatch.setattr(process, "_USAGE_TIMEOUT", LIMIT)
        child = python("import os; os.write(1, b'up')")
        assert child.process.args[0] == str(tmp_path / "setpriv")
        await starts_and_ends(child)

    run(scenario())


def test_without_descriptors_of_processes_a_thread_waits_for_the_child(run, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")  # as on macOS

    async def scenario():
        async with no_fd_leak():
            lines: list[str] = []
            child = python("import os, sys; os.read(0, 1); print('last words', file=sys.stderr); sys.exit(3)", lines)
            got, out = Recorder(), Pieces()
            out.feed(child.stream, got)
            assert child.returncode is None
            out.put(b"x")
            assert await asyncio.wait_for(child.wait(), LIMIT) == child.returncode == 3
            assert lines == ["last words"]
            await finish(child)

    run(scenario())


def test_the_loop_may_end_before_the_child_that_a_thread_waits_for(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    children: list[Child] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def scenario():
        loops.append(asyncio.get_running_loop())
        loops[0].set_default_executor(executor)
        children.append(python("import os; os.read(0, 1)"))

    with ThreadPoolExecutor(1) as executor:
        runner = asyncio.Runner()
        monkeypatch.setattr(executor, "shutdown", lambda wait=True: None)  # which `Runner.close` would wait for
        runner.run(scenario())
        runner.close()
        monkeypatch.undo()
        children[0].kill()
    assert children[0].process.returncode == -signal.SIGKILL


def test_a_child_can_be_killed_at_once(run):
    async def scenario():
        async with no_fd_leak():
            child = python("import signal, os; signal.signal(15, signal.SIG_IGN); os.write(1, b'x'); signal.pause()")
            got = recorded(child)
            await eventually(lambda: got.data)
            child.kill()
            assert await child.wait() == -signal.SIGKILL
            child.kill()  # it is gone already
            await finish(child)

    run(scenario())


@pytest.mark.parametrize("pipes", [False, True])
def test_a_child_whose_standard_error_can_not_be_read_is_ended(monkeypatch, pipes):
    """There may be no memory for what belongs to a child that has been started."""
    started: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def note(*arguments, **keywords):
        started.append(popen(*arguments, **keywords))
        return started[-1]

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(subprocess, "Popen", note)
    monkeypatch.setattr(process, "_Lines", fail)

    async def scenario():
        with pytest.raises(MemoryError):
            spawn("cat", on_stderr=print, pipes=pipes)

    process._killed_with_us()  # runs a program the first time
    started.clear()
    asyncio.run(scenario())
    (child,) = started
    assert child.returncode == -signal.SIGKILL


def test_killing_the_parent_leaves_no_orphan():
    """Not even a child that ignores the end of its input and all signals that can be ignored."""
    code = (
        "import asyncio, sys, os\n"
        "from indifast.transport.process import spawn\n"
        "stubborn = 'import signal\\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\\n"
        'print("up", flush=True)\\nsignal.pause()\'\n'
        "async def main():\n"
        "    child = spawn(sys.executable, ['-c', stubborn], on_stderr=print, pipes=True)\n"
        "    class Report:\n"
        "        def data_received(self, *args): print(child.pid, flush=True)\n"
        "        def connection_lost(self, exc): pass\n"
        "    from indifast.routing.bytequeue import ByteQueue\n"
        "    child.stream.start(Report(), ByteQueue())\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid), what="the end of the child")
    parent.stdout.close()
