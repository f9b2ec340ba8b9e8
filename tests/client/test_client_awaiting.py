"""Awaiting readiness, states and answers, streams of events and of frames, and saved BLOBs."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import io
import math
import os
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from astropy.io import fits
from PIL import Image

from indifast.client import (
    ClientEvent,
    Frame,
    INDIAlert,
    INDICheckError,
    INDIDeleted,
    Message,
    blobprocessing,
    frame_array,
    frame_sizes,
    inflated,
    setBLOBVector,
    setNumberVector,
)
from indifast.client.waiting import Until
from tests.client.support import BLOBS, LIGHTS, NUMBERS, SWITCHES, TEXTS, Recorder, Slow, blob, session
from tests.support.blackbox import LIMIT
from tests.support.operations import operations
from tests.support.waiting import Clock

STREAMS = """<defNumberVector device="D" name="CCD_FRAME" state="Ok" perm="rw">
<defNumber name="WIDTH" format="%g" min="0" max="0" step="0">8</defNumber>
<defNumber name="HEIGHT" format="%g" min="0" max="0" step="0">6</defNumber></defNumberVector>
<defNumberVector device="D" name="CCD_BINNING" state="Ok" perm="rw">
<defNumber name="HOR_BIN" format="%g" min="0" max="0" step="0">2</defNumber>
<defNumber name="VER_BIN" format="%g" min="0" max="0" step="0">2</defNumber></defNumberVector>"""


def number(value: Any, state: str = "Ok", message: str = "") -> str:
    return (
        f'<setNumberVector device="D" name="N" state="{state}" message="{message}">'
        f'<oneNumber name="a">{value}</oneNumber></setNumberVector>'
    )


def test_ready_waits_for_a_quiet_period(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        clock = Clock(monkeypatch)
        async with session(timeout_enable=False) as (server, client):
            waiting = asyncio.ensure_future(client.ready(None, quiet=100))
            for count, text in enumerate((NUMBERS, TEXTS, SWITCHES), 1):
                await clock.advance(60)
                assert not waiting.done()
                await server.send(text)
                await client.got("Define", count)
            await clock.advance(60)
            assert not waiting.done()
            await clock.advance(60)
            assert waiting.done() and len(client["D"]) == 3

    asyncio.run(scenario())


def test_ready_waits_for_names() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            await client.ready(LIMIT, "D", ("D", "N"))
            waiting = asyncio.ensure_future(client.ready(LIMIT, ("D", "T"), "E"))
            await server.send(TEXTS)
            await client.got("Define", 2)
            assert not waiting.done()
            await server.send(TEXTS.replace('"D"', '"E"'))
            await waiting
            with pytest.raises(TimeoutError, match="nothing"):
                await client.ready(0.05, "nothing")

    asyncio.run(scenario())


def test_wait_for_states() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            vector = await client.wait_for("D", "N", "Idle", LIMIT)
            assert vector is client["D"]["N"]
            waiting = asyncio.ensure_future(client.wait_for("D", "N", ("Ok", "Alert"), LIMIT))
            await server.send(number(1, "Busy"), number(1, "Ok"))
            assert await waiting is vector
            with pytest.raises(TimeoutError, match="is Ok"):
                await client.wait_for("D", "N", "Alert", 0.05)

    asyncio.run(scenario())


def test_waiting_ends_with_the_client() -> None:
    """Even if no server ever answered."""

    async def scenario() -> None:
        client = Recorder("127.0.0.1", 1)
        async with client:
            stream = client.events(types=setNumberVector)
            frames = client.frames("D")
            waiting = [
                asyncio.ensure_future(wait)
                for wait in (client.wait_for("D"), client.ready(LIMIT), client.ready(None, "D"))
            ]
            await asyncio.sleep(0)
        for each in waiting:
            with pytest.raises(ConnectionError, match="stopped"):
                await each
        with pytest.raises(ConnectionError):
            await client.wait_for("D")
        assert [event async for event in stream] == [frame async for frame in frames] == []

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


def test_without_reconnecting_a_failure_ends_the_client() -> None:
    async def scenario() -> None:
        async with session() as (server, client):
            port = server.port
            await client.wait_connected(LIMIT)
        single = Recorder("127.0.0.1", port)
        single.reconnect = False
        with pytest.raises(ConnectionRefusedError):
            async with asyncio.timeout(LIMIT), single:
                await single.wait_connected()
        assert single.stop
        with pytest.raises(ConnectionError, match="the client has stopped"):
            await single.wait_connected()

    asyncio.run(scenario())


def test_without_reconnecting_a_lost_connection_ends_the_client() -> None:
    async def scenario() -> None:
        async with session() as (server, _):
            single = Recorder("127.0.0.1", server.port)
            single.reconnect = False
            with pytest.raises(ConnectionError, match="has ended: closed by the server"):
                async with asyncio.timeout(LIMIT), single:
                    await single.wait_connected()
                    await server.connected(2)
                    await server.expect("getProperties")
                    server.hang_up()
                    await single.wait_for("D")

    asyncio.run(scenario())


async def refused(client: Recorder) -> None:
    """Wait until a connection was refused."""
    await client.until(lambda: any("refused" in event.message for event in client.of("Message")))


def test_waiting_for_a_connection_ends_in_time() -> None:
    async def scenario() -> None:
        async with session() as (server, _):
            port = server.port
        async with Recorder("127.0.0.1", port) as client:
            with pytest.raises(TimeoutError, match=f"not connected to 127.0.0.1:{port}"):
                await client.wait_connected(0.05)
            await refused(client)
            with pytest.raises(TimeoutError, match=f"not connected to 127.0.0.1:{port}: .*refused"):
                await client.ready(0.5)

    asyncio.run(scenario())


def test_why_something_is_not_defined() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            port = server.port
            near = r"DD is not defined: no device 'DD' on this server: did you mean 'D'\?"
            for wait in (client.ready(0.05, "DD"), client.wait_for("DD", timeout=0.05)):
                with pytest.raises(TimeoutError, match=rf"^{near} \(waited 0.05 s\)$"):
                    await wait
            known = "D NN is not defined: no property 'NN' of D: did you mean 'N'"
            with pytest.raises(TimeoutError, match=rf"^{near}; {known}"):
                await client.ready(0.05, "DD", "D", ("D", "NN"))
            with pytest.raises(TimeoutError, match=r"^D N is Idle, not Busy or Ok \(waited 0.05 s\)$"):
                await client.wait_for("D", "N", ("Ok", "Busy"), timeout=0.05)
        async with Recorder("127.0.0.1", port) as client:
            await refused(client)
            why = f"not connected to 127.0.0.1:{port}: Connection refused \\(waited 0.5 s\\)$"
            with pytest.raises(TimeoutError, match=f"^{why}"):
                await client.ready(0.5, "Thermometer")
            with pytest.raises(TimeoutError, match=f"^Thermometer T is not defined: {why}"):
                await client.wait_for("Thermometer", "T", timeout=0.5)

    asyncio.run(scenario())


def test_a_command_waits_for_its_effect() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=LIMIT))
            await server.expect('<oneNumber name="a">3</oneNumber>')
            await server.send(number(2, "Busy"), number(3, "Ok"))
            vector = await sent
            assert (vector.state, vector["a"]) == ("Ok", "3")

    asyncio.run(scenario())


@pytest.mark.parametrize("until", [{"a": 3}, {"a": (3.2, 0.3)}, lambda vector: vector["a"] == "3"])
def test_until_waits_for_values_too(until: Until) -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            sent = asyncio.ensure_future(
                client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=LIMIT, until=until)
            )
            await server.expect("<newNumberVector")
            await server.send(number(1), number(2))
            await client.got("Set", 2)
            assert not sent.done()
            await server.send(number(3))
            assert (await sent)["a"] == "3"

    asyncio.run(scenario())


def test_ways_in_which_a_command_fails() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=LIMIT))
            await server.expect("<newNumberVector")
            await server.send(number(1, "Alert", "the cap is on"))
            with pytest.raises(INDIAlert, match="the cap is on") as caught:
                await sent
            assert (caught.value.devicename, caught.value.vectorname) == ("D", "N")
            with pytest.raises(TimeoutError, match="D N is Busy"):
                await client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=0.05)
            with pytest.raises(KeyError):
                await client.send_newVector("D", "unknown", wait=True)
            sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=LIMIT))
            await asyncio.sleep(0)
            server.hang_up()
            with pytest.raises(ConnectionError):
                await sent

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("deletion", "message"),
    [
        ('<delProperty device="D" name="N"/>', "D.N has gone: its driver has ended, or disconnected"),
        ('<delProperty device="D"/>', "D has gone: its driver has ended, or disconnected"),
        ('<delProperty device="D" message="out of power"/>', "D has gone: out of power"),
    ],
)
def test_a_deletion_ends_waiting_for_an_answer(deletion: str, message: str) -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS) as (server, client):
            sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True))
            there = asyncio.ensure_future(client.wait_for("D", "N", "Ok", there=True))
            back = asyncio.ensure_future(client.wait_for("D", "N", "Ok"))
            await server.expect("<newNumberVector")
            await server.send('<delProperty device="D" name="T"/>', deletion)
            for waiting_for in (sent, there):
                with pytest.raises(INDIDeleted) as caught:
                    async with asyncio.timeout(LIMIT):
                        await waiting_for
                assert not isinstance(caught.value, ConnectionError)
                assert (caught.value.devicename, str(caught.value).startswith("D")) == ("D", True)
            with pytest.raises(INDIDeleted, match=re.escape(message)):
                sent.result()
            with pytest.raises(INDIDeleted):
                await client.wait_for("D", "N", "Ok", there=True)
            assert not back.done()
            await server.send(NUMBERS.replace("Idle", "Ok"))
            assert (await back).state == "Ok"
            there = asyncio.ensure_future(client.wait_for("D", "N", "Alert", there=True))
            server.hang_up()
            with pytest.raises(ConnectionError):
                await there

    asyncio.run(scenario())


def test_a_new_definition_is_an_answer() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            for state, fault in (("Ok", None), ("Alert", INDIAlert)):
                sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True))
                await server.expect("<newNumberVector")
                server.received = b""
                before = len(client.of("Define"))
                await server.send(NUMBERS.replace("Idle", "Busy"))
                await client.got("Define", before + 1)
                assert not sent.done()
                await server.send(NUMBERS.replace("Idle", state))
                async with asyncio.timeout(LIMIT):
                    if fault is None:
                        assert (await sent).state == "Ok"
                    else:
                        with pytest.raises(fault):
                            await sent

    asyncio.run(scenario())


def test_an_update_received_before_the_command_is_not_an_answer() -> None:
    async def main() -> None:
        async with session(NUMBERS, client=Slow) as (server, client):
            client.slow = lambda event: event.eventtype == "Message" and event.message == "wait"
            # The update is received with the message and handled after it; the command is sent in between.
            await server.send(
                '<message device="D" message="wait"/>'
                '<setNumberVector device="D" name="N" state="Ok"><oneNumber name="a">2</oneNumber></setNumberVector>'
            )
            await client.got_message("wait")
            sent = asyncio.ensure_future(client.send_newVector("D", "N", members={"a": 3}, wait=True, timeout=LIMIT))
            await server.expect("newNumberVector")
            client.gate.set()
            await client.got("Set")
            assert not sent.done()
            await server.send(
                '<setNumberVector device="D" name="N" state="Ok"><oneNumber name="a">3</oneNumber></setNumberVector>'
            )
            assert (await sent)["a"] == "3"

    asyncio.run(main())


def test_until_sees_the_vector_as_it_was_when_the_command_took_effect() -> None:
    async def main() -> None:
        async with session(NUMBERS) as (server, client):
            snapshots = []

            def take(live: Any) -> bool:
                snapshots.append(live.snapshot())
                return True

            sent = asyncio.ensure_future(
                client.send_newVector("D", "N", members={}, wait=True, timeout=LIMIT, accept=("Ok",), until=take)
            )
            await server.expect("newNumberVector")
            await server.send(number(3) + number(4, "Busy"))  # in one read: the caller continues after both
            await client.got("Set", 2)
            await sent
            (snapshot,) = snapshots
            assert (snapshot.state, snapshot["a"]) == ("Ok", "3") and client["D"]["N"].state == "Busy"

    asyncio.run(main())


def test_waiting_for_a_command_that_was_not_sent_is_an_error() -> None:
    async def main() -> None:
        async with session(LIGHTS, NUMBERS) as (_, client):
            for vector, timestamp in (("L", None), ("N", "no time")):
                with pytest.raises(INDICheckError, match="nothing was sent"):
                    async with asyncio.timeout(LIMIT):
                        await client.send_newVector("D", vector, timestamp, {}, wait=True)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("vector", "members", "fault"),
    [
        ("N", {"a": 11}, "outside 0 to 10"),
        ("N", {"a": "x"}, "not a number"),
        ("N", {"a": ""}, "number is needed"),
        ("N", {"a": "10.0000000001"}, "10.0000000001 is outside 0 to 10"),
        ("N", {"b": math.nan}, "finite"),
        ("N", {"b": "-inf"}, "finite"),
        ("N", {"zz": 1}, "no member 'zz'"),
        ("S", {"on": "On", "off": "On"}, "allows one"),
        ("S", {"on": "Off"}, "needs one"),
        ("S", {"on": "yes"}, "neither"),
        ("T", {"x": 1}, "must be a str"),
        ("B", {"img": (b"x", 0, "")}, "read-only"),
        ("X", {}, "no property 'X' of D"),
    ],
)
def test_checks_before_sending(vector: str, members: dict[str, Any], fault: str) -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS, SWITCHES, BLOBS) as (_, client):
            with pytest.raises(INDICheckError, match=fault):
                await client.send_newVector("D", vector, members=members, check=True)
            client.check_before_send = True
            with pytest.raises(INDICheckError, match=fault):
                await client.send_newVector("D", vector, members=members)
            await client.send_newVector("D", "N", members={"b": 1e9})

    asyncio.run(scenario())


ODD = """<defNumberVector device="D" name="M" state="Idle" perm="rw">
<defNumber name="a" format="%g" min="10" max="20" step="0">0</defNumber>
<defNumber name="b" format="%g" min="10" max="20" step="0">0</defNumber></defNumberVector>"""
LOGIN = """<defTextVector device="D" name="W" state="Idle" perm="wo"><defText name="user"/><defText name="password"/>
</defTextVector>"""


def test_which_members_are_sent() -> None:
    """By default all, as in indipyclient, except members of write-only vectors, whose values are unknown."""

    async def scenario() -> None:
        async with session(ODD, LOGIN) as (server, client):
            for vector, members, complete, expected in (
                ("M", {"b": 15}, True, '<oneNumber name="a">0</oneNumber><oneNumber name="b">15</oneNumber></new'),
                ("M", {"b": 16}, False, '"><oneNumber name="b">16</oneNumber></new'),
                ("W", {"user": "me"}, True, '"><oneText name="user">me</oneText></new'),
            ):
                await client.send_newVector("D", vector, members=members, complete=complete)
                await server.expect(expected)
            with pytest.raises(INDICheckError, match="D M a: 0 is outside 10 to 20, and it would be sent"):
                await client.send_newVector("D", "M", members={"b": 15}, check=True)
            await client.send_newVector("D", "M", members={"b": 17}, check=True, complete=False)
            await server.expect('"><oneNumber name="b">17</oneNumber></new')

    asyncio.run(scenario())


def test_ping() -> None:
    async def scenario() -> None:
        async with session() as (server, client):
            pinged = asyncio.ensure_future(client.ping(LIMIT))
            await server.expect("<pingRequest")
            uid = server.received.split(b'uid="')[-1].split(b'"')[0].decode()
            await server.send('<pingReply uid="another"/>', f'<pingReply uid="{uid}"/>')
            assert 0 <= await pinged < LIMIT
            with pytest.raises(TimeoutError):
                await client.ping(0.05)
        with pytest.raises(ConnectionError):
            await client.ping()

    asyncio.run(scenario())


def test_stream_of_events() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS) as (server, client):
            numbers = client.events("D", "N", setNumberVector)
            messages = client.events(types=Message)
            await server.send(
                number(1),
                '<setTextVector device="D" name="T"/>',
                '<message device="D" message="m"/>',
                number(2),
            )
            assert (await anext(numbers))["a"] == "1"
            assert (await anext(numbers))["a"] == "2"
            assert (await anext(messages)).message == "m"
            mine = client.events(types=ClientEvent)
            await client["D"]["N"].create_clientevent("Mine", why="because")
            assert (await anext(mine)).payload == {"why": "because"}
            client.shutdown()
            assert [event.eventtype async for event in numbers] == []

    asyncio.run(scenario())


def test_a_full_stream_of_events_pauses_reading_except_while_a_task_waits() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            stream = client.events(types=setNumberVector, queue=3)
            await server.send(*(number(value) for value in range(10)))
            await client.got("Set", 3)
            await client.reading_pauses()
            assert len(client.of("Set")) == 3
            assert (await anext(stream))["a"] == "0"
            await client.got("Set", 4)
            await client.wait_for("D", "N", "Ok", LIMIT)
            await server.send(number(99, "Alert"))
            await client.wait_for("D", "N", "Alert", LIMIT)  # read although the stream is full
            assert [int((await anext(stream))["a"]) for _ in range(10)] == [*range(1, 10), 99]

    asyncio.run(scenario())


def test_a_stream_that_was_dropped_does_not_pause_reading() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            stream = client.events(queue=1)
            await server.send(*(number(value) for value in range(10)))
            await client.got("Set")  # now the stream is full
            del stream
            gc.collect()
            await client.got("Set", 10)

    asyncio.run(scenario())


def test_stream_of_frames() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            stream = client.frames("D")
            await server.send(BLOBS)
            await server.expect('<enableBLOB device="D" name="B">Also</enableBLOB>')
            contents = [os.urandom(1000) for _ in range(5)]
            await server.send(*(blob(content) for content in contents))
            for content in contents:
                frame = await anext(stream)
                assert (bytes(frame.data), frame.format, frame.size) == (content, ".bin", 1000)
                assert frame.data.readonly
                assert frame.timestamp.year == 2024
            assert client["D"]["B"]["img"] == contents[-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["events", "frames", "newest", "lent"])
def test_only_one_task_may_wait_for_the_next_item_of_a_stream(what: str) -> None:
    """A second one would wait forever, or take the item of the first."""

    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            stream = {
                "events": lambda: client.events("D", types=setBLOBVector),
                "frames": lambda: client.frames("D"),
                "newest": lambda: client.frames("D", newest=True),
                "lent": lambda: client.frames("D", keep=False),
            }[what]()
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task is already waiting"):
                await anext(stream)
            await server.send(blob(b"one"))
            async with asyncio.timeout(LIMIT):
                assert bytes(content(await first)) == b"one"
                second = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                second.cancel()
                await asyncio.wait((second,))
                await server.send(blob(b"two"))
                assert bytes(content(await anext(stream))) == b"two", "a cancelled task is not in the way"

    asyncio.run(scenario())


def content(item: Any) -> Any:
    return item.data["img"] if isinstance(item, setBLOBVector) else item.data


def test_newest_frames_cost_the_same_with_many_members() -> None:
    async def cost(members: int) -> int:
        async with session(BLOBS) as (_, client):
            stream = client.frames("D", newest=True)
            event = SimpleNamespace(
                devicename="D", vectorname="B", sizeformat=defaultdict(lambda: (1, ".x")), timestamp=None,
                vector=client["D"]["B"], data=defaultdict(lambda: b"x"),
            )  # fmt: skip
            frames = [Frame(event, f"m{number}", []) for number in range(members)]  # type: ignore[arg-type]
            for frame in frames:
                stream._add(frame)
            cost = operations(lambda: [stream._add(frame) for frame in frames[:50]])
            assert client.stats()["frames_replaced"] == 50
            assert await anext(stream) is frames[50 % members]
            return cost

    costs = [asyncio.run(cost(members)) for members in (100, 5_000)]
    assert costs[1] < 1.2 * costs[0], costs


def test_a_stream_of_the_newest_frames() -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            stream = client.frames("D", "B", newest=True)
            await server.send(*(blob(bytes([value])) for value in range(1, 10)))
            await client.got("SetBLOB", 9)
            assert bytes((await anext(stream)).data) == b"\x09"

    asyncio.run(scenario())


def test_a_full_stream_of_frames_pauses_reading() -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            stream = client.frames("D", "B", queue=2)
            await server.send(*(blob(bytes([value])) for value in range(1, 10)))
            await client.got("SetBLOB", 2)
            await client.reading_pauses()
            assert len(client.of("SetBLOB")) == 2
            assert [bytes((await anext(stream)).data)[0] for _ in range(9)] == list(range(1, 10))

    asyncio.run(scenario())


def test_frames_that_are_not_kept() -> None:
    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            stream = client.frames("D", "B", keep=False)
            await server.send(*(blob(bytes([value]) * 100) for value in (1, 2)))
            first = await anext(stream)
            array = numpy.frombuffer(first.data, numpy.uint8)
            assert client["D"]["B"]["img"] is None
            second = await anext(stream)
            with pytest.raises(ValueError, match="released"):
                bytes(first.data)
            assert array.tolist() == [1] * 100
            assert bytes(second.data) == b"\x02" * 100
            stream.close()
            await server.send(blob(b"kept"))
            await client.got("SetBLOB", 3)
            assert client["D"]["B"]["img"] == b"kept"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("dtype", "shape", "packed"),
    [("u1", (3, 4), False), ("<u2", (3, 4), False), ("u1", (3, 4, 3), False), ("<u2", (3, 4), True)],
)
def test_raw_frames_become_arrays(dtype: str, shape: tuple[int, ...], packed: bool) -> None:
    picture = numpy.arange(numpy.prod(shape), dtype=dtype).reshape(shape)
    content = zlib.compress(picture.tobytes()) if packed else picture.tobytes()

    async def scenario() -> None:
        async with session(STREAMS, BLOBS) as (server, client):
            stream = client.frames("D")
            await server.send(blob(content, ".stream.z" if packed else ".stream", size=picture.nbytes))
            array = (await anext(stream)).array()
            assert array.dtype == numpy.dtype(dtype)
            assert numpy.array_equal(array, picture)
            assert packed or not array.flags.owndata
            await server.send(blob(b"x" * 7, ".stream"), blob(b"x", ".xyz"))
            with pytest.raises(ValueError, match="7 bytes fit none"):
                (await anext(stream)).array()
            with pytest.raises(ValueError, match=r"\.xyz"):
                (await anext(stream)).array()

    asyncio.run(scenario())


def test_frame_sizes_of_a_camera_and_arrays_of_raw_content() -> None:
    odd = (
        '<defNumberVector device="D" name="CCD_INFO" state="Idle" perm="ro">'
        '<defNumber name="CCD_MAX_X" format="%g" min="0" max="0" step="0">inf</defNumber>'
        '<defNumber name="CCD_MAX_Y" format="%g" min="0" max="0" step="0">-3</defNumber></defNumberVector>'
    )

    async def scenario() -> None:
        async with session(STREAMS + odd) as (_, client):
            await client.wait_for("D", "CCD_INFO", timeout=LIMIT)
            sizes = frame_sizes(client["D"])
            assert sizes == [(4, 3)]
            assert frame_sizes(client.snapshot()["D"]) == sizes
            content = bytes(range(12))
            packed = zlib.compress(content)
            assert numpy.array_equal(
                frame_array(packed, ".STREAM.Z", sizes=sizes), frame_array(content, ".stream", sizes=sizes)
            )
            assert inflated(packed, ".bin.z", 12) == content
            assert inflated(content, ".bin") is content
            with pytest.raises(ValueError, match="12 bytes fit none"):
                frame_array(content, ".stream")
            with pytest.raises(ValueError, match="incomplete"):
                inflated(packed[:-3], ".bin.z")

    asyncio.run(scenario())


def test_fits_frames_become_arrays() -> None:
    picture = numpy.arange(12, dtype=">f4").reshape(3, 4)

    def written(*units: Any) -> bytes:
        file = io.BytesIO()
        fits.HDUList(list(units)).writeto(file)
        return file.getvalue()

    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            stream = client.frames("D")
            extended = written(fits.PrimaryHDU(), fits.ImageHDU(picture))
            await server.send(
                blob(written(fits.PrimaryHDU(picture)), ".fits"),
                blob(zlib.compress(extended), ".fits.z", size=len(extended)),
                blob(written(fits.PrimaryHDU()), ".fits"),
            )
            frame = await anext(stream)
            assert numpy.array_equal(frame.array(), picture)
            assert numpy.shares_memory(frame.array().view("u1"), numpy.frombuffer(frame.data, "u1"))
            assert numpy.array_equal((await anext(stream)).array(), picture)
            with pytest.raises(ValueError, match="no image"):
                (await anext(stream)).array()

    asyncio.run(scenario())


def fits_bytes(pixels: Any) -> bytes:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(pixels)]).writeto(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "packed"),
    [
        (".fits", bytes),
        (".fts", bytes),
        ("fits", bytes),
        ("FIT", bytes),
        (".fits.gz", gzip.compress),
        (".fits.gz", lambda content: gzip.compress(content[:3000]) + gzip.compress(content[3000:]) + bytes(512)),
        ("fits.z", zlib.compress),
    ],
    ids=["fits", "fts", "without dot", "large letters", "gzip", "gzip in members", "deflated without dot"],
)
def test_all_format_names_of_fits(form: str, packed: Callable[[bytes], bytes]) -> None:
    picture = numpy.arange(5000, dtype=">i2").reshape(50, 100)
    content = packed(fits_bytes(picture))
    assert numpy.array_equal(frame_array(content, form, size=len(content) if "gz" in form else 0), picture)
    assert numpy.array_equal(frame_array(memoryview(content), form), picture)


@pytest.mark.parametrize(("form", "kind"), [(".jpg", "JPEG"), (".stream_jpg", "JPEG"), ("png", "PNG")])
def test_images_become_arrays(form: str, kind: str) -> None:
    for picture in (numpy.full((30, 40), 90, "u1"), numpy.full((30, 40, 3), (10, 20, 30), "u1")):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind)
        array = frame_array(file.getvalue(), form)
        assert (array.shape, array.dtype) == (picture.shape, numpy.uint8)
        assert numpy.abs(array.astype(int) - picture).max() <= 2


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (fits_bytes(numpy.zeros((60, 60), "u2"))[:4000], ".fits", "this FITS file is damaged or incomplete: "),
        (fits_bytes(numpy.zeros((60, 60), "u2"))[:100], ".fits", "this FITS file is damaged or incomplete: "),
        (b"not FITS", ".fits", "this FITS file is damaged or incomplete: "),
        (gzip.compress(fits_bytes(numpy.zeros((60, 60), "u2")))[:-20], ".fits.gz", "the content is incomplete"),
        (b"no gzip", ".fits.gz", "Not a gzipped file"),
        (b"x", ".jpg", "this is not an image that Pillow can read"),
        (b"x", "", "have no known array form"),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_damaged_pictures_raise_an_error_with_one_line(content: bytes, form: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        frame_array(content, form)
    assert "\n" not in str(raised.value)


def test_sizes_of_a_binned_stream() -> None:
    """CCD_STREAM_FRAME is in binned pixels, CCD_FRAME in pixels of the chip."""
    frame, _, _ = STREAMS.partition('<defNumberVector device="D" name="CCD_BINNING"')
    stream = frame.replace("CCD_FRAME", "CCD_STREAM_FRAME").replace(">8<", ">5<")

    async def scenario() -> None:
        async with session(STREAMS + stream) as (_, client):
            await client.wait_for("D", "CCD_STREAM_FRAME", timeout=LIMIT)
            assert frame_sizes(client["D"]) == [(5, 6), (4, 3)]

    asyncio.run(scenario())


@pytest.mark.parametrize("gone", [' name="CCD_EXPOSURE"', ' name="CCD1"', ""])
def test_exposure_of_a_camera_that_is_deleted(gone: str) -> None:
    exposure = NUMBERS.replace('"N"', '"CCD_EXPOSURE"')

    async def scenario() -> None:
        async with session(exposure, BLOBS.replace('"B"', '"CCD1"')) as (server, client):
            taken: asyncio.Future[Frame] = asyncio.ensure_future(client.expose("D", 5, timeout=1e6))
            await server.expect("<newNumberVector")
            await server.send(f'<delProperty device="D"{gone}/>')
            with pytest.raises(INDIDeleted, match="has gone"):
                async with asyncio.timeout(LIMIT):
                    await taken

    asyncio.run(scenario())


def test_exposure_that_fails() -> None:
    exposure = NUMBERS.replace('"N"', '"CCD_EXPOSURE"')

    async def scenario() -> None:
        async with session(exposure, BLOBS.replace('"B"', '"CCD1"')) as (server, client):
            taken: asyncio.Future[Frame] = asyncio.ensure_future(client.expose("D", 0.1, timeout=LIMIT))
            await server.expect("<newNumberVector")
            await server.send('<setNumberVector device="D" name="CCD_EXPOSURE" state="Alert" message="no power"/>')
            with pytest.raises(INDIAlert, match="no power"):
                await taken
            with pytest.raises(TimeoutError, match="no frame"):
                await client.expose("D", 0.01, timeout=0.05)

    asyncio.run(scenario())


# BLOB folder


def test_blobs_are_saved_as_received(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (server, client):
            client.BLOBfolder = str(tmp_path)
            await server.send(BLOBS)
            await server.expect('<enableBLOB device="D" name="B">Also</enableBLOB>')
            packed = zlib.compress(b"content")
            await server.send(blob(packed, ".fits.z", size=7), number(1), blob(packed, ".fits.z", size=7))
            await client.got("SetBLOB", 2)
            names = sorted(os.listdir(tmp_path))
            assert names == ["img_20240102_03_04_05.fits.z", "img_20240102_03_04_05_1.fits.z"]
            assert all((tmp_path / name).read_bytes() == packed for name in names)
            assert client["D"]["B"].member("img").filename == names[1]
            assert (tmp_path / names[0]).stat().st_mode & 0o777 == 0o666 & ~umask()

    asyncio.run(scenario())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", ".hidden", "a/b", "x" * 500, "tab\there"])
def test_no_member_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir()

    async def scenario() -> None:
        async with session(BLOBS, BLOBfolder=folder) as (server, client):
            await server.send(blob(b"content", "/../.bin", name=name))
            await client.got("SetBLOB")

    asyncio.run(scenario())
    (saved,) = os.listdir(folder)
    assert not saved.startswith(".") and saved.endswith(".bin")
    assert (folder / saved).read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["blobs"]


def test_saving_does_not_delay_other_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages about the same vector and the deletion of its device keep their order; others are handled meanwhile."""
    gate = threading.Event()
    real = blobprocessing.save

    def slow(*arguments: Any) -> str:
        gate.wait(LIMIT)
        return real(*arguments)

    monkeypatch.setattr(blobprocessing, "save", slow)

    async def scenario() -> None:
        async with session(NUMBERS, BLOBS, BLOBfolder=tmp_path) as (server, client):
            busy = '<setBLOBVector device="D" name="B" state="Busy"/>'
            await server.send(blob(b"one"), busy, blob(b"two"), number(5))
            await client.got("Set")
            assert client["D"]["B"]["img"] is None
            await server.send('<delProperty device="D"/>')
            await client.reading_pauses()
            assert "Delete" not in client.types()
            gate.set()
            await client.got("Delete")
            kinds = [(event.eventtype, event.state) for event in client.of("SetBLOB")]
            assert kinds == [("SetBLOB", "Ok"), ("SetBLOB", "Busy"), ("SetBLOB", "Ok")]
            assert client.types()[-1] == "Delete"
            assert len(os.listdir(tmp_path)) == 2

    asyncio.run(scenario())


