"""What a server can make the client wait for, log and keep."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from indifast.client.connection import SEND_LIMIT
from indifast.protocol.complaints import BURST
from indifast.protocol.limits import Limits
from tests.client.support import BLOBS, LIMIT, NUMBERS, Recorder, blob, session


@pytest.mark.parametrize(
    "begun",
    [
        '<setNumberVector device="D" name="N"',
        '<setNumberVector device="D" name="N"><oneNumber name="a">1',
        '<setBLOBVector device="D" name="B"><oneBLOB name="img" size="99" format=".x">AAAA',
        "<!-- ",
    ],
)
def test_a_message_that_never_ends_is_given_up(begun: str) -> None:
    async def main() -> None:
        # No other timer is on: only the unfinished message counts.
        async with session(NUMBERS, limits=Limits(stall=0.3), timeout_enable=False) as (server, client):
            await server.send(begun)
            lost = await client.got("ConnectionLost")
            assert lost is not None
            await server.connected(2)
            await client.until(lambda: any("unfinished message" in event.message for event in client.of("Message")))

    asyncio.run(main())


def test_a_message_that_comes_slowly_is_waited_for() -> None:
    async def main() -> None:
        async with session(NUMBERS, limits=Limits(stall=0.5), timeout_enable=False) as (server, client):
            for letter in '<setNumberVector device="D" name="N" state="Ok"/>':
                await server.send(letter)
                await asyncio.sleep(0.02)  # in all longer than the limit, never so between two letters
            event = await client.got("Set")
            assert event.state == "Ok" and server.connections == 1

    asyncio.run(main())


def test_a_program_that_is_slow_is_not_the_servers_fault() -> None:
    class Slow(Recorder):
        async def rxevent(self, event: Any) -> None:
            self.note(event)
            if event.eventtype == "Set" and event.state == "Busy":
                await asyncio.sleep(1.0)

    async def main() -> None:
        async with session(NUMBERS, client=Slow, limits=Limits(stall=0.2), timeout_enable=False) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Busy"/>')
            await client.got("Set")  # from here on nothing is read, and nobody can say that the server is silent
            await server.send('<setNumberVector device="D" name="N" state="Ok"/><setNumberVector device="D"')
            await client.got("Set", 2)
            await server.send(' name="N" state="Alert"/>')
            event = await client.got("Set", 3)
            assert event.state == "Alert" and server.connections == 1

    asyncio.run(main())


def test_nothing_watches_a_server_that_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with session(NUMBERS, timeout_enable=False) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>\n <!-- c -->\n')
            await client.got("Set")
            loop = asyncio.get_running_loop()
            client._keepalive.clear()
            assert client._link.connection._reader._watch is None
            assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    asyncio.run(main())


def test_warnings_come_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with session(NUMBERS) as (server, client):
            await server.send('<defNumberVector device="D" name="X"/>' * 1000)
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            await client.got("Set")
            told = [event for event in client.of("Message") if event.message.startswith("D: ")]
            assert BURST <= len(told) < BURST + LIMIT
            stats = client.stats()
            assert stats["refused"] == 1000 and stats["warnings_left_out"] == 1000 - len(told)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum(record.getMessage().startswith("D: ") for record in caplog.records) < BURST + LIMIT


class Clumsy(Recorder):
    async def rxevent(self, event: Any) -> None:
        await super().rxevent(event)
        if event.eventtype == "Set":
            raise ZeroDivisionError("in rxevent")


def test_faults_of_the_program_are_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    def clumsy(message: Any) -> None:
        raise ZeroDivisionError("in on_message")

    async def main() -> None:
        async with session(NUMBERS, client=Clumsy, on_message=clumsy) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>' * 1000)
            await client.got("Set", 1000)

    asyncio.run(main())
    for what in ("Error in rxevent", "Error in on_message"):
        told = [record for record in caplog.records if record.getMessage().startswith(what)]
        assert BURST <= len(told) < BURST + LIMIT and all(record.exc_info for record in told)


def test_everything_left_out_is_counted() -> None:
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


def test_waiting_ends_in_time_though_the_server_reads_nothing() -> None:
    async def main() -> None:
        blobs = BLOBS.replace('perm="ro"', 'perm="rw"')
        async with session(blobs, timeout_enable=False) as (server, client):
            server.stop_reading()
            content = b"x" * (32 << 20)
            with pytest.raises(TimeoutError, match="D B is Busy"):
                async with asyncio.timeout(LIMIT):
                    await client.send_newVector("D", "B", members={"img": (content, 0, ".x")}, wait=True, timeout=5)
            with pytest.raises(TimeoutError, match="pings"):
                async with asyncio.timeout(LIMIT):
                    await client.ping(0.2)

    asyncio.run(main())


def test_a_server_that_reads_nothing_has_few_pings_answered() -> None:
    async def main() -> None:
        async with session(NUMBERS, timeout_enable=False) as (server, client):
            server.stop_reading()
            for _ in range(1_000):
                await server.send(f'<pingRequest uid="{"u" * 30_000}"/>')
            await server.send('<message device="D" message="after"/>')
            await client.until(lambda: client.seen[-1].eventtype == "Message" and client.seen[-1].message == "after")
            assert client._link.connection.queue.queued < SEND_LIMIT + 60_000
            assert client.stats()["not_sent"] > 0

    asyncio.run(main())


def test_no_large_message_is_kept_for_a_device_that_may_never_come() -> None:
    async def main() -> None:
        async with session(NUMBERS) as (server, client):
            text = "x" * 20_000
            await server.send(f'<message device="Z" message="{text}"/><message device="Z" message="short"/>')
            await server.send(NUMBERS.replace('device="D"', 'device="Z"'))
            await client.until(lambda: [event.message for event in client.of("Message") if event.devicename == "Z"])
            assert [event.message for event in client.of("Message") if event.devicename == "Z"] == ["short"]
            assert client.stats()["unknown"] == 1

    asyncio.run(main())
