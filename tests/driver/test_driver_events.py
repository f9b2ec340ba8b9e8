"""Events made of commands and of other drivers' messages, and the order in which user code receives them."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import fromstring, tostring

import numpy as np
import pytest

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    Message,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
    defBLOBVector,
    defLightVector,
    defNumberVector,
    defSwitchVector,
    defTextVector,
    delProperty,
    enableBLOB,
    getProperties,
    newBLOBVector,
    newNumberVector,
    newSwitchVector,
    newTextVector,
    setBLOBVector,
    setLightVector,
    setNumberVector,
    setSwitchVector,
    setTextVector,
)
from indifast._parser import Tokenizer
from indifast.driver import faults
from indifast.driver.events import EventException
from tests.driver.support import fence_device, full_driver, listening
from tests.support.waiting import eventually

STAMP = ' timestamp="2024-01-02T03:04:05.5"'
WHEN = datetime(2024, 1, 2, 3, 4, 5, 500000, UTC)


def root(text: str, tree: bool) -> Any:
    """A received element, or an ElementTree element, as in programs that make events themselves."""
    return fromstring(text) if tree else Tokenizer().feed(text.encode())[0]


def vectors() -> dict[str, Any]:
    return {
        "Switch": SwitchVector("v", "", "", "rw", "AnyOfMany", "Ok", [SwitchMember("a"), SwitchMember("b")]),
        "Number": NumberVector("v", "", "", "rw", "Ok", [NumberMember("a", format="%6.3m"), NumberMember("b")]),
        "Text": TextVector("v", "", "", "rw", "Ok", [TextMember("a"), TextMember("b")]),
        "BLOB": BLOBVector("v", "", "", "rw", "Ok", [BLOBMember("a"), BLOBMember("b")]),
    }


def new(kind: str, content: str, tree: bool = False) -> Any:
    cls = {"Switch": newSwitchVector, "Number": newNumberVector, "Text": newTextVector, "BLOB": newBLOBVector}[kind]
    text = f'<new{kind}Vector device="d" name="v"{STAMP}>{content}</new{kind}Vector>'
    return cls("d", "v", vectors()[kind], root(text, tree))


both = pytest.mark.parametrize("tree", [False, True])


@both
def test_events_of_new_values(tree: bool) -> None:
    switch = new("Switch", '<oneSwitch name="b"> On </oneSwitch><oneSwitch name="a">Off</oneSwitch>', tree)
    assert dict(switch) == {"b": "On", "a": "Off"}
    assert list(switch) == ["b", "a"]
    assert "b" in switch
    text = new("Text", '<oneText name="a"> x &amp; é\n</oneText><oneText name="b" />', tree)
    assert dict(text) == {"a": " x & é\n", "b": ""}
    number = new("Number", '<oneNumber name="a">\n 1:30 </oneNumber>', tree)
    assert dict(number) == {"a": "1:30"}
    assert number.getfloatvalue("a") == 1.5
    assert number.getformattedvalue("a") == "  1:30"
    with pytest.raises(KeyError):
        number.getfloatvalue("b")
    assert (number.devicename, number.vectorname, number.vector.name) == ("d", "v", "v")
    assert number.timestamp == WHEN
    with pytest.raises(TypeError):
        number["a"] = "5"
    with pytest.raises(TypeError):
        hash(number)


@both
def test_events_of_new_blobs(tree: bool, caplog: pytest.LogCaptureFixture) -> None:
    data = np.arange(6, dtype=">i2").reshape(2, 3)
    coded = base64.b64encode(data.tobytes()).decode()
    content = f'<oneBLOB name="a" size="12" format=".fits">{coded}</oneBLOB>'
    content += '<oneBLOB name="b" size="3">\nYW\nJj\n</oneBLOB>'
    event = new("BLOB", content, tree)
    assert dict(event) == {"a": data.tobytes(), "b": b"abc"}
    assert type(event["a"]) is bytes
    assert event.sizeformat == {"a": (12, ".fits"), "b": (3, "")}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    array = event.array("a", ">i2", (2, 3))
    assert np.array_equal(array, data)
    assert np.shares_memory(array, np.frombuffer(event["a"], "u1"))
    assert event.buffer("a").obj is event["a"]
    assert event.array("b").tolist() == [97, 98, 99]


@both
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("Switch", ""),
        ("Switch", '<oneSwitch name="a">on</oneSwitch>'),
        ("Switch", '<oneSwitch name="a" />'),
        ("Switch", '<oneSwitch name="c">On</oneSwitch>'),
        ("Switch", "<oneSwitch>On</oneSwitch>"),
        ("Switch", '<oneText name="a">On</oneText>'),
        ("Number", ""),
        ("Number", '<oneNumber name="a"> </oneNumber>'),
        ("Number", '<oneNumber name="c">1</oneNumber>'),
        ("Number", '<oneNumber name="a">1</oneNumber><oneNumber name="b">abc</oneNumber>'),
        ("Text", ""),
        ("Text", '<oneText name="c">1</oneText>'),
        ("Text", '<defText name="a">1</defText>'),
        ("BLOB", ""),
        ("BLOB", '<oneBLOB name="a" size="0" format=".x" />'),
        ("BLOB", '<oneBLOB name="a" format=".x">YWJj</oneBLOB>'),
        ("BLOB", '<oneBLOB name="a" size="many" format=".x">YWJj</oneBLOB>'),
        ("BLOB", '<oneBLOB name="a" size="²" format=".x">YWJj</oneBLOB>'),
        ("BLOB", '<oneBLOB name="a" size="٣" format=".x">YWJj</oneBLOB>'),
        ("BLOB", '<oneBLOB name="c" size="3" format=".x">YWJj</oneBLOB>'),
    ],
)
def test_invalid_commands_make_no_event(tree: bool, kind: str, content: str) -> None:
    with pytest.raises(EventException):
        new(kind, content, tree)


def test_the_element_tree_of_an_event() -> None:
    text = '<newTextVector device="d" name="v"><oneText name="a">x</oneText><oneText name="b" /></newTextVector>'
    event = newTextVector("d", "v", vectors()["Text"], root(text, False))
    assert tostring(event.root, encoding="unicode") == text
    assert event.root is event.root
    assert event.root.get("device") == "d"
    assert event.root.tag == "newTextVector"
    assert [child.text for child in event.root] == ["x", None]
    blob = new("BLOB", '<oneBLOB name="a" size="3" format=".x">YW\nJj</oneBLOB>')
    assert blob.root[0].text == "YWJj"


@both
def test_definitions_of_other_drivers(tree: bool) -> None:
    start = f'device="d" name="v" label="L" group="G" state="Busy" perm="rw" timeout="5" message="m"{STAMP}'
    number = defNumberVector(
        root(
            f'<defNumberVector {start}><defNumber name="a" label="A" format="" min="0" max="1" step="2">\n1:30\n'
            "</defNumber></defNumberVector>",
            tree,
        )
    )
    assert dict(number) == {"a": "1:30"}
    assert number.getfloatvalue("a") == 1.5
    assert number.memberlabels == {"a": ("A", "%g", "0", "1", "2")}
    assert (number.devicename, number.vectorname, number.label, number.group) == ("d", "v", "L", "G")
    assert (number.state, number.perm, number.timeout, number.message) == ("Busy", "rw", "5", "m")
    assert number.timestamp == WHEN
    switch = defSwitchVector(
        root(
            '<defSwitchVector device="d" name="v" state="Ok" perm="ro" rule="AtMostOne">'
            '<defSwitch name="a">\nOn\n</defSwitch></defSwitchVector>',
            tree,
        )
    )
    assert dict(switch) == {"a": "On"}
    assert (switch.label, switch.group, switch.rule, switch.timeout) == ("v", "", "AtMostOne", "0")
    assert switch.memberlabels == {"a": "a"}
    text = defTextVector(
        root(f'<defTextVector {start}><defText name="a"> x </defText><defText name="b" /></defTextVector>', tree)
    )
    assert dict(text) == {"a": " x ", "b": None}
    light = defLightVector(
        root('<defLightVector device="d" name="v" state="Ok"><defLight name="a">Ok</defLight></defLightVector>', tree)
    )
    assert dict(light) == {"a": "Ok"}
    assert not hasattr(light, "perm")
    assert not hasattr(light, "timeout")
    blob = defBLOBVector(root(f'<defBLOBVector {start}><defBLOB name="a" /></defBLOBVector>', tree))
    assert blob.memberlabels == {"a": "a"}
    assert not hasattr(blob, "keys")


@both
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (defTextVector, '<defTextVector name="v" state="Ok" perm="rw"><defText name="a">x</defText></defTextVector>'),
        (defTextVector, '<defTextVector device="d" state="Ok" perm="rw"><defText name="a">x</defText></defTextVector>'),
        (defTextVector, '<defTextVector device="d" name="v" state="Ok" perm="rw" />'),
        (defTextVector, '<defTextVector device="d" name="v"><defText name="">x</defText><defText /></defTextVector>'),
        (defTextVector, '<defTextVector device="d" name="v"><defNumber name="a">1</defNumber></defTextVector>'),
        (delProperty, '<delProperty name="v" />'),
        (setTextVector, '<setTextVector name="v"><oneText name="a">x</oneText></setTextVector>'),
    ],
)  # fmt: skip
def test_invalid_messages_of_other_drivers_make_no_event(tree: bool, event: Any, text: str) -> None:
    with pytest.raises(EventException):
        event(root(text, tree))


@both
def test_damaged_definitions_of_other_drivers(tree: bool) -> None:
    switch = defSwitchVector(
        root(
            '<defSwitchVector device="d" name="v" perm="odd"><defSwitch name="a">On</defSwitch>'
            '<defSwitch name="" label="">On</defSwitch><defSwitch name="b">ON</defSwitch></defSwitchVector>',
            tree,
        )
    )
    assert dict(switch) == {"a": "On", "b": "Off"}
    assert (switch.state, switch.perm, switch.rule, switch.timeout) == ("Idle", "ro", "OneOfMany", "0")
    assert switch.memberlabels == {"a": "a", "b": "b"}
    number = defNumberVector(
        root(
            '<defNumberVector device="d" name="v" state="Ok"><defNumber name="a" max="">1</defNumber>'
            '<defNumber name="b" /><defNumber name="c" format="%d" min="x">0,5</defNumber></defNumberVector>',
            tree,
        )
    )
    assert dict(number) == {"a": "1", "b": "", "c": "0,5"}
    assert [number.getfloatvalue(name) for name in "abc"] == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert number.memberlabels["a"] == ("a", "%g", "0", "0", "0")
    assert number.memberlabels["c"] == ("c", "%d", "x", "0", "0")
    light = defLightVector(root('<defLightVector device="d" name="v"><defLight name="a" /></defLightVector>', tree))
    assert (dict(light), light.state) == ({"a": "Idle"}, "Idle")


@both
def test_damaged_updates_of_other_drivers(tree: bool) -> None:
    number = setNumberVector(
        root(
            '<setNumberVector device="d" name="v" state="odd"><oneNumber name="a">1</oneNumber>'
            '<oneNumber name="b">0,5</oneNumber><oneNumber>2</oneNumber><oneNumber name="c" /></setNumberVector>',
            tree,
        )
    )
    assert (dict(number), number.state) == ({"a": "1"}, None)
    switch = setSwitchVector(
        root(
            '<setSwitchVector device="d" name="v" state="Ok"><oneSwitch name="a">x</oneSwitch></setSwitchVector>', tree
        )
    )
    assert (dict(switch), switch.state) == ({}, "Ok")
    blob = setBLOBVector(
        root(
            '<setBLOBVector device="d" name="v" state="Ok"><oneBLOB name="a">YWJj</oneBLOB>'
            '<oneBLOB name="b" size="5" format=".x" /><oneBLOB name="c" size="many" format="">YWJj</oneBLOB>'
            '<oneBLOB size="3" format=".x">YWJj</oneBLOB></setBLOBVector>',
            tree,
        )
    )
    assert dict(blob) == {"a": b"abc", "c": b"abc"}
    assert blob.sizeformat == {"a": (3, ""), "c": (3, "")}


@both
def test_updates_of_other_drivers(tree: bool) -> None:
    number = setNumberVector(
        root(
            f'<setNumberVector device="d" name="v" state="Ok" timeout="5" message="m"{STAMP}>'
            '<oneNumber name="a"> 1:30 </oneNumber></setNumberVector>',
            tree,
        )
    )
    assert dict(number) == {"a": "1:30"}
    assert number.getfloatvalue("a") == 1.5
    assert (number.state, number.timeout, number.message, number.timestamp) == ("Ok", "5", "m", WHEN)
    for cls in (setSwitchVector, setTextVector, setNumberVector, setLightVector, setBLOBVector):
        empty = cls(root(f'<{cls.__name__} device="d" name="v" state="Busy" />', tree))
        assert dict(empty) == {}
        assert empty.state == "Busy"
        assert hasattr(empty, "timeout") == (cls is not setLightVector)
    assert setTextVector(root('<setTextVector device="d" name="v" state="odd" />', tree)).state is None
    text = setTextVector(root('<setTextVector device="d" name="v"><oneText name="a" /></setTextVector>', tree))
    assert dict(text) == {"a": ""}
    light = setLightVector(
        root('<setLightVector device="d" name="v"><oneLight name="a">\nAlert\n</oneLight></setLightVector>', tree)
    )
    assert dict(light) == {"a": "Alert"}
    blob = setBLOBVector(
        root(
            '<setBLOBVector device="d" name="v" state="Ok"><oneBLOB name="a" size="3">YWJj</oneBLOB>'
            '<oneBLOB name="b" size="0" format=".fits" enclen="0" /></setBLOBVector>',
            tree,
        )
    )
    assert dict(blob) == {"a": b"abc"}
    assert blob.sizeformat == {"a": (3, "")}


@both
def test_messages_and_deletions_of_other_drivers(tree: bool) -> None:
    message = Message(root(f'<message device="d" message="m"{STAMP} />', tree))
    assert (message.devicename, message.vectorname, message.message, message.timestamp) == ("d", None, "m", WHEN)
    for anonymous in ("<message />", '<message device="" />'):
        assert Message(root(anonymous, tree)).devicename is None
    assert Message(root("<message />", tree)).message == ""
    deletion = delProperty(root('<delProperty device="d" name="v" message="m" />', tree))
    assert (deletion.vectorname, deletion.message) == ("v", "m")
    assert delProperty(root('<delProperty device="d" />', tree)).vectorname is None
    assert delProperty(root('<delProperty device="d" name="" />', tree)).vectorname == ""


# Through a driver


class Recorder(IPyDriver):
    """Keeps its events; in `hold`, each vector can have an event that its calls of rxevent wait for."""

    def record(self) -> Recorder:
        self.events: list[Any] = []
        self.done: list[str] = []
        self.waiting: list[int] = []
        self.hold: dict[str, asyncio.Event] = {}
        return self

    async def rxevent(self, event: Any) -> None:
        self.events.append(event)
        if event.vectorname in self.hold:
            await self.hold[event.vectorname].wait()
        self.done.append(event.vectorname)
        self.waiting.append(self._indifast_runtime._dispatcher._waiting)

    async def snoopevent(self, event: Any) -> None:
        self.events.append(event)


def recorder() -> Recorder:
    device = Device("Dev", list(full_driver()["Dev"].properties()))
    return Recorder(device, fence_device()).record()


def number(value: int, name: str = "nu") -> str:
    return f'<newNumberVector device="Dev" name="{name}"><oneNumber name="n">{value}</oneNumber></newNumberVector>'


SWITCH = '<newSwitchVector device="Dev" name="sw"><oneSwitch name="a">On</oneSwitch></newSwitchVector>'


def test_class_patterns_match_events() -> None:
    async def run() -> None:
        driver = recorder()
        async with listening(driver) as client:
            client.send(number(5) + SWITCH)
            await eventually(lambda: len(driver.events) == 2)
        found = []
        for event in driver.events:
            match event:
                case newNumberVector(devicename="Dev", vectorname="nu") if "n" in event:
                    found.append(event["n"])
                case newSwitchVector(devicename="Dev", vectorname="sw"):
                    found.append(event["a"])
        assert found == ["5", "On"]

    asyncio.run(run())


def test_events_of_one_vector_come_one_by_one_and_those_of_others_meanwhile() -> None:
    async def run() -> None:
        driver = recorder()
        driver.hold["nu"] = gate = asyncio.Event()
        async with listening(driver) as client:
            client.send("".join(number(value) for value in range(100)) + SWITCH)
            await eventually(lambda: driver.done == ["sw"])
            assert sum(event.vectorname == "nu" for event in driver.events) == 1
            gate.set()
            await eventually(lambda: len(driver.done) == 101)
            assert [event["n"] for event in driver.events if event.vectorname == "nu"] == [str(n) for n in range(100)]

    asyncio.run(run())


def test_user_code_that_hangs_makes_the_sender_wait() -> None:
    async def run() -> None:
        driver = recorder()
        driver.hold["nu"] = gate = asyncio.Event()
        async with listening(driver) as client:
            client.send("".join(number(value) for value in range(20_000)))
            await eventually(lambda: driver._indifast_runtime._dispatcher._waiting > 200)
            gate.set()
            await eventually(lambda: len(driver.done) == 20_000)
            assert max(driver.waiting) <= 257
            assert [int(event["n"]) for event in driver.events] == list(range(20_000))

    asyncio.run(run())


def test_getproperties_as_events() -> None:
    async def run() -> None:
        driver = recorder()
        driver.auto_send_def = False
        async with listening(driver) as client:
            client.send('<getProperties version="1.7" device="Dev" />')
            await eventually(lambda: len(driver.events) == 5)
            assert all(type(event) is getProperties for event in driver.events)
            assert [event.vector.name for event in driver.events] == list(driver["Dev"])
            assert not client.elements

    asyncio.run(run())


def test_old_programs_answer_getproperties_themselves() -> None:
    class OldStyle(IPyDriver):
        async def clientevent(self, event: Any) -> None:
            match event:
                case getProperties():
                    await event.vector.send_defVector()
                case newNumberVector(devicename="Dev", vectorname="nu") if "n" in event:
                    event.vector["n"] = event["n"]
                    await event.vector.send_setVector(state="Ok")

    async def run() -> None:
        done = asyncio.Event()

        async def task() -> None:
            done.set()

        driver = OldStyle(devices=list(full_driver().values()), tasks=[task()])
        async with listening(driver) as client:
            client.send('<getProperties version="1.7" device="Dev" name="nu" />' + number(7))
            assert (await client.next()).tag == "defNumberVector"
            assert (await client.next()).values() == {"n": "7"}
            await done.wait()

    asyncio.run(run())


@pytest.mark.parametrize("whole_device", ["", ' name=""'])
def test_enableblob_is_an_event(whole_device: str) -> None:
    async def run() -> None:
        driver = recorder()
        async with listening(driver) as client:
            client.send(
                f'<enableBLOB device="Dev"{whole_device}>Also</enableBLOB>'
                '<enableBLOB device="Dev" name="bl"> Only </enableBLOB>'
                '<enableBLOB device="Dev" name="nu">Also</enableBLOB><enableBLOB device="Dev">odd</enableBLOB>'
                '<enableBLOB device="Dev" />' + number(1)
            )
            await eventually(lambda: len(driver.events) == 3)
            first, second, _ = sorted(driver.events, key=lambda event: event.vectorname)
            assert type(first) is type(second) is enableBLOB
            assert (first.value, second.value) == ("Also", "Only")
            client.send(f'<enableBLOB device="Dev"{whole_device}>Never</enableBLOB>' + number(2))
            await eventually(lambda: len(driver.events) == 5)
            driver["Dev"]["bl"]["b1"] = b"unwanted"
            await driver["Dev"]["bl"].send_setVectorMembers(members=["b1"])
            assert not [element for element in await client.answers("") if element.tag == "setBLOBVector"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ('<newTextVector device="Dev" name="sw"><oneText name="a">On</oneText></newTextVector>', "SwitchVector"),
        ('<newSwitchVector device="Dev" name="li"><oneSwitch name="l">On</oneSwitch></newSwitchVector>', "LightVector"),
        ('<newNumberVector device="Dev" name="nu"><oneNumber name="x">1</oneNumber></newNumberVector>', "unknown"),
        ('<newNumberVector device="Dev" name="nu"><oneNumber name="n" /></newNumberVector>', "empty"),
        ('<newTextVector device="Dev" name="tx"><oneText name="t">x</oneText></newTextVector>', "read-only"),
        ('<newSwitchVector device="Dev" name="sw"><oneSwitch name="a">maybe</oneSwitch></newSwitchVector>', "maybe"),
        ('<newBLOBVector device="Dev" name="bw"><oneBLOB name="b" size="4" format=".x">****</oneBLOB></newBLOBVector>',
         "base64"),
        ('<newBLOBVector device="Dev" name="bw"><oneBLOB name="b" size="x">YWJj</oneBLOB></newBLOBVector>', "size"),
        ('<defTextVector device="Dev" name="tx" state="Ok" perm="ro"><defText name="t">x</defText></defTextVector>',
         "own"),
        ('<setNumberVector device="Dev" name="nu"><oneNumber name="n">1</oneNumber></setNumberVector>', "own"),
        ('<message device="Dev" message="x" />', "own"),
        ('<delProperty device="Dev" />', "own"),
        ('<getProperties version="2.0" />', "version"),
        (f'<newTextVector device="Dev" name="tw"><oneText name="{"x" * 99_999}" /></newTextVector>', "skipped"),
        ('<newTextVector device="Dev" name="tw"><oneText name="t">x</oneNumber></newTextVector>', "skipped"),
    ],
)  # fmt: skip
def test_refused_messages_are_harmless_and_logged_once(
    refused: str, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_QUIET", 3600.0)  # on a busy machine the test may take longer than the usual time

    async def run() -> None:
        driver = recorder()
        device = driver["Dev"]
        for vector in (
            BLOBVector("bw", "", "", "rw", "Ok", [BLOBMember("b")]),
            TextVector("tw", "", "", "rw", "Ok", [TextMember("t")]),
        ):
            vector.devicename, vector.driver = "Dev", driver
            device.data[vector.name] = vector
        driver.snoopall = True
        async with listening(driver) as client:
            await client.answers(refused)
            client.send(number(1))
            await eventually(lambda: driver.events)
            await client.answers(refused * 20)
            client.send(number(2))
            await eventually(lambda: len(driver.events) >= 2)
            assert [event["n"] for event in driver.events] == ["1", "2"]
            assert driver.stats()["refused"] == 21

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert reason in errors[0].getMessage()


def test_values_left_out_of_updates_are_counted_and_logged_at_a_limited_rate(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_FAULT_QUIET", 3600.0)  # on a busy machine the updates may take seconds
    update = (
        '<setNumberVector device="Far" name="v" state="Ok"><oneNumber name="a">1</oneNumber>'
        '<oneNumber name="b">0,5</oneNumber></setNumberVector>'
    )

    async def run() -> None:
        driver = recorder()
        driver.snoopall = True
        async with listening(driver) as client:
            client.send(update * 10)
            await eventually(lambda: len(driver.events) == 10)
            assert all(dict(event) == {"a": "1"} for event in driver.events)
            assert driver.stats()["left_out"] == 10

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged == ["snoopevent for Far.v: '0,5' for b is not a number: left out"]


def test_names_of_other_devices_play_no_tricks_on_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        driver = recorder()
        driver.snoopall = True
        async with listening(driver) as client:
            names = 'device="Far\x9b31m" name="v&#10;\u202e"'
            client.send(f'<setNumberVector {names}><oneNumber name="a">x</oneNumber></setNumberVector>')
            await eventually(lambda: len(driver.events) == 1)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["snoopevent for Far\\x9b31m.v\\x0a\\u202e: 'x' for a is not a number: left out"]


def test_text_that_is_not_a_number_is_refused_and_reported_to_the_sender(caplog: pytest.LogCaptureFixture) -> None:
    """Some other servers pass such text to drivers; a driver that accepted it would send it to all clients."""
    wrong = ["abc", "1,5", "0x10", "--1", "1:xx", "nan", "inf", "-Infinity", "1e999", "", "1:-30", "1_000", "1 : 2"]
    right = ["1 2", "1;2", "-0:30:15.5", " 12.5\n", "1e-3", "+5", "12:", ".5"]

    async def run() -> None:
        driver = recorder()
        async with listening(driver) as client:
            for count, text in enumerate(wrong, 1):
                client.send(number(1).replace(">1<", f">{text}<"))
                refusal = await client.next("message")
                assert refusal.device == "Dev"
                assert refusal.attrs["message"].startswith("refused: a command for Dev.nu: n: ")
                assert driver.stats()["refused"] == count
            client.send("".join(number(1).replace(">1<", f">{text}<") for text in right))
            await eventually(lambda: len(driver.events) == len(right))
            assert [event["n"] for event in driver.events] == [text.strip() for text in right]
            assert sum(element.tag == "message" for element in await client.answers("")) == 0
            assert len([element for element in client.elements if element.tag == "message"]) == len(wrong)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert 1 <= len([record for record in caplog.records if "nu refused: n: " in record.getMessage()]) < len(wrong)


def test_commands_for_unknown_or_disabled_vectors_are_ignored() -> None:
    async def run() -> None:
        driver = recorder()
        driver["Dev"]["sw"].enable = False
        async with listening(driver) as client:
            client.send(
                number(1, "unknown") + number(2).replace("Dev", "Other") + SWITCH
                + number(3).replace(' device="Dev"', "") + number(4).replace(' name="nu"', "", 1) + number(5)
            )  # fmt: skip
            await eventually(lambda: driver.events)
            assert [event["n"] for event in driver.events] == ["5"]
            driver["Dev"].enable = False
            await client.answers(number(6))
            assert len(driver.events) == 1

    asyncio.run(run())


def test_non_ascii_text_as_characters_and_references() -> None:
    async def run() -> None:
        driver = recorder()
        driver["Dev"]["tx"].perm = "rw"
        async with listening(driver) as client:
            client.send(
                '<newTextVector device="Dev" name="tx"><oneText name="t">é&#233;&#x20ac;</oneText></newTextVector>'
            )
            await eventually(lambda: driver.events)
            assert driver.events[0]["t"] == "éé€"

    asyncio.run(run())


def test_traffic_is_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        driver = recorder()
        driver.debug_enable = True
        async with listening(driver) as client:
            client.send('<enableBLOB device="Dev">Also</enableBLOB>' + number(3))
            await eventually(lambda: len(driver.events) == 2)
            driver["Dev"]["bl"]["b1"] = b"secret" * 10
            await driver["Dev"]["bl"].send_setVectorMembers(members=["b1"])
            await driver["Dev"]["nu"].send_setVector()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if record.name == "indifast.driver.ipydriver"]
    assert any(line.startswith("RX:: <newNumberVector") and ">3<" in line for line in lines)
    assert any(line.startswith("TX:: <setNumberVector") for line in lines)
    assert any(line.startswith("TX:: <setBLOBVector") for line in lines)
    assert not any("c2VjcmV0" in line for line in lines)
