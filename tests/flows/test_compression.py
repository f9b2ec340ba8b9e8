"""Compressed frames from camera to client and back, hop by hop: what arrives is what was sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import trustme

import indifast as ipd
from indifast import compression
from indifast.client import IPyClient
from indifast.compression import METHODS
from indifast.protocol import wire
from indifast.routing.bytequeue import ByteQueue
from indifast.server import connections
from indifast.transport import packing, stream, tls
from indifast.transport.rawframes import ACCEPTED, offer
from tests.flows.support import Camera, Watcher, watching
from tests.server.support import GET
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually
from tests.transport.support import ReaderLog

SKY = np.random.default_rng(1).normal(1000, 12, 1_000_000).astype(">u2").tobytes()
"""16-bit pixels, which shrink to about a half."""
NOISE = os.urandom(len(SKY))


async def frames_arrive(camera: Camera, *clients: Watcher, content: bytes = SKY) -> None:
    """Take three frames, and check what the clients receive. The first may not have been wanted yet."""
    async with asyncio.timeout(LIMIT):
        while not all(client.frames for client in clients):
            await camera.expose(content)
            await asyncio.sleep(0.05)
    for number in (1, 2):
        await camera.expose(content, number)
    for client in clients:
        await eventually(lambda client=client: client.frames[-1][0] == "frame 2")
        assert {message for message, _ in client.frames} == {f"frame {number}" for number in range(3)}
        assert all(values == {"a": content, "b": b"small"} for _, values in client.frames)
        assert all(formats == [".fits", ".bin"] for formats in client.formats)
        client.frames.clear()
        client.formats.clear()


async def bytes_of_a_frame(camera: Camera, client: Watcher, content: bytes = SKY) -> int:
    """Return how many bytes a client receives for a frame."""
    await frames_arrive(camera, client, content=content)
    before = client.received_bytes
    await camera.expose(content)
    await eventually(lambda: client.frames)
    client.frames.clear()
    return client.received_bytes - before


def methods(*queues: ByteQueue) -> list[str]:
    """Return the methods by which these queues compress."""
    return [queue._packing.method for queue in queues]


def outboxes(server: ipd.IPyServer) -> list[ByteQueue]:
    return [peer.outbox for peer in server._clients]


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server, and for its clients."""
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)
    return serving, trusting


@pytest.mark.parametrize("secure", [False, True], ids=["TCP", "TLS"])
@pytest.mark.parametrize("method", METHODS)
def test_frames_and_uploads_cross_two_servers(
    method: str, secure: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def run() -> None:
        camera = Camera(".fits")
        serving, trusting = contexts if secure else (None, None)
        async with ipd.IPyServer(camera, port=0, ssl=serving, compress=method) as first:
            middle = ipd.IPyServer(port=0)
            remote = middle.add_remote("localhost", first.port, blob_enable=True, ssl=trusting, compress=method)
            async with middle, watching(middle.port, compress=method) as client:
                await frames_arrive(camera, client)
                await frames_arrive(camera, client, content=NOISE)
                members = {name: (value, len(value), ".bin") for name, value in (("a", SKY), ("b", b"x"))}
                await client.send_newVector("Cam", "frames", members=members)
                await eventually(lambda: camera.uploads)
                assert camera.uploads == [{"a": SKY, "b": b"x"}]
                assert remote.peer is not None
                assert methods(*outboxes(first), remote.peer.outbox) == [method] * 2
                assert methods(*outboxes(middle)) == [""], "the server has not been asked to, on the same machine"

    asyncio.run(run())


@pytest.mark.parametrize("method", METHODS)
def test_a_frame_takes_half_the_bytes(method: str) -> None:
    async def run() -> None:
        camera = Camera(".fits")
        async with (
            ipd.IPyServer(camera, port=0, compress=method) as server,
            watching(server.port, compress=method) as client,
        ):
            assert await bytes_of_a_frame(camera, client) < 0.65 * len(SKY)
            assert len(NOISE) < await bytes_of_a_frame(camera, client, NOISE) < 1.01 * len(NOISE)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("at_server", "at_client", "raw", "used"),
    [
        ("lz4", "lz4", True, "lz4"),
        ("lz4", "zstd", True, ""),
        ("lz4", "off", True, ""),
        ("off", "lz4", True, ""),
        ("auto", "auto", True, ""),
        ("lz4", "lz4", False, ""),
    ],
)
def test_each_side_has_its_say(at_server: str, at_client: str, raw: bool, used: str) -> None:
    async def run() -> None:
        camera = Camera(".fits")
        async with (
            ipd.IPyServer(camera, port=0, compress=at_server) as server,
            watching(server.port, compress=at_client, raw_frames=raw) as client,
        ):
            await frames_arrive(camera, client)
            connection = client._link.connection
            assert connection is not None and methods(*outboxes(server), connection.queue) == [used] * 2

    asyncio.run(run())


