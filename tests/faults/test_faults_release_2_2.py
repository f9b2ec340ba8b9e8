"""Faults of indipydriver 2.2.0, the release whose server was a part of the driver package."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import indifast as ipd
from tests.faults.support import GET, Served, answers, do, text
from tests.support.blackbox import PYTHON, Child, python_environment, tree

Serve = Callable[..., Served]


def test_stalled_client_does_not_freeze_the_others(serve: Serve) -> None:
    """2.2.0 copies to its clients one after the other: after 23 frames of 1 MB all clients and drivers stand still."""
    served = serve()
    wants = b'<enableBLOB device="Dev">Also</enableBLOB>'
    reader, stalled = served.client(wants), served.client(wants)
    reader.send(do("blobs 40 1000000 .bin"))
    assert len([m for m in reader.until_text("done blobs") if m.startswith(b"<setBLOBVector")]) == 40
    answers(reader)
    # The stalled one reads again and gets whole frames, in order.
    frames = [m for m in stalled.until_text(">alive<") if m.startswith(b"<setBLOBVector")]
    numbers = [int(tree(m).get("message", "").split()[1]) for m in frames]
    assert numbers == sorted(set(numbers))
    assert all(len(tree(m)[0].text or "") == 1333336 for m in frames)


def test_drivers_that_snoop_on_each_other_and_do_not_read_go_on(serve: Serve, tmp_path: Path) -> None:
    """In 2.2.0 each waits for room in the other's queue. Here neither is read the slower for it."""
    talker = tmp_path / "talker"
    talker.write_text(
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
"""
    )
    talker.chmod(0o755)
    served = serve(programs=[[str(talker), "A", "B"], [str(talker), "B", "A"]])
    client = served.connect(GET)
    ended: set[str] = set()
    while len(ended) < 2:
        ended.add(tree(client.until_text('name="end"', limit=60)[-1]).get("device", ""))
    answers(client)


def test_slots_of_closed_clients_are_free_on_a_silent_system(serve: Serve) -> None:
    """2.2.0 notices a closed client only when it has to write to it: on a silent system the slots are lost for good."""
    served = serve(server={"maxconnections": 2})
    for _ in range(6):
        channel = served.connect()
        channel.send(b'<pingRequest uid="u"/>')
        channel.until_text("pingReply")
        channel.close()


def test_first_exception_leaves_no_port_bound() -> None:
    """2.2.0 returns from asyncrun with its listener and the tasks of the other drivers alive."""

    async def scenario() -> None:
        server = ipd.IPyServer(ipd.IPyDriver(ipd.Device("Dev", [])), host="127.0.0.1", port=0)
        server.add_exdriver("/nonexistent/program")
        with pytest.raises(FileNotFoundError, match="/nonexistent/program"):
            await server.asyncrun()
        port = server.port
        if port:
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1)
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


def test_start_tag_of_a_blob_on_stdout_is_escaped(tmp_path: Path) -> None:
    """2.2.0 writes the attributes of a BLOB's start tags as they stand."""
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


def test_only_for_one_property_does_not_silence_the_connection(serve: Serve) -> None:
    served = serve(devices=["Dev", "Other"])
    client = served.client(b'<enableBLOB device="Dev" name="blob">Only</enableBLOB>')
    answers(client, "same")
    answers(client, "other", device="Other")
    client.send(b'<enableBLOB device="Dev">Only</enableBLOB>')
    client.send(text("unheard"))
    answers(client, "still", device="Other")
    assert b"unheard" not in client.raw


def test_acknowledgement_of_a_blob_reaches_who_never_wants_blobs(serve: Serve, hub) -> None:  # type: ignore[no-untyped-def]
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
    client = served.client()
    driver.send(b'<defBLOBVector device="X" name="b" state="Ok" perm="rw"><defBLOB name="m"/></defBLOBVector>')
    driver.send(b'<setBLOBVector device="X" name="b" state="Ok"/>')
    client.until(lambda m: m.startswith(b"<setBLOBVector"))


def test_reading_large_blobs_from_a_program_is_not_quadratic(serve: Serve, hub) -> None:  # type: ignore[no-untyped-def]
    """2.2.0 needs 35 s of processor time for 4 MB from an executable driver; here eight times that is nothing."""
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
    client = served.client(b'<enableBLOB device="X">Also</enableBLOB>')
    driver.send(b'<defBLOBVector device="X" name="b" state="Ok" perm="rw"><defBLOB name="m"/></defBLOBVector>')
    size = 12 << 20
    driver.send(
        b'<setBLOBVector device="X" name="b" state="Ok"><oneBLOB name="m" size="%d" format=".bin">' % size
        + b"QUFB" * (size // 3)
        + b"</oneBLOB></setBLOBVector>"
    )
    message = client.until(lambda m: m.startswith(b"<setBLOBVector"), limit=40)[-1]
    assert message.count(b"QUFB") == size // 3
