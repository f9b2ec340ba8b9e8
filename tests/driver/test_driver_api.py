"""Constructors, mappings, setters that tolerate wrong values, and what sending does to a vector."""

from __future__ import annotations

import asyncio
import inspect
import logging
import warnings
from collections import UserDict
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

import indifast
from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
    getfloat,
)
from indifast.driver.propertyvectors import timestamp_string
from tests.driver.support import fence_device, full_driver, listening, messages


def text_vector(name: str = "t", **arguments: Any) -> TextVector:
    given = {"label": "", "group": "", "perm": "rw", "state": "Ok", "textmembers": [TextMember("m")], **arguments}
    return TextVector(name, **given)


def number_driver() -> tuple[IPyDriver, NumberVector]:
    vector = NumberVector("n", "L", "G", "rw", "Busy", [NumberMember("a"), NumberMember("b", membervalue=2)])
    return IPyDriver(Device("Dev", [vector]), fence_device()), vector


# Construction


def test_everything_that_old_and_new_programs_import_exists() -> None:
    for name in indifast.__all__:
        if name not in ("IPyServer", "IPyClient"):
            assert getattr(indifast, name).__name__ == name if name != "version" else indifast.version
    with pytest.raises(AttributeError):
        indifast.nothing  # noqa: B018
    assert indifast.events.EventException.__mro__[1] is Exception


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (SwitchVector, "name label group perm rule state switchmembers"),
        (LightVector, "name label group state lightmembers"),
        (TextVector, "name label group perm state textmembers"),
        (NumberVector, "name label group perm state numbermembers"),
        (BLOBVector, "name label group perm state blobmembers"),
        (SwitchMember, "name label membervalue"),
        (LightMember, "name label membervalue"),
        (TextMember, "name label membervalue"),
        (NumberMember, "name label format min max step membervalue"),
        (BLOBMember, "name label blobsize blobformat membervalue"),
        (Device, "devicename properties"),
    ],
)
def test_positional_arguments(cls: type, names: str) -> None:
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert [p.name for p in inspect.signature(cls).parameters.values() if p.kind is positional] == names.split()


@pytest.mark.parametrize("make", [TextMember, text_vector, lambda name: Device(name, [])])
def test_names_must_be_ascii(make: Any) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        make("é")
    with pytest.raises(AttributeError):
        make(None)


