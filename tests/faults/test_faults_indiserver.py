"""Weaknesses W1 to W12 of the C++ indiserver: one test each that shows indifast without it.

The scenario is run against the installed server too where that is quick and its outcome is certain.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.support import GET, HERE, Served, answers, blob, blob_definition, definition
from tests.support.blackbox import (
    LIMIT,
    PYTHON,
    Channel,
    Child,
    Hub,
    free_port,
    processor_seconds,
    python_environment,
    resident_bytes,
    tree,
    until,
)

Serve = Callable[..., Served]

PIDFD_GETFD = 438  # this system call has the same number everywhere


class CppServer:
    """The C++ server with programs of a hub."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        words = ["indiserver", "-p", str(self.port), "-u", f"/tmp/indi-{os.getpid()}-{self.port}", *arguments]
        self.child = Child(words, folder)
        self.channels: list[Channel] = []

    def connect(self, *first: bytes) -> Channel:
        channel = Channel.connect(self.port)
        self.channels.append(channel)
        for words in first:
            channel.send(words)
        return channel

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.child.kill()


@pytest.fixture
def cpp(tmp_path: Path, program: Callable[[str], str]) -> Iterator[Callable[..., CppServer]]:
    program("indiserver")
    started: list[CppServer] = []

    def start(*arguments: str) -> CppServer:
        started.append(CppServer(tmp_path, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.mark.xdist_group("processor time")
def test_w1_upload_from_a_tcp_client_is_read_in_large_pieces(
    serve: Serve, cpp: Callable[..., CppServer], hub: Hub
) -> None:
    """The C++ server reads 8 bytes per call from TCP clients: 11 MB/s, all of it processor time."""
    content = os.urandom(8 << 20)
    served = serve(programs=[[hub.program("one")]], devices=[])
    costs = []
    for start in (lambda: (served.pid, served), lambda: ((server := cpp(hub.program("two"))).child.pid, server)):
        pid, server = start()
        client = server.connect(GET, b'<pingRequest uid="u"/>')
        client.until_text("pingReply")
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("X"))
        client.until_text('device="X"')
        before = processor_seconds(pid)
        client.send(blob("X", "b", content, tag="newBLOBVector"))
        message = tree(driver.until(lambda m: m.startswith(b"<newBLOBVector"))[-1])
        costs.append(processor_seconds(pid) - before)
        if server is served:
            assert base64.b64decode(message[0].text or "") == content
    assert costs[0] < costs[1] / 2


def other_end(pid: int, client: Channel) -> socket.socket:
    """The socket by which a process is connected to a client; the same one, not another one of its kind."""
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


def test_w2_two_small_messages_do_not_wait_for_an_acknowledgement(serve: Serve, cpp: Callable[..., CppServer]) -> None:
    """Without TCP_NODELAY the second message of the C++ server waits 40 ms for the first one's acknowledgement."""
    ours, theirs = serve(), cpp("indi_simulator_telescope")
    waits = []
    for pid, server in ((ours.pid, ours), (theirs.child.pid, theirs)):
        client = server.connect(GET, b'<pingRequest uid="u"/>')
        client.until_text("pingReply")
        with other_end(pid, client) as end:
            waits.append(not end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    assert waits == [False, True]


def test_w3_queue_to_a_stopped_driver_is_bounded(serve: Serve, tmp_path: Path) -> None:
    """The C++ server holds 233 MB after 60 uploads of 4 MB to a driver that does not read."""
    deaf = tmp_path / "deaf"
    deaf.write_text(
        f"#!{PYTHON}\nimport os, signal\n"
        f"while b'newBLOB' not in os.read(0, 65536):\n    os.write(1, {blob_definition('X')!r})\nsignal.pause()\n"
    )
    deaf.chmod(0o755)
    served = serve(programs=[[str(deaf)]])
    sender, other = served.client(), served.client()
    if b'device="X"' not in sender.raw:
        sender.until_text('device="X"')
    before = resident_bytes(served.pid)
    upload = blob("X", "b", bytes(4 << 20), tag="newBLOBVector")
    owner = sender._owner
    assert isinstance(owner, socket.socket)
    owner.settimeout(2)
    with pytest.raises(TimeoutError):  # the sender is not read any more, and the driver is not killed for it
        for _ in range(60):
            owner.sendall(upload)
    answers(other)
    assert resident_bytes(served.pid) - before < 64 << 20
    assert b'<delProperty device="X"' not in other.raw


def test_w4_remote_that_is_not_there_stops_nobody(serve: Serve, cpp: Callable[..., CppServer], hub: Hub) -> None:
    nowhere = free_port()
    served = serve(remotes=[["127.0.0.1", nowhere, True], ["no-such-host.invalid", 7624, True]])
    answers(served.client())

    server = cpp(hub.program("one"), f"@127.0.0.1:{nowhere}")
    assert server.child.wait() == 1


def test_w5_running_out_of_descriptors_is_survived(tmp_path: Path) -> None:
    """With 40 descriptors the C++ server ends at its 36th client."""
    words = [PYTHON, str(HERE / "programs" / "served.py"), json.dumps({"server": {"maxconnections": None}})]
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); os.execv(sys.argv[1], sys.argv[1:])"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 200
    with Child([PYTHON, "-c", code, *words], tmp_path, env=python_environment()) as child:
        found = re.search(r"^port (\d+)$", child.until_stderr("\n") and child.until_stderr("port "), re.MULTILINE)
        assert found is not None
        port = int(found.group(1))
        first = Channel.connect(port)
        first.send(GET)
        first.until_text("defBLOBVector")
        crowd = [socket.create_connection(("localhost", port)) for _ in range(60)]
        answers(first)
        for member in crowd:
            member.close()
        late = Channel.connect(port)
        late.send(GET)
        late.until_text("defBLOBVector")
        answers(late)
        first.close()
        late.close()


def test_w6_crashing_program_is_started_again_with_growing_pauses(
    serve: Serve, cpp: Callable[..., CppServer], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    crashing = tmp_path / "crashing"
    crashing.write_text(f"#!/bin/sh\necho start >> {starts}\nexit 1\n")
    crashing.chmod(0o755)
    served = serve(programs=[[str(crashing)]])
    until(lambda: starts.exists() and starts.read_text().count("start") >= 2, what="a second start")
    answers(served.client())
    assert starts.read_text().count("start") < 10
    answers(served.client())

    starts.unlink()
    server = cpp(str(crashing))
    assert server.child.wait() == 1  # eleven starts within milliseconds, and the server is gone with its last driver
    assert starts.read_text().count("start") == 11


def sharing_driver(tmp_path: Path, *, descriptors: int, members: int, length: int, size: int) -> str:
    """An executable driver that sends a BLOB as shared memory as soon as a client wants it to."""
    path = tmp_path / f"sharing-{descriptors}-{members}-{length}"
    path.write_text(
        f"""#!{PYTHON}
import array, os, socket, sys
peer = socket.socket(fileno=os.dup(0))
def say(text, fds=()):
    peer.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
heard = b""
while data := peer.recv(65536):
    heard += data
    if b"<getProperties" in heard:
        say("<defBLOBVector device='S' name='b' state='Ok' perm='rw'><defBLOB name='m0'/></defBLOBVector>"
            "<defTextVector device='S' name='t' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>")
        heard = heard[heard.rindex(b"<getProperties") + 14:]
    if b"newTextVector" in heard and b"</newTextVector>" in heard:
        heard = b""
        fds = []
        for number in range({descriptors}):
            fd = os.memfd_create("shm_anon", os.MFD_CLOEXEC)
            os.ftruncate(fd, 1 << 20)
            os.pwrite(fd, bytes([65 + number]) * {length}, 0)
            fds.append(fd)
        blobs = "".join(f"<oneBLOB name='m{{number}}' size='{size}' format='.fits.z' len='{length}' attached='true'></oneBLOB>"
                        for number in range({members}))
        say(f"<setBLOBVector device='S' name='b' state='Ok'>{{blobs}}</setBLOBVector>", fds)
        say("<setTextVector device='S' name='t' state='Ok'><oneText name='t'>behind</oneText></setTextVector>")
        for fd in fds:
            os.close(fd)
"""
    )
    path.chmod(0o755)
    return str(path)


WANTS = b'<enableBLOB device="S">Also</enableBLOB>' + GET
GO = b'<newTextVector device="S" name="t"><oneText name="t">go</oneText></newTextVector>'


def test_w7_compressed_attached_blob_is_sent_with_its_own_length(
    serve: Serve, cpp: Callable[..., CppServer], tmp_path: Path
) -> None:
    """The C++ server sends as many bytes as the descriptor has when `size` (uncompressed) is larger than `len`."""
    driver = sharing_driver(tmp_path, descriptors=1, members=1, length=1000, size=5000)
    served = serve(programs=[[driver]])
    client = served.connect(WANTS)
    client.until_text('device="S" name="t"')
    client.send(GO)
    message = tree(client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1])
    assert base64.b64decode(message[0].text or "") == b"A" * 1000
    assert message[0].get("size") == "5000"

    client = cpp(driver).connect(WANTS)
    client.until_text('device="S" name="t"')
    client.send(GO)
    message = tree(client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1])
    assert len(base64.b64decode(message[0].text or "")) == 5000


