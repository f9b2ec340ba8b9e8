"""Peers that ask for more than anybody needs: the others are served all the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import threading

import pytest

from indifast.cli.toolkit.address import Address
from indifast.cli.toolkit.webpage import LOGGERS
from indifast.web import events, shares
from indifast.web.bounds import COMMAND_SHARE, REQUESTS, SUBSCRIPTIONS
from indifast.web.hub import Hub
from indifast.web.pictures import Negative, Picture
from indifast.web.views import View
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually
from tests.web.inside import Turns, full_server, message, running, status_of, upgraded
from tests.web.support import API, path

pytestmark = pytest.mark.xdist_group("web")

TURN = 0.25
"""Seconds of processor time that nobody may take at once. One message is a few milliseconds."""

MANY = [{"device": f"D{number}x", "property": "P"} for number in range(SUBSCRIPTIONS)]


async def others_are_answered(port: int, flooding: socket.socket, flood: bytes) -> None:
    """Check that a connection that sends all this takes no long turn, and that requests are answered meanwhile."""
    turns = Turns()
    asking = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(flooding, flood))
    async with turns.measured():
        for _ in range(20):
            assert (await status_of(port)).endswith(b"200 OK")
    asking.cancel()
    flooding.close()
    assert turns.longest < TURN


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"subscribe": [{}] * SUBSCRIPTIONS}),
        json.dumps({"subscribe": [{}], "unsubscribe": [{"device": f"D{number}"} for number in range(SUBSCRIPTIONS)]}),
        json.dumps({"subscribe": MANY, "unsubscribe": [{}]}),
    ],
    ids=["the same", "unsubscribe", "unknown"],
)
def test_one_who_asks_without_end_delays_nobody(text: str) -> None:
    async def flood() -> None:
        async with full_server(40, 50) as hub, running(hub) as port:
            await eventually(lambda: "D39" in hub.client and len(hub.client["D39"]) == 50)
            await others_are_answered(port, await upgraded(port), message(text) * 5000)

    asyncio.run(flood())


def test_a_viewer_of_frames_that_asks_without_end_delays_nobody(server: int) -> None:
    async def flood() -> None:
        hub = Hub(Address("localhost", server))
        async with running(hub) as port:
            await eventually(lambda: "Eye" in hub.client and "PICTURE" in hub.client["Eye"])
            sock = await upgraded(port, f"{path('Eye', 'PICTURE', 'LEFT')}/live")
            await others_are_answered(port, sock, message("x") * 50_000)

    asyncio.run(flood())


def test_nothing_is_sent_to_one_who_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with full_server(40, 50) as hub, running(hub) as port:
            await eventually(lambda: "D39" in hub.client and len(hub.client["D39"]) == 50)
            for _ in range(5):
                sock = await upgraded(port)
                everything = message('{"subscribe": [{}]}') + message(json.dumps({"subscribe": MANY[1:]})) * 20
                await asyncio.get_running_loop().sock_sendall(sock, everything)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            await eventually(lambda: not hub._viewers)

    with caplog.at_level(logging.WARNING):
        asyncio.run(go())
    assert not [each for each in caplog.records if each.name in LOGGERS]


def test_one_who_asks_too_much_waits_and_others_do_not() -> None:
    async def ask() -> None:
        async with running(module=events, REQUESTS=5, REQUESTS_PER_SECOND=2) as port:
            loop = asyncio.get_running_loop()
            answered = []
            for requests in (400, 5):
                sock = await upgraded(port)
                one = message(json.dumps({"subscribe": [{"device": "A"}]}))
                await loop.sock_sendall(sock, one * requests)
                found = b""
                while found.count(b'"subscribed"') < 5:
                    found += await loop.sock_recv(sock, 1 << 16)
                answered.append((sock, found))
            sock, found = answered[0]
            found += await loop.sock_recv(sock, 1 << 16)
            assert found.count(b'"subscribed"') < 400
            for sock, _ in answered:
                sock.close()

    asyncio.run(ask())


def test_one_who_asks_as_much_as_a_page_does_not_wait() -> None:
    async def ask() -> None:
        async with running(module=events, REQUESTS_PER_SECOND=0.5) as port:
            loop = asyncio.get_running_loop()
            sock = await upgraded(port)
            await loop.sock_sendall(sock, message(json.dumps({"subscribe": [{"device": "A"}]})) * REQUESTS)
            found = b""
            async with asyncio.timeout(60):
                while found.count(b'"subscribed"') < REQUESTS:
                    found += await loop.sock_recv(sock, 1 << 16)
            sock.close()

    asyncio.run(ask())


# -- Shares


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("127.0.0.1", None), ("127.9.9.9", None), ("::1", None), ("::ffff:127.0.0.1", None), ("", None),
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"),
    ],
)  # fmt: skip
def test_whose_share_it_is(host: str, whose: str | None) -> None:
    assert shares.share_of({"client": (host, 1)}) == whose


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as another one."""
    address = "127.0.0.2"
    real = shares.origin
    monkeypatch.setattr(shares, "origin", lambda host: host if host == address else real(host))
    return address


