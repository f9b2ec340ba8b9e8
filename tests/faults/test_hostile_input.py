"""Input that means harm, or is merely broken: it is refused, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import indifast as ipd
from indifast.protocol.complaints import BURST
from tests.faults.support import GET, Served, answers, blob, blob_definition, definition, do, text
from tests.support.blackbox import PYTHON, Channel, Hub, free_port, processor_seconds, resident_bytes, tree, until

Serve = Callable[..., Served]


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
def test_junk_costs_at_most_itself(serve: Serve, junk: bytes) -> None:
    client = serve().client()
    client.send(junk)
    answers(client, "first")
    client.send(junk * 100)
    answers(client, "second")


def test_never_closed_element_takes_bounded_memory(serve: Serve) -> None:
    served = serve()
    watcher, hostile = served.client(), served.client()
    before = resident_bytes(served.pid)
    hostile.send(b'<newTextVector device="Dev" name="text"><oneText name="t">')
    for _ in range(40):
        hostile.send(b"z" * (1 << 20))
    answers(watcher)
    assert resident_bytes(served.pid) - before < 40 << 20


def test_without_memory_it_is_the_largest_unfinished_element_that_goes(serve: Serve) -> None:
    """Whoever's read it is that finds none; and the log does not grow with each attempt."""
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


def test_half_element_without_progress_goes_with_its_connection(serve: Serve) -> None:
    served = serve(server={"stall": 0.5})
    watcher, hostile = served.client(), served.client()
    hostile.send(b'<newTextVector device="Dev" name="text"><oneText name="t">half')
    hostile.until_end()
    assert hostile.ended
    answers(watcher)


@pytest.mark.parametrize("enclen", ["-1", "1", "4", "99999999999999999999", "nonsense", ""])
def test_enclen_that_lies_is_not_believed(serve: Serve, hub: Hub, enclen: str) -> None:
    """`enclen=4` on more text ends the C++ server with SIGSEGV, `-1` with exit(1)."""
    served = serve(programs=[[hub.program("one")]], devices=[])
    _, driver = hub.accept()
    client = served.connect(GET + b'<enableBLOB device="X">Also</enableBLOB>')
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
def test_size_that_lies_reserves_nothing(serve: Serve, size: str) -> None:
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
def test_foreign_characters_in_base64_refuse_the_message_only(serve: Serve, hub: Hub, content: str) -> None:
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
    wants = b'<enableBLOB device="X">Also</enableBLOB>'
    client = served.client(wants)
    driver.send(blob_definition("X") + definition("X", "behind"))
    client.until_text('name="behind"')
    message = blob("X", "b", b"hello").replace(b"aGVsbG8=", content.encode())
    driver.send(message + definition("X", "last"))
    for told in client.until_text('name="last"'):
        tree(told)  # whatever is passed on is well-formed
    client.send(
        message.replace(b"setBLOBVector", b"newBLOBVector")
        .replace(b'"X"', b'"Dev"')
        .replace(b'name="b" ', b'name="blob" ', 1)
    )
    answers(client)


