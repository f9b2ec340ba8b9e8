"""Weaknesses W1 to W12 of the C++ indiserver: one test for each shows that indifast does not have it.

Where that is quick and reliable, the scenario is also run against the installed indiserver.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import re
import select
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.support import (
    GET,
    PROGRAMS,
    Serve,
    ServeDriver,
    answers,
    blob,
    blob_definition,
    blobs_wanted,
    definition,
    executable,
    ping,
    text,
)
from tests.support.blackbox import (
    LIMIT,
    PYTHON,
    Channel,
    Hub,
    free_port,
    processor_seconds,
    resident_bytes,
    tree,
    until,
)
from tests.support.libindi import Indiserver
from tests.support.signals import caught

PIDFD_GETFD = 438  # this system call has the same number on all architectures


class CppServer(Indiserver):
    """The C++ server, and the clients that connect to it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder, *arguments)
        self.channels: list[Channel] = []

    def connect(self, *first: bytes) -> Channel:
        channel = Channel.connect(self.port)
        self.channels.append(channel)
        for words in first:
            channel.send(words)
        return channel

    def kill(self) -> None:
        for channel in self.channels:
            channel.close()
        super().kill()


CppServe = Callable[..., CppServer]


@pytest.fixture
def cpp(tmp_path: Path, program: Callable[[str], str]) -> Iterator[CppServe]:
    """Starts the C++ server with arguments, and returns it; all servers are ended after the test."""
    program("indiserver")
    started: list[CppServer] = []

    def start(*arguments: str) -> CppServer:
        started.append(CppServer(tmp_path, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.mark.xdist_group("processor time")
def test_w1_uploads_of_tcp_clients_are_read_in_large_pieces(serve: Serve, cpp: CppServe, hub: Hub) -> None:
    """The C++ server reads 8 bytes per call from TCP clients: a whole processor reads 11 MB/s."""
    content = os.urandom(8 << 20)
    served = serve(programs=[[hub.program("one")]], devices=[])
    costs = []
    for start in (lambda: served, lambda: cpp(hub.program("two"))):
        server = start()
        client = server.connect(GET)
        ping(client)
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("X"))
        client.until_text('device="X"')
        before = processor_seconds(server.pid)
        client.send(blob("X", "b", content, tag="newBLOBVector"))
        message = tree(driver.until(lambda m: m.startswith(b"<newBLOBVector"))[-1])
        costs.append(processor_seconds(server.pid) - before)
        if server is served:
            assert base64.b64decode(message[0].text or "") == content
    assert costs[0] < costs[1] / 2


def other_end(pid: int, client: Channel) -> socket.socket:
    """Return a duplicate of the socket through which a process is connected to a client."""
    (found,) = [
        connection.fd
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.raddr and connection.raddr.port == client.port() and connection.status == psutil.CONN_ESTABLISHED
    ]
    handle = os.pidfd_open(pid)
    try:
        number = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, handle, found, 0)
        if number < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return socket.socket(fileno=number)
    finally:
        os.close(handle)