def connected(port: int, address: str) -> socket.socket:
    """Return a connection from an address."""
    sock = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("live", [False, True])
def test_no_address_has_all_viewers(server: int, other: str, live: bool) -> None:
    target, share = f"{path('Eye', 'PICTURE', 'LEFT')}/live" if live else f"{API}/events", 4

    async def take() -> None:
        hub = Hub(Address("localhost", server), 2 * share)
        async with running(hub, viewers=2 * share) as port:
            await eventually(lambda: "Eye" in hub.client and "PICTURE" in hub.client["Eye"])
            found = [await upgraded(port, target, connected(port, other)) for _ in range(share)]
            sock = connected(port, other)
            with pytest.raises(AssertionError, match="503"):
                await upgraded(port, target, sock)
            sock.close()
            found += [await upgraded(port, target, connected(port, "127.0.0.1")) for _ in range(share)]
            with pytest.raises(AssertionError, match="503"):
                await upgraded(port, target)
            found.pop(0).close()
            for _ in range(1000):
                sock = connected(port, other)
                try:
                    found.append(await upgraded(port, target, sock))
                    break
                except AssertionError:
                    sock.close()
            else:
                raise AssertionError("no place although one has gone")
            for each in found:
                each.close()

    asyncio.run(take())


def test_no_address_has_all_commands(other: str) -> None:
    body = b'{"members": {"N": 1}, "timeout": 3600}'
    head = f"POST {path('D0', 'P0')} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def take() -> None:
        loop = asyncio.get_running_loop()
        async with full_server(1, 1) as hub, running(hub) as port:
            await eventually(lambda: "D0" in hub.client)
            socks = []
            for at, address in enumerate([other] * COMMAND_SHARE + ["127.0.0.1"] * (COMMAND_SHARE + 1), 1):
                socks.append(connected(port, address))
                await loop.sock_sendall(socks[-1], request)
                await eventually(lambda at=at: len(hub._answers) == at)
            socks.append(connected(port, other))
            await loop.sock_sendall(socks[-1], request)
            async with asyncio.timeout(LIMIT):
                assert (await loop.sock_recv(socks[-1], 12)).endswith(b"503")
            for sock in socks:
                sock.close()
            await eventually(lambda: not hub._answers)

    asyncio.run(take())


def test_no_address_has_all_connections(other: str) -> None:
    async def take() -> None:
        loop = asyncio.get_running_loop()
        async with running(connections=16) as port:
            socks = [await upgraded(port, sock=connected(port, other)) for _ in range(4)]
            socks += [connected(port, other) for _ in range(4)]
            socks += [connected(port, "127.0.0.1") for _ in range(6)]
            assert (await status_of(port)).endswith(b"200 OK")
            socks.append(connected(port, other))
            async with asyncio.timeout(LIMIT):
                with contextlib.suppress(ConnectionError):
                    assert await loop.sock_recv(socks[-1], 1) == b""
            for sock in socks:
                sock.close()

    asyncio.run(take())


# -- Pictures


def test_no_picture_is_made_for_those_who_have_gone(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    views = []
    make = Negative.picture

    def picture(self: Negative, view: View) -> Picture:
        views.append(view)
        free.wait(60)
        return make(self, view)

    monkeypatch.setattr(Negative, "picture", picture)
    eye = path("Eye", "PICTURE", "LEFT")

    async def go() -> None:
        loop = asyncio.get_running_loop()
        hub = Hub(Address("localhost", server))
        async with running(hub) as port:
            await eventually(lambda: "Eye" in hub.client and "PICTURE" in hub.client["Eye"])
            sock = await upgraded(port, f"{eye}/live")
            await hub.command("Eye", "TAKE", {"FRAMES": 1, "DAMAGED": 0}, wait=True, seconds=60, complete=True)
            assert (await status_of(port, f"{eye}/info?wait=20")).endswith(b"200 OK")
            socks = [sock]
            for at in range(30):
                socks.append(connected(port, "127.0.0.1"))
                target = f"{eye}/preview?region={at},0,4,4"
                await loop.sock_sendall(socks[-1], f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await status_of(port)
            await eventually(lambda: len(views) == 2)
            for each in socks:
                each.close()
            for _ in range(10):
                await status_of(port)
            free.set()
            assert (await status_of(port, f"{eye}/preview?size=160")).endswith(b"200 OK")

    asyncio.run(go())
    assert len(views) == 3
