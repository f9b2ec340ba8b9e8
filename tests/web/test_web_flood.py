"""Peers that ask for more than anybody needs: the others are served all the same."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct

import pytest

from indifast.cli.toolkit.address import Address
from indifast.cli.tools.web import LOGGERS
from indifast.web import events
from indifast.web.bounds import REQUESTS, SUBSCRIPTIONS
from indifast.web.hub import Hub
from tests.support.waiting import eventually
from tests.web.inside import Turns, full_server, message, running, status_of, upgraded
from tests.web.support import path

pytestmark = pytest.mark.xdist_group("web")

TURN = 0.25
"""Seconds of processor time that nobody may take at once. One message is a few milliseconds."""

MANY = [{"device": f"D{number}x", "property": "P"} for number in range(SUBSCRIPTIONS)]


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
            sock = await upgraded(port)
            turns = Turns()
            asking = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(sock, message(text) * 5000))
            async with turns.measured():
                for _ in range(20):
                    assert (await status_of(port)).endswith(b"200 OK")
            asking.cancel()
            sock.close()
            assert turns.longest < TURN

    asyncio.run(flood())


def test_a_viewer_of_frames_that_asks_without_end_delays_nobody(server: int) -> None:
    async def flood() -> None:
        hub = Hub(Address("localhost", server))
        async with running(hub) as port:
            await eventually(lambda: "Eye" in hub.client and "PICTURE" in hub.client["Eye"])
            sock = await upgraded(port, f"{path('Eye', 'PICTURE', 'LEFT')}/live")
            turns = Turns()
            asking = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(sock, message("x") * 50_000))
            async with turns.measured():
                for _ in range(20):
                    assert (await status_of(port)).endswith(b"200 OK")
            asking.cancel()
            sock.close()
            assert turns.longest < TURN

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
            for requests in (40, 5):
                sock = await upgraded(port)
                one = message(json.dumps({"subscribe": [{"device": "A"}]}))
                await loop.sock_sendall(sock, one * requests)
                found = b""
                while found.count(b'"subscribed"') < 5:
                    found += await loop.sock_recv(sock, 1 << 16)
                answered.append((sock, found))
            sock, found = answered[0]
            found += await loop.sock_recv(sock, 1 << 16)
            assert found.count(b'"subscribed"') < 40
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
