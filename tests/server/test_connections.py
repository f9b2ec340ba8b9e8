"""Connections that misbehave or are slow: what happens to them, and that the others do not suffer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indifast._parser import Tokenizer
from indifast.driver.device import Device
from indifast.driver.ipydriver import IPyDriver
from indifast.driver.propertymembers import BLOBMember
from indifast.driver.propertyvectors import BLOBVector
from indifast.protocol.complaints import BURST
from indifast.protocol.limits import Limits
from indifast.protocol.message import Routable
from indifast.routing import link
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Pace, Peer
from indifast.server import IPyServer, connections, locallink
from indifast.server.connections import Connection
from indifast.server.hub import Hub
from indifast.transport import blobs, contents, shm
from indifast.transport.connect import listen_on
from indifast.transport.descriptors import MAX_WAITING
from indifast.transport.stream import SocketStream, Stream, read_buffer
from tests.routing.fakes import Fake
from tests.routing.talk import World, blob
from tests.server.support import GET, NEW, Client, Echo, blob_vector, peers
from tests.support.blackbox import LIMIT
from tests.support.descriptors import open_fds
from tests.support.loops import on_every_loop, run_on
from tests.support.programs import executable
from tests.support.sockets import reset
from tests.support.waiting import eventually

MIB = 1 << 20
WANTS = GET + "<enableBLOB device='Cam'>Also</enableBLOB>"


class Camera(IPyDriver):
    def __init__(self) -> None:
        super().__init__(Device("Cam", [blob_vector()]))

    async def shoot(self, data: bytes, suffix: str = ".fits") -> None:
        member = self["Cam"]["B"].data["m"]
        member.blobformat = suffix
        self["Cam"]["B"]["m"] = data
        await self["Cam"]["B"].send_setVectorMembers(members=["m"])


async def stalled_client(server: IPyServer, messages: str = WANTS) -> socket.socket:
    """Return a connection that has sent two messages and then reads nothing."""
    known = {peer["name"] for peer in peers(server)}
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    await asyncio.get_running_loop().sock_sendall(sock, messages.encode())
    await eventually(lambda: any(peer["received"] == 2 for peer in peers(server) if peer["name"] not in known))
    return sock


async def reads_again(sock: socket.socket) -> Client:
    return Client(*await asyncio.open_connection(sock=sock))


@pytest.mark.parametrize("place", ["in the server", "on a connection"])
@pytest.mark.parametrize("patience", [LIMIT * 10, 0.001])
def test_a_driver_waits_while_its_only_reader_is_far_behind(
    monkeypatch: pytest.MonkeyPatch, place: str, patience: float
) -> None:
    """Until the reader has caught up, or its patience ends."""
    for module in (connections, locallink):
        monkeypatch.setattr(module, "FRAME_PAUSE", patience)
    count, remark = 8000, "x" * 1000  # more than the system takes for a connection
    define = (
        "<defNumberVector device='Echo' name='P' state='Ok' perm='rw'>"
        "<defNumber name='m' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>"
    )
    update = f"<setNumberVector device='Echo' name='P' message='{remark}'>"
    update += "<oneNumber name='m'>{}</oneNumber></setNumberVector>"

    async def by_driver(echo: Echo) -> None:
        for number in range(count):
            echo["Echo"]["P"]["m"] = number
            await echo["Echo"]["P"].send_setVector(message=remark)

    async def by_connection(driver: Client) -> None:
        for number in range(count):
            driver.say(update.format(number))
            await driver.writer.drain()
        await driver.settle()

    async def run() -> None:
        echo = Echo()
        async with IPyServer(*[echo] if place == "in the server" else [], port=0) as server:
            driver = await Client.to(server, asks=False)
            if place == "on a connection":
                driver.say(define)
                await driver.settle()
            sock = await stalled_client(server, GET + GET)
            sending = asyncio.create_task(by_driver(echo) if place == "in the server" else by_connection(driver))
            if patience > LIMIT:
                states: list[int] = []

                def halted() -> bool:
                    states.append(peers(server)[-1]["queued_bytes"])
                    assert states[-1] < MIB + 256 * 1024
                    return states[-1] > 0 and len(states) > 100 and len(set(states[-100:])) == 1

                await eventually(halted)
                assert max(states) > 128 * 1024 and not sending.done()
            else:
                await asyncio.wait_for(sending, LIMIT)
            reader = await reads_again(sock)
            values = [float((await reader.hears("setNumberVector")).members[0].text) for _ in range(count)]
            assert values == list(range(count))
            await asyncio.wait_for(sending, LIMIT)
            await reader.close()
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize("place", ["in the server", "on a connection"])
def test_a_large_frame_is_waited_for_as_long_as_it_takes_at_a_usual_rate(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The queue has room for eight frames, but no frame is dropped while the only reader reads nothing."""
    monkeypatch.setattr(link, "FRAME_PAUSE", 0.001)
    monkeypatch.setattr(link, "PATIENT_RATE", MIB / (LIMIT * 10))
    frames = [bytes([number]) * MIB for number in range(20)]

    async def by_driver(camera: Camera) -> None:
        for frame in frames:
            await camera.shoot(frame)

    async def run() -> None:
        camera = Camera()
        async with IPyServer(*[camera] if place == "in the server" else [], port=0, queue=12 * MIB) as server:
            driver = await Client.to(server, asks=False)
            if place == "on a connection":
                await define_camera(driver)
            sock = await stalled_client(server)
            sending = asyncio.create_task(
                by_driver(camera) if place == "in the server" else send_all(driver, list(map(inline, frames)))
            )
            assert await asyncio.wait({sending}, timeout=0.5) == (set(), {sending})
            reader = await reads_again(sock)
            got = [(await reader.hears("setBLOBVector")).members[0].data for _ in frames]
            assert got == frames
            await asyncio.wait_for(sending, LIMIT)
            await reader.close()
            await driver.close()

    asyncio.run(run())


