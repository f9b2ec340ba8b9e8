"""Hundreds of viewers of live frames, who are sent them without a task or a queue each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, IPyServer
from indifast.cli.demo.starfield import StarField
from indifast.cli.toolkit.address import Address
from indifast.cli.tools.web import parser
from indifast.web import direct, viewing
from indifast.web.access import Access
from indifast.web.bounds import LIVE_AHEAD, LIVE_REQUEST, LIVE_VIEWS, NOTES
from indifast.web.direct import Crowd
from indifast.web.hub import Hub
from indifast.web.live import Live
from indifast.web.rights import Role
from tests.support.blackbox import LIMIT, free_port
from tests.support.jsonschema import valid
from tests.support.waiting import eventually, turns
from tests.web.inside import running
from tests.web.support import API, path, site

pytestmark = pytest.mark.xdist_group("web")

CAMERA = ("Camera", "CCD1", "CCD1")
TOKEN = "t" * 20

LARGE = {"size": 1920}
"""A view whose pictures of noise do not fit into what the system holds for a viewer that reads nothing."""


class Camera(IPyDriver):
    """A camera that takes a frame when it is told to."""

    def __init__(self, width: int, height: int) -> None:
        self.sky = StarField(width, height)
        self.image = BLOBVector("CCD1", "", "", "ro", "Ok", [BLOBMember("CCD1", blobformat=".fits")])
        super().__init__(Device("Camera", [self.image]))

    async def take(self) -> None:
        self.image["CCD1"] = self.sky.frame()
        await self.image.send_setVectorMembers(state="Ok", members=["CCD1"])


@contextlib.asynccontextmanager
async def camera(width: int = 320, height: int = 240) -> AsyncIterator[tuple[Camera, Hub]]:
    """A server with a camera. Gives the camera, and a client that knows it once it runs."""
    driver = Camera(width, height)
    server = IPyServer(driver, host="127.0.0.1", port=0)
    task = asyncio.create_task(server.asyncrun())
    await server.ready()
    try:
        yield driver, Hub(Address("127.0.0.1", server.port))
    finally:
        server.shutdown()
        await task


class Seat:
    """A viewer, without a library: what is sent, and when, is up to the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def taken(cls, port: int, small: bool = False, **headers: str) -> Seat:
        """Return a viewer that was let in.

        Args:
            port: The port of the page.
            small: Whether the system is to hold little for it.
            headers: Headers of its request.
        """
        seat = await cls.asking(port, small, **headers)
        answer = await seat.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return seat

    @classmethod
    async def asking(cls, port: int, small: bool = False, **headers: str) -> Seat:
        """Return a viewer that has asked to be let in."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12 if small else 1 << 20)
        lines = [f"GET {path(*CAMERA)}/live HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                 *(f"{name}: {value}" for name, value in headers.items()), "", ""]  # fmt: skip
        writer.write("\r\n".join(lines).encode())
        return cls(reader, writer)

    def say(self, text: str | bytes, opcode: int = 1, fin: bool = True) -> None:
        self.writer.write(masked(text if isinstance(text, bytes) else text.encode(), opcode, fin))

    def ask(self, more: int = 1, view: Any = None) -> None:
        self.say(json.dumps({"more": more} | ({"view": view} if view else {})))

    async def hear(self) -> tuple[int, bytes]:
        """Return the opcode and the content of the next frame of the WebSocket."""
        async with asyncio.timeout(LIMIT):
            first, length = await self.reader.readexactly(2)
            assert first & 0x70 == 0 and first & 0x80, "a server sends whole messages"
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            return first & 15, await self.reader.readexactly(length)

    async def frame(self) -> tuple[int, bytes]:
        """Return the number of the next live frame, and its picture, which must be whole."""
        opcode, content = await self.hear()
        while opcode == 9:
            opcode, content = await self.hear()
        assert opcode == 2, content
        end = 4 + int.from_bytes(content[:4], "big")
        about = valid("web_live", content[4:end].decode())
        assert content[end:].startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9")
        return about["frame"]["number"], content[end:]

    async def ended(self) -> bytes:
        """Return what is still sent before the connection ends."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    def leave(self) -> None:
        self.writer.transport.abort()


