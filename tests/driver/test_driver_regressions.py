"""Faults of other implementations that must not come back here, as far as no other test shows them absent."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
from typing import Any

import pytest

from indifast import BLOBMember, BLOBVector, Device, IPyDriver
from tests.driver.test_driver_stdio import GET, LIMIT, lines_until, parsed, piped, press, say
from tests.driver.wire_client import fence_device, listening, until


def answer(child: subprocess.Popen[bytes], value: bytes) -> bytes:
    """What a driver on pipes says to a new number."""
    member = b'<oneNumber name="value">%b</oneNumber>' % value
    say(child, b'<newNumberVector device="Child" name="number">%b</newNumberVector>' % member)
    return lines_until(child, b"setNumberVector")[-1]


@pytest.mark.parametrize(
    "damage",
    [
        b"<?xml version='1.0'?>",
        b'<?xml version="1.0"?>\n',
        b"</stray>",
        b"<newTextVector device='Child'><oneText></newTextVector>",
        b"<message message='\xe9' />",
        b"\x00\x01\x02",
        b"<!DOCTYPE x [<!ENTITY y 'z'>]>",
        b"<message message='&unknown;' />",
        b"<unknown><getProperties/></unknown>",
        b"plain text > with < signs",
        b"<newSwitchVector device='Child' name='switch'>",
    ],
)
def test_damage_on_stdin_costs_one_message_at_most(damage: bytes) -> None:
    with piped() as child:
        say(child, damage)
        assert b">5<" in answer(child, b"5")
        say(child, damage + press("frame"))
        lines_until(child, b"setBLOBVector")
        child.communicate(timeout=LIMIT)
        assert child.returncode == 0


def test_a_definition_of_an_own_device_on_stdin_is_harmless() -> None:
    with piped() as child:
        say(child, b'<defTextVector device="Child" name="t" state="Ok" perm="ro"><defText name="t" /></defTextVector>')
        assert b">5<" in answer(child, b"5")


def test_a_large_blob_from_a_client_is_no_quadratic_work() -> None:
    class Taker(IPyDriver):
        async def rxevent(self, event: Any) -> None:
            self.driverdata["taken"].append(event["b"])

    async def run() -> None:
        taken: list[bytes] = []
        driver = Taker(Device("Dev", [BLOBVector("bl", "", "", "rw", "Ok", [BLOBMember("b")])]), taken=taken)
        data = bytes(range(256)) * (16 << 12)  # 16 MiB: minutes, if each read copied what there is
        async with listening(driver) as client:
            text = base64.encodebytes(data).decode()
            client.send(
                f'<newBLOBVector device="Dev" name="bl"><oneBLOB name="b" size="{len(data)}" format=".bin">\n{text}'
                "</oneBLOB></newBLOBVector>"
            )
            await until(lambda: bool(taken))
            assert taken == [data]

    asyncio.run(run())


def test_watching_more_vectors_while_the_watch_is_running() -> None:
    async def run() -> None:
        driver = IPyDriver(fence_device())
        async with listening(driver) as client:
            for number in range(200):
                driver.snoop("Other", f"v{number}", 5)
                if number % 20 == 0:
                    await asyncio.sleep(0)
            names = [(await client.next("getProperties")).name for _ in range(200)]
            assert names == [f"v{number}" for number in range(200)]
            await client.answers("")

    asyncio.run(run())


def test_attributes_of_blob_messages_are_escaped_on_stdout() -> None:
    with piped() as child:
        say(child, GET + press("frame"))
        lines = lines_until(child, b"setSwitchVector")
        assert any(element.tag == "setBLOBVector" for element in parsed(b"".join(lines)))

    async def run() -> None:
        vector = BLOBVector('a"<&>b', "", "", "ro", "Ok", [BLOBMember("x&<y", blobformat='.f"')])
        driver = IPyDriver(Device("D&<", [vector]), fence_device())
        vector["x&<y"] = b"abc"
        async with listening(driver) as client:
            await client.answers('<enableBLOB device="D&amp;&lt;">Also</enableBLOB>')
            await vector.send_setVectorMembers(members=["x&<y"], message='"&\n')
            element = await client.next("setBLOBVector")
            assert (element.device, element.name, element.attrs["message"]) == ("D&<", 'a"<&>b', '"&\n')
            assert element.members[0].attrs == {"name": "x&<y", "format": '.f"', "size": "3"}

    asyncio.run(run())


def test_an_empty_enableblob_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        driver = IPyDriver(fence_device())
        async with listening(driver) as client:
            assert await client.answers('<enableBLOB device="Fence" /><enableBLOB />') == []

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert not caplog.records
