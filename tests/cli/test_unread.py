"""Commands that go on for long do so when nobody reads what they write, and can be ended."""

from __future__ import annotations

import fcntl
import gzip
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from indifast._parser import Tokenizer
from indifast.recording import Direction, Party, Recorder
from tests.support.blackbox import LIMIT, Channel, free_port, python_environment, until

TEXT = "<setTextVector device='Dome' name='T' state='Ok'><oneText name='m'>{:06d} {}</oneText></setTextVector>"
DEFINITION = "<defTextVector device='Dome' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText></defTextVector>"
COUNT = 5000


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, bytes(4096))
    yield writing
    os.close(writing)
    os.close(reading)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(*words: object, **streams: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "indifast", *map(str, words)]
    return subprocess.Popen(argv, env=os.environ | python_environment(), **streams)


def ended(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(LIMIT)


def test_a_replay_with_all_its_traffic_logged(tmp_path, unread, started):
    recorder = Recorder(str(tmp_path / "made"), source="a test", blobs=False)
    text = DEFINITION + "".join(TEXT.format(number, "x" * 200) for number in range(COUNT))
    for element in Tokenizer(relay=True).feed(text.encode()):
        recorder.put(Direction.FROM, Party.DRIVER, "dome", element)
    recorder.close()
    port = free_port()
    started.append(start("replay", "--debug", "--wait", "-p", port, tmp_path / "made", stderr=unread))
    client = Channel.connect(port, "127.0.0.1")
    client.send(b"<getProperties version='1.7'/>")
    client.until_text(f"{COUNT - 1:06d} ")
    assert ended(started[0]) == 0


def test_a_recording_with_all_traffic_logged(tmp_path, unread, started):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        started.append(start("record", "--debug", "-o", tmp_path / "made", f"localhost:{port}", stderr=unread))
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
    assert ended(started[0]) == 0
    peer.close()
    text = gzip.decompress((tmp_path / "made").read_bytes())
    assert len(re.findall(rb">\d{6} x", text)) == COUNT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_demonstration(tmp_path, unread, started, stream):
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    streams = {stream: unread, other: subprocess.DEVNULL}
    started.append(start("demo", "--size", "64x48", "--seconds", "0.3", "--forever", cwd=tmp_path, **streams))
    until(lambda: (tmp_path / "demo-frame.png").exists(), what="the frame that is saved when the lines are written")
    children = psutil.Process(started[0].pid).children()
    assert ended(started[0], signal.SIGINT) == 0
    _, alive = psutil.wait_procs(children, timeout=LIMIT)
    assert not alive


def test_a_demonstration_whose_reader_has_gone_ends(tmp_path, unread):
    del unread
    process = start("demo", "--size", "64x48", "--seconds", "60", cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"Server on localhost:")
    process.stdout.close()
    assert process.wait(LIMIT) == 141