async def define_camera(driver: Client) -> None:
    """Define the BLOB of `Camera` on a connection."""
    driver.say("<defBLOBVector device='Cam' name='B' state='Ok' perm='ro'><defBLOB name='m'/></defBLOBVector>")
    await driver.settle()


def inline(data: bytes) -> str:
    member = f"<oneBLOB name='m' size='{len(data)}' format='.fits'>{b64encode(data).decode()}</oneBLOB>"
    return f"<setBLOBVector device='Cam' name='B' state='Ok'>{member}</setBLOBVector>"


async def send_all(driver: Client, messages: list[str]) -> None:
    for message in messages:
        driver.say(message)
        await driver.writer.drain()
    await driver.settle()


@pytest.mark.parametrize("senders", [0, 2])
def test_of_large_frames_little_more_than_one_is_in_memory(monkeypatch: pytest.MonkeyPatch, senders: int) -> None:
    """Each arrives as its readers take the one before it, which is freed piece by piece.

    In a thread of its own, which has its own buffers: what other tests have left may be freed meanwhile.
    """
    monkeypatch.setattr(link, "PATIENT_RATE", MIB / (LIMIT * 10))
    size = 24 * MIB
    frames = [inline(bytes([number]) * size) for number in range(4)]

    async def run() -> None:
        buffer, most = read_buffer(), 0
        room = buffer.room

        def counting() -> tuple[Any, memoryview]:
            nonlocal most
            found = room()
            most = max(most, buffer.blocks)
            return found

        async with IPyServer(port=0, senders=senders) as server:
            driver = await Client.to(server, asks=False)
            await define_camera(driver)
            readers = [await Client.to(server, asks=False) for _ in range(3)]
            for reader in readers:
                reader.say(WANTS)
                await reader.settle()
            buffer.give_back()
            before = buffer.blocks
            monkeypatch.setattr(buffer, "room", counting)
            sending = asyncio.create_task(send_all(driver, frames))

            async def read(reader: Client) -> None:
                for number in range(len(frames)):
                    assert (await reader.hears("setBLOBVector")).members[0].data == bytes([number]) * size

            await asyncio.gather(sending, *map(read, readers))
            held = (most - before) * (256 << 10) / len(frames[0])
            assert 0.9 < held < 1.3
            for client in (driver, *readers):
                await client.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


@pytest.mark.parametrize("senders", [0, 2])
def test_nobody_waits_for_a_reader_of_large_frames_that_has_stopped(
    monkeypatch: pytest.MonkeyPatch, senders: int
) -> None:
    """A single pause would take too long."""
    monkeypatch.setattr(link, "PATIENT_RATE", MIB / (LIMIT * 10))
    size = 12 * MIB
    frames = [inline(bytes([number]) * size) for number in range(6)]

    async def run() -> None:
        async with IPyServer(port=0, senders=senders, queue=4 * size) as server:
            driver = await Client.to(server, asks=False)
            await define_camera(driver)
            stalled = await stalled_client(server)
            reader = await Client.to(server)
            reader.say("<enableBLOB device='Cam'>Also</enableBLOB>")
            await reader.settle()
            sending = asyncio.create_task(send_all(driver, frames))
            for number in range(len(frames)):
                assert (await reader.hears("setBLOBVector")).members[0].data == bytes([number]) * size
            await asyncio.wait_for(sending, LIMIT)
            stalled.close()
            await reader.close()
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize("senders", [0, 2])
def test_the_fastest_reader_of_large_frames_waits_for_the_others_as_long_as_it_may(
    monkeypatch: pytest.MonkeyPatch, senders: int
) -> None:
    """Otherwise what one is ahead of the other would be in memory on top of the frame."""
    monkeypatch.setattr(link, "PATIENT_RATE", MIB / (LIMIT * 10))
    monkeypatch.setattr("indifast.routing.peer.FRAME_PAUSE", LIMIT * 10)
    size = 12 * MIB
    frames = [bytes([number]) * size for number in range(2)]

    async def run() -> None:
        async with IPyServer(port=0, senders=senders) as server:
            driver = await Client.to(server, asks=False)
            await define_camera(driver)
            stalled = await stalled_client(server)
            fast = await Client.to(server, asks=False)
            fast.say(WANTS)
            await fast.settle()
            sending = asyncio.create_task(send_all(driver, list(map(inline, frames))))
            assert (await fast.hears("setBLOBVector")).members[0].data == frames[0]
            second = asyncio.create_task(fast.hears("setBLOBVector"))
            hub = server._indifast_hub
            assert hub is not None
            await eventually(lambda: any(each._courteous and each.paused for each in hub.connections.values()))
            assert not second.done()
            slow = await reads_again(stalled)
            got = [(await slow.hears("setBLOBVector")).members[0].data for _ in frames]
            assert got == frames
            assert (await asyncio.wait_for(second, LIMIT)).members[0].data == frames[1]
            await asyncio.wait_for(sending, LIMIT)
            for client in (driver, fast, slow):
                await client.close()

    asyncio.run(run())


