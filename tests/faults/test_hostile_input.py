"""Hostile and broken input: it is refused, and other peers are not affected."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import indifast as ipd
from indifast.protocol.complaints import BURST
from tests.faults.support import (
    GET,
    PROGRAMS,
    Serve,
    ServeDriver,
    answers,
    blob,
    blob_definition,
    blobs_wanted,
    definition,
    do,
    ping,
    text,
    until_deleted,
)
from tests.support.blackbox import LIMIT, PYTHON, Channel, free_port, processor_seconds, resident_bytes, tree, until

# Streams


@pytest.mark.parametrize(
    "junk",
    [
        b'<newTextVector device="Dev" name="text"><oneText name="t">cut',
        b'<newTextVector device="Dev" name="text"><oneText name="t">x</oneSwitch></newTextVector>',
        b"</newTextVector></oneText>",
        b'<?xml version="1.0"?><?xml version="1.0"?>',
        b"\x00\x00\x00",
        b"<<<>>>&&&;",
        b"<newTextVector device='De\x00v' na",
        b'<newTextVector device="Dev" name="text">\xff\xfe\x80</newTextVector>',
        b"]]>-->?>",
        b"<newTextVector device=Dev name=text>",
    ],
    ids=["cut", "mismatched", "stray-ends", "declarations", "nul", "angles", "nul-in-tag", "latin1", "ends", "bare"],
)
def test_junk_costs_no_other_message(serve: Serve, junk: bytes) -> None:
    client = serve().client()
    client.send(junk)
    answers(client, "first")
    client.send(junk * 100)
    answers(client, "second")


def test_an_element_without_an_end_uses_bounded_memory(serve: Serve) -> None:
    served = serve()
    watcher, hostile = served.client(), served.client()
    before = resident_bytes(served.pid)
    hostile.send(b'<newTextVector device="Dev" name="text"><oneText name="t">')
    for _ in range(40):
        hostile.send(b"z" * (1 << 20))
    answers(watcher)
    assert resident_bytes(served.pid) - before < 40 << 20


def test_the_largest_unfinished_element_is_refused_when_memory_runs_out(serve: Serve) -> None:
    """It does not matter whose data finds no memory. The log does not grow with each failure."""
    served = serve(memory=96 << 20)
    watcher, hostile = served.client(), served.client()
    hostile.send(b'<newBLOBVector device="Dev" name="blob"><oneBLOB name="b" size="400000000" format=".x">')
    for _ in range(150):
        hostile.send(b"QUJD" * (1 << 18))
        answers(watcher)
    hostile.send(b"</oneBLOB></newBLOBVector>")
    answers(hostile, "still here")
    watcher.send(do("refused"))
    watcher.until(lambda m: b"&quot;out of memory&quot;: " in m or b'"out of memory": ' in m)
    log = served.stop()
    assert "Traceback" not in log
    assert 0 < log.count("memory") < 20 and log.count("\n") < 60


def test_a_connection_with_a_stalled_element_is_closed(serve: Serve) -> None:
    served = serve(server={"stall": 0.5})
    watcher, hostile = served.client(), served.client()
    hostile.send(b'<newTextVector device="Dev" name="text"><oneText name="t">half')
    hostile.until_end()
    assert hostile.ended
    answers(watcher)


@pytest.mark.parametrize("enclen", ["-1", "1", "4", "99999999999999999999", "nonsense", ""])
def test_a_wrong_enclen_is_not_trusted(serve_driver: ServeDriver, enclen: str) -> None:
    """`enclen=4` on a longer text ends the C++ server with SIGSEGV, and `-1` with exit(1)."""
    served, driver = serve_driver(devices=[])
    client = served.connect(GET + blobs_wanted("X"))
    driver.until_text("getProperties")
    driver.send(blob_definition("X"))
    client.until_text("defBLOBVector")
    driver.send(blob("X", "b", b"hello" * 1000).replace(b" format=", b' enclen="%s" format=' % enclen.encode()))
    driver.send(b'<setTextVector device="X" name="t" state="Ok"/>')
    message = tree(client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1])
    assert message[0].get("enclen") is None
    assert message[0].get("size") == "5000"
    client.until(lambda m: m.startswith(b"<setTextVector"))


@pytest.mark.parametrize("size", ["1000000000", "99999999999999999999", "-5"])
def test_a_wrong_size_allocates_nothing(serve: Serve, size: str) -> None:
    served = serve()
    client = served.client()
    before = resident_bytes(served.pid)
    for _ in range(10):
        client.send(blob("Dev", "blob", b"hello", tag="newBLOBVector").replace(b'size="5"', f'size="{size}"'.encode()))
    answers(client)
    assert resident_bytes(served.pid) - before < 40 << 20


@pytest.mark.parametrize(
    "content", ["aGVs*bG8=", "aGVs&bG8=", "aGVs&amp;bG8=", "aGVs\x01bG8=", "aGVsbG8", "====", "aG=VsbG8="]
)
def test_invalid_base64_costs_only_its_message(serve_driver: ServeDriver, content: str) -> None:
    served, driver = serve_driver()
    client = served.client(blobs_wanted("X"))
    driver.send(blob_definition("X") + definition("X", "behind"))
    client.until_text('name="behind"')
    message = blob("X", "b", b"hello").replace(b"aGVsbG8=", content.encode())
    driver.send(message + definition("X", "last"))
    for passed_on in client.until_text('name="last"'):
        tree(passed_on)  # it is well-formed
    client.send(
        message.replace(b"setBLOBVector", b"newBLOBVector")
        .replace(b'"X"', b'"Dev"')
        .replace(b'name="b" ', b'name="blob" ', 1)
    )
    answers(client)


def test_the_unfinished_element_of_a_dying_driver_is_not_passed_on(serve_driver: ServeDriver) -> None:
    served, driver = serve_driver()
    client = served.client(blobs_wanted("X"))
    driver.send(blob_definition("X"))
    client.until_text('device="X"')
    whole = blob("X", "b", os.urandom(1 << 20))
    driver.send(whole[: len(whole) // 2])
    driver.close()
    until_deleted(client, "X")
    answers(client)
    assert b"<oneBLOB" not in client.raw


def test_nothing_remains_of_an_upload_whose_client_vanishes(serve_driver: ServeDriver) -> None:
    served, driver = serve_driver()
    driver.send(blob_definition("X"))
    watcher, victim = served.client(), served.client()
    whole = blob("X", "b", os.urandom(1 << 20), tag="newBLOBVector")
    victim.send(whole[: len(whole) // 2])
    served.vanish(victim)
    answers(watcher)
    watcher.send(
        b'<newBLOBVector device="X" name="b"><oneBLOB name="b" size="5" format=".x">aGVsbG8=</oneBLOB></newBLOBVector>'
    )
    message = driver.until(lambda m: m.startswith(b"<newBLOBVector"))[-1]
    assert b"aGVsbG8=" in message and len(message) < 1000


def test_a_client_that_vanishes_while_receiving_a_frame_does_not_affect_others(serve: Serve) -> None:
    served = serve()
    watcher, victim = served.client(blobs_wanted()), served.client(blobs_wanted())
    watcher.send(do("blobs 10 2000000 .bin"))
    assert victim.pump(LIMIT)
    served.vanish(victim)
    assert len([m for m in watcher.until_text("done blobs") if m.startswith(b"<setBLOBVector")]) == 10


# Hostile clients


def test_silent_clients_do_not_affect_others(serve: Serve) -> None:
    served = serve()
    for _ in range(3):
        served.connect()
    answers(served.client())


@pytest.mark.parametrize(
    "message",
    [
        b'<defTextVector device="Dev" name="text" state="Ok" perm="rw"><defText name="t">hostile</defText></defTextVector>',
        b'<setTextVector device="Dev" name="text" state="Alert"><oneText name="t">hostile</oneText></setTextVector>',
        b'<delProperty device="Dev"/>',
        b'<delProperty device="Dev" name="text"/>',
        b'<message device="Dev" message="hostile"/>',
    ],
    ids=["def", "set", "del device", "del property", "message"],
)
def test_a_client_cannot_play_the_driver_of_an_existing_device(serve: Serve, message: bytes) -> None:
    served = serve()
    watcher, hostile = served.client(), served.client()
    hostile.send(message * 100)
    ping(hostile)
    answers(watcher)
    assert b"hostile" not in watcher.raw and b"<delProperty" not in watcher.raw
    assert watcher.raw.count(b"offers Dev") <= 1
    answers(served.client(), "later")


def test_a_device_whose_name_has_the_same_bytes_in_memory_is_a_different_one(serve: Serve) -> None:
    """With two bytes per character, `敄䅶X` starts with the bytes of `Dev` in memory. Its owner must not update `Dev`."""
    served = serve()
    device = "敄䅶X"
    watcher, hostile = served.client(), served.client()
    update = b'<setTextVector device="%s" name="text" state="Ok"><oneText name="t">%s</oneText></setTextVector>'
    hostile.send(definition(device, "text"))
    hostile.send((update % (device.encode(), b"own") + update % (b"Dev", b"forged")) * 100)
    ping(hostile)
    answers(watcher)
    assert watcher.raw.count(b">own<") == 100 and b"forged" not in watcher.raw


def test_memory_for_a_million_requests_for_blobs_is_bounded(serve: Serve) -> None:
    served = serve()
    hostile, watcher = served.connect(GET), served.client()
    before = resident_bytes(served.pid)
    try:
        for start in range(0, 1_000_000, 5000):
            hostile.send(
                b"".join(
                    b'<enableBLOB device="d%d" name="n%d">Also</enableBLOB>' % (n, n)
                    for n in range(start, start + 5000)
                )
            )
    except OSError:
        pass  # the server may also disconnect the client
    answers(watcher)
    assert resident_bytes(served.pid) - before < 100 << 20


def test_get_properties_of_version_9_does_not_end_a_libindi_driver(serve: Serve, program: Callable[[str], str]) -> None:
    """The C++ server passes it on, and all drivers of libindi end."""
    served = serve(programs=[[program("indi_simulator_telescope")]])
    client = served.client()
    client.send(GET)
    client.until_text('device="Telescope Simulator"')
    hostile = served.connect(
        b'<getProperties version="9"/><getProperties/><getProperties version="none" device="Telescope Simulator"/>'
    )
    hostile.until_text('device="Telescope Simulator"')
    hostile.send(
        b'<newSwitchVector device="Telescope Simulator" name="CONNECTION"><oneSwitch name="CONNECT">On</oneSwitch></newSwitchVector>'
    )
    hostile.until(lambda m: b'name="CONNECTION"' in m and b'state="Ok"' in m)
    assert b'<delProperty device="Telescope Simulator"/>' not in client.raw


@pytest.mark.xdist_group("processor time")
def test_a_flood_of_requests_for_definitions(serve_driver: ServeDriver) -> None:
    """Requests that the driver does not read are neither stored one by one nor searched."""
    served, driver = serve_driver()
    watcher, hostile = served.client(), served.client()
    driver.send(definition("X"))
    watcher.until_text('device="X"')
    before = resident_bytes(served.pid)
    used = processor_seconds(served.pid)
    for start in range(0, 200_000, 10_000):
        hostile.send(
            b'<getProperties version="1.7" device="X"/>' * 10_000
            + b"".join(
                b'<getProperties version="1.7" device="X" name="n%d"/>' % n for n in range(start, start + 10_000)
            )
        )
    ping(hostile)
    answers(watcher)
    assert processor_seconds(served.pid) - used < 15
    assert resident_bytes(served.pid) - before < 200 << 20
    assert "ended" in served.stop()


def test_ten_thousand_connections_in_a_loop(serve: Serve) -> None:
    served = serve(server={"maxconnections": 10})
    watcher = served.client()
    for _ in range(10_000):
        with socket.create_connection(("localhost", served.port)):
            pass
    answers(watcher)

    def served_again() -> bool:  # the last connections may occupy the slots for a moment
        try:
            answers(served.client())
        except (OSError, EOFError):
            return False
        return True

    until(served_again, what="a new client")


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b'<newTextVector device="Dev" name="switch"><oneText name="a">On</oneText></newTextVector>', "switch"),
        (b'<newTextVector device="Dev" name="text"><oneText name="zz">x</oneText></newTextVector>', "text"),
        (b'<newTextVector device="Dev" name="fixed"><oneText name="t">x</oneText></newTextVector>', "fixed"),
        (b'<newNumberVector device="Dev" name="number"><oneNumber name="n"></oneNumber></newNumberVector>', "number"),
        (
            b'<newBLOBVector device="Dev" name="blob"><oneBLOB name="b" size="4" format=".x">a*b=</oneBLOB></newBLOBVector>',
            "blob",
        ),
        (
            b'<newBLOBVector device="Dev" name="blob"><oneBLOB name="b" format=".x">aGVsbG8=</oneBLOB></newBLOBVector>',
            "blob",
        ),
        (
            b'<defTextVector device="Dev" name="text" state="Ok" perm="rw"><defText name="t">x</defText></defTextVector>',
            "Dev",
        ),
    ],
    ids=["wrong type", "unknown member", "read-only", "empty number", "base64", "no size", "definition"],
)
def test_refused_input_is_logged_without_filling_the_log(serve: Serve, message: bytes, what: str) -> None:
    served = serve()
    watcher, client = served.client(), served.client()
    port = client.port()
    client.send(message * (BURST + 100))
    answers(watcher)
    ping(client)
    lines = [line for line in served.child.stderr.splitlines() if what in line and not line.startswith("port")]
    assert 1 <= len(lines) <= BURST + 20, served.child.stderr
    # The server logs the client's address with what it refuses; a driver in its process does not know the client.
    assert all(str(port) in line for line in lines if line.startswith("Client"))


def test_unknown_names_and_invalid_values_are_refused(serve: Serve) -> None:
    served = serve()
    client = served.client()
    client.send(text("x", "nothing") + text("x", "text", "nothing") + text("x", device="Nobody"))
    client.send(b'<newSwitchVector device="Dev" name="switch"><oneSwitch name="a">Maybe</oneSwitch></newSwitchVector>')
    client.send(b'<newNumberVector device="Dev" name="number"><oneNumber name="n"></oneNumber></newNumberVector>')
    client.send(b'<newLightVector device="Dev" name="light"><oneLight name="l">Ok</oneLight></newLightVector>')
    client.send(
        b'<newBLOBVector device="Dev" name="blob"><oneBLOB name="b" format=".x">aGVsbG8=</oneBLOB></newBLOBVector>'
    )
    answers(client)


# Descriptors


ATTACHED: dict[str, dict[str, Any]] = {
    "fifo": {"descriptors": ["fifo"]},
    "directory": {"descriptors": ["directory"]},
    "short": {"descriptors": [[1000, 0]], "shorten": True},
    "missing": {"descriptors": []},
    "socket": {"descriptors": ["socket"]},
    "huge": {"descriptors": [[1000, 0]], "size": "99999999999999"},
    "negative": {"descriptors": [[1000, 0]], "size": "-1"},
    "many": {"descriptors": [[1 << 20, 0]] * 16},
    "flood": {"descriptors": [[1 << 20, 0]] * 20},  # more than any peer accepts with one message
}
"""Descriptors that are not shared memory of the announced size, 1000000 unless stated."""


@pytest.mark.parametrize("kind", ATTACHED)
def test_descriptors_that_differ_from_what_was_announced(serve: Serve, kind: str) -> None:
    options = {"attributes": f"size='{ATTACHED[kind].get('size', 1000000)}' format='.x'", **ATTACHED[kind]}
    served = serve(programs=[[PYTHON, str(PROGRAMS / "attaching.py"), json.dumps(options)]])
    watcher = served.client()
    client = served.connect(GET + blobs_wanted("S"))
    client.until_text('device="S" name="t"')
    client.send(text("go", "t", "t", device="S"))
    # The message is refused, or the driver is ended and restarted. Others are not affected in either case.
    received = client.until(lambda m: b">behind<" in m or m.startswith(b"<delProperty"))
    if kind != "many":
        assert not any((member.text or "").strip() for m in received for member in tree(m).iter("oneBLOB"))
    answers(watcher)


# Drivers that listen


def test_a_listening_driver_survives_hostile_bytes() -> None:
    """A driver that serves a client without a server refuses broken input like a server."""

    class Driver(ipd.IPyDriver):
        async def rxevent(self, event: ipd.newTextVector) -> None:
            event.vector["t"] = event["t"]
            await event.vector.send_setVector()

    async def scenario() -> None:
        vectors = [ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")])]
        driver = Driver(ipd.Device("Dev", vectors))
        port = free_port()
        driver.listen("127.0.0.1", port)
        running = asyncio.create_task(driver.asyncrun())
        for _ in range(3):  # each client is served as soon as the one before has gone
            client = await asyncio.to_thread(Channel.connect, port, "127.0.0.1")
            client.send(GET + b"<<&&<newTextVector device='Dev'" + b'<enableBLOB device="Dev"></enableBLOB>')
            await asyncio.to_thread(answers, client)
            client.close()
        driver.shutdown()
        async with asyncio.timeout(LIMIT):
            await running

    asyncio.run(scenario())
