"""Commands that run for a long time keep running when nobody reads their output, and can be ended."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.support import DEFINITION, GET, record
from tests.recording.support import as_text
from tests.support.blackbox import LIMIT, Channel, free_port, python_environment, until
from tests.support.commands import INDIFAST

Start = Callable[..., subprocess.Popen[bytes]]

TEXT = "<setTextVector device='Dome' name='T' state='Ok'><oneText name='m'>{:06d} {}</oneText></setTextVector>"
COUNT = 5000


@pytest.fixture
def unread() -> Iterator[int]:
    """A full pipe, which nobody reads."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, bytes(4096))
    yield writing
    os.close(writing)
    os.close(reading)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `indifast` with some words, and streams as `subprocess.Popen` takes them; it is killed after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: object, **options: Any) -> subprocess.Popen[bytes]:
        argv = [*INDIFAST, *map(str, words)]
        processes.append(subprocess.Popen(argv, env=os.environ | python_environment(), **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """End a process with a signal, and return its exit status."""
    process.send_signal(number)
    return process.wait(LIMIT)


def test_a_replay_that_logs_all_traffic(tmp_path: Path, unread: int, start: Start) -> None:
    record(tmp_path / "made", DEFINITION + "".join(TEXT.format(number, "x" * 200) for number in range(COUNT)))
    port = free_port()
    replay = start("replay", "--debug", "--wait", "-p", port, tmp_path / "made", stderr=unread)
    client = Channel.connect(port, "127.0.0.1")
    client.send(GET)
    client.until_text(f"{COUNT - 1:06d} ")
    assert ended(replay) == 0


def test_a_recording_that_logs_all_traffic(tmp_path: Path, unread: int, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        recording = start("record", "--debug", "-o", tmp_path / "made", f"localhost:{port}", stderr=unread)
        listening.settimeout(LIMIT)
        peer, _ = listening.accept()
    peer.settimeout(LIMIT)
    peer.recv(1000)
    peer.sendall(DEFINITION.encode())
    for number in range(COUNT):
        peer.sendall(TEXT.format(number, "x" * 200).encode())
    peer.sendall(b"<pingRequest uid='all'/>")
    while b"pingReply" not in peer.recv(1000):
        pass
    assert ended(recording) == 0
    peer.close()
    text = as_text(tmp_path / "made")
    assert len(re.findall(rb">\d{6} x", text)) == COUNT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_demonstration(tmp_path: Path, unread: int, start: Start, stream: str) -> None:
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    streams = {stream: unread, other: subprocess.DEVNULL}
    demo = start("demo", "--size", "64x48", "--seconds", "0.3", "--forever", cwd=tmp_path, **streams)
    until(lambda: (tmp_path / "demo-frame.png").exists(), what="the frame, which is saved after lines were printed")
    children = psutil.Process(demo.pid).children()
    assert ended(demo, signal.SIGINT) == 0
    _, alive = psutil.wait_procs(children, timeout=LIMIT)
    assert not alive


def test_a_demonstration_ends_when_its_output_is_closed(tmp_path: Path, start: Start) -> None:
    demo = start("demo", "--size", "64x48", "--seconds", "600", cwd=tmp_path, stdout=subprocess.PIPE)
    assert demo.stdout is not None
    assert demo.stdout.readline().startswith(b"Server on localhost:")
    demo.stdout.close()
    assert demo.wait(LIMIT) == 141