def test_what_follows_a_large_frame_in_a_file_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would arrive at once, and only its few bytes of XML are in memory."""
    monkeypatch.setattr(link, "PATIENT_RATE", 1)
    world = World()
    host = Host()
    host.route = lambda message: world.router.receive(driver, message, 0.0)
    driver = world.driver("driver", "D")
    world.client("c")
    world.say("c", "<enableBLOB device='D'>Also</enableBLOB>")
    connection = host.connection(peer=driver)
    fd = os.memfd_create("frame")
    os.truncate(fd, 1000)
    member = "<oneBLOB name='m' size='1000' format='.fits' attached='true'/>"
    frame = f"<setBLOBVector device='D' name='B' state='Ok'>{member}</setBLOBVector>".encode()
    connection.data_received(frame[:50], 0, 50, [fd])
    connection.data_received(frame[50:], 0, len(frame) - 50, [])
    pace = driver.pace
    assert pace is not None and pace.large
    pace.begin()
    connection.keep_pace()
    part = b"<setNumberVector device='D' name='"
    connection.data_received(part, 0, len(part), [])
    assert connection.held and not connection.paused


def test_every_client_of_many_gets_the_definitions_it_asked_for() -> None:
    async def run() -> None:
        async with IPyServer(Camera(), port=0, maxconnections=None) as server:
            clients = [await Client.to(server, asks=False) for _ in range(40)]
            for client in clients:
                client.say(GET)
            for client in clients:
                await client.hears("defBLOBVector", "Cam")

    asyncio.run(run())


def test_a_stalled_client_costs_others_no_frame_and_gets_whole_frames_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        camera = Camera()
        async with IPyServer(camera, port=0, queue=8 * MIB) as server:
            client = await Client.to(server)
            client.say("<enableBLOB device='Cam'>Also</enableBLOB>")
            await client.settle()
            sock = await stalled_client(server)
            frames = [bytes([number]) * MIB for number in range(20)]
            for frame in frames:
                await camera.shoot(frame)
                element = await client.hears("setBLOBVector")
                assert element.members[0].data == frame
            (slow,) = [peer for peer in peers(server) if peer["dropped"]]
            assert caplog.text.count("reads too slowly: setBLOBVector of Cam.B dropped") == 1
            assert slow["queued_bytes"] < 8 * MIB + 2 * MIB
            late = await reads_again(sock)
            note = await late.hears("message", "Cam", message="dropped: this connection reads too slowly")
            got = []
            while not got or got[-1] != frames[-1]:
                got.append((await late.hears("setBLOBVector")).members[0].data)
            assert got == frames[-len(got) :] and 4 <= len(got) <= 8
            assert note.attrs["message"].startswith(f"{slow['dropped']['Cam.B']} BLOBs of B")
            await client.close()
            await late.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".stream", {}),
        (".fits", {"newest_wins": True}),
        (".fits", {"newest_wins": [("Cam", "B")]}),
        (".fits", {"newest_wins": lambda address: address.startswith("127.0.0.1")}),
    ],
)
def test_the_newest_frame_replaces_older_ones_where_allowed(suffix: str, options: dict[str, Any]) -> None:
    async def run() -> None:
        camera = Camera()
        async with IPyServer(camera, port=0, stream=2 * MIB, **options) as server:
            sock = await stalled_client(server)
            for number in range(20):
                await camera.shoot(bytes([number]) * MIB, suffix)
            (slow,) = peers(server)
            assert slow["replaced"]["Cam.B"] >= 15 and not slow["dropped"]
            late = await reads_again(sock)
            got: list[bytes] = []
            while not got or got[-1][0] != 19:
                got.append((await late.hears("setBLOBVector")).members[0].data)
            assert len(got) == 20 - slow["replaced"]["Cam.B"]
            assert all(data == data[:1] * MIB for data in got) and got == sorted(got)
            await late.close()

    asyncio.run(run())


def test_a_client_that_reads_nothing_for_too_long_is_disconnected() -> None:
    async def run() -> None:
        camera = Camera()
        async with IPyServer(camera, port=0, read_timeout=0.4) as server:
            sock = await stalled_client(server)
            client = await Client.to(server)
            for _ in range(3):
                await camera.shoot(bytes(4 * MIB))
            await eventually(lambda: len(server.connectionpool) == 1)
            await client.settle()
            await client.close()
            sock.close()

    asyncio.run(run())


def test_a_client_too_many_small_messages_behind_is_disconnected() -> None:
    async def run() -> None:
        echo = Echo()
        async with IPyServer(echo, port=0, small_queue=100_000) as server:
            sock = await stalled_client(server, GET + GET)
            client = await Client.to(server)
            for _ in range(100_000):
                await echo["Echo"]["P"].send_setVector()
                if len(server.connectionpool) == 1:
                    break
            assert len(server.connectionpool) == 1
            await client.settle()
            await client.close()
            sock.close()

    asyncio.run(run())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("answered", [False, True])
@on_every_loop
def test_clients_that_reset_right_after_a_message_are_removed(
    loop: str, answered: bool, family: socket.AddressFamily, tmp_path: Path
) -> None:
    """Otherwise, five of them would take all connections forever."""
    question = GET.encode()

    async def run() -> None:
        async with IPyServer(Echo(), port=0, unix_socket=str(tmp_path / "socket"), maxconnections=5) as server:
            where = ("127.0.0.1", server.port) if family == socket.AF_INET else server.unix_socket
            for _ in range(20):
                clients = [socket.socket(family) for _ in range(5)]
                for sock in clients:
                    sock.connect(where)  # the kernel accepts it
                    if answered:
                        sock.send(question)
                if answered:
                    await eventually(lambda clients=clients: len(select.select(clients, (), (), 0)[0]) == len(clients))
                else:
                    await eventually(lambda: server.stats()["clients"] == 5)
                for sock in clients:  # our event loop sees both at once
                    sock.send(question)
                    reset(sock)
                await eventually(lambda: server.stats()["clients"] == 0)
            assert server.stats()["surplus"] == 0
            client = await Client.to(server)
            await client.hears("defNumberVector", "Echo")
            await client.close()

    run_on(loop, run())


async def local_client(name: str) -> tuple[socket.socket, Client]:
    """Connect to an abstract local socket. Return the socket, for sending descriptors, and the client."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("\0" + name)
    return sock, Client(*await asyncio.open_unix_connection(sock=sock))


