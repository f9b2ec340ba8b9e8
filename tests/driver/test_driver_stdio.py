"""Drivers as programs of their own, on everything that can be their stdin and stdout."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import indifast
from indifast._parser import Element, Tokenizer
from tests.driver.child_driver import FRAME
from tests.support.blackbox import LIMIT, free_port

CHILD = Path(__file__).with_name("child_driver.py")
GET = b'<getProperties version="1.7" />'

pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def started(*jobs: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join([str(Path(indifast.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen([sys.executable, str(CHILD), *jobs], env=os.environ | {"PYTHONPATH": path}, **streams)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def piped(*jobs: str) -> Iterator[subprocess.Popen[bytes]]:
    with started(*jobs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        yield child


def press(switch: str) -> bytes:
    text = f'<newSwitchVector device="Child" name="switch"><oneSwitch name="{switch}">On</oneSwitch></newSwitchVector>'
    return text.encode()


def parsed(data: bytes) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(b"<all>" + data + b"</all>"))


def say(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.flush()


def lines_until(child: subprocess.Popen[bytes], last: bytes) -> list[bytes]:
    assert child.stdout is not None
    found = []
    while not found or last not in found[-1]:
        line = child.stdout.readline()
        assert line, b"".join(found)
        found.append(line)
    return found


def test_pipes_end_of_file_ends_the_driver() -> None:
    with piped() as child:
        say(child, GET)
        lines = lines_until(child, b"defBLOBVector")
        assert [line.split()[0] for line in lines] == [b"<defNumberVector", b"<defSwitchVector", b"<defBLOBVector"]
        rest, errors = child.communicate(timeout=LIMIT)  # closes stdin
        assert (rest, errors, child.returncode) == (b"", b"", 0)


def test_what_was_asked_before_the_end_of_file_is_answered(tmp_path: Path) -> None:
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
            assert os.get_blocking(slave)  # other programs on this terminal must not notice
            os.close(slave)
            slave = -1
            os.close(master)
            master = -1
            child.wait(timeout=LIMIT)
    finally:
        for fd in (master, slave):
            if fd >= 0:
                os.close(fd)


def test_unix_socket_pair_carries_blobs_as_descriptors_and_answers_pings() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, started(stdin=theirs, stdout=theirs) as child:
        theirs.close()
        ours.settimeout(LIMIT)
        ours.sendall(b"<pingRequest uid='SetBLOB/1' />")
        command = press("frame")
        ours.sendall(command)
        text, fds = b"", []
        while b"setSwitchVector" not in text or b"pingReply" not in text:
            data, received, flags, _ = socket.recv_fds(ours, 1 << 20, 16, socket.MSG_CMSG_CLOEXEC)
            assert data
            assert not flags & socket.MSG_CTRUNC
            text += data
            fds += received
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


def test_the_buffer_is_the_users_again_when_send_returns() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, started("reuse", stdin=theirs, stdout=theirs):
        theirs.close()
        ours.settimeout(LIMIT)
        text, fds = b"", []
        while b'message="end"' not in text:
            data, received, _, _ = socket.recv_fds(ours, 1 << 20, 16, socket.MSG_CMSG_CLOEXEC)
            assert data
            text += data
            fds += received
        shared = [os.pread(fd, len(FRAME), 0) for fd in fds]
        for fd in fds:
            os.close(fd)
    with piped("reuse") as child:
        elements = Tokenizer().feed(b"".join(lines_until(child, b'message="end"')))
        inline = [element.members[0].data for element in elements[:-1]]
    assert shared == inline == [bytes([number]) * len(FRAME) for number in range(5)]


def test_messages_of_several_coroutines_do_not_mix() -> None:
    with piped("mixed") as child:
        lines = lines_until(child, b'message="mixed"')
        child.communicate(timeout=LIMIT)
    elements = parsed(b"".join(lines))
    assert len(elements) == len(lines)
    assert sum(element.tag == "setBLOBVector" for element in elements) == 10
    assert sum(element.tag == "setNumberVector" for element in elements) == 400


def test_a_slow_reader_does_not_stop_the_event_loop() -> None:
    with piped("flood") as child:
        assert child.stderr is not None
        assert child.stderr.readline() == b"flooded\n"  # all of it taken over, while nobody read
        command = press("stop")
        reader = threading.Thread(target=say, args=(child, command))
        reader.start()
        text, _ = child.communicate(timeout=LIMIT)
        reader.join()
        values = [element[0].text for element in parsed(text) if element.tag == "setNumberVector"]
        assert values == [str(number) for number in range(3000)]


def test_frames_for_a_reader_that_stands_still_are_given_up_oldest_first() -> None:
    with piped("frames") as child:
        assert child.stderr is not None
        assert child.stdout is not None
        peak = int(child.stderr.readline().split()[1]) << 10
        assert peak < 300 << 20  # of 427 MiB that were sent
        tokenizer = Tokenizer(element=1 << 30)
        elements: list[Element] = []
        while not (elements and elements[-1].attrs.get("message") == "end"):
            elements += tokenizer.feed(os.read(child.stdout.fileno(), 1 << 20))
        frames = [element.members[0].data for element in elements if element.tag == "setBLOBVector"]
        assert all(frame is not None and frame == frame[:1] * (8 << 20) for frame in frames)
        numbers = [frame[0] for frame in frames if frame is not None]
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 0  # begun, so it was finished
        assert numbers[-1] == 39
        assert 5 < len(numbers) < 25
        notes = [element.attrs["message"] for element in elements if element.tag == "message"][:-1]
        assert sum(int(note.split()[0]) for note in notes) == 40 - len(numbers)


@pytest.mark.parametrize("job", ["forever", "stubborn"])
def test_the_end_of_file_ends_a_driver_that_loops_for_ever(job: str) -> None:
    with piped(job) as child:
        say(child, GET)
        lines_until(child, b"defBLOBVector")
        child.communicate(timeout=LIMIT)
        assert child.returncode == 0


def test_a_fault_in_a_background_coroutine_ends_a_driver_with_its_traceback() -> None:
    with piped("fail") as child:
        assert child.wait(timeout=LIMIT) == 1
        assert child.stderr is not None
        errors = child.stderr.read()
        assert errors.rstrip().endswith(b"ValueError: a fault of the user's")
        assert b"in fail" in errors


def test_a_fault_in_rxevent_ends_a_driver() -> None:
    with piped() as child:
        say(child, press("raise"))
        assert child.wait(timeout=LIMIT) == 1
        assert child.stderr is not None
        assert b"ValueError: a fault of the user's" in child.stderr.read()


def test_a_driver_ends_when_nobody_reads_it() -> None:
    with piped("flood") as child:
        assert child.stdout is not None
        child.stdout.close()
        child.wait(timeout=LIMIT)


def test_an_idle_driver_does_not_wake_up() -> None:
    with piped("forever") as child:
        say(child, GET)
        lines_until(child, b"defBLOBVector")
        before = _switches(child.pid)
        deadline = time.monotonic() + LIMIT
        while True:  # until a whole second has passed without a wake-up: what follows the start takes a while
            time.sleep(1)
            now = _switches(child.pid)
            if now == before:
                break
            before = now
            assert time.monotonic() < deadline
        child.send_signal(signal.SIGKILL)


def _switches(pid: int) -> int:
    """How often all threads of a process have gone to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        assert match
        total += int(match.group(1))
    return total


