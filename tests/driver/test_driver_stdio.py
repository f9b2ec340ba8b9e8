"""Drivers as programs, with everything that their stdin and stdout can be."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import socket
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from indifast._parser import Element, Tokenizer
from tests.driver.child_driver import FRAME
from tests.driver.support import CHILD, GET, PipedDriver, parsed, press
from tests.support.blackbox import LIMIT, PYTHON, Channel, python_environment
from tests.support.servers import getprop, indiserver, launcher
from tests.support.threads import thread_statuses


@contextlib.contextmanager
def started(*jobs: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `child_driver.py` with these streams."""
    child = subprocess.Popen([PYTHON, str(CHILD), *jobs], env=os.environ | python_environment(), **streams)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def received(ours: socket.socket, *wanted: bytes) -> tuple[bytes, list[int]]:
    """What arrives at a Unix socket until all that is wanted has arrived, and the descriptors that came with it."""
    text, fds = b"", []
    while not all(words in text for words in wanted):
        data, new, flags, _ = socket.recv_fds(ours, 1 << 20, 16, socket.MSG_CMSG_CLOEXEC)
        assert data
        assert not flags & socket.MSG_CTRUNC
        text += data
        fds += new
    return text, fds


def test_end_of_file_on_a_pipe_ends_the_driver(tmp_path: Path) -> None:
    with PipedDriver(tmp_path) as child:
        child.send(GET)
        messages = child.until_text("defBLOBVector")
        assert [message.split()[0] for message in messages] == [
            b"<defNumberVector", b"<defSwitchVector", b"<defBLOBVector"]  # fmt: skip
        assert child.finish() == []
        assert child.pipes.raw.splitlines() == messages, "one message on each line, and nothing else"
        assert child.stderr == ""


def test_requests_before_the_end_of_file_are_answered(tmp_path: Path) -> None:
    source, sink = tmp_path / "in.xml", tmp_path / "out.xml"
    command = b'<newNumberVector device="Child" name="number"><oneNumber name="value">%d</oneNumber></newNumberVector>'
    commands = b"\n".join(command % number for number in range(50))
    source.write_bytes(b"<?xml version='1.0'?>\n" + GET + commands)
    with source.open("rb") as stdin, sink.open("wb") as stdout, started(stdin=stdin, stdout=stdout) as child:
        assert child.wait(timeout=LIMIT) == 0
    text = sink.read_bytes()
    assert [element.tag for element in parsed(text)][:3] == ["defNumberVector", "defSwitchVector", "defBLOBVector"]
    values = [element[0].text for element in parsed(text)[3:]]
    assert values == [str(number) for number in range(50)]
    assert all(line.startswith(b"<") for line in text.splitlines())


