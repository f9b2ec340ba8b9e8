"""A stock nginx in front, with the configuration of the documentation: who needs a token, and what is fetched once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from indifast.cli.toolkit.address import Address
from indifast.web import shelf
from indifast.web.access import SHORTEST, Access
from indifast.web.bounds import LOCAL_FAILURES, UPLOAD
from indifast.web.endpoints import BYTES, ENDPOINTS, EVENTS, LIVE, SHARED
from indifast.web.hub import Hub
from indifast.web.rights import Role
from tests.support import commands
from tests.support.blackbox import until
from tests.web.eye import EYE
from tests.web.inside import running
from tests.web.nginx import CONFIGURATION, NAME, Front, nginx
from tests.web.support import API, Site, event, path, serving, site, token_file
from tests.web.test_web_urls import TOKEN, URL, newest, told, wait_for_camera

pytestmark = pytest.mark.xdist_group("web")


def tokens(folder: Path) -> Path:
    return token_file(folder, f"operator {'o' * SHORTEST}\n")


@pytest.fixture(scope="module")
def origin(server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application behind nginx."""
    folder = tmp_path_factory.mktemp("origin")
    words = ("--token-file", tokens(folder), "--web-public", NAME)
    with site(folder, f"localhost:{server}", *words) as running:
        wait_for_camera(running)
        yield running