def test_members_must_fit_their_vector() -> None:
    with pytest.raises(TypeError, match="NumberMember"):
        NumberVector("n", "", "", "rw", "Ok", [TextMember("t")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="blobsize"):
        BLOBMember("b", blobsize="5")  # type: ignore[arg-type]
    assert list(text_vector(textmembers=[TextMember("m", "1"), TextMember("m", "2")]).data["m"].label) == ["2"]
    assert len(text_vector(textmembers=[])) == 0


def test_device_names_must_be_unique() -> None:
    with pytest.raises(ValueError, match="Dev"):
        IPyDriver(Device("Dev", []), Device("Dev", []))


def test_drivers_devices_and_vectors_are_mappings() -> None:
    driver = full_driver()
    assert isinstance(driver, UserDict)
    assert list(driver) == ["Dev", "Fence"]
    assert driver["Dev"] is driver.devices()[0] is driver.devices["Dev"]
    assert dict(driver.devices.items()) == driver.data
    device = driver["Dev"]
    assert device.driver is driver
    assert [vector.name for vector in device.properties()] == list(device) == list(device.propertyvectors)
    vector = device["nu"]
    assert vector.driver is driver
    assert vector.device is device
    assert dict(vector) == {"n": "1.25"} == dict(vector.items())
    assert vector.data["n"].membervalue == "1.25"
    assert vector.pop("n") == "1.25"
    assert not vector
    assert not IPyDriver()
    for mapping in (driver, device):
        with pytest.raises(TypeError):
            mapping["x"] = 1
        with pytest.raises(KeyError):
            mapping["x"]
    with pytest.raises(KeyError):
        vector["x"]
    with pytest.raises(TypeError):
        text_vector().device  # noqa: B018


def test_other_arguments_are_kept_as_user_data() -> None:
    driver = IPyDriver(Device("Dev", [], port=1), hardware_object=2, devices=3, tasks="x")
    assert driver["Dev"].devicedata == {"port": 1}
    assert driver.driverdata == {"hardware_object": 2, "devices": 3, "tasks": "x"}


def test_the_constructor_accepts_what_old_programs_pass() -> None:
    async def task() -> None: ...

    coro = task()
    device = Device("Dev", [])
    driver = IPyDriver(devices=[device], tasks=[coro], other=1)
    assert driver["Dev"] is device
    assert driver.driverdata == {"other": 1}
    assert list(IPyDriver([Device("Dev", [])])) == ["Dev"]
    coro.close()


def test_old_programs_may_set_stop_by_its_private_name() -> None:
    driver, _ = number_driver()
    driver._stop = True
    assert driver.stop
    driver._stop = False
    assert not driver.stop


def test_initial_attributes_and_shutdown() -> None:
    driver, vector = number_driver()
    assert (driver.auto_send_def, driver.debug_enable, driver.stop, driver._stop) == (True, False, False, False)
    assert (driver.snoopall, driver.snoopdevices, driver.snoopvectors) == (False, set(), {})
    assert not driver.stopped.is_set()
    assert not driver.shutdownrequested.is_set()
    assert (vector.vectortype, vector.devicename, vector.timeout, vector.enable) == ("NumberVector", "Dev", "0", True)
    assert (vector.changed, vector.message, vector.stop) == (True, "", False)
    assert all(member.changed for member in vector.data.values())
    driver.shutdown()
    driver.shutdown()
    assert driver.stop
    assert driver["Dev"].stop
    assert vector.stop
    assert driver.shutdownrequested.is_set()


def test_number_conversions() -> None:
    assert IPyDriver.indi_number_to_float("1:30") == Device.indi_number_to_float("1:30") == getfloat("1:30") == 1.5
    vector = NumberVector("n", "", "", "rw", "Ok", [NumberMember("a", format="%8.6m", membervalue=12.99999999)])
    assert vector.getfloatvalue("a") == 12.99999999
    assert vector.getformattedvalue("a") == "13:00:00"
    assert vector.data["a"].format_number(1.5) == " 1:30:00"
    vector["a"] = None
    assert vector["a"] == "None"
    with pytest.raises(TypeError):
        vector.getfloatvalue("a")
    with pytest.raises(KeyError):
        vector.getformattedvalue("b")


# Setters


@pytest.mark.parametrize("name", ["state", "perm", "rule"])
def test_a_wrong_word_is_logged_and_the_old_one_kept(name: str, caplog: pytest.LogCaptureFixture) -> None:
    vector = SwitchVector("s", "", "", "rw", "AtMostOne", "Ok", [])
    before = getattr(vector, name)
    for value in ("wrong", None, 5, []):
        setattr(vector, name, value)
        assert getattr(vector, name) == before
    assert len(caplog.records) == 4
    assert all(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)
    assert caplog.records[0].name == "indifast.driver.propertyvectors"


def test_a_wrong_word_at_construction_fails_when_the_vector_is_sent() -> None:
    stateless = text_vector("stateless", state="wrong")
    permless = text_vector("permless", perm="wrong")
    ruleless = SwitchVector("ruleless", "", "", "rw", "wrong", "Ok", [])
    driver = IPyDriver(Device("Dev", [stateless, permless, ruleless]))
    assert stateless.state is None
    with pytest.raises(TypeError):
        asyncio.run(stateless.send_defVector())
    for vector in (permless, ruleless):
        with pytest.raises(AttributeError):
            asyncio.run(vector.send_defVector())
    assert driver["Dev"].enable


def test_lights_are_read_only() -> None:
    vector = LightVector("l", "", "", "Ok", [])
    assert vector.perm == "ro"
    with pytest.raises(AttributeError):
        vector.perm = "rw"  # type: ignore[misc]


def test_wrong_values_are_refused_after_construction(caplog: pytest.LogCaptureFixture) -> None:
    vector = SwitchVector("s", "", "", "rw", "AtMostOne", "Ok", [SwitchMember("a", membervalue="whatever")])
    assert vector["a"] == "whatever"  # the initial value is not checked
    vector["a"] = "On"
    vector["a"] = "on"
    vector["unknown"] = "On"
    vector.update({"a": "Off", "b": "On"})
    assert dict(vector) == {"a": "Off"}
    assert len(caplog.records) == 3
    with pytest.raises(ValueError):
        vector.data["a"].membervalue = "maybe"
    with pytest.raises(ValueError):
        LightMember("l").membervalue = "Green"


def test_blob_values_must_not_be_empty() -> None:
    import numpy as np

    member = BLOBMember("b")
    for value in (None, b"", "", bytearray(), memoryview(b""), np.zeros(0)):
        with pytest.raises(ValueError):
            member.membervalue = value
    for value in (b"x", np.zeros((2, 2)), np.zeros((4, 4))[::2, ::2], np.array(5), memoryview(b"x")):
        member.membervalue = value
        assert member.membervalue is value


def test_an_array_of_python_objects_is_refused_as_a_blob(caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np

    vector = BLOBVector("b", "", "", "ro", "Ok", [BLOBMember("b", membervalue=b"x")])
    vector["b"] = np.array([object()])
    assert vector["b"] == b"x"
    assert "array of Python objects" in caplog.text


def test_changed_follows_the_values() -> None:
    driver, vector = number_driver()

    async def send(driver: IPyDriver) -> None:
        await vector.send_defVector()
        assert [m.changed for m in vector.data.values()] == [True, True]
        assert not vector.changed
        await vector.send_setVector()
        assert [m.changed for m in vector.data.values()] == [False, False]
        vector["a"] = "0"
        assert not vector.data["a"].changed
        vector["a"] = "1"
        assert vector.data["a"].changed
        vector.timeout = 5
        assert vector.timeout == "5"
        assert vector.changed
        await vector.send_setVectorMembers(members=["b"])
        assert not vector.changed
        assert vector.data["a"].changed
        await vector.send_delProperty()
        assert [m.changed for m in vector.data.values()] == [True, True]
        assert vector.changed
        assert not vector.enable

    messages(send, driver=driver)


# Sending


def test_allvalues_false_sends_what_has_changed() -> None:
    driver, vector = number_driver()
    steps: list[tuple[dict[str, Any], list[str] | None]] = [
        ({}, ["a", "b"]),
        ({}, None),
        ({"a": 5}, ["a"]),
        ({"state": "Busy"}, None),
        ({"state": "Alert"}, []),
        ({"timeout": 3}, []),
        ({"timeout": "3"}, None),
        ({"message": "hi"}, []),
        ({"message": "hi"}, None),
        ({}, None),
        ({"message": "ho"}, []),
        ({"state": "Ok"}, []),
        ({}, []),  # Ok is always sent
    ]

    async def send(driver: IPyDriver) -> None:
        for step, _ in steps:
            options = dict(step)
            if "a" in options:
                vector["a"] = options.pop("a")
            await vector.send_setVector(**options, allvalues=False)
            await driver.send_message("next")

    sent: list[list[str]] = [[]]
    for text in messages(send, driver=driver):
        if 'message="next"' in text:
            sent.append([])
        else:
            sent[-1].append(text)
    for (step, expected), texts in zip(steps, sent, strict=False):
        assert len(texts) == (expected is not None), step
        if expected is not None:
            names = [name for name in "ab" if f'<oneNumber name="{name}">' in texts[0]]
            assert names == expected, step


def test_a_message_is_sent_once() -> None:
    driver, vector = number_driver()

    async def send(driver: IPyDriver) -> None:
        await vector.send_setVector(message="once")
        await vector.send_setVector()
        vector.message = "with the next one"
        await vector.send_defVector()
        await vector.send_defVector()
        vector.message = 5  # type: ignore[assignment]
        await vector.send_delProperty()

    found = [text.partition(' message="')[2].partition('"')[0] for text in messages(send, driver=driver)]
    assert found == ["once", "", "with the next one", "", ""]


def test_impossible_sends_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    driver, vector = number_driver()
    other = datetime.now(timezone(timedelta(hours=1)))

    async def send(driver: IPyDriver) -> None:
        for options in ({"state": "wrong"}, {"timestamp": "now"}, {"timestamp": other}):
            await vector.send_defVector(**options)
            await vector.send_setVector(**options)
            await vector.send_setVectorMembers(**options)
        await vector.send_delProperty(timestamp=5)  # type: ignore[arg-type]
        await driver.send_message("m", timestamp=5)  # type: ignore[arg-type]
        await driver["Dev"].send_device_message("m", timestamp=other)
        await driver["Dev"].send_delProperty(timestamp=other)
        assert vector.enable
        assert driver["Dev"].enable

    with caplog.at_level(logging.ERROR):
        assert messages(send, driver=driver) == []
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 13


def test_disabled_vectors_and_devices_send_only_their_deletion() -> None:
    driver = full_driver()
    device = driver["Dev"]

    async def send(driver: IPyDriver) -> None:
        device["nu"].enable = False
        await device["nu"].send_defVector()
        await device["nu"].send_setVector(state="Alert")
        await device["nu"].send_setVectorMembers()
        await device["nu"].send_delProperty()
        device.enable = False
        await device["sw"].send_setVector()
        await device["bl"].send_setVectorMembers(members=["b1"])
        await device.send_device_message("m")
        await device["sw"].send_delProperty()
        await device.send_delProperty()
        assert device["nu"].state == "Alert"

    assert [text.split()[0] for text in messages(send, driver=driver)] == ["<delProperty"] * 3


def test_rules_are_not_enforced_and_invalid_switches_are_left_out() -> None:
    switches = [SwitchMember("a", None, "On"), SwitchMember("b", None, "On"), SwitchMember("c", None, "odd")]
    vector = SwitchVector("s", "", "", "rw", "OneOfMany", "Ok", switches)
    driver = IPyDriver(Device("Dev", [vector]), fence_device())
    (text,) = messages(lambda _: vector.send_setVector(), driver=driver)
    assert text.count(">On<") == 2
    assert "odd" not in text


def test_a_text_of_the_wrong_type_fails_when_it_is_sent() -> None:
    driver = full_driver()

    async def send(driver: IPyDriver) -> None:
        vector = driver["Dev"]["tx"]
        vector["t"] = None
        await vector.send_setVector()
        vector["t"] = 5
        with pytest.raises(TypeError):
            await vector.send_setVector()

    (text,) = messages(send, driver=driver)
    assert '<oneText name="t" />' in text


def test_blob_vectors_have_no_send_setvector() -> None:
    assert not hasattr(full_driver()["Dev"]["bl"], "send_setVector")


def test_a_vector_without_a_driver_cannot_send() -> None:
    with pytest.raises(TypeError):
        asyncio.run(text_vector().send_setVector())


def test_messages_sent_while_the_driver_does_not_run_are_counted() -> None:
    driver, vector = number_driver()
    asyncio.run(vector.send_setVector())
    assert driver.stats()["sent_nowhere"] == 1


def test_members_as_xml_elements() -> None:
    device = full_driver()["Dev"]
    assert tostring(device["nu"].data["n"].defnumber()) == (
        b'<defNumber name="n" label="n" format="%9.6m" min="-5" max="10.5" step="0">1.25</defNumber>'
    )
    assert tostring(device["nu"].data["n"].onenumber()) == b'<oneNumber name="n">1.25</oneNumber>'
    assert tostring(device["sw"].data["a"].defswitch()) == b'<defSwitch name="a" label="a">On</defSwitch>'
    assert tostring(device["sw"].data["a"].oneswitch()) == b'<oneSwitch name="a">On</oneSwitch>'
    assert tostring(device["tx"].data["e"].deftext()) == b'<defText name="e" label="e" />'
    assert tostring(device["tx"].data["e"].onetext()) == b'<oneText name="e" />'
    assert tostring(device["li"].data["l"].deflight()) == b'<defLight name="l" label="l">Busy</defLight>'
    assert tostring(device["li"].data["l"].onelight()) == b'<oneLight name="l">Busy</oneLight>'
    blob = device["bl"].data["b1"]
    assert tostring(blob.defblob()) == b'<defBLOB name="b1" label="b1" />'
    assert tostring(blob.oneblob(b"abc")) == b'<oneBLOB name="b1" format="" size="3">YWJj</oneBLOB>'
    assert blob.checkvalue(1, [1, 2]) == 1
    with pytest.raises(ValueError):
        device["nu"].checkvalue(3, [1, 2])


def test_an_element_tree_can_be_sent() -> None:
    tree = Element("message", {"device": "Dev", "message": "é<"})
    assert messages(lambda driver: driver.send(tree)) == ['<message device="Dev" message="é&lt;" />']


def test_an_element_tree_with_blobs_goes_to_clients_that_want_it() -> None:
    async def run() -> None:
        driver = full_driver()
        tree = fromstring(
            '<setBLOBVector device="Dev" name="bl"><oneBLOB name="b1" size="3" format="">YWJj</oneBLOB></setBLOBVector>'
        )
        async with listening(driver) as client:
            for enable, wanted in (("", False), ("Also", True), ("Never", False)):
                first = len(client.elements)
                await client.answers(f'<enableBLOB device="Dev">{enable}</enableBLOB>')
                await driver.send(tree)
                await driver.send_message(f"end {enable}")
                await client.until(lambda: client.elements[-1].tag == "message")
                assert any(element.blob for element in client.elements[first:]) == wanted
            tree[0].text = "!"
            for wrong in tree, Element("setPictureVector", {"device": "Dev"}):
                with pytest.raises(ValueError):
                    await driver.send(wrong)

    asyncio.run(run())


# Background


def test_add_background_takes_only_coroutines() -> None:
    driver, _ = number_driver()
    for owner in (driver, driver["Dev"], Device("Free", [])):
        with pytest.raises(TypeError):
            owner.add_background(lambda: None)


def test_a_driver_that_never_runs_leaves_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver, _ = number_driver()
        del driver


def test_timestamp_string() -> None:
    assert timestamp_string(datetime(2024, 1, 2, 3, 4, 5)) == "2024-01-02T03:04:05"
    now = timestamp_string()
    assert now is not None
    assert datetime.fromisoformat(now).tzinfo is None
    wrong: Any = "now"
    assert timestamp_string(wrong) is None