class Taker(IPyDriver):
    """A driver in the server's process that accepts BLOBs."""

    def __init__(self) -> None:
        vector = BLOBVector("B", "B", "group", "rw", "Ok", [BLOBMember("m", "m")])
        super().__init__(Device("Taker", [vector]))
        self.taken: list[bytes] = []

    async def rxevent(self, event: Any) -> None:
        if event.vectorname == "B" and hasattr(event, "items"):
            self.taken += [value for _, value in event.items()]


def test_the_limit_on_blobs_applies_to_attached_ones(caplog: pytest.LogCaptureFixture) -> None:
    """The same client sends them to a driver, and as a device to other clients."""
    name = f"indifast-test-limit-{os.getpid()}"

    def vector(tag: str, device: str, size: int) -> bytes:
        one = f"<oneBLOB name='m' size='{size}' format='.x' attached='true'/>"
        return f"<{tag} device='{device}' name='B'>{one}</{tag}>".encode()

    async def run() -> None:
        taker = Taker()
        async with IPyServer(taker, port=0, unix_socket="@" + name, blob=MIB) as server:
            watcher = await Client.to(server)
            watcher.say("<enableBLOB device='Ours'>Also</enableBLOB>")
            sock, client = await local_client(name)
            client.say(GET)
            client.say("<defBLOBVector device='Ours' name='B' state='Ok' perm='ro'><defBLOB name='m'/></defBLOBVector>")
            await watcher.hears("defBLOBVector", "Ours")
            for size in (MIB + 1, 89_000_000, (1 << 40) - 1, MIB):
                fd = os.memfd_create("sparse", os.MFD_CLOEXEC)
                os.ftruncate(fd, size)
                for message in (vector("newBLOBVector", "Taker", size), vector("setBLOBVector", "Ours", size)):
                    socket.send_fds(sock, [message], [fd])
                os.close(fd)
            assert len((await watcher.hears("setBLOBVector", "Ours")).members[0].data) == MIB
            assert list(map(len, await eventually(lambda: taker.taken))) == [MIB]
            texts = [element.attrs["message"] for element in await client.settle() if element.tag == "message"]
            assert texts[0] == f"refused: a BLOB of {MIB + 1} bytes, more than {MIB}, for Taker.B"
            assert len(texts) == 6
            (sender,) = [peer for peer in peers(server) if peer["refused"]]
            assert sender["refused"] == {"BLOB too large": 6} == server.stats()["refused"]
            await client.close()
            await watcher.close()

    asyncio.run(run())
    assert caplog.text.count("more than 1048576") == 2, "logged once for each device"


class Snooper(Taker):
    """A driver that accepts the BLOBs of other devices as well."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Any] = []

    async def rxevent(self, event: Any) -> None:
        await super().rxevent(event)
        if hasattr(event, "items"):
            self.roots.append(event.root)

    async def snoopevent(self, event: Any) -> None:
        if event.vectorname == "B" and hasattr(event, "items"):
            self.taken += [value for _, value in event.items()]
            self.roots.append(event.root)


@pytest.mark.parametrize("size", [5, 3 << 20])
def test_a_driver_in_the_server_reads_attached_blobs_from_their_files(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Nothing is encoded for it, and large BLOBs are not read on the event loop. The same is true of snooped BLOBs."""
    name = f"indifast-test-read-{os.getpid()}"
    content = os.urandom(size)
    readers: list[int] = []
    read_all = shm.read_all

    def read(fd: int, length: int) -> bytes:
        readers.append(threading.get_ident())
        return read_all(fd, length)

    monkeypatch.setattr(shm, "read_all", read)
    monkeypatch.setattr(contents, "encode_block", None)
    monkeypatch.setattr(blobs, "Tokenizer", None)

    def message(tag: str, device: str) -> bytes:
        one = f"<oneBLOB name='m' size='{size}' format='.x' attached='true'/>"
        return f"<{tag} device='{device}' name='B' state='Ok'>{one}</{tag}>".encode()

    async def run() -> None:
        taker = Snooper()
        async with IPyServer(taker, port=0, unix_socket="@" + name):
            await taker.send_getProperties("Ours", "B")
            sock, client = await local_client(name)
            client.say("<defBLOBVector device='Ours' name='B' state='Ok' perm='ro'><defBLOB name='m'/></defBLOBVector>")
            await client.settle()
            before = open_fds()
            for number, (tag, device) in enumerate((("newBLOBVector", "Taker"), ("setBLOBVector", "Ours"))):
                fd = shm.share(content)
                socket.send_fds(sock, [message(tag, device)], [fd])
                os.close(fd)
                await eventually(lambda number=number: len(taker.roots) == number + 1)
            assert taker.taken == [content] * 2
            assert [b64decode(root[0].text) for root in taker.roots] == [content] * 2
            assert [root[0].attrib for root in taker.roots] == [{"name": "m", "size": str(size), "format": ".x"}] * 2
            assert len(readers) == 2 and (threading.get_ident() in readers) == (size == 5)
            await eventually(lambda: not open_fds() - before)
            # A BLOB whose file has lost its end is refused, and the next one is accepted.
            fd = os.memfd_create("lost", os.MFD_CLOEXEC)
            monkeypatch.setattr(shm, "check_size", lambda size, length: None)  # as if it was truncated after the check
            for _ in range(2):
                socket.send_fds(sock, [message("newBLOBVector", "Taker")], [fd])
                await eventually(lambda: taker.stats().get("refused", 0) or len(taker.taken) == 3)
                os.write(fd, content)
            await eventually(lambda: len(taker.taken) == 3)
            assert taker.stats()["refused"] == 1
            os.close(fd)
            await client.close()

    asyncio.run(run())


