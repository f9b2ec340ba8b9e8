"""Definitions and updates that are incomplete or damaged: only the unreadable parts are lost, and that is reported."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from indifast import Device, IPyDriver, IPyServer, NumberMember, NumberVector
from tests.client.support import BLOBS, NUMBERS, SWITCHES, Recorder, session
from tests.support.blackbox import LIMIT

DAMAGED = (
    '<defSwitchVector device="D" name="F" state="Ok" perm="rw" rule="OneOfMany"><defSwitch name="fits">On</defSwitch>'
    '<defSwitch name="xisf">OFF</defSwitch><defSwitch name="" label="">Off</defSwitch></defSwitchVector>'
    '<defNumberVector device="D" name="fps" state="Idle" perm="rw">'
    '<defNumber name="target" min="0" max="10" step="0"/><defNumber name="current">0,5</defNumber></defNumberVector>'
    '<defLightVector device="D" name="Y"><defLight name="l"/></defLightVector>'
)


def test_a_damaged_member_stays_until_a_valid_update() -> None:
    async def scenario() -> None:
        async with session(DAMAGED) as (server, client):
            switches, numbers, lights = (client["D"][name] for name in ("F", "fps", "Y"))
            assert dict(switches) == {"fits": "On", "xisf": "Off"}
            assert [member.received for member in switches.members().values()] == [None, "OFF"]
            assert dict(numbers) == {"target": "", "current": "0,5"}
            assert [math.isnan(numbers.getfloatvalue(name)) for name in numbers] == [True, True]
            current = numbers.member("current")
            assert (current.received, current.format, current.min, current.max) == ("0,5", "%g", "0", "0")
            assert dict(lights) == {"l": "Idle"} and lights.state == "Idle"
            assert numbers.snapshot().member("current").received == "0,5"

            await server.send(
                '<setNumberVector device="D" name="fps" state="Ok"><oneNumber name="current">1:30</oneNumber>'
                '<oneNumber name="target">N/A</oneNumber></setNumberVector>'
                '<setSwitchVector device="D" name="F"><oneSwitch name="xisf">On</oneSwitch></setSwitchVector>'
            )
            event = await client.got("Set", 2)
            assert (event.state, switches.state, dict(switches)) == (None, "Ok", {"fits": "On", "xisf": "On"})
            assert dict(client.of("Set")[0]) == {"current": "1:30"}
            assert (current.membervalue, current.getfloatvalue(), current.received) == ("1:30", 1.5, None)
            assert switches.member("xisf").received is None
            assert (numbers["target"], numbers.member("target").received) == ("", "")
            assert numbers.snapshot().member("current").received is None

    asyncio.run(scenario())


def test_damage_is_reported_once_for_each_property(caplog: pytest.LogCaptureFixture) -> None:
    problems: list[tuple[str, str, str]] = []

    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            client.on_problem = lambda *problem: problems.append(problem)
            await server.send(DAMAGED * 3 + '<defTextVector device="D" name="none"><defText/></defTextVector>' * 3)
            await server.send(
                '<setNumberVector device="D" name="N"><oneNumber name="a">x</oneNumber></setNumberVector>'
                * 3
                + '<setNumberVector device="D" name="later"/>'  # not a problem: its definition may still come
                '<message message="end"/>'
            )
            await client.got_message("end")
            assert client.problems == {(device, name): text for device, name, text in problems}
            assert client.stats()["left_out"] == 3 * 3 + 3 and client.stats()["refused"] == 4
            assert "none" not in client["D"]

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert problems == [
        ("D", "F", "'OFF' for xisf is not one of On, Off"),
        ("D", "fps", "'0,5' for current is not a number"),
        ("D", "none", "a definition without members that have a name"),
        ("D", "N", "'x' for a is not a number: left out"),
    ]
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    for device, name, text in problems[:2] + problems[3:]:
        assert logged.count(("WARNING", f"{device}: {name}: {text}")) == 1
    assert logged.count(("INFO", "D: F: 1 members without a name are left out")) == 0  # the other fault was logged


def test_members_without_a_name_are_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Every camera has one if libindi was built without a certain library."""
    nameless = SWITCHES.replace("</defSwitchVector>", '<defSwitch name="" label="">Off</defSwitch></defSwitchVector>')

    async def scenario() -> None:
        async with session(nameless, nameless) as (server, client):
            assert list(client["D"]["S"]) == ["on", "off"]
            assert not client.problems and client.stats()["left_out"] == 2
            await server.send(
                '<setSwitchVector device="D" name="S"><oneSwitch name="">On</oneSwitch></setSwitchVector>'
            )
            assert dict(await client.got("Set")) == {}

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    levels = [record.levelname for record in caplog.records if "without a name" in record.getMessage()]
    assert levels == ["INFO"]


