"""Users: who may see and command which device, logins that end, and what somebody without one can try."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus

from indifast.web import guard
from indifast.web import users as web_users
from indifast.web.access import Access, Session
from indifast.web.attempts import Attempts, TooManyAttempts
from indifast.web.bounds import (
    ADDRESS_FAILURES,
    BODY,
    CHECK_SHARE,
    CHECKS,
    FAILURE_KINDS,
    FAILURES_PER_SECOND,
    LOCAL_FAILURES,
    LOCAL_FAILURES_PER_SECOND,
    USER_FAILURES,
)
from indifast.web.rights import EVERYTHING, Rights, Role
from indifast.web.shares import Busy
from indifast.web.users import Password, SecretFileError, User, read_users
from tests.support import commands
from tests.support.blackbox import LIMIT, until
from tests.web.eye import EYE, number_of, take
from tests.web.inside import guarding
from tests.web.programs.strange import NASTY
from tests.web.support import API, Answer, Site, event, frame, path, secret_file, serving

pytestmark = pytest.mark.xdist_group("web")

CHEAP = (4, 8, 1)
"""The cost of passwords in tests."""


def write(folder: Path, text: str) -> Path:
    return secret_file(folder, "users.toml", text)


def table(name: str, rights: str) -> str:
    return f'[{name}]\npassword = "{Password.of(name * 2, CHEAP)}"\n{rights}\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Anna may do everything, Bert may look at one device, and Carol has one and may look at the other."""
    folder = tmp_path_factory.mktemp("users")
    nasty = json.dumps(NASTY)
    users = [
        table("anna", "operator = true"),
        table("bert", f"viewer = [{nasty}]"),
        table("carol", f'viewer = [{nasty}, "Absent"]\noperator = ["Strange"]'),
        table("dora", "viewer = true"),
        table("erik", "viewer = true"),
    ]
    with serving(folder, "--web-users", write(folder, "".join(users)), "strange:make") as running:
        yield running
        assert "annaanna" not in running.process.stderr


def log_in(site: Site, user: str, password: str | None = None, **headers: str) -> Answer:
    body = {"user": user, "password": user * 2 if password is None else password}
    return site.ask("POST", f"{API}/session", body, **headers)


def cookie(site: Site, user: str, **headers: str) -> str:
    answer = log_in(site, user, **headers)
    assert answer.status == 200, answer.body
    assert answer.json("web_site")["user"] == user
    return answer.headers["Set-Cookie"].partition(";")[0]