def test_w2_a_small_message_does_not_wait_for_an_acknowledgement(serve: Serve, cpp: CppServe) -> None:
    """The C++ server does not set TCP_NODELAY, so a second message waits 40 ms until the first is acknowledged."""
    waits = []
    for server in (serve(), cpp("indi_simulator_telescope")):
        client = server.connect(GET)
        ping(client)
        with other_end(server.pid, client) as end:
            waits.append(not end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    assert waits == [False, True]


def reads_on(sender: socket.socket, other: Channel) -> bool:
    """Return whether the server still reads from a client, while it serves another."""
    for _ in range(5):
        if select.select([], [sender], [], 0.1)[1]:
            return True
        answers(other)
    return False


def send_until_refused(sender: socket.socket, other: Channel, data: bytes, times: int) -> bool:
    """Send data repeatedly until the server does not read it any more. Return whether that happens."""
    sender.setblocking(False)
    for _ in range(times):
        view = memoryview(data)
        while view:
            if not reads_on(sender, other):
                return True
            view = view[sender.send(view) :]
    return False


def test_w3_the_queue_to_a_stopped_driver_is_bounded(serve: Serve, tmp_path: Path) -> None:
    """The C++ server needs 233 MB after 60 uploads of 4 MB to a driver that does not read."""
    deaf = executable(
        tmp_path / "deaf",
        f"#!{PYTHON}\nimport os, signal\n"
        f"while b'newBLOB' not in os.read(0, 65536):\n    os.write(1, {blob_definition('X')!r})\nsignal.pause()\n",
    )
    served = serve(programs=[[deaf]])
    sender, other = served.client(), served.client()
    if b'device="X"' not in sender.raw:
        sender.until_text('device="X"')
    before = resident_bytes(served.pid)
    upload = blob("X", "b", bytes(4 << 20), tag="newBLOBVector")
    owner = sender._owner
    assert isinstance(owner, socket.socket)
    assert send_until_refused(owner, other, upload, 60)
    answers(other)
    assert resident_bytes(served.pid) - before < 64 << 20
    assert b'<delProperty device="X"' not in other.raw  # the driver is not ended


def test_w4_a_server_starts_without_its_remotes(serve: Serve, cpp: CppServe, hub: Hub) -> None:
    nowhere = free_port()
    served = serve(remotes=[["127.0.0.1", nowhere, True], ["no-such-host.invalid", 7624, True]])
    answers(served.client())

    assert cpp(hub.program("one"), f"@127.0.0.1:{nowhere}").wait() == 1


def test_w5_a_server_survives_a_lack_of_descriptors(serve: Serve) -> None:
    """With 40 descriptors, the C++ server ends at its 36th client."""
    served = serve(descriptors=40, server={"maxconnections": None})
    first = served.client()
    crowd = [socket.create_connection(("localhost", served.port)) for _ in range(60)]
    answers(first)
    for member in crowd:
        member.close()
    answers(served.client())


def test_w6_a_crashing_driver_is_restarted_with_growing_pauses(serve: Serve, cpp: CppServe, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    crashing = executable(tmp_path / "crashing", f"#!/bin/sh\necho start >> {starts}\nexit 1\n")
    served = serve(programs=[[crashing]])
    until(lambda: starts.exists() and starts.read_text().count("start") >= 2, what="a second start")
    answers(served.client())
    assert starts.read_text().count("start") < 10
    answers(served.client())

    starts = tmp_path / "starts of the other"  # ours goes on
    crashing = executable(tmp_path / "crashing too", f"#!/bin/sh\necho start >> '{starts}'\nexit 1\n")
    assert cpp(crashing).wait() == 1  # after eleven starts within milliseconds the server ends with its last driver
    assert starts.read_text().count("start") == 11


def attaching(tmp_path: Path, *, descriptors: int, members: int, length: int, size: int) -> str:
    """Write an executable driver that sends BLOBs as shared memory on a command, and return its path."""
    options = {
        "descriptors": [[1 << 20, length]] * descriptors,
        "attributes": f"size='{size}' format='.fits.z' len='{length}'",
        "members": members,
    }
    command = shlex.join([PYTHON, str(PROGRAMS / "attaching.py"), json.dumps(options)])
    return executable(tmp_path / "attaching", f"#!/bin/sh\nexec {command}\n")


GO = text("go", "t", device="S")
"""The command on which the driver sends its BLOBs."""


def test_w7_the_length_of_a_compressed_attached_blob_is_respected(serve: Serve, cpp: CppServe, tmp_path: Path) -> None:
    """If `size` (uncompressed) is larger than `len`, the C++ server sends bytes beyond the content."""
    driver = attaching(tmp_path, descriptors=1, members=1, length=1000, size=5000)
    contents = []
    for start in (lambda: serve(programs=[[driver]]), lambda: cpp(driver)):
        client = start().connect(blobs_wanted("S") + GET)
        client.until_text('device="S" name="t"')
        client.send(GO)
        message = tree(client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1])
        contents.append(base64.b64decode(message[0].text or ""))
        assert message[0].get("size") == "5000"
    assert contents[0] == b"A" * 1000
    assert len(contents[1]) == 5000


def test_w8_no_client_receives_a_vector_without_its_descriptors(serve: Serve, tmp_path: Path) -> None:
    """libindi's drivers send one descriptor for two BLOBs. The C++ server ends the driver, or restarts it."""
    served = serve(programs=[[attaching(tmp_path, descriptors=1, members=2, length=1000, size=1000)]])
    client = served.client(blobs_wanted("S"))
    if b'device="S" name="t"' not in client.raw:
        client.until_text('device="S" name="t"')
    client.send(GO)
    # The driver may send its next message or may be restarted; but half a vector must not arrive.
    client.until(lambda m: b">behind<" in m or m.startswith(b"<delProperty"))
    assert b"<setBLOBVector" not in client.raw
    answers(client)


def test_w9_enable_blob_for_a_device_does_not_affect_others(serve: Serve, cpp: CppServe, hub: Hub) -> None:
    words = b'<enableBLOB device="A" name="b">Also</enableBLOB><enableBLOB device="B">Never</enableBLOB>'
    served = serve(programs=[[hub.program("one")]], devices=[])
    outcomes = []
    for connect in (served.connect, lambda *first: cpp(hub.program("two")).connect(*first)):
        client = connect(GET + words)
        ping(client)
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("A"))
        client.until_text("defBLOBVector")
        driver.send(blob("A", "b", b"hello") + b'<message message="end"/>')
        outcomes.append(b"oneBLOB" in b"".join(client.until_text('message="end"')))
    assert outcomes == [True, False]


