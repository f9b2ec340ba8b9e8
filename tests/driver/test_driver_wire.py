"""What a driver writes, byte for byte."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from indifast import IPyDriver
from tests.driver.support import full_driver, listening, messages

STAMP = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_definitions() -> None:
    async def send(driver: IPyDriver) -> None:
        for vector in driver["Dev"].values():
            await vector.send_defVector(timestamp=STAMP)

    assert messages(send) == [
        '<defSwitchVector device="Dev" name="sw" label="SwL" group="G" state="Ok" perm="rw" rule="OneOfMany" '
        'timestamp="2024-01-02T03:04:05" timeout="0"><defSwitch name="a" label="a">On</defSwitch>'
        '<defSwitch name="b" label="Bee">Off</defSwitch></defSwitchVector>',
        '<defNumberVector device="Dev" name="nu" label="NuL" group="G" state="Busy" perm="wo" '
        'timestamp="2024-01-02T03:04:05" timeout="0"><defNumber name="n" label="n" format="%9.6m" min="-5" max="10.5" '
        'step="0">1.25</defNumber></defNumberVector>',
        '<defTextVector device="Dev" name="tx" label="TxL" group="G" state="Idle" perm="ro" '
        'timestamp="2024-01-02T03:04:05"><defText name="t" label="T">a&lt;b&gt;&amp;"c" é</defText>'
        '<defText name="e" label="e" /></defTextVector>',
        '<defLightVector device="Dev" name="li" label="LiL" group="G" state="Alert" timestamp="2024-01-02T03:04:05">'
        '<defLight name="l" label="l">Busy</defLight></defLightVector>',
        '<defBLOBVector device="Dev" name="bl" label="BlL" group="G" state="Ok" perm="ro" '
        'timestamp="2024-01-02T03:04:05"><defBLOB name="b1" label="b1" /></defBLOBVector>',
    ]


def test_definition_with_message_timeout_and_state() -> None:
    (text,) = messages(lambda driver: driver["Dev"]["nu"].send_defVector('say "<\n>"', STAMP, 12.5, "Alert"))
    assert ' state="Alert" perm="wo" timestamp="2024-01-02T03:04:05" timeout="12.5" message="' in text
    assert ' message="say &quot;&lt;&#10;&gt;&quot;">' in text


def test_updates() -> None:
    async def numbers(driver: IPyDriver) -> None:
        await driver["Dev"]["nu"].send_setVector(timestamp=STAMP, timeout=12.5)

    async def switches(driver: IPyDriver) -> None:
        stamp = STAMP.replace(microsecond=678)
        await driver["Dev"]["sw"].send_setVector(message="hello", timestamp=stamp)

    async def lights(driver: IPyDriver) -> None:
        await driver["Dev"]["li"].send_setVector(timestamp=STAMP, state="Ok", timeout=5)

    async def nothing(driver: IPyDriver) -> None:
        await driver["Dev"]["nu"].send_setVectorMembers(timestamp=STAMP, state="Idle", members=["unknown"])

    assert messages(numbers, switches, lights, nothing) == [
        '<setNumberVector device="Dev" name="nu" state="Busy" timestamp="2024-01-02T03:04:05" timeout="12.5">'
        '<oneNumber name="n">1.25</oneNumber></setNumberVector>',
        '<setSwitchVector device="Dev" name="sw" state="Ok" timestamp="2024-01-02T03:04:05.000678" timeout="0" '
        'message="hello"><oneSwitch name="b">Off</oneSwitch><oneSwitch name="a">On</oneSwitch></setSwitchVector>',
        '<setLightVector device="Dev" name="li" state="Ok" timestamp="2024-01-02T03:04:05">'
        '<oneLight name="l">Busy</oneLight></setLightVector>',
        '<setNumberVector device="Dev" name="nu" state="Idle" timestamp="2024-01-02T03:04:05" timeout="12.5" />',
    ]


def test_a_blob_from_a_file_has_the_suffixes_of_its_path_as_format(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"pathdata")

    async def send(driver: IPyDriver) -> None:
        driver["Dev"]["bl"]["b1"] = path
        await driver["Dev"]["bl"].send_setVectorMembers(timestamp=STAMP, members=["b1"])

    assert messages(send) == [
        '<setBLOBVector device="Dev" name="bl" state="Ok" timestamp="2024-01-02T03:04:05">'
        '<oneBLOB name="b1" format=".tar.gz" size="8">cGF0aGRhdGE=</oneBLOB></setBLOBVector>'
    ]


def test_small_messages() -> None:
    assert messages(
        lambda driver: driver["Dev"]["sw"].send_delProperty("gone", STAMP),
        lambda driver: driver["Dev"].send_device_message("hi", STAMP),
        lambda driver: driver.send_message("sys", STAMP),
        lambda driver: driver.send_message(timestamp=STAMP),
        lambda driver: driver.send_getProperties("Other", "vec"),
        lambda driver: driver.send_getProperties("Other"),
        lambda driver: driver.send_getProperties(vectorname="alone"),
        lambda driver: driver["Dev"].send_delProperty(timestamp=STAMP),
    ) == [
        '<delProperty device="Dev" name="sw" timestamp="2024-01-02T03:04:05" message="gone" />',
        '<message device="Dev" timestamp="2024-01-02T03:04:05" message="hi" />',
        '<message timestamp="2024-01-02T03:04:05" message="sys" />',
        '<message timestamp="2024-01-02T03:04:05" />',
        '<getProperties version="1.7" device="Other" name="vec" />',
        '<getProperties version="1.7" device="Other" />',
        '<getProperties version="1.7" />',
        '<delProperty device="Dev" timestamp="2024-01-02T03:04:05" />',
    ]


@pytest.mark.parametrize(
    ("value", "defined", "sent"),
    [
        ("3:30:00", "3:30:00", "3.5"),
        ("-0:30", "-0:30", "-0.5"),
        (Decimal("1.50"), "1.50", "1.50"),
        (np.float64(0.1), "0.1", "0.1"),
        (np.int16(7), "7", "7"),
        ("free text", "free text", "free text"),
    ],
)
def test_how_numbers_are_written(value: object, defined: str, sent: str) -> None:
    async def send(driver: IPyDriver) -> None:
        driver["Dev"]["nu"]["n"] = value
        await driver["Dev"]["nu"].send_defVector()
        await driver["Dev"]["nu"].send_setVector()

    definition, update = messages(send)
    assert f">{defined}</defNumber>" in definition
    assert f">{sent}</oneNumber>" in update


def test_a_definition_shows_later_changes() -> None:
    async def send(driver: IPyDriver) -> None:
        vector = driver["Dev"]["nu"]
        await vector.send_defVector()
        vector["n"] = 2
        vector.data["n"].max = "99"
        vector.label = "other"
        await vector.send_defVector()
        del vector["n"]
        await vector.send_defVector()

    first, second, third = messages(send)
    assert 'label="NuL"' in first
    assert ">1.25<" in first
    assert 'label="other"' in second
    assert 'max="99"' in second
    assert ">2<" in second
    assert third.endswith('timeout="0" />')


def test_characters_that_xml_forbids_are_replaced() -> None:
    async def send(driver: IPyDriver) -> None:
        driver["Dev"]["tx"]["t"] = "a\x00b\ud800c"
        await driver["Dev"]["tx"].send_setVector(message="m\x01")

    (text,) = messages(send)
    assert ">a\ufffdb\ufffdc<" in text
    assert 'message="m\ufffd"' in text


def test_there_is_nothing_between_messages_on_tcp() -> None:
    async def run() -> bytes:
        driver = full_driver()
        async with listening(driver) as client:
            await client.answers('<getProperties version="1.7" device="Dev" />')
            return bytes(client.raw)

    raw = asyncio.run(run())
    assert b"\n" not in raw
    assert len(re.findall(rb"Vector><def\w+Vector", raw)) == 5


def test_which_definitions_answer_getproperties() -> None:
    everything = ["sw", "nu", "tx", "bl"]
    requests = [
        ('<getProperties version="1.7" />', [*everything, "fence"]),
        ('<getProperties version="1.7" name="nu" />', [*everything, "fence"]),
        ('<getProperties version="1.7" device="" name="" />', [*everything, "fence"]),
        ('<getProperties version="1.7" device="" name="nu"></getProperties>', [*everything, "fence"]),
        ('<getProperties version="1.7" device="Dev" />', everything),
        ('<getProperties version="1.7" device="Dev" name="" />', everything),
        ('<getProperties version="1.7" device="Dev" name="nu" />', ["nu"]),
        ('<getProperties version="1.7" device="Dev" name="li" />', []),
        ('<getProperties version="1.7" device="Dev" name="unknown" />', []),
        ('<getProperties version="1.7" device="Other" />', []),
        ('<getProperties version="1.8" />', []),
        ("<getProperties />", []),
    ]

    async def run() -> None:
        driver = full_driver()
        driver["Dev"]["li"].enable = False
        async with listening(driver) as client:
            for request, expected in requests:
                answers = await client.answers(request, expected.count("fence"))
                assert [element.name for element in answers] == expected, request
            driver["Dev"].enable = False
            assert not await client.answers('<getProperties version="1.7" device="Dev" />')

    asyncio.run(run())