def test_w8_vector_whose_descriptors_are_missing_reaches_nobody(serve: Serve, tmp_path: Path) -> None:
    """libindi drivers send one descriptor for two BLOBs; the C++ server ends the driver for good or restarts it."""
    served = serve(programs=[[sharing_driver(tmp_path, descriptors=1, members=2, length=1000, size=1000)]])
    client = served.client(WANTS)
    client.until(lambda m: b'device="S" name="t"' in m) if b'device="S" name="t"' not in client.raw else None
    client.send(GO)
    # The driver lives on with its next message, or it is started again: both are in order, half a vector is not.
    client.until(lambda m: b">behind<" in m or m.startswith(b"<delProperty"))
    assert b"<setBLOBVector" not in client.raw
    answers(client)


def test_w9_enable_blob_of_a_device_leaves_the_others_alone(
    serve: Serve, cpp: Callable[..., CppServer], hub: Hub
) -> None:
    words = b'<enableBLOB device="A" name="b">Also</enableBLOB><enableBLOB device="B">Never</enableBLOB><pingRequest uid="u"/>'
    served = serve(programs=[[hub.program("one")]], devices=[])
    outcomes = []
    for connect in (served.connect, lambda *first: cpp(hub.program("two")).connect(*first)):
        client = connect(GET + words)
        client.until_text("pingReply")
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("A"))
        client.until_text("defBLOBVector")
        driver.send(blob("A", "b", b"hello") + b'<message message="end"/>')
        outcomes.append(b"oneBLOB" in b"".join(client.until_text('message="end"')))
    assert outcomes == [True, False]


