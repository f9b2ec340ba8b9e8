"""Faults of other implementations that indifast must not have, as far as no other test covers them."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from indifast import BLOBMember, BLOBVector, Device, IPyDriver
from indifast.driver import snooping
from tests.driver.support import GET, PipedDriver, fence_device, listening, parsed, press
from tests.support.waiting import eventually


def answer(child: PipedDriver, value: bytes) -> bytes:
    """The answer of a driver on pipes to a new number."""
    member = b'<oneNumber name="value">%b</oneNumber>' % value
    child.send(b'<newNumberVector device="Child" name="number">%b</newNumberVector>' % member)
    return child.until_text("setNumberVector")[-1]


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
def test_damage_on_stdin_costs_one_message_at_most(damage: bytes, tmp_path: Path) -> None:
    with PipedDriver(tmp_path) as child:
        child.send(damage)
        assert b">5<" in answer(child, b"5")
        child.send(damage + press("frame"))
        child.until_text("setBLOBVector")
        child.finish()


def test_a_definition_of_the_drivers_own_device_on_stdin_is_harmless(tmp_path: Path) -> None:
    with PipedDriver(tmp_path) as child:
        child.send(b'<defTextVector device="Child" name="t" state="Ok" perm="ro"><defText name="t" /></defTextVector>')
        assert b">5<" in answer(child, b"5")


def test_a_large_blob_from_a_client_takes_linear_time() -> None:
    class Taker(IPyDriver):
        async def rxevent(self, event: Any) -> None:
            self.driverdata["taken"].append(event["b"])

    async def run() -> None:
        taken: list[bytes] = []
        driver = Taker(Device("Dev", [BLOBVector("bl", "", "", "rw", "Ok", [BLOBMember("b")])]), taken=taken)
        data = bytes(range(256)) * (16 << 12)  # 16 MiB: takes minutes if each read copies everything so far
        async with listening(driver) as client:
            text = base64.encodebytes(data).decode()
            client.send(
                f'<newBLOBVector device="Dev" name="bl"><oneBLOB name="b" size="{len(data)}" format=".bin">\n{text}'
                "</oneBLOB></newBLOBVector>"
            )
            await eventually(lambda: taken)
            assert taken == [data]

    asyncio.run(run())


def test_snooping_on_more_vectors_while_others_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snooping, "FIRST_ANSWER", 3600.0)  # a busy machine may take long before it has asked for all

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


def test_attributes_of_blob_messages_are_escaped(tmp_path: Path) -> None:
    with PipedDriver(tmp_path) as child:
        child.send(GET + press("frame"))
        messages = child.until_text("setSwitchVector")
        assert any(element.tag == "setBLOBVector" for element in parsed(b"".join(messages)))

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
