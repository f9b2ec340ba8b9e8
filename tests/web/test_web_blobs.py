"""BLOBs for drivers: every byte of them arrives, and only what may be sent is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from indifast.web import guard, serving
from indifast.web.bounds import BODY, LONGEST_FORMAT, UPLOAD
from indifast.web.endpoints import BYTES
from tests.support.blackbox import LIMIT, until
from tests.support.waiting import turns
from tests.web.inside import guarding
from tests.web.support import API, Answer, Site, path

pytestmark = pytest.mark.xdist_group("web")

STORE = f"{path('Strange', 'STORE')}/blobs/FILE"


def put(web: Site, content: bytes, target: str = STORE, query: str = "format=.bin", **headers: str) -> Answer:
    return web.ask("PUT", f"{target}?{query}", content, **({"Content_Type": BYTES} | headers))


def failure(answer: Answer) -> tuple[int, str, str]:
    error = answer.json("web_failure")["error"]
    return answer.status, error["code"], error["message"]


@pytest.mark.parametrize("length", [1, 65_537, 5_000_001])
def test_every_byte_arrives(web: Site, length: int) -> None:
    content = random.Random(length).randbytes(length)
    answer = put(web, content, query="format=.fits.z&size=12345678&timeout=60")
    assert answer.status == 200, answer.body
    said = answer.json("web_answer")
    assert (said["done"], said["property"]["state"]) == (True, "Ok")
    assert said["message"] == f"{sha256(content).hexdigest()} 12345678 .fits.z"
    assert put(web, content).json("web_answer")["message"].endswith(f" {length} .bin")
    assert put(web, content, query="format=.last&wait=false").json("web_answer")["done"] is False
    # Else the next test takes the answer for its own.
    said = f"{sha256(content).hexdigest()} {length} .last"
    until(lambda: said in web.ask("GET", path("Strange")).body.decode(), what="the answer")


def test_an_alert_is_answered_with_the_drivers_message(web: Site) -> None:
    answer = put(web, b"bad")
    assert failure(answer) == (409, "alert", f"{sha256(b'bad').hexdigest()} 3 .bin")
    assert answer.json("web_failure")["property"]["state"] == "Alert"


@pytest.mark.parametrize(
    ("target", "query", "status", "code", "said"),
    [
        (STORE, "", 400, "invalid", "as in `?format=.fits`"),
        (STORE, f"format=.{'x' * LONGEST_FORMAT}", 400, "invalid", "as in `?format=.fits`"),
        (STORE, "format=.bin&wait=1", 400, "invalid", "`wait` is true or false"),
        (STORE, "format=.bin&timeout=soon", 400, "invalid", "`timeout` must be a number"),
        (f"{path('Strange', 'STORE')}/blobs/FIEL", "format=.bin", 404, "unknown", "no member 'FIEL'"),
        (f"{path('Strange', 'STOR')}/blobs/FILE", "format=.bin", 404, "unknown", "no property 'STOR'"),
        (f"{path('Strange', 'ANSWER')}/blobs/VALUE", "format=.bin", 400, "invalid", "takes no BLOBs"),
        (f"{path('Eye', 'PICTURE')}/blobs/LEFT", "format=.bin", 400, "invalid", "read-only"),
    ],
)
def test_what_cannot_be_sent(web: Site, target: str, query: str, status: int, code: str, said: str) -> None:
    found = failure(put(web, b"x", target, query))
    assert found[:2] == (status, code)
    assert said in found[2]


def test_an_empty_blob_and_one_as_json(web: Site) -> None:
    assert failure(put(web, b""))[2] == "a BLOB has at least one byte"
    answer = web.set("Strange", "STORE", {"FILE": "x"})
    assert failure(answer)[2] == "Strange.STORE takes BLOBs: PUT their bytes to its blobs/MEMBER"


def test_what_a_page_can_send_without_asking_is_no_blob(web: Site) -> None:
    for kind in ("", "text/plain", "multipart/form-data", "application/json"):
        assert failure(put(web, b"x", Content_Type=kind))[:2] == (415, "type")
    assert put(web, b"x", Origin="http://evil.example").status == 403
    assert put(web, b"x", Sec_Fetch_Site="cross-site").status == 403
    assert web.ask("POST", f"{STORE}?format=.bin", b"x", Content_Type=BYTES).status == 415


def test_a_blob_is_limited(web: Site) -> None:
    head = f"PUT {STORE}?format=.bin HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BYTES}\r\nConnection: close\r\n"
    assert web.raw(f"{head}Content-Length: {UPLOAD + 1}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413 ")


async def _read(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says how long a body is."""
    length, more = 0, True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message.get("more_body", False)
    content = str(length).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _send(
    port: int, method: str, target: str, kind: str, parts: list[bytes], sent: Callable[[int], Awaitable[None]] | None
) -> bytes:
    """Send a body in chunks, at once or with a call after each of how many bytes were sent, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    length = 0
    async with asyncio.timeout(LIMIT):
        for part in parts:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            length += len(part)
            if sent is not None:
                await sent(length)
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("method", "target", "kind", "status"),
    [("PUT", STORE, BYTES, b"200"), ("PUT", f"{API}/x", "application/json", b"413"),
     ("POST", STORE, "application/json", b"413"), ("PUT", f"{STORE}/x", "application/json", b"413")],
)  # fmt: skip
def test_nothing_but_a_blob_may_be_long(method: str, target: str, kind: str, status: bytes) -> None:
    async def send() -> bytes:
        async with guarding(_read) as port:
            return await _send(port, method, target, kind, [b"x" * BODY, b"x", b""], None)

    assert asyncio.run(send()).startswith(b"HTTP/1.1 " + status)


def test_a_blob_is_limited_whatever_was_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_UPLOADS", [(replace(each, largest=100_000), path) for each, path in guard._UPLOADS])

    async def send(length: int) -> bytes:
        async with guarding(_read) as port:
            return await _send(port, "PUT", STORE, BYTES, [b"x" * (length - 1), b"x", b""], None)

    assert asyncio.run(send(100_000)).endswith(b"\r\n\r\n100000")
    assert asyncio.run(send(100_001)).startswith(b"HTTP/1.1 413 ")


def test_a_blob_that_arrives_fast_enough_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second in all, although a request must arrive within less; one that is sent no further ends."""
    monkeypatch.setattr(serving, "REQUEST_TIME", 0.3)
    monkeypatch.setattr(serving, "UPLOAD_RATE", 1000)
    real = time.monotonic
    begin, passed, arrived = 0.0, 0.0, 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Any:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            return message

        await _read(scope, counted, send)

    async def pause(length: int) -> None:
        """Let a tenth of a second pass when so much has arrived, however long that takes."""
        nonlocal passed
        while arrived < length:
            await asyncio.sleep(0)
        passed += 0.1
        await turns()

    async def send(*last: bytes) -> bytes:
        nonlocal begin, passed, arrived
        with pytest.MonkeyPatch.context() as patch:
            async with guarding(counting) as port:
                begin, passed, arrived = real(), 0.0, 0
                patch.setattr(time, "monotonic", lambda: begin + passed)
                parts = [*[b"x" * 500] * 10, *last]
                sending = asyncio.ensure_future(_send(port, "PUT", STORE, BYTES, parts, pause))
                while passed < 0.95:
                    await asyncio.sleep(0)
                passed += 0 if last else 10
                answer = await sending
                patch.setattr(time, "monotonic", lambda: real() + passed)
        return answer

    assert asyncio.run(send(b"")).endswith(b"\r\n\r\n5000")
    assert asyncio.run(send()) == b"", "it never ends"
