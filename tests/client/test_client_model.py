"""The model of a client without an event loop, and settings of subclasses."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from indifast._parser import Element, Tokenizer
from indifast.client import IPyClient, delProperty
from indifast.client.blobchoices import BlobChoices
from indifast.client.model import Model
from indifast.client.problems import Problems
from indifast.client.propertymembers import ParseException
from indifast.client.sender import Expected
from indifast.client.settings import Given, Settings
from indifast.handover import Home
from indifast.protocol.message import Routable
from tests.client.support import BLOBS, NUMBERS, SWITCHES, TEXTS, Recorder, blob, session


class Program:
    """Numbers new items, and keeps their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **_: Any) -> int:
        self.names.append(f"{devicename}.{vectorname}.{membername}".rstrip("."))
        return len(self.names)

    async def rxevent(self, event: Any) -> None:
        raise AssertionError("a model does not notify the program")

    report = warning = rxevent


class Server:
    """Keeps what is sent; every answer is due at once."""

    can_send = True
    raw = False

    def __init__(self) -> None:
        self.home = Home()
        self.sent: list[str] = []
        self.expected: list[Expected] = []

    async def transmit(self, message: Routable) -> None:
        self.sent.append(message.tag)

    def expect(self, vector: Any) -> Expected:
        self.expected.append(Expected(vector, 0.0))
        return self.expected[-1]

    async def emit(self, event: Any) -> None:
        raise AssertionError("the program makes no events")


class Setting:
    """A model and the parts that it needs."""

    def __init__(self) -> None:
        self.settings, self.program, self.server = Given(Settings()), Program(), Server()
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.choices = BlobChoices(self.settings)
        problems = Problems(self.settings, self.counts, self.complaints.append)
        self.model = Model(self.settings, self.program, self.server, self.choices, problems, self.counts)

    def apply(self, *texts: str) -> list[Any]:
        return [self.model.apply(element) for element in elements(*texts)]


def elements(*texts: str) -> list[Element]:
    return Tokenizer(relay=False).feed("".join(texts).encode())


def test_elements_become_events() -> None:
    setting = Setting()
    model = setting.model
    early = '<message device="D" message="I am here"/>'
    message, defined, changed, deleted = setting.apply(
        early,
        NUMBERS,
        '<setNumberVector device="D" name="N" state="Alert"><oneNumber name="a">7</oneNumber></setNumberVector>',
        '<delProperty device="D"/>',
    )
    assert message is None and [event.message for event in model.apply_early("D")] == ["I am here"]
    vector = model.devices["D"].data["N"]
    assert defined.vector is changed.vector is vector and vector["a"] == "7" and vector.state == "Alert"
    assert isinstance(deleted, delProperty) and not vector.enable and not model.any_enabled()
    assert setting.program.names == ["D", "D.N", "D.N.a", "D.N.b"]
    with pytest.raises(ParseException, match="not defined"):
        setting.apply('<setNumberVector device="D" name="N" state="Ok"/>')
    assert setting.apply('<setNumberVector device="X" name="N" state="Ok"/>', '<pingRequest uid="1"/>') == [None] * 2
    assert setting.counts["unknown"] == 1 and not setting.complaints and not setting.server.sent


def test_members_that_are_added_get_ids() -> None:
    setting = Setting()
    setting.apply(TEXTS, TEXTS.replace("</defTextVector>", '<defText name="z"/></defTextVector>'))
    assert setting.program.names[-1] == "D.T.z" and setting.model.devices["D"].data["T"].member("z").itemid == 5


def test_content_is_kept_unless_the_program_declines() -> None:
    setting = Setting()
    vector = setting.apply(BLOBS)[0].vector
    (event,) = setting.apply(blob(b"one"))
    assert event["img"] == vector["img"] == b"one"
    setting.choices.unkeep("D", None)
    (event,) = setting.apply(blob(b"two"))
    assert event["img"] == b"two" and vector["img"] is None
    setting.choices.keep("D", None)
    setting.apply(blob(b"three"))
    assert vector["img"] == b"three"


def test_blobs_without_content_are_left_out() -> None:
    setting = Setting()
    vector = setting.apply(BLOBS, blob(b"one"))[0].vector
    empty, state = setting.apply(blob(b"", size=7), blob(b""))
    assert not empty and not state and vector["img"] == b"one"
    assert setting.counts["left_out"] == 1 and len(setting.complaints) == 1


@pytest.mark.parametrize(
    "answer",
    [
        '<setSwitchVector device="D" name="S" state="Ok"/>',
        SWITCHES,
        '<delProperty device="D" name="S"/>',
        '<delProperty device="D"/>',
        TEXTS.replace('name="T"', 'name="S"'),
    ],
)
def test_an_answer_is_expected_until_the_server_sends_something(answer: str) -> None:
    setting = Setting()
    vector = setting.apply(SWITCHES)[0].vector
    asyncio.run(vector.send_newSwitchVector(members={"on": "On"}))
    (expected,) = setting.server.expected
    assert setting.server.sent == ["newSwitchVector"]
    assert vector.state == "Busy" and vector.checktimedout(0.0) and not expected.over
    setting.apply(answer)
    assert expected.over and not vector.checktimedout(0.0)


def test_subclasses_may_set_what_objects_may(tmp_path: Path) -> None:
    class Patient(IPyClient):
        vector_timeout_min = 30
        vector_timeout_max = 3600.0
        idle_timeout = 7
        respond_timeout = 8
        timeout_enable = False
        enableBLOBdefault = "Only"
        device_limit = 1

    client = Patient()
    assert (client.vector_timeout_max, client.idle_timeout, client.respond_timeout) == (3600.0, 7, 8)
    client._indifast.receiver.take(*elements(NUMBERS) * 2)
    with pytest.raises(ParseException, match="too many devices"):
        client._indifast.receiver.take(*elements(NUMBERS.replace('device="D"', 'device="E"')) * 2)
    assert client["D"]._enableBLOB == "Only"
    client.set_vector_timeouts(timeout_max=5)
    assert (client.vector_timeout_max, client.idle_timeout, client.respond_timeout) == (5, 10, 20)
    assert Patient().vector_timeout_max == 3600.0

    class Saving(Recorder):
        BLOBfolder = tmp_path

    async def main() -> None:
        async with session(BLOBS, client=Saving) as (server, saving):
            await server.expect('<enableBLOB device="D" name="B">Also</enableBLOB>')
            await server.send(blob(b"content"))
            event = await saving.got("SetBLOB")
            assert (tmp_path / event.vector.member("img").filename).read_bytes() == b"content"

    asyncio.run(main())


def test_timeouts_of_a_subclass_are_used() -> None:
    class Hasty(Recorder):
        vector_timeout_min = 0.01
        vector_timeout_max = 0.02

    async def main() -> None:
        async with session(NUMBERS, client=Hasty) as (_, client):
            await client.send_newVector("D", "N", members={"a": 1})
            event = await client.got("TimeOut")
            assert event.vector is client["D"]["N"] and client.stats()["timeouts"] == 1

    asyncio.run(main())