def test_w10_driver_may_snoop_on_everything(serve: Serve, cpp: Callable[..., CppServer], hub: Hub) -> None:
    """The C++ server keeps a driver's device-less getProperties as a wish for the device ""."""
    served = serve(programs=[[hub.program("one")], [hub.program("two")]], devices=[])
    outcomes = []
    for start in (lambda: served, lambda: cpp(hub.program("three"), hub.program("four"))):
        server = start()
        snooper, speaker = (channel for _, channel in sorted(hub.accept() for _ in range(2)))
        snooper.until_text("getProperties")
        speaker.until_text("getProperties")
        client = server.connect(GET, b'<pingRequest uid="u"/>')
        client.until_text("pingReply")
        snooper.send(GET + definition("Mark"))
        client.until_text('device="Mark"')
        speaker.send(definition("X") + b'<setTextVector device="X" name="t" state="Ok"/><message message="end"/>')
        client.until_text('message="end"')
        client.send(b'<newTextVector device="Mark" name="t"><oneText name="t">end</oneText></newTextVector>')
        outcomes.append(any(m.startswith(b"<setTextVector") for m in snooper.until_text("end")))
    assert outcomes == [True, False]


def test_w11_blobs_for_drivers_are_inline(serve: Serve, cpp: Callable[..., CppServer], hub: Hub) -> None:
    """1.9.9 turns them into attached ones, which no libindi driver can read."""
    outcomes = []
    served = serve(programs=[[hub.program("one")]], devices=[])
    for connect in (served.connect, lambda *first: cpp(hub.program("two")).connect(*first)):
        client = connect(GET, b'<pingRequest uid="u"/>')
        client.until_text("pingReply")
        _, driver = hub.accept()
        driver.until_text("getProperties")
        driver.send(blob_definition("X"))
        client.until_text("defBLOBVector")
        client.send(blob("X", "b", b"hello", tag="newBLOBVector"))
        message = tree(driver.until(lambda m: m.startswith(b"<newBLOBVector"))[-1])
        outcomes.append((message[0].get("attached"), (message[0].text or "").strip()))
    assert outcomes == [(None, "aGVsbG8="), ("true", "")]


