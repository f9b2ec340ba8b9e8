"""Limits on what a server can make the client wait for, log and keep."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from indifast.client.connection import SEND_LIMIT
from indifast.protocol.complaints import BURST
from indifast.protocol.limits import Limits
from tests.client.support import BLOBS, NUMBERS, Recorder, Slow, blob, session
from tests.support.blackbox import LIMIT
from tests.support.waiting import Clock, eventually, no_timer_left


@pytest.mark.parametrize(
    "beginning",
    [
        '<setNumberVector device="D" name="N"',
        '<setNumberVector device="D" name="N"><oneNumber name="a">1',
        '<setBLOBVector device="D" name="B"><oneBLOB name="img" size="99" format=".x">AAAA',
        "<!-- ",
    ],
)
def test_a_message_that_does_not_end_is_given_up(beginning: str) -> None:
    async def main() -> None:
        # No other timeout is enabled.
        async with session(NUMBERS, limits=Limits(stall=0.3), timeout_enable=False) as (server, client):
            await server.send(beginning)
            lost = await client.got("ConnectionLost")
            assert lost is not None
            await server.connected(2)
            await client.until(lambda: any("unfinished message" in event.message for event in client.of("Message")))

    asyncio.run(main())


def test_a_message_may_arrive_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a longer time than the limit, which applies to the time between two reads."""

    async def main() -> None:
        clock = Clock(monkeypatch)
        async with session(NUMBERS, limits=Limits(stall=100), timeout_enable=False) as (server, client):
            connection = client._indifast.link.connection
            for letter in '<setNumberVector device="D" name="N" state="Ok"/>':
                before = connection.received_bytes
                await server.send(letter)
                await eventually(lambda before=before: connection.received_bytes > before)  # type: ignore[misc]
                await clock.advance(60)
            event = await client.got("Set")
            assert event.state == "Ok" and server.connections == 1

    asyncio.run(main())


def test_a_slow_program_does_not_count_against_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read while rxevent runs, so an unfinished message is not the fault of the server."""

    async def main() -> None:
        clock = Clock(monkeypatch)
        async with session(NUMBERS, client=Slow, limits=Limits(stall=100), timeout_enable=False) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Busy"/>')
            await client.got("Set")
            await server.send('<setNumberVector device="D" name="N" state="Ok"/><setNumberVector device="D"')
            await client.reading_pauses()
            assert client._indifast.link.connection.held
            for _ in range(3):
                await clock.advance(101)
            client.gate.set()
            await client.got("Set", 2)
            await server.send(' name="N" state="Alert"/>')
            event = await client.got("Set", 3)
            assert event.state == "Alert" and server.connections == 1

    asyncio.run(main())


def test_no_timer_runs_after_complete_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with session(NUMBERS, timeout_enable=False) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>\n <!-- c -->\n')
            await client.got("Set")
            client._indifast.keepalive.clear()
            assert client._indifast.link.connection._reader._watch is None
            await no_timer_left()

    asyncio.run(main())


def test_warnings_are_limited_in_rate(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with session(NUMBERS) as (server, client):
            await server.send('<defNumberVector device="D" name="X"/>' * 1000)
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            await client.got("Set")
            warnings = [event for event in client.of("Message") if event.message.startswith("D: ")]
            assert BURST <= len(warnings) < BURST + LIMIT
            stats = client.stats()
            assert stats["refused"] == 1000 and stats["warnings_left_out"] == 1000 - len(warnings)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum(record.getMessage().startswith("D: ") for record in caplog.records) < BURST + LIMIT


class Failing(Recorder):
    async def rxevent(self, event: Any) -> None:
        await super().rxevent(event)
        if event.eventtype == "Set":
            raise ZeroDivisionError("in rxevent")


def test_exceptions_in_the_program_are_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Any) -> None:
        raise ZeroDivisionError("in on_raw_message")

    async def main() -> None:
        async with session(NUMBERS, client=Failing, on_raw_message=fail) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>' * 1000)
            await client.got("Set", 1000)

    asyncio.run(main())
    for what in ("Error in rxevent", "Error in on_raw_message"):
        logged = [record for record in caplog.records if record.getMessage().startswith(what)]
        assert BURST <= len(logged) < BURST + LIMIT and all(record.exc_info for record in logged)


def test_everything_that_is_left_out_is_counted() -> None:
    async def main() -> None:
        async with session(NUMBERS, BLOBS) as (server, client):
            frames = client.frames("D", newest=True)
            await server.expect(">Also</enableBLOB>")
            await server.send('<nonsense a="1">', blob(b"one"), blob(b"two"), '<setTextVector device="X" name="Y"/>')
            await server.send('<setTextVector device="D" name="N" state="Ok"/>', '<message device="D"/>')
            await client.until(lambda: client.seen[-1].eventtype == "Message" and client.seen[-1].devicename == "D")
            stats = client.stats()
            frames.close()
            assert stats["connections"] == 1 and stats["received"] >= 7 and stats["received_bytes"] > 500
            assert stats["skipped"] >= 1 and stats["skipped_bytes"] >= 15
            assert (stats["unknown"], stats["refused"], stats["frames_replaced"], stats["failed"]) == (1, 1, 1, 0)
            assert stats["sent"] >= 3 and stats["not_sent"] == 0
            received = stats["received"]
            server.hang_up()
            await server.connected(2)
            assert client.stats()["received"] == received
        before = client.stats()["not_sent"]
        await client.send_getProperties()
        assert client.stats()["not_sent"] == before + 1

    asyncio.run(main())


def test_waiting_ends_in_time_although_the_server_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        clock = Clock(monkeypatch)
        blobs = BLOBS.replace('perm="ro"', 'perm="rw"')
        async with session(blobs, timeout_enable=False) as (server, client):
            server.stop_reading()
            members = {"img": (b"x" * (32 << 20), 0, ".x")}
            sending = asyncio.ensure_future(client.send_newVector("D", "B", members=members, wait=True, timeout=1000))
            await eventually(lambda: client._indifast.link.connection.queue.full)
            await clock.advance(1000)
            with pytest.raises(TimeoutError, match="D B is Busy"):
                async with asyncio.timeout(LIMIT):
                    await sending
            with pytest.raises(TimeoutError, match="pings"):
                async with asyncio.timeout(LIMIT):
                    await client.ping(0.2)

    asyncio.run(main())


def test_few_pings_of_a_server_that_does_not_read_are_answered() -> None:
    async def main() -> None:
        async with session(NUMBERS, timeout_enable=False) as (server, client):
            server.stop_reading()
            for _ in range(1_000):
                await server.send(f'<pingRequest uid="{"u" * 30_000}"/>')
            await server.send('<message device="D" message="after"/>')
            await client.got_message("after")
            assert client._indifast.link.connection.queue.queued < SEND_LIMIT + 60_000
            assert client.stats()["not_sent"] > 0

    asyncio.run(main())


def test_large_messages_are_not_kept_until_a_device_is_defined() -> None:
    async def main() -> None:
        async with session(NUMBERS) as (server, client):
            text = "x" * 20_000
            await server.send(f'<message device="Z" message="{text}"/><message device="Z" message="short"/>')
            await server.send(NUMBERS.replace('device="D"', 'device="Z"'))
            await client.until(lambda: [event.message for event in client.of("Message") if event.devicename == "Z"])
            assert [event.message for event in client.of("Message") if event.devicename == "Z"] == ["short"]
            assert client.stats()["unknown"] == 1

    asyncio.run(main())