def masked(content: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    mask = bytes(random.randrange(256) for _ in range(4))
    if len(content) < 126:
        length = bytes([0x80 | len(content)])
    elif len(content) < 1 << 16:
        length = b"\xfe" + len(content).to_bytes(2, "big")
    else:
        length = b"\xff" + len(content).to_bytes(8, "big")
    hidden = bytes(each ^ mask[at % 4] for at, each in enumerate(content))
    return bytes([opcode | (0x80 if fin else 0)]) + length + mask + hidden


@contextlib.asynccontextmanager
async def looking(width: int = 320, height: int = 240, **more: Any) -> AsyncIterator[tuple[Camera, int]]:
    """A camera, and the page that shows its first frame. Gives the camera, and the port of the page.

    See `inside.running` for the rest.
    """
    async with camera(width, height) as (driver, hub), running(hub, **more) as port:
        await eventually(lambda: "Camera" in hub.client and "CCD1" in hub.client["Camera"])
        await first_frame(driver, port)
        yield driver, port


async def first_frame(driver: Camera, port: int) -> None:
    """Have the camera take frames until one arrives: at first, the page has to ask for them."""
    taken = asyncio.Event()

    async def take() -> None:
        while not taken.is_set():
            await driver.take()
            await asyncio.sleep(0.05)

    taking = asyncio.create_task(take())
    while not taken.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET {path(*CAMERA)}?wait=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        if b" 200 " in (await reader.read())[:20]:
            taken.set()
        writer.close()
    await taking


@pytest.fixture(params=["epoll", "any system"])
def crowds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test also with what serves viewers on systems without epoll."""
    if request.param == "any system":
        monkeypatch.setattr(viewing, "crowd", Crowd)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.usefixtures("crowds")
def test_hundreds_see_each_frame_as_the_same_picture() -> None:
    async def look() -> None:
        async with looking() as (driver, port):
            seats = [await Seat.taken(port) for _ in range(300)]
            for each in seats:
                each.ask(LIVE_AHEAD)
            shown: list[dict[int, bytes]] = [{} for _ in seats]
            for _ in range(10):
                await driver.take()
                for seat, seen in zip(seats, shown, strict=True):
                    number, picture = await seat.frame()
                    assert number not in seen
                    seen[number] = picture
                    seat.ask()
            assert all(each == shown[0] for each in shown)
            assert len(set(shown[0].values())) == 10
            assert all(PIL.Image.open(io.BytesIO(each)).size == (320, 240) for each in shown[0].values())
            for each in seats:
                each.leave()

    run(look())


@pytest.mark.usefixtures("crowds")
def test_one_who_reads_nothing_delays_nobody_and_is_sent_the_newest_afterwards() -> None:
    async def look() -> None:
        async with looking(1920, 1080) as (driver, port):
            deaf, other = await Seat.taken(port, small=True), await Seat.taken(port)
            for seat in (deaf, other):
                seat.ask(1, LARGE)
                await seat.frame()
                seat.ask(LIVE_AHEAD)
            for _ in range(12):
                await driver.take()
                newest, _ = await other.frame()
                other.ask()
            seen = [(await deaf.frame())[0]]
            while seen[-1] < newest:
                seen.append((await deaf.frame())[0])
            assert len(seen) <= LIVE_AHEAD and seen == sorted(set(seen))
            assert seen[-2] < newest - 5, "between the one in which it was stuck and the newest, nothing has waited"
            for seat in (deaf, other):
                seat.leave()

    run(look())


def test_all_are_sent_frames_that_follow_faster_than_they_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_AT_ONCE", 1)  # frames arrive while one is being sent

    async def look() -> None:
        async with looking() as (driver, port):
            seats = [await Seat.taken(port) for _ in range(200)]
            ends = asyncio.Event()

            async def take() -> None:
                while not ends.is_set():
                    await driver.take()
                    await asyncio.sleep(0.001)

            taking = asyncio.create_task(take())
            for seat in seats:
                seat.ask(2)
            for _ in range(5):
                for seat in seats:
                    await seat.frame()
                    seat.ask()
            ends.set()
            await taking

    run(look())


@pytest.mark.usefixtures("crowds")
def test_joining_and_leaving_in_the_middle_of_a_picture_disturbs_nobody() -> None:
    async def look() -> None:
        async with looking(1920, 1080, viewers=60) as (driver, port):
            staying = [await Seat.taken(port) for _ in range(20)]
            for seat in staying:
                seat.ask(2, LARGE)
            await driver.take()
            for turn in range(10):
                passing = [await Seat.taken(port, small=True) for _ in range(40)]
                with pytest.raises(AssertionError, match="503"):
                    await Seat.taken(port)
                for seat in passing:
                    seat.ask(1, LARGE)
                numbers = set()
                for seat in staying:
                    numbers.add((await seat.frame())[0])
                    seat.ask()
                assert len(numbers) == 1
                for seat in passing:
                    await seat.reader.readexactly(1000)
                    if turn % 2:
                        seat.leave()
                    else:
                        seat.writer.close()
                await driver.take()
                await all_gone(port, 20)
            for seat in staying:
                seat.leave()

    async def all_gone(port: int, left: int) -> None:
        """Wait until there are only so many viewers."""
        for _ in range(1000):
            try:
                seats = [await Seat.taken(port) for _ in range(60 - left)]
            except AssertionError:
                await asyncio.sleep(0.01)
                continue
            for seat in seats:
                seat.say(b"", 8)
                assert (await seat.ended())[:1] == b"\x88"
            return
        raise AssertionError("viewers who have gone still have their places")

    run(look())


# -- The WebSocket itself


def answer_late(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Have viewers wait for their answers. The first event says that one waits, the second one lets all go on."""
    answer, asked, may = Live.answer, asyncio.Event(), asyncio.Event()

    async def late(self: Live, socket: Any) -> None:
        asked.set()
        await may.wait()
        await answer(self, socket)

    monkeypatch.setattr(Live, "answer", late)
    return asked, may


def test_what_is_sent_before_the_answer_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may = answer_late(monkeypatch)

    async def talk() -> None:
        async with looking() as (driver, port):
            await driver.take()
            seat = await Seat.asking(port)
            await asked.wait()
            seat.ask()
            await turns()
            may.set()
            assert (await seat.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await seat.frame()

    run(talk())


def test_whatever_is_sent_in_parts_is_understood() -> None:
    async def talk() -> None:
        async with looking() as (driver, port):
            seat = await Seat.taken(port)
            seat.ask()
            await driver.take()
            await seat.frame()
            for at in range(3):
                request = masked(json.dumps({"more": 1, "view": {"stretch": [0, 1, 2 + at]}}).encode())
                if at == 2:  # two messages that arrive in pieces, and then something else
                    seat.writer.write(request[:1])
                    request = request[1:] + masked(b'{"more": 1}')
                    for byte in request:
                        seat.writer.write(bytes([byte]))
                        await seat.writer.drain()
                else:
                    seat.writer.write(request)
                await seat.frame()
            seat.say(b'{"more": 1, "view"', fin=False)
            seat.say(b"are you there?", 9)
            seat.say(b': {"size": 160}}', 0)
            assert await seat.hear() == (10, b"are you there?")
            await seat.frame()
            seat.say("x" * LIVE_REQUEST)
            opcode, content = await seat.hear()
            assert opcode == 1 and valid("web_event", content.decode())["error"]["code"] == "invalid"
            seat.say(b'{"more": 1, "view": {"size": 640}}', 2)
            await seat.frame()
            seat.say(struct.pack(">H", 1000), 8)
            assert (await seat.hear())[0] == 8
            assert await seat.ended() == b""

    run(talk())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(b"x" * (LIVE_REQUEST + 1)), 1009),
        (masked(b"x" * LIVE_REQUEST, fin=False) + masked(b"x", 0), 1009),
        (b"\x81\x02{}", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
        (masked(b"", 0), 1002),
        (masked(b"x", 8), 1002),
        (masked(b"x" * 126, 9), 1002),
    ],
    ids=["too long", "too many parts", "not masked", "opcode", "bit", "no message", "close", "long ping"],
)
def test_one_who_cannot_speak_is_told_so_and_disconnected(sent: bytes, code: int) -> None:
    async def talk() -> None:
        async with looking() as (_, port):
            seat = await Seat.taken(port)
            seat.writer.write(sent)
            opcode, content = await seat.hear()
            assert (opcode, int.from_bytes(content[:2], "big")) == (8, code)
            assert await seat.ended() == b""

    run(talk())


