"""Live frames over the WebSocket: the newest one, at the pace of each viewer, as each wants to see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from indifast.web.bounds import LIVE_AHEAD, PICTURES
from indifast.web.frames import Kept
from indifast.web.views import View
from tests.support.jsonschema import valid
from tests.web.eye import EYE, number_of, take
from tests.web.programs.strange import HEIGHT, WIDTH, fits
from tests.web.support import Site, frame, path, site

pytestmark = pytest.mark.xdist_group("web")


def ask(socket: ClientConnection, more: int = 1, **view: Any) -> None:
    """Ask for frames, perhaps in another view."""
    socket.send(json.dumps({"more": more} | ({"view": view} if view else {})))


@pytest.fixture
def eye(web: Site) -> Iterator[ClientConnection]:
    """A viewer of the camera, which has taken a frame."""
    with web.live(*EYE) as socket:
        number_of(web, take(web, 1))
        yield socket


def test_a_frame_is_sent_for_each_that_was_asked_for(web: Site, eye: ClientConnection) -> None:
    ask(eye)
    about, picture = frame(eye)
    assert (about["frame"]["device"], about["frame"]["property"], about["frame"]["member"]) == EYE
    assert (about["picture"]["width"], about["picture"]["height"]) == (WIDTH, HEIGHT)
    assert (picture.format, picture.size, picture.mode) == ("JPEG", (WIDTH, HEIGHT), "RGB")
    assert about["picture"]["bayer"] == "RGGB"
    assert sum(about["picture"]["histogram"]["counts"]) == WIDTH * HEIGHT
    number = about["frame"]["number"]
    for later in (1, 2):
        ask(eye)
        with pytest.raises(TimeoutError):
            eye.recv(0.05)  # the same frame is not sent again
        take(web, 1)
        assert frame(eye)[0]["frame"]["number"] == number + later


def test_one_who_asks_late_is_sent_the_newest_and_delays_nobody(web: Site, eye: ClientConnection) -> None:
    with web.live(*EYE) as fast:
        ask(fast, LIVE_AHEAD)
        seen = [frame(fast)[0]["frame"]["number"]]
        number = number_of(web, take(web, 30))
        while seen[-1] < number:
            seen.append(frame(fast)[0]["frame"]["number"])
            ask(fast)
        assert seen == sorted(set(seen))
        ask(eye)
        assert frame(eye)[0]["frame"]["number"] == number


def test_another_view_shows_the_same_frame_at_once(eye: ClientConnection) -> None:
    ask(eye)
    first = frame(eye)[0]
    ask(eye, region=[11, 5, 8, 6], stretch=[900, 1000, 1100], bayer="off", types=["image/webp"])
    about, picture = frame(eye)
    assert about["frame"]["number"] == first["frame"]["number"]
    shown = about["picture"]
    assert (shown["region"], shown["stretch"], shown["automatic"], shown["bayer"]) == (
        [11, 5, 8, 6], [900, 1000, 1100], False, None)  # fmt: skip
    assert (picture.format, picture.size) == ("WEBP", (8, 6))
    ask(eye, size=320)
    assert frame(eye)[0]["picture"]["automatic"] is True


def test_the_mosaic_is_that_of_the_camera_if_the_frame_says_nothing(web: Site, eye: ClientConnection) -> None:
    ask(eye)
    assert frame(eye)[0]["picture"]["bayer"] == "RGGB"
    take(web, 1, plain=True)
    ask(eye)
    about, picture = frame(eye)
    assert (about["picture"]["bayer"], picture.mode) == ("BGGR", "RGB")
    take(web, 1)  # what others see first is a frame like all others
    ask(eye)
    assert frame(eye)[0]["picture"]["bayer"] == "RGGB"


def test_a_frame_that_cannot_be_read_is_said_and_the_next_one_shown(web: Site, eye: ClientConnection) -> None:
    ask(eye)
    frame(eye)
    take(web, 1, damaged=True)
    ask(eye)
    failure = valid("web_event", str(eye.recv(60)))
    assert failure["error"]["code"] == "unreadable"
    ask(eye)
    take(web, 1)
    frame(eye)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"x": 1}', '{"more": -1}', '{"more": 1e9}', '{"more": true}', '{"view": 1}',
     *(json.dumps({"view": view}) for view in (
         {"x": 1}, {"size": "1"}, {"size": -1}, {"region": [0, 0, 1]}, {"region": [0, 0, 0, 5]},
         {"region": [-1, 0, 5, 5]}, {"region": ["0", 0, 5, 5]}, {"stretch": [1, 2]}, {"stretch": [3, 2, 1]},
         {"stretch": [1, 1, 1]},
         {"bayer": "RGB"}, {"bayer": ["RGGB"]}, {"types": []}, {"types": ["image/gif"]}, {"types": 1})),
     '{"view": {"stretch": [0, 1, NaN]}}', '{"view": {"size": NaN}}'],
)  # fmt: skip
def test_a_request_that_is_none(eye: ClientConnection, text: str) -> None:
    eye.send(text)
    assert valid("web_event", str(eye.recv(60)))["error"]["code"] == "invalid"
    ask(eye)
    frame(eye)


@pytest.mark.parametrize(
    ("names", "status"),
    [(("Nobody", "PICTURE", "LEFT"), 404), (("Eye", "PICTURES", "LEFT"), 404), (("Eye", "PICTURE", "RIGHT"), 404),
     (("Eye", "TAKE", "FRAMES"), 400)],
)  # fmt: skip
def test_what_has_no_frames(web: Site, names: tuple[str, str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused, web.live(*names):
        pass
    assert refused.value.response.status_code == status
    assert valid("web_failure", refused.value.response.body.decode())["error"]["message"]


def test_other_pages_see_no_frames(web: Site) -> None:
    with pytest.raises(InvalidStatus) as refused, web.live(*EYE, Origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403


def test_viewers_are_limited(server: int, tmp_path: Path) -> None:
    with site(tmp_path, f"localhost:{server}", "--viewers", 10) as web, contextlib.ExitStack() as stack:
        web.wait_for(*EYE[:2])
        for _ in range(10):
            stack.enter_context(web.live(*EYE))
        with pytest.raises(InvalidStatus) as refused, web.live(*EYE):
            pass
        assert refused.value.response.status_code == 503
        assert web.ask("GET", path("Eye")).status == 200


def test_a_picture_is_made_once_and_few_are_kept() -> None:
    content = fits(1)
    given: Any = SimpleNamespace(
        data=memoryview(content), format=".fits", size=len(content), state="Ok", timestamp=datetime.now(UTC),
        devicename="D", vectorname="P", membername="M",
    )  # fmt: skip

    async def look() -> None:
        with ThreadPoolExecutor(2) as threads:
            kept = Kept(given, 1, [], threads)
            pictures = await asyncio.gather(*(kept.picture(View()) for _ in range(10)))
            assert all(each is pictures[0] for each in pictures)
            for at in range(2 * PICTURES):
                await kept.picture(View(region=(at % WIDTH, at // WIDTH, 4, 4)))
            assert len(kept._made) <= PICTURES
            assert await kept.picture(View()) is not pictures[0]

    asyncio.run(look())
