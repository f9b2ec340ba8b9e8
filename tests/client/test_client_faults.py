"""Faults that programs met with indipyclient 0.9.4, one test for each."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from indifast._parser import Tokenizer
from indifast.client import IPyClient
from indifast.client.events import Message
from indifast.client.propertymembers import BLOBMember
from indifast.client.session import retry_delay
from indifast.client.settings import Given
from tests.client.support import BLOBS, NUMBERS, SWITCHES, TEXTS, Recorder, Server, Slow, blob, session
from tests.support.blackbox import LIMIT
from tests.support.loops import on_every_loop, run_on
from tests.support.waiting import Clock, eventually, no_timer_left, turns


@pytest.mark.parametrize(
    "bad",
    [
        b"<?xml version='1.0'?>",
        b"<!-- a comment with > and <setTextVector -->",
        b"text & more",
        b"<foo device='D'>&undefined;</foo>",
        b"<setTextVector device='D' name='T'><oneText name='x'>cut off",
        b"<setTextVector device='D' name='T'><oneText name='x'>1</oneNumber></setTextVector>",
        b"<setTextVector device='D' name='T' state=Ok></setTextVector>",
        b"</setTextVector>",
        b"\x00\x01\x02",
        b"<setBLOBVector device='D' name='B'><oneBLOB name='img' size='3' format='.x'>Q!UJ</oneBLOB></setBLOBVector>",
    ],
)
def test_bad_bytes_cost_at_most_one_message(bad: bytes) -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS, BLOBS) as (server, client):
            await server.send(bad, '<setNumberVector device="D" name="N" state="Busy"/>')
            event = await client.got("Set")
            assert event.vectorname == "N"
            assert client.connected
            assert "ConnectionLost" not in client.types()

    asyncio.run(scenario())


def test_latin_1_text_is_read() -> None:
    async def scenario() -> None:
        async with session(TEXTS) as (server, client):
            text = '<setTextVector device="D" name="T"><oneText name="x">Gün</oneText></setTextVector>'
            await server.send(text.encode("latin-1"))
            assert (await client.got("Set"))["x"] == "Gün"

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [Server.hang_up, Server.reset])
def test_the_end_of_a_connection_is_seen_at_once_and_reported_once(end: Callable[[Server], None]) -> None:
    async def scenario() -> None:
        async with session(NUMBERS, timeout_enable=False) as (server, client):
            end(server)
            await client.got("ConnectionMade", 2)
            assert client.types().count("ConnectionLost") == 1

    asyncio.run(scenario())


def test_an_update_without_a_timeout_does_not_change_it() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            event = await client.got("Set")
            assert event.timeout is None
            assert event.vector.timeout == 5.0
            client.set_vector_timeouts(timeout_min=0.05, timeout_max=0.1)
            client.idle_timeout = client.respond_timeout = 60
            await client.send_newVector("D", "N", members={"a": 1})
            await client.got("TimeOut")
            assert client.connected

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", ["nan", "inf", "-inf", "x"])
def test_an_invalid_timeout_counts_as_none(timeout: str) -> None:
    async def main() -> None:
        numbers = NUMBERS.replace('timeout="5"', f'timeout="{timeout}"')
        async with session(numbers, vector_timeout_min=0.1) as (server, client):
            vector = client["D"]["N"]
            assert vector.timeout == 0.0
            await server.send(f'<setNumberVector device="D" name="N" timeout="{timeout}"/>')
            assert (await client.got("Set")).timeout is None and vector.timeout == 0.0
            await client.send_newVector("D", "N", members={"a": 1})
            await client.got("TimeOut")

    asyncio.run(main())


def test_a_value_that_cannot_be_written_raises_in_the_caller() -> None:
    async def scenario() -> None:
        async with session(TEXTS) as (server, client):
            with pytest.raises(TypeError, match="x must be a str"):
                await client.send_newVector("D", "T", members={"x": 5})
            assert client["D"]["T"].state == "Ok"
            await client.send_newVector("D", "T", members={"x": "fine"})
            await server.expect("fine")
            assert client.types().count("ConnectionMade") == 1

    asyncio.run(scenario())


def test_shutdown_ends_a_hanging_connect() -> None:
    # Connecting to a listener whose backlog is full hangs.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)

        async def scenario() -> None:
            client = Recorder("127.0.0.1", port)
            async with asyncio.timeout(LIMIT), client:
                await client.got("Message")

            impatient = Recorder("127.0.0.1", port)
            impatient.connect_timeout = 0.2
            async with asyncio.timeout(LIMIT), impatient:
                notice = await impatient.got("Message", 2)
                assert "no answer" in notice.message

        asyncio.run(scenario())
        for filler in fillers:
            filler.close()


@on_every_loop
def test_a_client_connects_again_after_a_message_and_a_reset(loop: str) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            client = Recorder("127.0.0.1", server.getsockname()[1])
            client.retry_min = 0.01
            async with asyncio.timeout(LIMIT), client:
                for _ in range(3):
                    connection, _ = await asyncio.get_running_loop().sock_accept(server)
                    assert await asyncio.get_running_loop().sock_recv(connection, 1000)  # now the client waits
                    connection.send(b"<message message='farewell'/>")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    connection.close()
                    await client.got("ConnectionLost")

    run_on(loop, scenario())


def test_a_client_cancelled_while_it_connects_leaves_no_connection_behind() -> None:
    """However late the cancellation comes, even together with the connection."""

    async def scenario(steps: int) -> None:
        loop = asyncio.get_running_loop()
        connect, started, opened = loop.sock_connect, asyncio.Event(), []

        async def noted(sock: socket.socket, address: Any) -> None:
            opened.append(sock)
            started.set()
            await connect(sock, address)

        loop.sock_connect = noted  # type: ignore[method-assign]
        with socket.create_server(("127.0.0.1", 0)) as server:
            running = asyncio.create_task(IPyClient("127.0.0.1", server.getsockname()[1]).asyncrun())
            await started.wait()
            await turns(steps)
            running.cancel()
            await asyncio.wait((running,), timeout=LIMIT)
            assert running.cancelled()
            await eventually(lambda: opened[0].fileno() < 0, "the socket closed")

    for steps in range(10):
        asyncio.run(scenario(steps))


def test_retries_back_off_with_jitter() -> None:
    client = IPyClient()
    delays = [[retry_delay(Given(client), failures) for _ in range(50)] for failures in range(1, 13)]
    assert all(delay <= 5 for delays in delays[:3] for delay in delays)
    assert len({*delays[0]}) > 1
    assert max(delays[-1]) <= 1.25 * client.retry_max
    assert min(delays[-1]) > 2 * max(delays[0])


def test_notices_may_contain_any_character() -> None:
    async def scenario() -> None:
        async with session() as (_, client):
            await client.warning('a & b < c " d')
            assert client.seen[-1].message == 'a & b < c " d'
            assert client.seen[-1].root.get("message") == 'a & b < c " d'
            assert str(client.seen[-1]).startswith('<message message="a &amp; b &lt; c &quot; d"')

    asyncio.run(scenario())


def test_definitions_keep_the_timeout_of_blobs() -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (_, client):
            assert client.seen[-1].timeout == 60.0
            assert client["D"]["B"].timeout == 60.0

    asyncio.run(scenario())


def test_new_definition_of_a_vector() -> None:
    """Members that are missing go, new ones get an id, and another type makes another vector."""

    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            vector = client["D"]["N"]
            kept = vector.member("a")
            await server.send(NUMBERS.replace('name="b"', 'name="c"'))
            await client.got("Define", 2)
            assert client["D"]["N"] is vector
            assert vector.member("a") is kept
            assert list(vector) == ["a", "c"]
            assert vector.member("c").itemid == 5
            await server.send(TEXTS.replace('name="T"', 'name="N"'))
            await client.got("Define", 3)
            assert client["D"]["N"].vectortype == "TextVector"
            assert client["D"]["N"]["x"] == "hello"

    asyncio.run(scenario())


@pytest.mark.parametrize("eventtype", ["ConnectionMade", "TimeOut", "ConnectionLost", "Message", "Define"])
def test_a_client_goes_on_after_an_exception_in_rxevent(eventtype: str, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(Recorder):
        async def rxevent(self, event: Any) -> None:
            self.note(event)
            if event.eventtype == eventtype:
                raise RuntimeError("from the program")

    async def scenario() -> None:
        async with session(NUMBERS, client=Raising) as (server, client):
            client.set_vector_timeouts(timeout_min=0.05, timeout_max=0.05)
            client.idle_timeout = client.respond_timeout = 60
            await client.send_newVector("D", "N", members={"a": 1})
            await client.got("TimeOut")
            await server.send(TEXTS)
            await client.got("Define", 2)
            assert client.types().count("ConnectionMade") == 1
        assert not client.connected

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert any(record.exc_info and "from the program" in str(record.exc_info[1]) for record in caplog.records)


def test_messages_of_a_device_are_kept_until_it_is_defined() -> None:
    async def scenario() -> None:
        async with session() as (server, client):
            await server.send('<message device="D" message="early" timestamp="2024-01-02T03:04:05"/>', NUMBERS, TEXTS)
            await client.got("Define", 2)
            assert client.types()[4:] == ["Define", "Message", "Define"]
            message = client.of("Message")[-1]
            assert (message.message, message.device) == ("early", client["D"])
            assert client["D"].messages[0] == (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "early")

    asyncio.run(scenario())


def test_choices_of_the_program_survive_a_reconnection() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, BLOBS, BLOBS.replace('"B"', '"B2"')) as (server, client):
            await client.send_enableBLOB("Also", "D", "B")
            client["D"].user_string = "of the device"
            client["D"]["N"].member("a").user_string = "of a member"
            server.hang_up()
            await client.got("ConnectionMade", 2)
            await server.connected(2)
            assert "closed" in client.messages[-1][1] or client.messages
            await server.send(NUMBERS, BLOBS, BLOBS.replace('"B"', '"B2"'))
            await server.expect('<enableBLOB device="D" name="B">Also</enableBLOB>')
            await server.expect('<enableBLOB device="D" name="B2">Never</enableBLOB>')
            await client.got("DefineBLOB", 4)
            assert client["D"].user_string == "of the device"
            assert client["D"]["N"].member("a").user_string == "of a member"

    asyncio.run(scenario())


def test_the_reason_for_a_failure_remains_available() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, retry_min=60.0) as (server, client):
            server.hang_up()
            await client.until(lambda: not client.connected and client.messages)
            assert "closed by the server" in client.messages[0][1]

    asyncio.run(scenario())


def test_blob_values(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="not int"):
        BLOBMember.getbytes(3)
    with pytest.raises(ValueError, match="without content"):
        BLOBMember.getbytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        BLOBMember.getbytes(tmp_path / "missing")
    path = tmp_path / "file.tar.gz"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        file.read(3)
        assert BLOBMember.getbytes(file) == b"content"
        assert not file.closed
    assert BLOBMember.getbytes(str(path)) == b"content"
    assert bytes(BLOBMember.getbytes(bytearray(b"content"))) == b"content"


def test_timestamps_of_events() -> None:
    def moment(text: str) -> datetime:
        (element,) = Tokenizer().feed(f'<message{text} message="m"/>'.encode())
        return Message(element, None, None).timestamp

    assert moment(' timestamp="2024-01-02T00:00:00.5+02:00"') == datetime(2024, 1, 1, 22, 0, 0, 500000, tzinfo=UTC)
    for text in ("", ' timestamp=""', ' timestamp="yesterday"'):
        assert datetime.now(UTC) - moment(text) < timedelta(seconds=LIMIT)


def test_timestamps_of_commands() -> None:
    async def scenario() -> None:
        async with session(SWITCHES) as (server, client):
            zone = timezone(timedelta(hours=2))
            await client.send_newVector("D", "S", datetime(2024, 1, 2, 5, 4, 5, tzinfo=zone), {"on": "On"})
            await server.expect('timestamp="2024-01-02T03:04:05"')
            client["D"]["S"].state = "Ok"
            await client.send_newVector("D", "S", "yesterday", {"on": "On"})
            assert client["D"]["S"].state == "Ok"

    asyncio.run(scenario())


def test_a_vector_does_not_become_busy_if_nothing_was_sent() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (_, client):
            vector = client["D"]["N"]
        await vector.send_newNumberVector(members={"a": 5})
        assert vector.state == "Idle"

    asyncio.run(scenario())


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            monkeypatch.setattr(time, "time", lambda: 9e9)
            await client.send_newVector("D", "N", members={"a": 1})
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            await client.got("Set")
            assert client.idle_timer <= time.monotonic()
            assert "TimeOut" not in client.types()
            assert client.connected

    asyncio.run(scenario())


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, idle_timeout=0.05, respond_timeout=0.2) as (_, client):
            await client.got("ConnectionMade", 2)
            assert any("no answer" in message.message for message in client.of("Message"))

    asyncio.run(scenario())


def test_a_silent_server_is_asked_again_once_its_devices_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        clock = Clock(monkeypatch)
        async with session(NUMBERS, idle_timeout=4) as (server, client):  # shorter than ASK_AGAIN
            await server.send('<delProperty device="D"/>')
            await client.got("Delete")
            await clock.advance(4.1)
            assert not client._indifast.keepalive._alarm.armed, "nothing is asked while there are no devices"
            await server.send(NUMBERS)
            await client.got("Define", 2)
            server.received = b""
            await clock.advance(4.1)
            await server.expect("<getProperties")
            assert client.connected

    asyncio.run(scenario())


def test_limits_on_what_a_server_can_make_the_client_keep() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, device_limit=2) as (server, client):
            for name in "EFGH":
                await server.send(TEXTS.replace('"D"', f'"{name}"'))
            for name in "XYZ":
                await server.send(TEXTS.replace('"T"', f'"{name}"'))
            for number in range(200):
                await server.send(f'<message device="unknown {number}" message="m"/>')
            await server.send('<setNumberVector device="D" name="N" state="Ok"/>')
            await client.got("Set")
            assert len(client) == 2
            assert len(client["D"]) == 2
            assert len(client._indifast.model.early) == 100

    asyncio.run(scenario())


def test_a_client_reads_little_while_rxevent_runs() -> None:
    """No more than a chunk or two; the rest stays with the server."""

    async def scenario() -> None:
        async with session(NUMBERS, client=Slow) as (server, client):
            update = '<setNumberVector device="D" name="N"><oneNumber name="a">1</oneNumber></setNumberVector>'
            flood = asyncio.ensure_future(server.send(update * 100_000))
            await client.got("Set")
            await client.reading_pauses()
            await turns(200)  # enough to read everything, if anything were read
            assert not flood.done()
            assert len(client._indifast.link.connection.messages) < 20_000
            client.gate.set()
            await flood
            await client.until(lambda: len(client.seen) >= 100_000)

    asyncio.run(scenario())


def test_order_is_kept_when_rxevent_waits() -> None:
    class Waiting(Recorder):
        async def rxevent(self, event: Any) -> None:
            if event.eventtype == "Set" and int(event["a"]) % 7 == 0:
                await asyncio.sleep(0)
            self.note(event)

    async def scenario() -> None:
        async with session(NUMBERS, client=Waiting) as (server, client):
            for number in range(500):
                await server.send(
                    f'<setNumberVector device="D" name="N"><oneNumber name="a">{number}</oneNumber></setNumberVector>'
                )
            await client.got("Set", 500)
            assert [int(event["a"]) for event in client.of("Set")] == list(range(500))

    asyncio.run(scenario())


def test_pings_of_the_server_are_answered() -> None:
    async def scenario() -> None:
        async with session() as (server, _):
            await server.send('<pingRequest uid="a&lt;b"/>')
            await server.expect('<pingReply uid="a&lt;b" />')

    asyncio.run(scenario())


def test_an_exception_in_hardware_ends_the_client() -> None:
    class Broken(Recorder):
        async def hardware(self) -> None:
            await self.got("ConnectionMade")
            raise RuntimeError("in hardware")

    async def scenario() -> None:
        async with Server() as server:
            client = Broken("127.0.0.1", server.port)
            with pytest.raises(RuntimeError, match="in hardware"):
                await asyncio.wait_for(client.asyncrun(), LIMIT)
            assert client.stopped.is_set() and client.stop and not client.connected

    asyncio.run(scenario())


def test_hardware_that_does_not_end_is_cancelled_after_the_grace_time() -> None:
    class Endless(Recorder):
        grace = 0.1

        async def hardware(self) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        async with asyncio.timeout(LIMIT), session(NUMBERS, client=Endless):
            pass

    asyncio.run(scenario())


def test_an_idle_client_is_never_woken() -> None:
    """Without timeouts, no timer is set while nothing happens."""

    async def scenario() -> None:
        async with session(NUMBERS, timeout_enable=False) as (_, client):
            await no_timer_left()
            assert client.connected

    asyncio.run(scenario())


def test_a_blob_of_an_unknown_member_is_part_of_the_event() -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            await server.send(blob(b"abc", name="other"), blob(b"def"))
            await client.got("SetBLOB", 2)
            assert [dict(event) for event in client.of("SetBLOB")] == [{"other": b"abc"}, {"img": b"def"}]

    asyncio.run(scenario())


def test_state_of_a_blob_without_content() -> None:
    """libindi reports Busy and Alert of a camera with empty BLOBs of size 0."""

    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            await server.send(
                '<setBLOBVector device="D" name="B" state="Alert">'
                '<oneBLOB name="img" size="0" enclen="0" format=".fits"></oneBLOB></setBLOBVector>'
            )
            event = await client.got("SetBLOB")
            assert dict(event) == {} and client["D"]["B"].state == "Alert"

    asyncio.run(scenario())