def test_under_the_cpp_server() -> None:
    port = free_port()
    path = os.pathsep.join([str(Path(indifast.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "child_driver")
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {CHILD}\n")
        program.chmod(0o755)
        command = ["indiserver", "-p", str(port), "-u", f"{folder}/socket", str(program)]
        server = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + LIMIT
            while True:
                got = subprocess.run(
                    ["indi_getprop", "-p", str(port), "-t", "2", "Child.number.value"], capture_output=True, check=False
                )
                if got.stdout:
                    break
                assert time.monotonic() < deadline, got
            assert got.stdout == b"Child.number.value=0\n"
            _check_frame(port)
        finally:
            server.terminate()
            server.wait()


def _check_frame(port: int) -> None:
    """The server turns the descriptor that the driver sends into base64 for a client over TCP."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
        client.sendall(GET + b'<enableBLOB device="Child">Also</enableBLOB>')
        text = b""
        while b"</defBLOBVector>" not in text:
            text += client.recv(1 << 20)
        client.sendall(press("frame"))
        parser = Tokenizer()
        elements: list[Element] = []
        while not any(element.tag == "setBLOBVector" for element in elements):
            data = client.recv(1 << 20)
            assert data
            elements += parser.feed(data)
        (blob,) = (element for element in elements if element.tag == "setBLOBVector")
        assert blob.members[0].data == FRAME