def spy(where: str, path: str, flags: int) -> bytes:
    """Send a file that we can't read as a BLOB. Return what arrives at a second connection."""
    sender, watcher = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    found = b""

    def ping(sock: socket.socket) -> None:
        nonlocal found
        heard = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"<pingRequest uid='settled'/>")
            while b"settled" not in heard:
                data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 16)
                if not data:
                    return
                heard += data
                for fd in fds:
                    found += os.pread(fd, 100, 0)
        found += heard

    with sender, watcher:
        for sock in (sender, watcher):
            sock.settimeout(LIMIT)
            sock.connect(where)
        watcher.sendall(b"<getProperties version='1.7'/><enableBLOB device='Spy'>Also</enableBLOB>")
        sender.sendall(b"<defBLOBVector device='Spy' name='B' state='Ok' perm='ro'><defBLOB name='m'/></defBLOBVector>")
        ping(sender)
        ping(watcher)
        one = b"<oneBLOB name='m' size='20' format='.x' attached='true'/>"
        message = b"<setBLOBVector device='Spy' name='B' state='Ok'>" + one + b"</setBLOBVector>"
        socket.send_fds(sender, [message], [os.open(path, flags)])
        ping(sender)
        ping(watcher)
    return found


@pytest.mark.parametrize(("flags", "mode"), [(os.O_PATH, 0o600), (os.O_WRONLY, 0o622), (os.O_RDONLY, 0o644)])
def test_clients_get_no_file_that_they_may_not_read(flags: int, mode: int) -> None:
    """The server may read everything, unlike the clients that connect to its local socket.

    Only root can act as another user. Run by others, the test shows that such a descriptor is refused from anybody.
    """
    name = f"\0indifast-test-{os.getpid()}-{flags}"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder, "secret")
        secret.write_bytes(b"known only to root" * 100)
        secret.chmod(mode)
        reading, writing = os.pipe()
        answer, answers = os.pipe()
        child = os.fork()
        if not child:
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                os.read(reading, 1)
                os.write(answers, b"got " + spy(name, str(secret), flags))
            finally:
                os._exit(0)

        async def run() -> bytes:
            async with IPyServer(port=None, unix_socket="@" + name[1:]):
                os.write(writing, b"x")
                await asyncio.to_thread(os.waitpid, child, 0)
                return os.read(answer, 1 << 16)

        answer_text = asyncio.run(run())
        for fd in (reading, writing, answer, answers):
            os.close(fd)
    assert answer_text.startswith(b"got ") and b"settled" in answer_text
    assert (b"known only to root" in answer_text) == (flags == os.O_RDONLY)


def test_a_client_that_does_not_read_answers_to_its_pings_is_disconnected() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, small_queue=100_000) as server:
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", server.port or 0)) as sock:
                sock.setblocking(False)
                with pytest.raises(ConnectionError):
                    async with asyncio.timeout(LIMIT):
                        while True:
                            await loop.sock_sendall(sock, f"<pingRequest uid='{'u' * 30_000}'/>".encode())
            client = await Client.to(server)
            await client.settle()
            await client.close()

    asyncio.run(run())


@pytest.mark.usefixtures("bursts_only")
def test_a_client_that_connects_again_and_again_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            for _ in range(BURST + 50):
                client = await Client.to(server)
                client.say("nonsense <setBLOBVector device='X' name='B'>")
                client.say("<oneBLOB name='m' size='5' len='5' attached='true'/></setBLOBVector>")
                async with asyncio.timeout(LIMIT):
                    await client.closed.wait()
                await client.close()

    asyncio.run(run())
    for what in ("bytes skipped (junk)", "disconnected"):
        assert sum(what in record.getMessage() for record in caplog.records) == BURST


@pytest.mark.usefixtures("bursts_only")
def test_lines_logged_for_one_connection_are_limited_as_well(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            client = await Client.to(server)
            for _ in range(BURST + 50):
                client.say("nonsense " + GET)
            await client.settle()
            await client.close()

    asyncio.run(run())
    assert sum("bytes skipped (junk)" in record.getMessage() for record in caplog.records) == BURST


def test_an_element_unfinished_for_too_long_ends_its_connection() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, stall=0.3) as server:
            idle, half = await Client.to(server), await Client.to(server)
            half.say("<newNumberVector device='Echo' name='P'><oneNumber")
            await half.closed.wait()
            assert not idle.closed.is_set()
            await idle.settle()
            await idle.close()

    asyncio.run(run())


def test_all_unfinished_elements_together_are_bounded() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, partial_memory=0.0) as server:  # means 1 MiB, the minimum
            clients = [await Client.to(server) for _ in range(3)]
            start = b"<newTextVector device='Echo' name='T'><oneText name='t'>"
            clients[0].say(start + bytes(300_000).replace(b"\0", b"a"))
            clients[1].say(start + bytes(600_000).replace(b"\0", b"a"))
            await eventually(lambda: server.stats()["unfinished_bytes"] >= 900_000)
            clients[2].say(start + bytes(500_000).replace(b"\0", b"a"))
            await eventually(lambda: any(peer["skipped"] for peer in peers(server)))
            assert server.stats()["unfinished_bytes"] <= 1 << 20
            assert [bool(peer["skipped"]) for peer in peers(server)] == [False, True, False]
            for client in clients:
                await client.close()
            assert await eventually(lambda: server.stats()["unfinished_bytes"] == 0)

    asyncio.run(run())


def shell_program(path: Path, text: str) -> str:
    return str(executable(path, "#!/bin/sh\n" + text))


DEFINITION = "<defTextVector device='Stuck' name='T' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>"
DEFINES = f'echo "{DEFINITION}"\n'
TEXT = "<newTextVector device='Stuck' name='T'><oneText name='t'>{}</oneText></newTextVector>"


