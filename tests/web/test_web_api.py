"""The interface for programs, with a real server, libindi's simulated camera, and drivers that answer in all ways."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest

from indifast.fits import read_image
from tests.support.jsonschema import ROOT
from tests.support.waiting import eventually
from tests.web.inside import answer_of, full_server, running
from tests.web.programs.strange import NASTY, SECRET
from tests.web.support import API, CAMERA, Site, path

PARTS = [each.name for each in (ROOT / "src/indifast/web/static").iterdir() if not each.name.endswith("html")]

pytestmark = pytest.mark.xdist_group("web")


def value(web: Site, device: str, name: str, member: str) -> Any:
    return web.get(path(device, name), "web_property")["property"]["members"][member]["value"]


def test_what_is_known(web: Site) -> None:
    about = web.get(API, "web_site")
    assert (about["connected"], about["read_only"], about["role"]) == (True, False, "operator")
    devices = web.get(f"{API}/devices", "devices")["devices"]
    assert set(devices) == {CAMERA, "Strange", NASTY, "Eye"}
    assert devices[CAMERA]["driver"] == "indi_simulator_ccd"
    for name in devices:
        device = web.get(path(name), "web_device")
        assert device["device"] == name
        for each in device["properties"]:
            shown = web.get(path(name, each), "web_property")["property"]
            assert (shown["device"], shown["property"]) == (name, each)
    assert set(web.get(f"{API}/messages", "web_messages")["devices"]) == set(devices)


def test_a_command_is_answered_when_it_has_taken_effect(web: Site) -> None:
    answer = web.set("Strange", "ANSWER", {"VALUE": 5}).json("web_answer")
    assert (answer["done"], answer["message"], answer["property"]["state"]) == (True, "five after all", "Ok")
    assert answer["property"]["members"]["VALUE"]["value"] == 5
    assert web.set("Strange", "ANSWER", {"VALUE": "0:30"}).json("web_answer")["message"] is None
    assert value(web, "Strange", "ANSWER", "VALUE") == 0.5
    assert web.set("Strange", "MODE", {"B": True}).status == 200
    assert value(web, "Strange", "MODE", "B") is True
    answer = web.set("Strange", "MODE", {"A": True}, wait=False).json("web_answer")
    assert answer["done"] is False


def test_an_alert_is_answered_with_the_drivers_message(web: Site) -> None:
    answer = web.set("Strange", "ANSWER", {"VALUE": 13})
    failure = answer.json("web_failure")
    assert (answer.status, failure["error"]["code"]) == (409, "alert")
    assert failure["error"]["message"] == "thirteen is <b>unlucky</b>"
    assert failure["property"]["state"] == "Alert"


def test_a_command_that_is_not_answered_in_time(web: Site) -> None:
    answer = web.set("Strange", "ANSWER", {"VALUE": 7}, timeout=0.3)
    failure = answer.json("web_failure")
    assert (answer.status, failure["error"]["code"], failure["property"]["state"]) == (504, "timeout", "Busy")


@pytest.mark.parametrize(
    ("device", "name", "members", "status", "said", "similar"),
    [
        ("Strang", "ANSWER", {"VALUE": 1}, 404, "no device 'Strang'", ["Strange"]),
        ("Strange", "ANSWERS", {"VALUE": 1}, 404, "no property 'ANSWERS'", ["ANSWER"]),
        ("Strange", "ANSWER", {"VALEU": 1}, 404, "no member 'VALEU'", ["VALUE"]),
        ("Strange", "ANSWER", {"VALUE": -1}, 400, "-1 is outside 0 to 1000000", []),
        ("Strange", "ANSWER", {"VALUE": "x"}, 400, "'x' is not a number", []),
        ("Strange", "ANSWER", {"VALUE": True}, 400, "not a number", []),
        ("Strange", "ANSWER", {"VALUE": None}, 400, "must be a text, a number", []),
        ("Strange", "ANSWER", {}, 400, "at least one member", []),
        ("Strange", "SAID", {"LAST": "x"}, 400, "read-only", []),
        ("Strange", "HEALTH", {"FAN": "Ok"}, 400, "read-only", []),
        ("Strange", "WIFI", {"SSID": 1}, 400, "must be a str", []),
        ("Strange", "MODE", {"A": "maybe"}, 400, "neither On nor Off", []),
        ("Strange", "MODE", {"A": True, "B": True}, 400, "OneOfMany", []),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    web: Site, device: str, name: str, members: Any, status: int, said: str, similar: list[str]
) -> None:
    answer = web.set(device, name, members)
    error = answer.json("web_failure")["error"]
    assert (answer.status, error["similar"]) == (status, similar), error
    assert said in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b'"x"', b"[" * 30_000, b'{"members": {"VALUE": NaN}}', b'{"members": {"VALUE": 1}, "x": 1}',
        b'{"members": {"VALUE": 1}, "timeout": 1e9}', b'{"members": {"VALUE": 1}, "timeout": true}',
        b'{"members": {"VALUE": 1}, "wait": 1}', b'{"members": {"VALUE": [1]}}', b"\xff", b"",
    ],
)  # fmt: skip
def test_a_body_that_is_no_command(web: Site, body: bytes) -> None:
    answer = web.ask("POST", path("Strange", "ANSWER"), body, Content_Type="application/json")
    assert (answer.status, answer.json("web_failure")["error"]["code"]) == (400, "invalid")


def test_names_may_contain_anything(web: Site) -> None:
    device = web.get(path(NASTY), "web_device")
    assert device["properties"][NASTY]["members"][NASTY]["value"] == NASTY
    assert web.set(NASTY, NASTY, {NASTY: "x"}, wait=False).status == 200


WORDS = {
    ".": ["%252E", "%252e", "."], "..": ["%252E%252E", "%2E%2E"], "%2E": ["%25252E"], "%252e%2E": ["%2525252e%25252E"],
    ".%2E": [".%252E"], "a/b": ["a%2Fb"], "a%2Fb": ["a%252Fb"], "...": ["..."], "%2E%2E%2E": ["%252E%252E%252E"],
}  # fmt: skip


def test_names_that_look_like_steps_in_a_path() -> None:
    """What each device is called in paths: browsers and web servers leave the first word of each as it is."""

    async def ask() -> None:
        async with full_server(list(WORDS), 1) as hub, running(hub) as port:
            await eventually(lambda: len(hub.names()) == len(WORDS), "the devices")
            for name, words in WORDS.items():
                for word in words:
                    status, content = await answer_of(port, f"{API}/devices/{word}/properties/P0")
                    assert status == b"HTTP/1.1 200 OK", word
                    assert json.loads(content)["property"]["device"] == name
            status, content = await answer_of(port, f"{API}/devices/%252E%252E%252F")
            assert status.endswith(b"404 Not Found") and b"no device '%2E%2E%2F'" in content

    asyncio.run(ask())


def test_secrets_are_sent_but_never_shown(web: Site) -> None:
    for name, member in (("LOGIN", "WORD"), ("WIFI", "KEY")):
        answer = web.set("Strange", name, {member: SECRET}, wait=name == "WIFI")
        assert answer.status == 200
        assert SECRET.encode() not in answer.body
        assert web.set("Strange", "ANSWER", {"VALUE": 1}).status == 200  # the driver has handled the former
        assert value(web, "Strange", "SAID", "LAST") == f"{name} right"
    everything = web.ask("GET", path("Strange"))
    assert SECRET.encode() not in everything.body
    network = everything.json("web_device")["properties"]["WIFI"]["members"]
    assert network == {"SSID": {"label": "Network", "value": "dome"},
                       "KEY": {"label": "Password", "secret": True, "value": None}}  # fmt: skip


def test_the_reason_of_a_refusal_does_not_tell_a_secret(web: Site) -> None:
    answer = web.set("Strange", "DOOR", {"LEVEL": 2})
    assert (answer.status, answer.json("web_failure")["error"]["message"]) == (
        400, "give CODE, too: its value cannot be sent along")  # fmt: skip


def test_frames(camera: Site) -> None:
    frame = path(CAMERA, "CCD1", "CCD1")
    before = camera.ask("GET", frame).headers.get("Indifast-Frame", "0")  # asks for frames
    answer = camera.set(CAMERA, "CCD_EXPOSURE", {"CCD_EXPOSURE_VALUE": 0.1}, timeout=60)
    assert answer.status == 200, answer.body
    first = camera.ask("GET", f"{frame}?after={before}&wait=25")
    assert (first.status, first.headers["Content-Type"]) == (200, "application/octet-stream")
    assert first.headers["Content-Disposition"].startswith("attachment;")
    image = read_image(first.body)
    about = camera.get(f"{frame}/info", "web_frame")
    assert about["frame"]["number"] == int(first.headers["Indifast-Frame"])
    assert (about["frame"]["size"], about["frame"]["format"]) == (len(first.body), ".fits")
    assert about["shape"] == [1024, 1280]
    assert about["header"]["NAXIS1"] == 1280
    pixels = image.scaled()
    measured = about["statistics"]
    assert (measured["pixels"], measured["min"], measured["max"]) == (pixels.size, pixels.min(), pixels.max())
    assert measured["mean"] == pytest.approx(float(pixels.mean()))
    assert measured["median"] == np.median(pixels)
    assert sum(about["histogram"]["counts"]) == pixels.size
    preview = camera.ask("GET", f"{frame}/preview?size=300")
    assert PIL.Image.open(io.BytesIO(preview.body)).size == (320, 256)
    part = camera.ask("GET", f"{frame}/preview?region=100,50,30,20&stretch=0,500,1000", Accept="image/webp")
    picture = PIL.Image.open(io.BytesIO(part.body))
    assert (part.headers["Content-Type"], picture.format, picture.size) == ("image/webp", "WEBP", (30, 20))
    number = about["frame"]["number"]
    assert camera.ask("GET", f"{frame}/preview?after={number}").status == 204
    assert camera.ask("GET", f"{frame}?after={number}&wait=0.05").status == 204
    assert camera.ask("GET", f"{frame}?after={number + 1}").status == 200, "a number of another run of the program"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (path(CAMERA, "CCD1", "CCD2"), 404),
        (path(CAMERA, "CONNECTION", "CONNECT"), 400),
        (path(CAMERA, "CCD1", "CCD1") + "?wait=soon", 400),
        (path(CAMERA, "CCD1", "CCD1") + "?after=-1", 400),
        (path(CAMERA, "CCD1", "CCD1") + "/preview?size=inf", 400),
        (path(CAMERA, "CCD1", "CCD1") + "/preview?stretch=5,4,3", 400),
        (path(CAMERA, "CCD1", "CCD1") + "/preview?region=0,0,x,4", 400),
        (path(CAMERA, "CCD1", "CCD1") + "/preview?bayer=RGB", 400),
        (f"{API}/nonsense", 404),
        ("/style.css/../app.js", 404),
        ("/%2e%2e/pyproject.toml", 404),
    ],
)
def test_what_does_not_exist(camera: Site, target: str, status: int) -> None:
    answer = camera.ask("GET", target)
    assert (answer.status, "message" in answer.json("web_failure")["error"]) == (status, True)


def test_the_page_and_its_parts(web: Site) -> None:
    page = web.ask("GET", "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for name in PARTS:
        part = web.ask("GET", f"/{name}")
        assert part.status == 200
        assert b"innerHTML" not in part.body and b"https://" not in part.body
    assert json.loads(web.ask("GET", f"{API}/openapi.json").body)["openapi"].startswith("3.")
