"""URLs of frames: told to those who may look, and good for the same bytes for whoever has them, until they lapse."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
from websockets.sync.client import ClientConnection

from indifast.cli.toolkit.address import Address
from indifast.client.frames import Frame
from indifast.picture import Stretch
from indifast.transport import shm
from indifast.web import api, shelf
from indifast.web.access import SHORTEST
from indifast.web.bounds import LIVE_AHEAD, MAPPED, URL_BYTES, URL_LIFE
from indifast.web.frames import Kept
from indifast.web.hub import Hub
from indifast.web.shelf import Lapsed, Shelf, UnknownURL
from indifast.web.views import WEBP, View, view_of
from tests.support.blackbox import until
from tests.support.jsonschema import valid
from tests.support.waiting import eventually
from tests.web.eye import EYE, number_of, take
from tests.web.inside import running
from tests.web.programs.strange import HEIGHT, WIDTH, fits
from tests.web.support import Answer, Site, path, site, token_file

pytestmark = pytest.mark.xdist_group("web")

URL = f"{path(*EYE)}/url"
TOKEN = {"Authorization": f"Bearer {'o' * SHORTEST}"}


def ask(socket: ClientConnection, more: int = 1, **view: Any) -> None:
    """Ask for URLs, perhaps in another view."""
    socket.send(json.dumps({"more": more, "tell": True} | ({"view": view} if view else {})))


def told(socket: ClientConnection) -> Any:
    """Return the next URLs."""
    found = valid("web_event", str(socket.recv(60)))
    assert found["event"] == "frame", found
    return found


def wait_for_camera(web: Site) -> None:
    until(lambda: web.ask("GET", path("Eye", "PICTURE"), **TOKEN).status == 200, what="the camera")


def newest(web: Site, **headers: str) -> Any:
    """Have the camera take a frame, and return its URLs."""
    before = web.ask("GET", URL, **headers)  # asks for frames
    after = before.json("web_url")["frame"]["number"] if before.status == 200 else 0
    command = {"members": {"FRAMES": 1, "DAMAGED": 0, "PLAIN": 0}, "timeout": 60}
    answer = web.ask("POST", path("Eye", "TAKE"), command, **headers)
    assert answer.status == 200, answer.body
    answer = web.ask("GET", f"{URL}?after={after}&wait=25", **headers)
    assert answer.status == 200, answer.body
    return answer.json("web_url")


@pytest.fixture
def viewer(web: Site) -> Iterator[ClientConnection]:
    """A viewer of the camera, which has taken a frame."""
    with web.live(*EYE) as socket:
        number_of(web, take(web, 1))
        yield socket


def test_one_who_asks_is_told_where_the_frame_and_its_picture_are(web: Site, viewer: ClientConnection) -> None:
    ask(viewer, size=160)
    first = told(viewer)
    assert (first["frame"]["device"], first["frame"]["property"], first["frame"]["member"]) == EYE
    content = web.ask("GET", first["url"])
    assert (content.status, content.headers["Content-Type"]) == (200, "application/octet-stream")
    assert len(content.body) == first["frame"]["size"]
    assert "Eye_LEFT_" in content.headers["Content-Disposition"] and first["url"].endswith(".fits")
    picture = web.ask("GET", first["preview"])
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/jpeg")
    assert PIL.Image.open(io.BytesIO(picture.body)).size == (WIDTH, HEIGHT)
    taken = take(web, 1)
    ask(viewer)
    second = told(viewer)
    assert second["frame"]["number"] == first["frame"]["number"] + 1
    assert web.ask("GET", second["url"]).body == fits(taken)
    assert web.ask("GET", first["url"]).body == content.body, "the same bytes for ever"
    assert web.ask("GET", first["preview"]).body == picture.body


def test_the_picture_is_as_its_viewer_wants_it(web: Site, viewer: ClientConnection) -> None:
    ask(viewer, region=[11, 5, 8, 6], stretch=[900, 1000, 1100], bayer="off", types=["image/webp"])
    answer = web.ask("GET", told(viewer)["preview"])
    picture = PIL.Image.open(io.BytesIO(answer.body))
    assert (answer.headers["Content-Type"], picture.format, picture.size) == ("image/webp", "WEBP", (8, 6))
    web.ask("GET", URL)
    wanted = f"{URL}?region=11,5,8,6&stretch=900,1000,1100&bayer=off"
    assert PIL.Image.open(io.BytesIO(web.ask("GET", web.get(wanted, "web_url")["preview"]).body)).size == (8, 6)


def test_all_who_want_the_same_are_told_the_same(web: Site, viewer: ClientConnection) -> None:
    with web.live(*EYE) as other:
        for each in (viewer, other):
            ask(each)
        first = told(viewer)
        assert told(other) == first
        answer = web.get(URL, "web_url")
        assert {key: first[key] for key in ("url", "preview", "until")} == {
            key: answer[key] for key in ("url", "preview", "until")
        }


def test_one_who_reads_slowly_misses_frames_and_is_told_of_the_newest(web: Site, viewer: ClientConnection) -> None:
    ask(viewer)
    first = told(viewer)["frame"]["number"]
    taken = take(web, 30)
    number_of(web, taken)
    ask(viewer)
    last = told(viewer)
    assert last["frame"]["number"] > first
    assert web.ask("GET", last["url"]).body == fits(taken)
    with pytest.raises(TimeoutError):
        viewer.recv(0.05)


def test_one_who_asks_for_much_is_not_owed_more_than_a_few(web: Site, viewer: ClientConnection) -> None:
    for _ in range(5):
        ask(viewer, LIVE_AHEAD)
    told(viewer)
    seen = 0
    for _ in range(3 * LIVE_AHEAD):
        take(web, 1)
        with contextlib.suppress(TimeoutError):
            viewer.recv(0.1)
            seen += 1
    assert LIVE_AHEAD - 1 <= seen <= LIVE_AHEAD, "the first may have been told before more was asked for"


def test_frames_and_urls_in_turns(web: Site, viewer: ClientConnection) -> None:
    ask(viewer)
    told(viewer)
    viewer.send('{"more": 1, "tell": false}')
    assert isinstance(viewer.recv(60), bytes), "the same frame, which was not sent yet"
    viewer.send('{"tell": 1}')
    assert valid("web_event", str(viewer.recv(60)))["error"]["code"] == "invalid"


def test_no_frame_yet(web: Site) -> None:
    number = newest(web)["frame"]["number"]
    assert web.ask("GET", f"{URL}?after={number}").status == 204
    assert web.ask("GET", f"{path('Eye', 'TAKE', 'FRAMES')}/url").status == 400
    assert web.ask("GET", f"{URL}?bayer=x").status == 400


def test_a_picture_that_cannot_be_made(web: Site, viewer: ClientConnection) -> None:
    ask(viewer)
    told(viewer)
    take(web, 1, damaged=True)
    ask(viewer)
    damaged = told(viewer)
    assert web.ask("GET", damaged["url"]).status == 200
    answer = web.ask("GET", damaged["preview"])
    assert (answer.status, answer.json("web_failure")["error"]["code"]) == (415, "unreadable")
    assert answer.headers["Cache-Control"] == "no-store"


# -- What caches and browsers are told


@pytest.mark.parametrize("key", ["url", "preview"])
def test_caches_may_keep_it_until_it_lapses(web: Site, key: str) -> None:
    found = newest(web)
    lapses = datetime.fromisoformat(found["until"])
    assert 0 < lapses.timestamp() - time.time() <= URL_LIFE
    answer = web.ask("GET", found[key])
    control = answer.headers["Cache-Control"].split(", ")
    assert (control[0], control[2]) == ("public", "immutable")
    seconds = int(control[1].removeprefix("max-age="))
    assert URL_LIFE / 2 - 10 < seconds < lapses.timestamp() - time.time() + 1
    assert parsedate_to_datetime(answer.headers["Expires"]) < lapses
    again = web.ask("GET", found[key], If_None_Match=f'"x", W/{answer.headers["ETag"]}')
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert again.headers["Cache-Control"].startswith("public, max-age=")
    assert web.ask("GET", found[key], If_None_Match='"x"').body == answer.body
    head = web.ask("HEAD", found[key])
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
    assert head.headers["ETag"] == answer.headers["ETag"]
    for header in ("Content-Security-Policy", "X-Content-Type-Options"):
        assert header in answer.headers


LENGTH = len(fits(1))


@pytest.mark.parametrize(
    ("range_", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-100", slice(LENGTH - 100, None)),
        (f"bytes=-{LENGTH + 5}", slice(0, None)),
        (f"bytes=5-{LENGTH + 5}", slice(5, None)),
        (f"bytes={LENGTH - 1}-", slice(LENGTH - 1, None)),
    ],
)
def test_a_part(web: Site, range_: str, part: slice) -> None:
    found = newest(web)
    whole = web.ask("GET", found["url"])
    answer = web.ask("GET", found["url"], Range=range_)
    first, last, _ = part.indices(LENGTH)
    assert (answer.status, answer.body) == (206, whole.body[part])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{LENGTH}"
    assert answer.headers["ETag"] == whole.headers["ETag"]
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert web.ask("GET", found["url"], Range=range_, If_Range=whole.headers["ETag"]).status == 206
    assert web.ask("GET", found["url"], Range=range_, If_Range='"other"').body == whole.body


@pytest.mark.parametrize("range_", ["bytes=", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=9-5", "bytes=x-",
                                    "bytes=" + "9" * 5000 + "-"])  # fmt: skip
def test_a_range_that_is_none_is_the_whole(web: Site, range_: str) -> None:
    answer = web.ask("GET", newest(web)["url"], Range=range_)
    assert (answer.status, len(answer.body)) == (200, LENGTH)


@pytest.mark.parametrize("range_", [f"bytes={LENGTH}-", "bytes=-0", "bytes=999999999999-"])
def test_a_part_that_is_not_there(web: Site, range_: str) -> None:
    answer = web.ask("GET", newest(web)["url"], Range=range_)
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{LENGTH}")
    assert answer.json("web_failure")["error"]["code"] == "range"


# -- Who may have it


@pytest.fixture(scope="module")
def guarded(server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application, for those who have a token."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = token_file(folder, f"operator {'o' * SHORTEST}\n")
    with site(folder, f"localhost:{server}", "--token-file", tokens) as running:
        yield running


def test_whoever_has_a_url_needs_no_token_and_nobody_else_gets_one(guarded: Site) -> None:
    wait_for_camera(guarded)
    refused = guarded.ask("GET", URL)
    assert (refused.status, refused.headers["Cross-Origin-Resource-Policy"]) == (401, "same-origin")
    found = newest(guarded, **TOKEN)
    for key in ("url", "preview"):
        assert guarded.ask("GET", found[key]).status == 200
        answer = guarded.ask("GET", found[key], Sec_Fetch_Site="cross-site")
        assert answer.status == 200, "a link, or the picture in a page"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert guarded.ask("GET", found[key], Host="evil.example").status == 403
        assert guarded.ask("GET", found[key], Origin="http://evil.example").status == 403
        assert guarded.ask("POST", found[key], {}).status == 403
        assert guarded.ask("POST", found[key], {}, **TOKEN).status == 405


def other(url: str) -> Iterator[str]:
    """Return URLs that differ from one in a character, or more."""
    for at in range(len("/frames/"), len(url)):
        if url[at] not in "./":
            yield f"{url[:at]}{'A' if url[at] != 'A' else 'B'}{url[at + 1 :]}"
    _, frames, digest, word = url.split("/")
    yield from (f"/{frames}/{digest}/", f"/{frames}//{word}", f"/{frames}/{digest}/{word}/", f"{url}x", f"{url}?x=1",
                f"/{frames}/%{ord(digest[0]):02x}{digest[1:]}/{word}", f"{url}%00", f"/{frames}/é/{word}",
                f"/{frames}/{digest}/é", f"/{frames}/{digest}", f"/{frames}/{word}/{digest}")  # fmt: skip


@pytest.mark.parametrize("key", ["url", "preview"])
def test_no_other_url_is_one(web: Site, key: str) -> None:
    url = newest(web)[key]
    assert web.ask("GET", url).status == 200
    for each in other(url):
        request = f"GET {each} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert web.raw(request.encode("latin-1")).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), each


# -- How long it is kept, in this process


@contextlib.asynccontextmanager
async def inside(server: int, module: Any, **bounds: Any) -> AsyncIterator[Any]:
    """The application with these bounds. Yields a function that calls another one of its site, in a thread."""
    async with running(Hub(Address("localhost", server)), module, **bounds) as port:
        nothing: Any = None
        there = Site(nothing, port)

        async def call(what: Any, *words: Any, **more: Any) -> Any:
            return await asyncio.to_thread(what, there, *words, **more)

        await call(wait_for_camera)
        yield call


def test_it_lapses_and_says_what_to_do(server: int) -> None:
    async def see() -> None:
        async with inside(server, shelf, URL_LIFE=4) as call:
            found = await call(newest)
            url, until = found["url"], datetime.fromisoformat(found["until"]).timestamp()
            left = until - time.time()
            answer: Answer = await call(Site.ask, "GET", url)
            while answer.status == 200:
                control = answer.headers["Cache-Control"]
                assert control == "no-store" or int(control.split("max-age=")[1].split(",")[0]) <= max(left, 0) + 0.2
                await asyncio.sleep(0.05)
                left = until - time.time()  # before the request: the answer may take its time
                answer = await call(Site.ask, "GET", url)
            assert datetime.fromisoformat(found["until"]) <= datetime.now(UTC)
            error = answer.json("web_failure")["error"]
            assert (answer.status, error["code"]) == (410, "lapsed")
            assert error["message"] == "this frame is not kept any more: ask for the newest one"
            assert answer.headers["Cache-Control"] == "no-store"
            again: Answer = await call(Site.ask, "GET", URL)
            assert again.json("web_url")["frame"] == found["frame"], "it is still the newest one"
            renewed = again.json("web_url")["url"]
            assert renewed != url
            while (await call(Site.ask, "GET", renewed)).status != 200:  # a slow machine asks too late again
                renewed = (await call(Site.ask, "GET", URL)).json("web_url")["url"]

    asyncio.run(see())


def test_a_picture_that_takes_long_to_make_is_kept_for_less(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Kept.picture
    ready: list[float] = []

    async def slowly(kept: Kept, view: View) -> Any:
        await asyncio.sleep(3.5)
        ready.append(time.time())
        return await made(kept, view)

    async def see() -> None:
        async with inside(server, shelf, URL_LIFE=6) as call:
            found = await call(newest)
            monkeypatch.setattr(Kept, "picture", slowly)
            answer: Answer = await call(Site.ask, "GET", found["preview"])
            seconds = int(answer.headers["Cache-Control"].partition("max-age=")[2].partition(",")[0] or 0)
            left = datetime.fromisoformat(found["until"]).timestamp() - ready[0]
            assert seconds <= max(left, 0), "the answer was written after that"

    asyncio.run(see())


def test_only_so_many_are_sent_at_once(server: int) -> None:
    async def see() -> None:
        async with inside(server, api, DOWNLOADS=0) as call:
            found = await call(newest)
            for target in (found["url"], path(*EYE)):
                assert (await call(Site.ask, "GET", target)).status == 503
                assert (await call(Site.ask, "HEAD", target)).status == 200
            assert (await call(Site.ask, "GET", found["preview"])).status == 200

    asyncio.run(see())


@contextlib.contextmanager
def shelved(**bounds: float) -> Iterator[tuple[Shelf, Any]]:
    """A shelf with these bounds, and a function that makes frames for it."""
    numbers = itertools.count(1)

    def make(size: int = 10_000, content: bytes | None = None) -> Kept:
        data = bytes(size) if content is None else content
        frame: Any = SimpleNamespace(
            data=memoryview(data), format=".fits", size=len(data), state="Ok", timestamp=datetime.now(UTC),
            devicename="D", vectorname="P", membername="M",
        )  # fmt: skip
        return Kept(frame, next(numbers), [], threads)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as threads:
        for name, value in bounds.items():
            patch.setattr(shelf, name, value)
        yield Shelf(), make


def gone(kept: Shelf, url: str) -> bool:
    digest, word = url.split("/")[-2:]
    try:
        kept.find(digest, word)
    except Lapsed:
        return True
    return False


def test_no_more_bytes_are_kept_than_the_bound() -> None:
    async def fill() -> None:
        with shelved(URL_BYTES=100_000) as (kept, make):
            urls = [kept.plain(make(), View())["url"] for _ in range(50)]
            left = [not gone(kept, url) for url in urls]
            assert left == sorted(left), "the oldest have gone"
            assert 4 < sum(left) <= 10
            large = kept.plain(make(1_000_000), View())["url"]
            assert not gone(kept, large), "the newest one is always kept"
            assert all(gone(kept, url) for url in urls)

    asyncio.run(fill())


def shared_frame(size: int) -> Kept:
    """A frame as a server of this machine shares it."""
    fd = shm.share(b"x" * size)
    try:
        content = shm.view(fd, size)
    finally:
        os.close(fd)
    event: Any = SimpleNamespace(
        devicename="D", vectorname="P", timestamp=datetime.now(UTC), vector=SimpleNamespace(state="Ok"),
        sizeformat={"M": (size, ".fits")}, data={"M": content},
    )  # fmt: skip
    nothing: Any = None
    return Kept(Frame(event, "M", []), 1, [], nothing)


def test_descriptors_do_not_run_out() -> None:
    """Frames that a server of this machine shares take one each."""

    async def fill() -> None:
        kept = Shelf()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            digest, word = kept.plain(shared_frame(10_000), View())["url"].split("/")[-2:]
            assert kept.find(digest, word).kept.frame.data == b"x" * 10_000
        assert len(os.listdir("/proc/self/fd")) - before < 50
        for _ in range(300):
            kept.plain(shared_frame(MAPPED), View())
        assert len(os.listdir("/proc/self/fd")) - before <= URL_BYTES // MAPPED + 50

    asyncio.run(fill())


def test_what_is_made_of_a_frame_counts() -> None:
    async def fill() -> None:
        with shelved(URL_BYTES=40_000) as (kept, make):
            first = kept.plain(make(), View())["url"]
            frame = make(content=fits(1))
            kept.plain(frame, View())
            assert not gone(kept, first)
            alone = frame.weight
            for at in range(30):
                await frame.picture(View(region=(at, 0, 30, 30), type=WEBP))
            assert frame.weight > alone + WIDTH * HEIGHT * 2
            kept.weigh(frame)
            while not gone(kept, first):
                await frame.picture(View(region=(at, at, 30, 20)))
                kept.weigh(frame)
                at += 1
            frame.replace()
            assert await frame.picture(View()), "of a frame that is not the newest one"
            pictures = frame.weight
            await frame.picture(View(size=160))
            assert frame.weight < pictures + WIDTH * HEIGHT * 2, "it is read again, and then not kept"

    asyncio.run(fill())


def test_nothing_is_kept_for_longer_than_the_bound() -> None:
    async def wait() -> None:
        with shelved(URL_LIFE=0.2) as (kept, make):
            for _ in range(3):
                kept.plain(make(), View())
                await asyncio.sleep(0.05)
            await eventually(lambda: not kept._places)
            assert not kept._of and kept._bytes == 0

    asyncio.run(wait())


def test_a_clock_that_is_set_makes_no_url_live_longer() -> None:
    async def see() -> None:
        with shelved(URL_LIFE=10) as (_, make):
            now = 1000.5
            kept = Shelf(lambda: now)
            url = kept.plain(make(), View())["url"]
            digest, word = url.split("/")[-2:]
            assert kept.find(digest, word).left <= 9.5
            now = 0.0
            assert kept.find(digest, word).left <= 10
            now = 1010.0
            assert gone(kept, url)

    asyncio.run(see())


def test_urls_of_another_run_are_unknown() -> None:
    async def see() -> None:
        with shelved() as (kept, make):
            digest, word = kept.plain(make(), View())["url"].split("/")[-2:]
            with pytest.raises(UnknownURL):
                Shelf().find(digest, word)

    asyncio.run(see())


def test_what_a_driver_calls_a_format_is_no_part_of_a_url() -> None:
    async def see() -> None:
        with shelved() as (kept, make):
            for form, end in (("fits", ".fits"), (".fits.fz", ".fits.fz"), ("/../x", ""), (".a?b", ""), ("", "")):
                frame = make()
                frame.frame.format = form
                url = kept.plain(frame, View())["url"]
                assert url.partition(".")[2] == end.removeprefix(".")
                assert not gone(kept, url)

    asyncio.run(see())


@pytest.mark.parametrize(
    "view",
    [View(), View(320), View(region=(0.5, 1.0, 20.0, 30.0)), View(stretch=Stretch(1.0, 2.5, 4.0)), View(bayer="off"),
     View(1920, (1.0, 2.0, 3.0, 4.0), Stretch(0.0, 0.0, 1.0), "GBRG", WEBP)],
)  # fmt: skip
def test_a_url_describes_the_whole_view(view: View) -> None:
    assert view_of(json.loads(json.dumps(view.wanted))) == view