def test_dev_null_as_stdin() -> None:
    with started(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.communicate(timeout=LIMIT)[0] == b""
        assert child.returncode == 0


def test_terminal() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        with started(stdin=slave, stdout=slave) as child:
            os.write(master, GET)
            text = b""
            while b"</defBLOBVector>" not in text:
                text += os.read(master, 65536)
            assert len(parsed(text)) == 3
            assert os.get_blocking(slave), "other programs on this terminal are not affected"
            os.close(slave)
            slave = -1
            os.close(master)
            master = -1
            child.wait(timeout=LIMIT)
    finally:
        for fd in (master, slave):
            if fd >= 0:
                os.close(fd)


def test_a_unix_socket_carries_blobs_as_descriptors_and_pings_are_answered() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, started(stdin=theirs, stdout=theirs) as child:
        theirs.close()
        ours.settimeout(LIMIT)
        ours.sendall(b"<pingRequest uid='SetBLOB/1' />")
        ours.sendall(press("frame"))
        text, fds = received(ours, b"setSwitchVector", b"pingReply")
        elements = {element.tag: element for element in parsed(text)}
        assert elements["pingReply"].get("uid") == "SetBLOB/1"
        blob = elements["setBLOBVector"][0]
        assert blob.get("attached") == "true"
        assert blob.get("size") == str(len(FRAME))
        assert len(fds) == 1
        assert os.pread(fds[0], len(FRAME) + 1, 0)[: len(FRAME)] == FRAME
        os.close(fds[0])
        ours.shutdown(socket.SHUT_WR)
        assert child.wait(timeout=LIMIT) == 0


def test_the_buffer_may_be_overwritten_when_send_returns(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, started("reuse", stdin=theirs, stdout=theirs):
        theirs.close()
        ours.settimeout(LIMIT)
        _, fds = received(ours, b'message="end"')
        shared = [os.pread(fd, len(FRAME), 0) for fd in fds]
        for fd in fds:
            os.close(fd)
    with PipedDriver(tmp_path, "reuse") as child:
        elements = Tokenizer().feed(b"".join(child.until_text('message="end"')))
        inline = [element.members[0].data for element in elements[:-1]]
    assert shared == inline == [bytes([number]) * len(FRAME) for number in range(5)]


def test_messages_of_several_coroutines_do_not_mix(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "mixed") as child:
        messages = child.until_text('message="mixed"')
        assert child.finish() == []
        assert child.pipes.raw.splitlines() == messages
    elements = parsed(b"".join(messages))
    assert len(elements) == len(messages)
    assert sum(element.tag == "setBLOBVector" for element in elements) == 10
    assert sum(element.tag == "setNumberVector" for element in elements) == 400


def test_a_slow_reader_does_not_block_the_event_loop(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "flood") as child:
        child.until_stderr("flooded\n")  # the driver could send everything, although nothing was read
        messages = child.until_text(">2999<")
        child.send(press("stop"))
        elements = parsed(b"".join([*messages, *child.pipes.until_end()]))
        values = [element[0].text for element in elements if element.tag == "setNumberVector"]
        assert values == [str(number) for number in range(3000)]


def test_a_reader_that_has_stopped_misses_the_oldest_frames(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "frames") as child:
        peak = int(child.until_stderr("kB\n").split()[1]) << 10
        assert peak < 300 << 20  # of 427 MiB that were sent
        tokenizer = Tokenizer(element=1 << 30)
        elements: list[Element] = []
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), True)
        while not (elements and elements[-1].attrs.get("message") == "end"):
            elements += tokenizer.feed(os.read(child.process.stdout.fileno(), 1 << 20))
        frames = [element.members[0].data for element in elements if element.tag == "setBLOBVector"]
        assert all(frame is not None and frame == frame[:1] * (8 << 20) for frame in frames)
        numbers = [frame[0] for frame in frames if frame is not None]
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 0, "the frame that was already being written is complete"
        assert numbers[-1] == 39
        assert 5 < len(numbers) < 25
        notes = [element.attrs["message"] for element in elements if element.tag == "message"][:-1]
        assert sum(int(note.split()[0]) for note in notes) == 40 - len(numbers)


@pytest.mark.parametrize("job", ["forever", "stubborn"])
def test_end_of_file_ends_a_driver_whose_user_code_runs_forever(job: str, tmp_path: Path) -> None:
    with PipedDriver(tmp_path, job) as child:
        child.send(GET)
        child.until_text("defBLOBVector")
        child.finish()


def test_an_exception_in_a_background_coroutine_ends_the_driver_with_a_traceback(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "fail") as child:
        assert child.wait() == 1
        assert child.stderr.rstrip().endswith("ValueError: a fault in user code")
        assert "in fail" in child.stderr


def test_an_exception_in_rxevent_ends_the_driver(tmp_path: Path) -> None:
    with PipedDriver(tmp_path) as child:
        child.send(press("raise"))
        assert child.wait() == 1
        assert "ValueError: a fault in user code" in child.stderr


def test_a_driver_ends_when_nothing_reads_its_output(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "flood") as child:
        assert child.process.stdout is not None
        child.process.stdout.close()
        child.wait()


def test_an_idle_driver_does_not_wake_up(tmp_path: Path) -> None:
    with PipedDriver(tmp_path, "forever") as child:
        child.send(GET)
        child.until_text("defBLOBVector")
        before = _sleeps(child.pid)
        deadline = time.monotonic() + LIMIT
        while True:  # until a second passes without a wake-up: some follow the start
            time.sleep(1)  # the second during which nothing may happen
            now = _sleeps(child.pid)
            if now == before:
                break
            before = now
            assert time.monotonic() < deadline


def _sleeps(pid: int) -> int:
    """How often the threads of a process have gone to sleep."""
    total = 0
    for status in thread_statuses(pid).values():
        match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)
        assert match
        total += int(match.group(1))
    return total


def test_under_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    """The server turns the descriptor that the driver sends into base64 for a client over TCP."""
    with indiserver(program, launcher(tmp_path / "child_driver", CHILD)) as (port, _):
        client = Channel.connect(port)
        client.send(GET + b'<enableBLOB device="Child">Also</enableBLOB>')
        client.until_text("</defBLOBVector>")
        assert getprop(program, port, "Child.number.value") == ["Child.number.value=0"]
        client.send(press("frame"))
        (element,) = Tokenizer().feed(client.until_text("</setBLOBVector>")[-1])
        assert element.members[0].data == FRAME
        client.close()
