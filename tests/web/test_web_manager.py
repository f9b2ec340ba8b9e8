"""`indifast serve --web-manager`: the routes of INDI Web Manager. What they answer is what version 1.2.0 of it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus

from indifast.web.bounds import BODY
from tests.serve.support import TOY
from tests.support import commands
from tests.support.blackbox import until
from tests.support.programs import python_program
from tests.web.support import API, Site, serving, token_file

pytestmark = pytest.mark.xdist_group("web")

CONNECTED = TOY.replace(
    "defTextVector device='{device}' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText>",
    "defSwitchVector device='{device}' name='CONNECTION' state='Ok' perm='rw' rule='OneOfMany'>"
    "<defSwitch name='CONNECT'>On</defSwitch><defSwitch name='DISCONNECT'>Off</defSwitch>",
).replace("</defTextVector>", "</defSwitchVector>")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("managed")
    toy = python_program(folder / "toy", CONNECTED)
    listed = folder / "drivers.toml"
    listed.write_text(f"[[drivers]]\nname = 'The toy'\nprogram = '{toy}'\n[[drivers]]\nprogram = '/nonexistent'\n")
    listed.chmod(0o644)
    tokens = token_file(folder, f"operator {'o' * 16}\n")
    words = ("--web-token-file", tokens, "--web-name", "dome.example", "--web-drivers", listed, "--web-manager", "0")
    with serving(folder, *words) as running:
        yield running


@pytest.fixture(scope="module")
def managed(whole: Site) -> Site:
    return whole.manager


def get(site: Site, target: str) -> Any:
    answer = site.ask("GET", target)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def post(site: Site, target: str, **headers: str) -> tuple[int, Any]:
    answer = site.ask("POST", target, **headers)
    return answer.status, json.loads(answer.body)


def status(site: Site) -> Any:
    return get(site, "/api/server/status")


def test_a_path_without_an_answer_is_told_where_there_is_one(managed: Site) -> None:
    answer = managed.ask("GET", "/api/nonsense")
    assert answer.status == 404
    text = json.loads(answer.body)["error"]["message"]
    assert (
        text == "there is nothing here; this port answers requests of INDI Web Manager only, such as /api/server/status"
    )
    assert managed.ask("GET", "/api/server/status").status == 200


def test_drivers_are_started_and_stopped(managed: Site) -> None:
    off, on = ({"status": "False", "active_profile": ""}, {"status": "True", "active_profile": "indifast"})
    assert status(managed) == [off]
    assert post(managed, "/api/drivers/start/The%20toy") == (200, {"message": "Driver The toy started"})
    assert status(managed) == [on]
    until(lambda: get(managed, "/api/devices") == [{"device": "Toy", "connected": True}], what="its device")
    (running,) = get(managed, "/api/server/drivers")
    assert set(running) == {
        "name",
        "label",
        "skeleton",
        "version",
        "binary",
        "family",
        "mdpd",
        "custom",
        "rule",
        "role",
    }
    assert (running["label"], Path(running["binary"]).name) == ("The toy", "toy")
    assert post(managed, "/api/drivers/restart/The%20toy") == (200, {"message": "Driver The toy restarted"})
    assert post(managed, "/api/drivers/stop/The%20toy") == (200, {"message": "Driver The toy stopped"})
    assert (status(managed), get(managed, "/api/server/drivers")) == ([off], [])
    for _ in range(2):
        assert post(managed, "/api/server/start/indifast") == (
            200, {"message": "INDI server started for profile indifast"})  # fmt: skip
        assert status(managed) == [on]
    assert post(managed, "/api/server/stop") == (200, {"message": "INDI server stopped"})
    assert status(managed) == [off]
    assert "/nonexistent cannot be started" in managed.process.stderr


def test_the_profile(managed: Site) -> None:
    (profile,) = get(managed, "/api/profiles")
    assert set(profile) == {"id", "name", "port", "autostart", "autoconnect", "scripts"}
    assert profile["name"] == "indifast" and 0 < profile["port"] < 65536
    assert get(managed, "/api/profiles/indifast") == profile
    assert get(managed, "/api/profiles/indifast/labels") == [{"label": "The toy"}, {"label": "/nonexistent"}]
    assert get(managed, "/api/profiles/nobody/labels") == []
    assert get(managed, "/api/profiles/indifast/remote") == {}
    assert [each["label"] for each in get(managed, "/api/drivers")] == ["The toy", "/nonexistent"]
    assert get(managed, "/api/drivers/groups") == ["indifast"]
    assert set(get(managed, "/api/info/version")) == {"version"}
    assert set(get(managed, "/api/info/hostname")) == {"hostname"}
    assert isinstance(get(managed, "/api/info/arch"), str)


def test_what_ekos_asks_for(managed: Site) -> None:
    """It writes a profile first, which changes nothing here, and starts it all the same."""
    before = get(managed, "/api/profiles")
    json_ = {"Content_Type": "application/json"}
    written = [
        managed.ask("POST", "/api/profiles/indifast"),
        managed.ask("PUT", "/api/profiles/indifast", b'{"port": 1, "autoconnect": 1}', **json_),
        managed.ask("POST", "/api/profiles/indifast/drivers", b'[{"label": "/bin/sh"}]', **json_),
        managed.ask("POST", "/api/profiles/custom/add", b'{"Label": "x", "Exec": "/bin/sh"}', **json_),
        managed.ask("DELETE", "/api/profiles/indifast"),
    ]
    assert [each.status for each in written] == [405, 405, 404, 404, 405]
    assert get(managed, "/api/profiles") == before
    assert post(managed, "/api/server/start/indifast")[0] == 200
    assert [each["label"] for each in get(managed, "/api/server/drivers")] == ["The toy"]
    assert post(managed, "/api/drivers/restart/The%20toy")[0] == 200
    assert post(managed, "/api/server/stop")[0] == 200


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/api/drivers/start/nonsense", "Driver not found"),
        ("/api/drivers/stop/nonsense", "Driver not found"),
        ("/api/drivers/restart/nonsense", "Driver not found"),
        (f"/api/drivers/start/{quote('../../bin/sh', safe='')}", "Driver not found"),
        ("/api/drivers/start/%00", "Driver not found"),
        ("/api/server/start/nonsense", "Profile 'nonsense' not found"),
    ],
)
def test_what_does_not_exist(managed: Site, target: str, said: str) -> None:
    assert post(managed, target) == (404, {"detail": said})
    assert json.loads(managed.ask("GET", "/api/profiles/nonsense").body) == {"detail": "Profile not found"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "dome.example"},
        {"Host": "192.0.2.7"},
        {"X_Forwarded_For": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
        {"X_Real_IP": "192.0.2.7"},
    ],
)
def test_it_is_for_programs_of_this_machine(managed: Site, headers: dict[str, str]) -> None:
    for target in ("/api/drivers/start/The%20toy", "/api/server/start/indifast", "/api/server/stop"):
        assert managed.ask("POST", target, **headers).status == 403
    for target in ("/api/server/status", "/api/drivers", "/api/devices"):
        assert managed.ask("GET", target, **headers).status == 403
    assert status(managed) == [{"status": "False", "active_profile": ""}]


def test_everything_else_still_needs_a_token(whole: Site, managed: Site) -> None:
    """What a web server in front of the page passes on, perhaps without a word about that, starts nothing."""
    for target in (API, f"{API}/drivers", "/api/nonsense", "/api/v1/../server/status", "/api/server/status",
                   "/api/drivers", "/api/devices"):  # fmt: skip
        assert whole.ask("GET", target).status == 401
    for target in (f"{API}/drivers/The%20toy/start", "/api/drivers/start/The%20toy", "/api/server/start/indifast"):
        assert whole.ask("POST", target, {}).status == 401
        assert whole.ask("POST", target, {}, Host="127.0.0.1").status == 401
    for target in ("/", API, f"{API}/devices", f"{API}/drivers"):
        assert managed.ask("GET", target).status == 404
    assert managed.ask("POST", f"{API}/drivers/The%20toy/start", {}).status == 404
    with pytest.raises(InvalidStatus), managed.events():
        pass
    assert status(managed) == [{"status": "False", "active_profile": ""}]


def test_bodies_are_limited_and_not_read_as_commands(managed: Site) -> None:
    head = b"POST /api/drivers/start/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    body = b"x" * (BODY + 1)
    answer = managed.raw(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 413 "))
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert managed.ask("POST", "/api/drivers/start/x", b"label=The toy", **form).status == 404
    assert status(managed) == [{"status": "False", "active_profile": ""}]


def test_without_its_option_there_is_nothing(tmp_path: Path) -> None:
    listed = tmp_path / "drivers.toml"
    listed.write_text("[[drivers]]\nprogram = 'cat'\n")
    listed.chmod(0o644)
    with serving(tmp_path, "--web-drivers", listed) as web:
        assert web.ask("GET", "/api/server/status").status == 404
        assert web.ask("POST", "/api/drivers/start/cat", {}).status == 404
    with serving(tmp_path, "--web-drivers", listed, "--web-manager", "0", "--web-read-only") as web:
        assert web.manager.ask("POST", "/api/drivers/start/cat").status == 403
        assert status(web.manager) == [{"status": "False", "active_profile": ""}]
    for words, said in (
        (["--web", "0", "--web-manager", "0", "cat"], "--web-manager needs a list of drivers"),
        (["--web-manager", "0", "--web-drivers", listed], "add --web PORT"),
        (["--web", "0", "--web-manager", "0.0.0.0:0", "--web-drivers", listed], "is for this machine only"),
    ):
        done = commands.run("serve", "-p", "0", "--no-abstract", *words)
        assert done.returncode == 1 and said in done.stderr
