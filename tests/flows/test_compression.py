"""Compressed frames from camera to client and back, hop by hop: what arrives is what was sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import trustme

import indifast as ipd
from indifast import compression
from indifast.client import IPyClient
from indifast.compression import METHODS
from indifast.protocol import wire
from indifast.protocol.message import INLINE, RAW
from indifast.routing.bytequeue import ByteQueue
from indifast.transport import packing, rawframes, stream, tls
from indifast.transport.rawframes import ACCEPTED, Agreement, offer
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
    return [peer.outbox for peer in server._indifast_clients]


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
            connection = client._indifast.link.connection
            assert connection is not None and methods(*outboxes(server), connection.queue) == [used] * 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("at_driver", "at_client", "raw", "used"),
    [
        ("lz4", "lz4", True, "lz4"),
        ("lz4", "zstd", True, ""),
        ("off", "lz4", True, ""),
        ("auto", "auto", True, ""),
        ("zstd", "zstd", False, ""),
    ],
)
def test_a_driver_without_a_server_has_its_say(at_driver: str, at_client: str, raw: bool, used: str) -> None:
    async def run() -> None:
        camera = Camera(".fits")
        camera.listen("localhost", 0, compress=at_driver, raw_frames=raw)
        async with camera:
            assert camera.listening_port
            async with watching(camera.listening_port, compress=at_client) as client:
                size = await bytes_of_a_frame(camera, client)
                await client.send_newVector("Cam", "frames", members={"a": (SKY, len(SKY), ".bin")})
                await eventually(lambda: camera.uploads)
                assert camera.uploads == [{"a": SKY}]
                connection = client._indifast.link.connection
                assert connection is not None and methods(connection.queue) == [used]
                assert connection.queue.form == (RAW if raw else INLINE)
        if used:
            assert size < 0.65 * len(SKY)
        else:
            assert size > len(SKY) if raw else size > 1.3 * len(SKY)

    asyncio.run(run())


PROGRAM_WITHOUT_NUMPY = """
import asyncio, sys, threading
from importlib.machinery import PathFinder

class Finder:
    def find_spec(name, *words):
        if name == "numpy":
            print("by the main thread" if threading.current_thread() is threading.main_thread() else "by another")
        return None

sys.meta_path.insert(0, Finder)
from tests.flows.support import Camera, watching
from tests.support.waiting import eventually

async def main():
    camera = Camera(".fits")
    camera.listen("localhost", 0, compress="lz4")
    async with camera, watching(camera.listening_port, compress="lz4") as client:
        assert client._indifast.link.connection.queue._packing.method == "lz4"
        assert "numpy" not in sys.modules, "there is no frame yet"
        content = (bytes(range(100)) + b"x") * 10_000
        while not client.frames:
            await camera.expose(content)
            await asyncio.sleep(0.05)
        assert client.frames[0][1]["a"] == content
        assert "numpy" in sys.modules

asyncio.run(main())
"""


def test_numpy_is_loaded_with_the_first_frame_and_by_another_thread() -> None:
    command = [sys.executable, "-c", PROGRAM_WITHOUT_NUMPY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"by another"}


# -- Zstandard makes a few kilobytes of what takes the receiver a long time

BLOCK = bytes(256 << 10)
COUNT = 64


def short_text_of_a_long_frame(tag: str, value: str) -> bytes:
    made = bytes(compression.Compressor("zstd").compress(BLOCK))
    size = COUNT * len(BLOCK)
    vector = f'<{tag} device="Cam" name="frames" timestamp="{value}">'
    member = f'<oneBLOB name="a" size="{size}" format=".bin" len="{size}" attached="raw"/></{tag}>'
    pieces = b"".join(
        wire.packed_head(number, len(made), "zstd", 1, len(BLOCK)) + made for number in range(1, COUNT + 1)
    )
    return wire.PIECES_FOLLOW + (vector + member).encode() + pieces + b"<?end?>"


class Turns:
    """Counts the turns of the event loop, and in which of them blocks are inflated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rawframes, "AT_ONCE", 1 << 20)
        inflate = compression.Decompressor.decompress
        self.now = 0
        self.inflated: list[int] = []

        def counted(*words: Any) -> Any:
            self.inflated.append(self.now)
            return inflate(*words)

        monkeypatch.setattr(compression.Decompressor, "decompress", counted)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():
                self.now += 1
                await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Count also while nobody waits with `until`."""
        counting = asyncio.create_task(self.until(lambda: False))
        try:
            yield
        finally:
            counting.cancel()

    def check(self, frames: int) -> None:
        assert len(self.inflated) == frames * COUNT
        assert max(map(self.inflated.count, self.inflated)) <= 2 * 5, "the peer's turn, and perhaps the next one's"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


@pytest.mark.parametrize(("receiver", "secure"), [("server", False), ("server", True), ("driver", False)])
def test_others_get_their_turn_while_an_upload_is_inflated(
    receiver: str, secure: bool, turns: Turns, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """The peer closes the connection at once, but what it has sent counts."""

    async def run() -> None:
        camera = Camera(".fits")
        serving, trusting = contexts if secure else (None, None)
        async with contextlib.AsyncExitStack() as stack:
            if receiver == "server":
                port = (
                    await stack.enter_async_context(ipd.IPyServer(camera, port=0, compress="zstd", ssl=serving))
                ).port
            else:
                camera.listen("localhost", 0, compress="zstd")
                await stack.enter_async_context(camera)
                port = camera.listening_port
            reader, writer = await asyncio.open_connection("localhost", port, ssl=trusting)
            writer.write(offer(["zstd"]).data + GET.encode())
            await reader.readuntil(b"</defBLOBVector>")
            writer.write(b"".join(short_text_of_a_long_frame("newBLOBVector", value) for value in "12"))
            writer.close()
            await turns.until(lambda: len(camera.uploads) == 2)
            assert camera.uploads == [{"a": BLOCK * COUNT}] * 2
            turns.check(2)

    asyncio.run(run())


@pytest.mark.parametrize("secure", [False, True], ids=["TCP", "TLS"])
def test_a_program_gets_its_turn_while_its_client_inflates(
    secure: bool, turns: Turns, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    definition = (
        b'<defBLOBVector device="Cam" name="frames" state="Ok" perm="ro">'
        b'<defBLOB name="a"/><defBLOB name="b"/></defBLOBVector>'
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"<getProperties")
        writer.write(Agreement(pieces=True, methods=("zstd",)).acceptance.data + definition)
        await reader.readuntil(b"</enableBLOB>")
        writer.write(b"".join(short_text_of_a_long_frame("setBLOBVector", value) for value in "12"))
        writer.close()

    async def run() -> None:
        serving, trusting = contexts if secure else (None, None)
        async with (
            turns.counted(),  # frames may come before the client is ready
            await asyncio.start_server(serve, "localhost", 0, ssl=serving) as server,
            watching(server.sockets[0].getsockname()[1], compress="zstd", ssl=trusting) as client,
        ):
            await turns.until(lambda: len(client.frames) == 2)
            assert [values for _, values in client.frames] == [{"a": BLOCK * COUNT}] * 2
            turns.check(2)
            server.close()

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
        camera.listen("localhost", 0)
        async with camera:
            assert camera.listening_port
            async with watching(camera.listening_port) as client:
                sizes = [await bytes_of_a_frame(camera, client) for _ in range(3)]
                assert sizes[-1] < 0.65 * len(SKY)

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
    client.compress = "gzip"
    with pytest.raises(ValueError, match="not 'gzip'"):
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
