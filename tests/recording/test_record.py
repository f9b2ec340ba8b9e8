"""`indifast record` and `indifast serve --record`: real drivers are recorded, and come out of a replay as they were."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from indifast._parser import Tokenizer
from indifast.recording import Direction, Party, RecordingError, Summary, summarize
from tests.recording.support import Replay, command, values
from tests.support.blackbox import LIMIT, Channel, Child, free_port, python_environment, until

CONNECT = (
    b'<newSwitchVector device="CCD Simulator" name="CONNECTION"><oneSwitch name="CONNECT">On</oneSwitch>'
    b"</newSwitchVector>"
)
EXPOSE = (
    b'<newNumberVector device="CCD Simulator" name="CCD_EXPOSURE"><oneNumber name="CCD_EXPOSURE_VALUE">0.2</oneNumber>'
    b"</newNumberVector>"
)

CAMERA = """
import asyncio
from indifast import BLOBMember, BLOBVector, Device, IPyDriver


class Camera(IPyDriver):
    async def hardware(self):
        vector = self["Camera"]["PICTURE"]
        number = 0
        while not self.stop:
            number += 1
            vector["ALL"] = bytes([number % 256]) * 200_000
            await vector.send_setVectorMembers(members=["ALL"])
            await asyncio.sleep(0.02)


def make():
    member = BLOBMember("ALL", "All", blobformat=".raw")
    return Camera(Device("Camera", [BLOBVector("PICTURE", "Picture", "Main", "ro", "Ok", [member])]))
"""


@contextlib.contextmanager
def serving(folder: Path, kind: str, port: int, *drivers: object) -> Iterator[Child]:
    """A server, ours (with options among the drivers) or libindi's, with a home of its own."""
    (folder / "home").mkdir(exist_ok=True)
    local = f"{folder}/local"
    ours = [sys.executable, "-m", "indifast", "serve", "-v", "-u", local, "-p", str(port), *map(str, drivers)]
    theirs = ["indiserver", "-u", local, "-p", str(port), *map(str, drivers)]
    environment = python_environment(HOME=str(folder / "home"), PYTHONPATH=_path(folder))
    with Child(ours if kind == "ours" else theirs, folder, env=environment, cwd=folder) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        server.wait()


def _path(folder: Path) -> str:
    return f"{python_environment()['PYTHONPATH']}:{folder}"


@contextlib.contextmanager
def recording(folder: Path, *words: object) -> Iterator[Child]:
    """`indifast record`, ended as by Ctrl-C."""
    with command(folder, "record", *words) as recorder:
        recorder.until_stderr("recording to")
        yield recorder
        recorder.process.send_signal(signal.SIGINT)
        assert recorder.wait() == 0, recorder.stderr


def getprop(program: Callable[[str], str], port: int) -> list[str]:
    """All values; libindi's drivers define some properties twice in one answer."""
    words = [program("indi_getprop"), "-p", str(port), "-t", "2"]
    return sorted(set(subprocess.run(words, capture_output=True, text=True, timeout=LIMIT).stdout.splitlines()))


def look(path: Path) -> Summary | None:
    """What is in a file that is still being written; None while there is nothing."""
    try:
        return summarize(str(path))
    except (OSError, RecordingError):
        return None


def expose(port: int) -> bytes:
    """Connect the camera, take a picture, give the FITS file that one client gets."""
    channel = Channel.connect(port)
    channel.send(b'<getProperties version="1.7"/>')
    channel.until_text("defSwitchVector")
    channel.send(b'<enableBLOB device="CCD Simulator">Also</enableBLOB>' + CONNECT)
    channel.until_text('name="CCD_EXPOSURE"')
    channel.send(EXPOSE)
    (element,) = Tokenizer().feed(channel.until(lambda message: message.startswith(b"<setBLOBVector"))[-1])
    channel.until(lambda message: b"CCD_EXPOSURE" in message and b'state="Ok"' in message)
    channel.close()
    return element.members[0].data or b""


def replayed_picture(folder: Path, path: Path) -> bytes:
    with Replay(folder, "--wait", "--speed", "max", path) as replay:
        client = replay.client(b'<enableBLOB device="CCD Simulator">Also</enableBLOB><getProperties version="1.7"/>')
        (element,) = Tokenizer().feed(client.until(lambda message: message.startswith(b"<setBLOBVector"))[-1])
        client.close()
    return element.members[0].data or b""