def test_w10_a_driver_can_snoop_on_everything(serve: Serve, cpp: CppServe, hub: Hub) -> None:
    """The C++ server reads a driver's getProperties without a device as a request for the device ""."""
    served = serve(programs=[[hub.program("one")], [hub.program("two")]], devices=[])
    outcomes = []
    for start in (lambda: served, lambda: cpp(hub.program("three"), hub.program("four"))):
        server = start()
        snooper, speaker = (channel for _, channel in sorted(hub.accept() for _ in range(2)))
        snooper.until_text("getProperties")
        speaker.until_text("getProperties")
        client = server.connect(GET)
        ping(client)
        snooper.send(GET + definition("Mark"))
        client.until_text('device="Mark"')
        speaker.send(definition("X") + b'<setTextVector device="X" name="t" state="Ok"/><message message="end"/>')
        client.until_text('message="end"')
        client.send(text("end", "t", device="Mark"))
        outcomes.append(any(m.startswith(b"<setTextVector") for m in snooper.until_text("end")))
    assert outcomes == [True, False]


def test_w11_blobs_for_drivers_are_inline(serve: Serve, cpp: CppServe, hub: Hub) -> None:
    """1.9.9 attaches them, which no driver of libindi can read."""
    outcomes = []
    served = serve(programs=[[hub.program("one")]], devices=[])
    for connect in (served.connect, lambda *first: cpp(hub.program("two")).connect(*first)):
        client = connect(GET)
        ping(client)
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("X"))
        client.until_text("defBLOBVector")
        client.send(blob("X", "b", b"hello", tag="newBLOBVector"))
        message = tree(driver.until(lambda m: m.startswith(b"<newBLOBVector"))[-1])
        outcomes.append((message[0].get("attached"), (message[0].text or "").strip()))
    assert outcomes == [(None, "aGVsbG8="), ("true", "")]


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    return [child.pid for child in psutil.Process(pid).children()]