def failure(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json("web_failure")["error"]["message"]


COMMAND = {"members": {"VALUE": 1}}
ONE = path("Strange", "ANSWER")


def test_rights(shared: Site) -> None:
    wanted = {
        "anna": ("operator", None, {"Strange", NASTY, "Eye"}, 200, 200),
        "bert": ("viewer", [], {NASTY}, 404, 404),
        "carol": ("operator", ["Strange"], {"Strange", NASTY}, 200, 200),
        "dora": ("viewer", [], {"Strange", NASTY, "Eye"}, 200, 403),
    }
    for user, (role, operates, devices, seen, commanded) in wanted.items():
        session = cookie(shared, user)
        about = shared.ask("GET", API, Cookie=session).json("web_site")
        assert (about["user"], about["role"], about["operates"]) == (user, role, operates)
        assert about["device_count"] == len(devices)
        assert set(shared.ask("GET", f"{API}/devices", Cookie=session).json("devices")["devices"]) == devices
        said = shared.ask("GET", f"{API}/messages", Cookie=session).json("web_messages")
        assert set(said["devices"]) == devices
        assert shared.ask("GET", ONE, Cookie=session).status == seen
        assert shared.ask("POST", ONE, COMMAND, Cookie=session).status == commanded
        target = f"{path('Strange', 'STORE')}/blobs/FILE?format=.bin"
        sent = shared.ask("PUT", target, b"x", Cookie=session, Content_Type="application/octet-stream")
        assert sent.status == commanded


@pytest.mark.parametrize(
    "target",
    [path("Strange"), ONE, path("Strange", "ANSWER", "VALUE"), f"{path('Strange', 'ANSWER', 'VALUE')}/preview",
     f"{ONE}/curves", f"{path('Strange', 'ANSWER', 'VALUE')}/live",
     "/api/v1/devices/%53trange", "/api/v1/devices/Strange/anything/else"],
)  # fmt: skip
def test_a_device_that_must_not_be_seen_is_not_there(shared: Site, target: str) -> None:
    """What is answered is the same, word for word, as for a device that does not exist."""
    session = cookie(shared, "bert")
    for method, body in (("GET", None), ("POST", COMMAND)):
        answers = [shared.ask(method, each, body, Cookie=session)
                   for each in (target, target.replace("%53", "S").replace("Strange", "Nowhere"))]  # fmt: skip
        assert failure(answers[0]) == (404, "no device 'Strange' on this server")
        assert answers[0].body.replace(b"Strange", b"Nowhere") == answers[1].body


def test_names_are_not_told_by_suggestions(shared: Site) -> None:
    status, message = failure(shared.ask("GET", path("Absent"), Cookie=cookie(shared, "carol")))
    assert (status, "Strange" in message) == (404, True)
    answer = shared.ask("GET", path("Strang"), Cookie=cookie(shared, "bert"))
    assert b"Strange" not in answer.body and NASTY.encode() not in answer.body


def test_a_socket_tells_only_of_what_may_be_seen(shared: Site) -> None:
    anna = cookie(shared, "anna")
    with shared.events(Cookie=cookie(shared, "bert")) as viewer:
        wanted = [{}, {"device": "Strange"}, {"property": "ANSWER"}, {"device": "Strange", "property": "ANSWER"}]
        viewer.send(json.dumps({"subscribe": wanted}))
        notes = [event(viewer, "subscribed", **each)["note"] for each in wanted[1:]]
        assert notes[1] is None and all("no device 'Strange'" in notes[at] for at in (0, 2))
        for value in (5, 13):  # with a message, and with an alert
            shared.ask("POST", ONE, {"members": {"VALUE": value}}, Cookie=anna)
        viewer.send(json.dumps({"subscribe": [{"device": NASTY}]}))
        told: list[Any] = []
        while not told or told[-1]["event"] != "subscribed":
            told.append(json.loads(viewer.recv(LIMIT)))
        assert {each["device"] for each in told} <= {NASTY, None}
        assert all(each["event"] in ("property", "subscribed") for each in told)


def test_live_frames_and_curves_are_for_those_who_may_see_the_device(shared: Site) -> None:
    anna, bert = cookie(shared, "anna"), cookie(shared, "bert")
    shared.ask("POST", path("Eye", "TAKE"), {"members": {"FRAMES": 1, "DAMAGED": 0}}, Cookie=anna)
    with shared.live(*EYE, Cookie=cookie(shared, "dora")) as viewer:
        shared.ask("POST", path("Eye", "TAKE"), {"members": {"FRAMES": 1, "DAMAGED": 0}}, Cookie=anna)
        viewer.send('{"more": 1}')
        assert frame(viewer)[0]["frame"]["device"] == "Eye"
    for device, headers, status in (("Eye", {"Cookie": bert}, 404), ("Nowhere", {"Cookie": bert}, 404),
                                    ("Eye", {}, 401)):  # fmt: skip
        with pytest.raises(InvalidStatus) as refused, shared.live(device, *EYE[1:], **headers):
            pass
        assert refused.value.response.status_code == status
    assert shared.ask("GET", f"{ONE}/curves", Cookie=anna).json("web_curves")["property"] == "ANSWER"
    assert shared.ask("GET", f"{ONE}/curves").status == 401


def test_the_wall_says_nothing_to_those_who_are_not_logged_in(shared: Site) -> None:
    answer = shared.ask("GET", "/wall")
    assert answer.status == 200
    assert not any(name in answer.body for name in (b"Strange", b"Eye", NASTY.encode()))


# -- Logins


def test_who_is_not_logged_in_learns_nothing(shared: Site) -> None:
    for headers in ({}, {"Cookie": f"indifast-{shared.port}=x"}, {"Authorization": "Bearer annaanna"},
                    {"Authorization": "Basic YW5uYTphbm5hYW5uYQ=="}):  # fmt: skip
        assert shared.ask("GET", f"{API}/devices", **headers).status == 401
        assert shared.ask("POST", ONE, COMMAND, **headers).status == 401
        with pytest.raises(InvalidStatus), shared.events(**headers):
            pass


@pytest.mark.parametrize(
    "body",
    [{}, {"user": "anna"}, {"user": "anna", "password": 1}, {"user": ["anna"], "password": "annaanna"},
     {"user": "anna", "password": "annaanna", "token": "x"}, {"user": "anna", "password": None}, ["anna", "annaanna"]],
)  # fmt: skip
def test_wrong_types_are_no_login(shared: Site, body: Any) -> None:
    answer = shared.ask("POST", f"{API}/session", body)
    assert (answer.status, answer.headers["Set-Cookie"]) == (400, None)


def test_a_login_ends_with_its_sockets(shared: Site) -> None:
    session, other = cookie(shared, "anna"), cookie(shared, "anna")
    with (
        shared.events(Cookie=session) as viewer,
        shared.live(*EYE, Cookie=session) as frames,
        shared.events(Cookie=other) as stays,
    ):
        event(viewer, "link")
        event(stays, "link")
        assert shared.ask("DELETE", f"{API}/session", {}, Cookie=session).status == 204
        for socket in (viewer, frames):
            with pytest.raises(ConnectionClosed):
                socket.recv(LIMIT)
            assert (socket.close_code, socket.close_reason) == (4401, "the login has ended")
        assert shared.ask("GET", API, Cookie=session).status == 401
        stays.send('{"subscribe": [{"device": "Strange", "property": "ANSWER"}]}')
        event(stays, "property")


def test_a_request_that_waits_ends_with_its_login(shared: Site) -> None:
    anna, session = cookie(shared, "anna"), cookie(shared, "dora")
    number = newest(shared, anna)
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(shared.asking("GET", f"{path(*EYE)}{kind}?after={number}&wait=25", Cookie=session))
            for kind in ("", "/info")
        ]
        assert shared.ask("DELETE", f"{API}/session", {}, Cookie=session).status == 204
        take(shared, 1, Cookie=anna)
        for answer in waiting:
            assert failure(answer()) == (401, "the login has ended")