def test_a_driver_that_reads_nothing_holds_up_only_clients_that_command_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, command_timeout=0.5) as server:
            pushy, other = await Client.to(server), await Client.to(server)
            await asyncio.gather(pushy.settle(), other.settle())
            exdriver = server.add_exdriver(shell_program(tmp_path / "stuck", DEFINES + "exec sleep 1000\n"))
            for client in (pushy, other):
                await client.hears("defTextVector", "Stuck")
            text = TEXT.format("x" * 1_000_000)
            for _ in range(60):
                pushy.say(text)
            other.say(NEW.format("Echo"))
            await other.hears("setNumberVector", "Echo", state="Ok")
            await pushy.closed.wait()
            await other.settle()
            (driver,) = [peer for peer in peers(server, "driver") if peer["devices"] == ["Stuck"]]
            assert driver["queued_bytes"] < 24 * MIB
            assert exdriver.pid is not None
            await other.close()

    asyncio.run(run())


def test_a_client_held_up_by_a_driver_continues_when_there_is_room(tmp_path: Path) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, command_timeout=10 * LIMIT) as server:
            client = await Client.to(server)
            await client.settle()
            exdriver = server.add_exdriver(shell_program(tmp_path / "slow", DEFINES + "cat > /dev/null\n"))
            await client.hears("defTextVector", "Stuck")
            assert exdriver.pid is not None
            os.killpg(exdriver.pid, signal.SIGSTOP)
            text = TEXT.format("x" * 1_000_000)
            for _ in range(40):
                client.say(text)
            await eventually(lambda: any(peer["queued_bytes"] > 16 * MIB for peer in peers(server, "driver")))
            os.killpg(exdriver.pid, signal.SIGCONT)
            await client.settle()
            await eventually(lambda: all(peer["queued_bytes"] == 0 for peer in peers(server, "driver")))
            (peer,) = peers(server)
            assert peer["received"] == 43
            await client.close()

    asyncio.run(run())


def test_a_producer_is_read_no_faster_than_its_only_consumer_reads(tmp_path: Path) -> None:
    """Of 400 frames of 256 KiB, sent without a pause, only a few wait in the server at any time."""
    frames = (
        "import os\n"
        "frame = b\"<setBLOBVector device='Cam' name='B' state='Ok'><oneBLOB name='m' size='196608' format='.fits'>\"\n"
        "frame += b'A' * 262144 + b'</oneBLOB></setBLOBVector>'\n"
        "os.read(0, 1000)\n"
        "os.write(1, b\"<defBLOBVector device='Cam' name='B' state='Ok' perm='ro'>\"\n"
        "    b\"<defBLOB name='m'/></defBLOBVector>\")\n"
        "while b'</new' not in os.read(0, 1000): pass\n"
        "for _ in range(400):\n"
        "    left = frame\n"
        "    while left: left = left[os.write(1, left):]\n"
        "os.read(0, 1000)\n"
    )
    (tmp_path / "frames.py").write_text(frames)
    new = "<newTextVector device='Cam' name='go'><oneText name='t'>x</oneText></newTextVector>"

    async def run() -> None:
        async with IPyServer(port=0) as server:
            server.add_exdriver(shell_program(tmp_path / "frames", f"exec python3 {tmp_path}/frames.py\n"))
            client = await Client.to(server)
            await client.hears("defBLOBVector", "Cam")
            client.say("<enableBLOB device='Cam'>Also</enableBLOB>" + new)
            most = 0
            for _ in range(400):
                element = await client.hears("setBLOBVector")
                assert len(element.members[0].data or b"") == 196608
                most = max(most, peers(server)[0]["queued_bytes"])
            assert most < 6 * 262144 + 8 * 300
            assert not peers(server)[0]["dropped"]
            await client.close()

    asyncio.run(run())


def test_a_frame_that_nobody_begins_is_waited_for_once() -> None:
    """Its readers may be gone: all that its producer sends later would be read ten times a second at most."""
    world = World()
    driver = world.driver("driver", "D")
    world.client("c")
    world.say("c", "<enableBLOB device='D'>Also</enableBLOB>")
    world.say("driver", blob("D") + blob("D"))
    waits: list[Callable[[], None]] = []

    def call_later(seconds: float, callback: Callable[[], None]) -> Any:
        waits.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    host: Any = SimpleNamespace(
        limits=Limits(),
        loop=SimpleNamespace(call_later=call_later),
        outrun=world.router.outrun,
        raw_frames=False,
    )
    stream: Any = SimpleNamespace(pause_reading=lambda: None, resume_reading=lambda: None)
    connection = Connection(host, driver, stream, lambda exc: None, forgiving=False)
    connection.keep_pace()
    assert connection.paused == {"pace"}
    (stop_waiting,) = waits
    stop_waiting()
    connection.keep_pace()
    assert not connection.paused and connection.pauses == 1


class Host:
    """What a connection needs from its server. Keeps what it is told."""

    raw_frames = False

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits
        self.loop = SimpleNamespace(call_later=lambda *_: SimpleNamespace(cancel=lambda: None))
        self.told: list[tuple[object, ...]] = []
        self.held = 0
        self.route: Callable[[Routable], None] = lambda message: None

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        for message in messages:
            self.route(message)

    def refuse(self, peer: Peer, *what: object) -> None:
        self.told.append(what)

    def count_refused(self, peer: Peer, reason: str) -> None:
        self.told.append((reason,))

    def complain(self, level: int, text: str, *args: object) -> None:
        self.told.append((text % args,))

    def hold(self, change: int) -> None:
        self.held += change

    def outrun(self, peer: Peer) -> bool:
        return False

    def ended(self, connection: Connection) -> None:
        self.told.append(("ended",))

    def connection(self, *, forgiving: bool = False, peer: Peer | None = None) -> Connection:
        stream: Any = SimpleNamespace(
            closed=False, abort=lambda: self.told.append(("aborted",)), close=lambda: self.told.append(("closed",))
        )
        host: Any = self
        lost: Callable[[Exception | None], None] = lambda exc: self.told.append(("lost",))  # noqa: E731
        peer = peer or Peer(Kind.CLIENT, "Client 1", Outbox())
        return Connection(host, peer, stream, lost, forgiving=forgiving)