def test_events_arrive_even_if_the_folder_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()

    async def scenario() -> None:
        async with session(BLOBS, BLOBfolder=folder) as (server, client):
            folder.rmdir()
            await server.send(blob(b"content"))
            event = await client.got("SetBLOB")
            assert dict(event) == {"img": b"content"}
            assert "cannot be saved" in client.of("Message")[-1].message
            with pytest.raises(KeyError):
                client.BLOBfolder = folder

    asyncio.run(scenario())


def test_compressed_blobs_are_inflated_on_request(tmp_path: Path) -> None:
    content = b"content " * 1000

    async def scenario() -> None:
        async with session(BLOBS, inflate_blobs=True, BLOBfolder=tmp_path) as (server, client):
            await server.send(
                blob(zlib.compress(content), ".fits.z", size=len(content)),
                blob(zlib.compress(content), ".fits.z", size=100),
                blob(b"nonsense", ".fits.z", size=100),
            )
            await client.got("SetBLOB", 3)
            good, bomb, nonsense = client.of("SetBLOB")
            assert (good["img"], good.sizeformat["img"]) == (content, (len(content), ".fits"))
            assert (tmp_path / "img_20240102_03_04_05.fits").read_bytes() == content
            assert bomb.sizeformat["img"] == (100, ".fits.z")
            assert nonsense["img"] == b"nonsense"
            assert sum("cannot be inflated" in message.message for message in client.of("Message")) == 2

    asyncio.run(scenario())


def test_setting_the_folder_asks_for_all_blobs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with session(NUMBERS, BLOBS) as (server, client):
            client.BLOBfolder = tmp_path
            await server.expect(
                '<enableBLOB device="D">Also</enableBLOB><enableBLOB device="D" name="B">Also</enableBLOB>'
            )
            client.BLOBfolder = None
            await server.expect(
                '<enableBLOB device="D">Never</enableBLOB><enableBLOB device="D" name="B">Never</enableBLOB>'
            )

    asyncio.run(scenario())


def test_wrapped_base64_is_decoded() -> None:
    content = os.urandom(100_000)
    text = base64.encodebytes(content).decode()

    async def scenario() -> None:
        async with session(BLOBS) as (server, client):
            await server.send(
                '<setBLOBVector device="D" name="B"><oneBLOB name="img" size="100000" enclen="7" format=".bin">'
                f"\n{text}</oneBLOB></setBLOBVector>"
            )
            assert (await client.got("SetBLOB"))["img"] == content

    asyncio.run(scenario())