@pytest.mark.usefixtures("crowds")
def test_answers_to_one_who_reads_nothing_do_not_pile_up() -> None:
    async def flood() -> None:
        async with looking(1920, 1080) as (driver, port):
            for what in (masked(b"x" * 125, 9), masked(b"{")):
                seat = await Seat.taken(port, small=True)
                seat.ask(LIVE_AHEAD, LARGE)
                await driver.take()
                await seat.reader.readexactly(1000)
                with contextlib.suppress(ConnectionError):
                    for _ in range(4 * NOTES // len(what)):
                        seat.writer.write(what)
                        await seat.writer.drain()
                await seat.ended()

    run(flood())


@pytest.mark.usefixtures("crowds")
def test_one_who_asks_without_end_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    read = viewing._read_request

    def count(text: bytes) -> Any:
        nonlocal asked
        asked += 1
        return read(text)

    monkeypatch.setattr(viewing, "_short_request", count)
    monkeypatch.setattr(viewing, "LIVE_REQUESTS_PER_SECOND", 50)

    async def flood() -> None:
        loop = asyncio.get_running_loop()
        async with looking() as (driver, port):
            seat, other = await Seat.taken(port), await Seat.taken(port)
            began = loop.time()
            messages = 600
            for _ in range(messages):
                seat.say('{"more": 0, "view": {"size": 160}}')
            await driver.take()
            other.ask()
            await other.frame()
            await eventually(lambda: asked > messages // 2)
            # What was read with the last one that is allowed is obeyed, too: some of these messages.
            assert asked <= (loop.time() - began + 2) * (50 + 10)
            await eventually(lambda: asked == messages + 1)
            seat.ask()
            await seat.frame()

    run(flood())


@pytest.mark.usefixtures("crowds")
def test_one_who_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_SWEEP", 0.02)
    monkeypatch.setattr(direct, "UNREAD_TIME", 0.3)
    monkeypatch.setattr(direct, "LEAST_RATE", 1 << 40)

    async def wait() -> None:
        async with looking(1920, 1080, viewers=2) as (driver, port):
            deaf, other = await Seat.taken(port, small=True), await Seat.taken(port)
            deaf.ask(LIVE_AHEAD, LARGE)
            await driver.take()
            for _ in range(1000):
                with contextlib.suppress(AssertionError):
                    await Seat.taken(port)
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("it still has its place")
            other.ask()
            await other.frame()

    run(wait())


@pytest.mark.usefixtures("crowds")
def test_one_who_says_nothing_is_asked_for_a_sign_of_life_and_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only when the one who answers was heard, however long that takes."""
    monkeypatch.setattr(direct, "_SWEEP", 0.02)
    known: set[direct.Direct] = set()
    now = 0.0
    check = direct.Direct.check

    def checked(self: direct.Direct, real: float) -> None:
        known.add(self)
        check(self, now or real)

    monkeypatch.setattr(direct.Direct, "check", checked)

    def heard() -> bool:
        return any(each._heard == now and not each._asked for each in known)

    async def wait() -> None:
        nonlocal now
        async with looking() as (driver, port):
            alive, silent = await Seat.taken(port), await Seat.taken(port)
            ending = asyncio.create_task(silent.ended())
            now = asyncio.get_running_loop().time()
            for _ in range(4):
                now += direct._PING + 1
                assert await alive.hear() == (9, b"")
                alive.say(b"", 10)
                await eventually(heard, "the answer")
            assert await ending == b"\x89\x00", "it was asked once"
            alive.ask()
            await driver.take()
            await alive.frame()

    run(wait())


def test_the_program_says_when_it_ends() -> None:
    async def stop() -> None:
        async with looking() as (driver, port):
            seat = await Seat.taken(port)
            seat.ask()
            await driver.take()
            await seat.frame()
        assert await seat.hear() == (8, struct.pack(">H", 1012))

    run(stop())


# -- Who may look


def test_a_token_or_a_login_is_needed_and_the_websocket_ends_with_the_login() -> None:
    async def enter() -> None:
        async with looking(access=Access([(TOKEN, Role.VIEWER)])) as (driver, port):
            for headers in ({}, {"Authorization": "Bearer " + "x" * 20}, {"Cookie": f"indifast-{port}=x"}):
                with pytest.raises(AssertionError, match="401"):
                    await Seat.taken(port, **headers)
            with pytest.raises(AssertionError, match="403"):
                await Seat.taken(port, Authorization=f"Bearer {TOKEN}", Origin="http://evil.example")
            cookies = [await log_in(port) for _ in range(2)]
            seats = [await Seat.taken(port, Authorization=f"Bearer {TOKEN}")]
            seats += [await Seat.taken(port, Cookie=each) for each in (*cookies, *cookies)]
            await driver.take()
            for each in seats:
                each.ask()
                await each.frame()
            await log_out(port, cookies[0])
            for each in seats[1::2]:
                opcode, content = await each.hear()
                assert (opcode, content[:2]) == (8, struct.pack(">H", 4401))
                each.say(content, 8)
                assert await each.ended() == b""
            await driver.take()
            for each in seats[::2]:
                each.ask()
                await each.frame()

    async def ask(port: int, method: str, headers: str, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"{method} {API}/session HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{headers}"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
        writer.close()
        return answer

    async def log_in(port: int) -> str:
        answer = await ask(port, "POST", "", json.dumps({"token": TOKEN}).encode())
        (line,) = [each for each in answer.decode().splitlines() if each.lower().startswith("set-cookie:")]
        name, _, value = line.partition(": ")[2].partition(";")[0].partition("=")
        return f"{name}={value}; indifast={value}"

    async def log_out(port: int, cookie: str) -> None:
        assert b" 204 " in await ask(port, "DELETE", f"Cookie: {cookie}\r\n", b"{}")

    run(enter())


def test_a_login_that_is_over_ends_the_websocket() -> None:
    time = 0.0
    access = Access([(TOKEN, Role.VIEWER)], clock=lambda: time)

    async def enter() -> None:
        nonlocal time
        async with looking(access=access) as (_, port):
            session = access.login(TOKEN, "192.0.2.1")
            seat = await Seat.taken(port, Cookie=f"indifast={session}")
            time = 1e6
            opcode, content = await seat.hear()
            assert (opcode, content[:2]) == (8, struct.pack(">H", 4401))

    run(enter())


def test_views_of_their_own_are_limited_and_the_whole_frame_is_for_all() -> None:
    async def look() -> None:
        async with looking() as (driver, port):
            seats = [await Seat.taken(port) for _ in range(LIVE_VIEWS + 1)]
            for at, seat in enumerate(seats):
                seat.ask(1, {"region": [at, 0, 8, 8]})
            opcode, content = await seats[-1].hear()
            assert opcode == 1 and valid("web_event", content.decode())["error"]["code"] == "unavailable"
            await driver.take()
            for seat in seats[:-1]:
                assert PIL.Image.open(io.BytesIO((await seat.frame())[1])).size == (8, 8)
            seats[-1].ask(1, {"size": 160})
            await seats[-1].frame()
            seats[0].leave()
            for _ in range(1000):
                seats[-1].ask(1, {"region": [100, 0, 8, 8]})
                if (await seats[-1].hear())[0] == 2:
                    break
            else:
                raise AssertionError("no view although one has gone")

    run(look())


# -- What it costs


def test_viewers_who_read_nothing_do_not_hold_pictures(tmp_path: Path) -> None:
    """If each had its own, or a queue, these would be 300 times up to four pictures of half a megabyte."""

    async def fill(port: int, pid: int, driver: Camera) -> None:
        seats = [await Seat.taken(port, small=True) for _ in range(300)]
        fast = await Seat.taken(port)
        fast.ask(1, LARGE)
        await driver.take()
        size = len((await fast.frame())[1])
        before = resident(pid)
        for seat in seats:
            seat.ask(LIVE_AHEAD, LARGE)
        for _ in range(10):
            fast.ask(1, LARGE)
            await driver.take()
            await fast.frame()
        assert size > 200_000
        assert resident(pid) - before < 300 * size / 2
        for seat in seats:
            seat.leave()

    async def measure() -> None:
        async with camera(1920, 1080) as (driver, hub):
            address = str(hub.server)
            with site(tmp_path, address) as page:
                await asyncio.to_thread(page.wait_for, "Camera", "CCD1")
                await first_frame(driver, page.port)
                await fill(page.port, page.process.process.pid, driver)

    run(measure())


def resident(pid: int) -> int:
    """Return how much memory a process takes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_who_has_gone_leaves_nothing() -> None:
    async def come_and_go() -> None:
        async with looking() as (_, port):
            staying = await Seat.taken(port)
            staying.ask()
            await staying.frame()
            files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
            for _ in range(20):
                seats = [await Seat.taken(port) for _ in range(20)]
                for seat in seats:
                    seat.ask(2, {"size": 160})
                    await seat.frame()
                    seat.leave()
            await eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks)

    run(come_and_go())


# -- Room


def test_it_is_said_when_there_are_too_few_descriptors(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "indifast", "web", "--listen", "0", f"localhost:{free_port()}"]
    run_ = 'ulimit -n 800; exec "$@"'
    with subprocess.Popen(["sh", "-c", run_, "sh", *command], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.terminate()
    said = next(each for each in lines if "may open" in each)
    assert "may open 800 files: at most 144 viewers of live frames and 144 other connections" in said


@pytest.mark.parametrize("number", ["0", "-1", "many", "1000001", "9" * 10, "1.5"])
@pytest.mark.parametrize("option", ["--viewers", "--connections"])
def test_what_is_no_number_of_viewers(option: str, number: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([option, number])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("limits", "wanted", "found", "said"),
    [
        ((1024, 1 << 20), (10_000, 1000), (10_000, 1000), False),
        ((20_000, 20_000), (10_000, 1000), (10_000, 1000), False),
        ((1024, 4096), (10_000, 1000), (2584, 1000), True),
        ((1024, 1024), (100, 1000), (100, 412), True),
        ((1024, 1024), (1000, 1000), (256, 256), True),
        ((1024, 1024), (100, 100), (100, 100), False),
    ],
)
def test_there_is_room_for_as_many_as_the_system_allows(
    limits: tuple[int, int], wanted: tuple[int, int], found: tuple[int, int], said: bool
) -> None:
    program = (
        "import resource; from indifast.web.capacity import Capacity, made_room; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, {limits}); room, lack = made_room(Capacity(*{wanted})); "
        "soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]; "
        "print(room.viewers, room.connections, lack is not None, soft >= room.descriptors)"
    )
    if limits[1] > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        limits = (limits[0], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        program = program.replace(str((1024, 1 << 20)), str(limits))
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == [*map(str, found), str(said), "True"]