@pytest.fixture(scope="module")
def front(origin: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with nginx(tmp_path_factory.mktemp("nginx"), origin.port) as running:
        yield running


# -- Who needs a token


def filled(target: str) -> str:
    """Return a path of something that exists."""
    names = {"device": "Eye", "property": "PICTURE", "member": "LEFT", "driver": "x", "digest": "x", "word": "x"}
    return target.format(**names)


def test_only_urls_of_frames_answer_without_a_token(front: Front, origin: Site) -> None:
    found = newest(front, **TOKEN)
    for there in (front, origin):  # wherever a request comes from
        for each in ENDPOINTS:
            body: Any = None if each.method == "GET" else b"x" if each.body == BYTES else {}
            kind = {"Content_Type": BYTES} if each.body == BYTES else {}
            status = there.ask(each.method, filled(each.path), body, **kind).status
            # What logs in and out refuses this body, and tells nothing.
            wanted = 404 if each.path.startswith(SHARED) else {"login": 400, "logout": 204}.get(each.handler, 401)
            assert status == wanted, each
        for target in (EVENTS, filled(LIVE)):
            with pytest.raises(InvalidStatus) as refused, there.socket(target):
                pass
            assert refused.value.response.status_code == 401
        for key in ("url", "preview"):
            assert there.ask("GET", found[key]).status == 200


def test_the_page_that_asks_for_the_token_says_nothing_of_devices(front: Front) -> None:
    for file in resources.files("indifast.web").joinpath("static").iterdir():
        target = {"index.html": "/", "wall.html": "/wall"}.get(file.name, f"/{file.name}")
        assert front.ask("GET", target).body == file.read_bytes()


@pytest.mark.parametrize(
    "target",
    [f"/frames/..{API}/devices", f"/frames/%2e%2e{API}/devices", f"/frames/x/..%2f..{API}/devices", f"/frames//{API}",
     f"//frames{API}/devices", f"/frames/{API}/devices", f"{API}/devices?/frames/", f"{API}/devices/../../../frames/x"],
)  # fmt: skip
def test_no_path_looks_like_the_url_of_a_frame(front: Front, target: str) -> None:
    answer = front.ask("GET", target)
    assert answer.status in (401, 404) and b"Eye" not in answer.body
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_works_behind_it(front: Front) -> None:
    own = {"Origin": f"https://{NAME}", "Sec_Fetch_Site": "same-origin"}
    answer = front.ask("POST", f"{API}/session", {"token": "o" * SHORTEST}, **own)
    assert answer.status == 200 and "Secure" in answer.headers["Set-Cookie"]
    login = own | {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    assert front.ask("GET", f"{API}/devices", **login).status == 200
    command = {"members": {"VALUE": 5}, "timeout": 60}
    assert front.ask("POST", path("Strange", "ANSWER"), command, **login).json("web_answer")["message"]
    with front.events(**login) as viewer:
        viewer.send(json.dumps({"subscribe": [{"device": "Strange", "property": "ANSWER"}]}))
        assert event(viewer, "property", property="ANSWER")
    with front.live(*EYE, **login) as frames:
        newest(front, **TOKEN)  # not the one that another test has left, which may be damaged
        frames.send('{"more": 1, "tell": true}')
        assert front.ask("GET", told(frames)["preview"]).status == 200
    for other in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert front.ask("GET", f"{API}/devices", **login | other).status == 403
        with pytest.raises(InvalidStatus) as refused, front.events(**login | other):
            pass
        assert refused.value.response.status_code in (400, 403)


def test_guesses_of_passwords_are_slowed_down(origin: Site, tmp_path: Path) -> None:
    with nginx(tmp_path, origin.port) as there:
        answers = [there.ask("POST", f"{API}/session", {"token": "x" * SHORTEST}).status for _ in range(30)]
        assert set(answers) == {401, 429}
        assert there.ask("GET", API, **TOKEN).status == 200


def test_nothing_is_stored_of_what_strangers_send(front: Front) -> None:
    """They are refused before their bodies have come."""
    blob = f"{path('Strange', 'STORE')}/blobs/FILE?format=.fits"
    head = {"Host": NAME, "Content-Type": BYTES, "Content-Length": str(UPLOAD)}
    with contextlib.closing(front.connection()) as connection:
        connection.request("PUT", blob, headers=head)
        with connection.getresponse() as response:
            assert response.status == 401
    answer = front.ask("PUT", f"{blob}&timeout=60", bytes(UPLOAD), Content_Type=BYTES, **TOKEN)
    assert f" {UPLOAD} .fits" in answer.json("web_answer")["message"]


def test_nobody_keeps_others_out_by_wrong_tokens(server: int, tmp_path: Path) -> None:
    """A token can be shown with any request, not only with logins, whose rate nginx limits."""
    wrong = {"Authorization": f"Bearer {'x' * SHORTEST}"}
    words = (f"localhost:{server}", "--token-file", tokens(tmp_path), "--web-public", NAME)
    with site(tmp_path, *words) as web, nginx(tmp_path, web.port) as there:
        with ThreadPoolExecutor(8) as threads:

            def guess(count: int) -> None:
                list(threads.map(lambda _: web.ask("GET", API, **wrong), range(count)))

            def refused() -> bool:
                guess(20)  # more than are forgiven meanwhile
                return there.ask("GET", API, **wrong).status == 429

            guess(LOCAL_FAILURES)
            until(refused, what="the end of what is forgiven")
        assert there.ask("GET", API, **TOKEN).status == 200


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "Via", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Anything", "X-Real-IP"],
)
@pytest.mark.parametrize("target", ["/", API, path(*EYE), "/frames/x/x", EVENTS])
def test_what_is_passed_on_is_refused_unless_that_was_permitted(web: Site, name: str, target: str) -> None:
    answer = web.ask("GET", target, **{name: "192.0.2.1"})
    assert answer.status == 403
    assert answer.json("web_failure")["error"]["message"] == (
        "a web server has passed this on: start this with --web-public HOSTNAME"
    )
    assert web.ask("POST", f"{API}/session", {}, **{name: "x"}).status == 403


def test_nginx_in_front_of_a_page_without_tokens_is_refused(web: Site, tmp_path: Path) -> None:
    url = newest(web)["url"]
    with nginx(tmp_path, web.port) as there:
        for target in ("/", f"{API}/devices", url):
            answer = there.ask("GET", target)
            assert answer.status == 403 and b"--web-public HOSTNAME" in answer.body
        with pytest.raises(InvalidStatus) as refused, there.events():
            pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("said", ["", "proxy_set_header Host localhost;"])
def test_nginx_that_says_nothing_of_passing_on_is_refused_too(web: Site, tmp_path: Path, said: str) -> None:
    """The shortest configuration that people write."""
    with nginx(tmp_path, web.port, f"proxy_pass http://127.0.0.1:{web.port}; {said}") as there:
        for target in ("/", f"{API}/devices"):
            answer = there.ask("GET", target)
            assert answer.status == 403 and b"Eye" not in answer.body
        command = {"members": {"VALUE": 5}, "timeout": 60}
        assert there.ask("POST", path("Strange", "ANSWER"), command).status == 403


def test_it_is_not_served_in_public_without_tokens_or_users() -> None:
    done = commands.run("web", "--listen", "0", "--web-public", NAME)
    assert done.returncode == 2
    assert f"others could use the devices by {NAME}: give --token-file FILE" in done.stderr
    done = commands.run("web", "--listen", "0", "--web-public", f"https://{NAME}/")
    assert done.returncode == 2 and "is not a name: --web-public takes one" in done.stderr


def test_the_server_serves_it_in_public_too(tmp_path: Path) -> None:
    words = ("--web-token-file", tokens(tmp_path), "--web-public", NAME)
    with serving(tmp_path, *words, "strange:make") as web, nginx(tmp_path, web.port) as there:
        wait_for_camera(there)
        assert there.ask("GET", API).status == web.ask("GET", API, Host=NAME).status == 401
        assert there.ask("GET", newest(there, **TOKEN)["preview"]).status == 200


# -- What is fetched once


FRAMES, VIEWERS = 10, 100


def test_a_thousand_fetches_of_viewers_cost_as_many_as_there_are_frames(front: Front) -> None:
    """Each viewer fetches each frame, all at the same time: half of the URLs are those of frames, half of pictures."""
    before = len(front.relay.fetched())
    urls = [newest(front, **TOKEN)[("url", "preview")[at % 2]] for at in range(FRAMES)]

    def view(_: int) -> list[bytes]:
        with contextlib.closing(front.connection()) as connection:
            seen = []
            for url in urls:
                connection.request("GET", url)
                with connection.getresponse() as response:
                    assert response.status == 200
                    seen.append(response.read())
            return seen

    with ThreadPoolExecutor(20) as threads:
        seen = list(threads.map(view, range(VIEWERS)))
    assert all(each == seen[0] for each in seen)
    fetched = front.relay.fetched()[before:]
    assert sorted(fetched) == sorted(urls), f"{len(fetched)} fetches"


def test_parts_and_heads_cost_no_more(front: Front) -> None:
    url = newest(front, **TOKEN)["url"]
    before = len(front.relay.fetched())
    part = front.ask("GET", url, Range="bytes=100-199")
    whole = front.ask("GET", url)
    assert (part.status, part.body) == (206, whole.body[100:200])
    again = front.ask("GET", url, If_None_Match=whole.headers["ETag"])
    assert (again.status, again.headers["Cache-Control"]) == (304, "public, immutable")
    assert front.ask("HEAD", url).status == 200
    assert len(front.relay.fetched()) == before + 1


def test_no_tokens_and_cookies_are_passed_on_with_what_is_kept(front: Front) -> None:
    url = newest(front, **TOKEN)["url"]
    assert front.ask("GET", url, Cookie="secret=1", Authorization="Bearer secret").status == 200
    heard = front.relay.heard
    request = heard[heard.index(f"GET {url} ".encode()) :].partition(b"\r\n\r\n")[0]
    assert b"secret" not in request
    assert b"X-Forwarded-For: 127.0.0.1" in request


@pytest.mark.parametrize("change", ["{}?x=1", "{}x", "/frames/x/{}"])
def test_what_is_no_url_is_not_kept(front: Front, change: str) -> None:
    url = change.format(newest(front, **TOKEN)["url"])
    before = len(front.relay.fetched())
    for _ in range(2):
        answer = front.ask("GET", url)
        assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")
    assert len(front.relay.fetched()) == before + 2


def test_what_has_lapsed_is_asked_for_once(server: int, tmp_path: Path) -> None:
    """What is not kept would be answered to one viewer after the other, each of whom waits half a second."""
    access = Access([("o" * SHORTEST, Role.OPERATOR)], public=NAME)

    def look(port: int) -> None:
        with nginx(tmp_path, port) as there:
            wait_for_camera(there)
            url = newest(there, **TOKEN)["url"]
            until(lambda: there.ask("GET", url).status == 410, what="the end of the URL")
            before = len(there.relay.fetched())
            with ThreadPoolExecutor(20) as threads:
                answers = list(threads.map(lambda _: there.ask("GET", url), range(20)))
            assert {(each.status, each.headers["Cache-Control"]) for each in answers} == {(410, "no-store")}
            assert len(there.relay.fetched()) - before <= 1

    async def see() -> None:
        hub: Any = Hub(Address("localhost", server))
        async with running(hub, shelf, access, URL_LIFE=2) as port:
            await asyncio.to_thread(look, port)

    asyncio.run(see())


def test_a_picture_that_cannot_be_made_is_asked_for_once(front: Front) -> None:
    command = {"members": {"FRAMES": 1, "DAMAGED": 1, "PLAIN": 0}, "timeout": 60}
    after = newest(front, **TOKEN)["frame"]["number"]
    assert front.ask("POST", path("Eye", "TAKE"), command, **TOKEN).status == 200
    url = front.ask("GET", f"{URL}?after={after}&wait=25", **TOKEN).json("web_url")["preview"]
    before = len(front.relay.fetched())
    for _ in range(3):
        answer = front.ask("GET", url)
        assert (answer.status, answer.headers["Cache-Control"]) == (415, "no-store")
    assert len(front.relay.fetched()) == before + 1


def test_nginx_makes_the_folder_of_the_configuration() -> None:
    folder = re.findall(r"^proxy_cache_path (\S+)", CONFIGURATION.read_text(), re.MULTILINE)[0]
    assert Path(folder).parent.is_dir(), "nginx makes only the last folder"


def test_nothing_is_kept_for_longer_than_its_url_is_good(server: int, tmp_path: Path) -> None:
    access = Access([("o" * SHORTEST, Role.OPERATOR)], public=NAME)

    def fetch(there: Front, url: str, end: datetime) -> bool:
        """Fetch it once, and check until when it may be kept. Returns whether it was there."""
        asked = time.time()
        answer = there.ask("GET", url)
        if answer.status == 410:
            assert answer.headers["Cache-Control"] == "no-store"
            assert time.time() > end.timestamp() - 0.1, "too early"
            return False
        assert answer.status == 200
        assert asked < end.timestamp(), "too late"
        assert "max-age" not in answer.headers["Cache-Control"]
        if answer.headers["Expires"] is None:
            assert answer.headers["Cache-Control"] == "no-store"
        else:
            fresh = parsedate_to_datetime(answer.headers["Expires"]) - parsedate_to_datetime(answer.headers["Date"])
            assert asked + fresh.total_seconds() <= end.timestamp() + 0.1, "a browser keeps it for too long"
        return True

    async def see() -> None:
        hub: Any = Hub(Address("localhost", server))
        async with running(hub, shelf, access, URL_LIFE=8) as port:

            def look_until_it_lapses(there: Front) -> bool:
                """Return whether this machine was fast enough to fetch it many times."""
                found, before = newest(there, **TOKEN), len(there.relay.fetched())
                times = 0
                while fetch(there, found["preview"], datetime.fromisoformat(found["until"])):
                    times += 1
                    time.sleep(0.05)
                fetched = len(there.relay.fetched()) - before
                assert times <= 10 or fetched < times / 2, "nginx keeps it while it may"
                assert there.ask("GET", URL, **TOKEN).json("web_url")["url"] != found["url"]
                return times > 10

            def look() -> None:
                with nginx(tmp_path, port) as there:
                    wait_for_camera(there)
                    until(lambda: look_until_it_lapses(there), what="many fetches")

            await asyncio.to_thread(look)

    asyncio.run(see())