@pytest.mark.parametrize("finishes", [True, False])
def test_an_answer_under_way_may_be_finished_after_its_login(finishes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it consists of was there before. If that takes too long, the connection ends before all of it has come."""
    monkeypatch.setattr(guard, "ANSWER_TIME", LIMIT if finishes else 0.1)
    token = "o" * 16
    access = Access([(token, Role.OPERATOR)])

    async def read() -> bytes:
        rest = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
            await rest.wait()
            await send({"type": "http.response.body", "body": b"cd"})

        async with guarding(app, access) as port:
            session = access.login(token, "127.0.0.1")
            assert session is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {API}/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: indifast={session}\r\n\r\n"
            writer.write(head.encode())
            async with asyncio.timeout(LIMIT):
                await reader.readuntil(b"\r\n\r\nab")
                access.logout(session)
                if finishes:
                    rest.set()
                content = await reader.read()
            writer.close()
            return content

    assert asyncio.run(read()) == (b"cd" if finishes else b"")


def newest(site: Site, session: str) -> int:
    """Take a frame, and return its number."""
    site.ask("GET", path(*EYE), Cookie=session)  # asks for frames
    return number_of(site, take(site, 1, Cookie=session), Cookie=session)


def test_nobody_chooses_the_name_of_a_login(shared: Site) -> None:
    """Somebody who has given a browser a cookie must not be logged in when its user is."""
    name = f"indifast-{shared.port}"
    made = cookie(shared, "bert", Cookie=f"{name}=chosen")
    assert made != f"{name}=chosen"
    assert shared.ask("GET", API, Cookie=f"{name}=chosen").status == 401
    known = cookie(shared, "bert")  # of the one who gives it to the browser of another
    cookie(shared, "carol", Cookie=known)
    assert shared.ask("GET", API, Cookie=known).status == 401, "it is void, and not Carol's"


def test_wrong_passwords_are_limited(shared: Site) -> None:
    """For one user, whom no other test needs."""
    unknown = failure(log_in(shared, "nobody"))
    for _ in range(USER_FAILURES):
        assert failure(log_in(shared, "erik", "wrong")) == unknown == (401, "the name or password is wrong")
    # On a slow machine, one of them is forgiven by now.
    until(lambda: log_in(shared, "erik", "wrong").status == 429, what="the end of what is forgiven")
    answer = log_in(shared, "erik")
    status, message = failure(answer)
    assert (status, message.startswith("too many wrong logins: try again in ")) == (429, True)
    assert 0 < int(answer.headers["Retry-After"]) <= 1 / FAILURES_PER_SECOND
    cookie(shared, "anna")


# -- In this process


def test_failures_are_counted_by_address_and_user_and_forgiven() -> None:
    attempts = Attempts()
    for _ in range(USER_FAILURES):
        attempts.check("192.0.2.1", "anna", 0)
        attempts.failed("192.0.2.1", "anna", 0)
    for address in ("192.0.2.2", "2001:db8::1", ""):
        attempts.check(address, "anna", 0)
    attempts.check("192.0.2.1", "bert", 0)
    with pytest.raises(TooManyAttempts) as refused:
        attempts.check("192.0.2.1", "anna", 0)
    attempts.check("192.0.2.1", "anna", refused.value.seconds + 0.01)
    for number in range(ADDRESS_FAILURES):
        attempts.failed(f"2001:db8::{number:x}", f"user {number}", 0)
    with pytest.raises(TooManyAttempts):
        attempts.check("2001:db8::ffff", "carol", 0)
    attempts.check("2001:db8:0:1::", "carol", 0)


def test_what_is_counted_is_limited() -> None:
    attempts = Attempts()
    for number in range(FAILURE_KINDS):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "x" * 60_000, 0)
    assert len(attempts._failures) == FAILURE_KINDS
    assert all(len(key) == 16 for key in attempts._failures)
    for number in range(FAILURE_KINDS):
        attempts.failed("192.0.2.1", "anna", 1e6 + number)
    assert len(attempts._failures) <= 2, "the others are forgiven"


def test_on_this_machine_nobody_locks_out_others() -> None:
    """Whoever comes through a web server of this machine has its address, too."""
    attempts = Attempts()
    attempts.succeeded("127.0.0.1", "anna")
    for number in range(LOCAL_FAILURES - 1):
        attempts.failed("127.0.0.1", f"invented {number}", 0)
    for _ in range(LOCAL_FAILURES + 1):
        attempts.failed("127.0.0.1", "", 0)
    for user in ("anna", "bert"):
        attempts.check("127.0.0.1", user, 0)
    with pytest.raises(TooManyAttempts):
        attempts.check("127.0.0.1", "", 0)
    attempts.failed("::1", "another", 0)
    attempts.check("127.0.0.1", "anna", 0)
    for address in ("127.0.0.1", "::1", "127.0.0.1", "::1", "127.0.0.1"):
        attempts.check(address, "anna", 0)
        attempts.failed(address, "anna", 0)
    with pytest.raises(TooManyAttempts):
        attempts.check("127.0.0.1", "anna", 0)


def test_on_this_machine_all_that_is_wrong_is_limited_together() -> None:
    """Nobody tries one name after the other, or tokens, for ever."""
    attempts = Attempts()
    attempts.succeeded("192.0.2.1", "bert")
    for number in range(LOCAL_FAILURES):
        attempts.check("127.0.0.1", f"invented {number}", 0)
        attempts.failed("127.0.0.1", f"invented {number}", 0)
    attempts.check("127.0.0.1", "", 0)
    for _ in range(LOCAL_FAILURES):
        attempts.failed("127.0.0.1", "", 0)
    for user in ("", "new", "bert"):
        with pytest.raises(TooManyAttempts) as refused:
            attempts.check("127.0.0.1", user, 0)
        assert refused.value.seconds == pytest.approx(1 / LOCAL_FAILURES_PER_SECOND)
        attempts.check("127.0.0.1", user, refused.value.seconds + 0.01)
    attempts.check("192.0.2.1", "anna", 0)


def test_wrong_tokens_in_requests_are_limited() -> None:
    access = Access([("o" * 16, Role.OPERATOR)], clock=lambda: 0.0)
    for _ in range(USER_FAILURES):
        assert access.of_bearer("wrong", "192.0.2.1") is None
    for ask in (access.of_bearer, access.login):
        with pytest.raises(TooManyAttempts):
            ask("o" * 16, "192.0.2.1")
        assert ask("o" * 16, "192.0.2.2")
    for _ in range(LOCAL_FAILURES):
        assert access.of_bearer("wrong", "127.0.0.1") is None
    for ask in (access.of_bearer, access.login):
        with pytest.raises(TooManyAttempts):
            ask("wrong", "127.0.0.1")
        assert ask("o" * 16, "127.0.0.1"), "whoever asks through the same web server"


def test_what_is_no_name_is_not_logged(shared: Site) -> None:
    assert failure(log_in(shared, "my-secret", "anna"))[0] == 401
    assert failure(log_in(shared, "dora", "wrong"))[0] == 401
    until(lambda: "the user 'dora' from 127.0.0.1 was refused" in shared.process.stderr, what="the log")
    assert "an unknown user from 127.0.0.1 was refused" in shared.process.stderr
    assert "my-secret" not in shared.process.stderr
    assert failure(log_in(shared, "x" * 201)) == (400, "a name may have 200 characters")


def test_a_body_that_is_too_long_is_refused_as_such(shared: Site) -> None:
    anna, body = cookie(shared, "anna"), b"x" * (BODY + 1)
    number = newest(shared, anna)
    answer = shared.ask("GET", f"{path(*EYE)}/preview?after={number}&wait=25", body, Cookie=anna)
    assert (answer.status, answer.json("web_failure")["error"]["code"]) == (413, "large")


def test_passwords_that_wait_to_be_checked_are_limited() -> None:
    everybody = [User(name, Password.of("right", CHEAP), EVERYTHING) for name in ("anna", "bert")]

    async def many(*tries: tuple[str, str]) -> list[type]:
        access = Access(users=everybody)
        logins = [access.login_user(user, "right", address) for user, address in tries]
        return [type(each) for each in await asyncio.gather(*logins, return_exceptions=True)]

    results = asyncio.run(many(*(("anna", f"192.0.2.{number}") for number in range(CHECKS + 2))))
    assert results == [*[str] * CHECKS, *[Busy] * 2]
    results = asyncio.run(many(*[("anna", "192.0.2.1")] * (CHECK_SHARE + 1), ("anna", "192.0.2.2")))
    assert results == [*[str] * CHECK_SHARE, Busy, str], "from one address"
    results = asyncio.run(many(*[("anna", "127.0.0.1")] * (CHECK_SHARE + 1), ("bert", "127.0.0.1")))
    assert results == [*[str] * CHECK_SHARE, Busy, str], "for one user from this machine"


def test_how_long_a_login_takes_does_not_tell_whether_there_is_such_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is derived from a password takes the time; for unknown names it costs as much as for some user."""
    costs: list[tuple[int, int, int]] = []
    derived = web_users._derived

    def noting(password: str, cost: tuple[int, int, int], salt: bytes, length: int) -> bytes:
        costs.append(cost)
        return derived(password, cost, salt, length)

    monkeypatch.setattr(web_users, "_derived", noting)
    cheap, dear = (5, 8, 1), (6, 8, 1)
    everybody = [
        User("anna", Password.of("right", cheap), EVERYTHING),
        User("bert", Password.of("x", dear), EVERYTHING),
    ]
    costs.clear()

    async def ask(access: Access, *names: str) -> None:
        for number, name in enumerate(names):
            assert await access.login_user(name, "wrong", f"192.0.2.{number}") is None

    names = [f"name {number}" for number in range(40)]
    asyncio.run(ask(Access(users=everybody), "anna", "bert", *names, *names))
    assert costs[:2] == [cheap, dear]
    assert set(costs[2:42]) == {cheap, dear}, "as that of one user or the other"
    assert costs[2:42] == costs[42:], "and for one name always the same"
    asyncio.run(ask(Access([("o" * 16, Role.OPERATOR)]), "anna"))
    assert costs[-1] == Password.unknown().cost


def test_a_session_ends_by_itself() -> None:
    async def wait() -> None:
        loop = asyncio.get_running_loop()
        session = Session(EVERYTHING, None, loop.time() + 0.05, loop.time)
        async with asyncio.timeout(LIMIT):
            await session.ended()
        assert not session.active

    asyncio.run(wait())


def test_a_file_with_users(tmp_path: Path) -> None:
    made = Password.of("secret")
    text = (f'[anna]\npassword = "{made}"\noperator = true\n[bert]\npassword = "{made}"\nviewer = true\n'
            f'["c d"]\npassword = "{made}"\nviewer = ["A"]\noperator = ["B"]\n'
            f'[dora]\npassword = "{made}"\nviewer = true\noperator = ["B"]\n')  # fmt: skip
    users = {user.name: user.rights for user in read_users(write(tmp_path, text))}
    assert users == {
        "anna": EVERYTHING,
        "bert": Rights(None, frozenset()),
        "c d": Rights(frozenset("AB"), frozenset("B")),
        "dora": Rights(None, frozenset("B")),
    }
    assert made.is_of("secret") and not made.is_of("secret ")
    assert Password.parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no users: write a table for each"),
        ("[anna", "Expected"),
        ("anna = 1", "anna is not a table"),
        ("[anna]\noperator = true", "`password` must be what `indifast web --hash-password` has printed"),
        ('[anna]\npassword = "secret"\noperator = true', "`password` must be what"),
        (
            '[anna]\npassword = "scrypt:40:8:1:QUFB:QUFBQUFBQUFBQUFBQUFBQUFB"\noperator = true',
            "`password` must be what",
        ),
        ('[anna]\npassword = "scrypt:4:8:1:QUFB:QUFBQUFB"\noperator = true', "`password` must be what"),
        ('[anna]\npassword = "PASSWORD"', "write `viewer` or `operator`"),
        ('[anna]\npassword = "PASSWORD"\nviewer = false', "write `viewer` or `operator`"),
        ('[anna]\npassword = "PASSWORD"\nviewer = [1]', "`viewer` must be true, or a list"),
        ('[anna]\npassword = "PASSWORD"\nadmin = true', "unknown key admin"),
    ],
)
def test_a_wrong_file_with_users(tmp_path: Path, text: str, said: str) -> None:
    password = str(Password.of("secret", CHEAP))
    with pytest.raises(SecretFileError) as refused:
        read_users(write(tmp_path, text.replace("PASSWORD", password)))
    assert said in str(refused.value)
    assert password not in str(refused.value) and "secret" not in str(refused.value)


