"""The client with real servers: what a program sees from connecting to receiving a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from indifast.client import IPyClient
from tests.client.support import BLOBS, LIGHTS, NUMBERS, SWITCHES, TEXTS, Recorder, blob, session
from tests.support.blackbox import LIMIT
from tests.support.programs import python_program
from tests.support.servers import indiserver


@pytest.mark.parametrize("carrier", ["tcp", "unix"])
def test_camera_frame_from_indiserver(program: Callable[[str], str], carrier: str) -> None:
    with indiserver(program, "indi_simulator_ccd") as (port, local):

        async def scenario() -> None:
            client = IPyClient("127.0.0.1", port) if carrier == "tcp" else IPyClient(local)
            async with client:
                await client.ready(LIMIT, ("CCD Simulator", "CONNECTION"))
                await client.send_newVector(
                    "CCD Simulator", "CONNECTION", members={"CONNECT": "On"}, wait=True, timeout=LIMIT
                )
                frame = await client.expose("CCD Simulator", 0.2)
                assert frame.format == ".fits"
                picture = frame.array()
                assert picture.shape == (1024, 1280)
                assert numpy.ptp(picture) > 0
                content = client["CCD Simulator"]["CCD1"]["CCD1"]
                assert isinstance(content, bytes if carrier == "tcp" else memoryview)
                assert memoryview(content).readonly
                assert await client.ping() < LIMIT

        asyncio.run(scenario())


def test_binned_and_compressed_streams_of_a_camera(program: Callable[[str], str]) -> None:
    """CCD_STREAM_FRAME is in binned pixels, CCD_FRAME is not."""
    camera = "CCD Simulator"

    async def switched(client: IPyClient, vector: str, **members: Any) -> None:
        await client.send_newVector(
            camera, vector, members=members, wait=True, timeout=LIMIT, accept=("Ok", "Busy", "Idle")
        )

    with indiserver(program, "indi_simulator_ccd") as (port, _):

        async def scenario() -> None:
            async with IPyClient("127.0.0.1", port) as client:
                await client.ready(LIMIT, (camera, "CONNECTION"))
                await switched(client, "CONNECTION", CONNECT="On")
                await client.ready(LIMIT, *[(camera, name) for name in ("CCD_BINNING", "CCD_STREAM_ENCODER", "CCD1")])
                await client.ready(LIMIT, (camera, "CCD_STREAM_FRAME"), (camera, "CCD_VIDEO_STREAM"))
                frames = client.frames(camera, newest=True)
                for binning, encoder, form, shape in (
                    (1, "RAW", ".stream", (1024, 1280)),
                    (2, "RAW", ".stream", (512, 640)),
                    (2, "MJPEG", ".stream_jpg", (512, 640)),
                ):
                    await switched(client, "CCD_BINNING", HOR_BIN=binning, VER_BIN=binning)
                    await switched(client, "CCD_STREAM_ENCODER", **{encoder: "On"})
                    await switched(client, "CCD_VIDEO_STREAM", STREAM_ON="On")
                    async with asyncio.timeout(LIMIT):
                        while (frame := await anext(frames)).format != form or frame.array().shape != shape:
                            pass
                    await switched(client, "CCD_VIDEO_STREAM", STREAM_OFF="On")

        asyncio.run(scenario())


SIZE_0 = f"""
import base64, os

received = b""
while b"</newTextVector>" not in received:
    more = os.read(0, 65536)
    if not more:
        raise SystemExit
    received += more
    if b"<getProperties" in received:
        received = received.rpartition(b"<getProperties")[2]
        os.write(1, b"{BLOBS.replace(chr(34), chr(39))}{TEXTS.replace(chr(34), chr(39))}")
for data, size in ((b"first", 0), (b"second", 6), (b"third", 5)):
    os.write(1, b"<setBLOBVector device='D' name='B' state='Ok'><oneBLOB name='img' size='%d' format='.x'>%s"
                b"</oneBLOB></setBLOBVector>" % (size, base64.b64encode(data)))
while os.read(0, 65536):
    pass