def test_half_element_of_a_dying_program_reaches_nobody(serve: Serve, hub: Hub) -> None:
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
    client = served.client(b'<enableBLOB device="X">Also</enableBLOB>')
    driver.send(blob_definition("X"))
    client.until_text('device="X"')
    whole = blob("X", "b", os.urandom(1 << 20))
    driver.send(whole[: len(whole) // 2])
    driver.close()
    client.until(lambda m: m.startswith(b"<delProperty") and b'device="X"' in m)
    answers(client)
    assert b"<oneBLOB" not in client.raw


def test_client_that_vanishes_in_the_middle_of_an_upload_leaves_nothing(serve: Serve, hub: Hub) -> None:
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
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


def test_client_that_vanishes_in_the_middle_of_a_frame_harms_nobody(serve: Serve) -> None:
    served = serve()
    wants = b'<enableBLOB device="Dev">Also</enableBLOB>'
    watcher, victim = served.client(wants), served.client(wants)
    watcher.send(text("blobs 10 2000000 .bin", "do", "what"))
    victim.pump(20)
    served.vanish(victim)
    assert len([m for m in watcher.until_text("done blobs") if m.startswith(b"<setBLOBVector")]) == 10


# Hostile clients


def test_client_that_says_nothing_is_no_burden(serve: Serve) -> None:
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
def test_client_that_plays_a_driver_for_a_device_of_another(serve: Serve, message: bytes) -> None:
    served = serve()
    watcher, hostile = served.client(), served.client()
    hostile.send(message * 100)
    hostile.send(b'<pingRequest uid="u"/>')
    hostile.until_text("pingReply")
    answers(watcher)
    told = bytes(watcher.raw)
    assert b"hostile" not in told and b"<delProperty" not in told
    assert told.count(b"offers Dev") <= 1
    answers(served.client(), "later")


def test_client_whose_device_has_the_bytes_of_another_in_memory(serve: Serve) -> None:
    """`敄䅶X`, in two bytes a character, begins with the bytes of `Dev`: who owns the one must not speak for the other."""
    served = serve()
    device = "敄䅶X"
    watcher, hostile = served.client(), served.client()
    update = b'<setTextVector device="%s" name="text" state="Ok"><oneText name="t">%s</oneText></setTextVector>'
    hostile.send(definition(device, "text"))
    hostile.send((update % (device.encode(), b"own") + update % (b"Dev", b"forged")) * 100)
    hostile.send(b'<pingRequest uid="u"/>')
    hostile.until_text("pingReply")
    answers(watcher)
    told = bytes(watcher.raw)
    assert told.count(b">own<") == 100 and b"forged" not in told


def test_million_wishes_for_blobs_are_bounded(serve: Serve) -> None:
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
        pass  # cut off: as good an answer
    answers(watcher)
    assert resident_bytes(served.pid) - before < 100 << 20


def test_get_properties_of_version_9_does_not_kill_a_libindi_driver(
    serve: Serve, program: Callable[[str], str]
) -> None:
    """The C++ server passes it on, and every libindi driver behind it ends."""
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
def test_flood_of_requests_for_definitions(serve: Serve, hub: Hub) -> None:
    """Requests that a driver has no time for are not kept one by one, nor searched through."""
    served = serve(programs=[[hub.program("one")]])
    _, driver = hub.accept()
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
    hostile.send(b'<pingRequest uid="flood"/>')
    hostile.until_text("pingReply")
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

    def served_again() -> bool:  # the last of them may hold the slots for another moment
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
def test_refused_input_is_logged_but_does_not_fill_the_log(serve: Serve, message: bytes, what: str) -> None:
    served = serve()
    watcher, client = served.client(), served.client()
    port = client.port()
    client.send(message * (BURST + 100))
    answers(watcher)
    client.send(b'<pingRequest uid="u"/>')
    client.until_text("pingReply")
    lines = [line for line in served.child.stderr.splitlines() if what in line and not line.startswith("port")]
    assert 1 <= len(lines) <= BURST + 20, served.child.stderr
    # What the server refuses it tells with the client's address; a driver in its process does not know the client.
    assert all(str(port) in line for line in lines if line.startswith("Client"))


def test_unknown_property_member_and_device_are_refused(serve: Serve) -> None:
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


def odd_driver(tmp_path: Path, kind: str) -> str:
    """An executable driver that sends a descriptor that is no shared memory of the announced size."""
    path = tmp_path / f"odd-{kind}"
    path.write_text(
        f"""#!{PYTHON}
import array, os, socket, tempfile
peer = socket.socket(fileno=os.dup(0))
def say(text, fds=()):
    peer.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
def memory(size):
    fd = os.memfd_create("shm_anon")
    os.ftruncate(fd, size)
    return fd
heard = b""
kind = {kind!r}
while data := peer.recv(65536):
    heard += data
    if b"<getProperties" in heard:
        say("<defBLOBVector device='S' name='b' state='Ok' perm='rw'><defBLOB name='m'/></defBLOBVector>"
            "<defTextVector device='S' name='t' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>")
    if b"</newTextVector>" not in heard:
        heard = heard[heard.rindex(b"<getProperties") + 14:] if b"<getProperties" in heard else heard
        continue
    heard = b""
    size = "1000000"
    if kind == "fifo":
        name = tempfile.mktemp()
        os.mkfifo(name)
        fds = [os.open(name, os.O_RDWR | os.O_NONBLOCK)]
        os.unlink(name)
    elif kind == "directory":
        fds = [os.open("/tmp", os.O_RDONLY)]
    elif kind == "short":
        fds = [memory(1000)]
    elif kind == "missing":
        fds = []
    elif kind == "many":
        fds = [memory(1 << 20) for _ in range(16)]
    elif kind == "flood":  # more in one message than any peer has room for
        fds = [memory(1 << 20) for _ in range(20)]
    elif kind == "socket":
        fds = [socket.socket().detach()]
    elif kind == "huge":
        fds, size = [memory(1000)], "99999999999999"
    elif kind == "negative":
        fds, size = [memory(1000)], "-1"
    say(f"<setBLOBVector device='S' name='b' state='Ok'><oneBLOB name='m' size='{{size}}' format='.x' attached='true'></oneBLOB>"
        "</setBLOBVector>", fds)
    if kind == "short":
        os.ftruncate(fds[0], 10)
    say("<setTextVector device='S' name='t' state='Ok'><oneText name='t'>behind</oneText></setTextVector>")
    for fd in fds:
        os.close(fd)
"""
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "kind", ["fifo", "directory", "short", "missing", "socket", "huge", "negative", "many", "flood"]
)
def test_descriptor_that_is_not_what_was_announced(serve: Serve, tmp_path: Path, kind: str) -> None:
    served = serve(programs=[[odd_driver(tmp_path, kind)]])
    watcher = served.client()
    client = served.connect(GET + b'<enableBLOB device="S">Also</enableBLOB>')
    client.until_text('device="S" name="t"')
    client.send(text("go", "t", "t", device="S"))
    # The message is refused, or the driver is ended and started again; the others go on in either case.
    told = client.until(lambda m: b">behind<" in m or m.startswith(b"<delProperty"))
    if kind != "many":
        assert not any((member.text or "").strip() for m in told for member in tree(m).iter("oneBLOB"))
    answers(watcher)


# Errors at the start


def test_program_that_is_not_found_is_an_error_that_names_it() -> None:
    async def scenario() -> None:
        server = ipd.IPyServer(port=0)
        server.add_exdriver("indi_no_such_driver")
        with pytest.raises(FileNotFoundError, match="indi_no_such_driver"):
            await server.asyncrun()

    asyncio.run(scenario())


def test_port_in_use_is_an_error_that_names_it_and_the_way_out() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = ipd.IPyServer(port=port, host="127.0.0.1")
            with pytest.raises(OSError, match=str(port)) as caught:
                await server.asyncrun()
            assert "port" in str(caught.value)

    asyncio.run(scenario())


def test_listening_driver_survives_hostile_bytes(tmp_path: Path) -> None:
    """A driver that serves one client itself stands the same tests as a server."""

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
        for _ in range(3):  # the next client is served at once when the one before has gone
            client = await asyncio.to_thread(Channel.connect, port, "127.0.0.1")
            client.send(GET + b"<<&&<newTextVector device='Dev'" + b'<enableBLOB device="Dev"></enableBLOB>')
            await asyncio.to_thread(answers, client)
            client.close()
        driver.shutdown()
        await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
