"""How a client can connect: TLS, Unix sockets by path and by name, with shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from indifast.client.connection import unix_path
from indifast.protocol.limits import Limits
from indifast.transport import shm
from tests.client.support import BLOBS, NUMBERS, Recorder, Server
from tests.support.blackbox import LIMIT


def test_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def scenario() -> None:
        async with Server(context) as server:
            async with Recorder("127.0.0.1", server.port, ssl=trusting) as client:
                assert client.clientdata == {}
                await server.expect("<getProperties")
                await server.send(NUMBERS)
                await client.got("Define")
                await client.send_newVector("D", "N", members={"a": 2})
                await server.expect('<oneNumber name="a">2</oneNumber>')
            async with Recorder("127.0.0.1", server.port, ssl=True) as distrustful:
                await distrustful.until(
                    lambda: any("certificate" in event.message for event in distrustful.of("Message"))
                )
                assert "ConnectionMade" not in distrustful.types()

    asyncio.run(scenario())


def test_tls_with_a_server_without_tls() -> None:
    async def scenario() -> None:
        async with Server() as server:
            client = Recorder("127.0.0.1", server.port, ssl=True)
            client.connect_timeout = 0.2
            async with client:
                notice = await client.got("Message", 2)
                assert "no answer" in notice.message

    asyncio.run(scenario())


def test_names_of_local_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    assert unix_path(path) == "\0" + path
    assert unix_path(f"localhost:{path}") == "\0" + path
    Path(path).touch()
    assert unix_path(path) == unix_path(f"unix:{path}") == path
    assert unix_path("@" + path) == "\0" + path
    assert unix_path("unix:") in ("/tmp/indiserver", "\0/tmp/indiserver")
    assert unix_path("localhost") is unix_path("10.0.0.1") is unix_path("::1") is None


class LocalServer:
    """A server with one connection over a Unix socket, which can carry descriptors."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.setblocking(False)

    async def accept(self) -> None:
        self.peer, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        await asyncio.get_running_loop().sock_recv(self.peer, 4096)

    def send(self, text: str, *contents: bytes) -> None:
        fds = [shm.share(content) for content in contents]
        socket.send_fds(self.peer, [text.encode()], fds)
        shm.close_all(fds)

    def close(self) -> None:
        self.peer.close()
        self._listener.close()


@contextlib.asynccontextmanager
async def local_session(path: Path, **settings: Any) -> AsyncIterator[tuple[LocalServer, Any]]:
    """A server that has defined a BLOB vector over a Unix socket, and a client that knows it."""
    server = LocalServer(str(path))
    client: Any = Recorder(str(path))
    for name, value in settings.items():
        setattr(client, name, value)
    async with client:
        await server.accept()
        server.send(BLOBS)
        await client.got("DefineBLOB")
        yield server, client
        server.close()


def attached(*members: tuple[str, int, str]) -> str:
    inside = "".join(
        f'<oneBLOB name="{name}" size="{size}" format=".bin" attached="true"{more}></oneBLOB>'
        for name, size, more in members
    )
    return f'<setBLOBVector device="D" name="B" state="Ok">{inside}</setBLOBVector>'


def test_shared_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local_session(tmp_path / "local") as (server, client):
            content = os.urandom(3_000_000)
            server.send(attached(("img", len(content), ""), ("other", 5, ' len="3"')), content, b"abcde")
            event = await client.got("SetBLOB")
            assert isinstance(event["img"], memoryview) and event["img"].readonly
            assert event["img"] == content
            assert bytes(event["other"]) == b"abc"
            assert client["D"]["B"]["img"] == content
            assert client["D"]["B"].snapshot()["img"] == content
            assert str(event).count("oneBLOB") >= 2

            # Messages without their descriptors, and damaged messages with descriptors, affect no others.
            server.send(attached(("img", 5, "")))
            server.send(attached(("img", 5, "")).replace("</setBLOBVector>", "</mismatch>") + BLOBS, b"wrong")
            for length in ("²", "-5", "many"):
                server.send(attached(("img", 5, f' len="{length}"')), b"wrong")
                server.send(attached(("img", 5, "")).replace('size="5"', f'size="{length}"'), b"wrong")
            await client.got("DefineBLOB", 2)
            server.send(attached(("img", 5, "")), b"right")
            assert (await client.got("SetBLOB", 2))["img"] == b"right"
            damaged = attached(("img", 5, "")).replace('name="B"', 'name="B" name="B"')
            server.send(damaged + attached(("img", 5, "")), b"wrong", b"5 too")
            server.send(attached(("img", 5, "")), b"right")
            assert (await client.got("SetBLOB", 3))["img"] == b"right"
            assert "ConnectionLost" not in client.types()

    asyncio.run(scenario())


def test_blobs_that_are_too_large_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local_session(tmp_path / "local", limits=Limits(blob=1000)) as (server, client):
            for size in (1001, (1 << 40) - 1):
                fd = os.memfd_create("sparse")
                os.ftruncate(fd, size)
                socket.send_fds(server.peer, [attached(("img", size, "")).encode()], [fd])
                os.close(fd)
            server.send(attached(("img", 1000, "")), bytes(1000))
            assert (await client.got("SetBLOB"))["img"] == bytes(1000)
            assert client.stats()["refused"] == 2
            assert [e.message for e in client.seen if "more than 1000" in str(getattr(e, "message", ""))] == [
                f"D.B is refused: a BLOB of {size} bytes, more than 1000" for size in (1001, (1 << 40) - 1)
            ]

    asyncio.run(scenario())


def test_descriptors_are_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local_session(tmp_path / "local") as (server, client):
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                server.send(attached(("img", 5, "")), b"12345")
                server.send(attached(("img", 5, "")).replace('name="B"', 'name="unknown"'), b"12345")
                server.send(attached(("img", 5, "")).replace('device="D"', 'device="unknown"'), b"12345")
            await client.got("SetBLOB", 20)
            await client.got("Message", 3 + 20)
            client.seen.clear()  # Python keeps a descriptor for each mapping
            assert len(os.listdir("/proc/self/fd")) <= before + 2

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


@pytest.mark.parametrize("port", [0, "0"])
def test_the_port_may_be_text(port: int | str) -> None:
    async def scenario() -> None:
        async with Server() as server, Recorder("127.0.0.1", type(port)(server.port)) as client:
            await client.got("ConnectionMade")

    asyncio.run(scenario())
