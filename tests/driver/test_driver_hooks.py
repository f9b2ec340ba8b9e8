"""Programs that override what sends messages, and what makes the members in them."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock
from xml.etree.ElementTree import Element

import pytest

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    IPyServer,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)
from tests.driver.support import WireClient, fence_device, full_driver, listening


class Filtering(IPyDriver):
    """A driver that notes what it sends, and holds back messages."""

    def __init__(self, *devices: Device) -> None:
        super().__init__(*devices)
        self.sent: list[tuple[str, str | None]] = []

    async def send(self, xmldata: Element) -> None:
        self.sent.append((xmldata.tag, xmldata.get("name")))
        if xmldata.tag != "message":
            await super().send(xmldata)


def camera() -> BLOBVector:
    return BLOBVector("bl", "", "", "ro", "Ok", [BLOBMember("b", blobformat=".bin")])


def test_everything_goes_through_an_overridden_send() -> None:
    async def run() -> None:
        number = NumberVector("n", "", "", "rw", "Ok", [NumberMember("a")])
        driver = Filtering(Device("Dev", [number, camera()]), fence_device())
        async with listening(driver) as client:
            await client.answers(
                '<enableBLOB device="Dev">Also</enableBLOB><getProperties version="1.7" device="Dev"/>'
            )
            assert driver.sent == [("defNumberVector", "n"), ("defBLOBVector", "bl"), ("defTextVector", "fence")]
            del driver.sent[:]
            await number.send_setVector()
            await driver["Dev"].send_device_message("hidden")
            await driver.send_message("hidden")
            driver["Dev"]["bl"]["b"] = b"content"
            await driver["Dev"]["bl"].send_setVectorMembers(members=["b"])
            await driver.send_getProperties("Other")
            await number.send_delProperty()
            tags = ["setNumberVector", "message", "message", "setBLOBVector", "getProperties", "delProperty"]
            assert [tag for tag, _ in driver.sent] == tags
            frame = await client.next("setBLOBVector")
            assert (frame.members[0].data, frame.members[0].format) == (b"content", ".bin")
            await client.next("delProperty")
            assert b"hidden" not in client.raw

    asyncio.run(run())


def test_what_the_driver_sends_by_itself_goes_through_it_too() -> None:
    async def run() -> None:
        number = NumberVector("n", "", "", "rw", "Ok", [NumberMember("a")])
        driver = Filtering(Device("Dev", [number]), fence_device())
        driver.snoop("Other", "v")
        async with listening(driver) as client:
            await client.next("getProperties")
            assert set(driver.sent) == {("getProperties", "v")}

    asyncio.run(run())


def test_a_send_on_the_driver_itself_needs_no_run() -> None:
    async def run() -> None:
        driver = full_driver()
        driver.send = AsyncMock()  # type: ignore[method-assign]
        await driver["Dev"]["nu"].send_setVector(state="Ok")
        driver["Dev"]["bl"]["b1"] = b"x"
        await driver["Dev"]["bl"].send_setVectorMembers(members=["b1"])
        sent = [call.args[0] for call in driver.send.call_args_list]
        assert [(element.tag, element.get("state")) for element in sent] == [
            ("setNumberVector", "Ok"), ("setBLOBVector", "Ok"),
        ]  # fmt: skip
        assert sent[1][0].text == "eA=="
        assert driver.stats().get("sent_nowhere", 0) == 0

    asyncio.run(run())


class Marked:
    """Adds an attribute to what a member makes."""

    @staticmethod
    def marked(element: Element) -> Element:
        element.set("mark", "here")
        return element


class MarkedSwitch(SwitchMember, Marked):
    def defswitch(self) -> Element:
        return self.marked(super().defswitch())

    def oneswitch(self) -> Element:
        return self.marked(super().oneswitch())


class MarkedLight(LightMember, Marked):
    def deflight(self) -> Element:
        return self.marked(super().deflight())

    def onelight(self) -> Element:
        return self.marked(super().onelight())


class MarkedNumber(NumberMember, Marked):
    def defnumber(self) -> Element:
        return self.marked(super().defnumber())

    def onenumber(self) -> Element:
        element = self.marked(super().onenumber())
        element.text = f"{float(self.membervalue):.2f}"
        return element


class MarkedText(TextMember, Marked):
    def deftext(self) -> Element:
        return self.marked(super().deftext())

    def onetext(self) -> Element:
        return self.marked(super().onetext())


class MarkedBlob(BLOBMember, Marked):
    def defblob(self) -> Element:
        return self.marked(super().defblob())

    def oneblob(self, value: object = None) -> Element:
        return self.marked(super().oneblob(value))


class Clock(TextMember):
    """A text that is made when it is read."""

    reads = 0

    @property
    def membervalue(self) -> Any:
        self.reads += 1
        return f"reading {self.reads}"

    @membervalue.setter
    def membervalue(self, value: object) -> None:
        pass


VECTORS = [
    SwitchVector("v", "", "", "rw", "AnyOfMany", "Ok", [MarkedSwitch("m")]),
    LightVector("v", "", "", "Ok", [MarkedLight("m")]),
    NumberVector("v", "", "", "rw", "Ok", [MarkedNumber("m", membervalue=12.3456)]),
    TextVector("v", "", "", "rw", "Ok", [MarkedText("m")]),
    BLOBVector("v", "", "", "ro", "Ok", [MarkedBlob("m", membervalue=b"x")]),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.kind)
def test_members_make_their_own_elements(vector: Any) -> None:
    async def run() -> None:
        async with listening(IPyDriver(Device("Dev", [vector]), fence_device())) as client:
            await client.answers('<enableBLOB device="Dev">Also</enableBLOB>')
            await vector.send_defVector()
            await vector.send_setVectorMembers(members=["m"])
            await client.next(f"set{vector.kind}Vector")
            assert client.raw.count(b'mark="here"') == 2
            if vector.kind == "Number":
                assert b">12.35<" in client.raw

    asyncio.run(run())


def test_a_text_may_be_a_property() -> None:
    async def run() -> None:
        vector = TextVector("v", "", "", "rw", "Ok", [Clock("m")])
        driver = IPyDriver(Device("Dev", [vector]))
        async with IPyServer(driver, host="127.0.0.1", port=0) as server:
            client = await WireClient.connect(server.port)
            client.send('<getProperties version="1.7"/>')
            first = (await client.next("defTextVector")).values()["m"]
            await vector.send_setVector()
            second = (await client.next("setTextVector")).values()["m"]
            assert first.startswith("reading") and second.startswith("reading")
            assert first != second
            await client.close()

    asyncio.run(run())


def test_members_that_override_nothing_of_this_are_written_as_ever() -> None:
    class Plain(NumberMember):
        def getformattedvalue(self) -> str:
            return "-"

    assert not Plain.overrides
    assert Plain._one is NumberMember._one
    assert MarkedNumber.overrides
