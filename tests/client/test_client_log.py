"""What is logged, and how much of the traffic."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.client.support import BLOBS, NUMBERS, Recorder, blob, session

LOGGER = "indifast.client.ipyclient"


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (0, []),
        (
            1,
            [
                'TX:: <getProperties version="1.7">',
                'RX:: <setBLOBVector device="D" name="B" state="Ok" timestamp="2024-01-02T03:04:05">',
                'TX:: <newBLOBVector device="D" name="B" timestamp="2024-01-02T03:04:05">',
            ],
        ),
        (2, ['TX:: <getProperties version="1.7" />', "NOT LOGGED", 'size="7"']),
        (3, ['TX:: <getProperties version="1.7" />', "Y29udGVudA==", "bWluZQ=="]),
    ],
)
def test_traffic(verbosity: int, expected: list[str], caplog: pytest.LogCaptureFixture) -> None:
    class Verbose(Recorder):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.debug_verbosity(verbosity)

    async def scenario() -> None:
        async with session(NUMBERS, BLOBS, client=Verbose) as (server, client):
            await client.send_getProperties()
            await server.send(blob(b"content"))
            event = await client.got("SetBLOB")
            await client.send_newVector("D", "B", event.timestamp, {"img": (b"mine", 0, ".x")})
            await server.expect("</newBLOBVector>")
            await server.send(NUMBERS)
            await client.got("Define", 2)

    with caplog.at_level(logging.DEBUG, LOGGER):
        asyncio.run(scenario())
    traffic = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    traffic = [line for line in traffic if "X:: " in line]
    text = "\n".join(traffic)
    assert bool(traffic) == bool(verbosity)
    assert all(part in text for part in expected)
    if verbosity < 3:
        assert "Y29udGVudA==" not in text and "bWluZQ==" not in text


def test_levels(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with session() as (_, client):
            await client.report("a report")
            await client.warning("100 % a warning")

    with caplog.at_level(logging.INFO, LOGGER):
        asyncio.run(scenario())
    levels = {record.getMessage(): record.levelno for record in caplog.records if record.name == LOGGER}
    assert levels["a report"] == logging.INFO
    assert levels["100 % a warning"] == logging.WARNING