def test_a_connection_gives_up_an_unfinished_element_when_memory_runs_out() -> None:
    host = Host()
    connection = host.connection()
    data = b"<newTextVector device='D' name='" + b"x" * 1000
    connection.data_received(data, 0, len(data), [])
    held = connection.held
    assert held == host.held >= 1000
    connection.out_of_memory()
    assert connection.held == host.held == 0
    skipped, refused = host.told
    assert f"{len(data)} bytes skipped (abandoned)" in str(skipped)
    assert refused == ("out of memory", None, f"not enough memory for an unfinished element of {held} bytes")


@pytest.mark.parametrize(
    ("error", "forgiving", "told"),
    [
        (shm.BlobTooLarge("a BLOB of 9 bytes"), False, [("BLOB too large", "D", "a BLOB of 9 bytes, for D.B")]),
        (MemoryError(), False, [("out of memory", "D", "not enough memory for a BLOB of D.B")]),
        (shm.DescriptorError("no descriptor"), True, [("Client 1: a BLOB of D.B is lost: no descriptor",)] * 2),
        (
            shm.DescriptorError("no descriptor"),
            False,
            [("Client 1 sent a BLOB of D.B that can't be read (no descriptor): disconnected",), ("aborted",)],
        ),
    ],
    ids=["large", "memory", "forgiving", "strict"],
)
def test_what_is_wrong_with_a_blob_is_said(error: Any, forgiving: bool, told: list[tuple[object, ...]]) -> None:
    host = Host()
    connection = host.connection(forgiving=forgiving)
    (element,) = Tokenizer(relay=True).feed(blob("D").encode())
    connection.refused(element, error)
    if not isinstance(error, MemoryError | shm.BlobTooLarge):
        connection.refused(element, error)  # one fault is enough
    connection.data_received(b" ", 0, 1, [])
    assert host.told == told


def test_descriptors_without_elements_end_a_connection() -> None:
    host = Host()
    connection = host.connection()
    connection.data_received(b" ", 0, 1, [os.open("/dev/null", os.O_RDONLY) for _ in range(MAX_WAITING + 1)])
    (complaint,), aborted = host.told
    assert "descriptors without the BLOBs they belong to: disconnected" in str(complaint)
    assert aborted == ("aborted",)


def test_a_connection_ends_once() -> None:
    host = Host()
    connection = host.connection()
    for _ in range(2):
        connection.connection_lost(None)
    assert host.told == [("ended",), ("lost",)]
    connection.keep_pace()  # what it has sent may still be routed
    assert not connection.paused


def test_an_element_that_is_too_long_is_reported() -> None:
    host = Host()
    host.connection().outgrown(5000, 1000)
    assert host.told == [("Client 1: unfinished element of 5000 bytes refused",)]


def test_a_connection_is_read_again_once_there_is_no_reason_left_to_wait() -> None:
    host = Host()
    connection = host.connection()
    stream: Any = connection.stream
    stream.pause_reading = lambda: host.told.append(("paused",))
    stream.resume_reading = lambda: host.told.append(("resumed",))
    for why in ("one", "another"):
        connection.pause(why)
    for why in ("none of them", "one"):
        connection.resume(why)
    assert host.told == [("paused",)]
    connection.resume("another")
    assert host.told == [("paused",), ("resumed",)]


def ahead_of_its_reader(monkeypatch: pytest.MonkeyPatch) -> tuple[Host, Connection, Pace]:
    """Return a producer that is not read, because it is ahead of its only reader."""
    monkeypatch.setattr(link, "PATIENT_RATE", 1)
    host = Host()
    connection = host.connection()
    stream: Any = connection.stream
    stream.pause_reading = stream.resume_reading = lambda: None
    behind, pace = Outbox(), Pace(1000)
    for _ in range(2):
        behind.append(Fake("setBLOBVector", "D", "B", bytes(1000), formats=(".f",), carried=frozenset("m")), 0.0)
    pace.readers.append(behind)
    pace.begin()
    connection.peer.awaited = pace
    connection._arrived = 1000
    connection.keep_pace()
    connection.data_received(b"<", 0, 1, [])
    assert connection.paused == {"ahead"}
    return host, connection, pace


