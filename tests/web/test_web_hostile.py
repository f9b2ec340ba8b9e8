"""Requests that must not be obeyed, and peers that must not take what others need."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from indifast.web.access import SHORTEST
from indifast.web.bounds import BODY, HEAD
from tests.support.blackbox import LIMIT
from tests.web.inside import running, upgraded
from tests.web.support import API, Site, logs_few_wrong_requests, path, site, token_file

pytestmark = pytest.mark.xdist_group("web")

COMMAND = {"members": {"VALUE": 1}}
JSON = "application/json"


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        (["127.0.0.1:8625"], True),
        (["localhost"], True),
        (["[::1]:8625"], True),
        (["192.0.2.7:80"], True),
        ([socket.gethostname()], True),
        (["evil.example"], False),
        (["localhost.evil.example:8625"], False),
        (["localhost", "evil.example"], False),
        ([""], False),
    ],
)
def test_only_names_of_this_machine_may_be_asked(web: Site, hosts: list[str], allowed: bool) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    for target in ("/", API, f"{API}/nonsense"):
        answer = web.raw(f"GET {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        if allowed:
            assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 "))
        else:
            assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
            assert b"indifast</title>" not in answer and b"program" not in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_nothing_is_done_or_told_for_other_pages(web: Site, headers: dict[str, str]) -> None:
    before = web.get(path("Strange", "ANSWER"), "web_property")
    assert web.ask("POST", path("Strange", "ANSWER"), COMMAND, **headers).status == 403
    assert web.ask("GET", f"{API}/devices", **headers).status == 403
    assert web.ask("DELETE", f"{API}/session", {}, **headers).status == 403
    assert web.get(path("Strange", "ANSWER"), "web_property") == before
    assert "Access-Control-Allow-Origin" not in web.ask("OPTIONS", API, {}, **headers).headers


def test_the_page_itself_may_command(web: Site) -> None:
    origin = {"Origin": f"http://127.0.0.1:{web.port}", "Sec_Fetch_Site": "same-origin"}
    assert web.ask("POST", path("Strange", "ANSWER"), COMMAND, **origin).status == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_can_send_is_no_command(web: Site, kind: str) -> None:
    answer = web.ask("POST", path("Strange", "ANSWER"), json.dumps(COMMAND).encode(), Content_Type=kind)
    assert (answer.status, answer.json("web_failure")["error"]["code"]) == (415, "type")


def test_bodies_are_limited(web: Site) -> None:
    target = path("Strange", "ANSWER").encode()
    head = b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for length in (str(BODY + 1).encode(), b"9" * 30):
        assert web.raw(head + b"Connection: close\r\nContent-Length: " + length + b"\r\n\r\n").startswith(b"HTTP/1.1 4")
    chunk = b"%x\r\n%s\r\n" % (BODY // 2 + 1, b" " * (BODY // 2 + 1))
    answer = web.raw(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + 2 * chunk + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_heads_are_limited(web: Site) -> None:
    answer = web.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 4 * HEAD)
    assert answer.startswith(b"HTTP/1.1 4") or not answer
    assert web.ask("GET", "/").status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\r\n\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"PUT /api/v1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"415"),
        (b"DELETE /api/v1/devices HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         b"Connection: close\r\n\r\n", b"405"),
    ],
)  # fmt: skip
def test_requests_that_are_none(web: Site, request_: bytes, status: bytes) -> None:
    assert web.raw(request_).startswith(b"HTTP/1.1 " + status)


def test_the_log_of_wrong_requests_is_limited(web: Site) -> None:
    logs_few_wrong_requests(web)


def test_a_message_to_a_socket_is_limited(web: Site) -> None:
    with web.events() as socket_, contextlib.suppress(Exception):
        socket_.send(" " * (BODY + 1))
        while True:
            socket_.recv(LIMIT)
    assert socket_.close_code == 1009


def test_viewers_are_limited(server: int, tmp_path: Path) -> None:
    with site(tmp_path, f"localhost:{server}", "--connections", 16) as web, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(web.events())
        with pytest.raises(InvalidStatus) as refused, web.events():
            pass
        assert refused.value.response.status_code == 503
        assert web.ask("GET", API).status == 200


# -- Tokens

VIEWER, OPERATOR = "v" * SHORTEST, "o" * SHORTEST


@pytest.fixture(scope="module")
def guarded(server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application, for those who have a token."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = token_file(folder, f"# who may do what\nviewer {VIEWER}\n\noperator {OPERATOR}  # me\n")
    with site(folder, f"localhost:{server}", "--token-file", tokens) as running:
        yield running
        assert VIEWER not in running.process.stderr and OPERATOR not in running.process.stderr


@pytest.mark.parametrize(
    ("token", "reading", "commanding"),
    [("", 401, 401), ("Bearer ", 401, 401), ("Bearer " + "x" * SHORTEST, 401, 401), (f"Basic {OPERATOR}", 401, 401),
     (f"Bearer {VIEWER}", 200, 403), (f"Bearer {OPERATOR}", 200, 200)],
)  # fmt: skip
def test_tokens(guarded: Site, token: str, reading: int, commanding: int) -> None:
    headers = {"Authorization": token} if token else {}
    if reading == 200:
        guarded_ready(guarded, headers)
    for target in (API, f"{API}/devices", f"{API}/nonsense/x"):
        assert guarded.ask("GET", target, **headers).status in (reading, 404 if reading == 200 else reading)
    assert guarded.ask("POST", path("Strange", "ANSWER"), COMMAND, **headers).status == commanding
    if reading == 401:
        assert b"Strange" not in guarded.ask("GET", path("Strange"), **headers).body
        with pytest.raises(InvalidStatus) as refused, guarded.events(**headers):
            pass
        assert refused.value.response.status_code == 401
    else:
        with guarded.events(**headers):
            pass
    assert guarded.ask("GET", "/").status == 200, "the page itself has no secrets"


def guarded_ready(guarded: Site, headers: dict[str, str]) -> None:
    """Wait until the property that is commanded is known."""
    for _ in range(600):
        if guarded.ask("GET", path("Strange", "ANSWER"), **headers).status == 200:
            return
        time.sleep(0.05)
    raise AssertionError("no property")


def test_a_browser_logs_in_and_out(guarded: Site) -> None:
    refused = guarded.ask("POST", f"{API}/session", {"token": "x" * SHORTEST})
    assert (refused.status, refused.headers["Set-Cookie"]) == (401, None)
    answer = guarded.ask("POST", f"{API}/session", {"token": OPERATOR})
    assert answer.json("web_site")["role"] == "operator"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and OPERATOR not in cookie
    session = cookie.partition(";")[0]
    assert guarded.ask("GET", f"{API}/devices", Cookie=session).status == 200
    assert guarded.ask("GET", f"{API}/devices", Cookie=session, Origin="http://evil.example").status == 403
    assert guarded.ask("DELETE", f"{API}/session", {}, Cookie=session).status == 204
    assert guarded.ask("GET", f"{API}/devices", Cookie=session).status == 401
    for body in ({}, {"token": 1}, {"token": OPERATOR, "x": 1}):
        assert guarded.ask("POST", f"{API}/session", body).status == 400


@pytest.mark.parametrize("other", ['prefs={"a":1}', "x@y=1", "x", "a=b c", "long=" + "x" * 5000])
def test_cookies_of_other_programs_do_not_end_a_login(guarded: Site, other: str) -> None:
    cookie = guarded.ask("POST", f"{API}/session", {"token": VIEWER}).headers["Set-Cookie"].partition(";")[0]
    assert guarded.ask("GET", API, Cookie=f"{other}; {cookie}").status == 200
    assert guarded.ask("GET", API, Cookie=other).status == 401


def test_a_login_at_another_port_of_this_machine_is_another_one(guarded: Site) -> None:
    """Browsers send cookies to all ports of a machine, so two of these programs must not use the same."""
    names = set()
    for host in ("localhost", "localhost:1", "localhost:2"):
        answer = guarded.ask("POST", f"{API}/session", {"token": VIEWER}, Host=host)
        names.add(answer.headers["Set-Cookie"].partition("=")[0])
    assert len(names) == 3


def test_read_only_is_for_everybody(server: int, tmp_path: Path) -> None:
    with site(tmp_path, f"localhost:{server}", "--read-only") as running:
        about = running.get(API, "web_site")
        assert (about["read_only"], about["role"]) == (True, "viewer")
        answer = running.set("Strange", "ANSWER", {"VALUE": 1})
        assert (answer.status, answer.json("web_failure")["error"]["message"]) == (403, "everything here is read-only")


# -- Slow and silent peers, in this process: with bounds that need no patience


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until a connection ends."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(LIMIT):
            while await reader.read(1 << 16):
                pass
    return True


@pytest.mark.parametrize("before", [b"", b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: loc",
        b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9\r\n\r\n{",
    ],
)
def test_a_request_that_does_not_end_ends_the_connection(before: bytes, data: bytes) -> None:
    async def trickle() -> None:
        async with running(REQUEST_TIME=0.3) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while before:
                with contextlib.suppress(ConnectionError):
                    writer.write(before)
                    if b"200 OK" in await reader.readline():
                        break
                writer.close()  # this process was late
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert await ended(reader)
            writer.close()

    asyncio.run(trickle())


def test_one_who_asks_nothing_is_disconnected() -> None:
    async def wait() -> None:
        async with running(REQUEST_TIME=0.3) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await ended(reader)
            writer.close()

    asyncio.run(wait())


def test_connections_are_limited() -> None:
    async def many() -> None:
        async with running(connections=5) as port:
            open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await ended(reader)
            writer.close()
            open_.pop()[1].close()
            for _ in range(1000):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    if (await reader.read(12)).endswith(b"200"):
                        break
                writer.close()
            else:
                raise AssertionError("no connection although one has ended")
            for _, other in open_:
                other.close()

    asyncio.run(many())


def unread(port: int) -> socket.socket:
    """Return a connection that takes little before it is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def test_one_who_reads_no_pongs_ends() -> None:
    """Pings are answered before the application knows of them."""

    async def flood() -> None:
        async with running(UNREAD_BYTES=100_000) as port:
            sock = unread(port)
            loop = asyncio.get_running_loop()
            await upgraded(port, sock=sock)
            ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(LIMIT):
                    while True:
                        await loop.sock_sendall(sock, 100 * ping)
            sock.close()

    asyncio.run(flood())


def test_one_who_reads_no_answers_is_sent_no_more_and_ends() -> None:
    """It asks without end: what it is to be sent does not pile up, and others are served meanwhile."""

    async def flood() -> None:
        async with running(UNREAD_TIME=0.5) as port:
            sock = unread(port)
            ask = b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(LIMIT):
                    while True:
                        await loop.sock_sendall(sock, ask)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            sock.close()

    asyncio.run(flood())