def test_an_answer_with_a_damaged_member_still_answers() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            command = asyncio.create_task(client.send_newVector("D", "N", members={"a": 2}, wait=True, timeout=LIMIT))
            await server.expect("<newNumberVector")
            await server.send(
                '<setNumberVector device="D" name="N" state="Ok"><oneNumber name="a">2</oneNumber>'
                '<oneNumber name="b">N/A</oneNumber></setNumberVector>'
            )
            vector = await command
            assert dict(vector) == {"a": "2", "b": "-0:30:15"}

    asyncio.run(scenario())


@pytest.mark.parametrize("state", ["", ' state="Fine"'])
def test_an_update_without_a_state_is_not_an_answer(state: str) -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            command = asyncio.create_task(
                client.send_newVector("D", "N", members={"a": 2}, wait=True, timeout=LIMIT, accept=("Busy", "Ok"))
            )
            await server.expect("<newNumberVector")
            await server.send(f'<setNumberVector device="D" name="N"{state}><oneNumber name="a">2</oneNumber>'
                              "</setNumberVector>")  # fmt: skip
            await client.got("Set")
            await client.until(lambda: client["D"]["N"]["a"] == "2")
            assert client["D"]["N"].state == "Busy" and not command.done()
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            assert (await command).state == "Ok"

    asyncio.run(scenario())


def test_an_earlier_state_does_not_end_an_exposure() -> None:
    definition = NUMBERS.replace('state="Idle"', 'state="Alert"')

    async def scenario() -> None:
        async with session(definition, BLOBS) as (server, client):
            exposure = asyncio.create_task(client.expose("D", 0.1, vector="B", exposure="N", timeout=LIMIT))
            await server.expect("<newNumberVector")
            client["D"]["N"].state = "Alert"
            await server.send(
                '<setNumberVector device="D" name="N"><oneNumber name="a">0</oneNumber></setNumberVector>'
            )
            await client.got("Set")
            await server.send(
                '<setBLOBVector device="D" name="B" state="Ok"><oneBLOB name="img" size="3">QUJD</oneBLOB>'
                '<oneBLOB name="" size="3" format="">QUJD</oneBLOB></setBLOBVector>'
            )
            frame = await exposure
            assert (frame.membername, bytes(frame.data), frame.format, frame.size) == ("img", b"ABC", "", 3)

    asyncio.run(scenario())


@pytest.mark.parametrize("size", ["", ' size=""', ' size="big"', ' size="-1"'])
def test_a_frame_without_a_valid_size_has_the_size_of_its_content(size: str) -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            await server.send(
                f'<setBLOBVector device="D" name="B" state="Ok"><oneBLOB name="img"{size} format=".x">QUJD</oneBLOB>'
                "</setBLOBVector>"
            )
            event = await client.got("SetBLOB")
            assert (dict(event), event.sizeformat) == ({"img": b"ABC"}, {"img": (3, ".x")})

    asyncio.run(scenario())


def test_a_driver_that_says_nothing_about_its_number() -> None:
    """As the first driver of a newcomer does."""

    async def scenario() -> None:
        vector = NumberVector("V", "V", "G", "rw", "Ok", [NumberMember("m", membervalue=1)])
        async with IPyServer(IPyDriver(Device("New", [vector])), port=0) as server:
            client: Any = Recorder("127.0.0.1", server.port)
            async with client:
                await client.wait_for("New", "V", timeout=LIMIT)
                member = client["New"]["V"].member("m")
                assert (member.format, member.min, member.max, member.step) == ("%g", "0", "0", "0")
                assert (member.getformattedvalue(), member.received) == ("1", None)
                assert not client.problems

    asyncio.run(scenario())