def test_w12_drivers_are_asked_to_end_before_they_are_killed(serve: Serve, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    polite = executable(
        tmp_path / "polite",
        f"#!{PYTHON}\nimport signal, sys\n"
        f"def end(*_):\n    open({str(farewell)!r}, 'w').write('goodbye')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('<message/>', flush=True)\nwhile True: signal.pause()\n",
    )
    served = serve(programs=[[polite]])
    until(lambda: any(signal.SIGTERM in caught(pid) for pid in children(served.pid)), what="the driver's handler")
    served.stop()
    assert farewell.read_text() == "goodbye"


def test_w12_drivers_inherit_only_their_own_descriptors(serve: Serve) -> None:
    served = serve(programs=[["sleep", "1000"], ["sleep", "1001"], ["sleep", "1002"]])
    served.client()
    drivers = [Path(f"/proc/{pid}") for pid in children(served.pid)]
    assert len(drivers) == 3
    until(lambda: all(driver.joinpath("comm").read_text() == "sleep\n" for driver in drivers), what="the drivers")
    for driver in drivers:  # a program that has just begun may still have its libraries open
        until(lambda driver=driver: sorted(os.listdir(driver / "fd")) == ["0", "1", "2"], what="0, 1 and 2 alone")


def test_w12_the_server_listens_on_ipv6_too(serve: Serve) -> None:
    served = serve(server={"host": "localhost"})
    families = {info[0] for info in socket.getaddrinfo("localhost", served.port, type=socket.SOCK_STREAM)}
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family in families:
            with socket.socket(family) as peer:
                peer.settimeout(LIMIT)
                peer.connect((address, served.port))


def test_enclen_outside_of_blob_vectors_is_not_passed_on(serve_driver: ServeDriver, cpp: CppServe, hub: Hub) -> None:
    """The C++ server trusts `enclen` of a oneBLOB in any vector, and ends with SIGABRT if it is wrong."""
    bad = (
        b'<setTextVector device="X" name="t" state="Ok"><oneBLOB name="t" size="5" format=".x" enclen="4" attached="true">'
        + b"x" * 300_000
        + b'</oneBLOB><oneText name="t" enclen="4" attached="true">y</oneText></setTextVector>'
    )
    served, driver = serve_driver(devices=[])
    client = served.connect(GET)
    driver.until_text("getProperties")
    driver.send(definition("X") + bad + definition("X", "behind"))
    client.until_text('name="behind"')
    assert b"oneText" in client.raw
    assert b"enclen" not in client.raw and b"attached" not in client.raw

    server = cpp(hub.program("two"))
    _, driver = hub.accept()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server may end before it has read everything
        driver.send(definition("X") + bad)
    assert server.wait() != 0


def arrives(driver: Channel, client: Channel, message: bytes, start: bytes) -> bool:
    """Send a message, perhaps before the client has asked for it, and return whether one like it has arrived."""
    driver.send(message)
    client.pump(0.1)
    return any(each.startswith(start) for each in client.messages)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("length", [4, 28, 68, 72, 76, 144, 4000])
def test_enclen_that_is_passed_on_does_not_stall_the_cpp_server(
    serve_driver: ServeDriver, cpp: CppServe, length: int, counted: int
) -> None:
    """The C++ server skips as much text as `enclen` states; the frames and the messages after them must arrive."""
    content = b"A" * length
    lines = b"".join(content[start : start + 72] + b"\n" for start in range(0, length, 72))
    count = length + counted * lines.count(b"\n")
    served, driver = serve_driver(devices=[])
    driver.until_text("getProperties")
    server = cpp(f"@localhost:{served.port}")
    client = server.connect(GET)
    until(lambda: arrives(driver, client, blob_definition("X"), b"<defBLOBVector"))
    client.send(blobs_wanted("X"))  # the C++ server passes it on only when it knows the device
    until(lambda: arrives(driver, client, blob("X", "b", b"probe"), b"<setBLOBVector"))
    for number in range(3):
        one = b"<oneBLOB name='b' size='%d' format='.x' enclen='%d'>%s</oneBLOB>" % (length // 4 * 3, count, lines)
        driver.send(b"<setBLOBVector device='X' name='b' state='Ok'>" + one + b"</setBLOBVector>")
        driver.send(definition("X", f"behind{number}"))
        said = client.until_text(f"behind{number}")
        frame = [message for message in said if message.startswith(b"<setBLOBVector")][-1]
        found = re.search(rb"<oneBLOB[^>]*>([A\s]*)", frame)
        assert found is not None
        texts = lines.split()
        assert found[1].split()[: len(texts)] == texts  # after a long text, 1.9.9 itself leaves bytes of its memory