@pytest.mark.parametrize("kind", ["ours", "indiserver"])
def test_simulators_come_out_of_a_replay_as_they_were(tmp_path: Path, program, kind: str) -> None:
    port, path = free_port(), tmp_path / "night"
    with serving(tmp_path, kind, port, program("indi_simulator_ccd"), program("indi_simulator_telescope")):
        Channel.connect(port).close()
        with recording(tmp_path, f"localhost:{port}", "-o", path, "--blobs"):
            until(lambda: len((look(path) or Summary).devices) == 2 if look(path) else False)
            fits = expose(port)
            until(lambda: look(path).devices["CCD Simulator"]["CCD1"].frames == 1)
            before = getprop(program, port)
    assert len(before) > 100
    summary = summarize(str(path))
    assert (summary.cut, summary.damage, summary.skipped) == (None, None, 0)
    assert summary.devices["CCD Simulator"]["CCD1"].blob_bytes == len(fits)
    with Replay(tmp_path, "--speed", "max", path) as replay:
        replay.until_stderr("serving the last state")
        assert getprop(program, replay.port) == before
    assert hashlib.sha256(replayed_picture(tmp_path, path)).digest() == hashlib.sha256(fits).digest()


def test_a_local_socket_is_recorded_with_its_shared_memory(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "night"
    with serving(tmp_path, "ours", port, program("indi_simulator_ccd")):
        Channel.connect(port).close()
        with recording(tmp_path, "--unix", f"@{tmp_path}/local", "-o", path, "--blobs"):
            fits = expose(port)
            until(lambda: look(path).devices["CCD Simulator"]["CCD1"].frames == 1)
    assert replayed_picture(tmp_path, path) == fits


def test_without_blobs_none_are_asked_for(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "night"
    with serving(tmp_path, "ours", port, program("indi_simulator_ccd"), program("indi_simulator_telescope")):
        Channel.connect(port).close()
        with recording(tmp_path, f"localhost:{port}", "-o", path, "--device", "CCD Simulator"):
            until(lambda: (found := look(path)) and found.devices)
            expose(port)
            until(lambda: look(path).devices["CCD Simulator"]["CCD_EXPOSURE"].messages >= 4)
    summary = summarize(str(path))
    assert list(summary.devices) == ["CCD Simulator"]
    assert summary.devices["CCD Simulator"]["CCD1"].frames == 0


def test_what_a_killed_recorder_has_written_is_played(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "night"
    with serving(tmp_path, "ours", port, program("indi_simulator_ccd")):
        Channel.connect(port).close()
        with command(tmp_path, "record", f"localhost:{port}", "-o", path, "--blobs") as recorder:
            recorder.until_stderr("recording to")
            fits = expose(port)
            until(lambda: (found := look(path)) and found.devices["CCD Simulator"]["CCD1"].frames == 1)
            recorder.process.kill()
            recorder.wait()
    summary = summarize(str(path))
    assert summary.cut is not None and summary.damage is None
    with Replay(tmp_path, "--once", "--speed", "max", path) as replay:
        assert replay.wait() == 0
        assert "cut short" in replay.stderr
    assert replayed_picture(tmp_path, path) == fits


def test_the_server_goes_and_comes_back(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "night"
    with contextlib.ExitStack() as stack:
        with serving(tmp_path, "ours", port, program("indi_simulator_telescope")):
            Channel.connect(port).close()
            stack.enter_context(recording(tmp_path, f"localhost:{port}", "-o", path))
            until(lambda: (found := look(path)) and found.devices)
        before = look(path).messages
        with serving(tmp_path, "ours", port, program("indi_simulator_telescope")):
            until(lambda: look(path).messages > before + 10)
    notes = [note.split(" localhost")[0] for note in summarize(str(path)).notes]
    assert notes == ["lost server", "connected to", "lost server"]


def test_serve_records_both_directions(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "traffic"
    with serving(tmp_path, "ours", port, "--record", path, "--record-blobs", program("indi_simulator_ccd")):
        fits = expose(port)
        until(lambda: (found := look(path)) and found.devices["CCD Simulator"]["CCD1"].frames == 1)
        before = getprop(program, port)
    summary = summarize(str(path))
    assert summary.cut is None
    assert (summary.commands["newSwitchVector"], summary.commands["newNumberVector"]) == (1, 1)
    assert summary.commands["enableBLOB"] >= 1
    told = command(tmp_path, "replay", "--print", path)
    assert told.wait() == 0
    assert "newNumberVector CCD Simulator.CCD_EXPOSURE CCD_EXPOSURE_VALUE=0.2" in told.stderr
    assert f"to   driver {program('indi_simulator_ccd')} getProperties" in told.stderr
    assert " from client " in told.stderr and " to   client " in told.stderr
    assert replayed_picture(tmp_path, path) == fits
    with Replay(tmp_path, "--speed", "max", path) as replay:
        replay.until_stderr(f"{summary.played} messages in")
        client = replay.client()
        assert values(client.until_text('name="CCD_EXPOSURE"')[-1])["CCD_EXPOSURE_VALUE"] == "0"
        client.close()
    assert any("CCD_EXPOSURE_VALUE" in line for line in before)


def test_serve_records_a_driver_that_nobody_else_listens_to(tmp_path: Path) -> None:
    (tmp_path / "all_sky.py").write_text(CAMERA)
    port, path = free_port(), tmp_path / "traffic"
    with serving(tmp_path, "ours", port, "--record", path, "--record-blobs", "all_sky:make"):
        until(lambda: (found := look(path)) and found.devices and found.devices["Camera"]["PICTURE"].frames >= 3)
    assert summarize(str(path)).devices["Camera"]["PICTURE"].blob_bytes % 200_000 == 0


def test_a_driver_that_dies_takes_its_devices_along_in_the_replay(tmp_path: Path, program) -> None:
    port, path = free_port(), tmp_path / "traffic"
    with serving(tmp_path, "ours", port, "-r", 0, "--record", path, program("indi_simulator_telescope")) as server:
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text('name="CONNECTION"')
        for child in psutil.Process(server.pid).children(recursive=True):
            child.kill()
        channel.until_text("delProperty")
        channel.close()
        server.wait()
    with Replay(tmp_path, "--wait", "--speed", "max", path) as replay:
        client = replay.client()
        got = client.until_text("delProperty")
        assert any(b"defSwitchVector" in message for message in got)
        client.close()


def test_serve_leaves_an_earlier_recording_alone(tmp_path: Path) -> None:
    (tmp_path / "all_sky.py").write_text(CAMERA)
    path = tmp_path / "traffic.indi"
    for expected in (path, tmp_path / "traffic-2.indi", tmp_path / "traffic-3.indi"):
        with serving(tmp_path, "ours", 0, "--record", path, "all_sky:make") as server:
            server.until_stderr("listening")
        assert summarize(str(expected)).cut is None
        assert ("already exists" in server.stderr) == (expected != path)


def test_a_server_that_does_not_come_up_leaves_no_recording(tmp_path: Path) -> None:
    (tmp_path / "all_sky.py").write_text(CAMERA)
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        for driver in ("all_sky:make", "indi_no_such_driver"):
            with serving(tmp_path, "ours", port, "--record", tmp_path / "traffic.indi", driver) as server:
                assert server.wait() == 1
            assert "in use" in server.stderr
            assert not list(tmp_path.glob("traffic*"))


def test_a_disk_that_is_full_from_the_start_is_named(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "-p", 0, "--record", "/dev/full", "indi_no_such_driver")
    assert done.wait() == 1
    assert "/dev/full: No space left on device" in done.stderr


def test_a_time_given_ends_it(tmp_path: Path, program) -> None:
    port = free_port()
    with serving(tmp_path, "ours", port, program("indi_simulator_telescope")):
        Channel.connect(port).close()
        recorder = command(tmp_path, "record", f"localhost:{port}", "-o", tmp_path / "short", "--for", 1)
        assert recorder.wait() == 0
        assert summarize(str(tmp_path / "short")).cut is None
        nothing = command(
            tmp_path, "record", f"localhost:{port}", "-o", tmp_path / "n", "--for", 0.5, "--device", "None"
        )
        assert nothing.wait() == 1
        assert "sent no messages about None during the recording" in nothing.stderr


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    port = free_port()
    for arguments, said in [
        ((f"localhost:{port}", "-o", tmp_path / "new"), "no INDI server"),
        ((f"localhost:{port}", "-o", tmp_path / "there"), "--force"),
        (("localhost:0", "-o", tmp_path / "new"), "not a port"),
        (("localhost",), "--output"),
    ]:
        done = command(tmp_path, "record", *arguments)
        assert done.wait() == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_a_recording_tells_who_said_what(tmp_path: Path) -> None:
    (tmp_path / "all_sky.py").write_text(CAMERA)
    port, path = free_port(), tmp_path / "traffic"
    with serving(tmp_path, "ours", port, "--record", path, "all_sky:make"):
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text("defBLOBVector")
        channel.close()
    heads = []
    summarize(str(path), lambda record: heads.append(record.head))
    said = {(head.direction, head.party) for head in heads}
    assert {(Direction.FROM, Party.CLIENT), (Direction.FROM, Party.DRIVER), (Direction.TO, Party.CLIENT)} <= said
    assert {head.label for head in heads if head.party is Party.DRIVER} == {"Camera"}
    assert json.dumps(summarize(str(path)).as_dict())
