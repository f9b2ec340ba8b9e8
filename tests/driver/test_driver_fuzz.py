"""Mutilated messages of every kind: the driver still receives the next good one."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from indifast import IPyDriver
from tests.driver.support import full_driver, listening

MESSAGES = [
    '<newNumberVector device="Dev" name="nu"><oneNumber name="n">5</oneNumber></newNumberVector>',
    '<newSwitchVector device="Dev" name="sw"><oneSwitch name="a">On</oneSwitch></newSwitchVector>',
    '<newBLOBVector device="Dev" name="bl"><oneBLOB name="b1" size="3" format=".x">YWJj</oneBLOB></newBLOBVector>',
    '<defNumberVector device="O" name="v" state="Ok" perm="rw"><defNumber name="a" format="%g" min="0" max="1" '
    'step="2">1</defNumber></defNumberVector>',
    '<setBLOBVector device="O" name="v"><oneBLOB name="b1" size="3" format=".x">YWJj</oneBLOB></setBLOBVector>',
    '<setLightVector device="O" name="v"><oneLight name="l">Ok</oneLight></setLightVector>',
    '<enableBLOB device="Dev" name="bl">Also</enableBLOB>',
    '<getProperties version="1.7" device="Dev" />',
    '<message device="O" message="x" timestamp="2024-01-01T00:00:00" />',
    '<delProperty device="O" />',
    '<pingRequest uid="x" />',
]
SPLINTERS = [b"<", b">", b'"', b"'", b"&", b"\0", b"</", b"/>", b"]]>", b"<!--", b"<![CDATA[", b"-1", b"9" * 20]
CLOSE_EVERYTHING = b"-->\"'>]]>"  # ends whatever may be open, which would otherwise continue up to its size limit


class Answering(IPyDriver):
    async def rxevent(self, event: Any) -> None:
        assert event.root.tag
        await event.vector.send_setVectorMembers()

    async def snoopevent(self, event: Any) -> None:
        assert event.root.tag


def mutilated(rnd: random.Random) -> bytes:
    data = bytearray(rnd.choice(MESSAGES).encode())
    for _ in range(rnd.randrange(4)):
        place = rnd.randrange(len(data) + 1)
        match rnd.randrange(4):
            case 0:
                data[place : place + 1] = rnd.randbytes(1)
            case 1:
                del data[place : place + rnd.randrange(10)]
            case 2:
                data[place:place] = data[place : place + rnd.randrange(20)]
            case 3:
                data[place:place] = rnd.choice(SPLINTERS)
    return bytes(data)


@pytest.mark.parametrize("seed", range(10))
def test_mutilated_messages(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        rnd = random.Random(seed)
        driver = Answering(*full_driver().values())
        driver["Dev"]["bl"].perm = "rw"
        driver.snoopall = True
        async with listening(driver) as client:
            for _ in range(15):
                for _ in range(10):
                    client.send_bytes(mutilated(rnd))
                client.send_bytes(CLOSE_EVERYTHING)
                await client.answers("")
            assert "user_faults" not in driver.stats()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]