def test_a_file_with_users_that_others_may_read(tmp_path: Path) -> None:
    file = write(tmp_path, table("anna", "operator = true"))
    file.chmod(0o640)
    with pytest.raises(SecretFileError, match="chmod 600"):
        read_users(file)


def test_a_file_with_users_is_a_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, table("anna", "operator = true"))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SecretFileError, match="is not a file"):
        read_users(tmp_path / "fifo")
    for words in (
        ["web", "--listen", "0", "--users"],
        ["serve", "-p", "0", "--no-abstract", "--web", "0", "--web-users"],
    ):
        done = commands.run(*words, tmp_path / "fifo", *(["cat"] if words[0] == "serve" else []))
        assert done.returncode and "is not a file" in done.stderr
    if os.getuid() == 0:
        os.chown(file, 1234, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(SecretFileError, match="belongs to somebody else"):
        read_users(file)


def test_a_file_with_users_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="too long"):
        read_users(write(tmp_path, table("anna", "operator = true") + "#" * (1 << 20)))
    with pytest.raises(SecretFileError, match="may have 200 characters"):
        read_users(write(tmp_path, table("a" * 201, "operator = true")))


@pytest.mark.parametrize("cost", ["14:8:1000", "16:1:1", "1:1:99999999", "20:1:17", "-1:8:1", "14:8:-1"])
def test_a_password_that_takes_too_long(cost: str) -> None:
    with pytest.raises(ValueError):
        Password.parse(f"scrypt:{cost}:QUFB:QUFBQUFBQUFBQUFBQUFBQUFB")


@pytest.mark.parametrize("cost", ["15:1:1", "1:1:1000000", "1:65536:1", "4:8:100", "17:8:10"])
def test_a_password_at_the_bounds_can_be_checked(cost: str) -> None:
    assert not Password.parse(f"scrypt:{cost}:QUFB:QUFBQUFBQUFBQUFBQUFBQUFB").is_of("x")


def test_a_password_is_hashed_by_the_command() -> None:
    done = commands.run("web", "--hash-password", text="correct horse\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert Password.parse(done.stdout.strip()).is_of("correct horse")
    assert "a password is needed" in commands.run("web", "--hash-password", text="\n").stderr