def test_w12_programs_are_asked_to_end_before_they_are_killed(serve: Serve, tmp_path: Path) -> None:
    said = tmp_path / "said"
    polite = tmp_path / "polite"
    polite.write_text(
        f"#!{PYTHON}\nimport signal, sys, time\n"
        f"def end(*_):\n    open({str(said)!r}, 'w').write('goodbye')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('<message/>', flush=True)\nwhile True: time.sleep(100)\n"
    )
    polite.chmod(0o755)
    served = serve(programs=[[str(polite)]])
    client = served.client()
    assert client
    until(lambda: _handles_sigterm(served.pid), what="the program's signal handler")
    served.stop()
    assert said.read_text() == "goodbye"


def _handles_sigterm(parent: int) -> bool:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{child}/status").read_text())
        if caught and int(caught.group(1), 16) >> (signal.SIGTERM - 1) & 1:
            return True
    return False


def test_w12_programs_inherit_nothing_but_their_own(serve: Serve) -> None:
    served = serve(programs=[["sleep", "1000"], ["sleep", "1001"], ["sleep", "1002"]])
    served.client()
    children = [
        Path("/proc", pid) for pid in Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
    ]
    assert len(children) == 3
    until(lambda: all(child.joinpath("comm").read_text() == "sleep\n" for child in children), what="the programs")
    for child in children:
        assert sorted(os.listdir(child / "fd")) == ["0", "1", "2"]


def test_w12_listens_on_ipv6_too(serve: Serve) -> None:
    served = serve(server={"host": "localhost"})
    families = {info[0] for info in socket.getaddrinfo("localhost", served.port, type=socket.SOCK_STREAM)}
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family in families:
            with socket.socket(family) as peer:
                peer.settimeout(LIMIT)
                peer.connect((address, served.port))


def test_enclen_outside_of_blob_vectors_is_not_passed_on(serve: Serve, cpp: Callable[..., CppServer], hub: Hub) -> None:
    """The C++ server believes `enclen` of a oneBLOB in any vector, and ends with SIGABRT when it lies."""
    bad = (
        b'<setTextVector device="X" name="t" state="Ok"><oneBLOB name="t" size="5" format=".x" enclen="4" attached="true">'
        + b"x" * 300_000
        + b'</oneBLOB><oneText name="t" enclen="4" attached="true">y</oneText></setTextVector>'
    )
    served = serve(programs=[[hub.program("one")]], devices=[])
    _, driver = hub.accept()
    client = served.connect(GET)
    driver.until_text("getProperties")
    driver.send(definition("X") + bad + definition("X", "behind"))
    client.until_text('name="behind"')
    assert b"oneText" in client.raw
    assert b"enclen" not in client.raw and b"attached" not in client.raw

    server = cpp(hub.program("two"))
    _, driver = hub.accept()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not live to the end of what it is sent
        driver.send(definition("X") + bad)
    assert server.child.wait() != 0


def arrives(driver: Channel, client: Channel, message: bytes, start: bytes) -> bool:
    """Whether a message that is sent (once more) has come: it may be sent before somebody wants it."""
    driver.send(message)
    client.pump(0.1)
    return any(each.startswith(start) for each in client.messages)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("length", [4, 28, 68, 72, 76, 144, 4000])
def test_what_is_kept_of_enclen_does_not_stall_the_cpp_server(
    serve: Serve, cpp: Callable[..., CppServer], hub: Hub, length: int, counted: int
) -> None:
    """It reads on by what `enclen` says: the frames and the messages behind them arrive, on its clients, too."""
    content = b"A" * length
    lines = b"".join(content[start : start + 72] + b"\n" for start in range(0, length, 72))
    count = length + counted * lines.count(b"\n")
    served = serve(programs=[[hub.program("one")]], devices=[])
    _, driver = hub.accept()
    driver.until_text("getProperties")
    server = cpp(f"@localhost:{served.port}")
    client = server.connect(GET)
    until(lambda: arrives(driver, client, blob_definition("X"), b"<defBLOBVector"))
    client.send(b"<enableBLOB device='X'>Also</enableBLOB>")  # to us it goes only when the device is known
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
        assert found[1].split()[: len(texts)] == texts  # behind long text 1.9.9 itself leaves bytes of its memory