def test_others_get_their_turn_while_a_frame_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zstandard makes a few kilobytes of what takes the server a long time."""
    monkeypatch.setattr(connections, "_INFLATED", 1 << 20)
    turn = 0
    turns: list[int] = []
    inflate = compression.Decompressor.decompress

    def counted(*words: Any) -> Any:
        turns.append(turn)
        return inflate(*words)

    monkeypatch.setattr(compression.Decompressor, "decompress", counted)
    block = bytes(256 << 10)
    made = bytes(compression.Compressor("zstd").compress(block))
    count = 64

    def frame(value: str) -> bytes:
        size = count * len(block)
        vector = f'<newBLOBVector device="Cam" name="frames" timestamp="{value}">'
        member = f'<oneBLOB name="a" size="{size}" format=".bin" len="{size}" attached="raw"/></newBLOBVector>'
        pieces = b"".join(
            wire.packed_head(number, len(made), "zstd", 1, len(block)) + made for number in range(1, count + 1)
        )
        return wire.PIECES_FOLLOW + (vector + member).encode() + pieces + b"<?end?>"

    async def run() -> None:
        nonlocal turn
        camera = Camera(".fits")
        async with ipd.IPyServer(camera, port=0, compress="zstd") as server:
            reader, writer = await asyncio.open_connection("localhost", server.port)
            writer.write(offer(["zstd"]).data + GET.encode())
            await reader.readuntil(b"</defBLOBVector>")
            writer.write(frame("1") + frame("2"))
            async with asyncio.timeout(LIMIT):
                while len(camera.uploads) < 2:
                    turn += 1
                    await asyncio.sleep(0)
            assert camera.uploads == [{"a": block * count}] * 2
            assert len(turns) == 2 * count
            assert max(map(turns.count, turns)) <= 2 * 5, "the peer's turn, and perhaps the next one's"
            writer.close()

    asyncio.run(run())


def test_many_receivers_cost_the_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []
    compress = compression.Compressor.compress

    def counted(self: compression.Compressor, piece: Any) -> Any:
        if len(piece) > packing._SAMPLE:
            compressed.append(len(piece))
        return compress(self, piece)

    monkeypatch.setattr(compression.Compressor, "compress", counted)

    async def run() -> None:
        camera = Camera(".fits")
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(ipd.IPyServer(camera, port=0, maxconnections=9, compress="lz4"))
            clients = [await stack.enter_async_context(watching(server.port, compress="lz4")) for _ in range(6)]
            await frames_arrive(camera, *clients)
            compressed.clear()
            await camera.expose(SKY)
            await eventually(lambda: all(client.frames for client in clients))
            assert [client.frames[0][1]["a"] for client in clients] == [SKY] * 6
        assert sum(compressed) == len(SKY)

    asyncio.run(run())


def test_a_driver_that_listens_compresses_for_far_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "is_nearby", lambda sock: False)
    monkeypatch.setattr(packing, "UP_TO", {"zstd": float("inf")})

    async def run() -> None:
        camera = Camera(".fits")
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.close()
        camera.listen("localhost", port)
        running = asyncio.create_task(camera.asyncrun())
        async with watching(port) as client:
            sizes = [await bytes_of_a_frame(camera, client) for _ in range(3)]
            assert sizes[-1] < 0.65 * len(SKY)
        camera.shutdown()
        await running

    asyncio.run(run())


# -- By itself


class Slow:
    """A client that reads a few bytes at a time, and what it has read."""

    def __init__(self, port: int) -> None:
        self.log = ReaderLog(relay=False)
        self.log.reader.expect_raw(ACCEPTED, lambda agreed: None, lambda: METHODS)
        self.frames: list[bytes] = []
        self.sizes: list[int] = []
        self.defined = False
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self._sock.setblocking(False)
        self._port = port
        self._before = 0
        self._read = 0

    async def connect(self, words: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._sock, ("127.0.0.1", self._port))
        await loop.sock_sendall(self._sock, words + GET.encode() + b"<enableBLOB device='Cam'>Also</enableBLOB>")

    async def read(self, until: Callable[[], Any], rate: float) -> None:
        """Read at this rate."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT):
            while not until():
                data = await loop.sock_recv(self._sock, 20_000)
                assert data and not self.log.violations, self.log.violations
                self._read += len(data)
                for message in self.log.reader.read(data, 0, len(data), []):
                    self.defined |= message.tag == "defBLOBVector"
                    if message.tag == "setBLOBVector":
                        self.frames.append(ipd_content(message))
                        self.sizes.append(self._read - self._before)
                        self._before = self._read
                await asyncio.sleep(len(data) / rate)

    def close(self) -> None:
        self._sock.close()