"""


def test_a_blob_of_size_0_from_indiserver_does_not_affect_the_next_ones(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    """On a local socket, the server announces a BLOB with content and `size` 0 as attached, and sends a descriptor."""
    driver = python_program(tmp_path / "driver", SIZE_0)
    with indiserver(program, str(driver)) as (_, local):

        async def scenario() -> None:
            client = Recorder(local)
            async with client:
                await client.got("DefineBLOB")
                await client.got("Define")
                await client.send_enableBLOB("Also", "D")
                await client.send_newVector("D", "T", members={"x": "go"})
                await client.got("SetBLOB", 3)
                assert [{name: bytes(value) for name, value in event.items()} for event in client.of("SetBLOB")] == [
                    {}, {"img": b"second"}, {"img": b"third"}]  # fmt: skip

        asyncio.run(scenario())


def test_model_and_events_of_vectors_of_all_kinds() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS, SWITCHES, LIGHTS, BLOBS) as (server, client):
            assert client.types()[:4] == ["Message", "Message", "ConnectionMade", "Message"]
            assert client.types()[4:] == ["Define"] * 4 + ["DefineBLOB"]
            device = client["D"]
            assert list(device) == ["N", "T", "S", "L", "B"]
            assert dict(device["N"]) == {"a": "1", "b": "-0:30:15"}
            assert device["N"].getfloatvalue("b") == pytest.approx(-0.5041666)
            assert device["N"].getformattedvalue("b") == " -0:30:15"
            assert dict(device["T"]) == {"x": "hello", "y": ""}
            assert dict(device["S"]) == {"on": "Off", "off": "On"}
            assert (device["L"].perm, device["L"].timeout) == ("ro", None)
            assert device["B"].timeout == 60.0
            assert device["B"]["img"] is None
            await server.expect('<enableBLOB device="D" name="B">Never</enableBLOB>')

            await server.send(
                '<setNumberVector device="D" name="N" state="Busy" message="hm"><oneNumber name="a">\n2.5\n'
                "</oneNumber></setNumberVector>",
                '<setSwitchVector device="D" name="S"><oneSwitch name="on">On</oneSwitch></setSwitchVector>',
                '<setTextVector device="D" name="T" state="Ok"><oneText name="x">a &amp; b</oneText></setTextVector>',
                '<setLightVector device="D" name="L" state="Alert"><oneLight name="l">Alert</oneLight>'
                "</setLightVector>",
                blob(b"content"),
            )
            event = await client.got("SetBLOB")
            number, switch, text, light = client.of("Set")
            assert (dict(number), number.state, number.message) == ({"a": "2.5"}, "Busy", "hm")
            assert (device["N"].state, device["N"]["a"], device["N"].message) == ("Busy", "2.5", "hm")
            assert (dict(switch), switch.state, device["S"].state) == ({"on": "On"}, None, "Idle")
            assert (dict(text), device["T"]["x"]) == ({"x": "a & b"}, "a & b")
            assert (dict(light), device["L"]["l"]) == ({"l": "Alert"}, "Alert")
            assert (dict(event), event.sizeformat) == ({"img": b"content"}, {"img": (7, ".bin")})
            member = device["B"].member("img")
            assert (member.membervalue, member.blobsize, member.blobformat) == (b"content", 7, ".bin")

    asyncio.run(scenario())


def test_commands_on_the_wire() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, TEXTS, SWITCHES, BLOBS) as (server, client):
            await server.expect('<getProperties version="1.7" />')
            await client.send_newVector("D", "S", members={"on": "On", "off": "Off", "what": "On"})
            await server.expect('"><oneSwitch name="off">Off</oneSwitch><oneSwitch name="on">On</oneSwitch></newSw')
            assert client["D"]["S"].state == "Busy"
            await client.send_newVector("D", "N", members={"a": 3.25})
            await server.expect('<oneNumber name="a">3.25</oneNumber><oneNumber name="b">-0:30:15</oneNumber>')
            await client.send_newVector("D", "T", members={"x": '<é&">'})
            await server.expect('<oneText name="x">&lt;é&amp;"&gt;</oneText><oneText name="y" /></newTextVector>')
            await client.send_enableBLOB("Also", "D")
            await server.expect('<enableBLOB device="D">Also</enableBLOB>')
            await client.send_newVector("D", "B", members={"img": (b"hello world", 99, ".txt")})
            await server.expect('<oneBLOB name="img" format=".txt" size="99">aGVsbG8gd29ybGQ=</oneBLOB></newBLOBV')

    asyncio.run(scenario())


def test_leaving_the_context_stops_the_client() -> None:
    async def scenario() -> None:
        async with session(NUMBERS) as (_, client):
            pass
        assert client.stopped.is_set()
        assert not client.connected
        assert not client
        assert client.types()[-2:] == ["Message", "ConnectionLost"]

    asyncio.run(scenario())


def test_shutdown_while_no_server_answers() -> None:
    async def scenario() -> None:
        client = Recorder("127.0.0.1", 1)
        async with asyncio.timeout(LIMIT):
            async with client:
                await client.got("Message", 2)
        assert client.types() == ["Message"] * len(client.seen)

    asyncio.run(scenario())


def test_empty_attributes_count_as_absent_except_in_deletions() -> None:
    async def scenario() -> None:
        async with session(TEXTS) as (server, client):
            await server.send(
                '<message device="" message="to all"/><getProperties version="1.7" device="" name="T"/>'
                '<getProperties version="1.7" device="D" name=""/>'
                '<delProperty device="D" name="" message="nothing"/><message message="end"/>'
            )
            await client.got_message("end")
            message, asked, of_device, deleted, _ = client.seen[-5:]
            assert (message.devicename, message.message) == (None, "to all")
            assert (asked.devicename, asked.vectorname) == (None, None)
            assert (of_device.devicename, of_device.vectorname) == ("D", None)
            assert (deleted.eventtype, deleted.devicename, deleted.vectorname) == ("Delete", "D", "")
            assert client["D"].enable and client["D"]["T"].enable
            await client.send_getProperties("", "")
            await server.expect('<getProperties version="1.7" />')
            assert b'=""' not in server.received

    asyncio.run(scenario())
