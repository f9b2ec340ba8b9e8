"""Faults of indipydriver 2.2.0, a release whose server was part of the driver package."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

import indifast as ipd
from tests.faults.support import (
    GET,
    Serve,
    ServeDriver,
    answers,
    blob_definition,
    blobs_wanted,
    do,
    executable,
    ping,
    text,
)
from tests.support.blackbox import PYTHON, Child, python_environment, tree


def test_a_stalled_client_does_not_block_the_others(serve: Serve) -> None:
    """2.2.0 serves its clients one after the other: after 23 frames of 1 MB, all clients and drivers are blocked."""
    served = serve()
    reader, stalled = served.client(blobs_wanted()), served.client(blobs_wanted())
    reader.send(do("blobs 40 1000000 .bin"))
    assert len([m for m in reader.until_text("done blobs") if m.startswith(b"<setBLOBVector")]) == 40
    answers(reader)
    # When the stalled client reads again, it receives complete frames, in order.
    frames = [m for m in stalled.until_text(">alive<") if m.startswith(b"<setBLOBVector")]
    numbers = [int(tree(m).get("message", "").split()[1]) for m in frames]
    assert numbers == sorted(set(numbers))
    assert all(len(tree(m)[0].text or "") == 1333336 for m in frames)


def test_drivers_that_snoop_on_each_other_without_reading_do_not_block(serve: Serve, tmp_path: Path) -> None:
    """In 2.2.0, each waits for room in the other's queue. Here the server reads both at full speed."""
    talker = executable(
        tmp_path / "talker",
        f"""#!{PYTHON}
import os, sys
me, other = sys.argv[1:]
def say(text):
    data = text.encode()
    while data:
        data = data[os.write(1, data):]
say(f"<getProperties version='1.7' device='{{other}}'/>")
say(f"<defTextVector device='{{me}}' name='t' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>")
for number in range(40):
    say(f"<setTextVector device='{{me}}' name='t' state='Ok'><oneText name='t'>{{'x' * (1 << 20)}}</oneText></setTextVector>")
say(f"<defTextVector device='{{me}}' name='end' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>")
while os.read(0, 65536):
    pass
""",
    )
    served = serve(programs=[[talker, "A", "B"], [talker, "B", "A"]])
    client = served.connect(GET)
    ended: set[str] = set()
    while len(ended) < 2:
        ended.add(tree(client.until_text('name="end"')[-1]).get("device", ""))
    answers(client)


def test_closed_clients_free_their_slots_although_nothing_is_sent(serve: Serve) -> None:
    """2.2.0 notices a closed client only when it writes to it, so without traffic the slots remain occupied."""
    served = serve(server={"maxconnections": 2})
    for _ in range(6):
        channel = served.connect()
        ping(channel)
        channel.close()


@pytest.mark.parametrize("name", ["/nonexistent/program", "indi_no_such_driver"])
def test_a_missing_driver_is_an_error_that_names_it_and_leaves_nothing_running(name: str) -> None:
    """2.2.0 returns from asyncrun although its listener and the tasks of the other drivers still exist."""

    async def scenario() -> None:
        server = ipd.IPyServer(ipd.IPyDriver(ipd.Device("Dev", [])), host="127.0.0.1", port=0)
        server.add_exdriver(name)
        with pytest.raises(FileNotFoundError, match=name):
            await server.asyncrun()
        port = server.port
        if port:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []

    asyncio.run(scenario())


def test_text_that_is_not_ascii_arrives(serve: Serve) -> None:
    """2.2.0 drops every message with a byte above 127."""
    client = serve().client()
    client.send("<newTextVector device='Dev' name='text'><oneText name='t'>é 漢</oneText></newTextVector>".encode())
    assert tree(client.until_text("setTextVector")[-1])[0].text == "é 漢"
    client.send(
        "<newTextVector device='Dev' name='text'><oneText name='t'>caf\xe9</oneText></newTextVector>".encode("latin-1")
    )
    assert tree(client.until_text("setTextVector")[-1])[0].text == "café"


def test_the_start_tags_of_a_blob_on_stdout_are_escaped(tmp_path: Path) -> None:
    """2.2.0 writes the attributes of a BLOB's start tags unchanged."""
    body = """
import asyncio
import indifast as ipd
class Driver(ipd.IPyDriver):
    async def hardware(self):
        self["A & <B>"]["blob"]["b"] = b"hello"
        await self["A & <B>"]["blob"].send_setVectorMembers(members=["b"], message='"<&>"')
driver = Driver(ipd.Device("A & <B>", [ipd.BLOBVector("blob", "B", "G", "ro", "Ok", [ipd.BLOBMember("b", blobformat="&")])]))
asyncio.run(driver.asyncrun())
"""
    with Child([PYTHON, "-c", body], tmp_path, env=python_environment(), stdio=True) as child:
        stream = child.channel()
        message = tree(stream.until_text("setBLOBVector")[-1])
        assert (message.get("device"), message.get("message"), message[0].get("format")) == ("A & <B>", '"<&>"', "&")
        stream.close()


def test_only_for_one_property_does_not_suppress_other_messages(serve: Serve) -> None:
    served = serve(devices=["Dev", "Other"])
    client = served.client(b'<enableBLOB device="Dev" name="blob">Only</enableBLOB>')
    answers(client, "same")
    answers(client, "other", device="Other")
    client.send(b'<enableBLOB device="Dev">Only</enableBLOB>')
    client.send(text("unseen"))
    answers(client, "still", device="Other")
    assert b"unseen" not in client.raw


def test_a_client_without_blobs_receives_the_acknowledgement_of_one(serve_driver: ServeDriver) -> None:
    served, driver = serve_driver()
    client = served.client()
    driver.send(blob_definition("X"))
    driver.send(b'<setBLOBVector device="X" name="b" state="Ok"/>')
    client.until(lambda m: m.startswith(b"<setBLOBVector"))


def test_reading_a_large_blob_of_a_driver_is_not_quadratic(serve_driver: ServeDriver) -> None:
    """2.2.0 needs 35 s of processor time for 4 MB; the BLOB here is larger."""
    served, driver = serve_driver()
    client = served.client(blobs_wanted("X"))
    driver.send(blob_definition("X"))
    size = 12 << 20
    driver.send(
        b'<setBLOBVector device="X" name="b" state="Ok"><oneBLOB name="b" size="%d" format=".bin">' % size
        + b"QUFB" * (size // 3)
        + b"</oneBLOB></setBLOBVector>"
    )
    message = client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1]
    assert message.count(b"QUFB") == size // 3