def ipd_content(message: Any) -> bytes:
    """Return the content of the first member."""
    from indifast.protocol.message import opened

    return bytes(opened(message).members[0].data or b"")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No peer seems to be on this machine."""
    for module in (stream, tls):
        monkeypatch.setattr(module, "is_nearby", lambda sock: False)
    yield


@pytest.mark.parametrize("content", [SKY, NOISE], ids=["sky", "noise"])
def test_frames_are_compressed_as_soon_as_the_link_is_known_to_be_slow(far: None, content: bytes) -> None:
    async def run() -> None:
        camera = Camera(".fits")
        async with ipd.IPyServer(camera, port=0) as server:
            slow = Slow(server.port)
            try:
                await slow.connect(offer(METHODS).data)
                await slow.read(lambda: slow.defined, 1e9)  # so it has been heard what it wants
                async with asyncio.timeout(LIMIT):
                    for number in range(4):
                        await camera.expose(content, number)
                        await slow.read(lambda number=number: len(slow.frames) > number, 10e6)
                assert slow.frames == [content] * 4
                assert methods(*outboxes(server)) == ["zstd"]
                sky = content is SKY
                assert all((size < 0.65 * len(content)) == sky for size in slow.sizes[1:]), slow.sizes
            finally:
                slow.close()

    asyncio.run(run())


@pytest.mark.parametrize("words", [b"", b"<?indi-offer raw?>", b"<?indi-offer raw pieces?>", offer(METHODS).data])
def test_who_names_no_method_is_sent_nothing_compressed(far: None, words: bytes) -> None:
    """Programs from before there was compression, for example; the last one shows that the test can fail."""

    async def run() -> None:
        camera = Camera(".fits")
        async with ipd.IPyServer(camera, port=0, compress="lz4") as server:
            slow = Slow(server.port)
            try:
                await slow.connect(words)
                await slow.read(lambda: outboxes(server), 1e9)
                async with asyncio.timeout(LIMIT):
                    while not slow.frames:
                        await camera.expose(SKY)
                        await slow.read(lambda: slow.frames or not outboxes(server)[0].queued, 1e9)
                assert slow.frames[0] == SKY
                assert methods(*outboxes(server)) == ["lz4" if b"lz4" in words else ""]
            finally:
                slow.close()

    asyncio.run(run())


def test_without_the_libraries_nothing_is_offered_or_accepted(far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "usable", lambda choice: ())

    async def run() -> None:
        camera = Camera(".fits")
        heard = bytearray()
        async with ipd.IPyServer(camera, port=0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(offer(METHODS).data)
            heard += await asyncio.wait_for(reader.readuntil(b"?>"), LIMIT)
            assert heard == b"<?indi-accept raw pieces?>"
            writer.close()
            async with watching(server.port) as client:
                await frames_arrive(camera, client)

    asyncio.run(run())


# -- Wrong settings


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [("gzip", ValueError, "auto, off, lz4 or zstd, not 'gzip'"), (None, TypeError, "must be a string, not None")],
)
def test_other_words_are_refused(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ipd.IPyServer(port=None, compress=value)
    with pytest.raises(ValueError, match="not 'gzip'"):
        ipd.IPyServer(port=None).add_remote("localhost", 7624, compress="gzip")
    client = IPyClient()
    client.compress = value
    with pytest.raises(error, match=text):
        asyncio.run(client.asyncrun())


def test_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(compression, "_LOADERS", dict.fromkeys(METHODS, missing))
    compression.installed.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"lz4 is not installed: pip install indifast\[compression\]"):
            ipd.IPyServer(port=None, compress="lz4")
        ipd.IPyServer(port=None)
        assert compression.usable("auto") == compression.usable("zstd") == ()
    finally:
        compression.installed.cache_clear()
