"""The WebSocket, with a real server and drivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from indifast.web.bounds import SUBSCRIPTIONS
from tests.support.blackbox import free_port
from tests.support.commands import start
from tests.web.support import Site, event, path, site

pytestmark = pytest.mark.xdist_group("web")

ONE = {"subscribe": [{"device": "Strange", "property": "ANSWER"}]}


def test_changes_of_a_property_are_told(web: Site) -> None:
    with web.events() as socket:
        assert event(socket, "link")["connected"] is True
        socket.send(json.dumps(ONE))
        found = event(socket, "property")
        assert (found["device"], found["property"], found["missed"]) == ("Strange", "ANSWER", 0)
        assert found["content"] == web.get(path("Strange", "ANSWER"), "web_property")["property"]
        web.set("Strange", "ANSWER", {"VALUE": 3})
        assert event(socket, "property")["content"]["members"]["VALUE"]["value"] == 3
        web.set("Strange", "MODE", {"B": True})  # nobody has subscribed to this one
        web.set("Strange", "ANSWER", {"VALUE": 13})
        assert event(socket, "property")["content"]["message"] == "thirteen is <b>unlucky</b>"


def test_one_who_does_not_read_gets_the_newest_state_and_delays_nobody(web: Site) -> None:
    """A thousand updates: the one who reads sees the last one, and the sum of seen and missed ones is the same."""
    with web.events() as slow, web.events() as fast:
        for socket in (slow, fast):
            socket.send(json.dumps({"subscribe": [{"device": "Strange", "property": "COUNT"}]}))
            event(socket, "property")
        web.set("Strange", "COUNT", {"TO": 1000}, timeout=60)
        for socket in (fast, slow):
            seen = 0
            while True:
                found = event(socket, "property")
                seen += 1 + found["missed"]
                if found["content"]["state"] == "Ok":
                    break
            assert found["content"]["members"]["TO"]["value"] == 1000
            assert seen == 1001


def test_a_subscription_to_what_does_not_exist_yet(web: Site) -> None:
    with web.events() as socket:
        socket.send(json.dumps({"subscribe": [{"device": "Strange", "property": "ANSWERS"}, {"device": "Nobody"}]}))
        assert "did you mean 'ANSWER'?" in event(socket, "subscribed", property="ANSWERS")["note"]
        assert "no device 'Nobody'" in event(socket, "subscribed", device="Nobody")["note"]
        socket.send(json.dumps(ONE | {"unsubscribe": [{"device": "Nobody"}]}))
        assert event(socket, "subscribed", property="ANSWER")["note"] is None


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"x": []}', '{"subscribe": 1}', '{"subscribe": ["A"]}', '{"subscribe": [{"x": "A"}]}',
        '{"subscribe": [{"device": 1}]}', "[" * 20_000,
        json.dumps({"subscribe": [{"device": str(number)} for number in range(SUBSCRIPTIONS + 1)]}),
    ],
)  # fmt: skip
def test_a_request_that_is_none(web: Site, text: str) -> None:
    with web.events() as socket:
        socket.send(text)
        assert event(socket, "error")["error"]["code"] == "invalid"
        socket.send(json.dumps(ONE | {"unsubscribe": [{"device": "0"}]}))
        assert event(socket, "property")["property"] == "ANSWER"


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}]
)
def test_other_pages_get_no_socket(web: Site, headers: Any) -> None:
    with pytest.raises(InvalidStatus) as refused, web.events(**headers):
        pass
    assert refused.value.response.status_code == 403


def test_the_page_itself_gets_one(web: Site) -> None:
    with web.events(Origin=f"http://127.0.0.1:{web.port}", Sec_Fetch_Site="same-origin") as socket:
        event(socket, "link")


def test_a_server_that_goes_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    words = ("serve", "-p", port, "--no-abstract", "indifast.cli.demo.drivers:ThermostatDriver")
    with site(tmp_path, f"localhost:{port}") as late:
        late.process.until_stderr("yet; connecting as soon as it is there")
        with late.events() as socket:
            assert event(socket, "link")["connected"] is False
            for names in (["Demo Thermostat"], ["Demo Thermostat", "TARGET"]):
                answer = late.ask("GET", path(*names))
                failure = answer.json("web_failure")["error"]
                assert (answer.status, failure["code"]) == (503, "unavailable")
                assert failure["message"] == f"there is no connection to localhost:{port}"
            socket.send(json.dumps({"subscribe": [{}]}))
            with start(tmp_path, *words):
                assert event(socket, "link", connected=True)["connection"] == 1
                event(socket, "property", device="Demo Thermostat")
            event(socket, "link", connected=False)
            answer = late.set("Demo Thermostat", "TARGET", {"T": 1})
            assert (answer.status, answer.json("web_failure")["error"]["code"]) == (503, "unavailable")
            with start(tmp_path, *words):
                assert event(socket, "link", connected=True)["connection"] == 2
                event(socket, "property", device="Demo Thermostat")