@pytest.mark.parametrize("needed_for", ["a timer", "looking how far the readers are"])
def test_a_large_frame_is_read_if_there_is_no_memory_to_wait_for_its_readers(
    needed_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, connection, _ = ahead_of_its_reader(monkeypatch)

    def no_memory(*_: object) -> None:
        raise MemoryError

    if needed_for == "a timer":
        host.loop.call_later = no_memory
    else:
        monkeypatch.setattr(Pace, "room", no_memory)
    with pytest.raises(MemoryError):
        connection._keep_close()
    assert not connection.paused


def test_a_large_frame_is_read_if_hardly_any_time_is_left_to_wait_for_its_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise one wait would follow the other, each too short for a clock to notice."""
    _, connection, pace = ahead_of_its_reader(monkeypatch)
    connection._waited = pace.patience - 1e-6
    connection._ahead_timer = None
    connection._keep_close()
    assert not connection.paused


def test_a_file_that_turns_out_to_be_too_short_is_counted() -> None:
    host = Host()
    host.connection().missing("truncated")
    assert host.told == [("truncated",)]


@pytest.mark.parametrize("remote", [False, True])
def test_a_peer_that_speaks_tls_is_told_apart(remote: bool) -> None:
    host = Host()
    connection = host.connection()
    if remote:
        connection.peer = Peer(Kind.REMOTE, "Remote x", Outbox())
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    connection.data_received(hello, 0, len(hello), [])
    (complaint,), ended = host.told
    assert ("connect with TLS (tls = true)" if remote else "speaks TLS, which this port does not") in str(complaint)
    assert ended == (("aborted",) if remote else ("closed",))
    assert bool(connection.peer.outbox.messages) is not remote, "only a client is told"


def test_the_end_of_a_connection_is_noticed_at_once() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            for by_reset in (False, True):
                client = await Client.to(server)
                await client.hears("defNumberVector")
                assert len(server.connectionpool) == 1
                if by_reset:
                    linger = b"\x01\0\0\0\0\0\0\0"
                    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.writer.close()
                await eventually(lambda: not server.connectionpool and not peers(server))

    asyncio.run(run())


def test_the_keepalive_is_the_only_timer_of_an_idle_server() -> None:
    async def run() -> None:
        loop: Any = asyncio.get_running_loop()
        before = set(loop._scheduled)
        async with IPyServer(Echo(), port=0) as server:
            clients = [await Client.to(server) for _ in range(3)]
            for client in clients:
                await client.settle()
            hub = server._indifast_hub
            assert hub is not None and hub.router.peers.clients

            def timers() -> list[Any]:
                live = [timer for timer in set(loop._scheduled) - before if not timer.cancelled()]
                return [timer for timer in live if timer._callback.__module__.startswith("indifast.")]

            await eventually(lambda: not hub._flush_due and hub._held is None)
            assert hub._check is None
            # Once all that was sent is acknowledged, the others are gone.
            await eventually(lambda: timers() == [server._indifast_keepalive_timer])
            for client in clients:
                await client.close()

    asyncio.run(run())


def test_hostile_elements_harm_only_their_sender(caplog: pytest.LogCaptureFixture) -> None:
    hostile = (
        "<defNumberVector device='Echo' name='P'/><setNumberVector device='Echo' name='P'/><delProperty device='Echo'/>"
        "<message device='Echo' message='x'/><newNumberVector device='Echo'/><setBLOBVector/><enableBLOB/>"
        "<enableBLOB device='Echo'/><getProperties version='9' device='Echo'/><oneNumber/></x><newLightVector/>"
        "<newTextVector device='Echo' name='P'><oneText name='m'>7</oneText></newTextVector>"
    )

    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            good, bad = await Client.to(server), await Client.to(server)
            await good.settle()
            for _ in range(100):
                bad.say(hostile)
            await bad.settle()
            heard = await good.settle()
            assert {element.tag for element in heard} <= {"defNumberVector", "defBLOBVector", "message"}
            good.say(NEW.format("Echo"))
            await good.hears("setNumberVector", "Echo", "P", state="Ok")
            refused = [peer["refused"] for peer in peers(server)]
            assert refused[0] == {} and refused[1]["not the owner"] == 400
            await good.close()
            await bad.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert sum("not the owner" in r.getMessage() or "belongs to" in r.getMessage() for r in caplog.records) <= 2


def test_traffic_is_logged_at_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            client = await Client.to(server)
            await client.settle()
            server.debug_enable = False
            client.say("<message message='not logged'/>")
            await client.settle()
            await client.close()

    with caplog.at_level(logging.DEBUG, logger="indifast.server"):
        asyncio.run(run())
    assert "RX::" in caplog.text and "TX::" in caplog.text and "defNumberVector" in caplog.text
    assert "not logged" not in caplog.text


def test_the_limit_on_descriptors_is_raised_for_many_clients() -> None:
    """A separate process starts with a limit that is too low for its 150 clients."""
    program = """if True:
        import asyncio, resource
        from indifast import IPyServer

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))

        async def main():
            async with IPyServer(port=0, maxconnections=150) as server:
                clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(150)]
                while len(server.connectionpool) < 150:
                    await asyncio.sleep(0.01)

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=LIMIT)


class Watched(SocketStream):
    """A driver's stream. Records the result of `state` whenever the server wakes it to write."""

    def __init__(self, sock: socket.socket, state: Callable[[], Any]) -> None:
        super().__init__(sock)
        self.noted: list[Any] = []
        self._state = state

    def wake(self) -> None:
        self.noted.append(self._state())
        super().wake()


@on_every_loop
def test_a_ping_is_answered_after_everything_that_happened_before_or_with_it(loop: str) -> None:
    """A connection is made and another one ends. Both are handled before the answer, whatever their order."""

    async def scenario() -> None:
        hub = Hub(Limits())
        accepted: list[Stream] = []
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        listener = listen_on([listening], accepted.append)
        (ours, driver), (theirs, client) = socket.socketpair(), socket.socketpair()
        peer = Peer(Kind.CLIENT, "client", hub.new_outbox())
        gone: list[Exception | None] = []
        hub.carry(peer, SocketStream(theirs), gone.append)
        stream = Watched(ours, lambda: (len(accepted), len(gone)))
        hub.carry(Peer(Kind.DRIVER, "driver", DriverOutbox()), stream, lambda exc: None)
        driver.setblocking(False)
        hub.flush()
        await asyncio.sleep(0)
        stream.noted.clear()

        driver.send(b"<pingRequest uid='1'/>\n")
        client.close()
        other = socket.create_connection(address)
        for each in (listening, ours, theirs):  # so the loop sees all three at once
            assert select.select([each], [], [], LIMIT)[0]
        await eventually(lambda: stream.noted)
        assert stream.noted == [(1, 1)]

        listener.close()
        for each in (stream, *accepted):
            each.abort()
        await asyncio.sleep(0)
        hub.close()
        driver.close()
        other.close()

    run_on(loop, scenario())
