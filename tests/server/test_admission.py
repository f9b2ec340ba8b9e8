"""Programs that override `handle_data` to decide who is served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from indifast.server import IPyServer
from tests.server.support import GET, Echo
from tests.support.blackbox import LIMIT
from tests.support.certificates import make_certificates
from tests.support.waiting import eventually

Handle = Callable[[Any, Any, Callable[[], Awaitable[None]]], Awaitable[None]]


class Guarded(IPyServer):
    """A server that leaves `handle_data` to a function, which is given the one of `IPyServer`."""

    handle: Handle

    async def handle_data(self, reader: Any, writer: Any) -> None:
        base = super().handle_data
        await self.handle(reader, writer, lambda: base(reader, writer))


def guarded(handle: Handle, **options: Any) -> Guarded:
    server = Guarded(Echo(), host="127.0.0.1", port=0, **options)
    server.handle = handle
    return server


async def answer(server: IPyServer, text: str = GET) -> bytes:
    """Return what a new client that asks for the devices receives until a definition or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    received = b""
    try:
        async with asyncio.timeout(LIMIT):
            writer.write(text.encode())
            with contextlib.suppress(ConnectionError):
                while b"</defNumberVector>" not in received and (data := await reader.read(1 << 16)):
                    received += data
    finally:
        writer.close()
    return received


def test_a_stranger_is_told_nothing() -> None:
    async def run() -> None:
        seen = []

        async def refuse(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            seen.append((writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")[1]))
            assert writer.get_extra_info("socket").fileno() >= 0
            assert writer.get_extra_info("nothing", "default") == "default"
            assert not writer.is_closing()
            writer.close()
            assert writer.is_closing()
            await writer.wait_closed()
            await serve()

        async with guarded(refuse) as server:
            assert await answer(server) == b""
            assert seen == [("127.0.0.1", server.port)]
            assert server.connectionpool == []

    asyncio.run(run())


def test_whoever_is_admitted_is_served_until_the_end() -> None:
    async def run() -> None:
        ends = []

        async def admit(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            await asyncio.sleep(0)
            await serve()
            ends.append(writer.is_closing())

        async with guarded(admit) as server:
            assert b"defNumberVector" in await answer(server)
            await eventually(lambda: ends == [True])
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await eventually(lambda: len(server.connectionpool) == 1)
            assert server.connectionpool[0].connected
            stream = server.connectionpool[0]
        assert not stream.connected
        assert ends == [True, True]
        writer.close()

    asyncio.run(run())


def test_a_return_without_serving_closes_the_connection() -> None:
    async def run() -> None:
        async def ignore(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            writer.write(b"<message message='no'/>")
            await writer.drain()

        async with guarded(ignore) as server:
            assert b"defNumberVector" not in await answer(server)
            assert server.connectionpool == []

    asyncio.run(run())


def test_a_program_may_talk_before_a_client_is_served() -> None:
    async def run() -> None:
        async def ask(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            writer.write(b"<!-- who? -->")
            await writer.drain()
            if await reader.read(6) == b"secret":
                await serve()

        async with guarded(ask) as server:
            assert b"defNumberVector" in await answer(server, "secret" + GET)
            assert b"defNumberVector" not in await answer(server, "guess!" + GET)

    asyncio.run(run())


def test_a_fault_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async def fail(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            raise RuntimeError("a fault of the program")

        async with guarded(fail) as server:
            assert await answer(server) == b""

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "handle_data has failed" in caplog.text


def test_those_who_wait_for_admission_count_and_end_with_the_server() -> None:
    async def run() -> None:
        ends = []

        async def wait(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(writer)

        async with guarded(wait, maxconnections=1) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await eventually(lambda: server._indifast_admissions)
            assert await answer(server) == b""
            assert server.surplus == 1
        assert len(ends) == 1
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    asyncio.run(run())


def test_a_function_on_the_server_itself_counts_and_unix_sockets_are_not_asked(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "socket")
        server = IPyServer(Echo(), host="127.0.0.1", port=0, unix_socket=path)

        async def refuse(reader: Any, writer: Any) -> None:
            writer.close()

        server.handle_data = refuse  # type: ignore[method-assign]
        async with server:
            assert await answer(server) == b""
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(GET.encode())
            async with asyncio.timeout(LIMIT):
                assert b"defNumberVector" in await reader.readuntil(b"</defNumberVector>")
            writer.close()

    asyncio.run(run())


def test_without_an_override_nothing_stands_in_between() -> None:
    server = IPyServer(Echo(), port=0)
    assert server._indifast_accept_tcp() == server._indifast_accept


def test_with_tls_a_client_is_asked_about_after_the_handshake(tmp_path: Path) -> None:
    async def run() -> None:
        make_certificates(tmp_path)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        admitted = [False]

        async def ask(reader: Any, writer: Any, serve: Callable[[], Awaitable[None]]) -> None:
            assert writer.get_extra_info("peername")[0] == "127.0.0.1"
            assert writer.get_extra_info("ssl_object").version()
            with pytest.raises(RuntimeError):
                writer.write(b"x")
            with pytest.raises(RuntimeError):
                await reader.read(1)
            await asyncio.sleep(0.1)
            if admitted[0]:
                await serve()

        async def answered() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
            writer.write(GET.encode())
            received = b""
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(LIMIT):
                    while b"</defNumberVector>" not in received and (data := await reader.read(1 << 16)):
                        received += data
            writer.close()
            return received

        async with guarded(ask, ssl=serving) as server:
            assert await answered() == b""
            admitted[0] = True
            assert b"defNumberVector" in await answered()

    asyncio.run(run())
