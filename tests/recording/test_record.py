"""`indifast record` and `indifast serve --record` with real drivers, and the replays of what they recorded."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from indifast.recording import Direction, Party, Record, RecordingError, summarize
from indifast.recording.summary import PropertySummary
from tests.recording.support import Replay, command, content, values
from tests.support.blackbox import PYTHON, Channel, Child, free_port, python_environment, until
from tests.support.servers import await_listener, getprop, indiserver

Program = Callable[[str], str]

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
            await asyncio.sleep(0.02)  # its frame rate


def make():
    member = BLOBMember("ALL", "All", blobformat=".raw")
    return Camera(Device("Camera", [BLOBVector("PICTURE", "Picture", "Main", "ro", "Ok", [member])]))
"""


@pytest.fixture
def all_sky(tmp_path: Path) -> None:
    """A module in the folder of the test with a driver that sends frames all the time."""
    (tmp_path / "all_sky.py").write_text(CAMERA)


class Serve(Child):
    """`indifast serve` with its own port, local socket and home folder."""

    def __init__(self, folder: Path, *words: object, port: int | None = None) -> None:
        (folder / "home").mkdir(exist_ok=True)
        self.port = free_port() if port is None else port
        self.local = f"{folder}/local"
        argv = [PYTHON, "-m", "indifast", "serve", "-v", "-u", self.local, "-p", str(self.port), *map(str, words)]
        paths = f"{python_environment()['PYTHONPATH']}:{folder}"
        environment = python_environment(HOME=str(folder / "home"), PYTHONPATH=paths)
        super().__init__(argv, folder, env=environment, cwd=folder)


@contextlib.contextmanager
def serving(folder: Path, *words: object, port: int | None = None) -> Iterator[Serve]:
    """Run `indifast serve` with drivers and options, and end it with SIGTERM."""
    with Serve(folder, *words, port=port) as server:
        await_listener(server, server.port)
        yield server
        server.process.send_signal(signal.SIGTERM)
        server.wait()


@contextlib.contextmanager
def recording(folder: Path, *words: object) -> Iterator[Child]:
    """Run `indifast record`, and end it as Ctrl-C does."""
    with command(folder, "record", *words) as recorder:
        recorder.until_stderr("recording to")
        yield recorder
        recorder.process.send_signal(signal.SIGINT)
        assert recorder.wait() == 0, recorder.stderr


def all_values(program: Program, port: int) -> list[str]:
    """All values of a server with both simulators; libindi's drivers define some properties twice in one answer."""
    return sorted(set(getprop(program, port, devices=("CCD Simulator", "Telescope Simulator"))))


def devices(path: Path) -> dict[str, dict[str, PropertySummary]]:
    """What was recorded about each device; none while there is nothing to read in the file."""
    try:
        return summarize(str(path)).devices
    except (OSError, RecordingError):
        return {}


def recorded(path: Path, device: str, name: str) -> PropertySummary:
    """What was recorded about a property."""
    return devices(path).get(device, {}).get(name, PropertySummary())


def messages_since_a_note(path: Path, begin: str) -> int:
    """The number of messages that were recorded after the first note with this beginning; 0 without such a note."""
    count: list[bool] = []

    def look(record: Record) -> None:
        if count or (record.head.direction is Direction.NOTE and record.head.label.startswith(begin)):
            count.append(record.message is not None)

    summarize(str(path), look)
    return sum(count)


def expose(port: int) -> bytes:
    """Connect the camera, take a picture, and return the FITS file that a client gets."""
    channel = Channel.connect(port)
    channel.send(b'<getProperties version="1.7"/>')
    channel.until_text("defSwitchVector")
    channel.send(b'<enableBLOB device="CCD Simulator">Also</enableBLOB>' + CONNECT)
    channel.until_text('name="CCD_EXPOSURE"')
    channel.send(EXPOSE)
    picture = channel.until(lambda message: message.startswith(b"<setBLOBVector"))[-1]
    channel.until(lambda message: b"CCD_EXPOSURE" in message and b'state="Ok"' in message)
    channel.close()
    return content(picture)


def replayed_picture(folder: Path, path: Path) -> bytes:
    """Replay a recording, and return the FITS file that a client gets."""
    with Replay(folder, "--wait", "--speed", "max", path) as replay:
        client = replay.client(b'<enableBLOB device="CCD Simulator">Also</enableBLOB><getProperties version="1.7"/>')
        picture = client.until(lambda message: message.startswith(b"<setBLOBVector"))[-1]
        client.close()
    return content(picture)


@pytest.mark.parametrize("kind", ["ours", "indiserver"])
def test_a_replay_shows_simulators_as_they_were(tmp_path: Path, program: Program, kind: str) -> None:
    path = tmp_path / "night"
    with contextlib.ExitStack() as stack:
        drivers = ["indi_simulator_ccd", "indi_simulator_telescope"]
        if kind == "ours":
            port = stack.enter_context(serving(tmp_path, *map(program, drivers))).port
        else:
            port, _ = stack.enter_context(indiserver(program, *drivers))
        stack.enter_context(recording(tmp_path, f"localhost:{port}", "-o", path, "--blobs"))
        until(lambda: len(devices(path)) == 2)
        fits = expose(port)
        until(lambda: recorded(path, "CCD Simulator", "CCD1").frames == 1)
        before = all_values(program, port)
    assert len(before) > 100
    summary = summarize(str(path))
    assert (summary.cut, summary.damage, summary.skipped) == (None, None, 0)
    assert summary.devices["CCD Simulator"]["CCD1"].blob_bytes == len(fits)
    with Replay(tmp_path, "--speed", "max", path) as replay:
        replay.until_stderr("serving the last state")
        assert all_values(program, replay.port) == before
    assert hashlib.sha256(replayed_picture(tmp_path, path)).digest() == hashlib.sha256(fits).digest()


def test_shared_memory_of_a_local_socket_is_recorded(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "night"
    with (
        serving(tmp_path, program("indi_simulator_ccd")) as server,
        recording(tmp_path, "--unix", f"@{server.local}", "-o", path, "--blobs"),
    ):
        fits = expose(server.port)
        until(lambda: recorded(path, "CCD Simulator", "CCD1").frames == 1)
    assert replayed_picture(tmp_path, path) == fits


@pytest.mark.usefixtures("all_sky")
def test_a_device_that_has_nothing_but_blobs_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "night"
    with (
        serving(tmp_path, "all_sky:make") as server,
        recording(tmp_path, f"localhost:{server.port}", "-o", path, "--blobs"),
    ):
        until(lambda: recorded(path, "Camera", "PICTURE").frames >= 3)
    assert summarize(str(path)).damage is None


def test_blobs_are_recorded_only_on_request(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "night"
    with (
        serving(tmp_path, program("indi_simulator_ccd"), program("indi_simulator_telescope")) as server,
        recording(tmp_path, f"localhost:{server.port}", "-o", path, "--device", "CCD Simulator"),
    ):
        until(lambda: devices(path))
        expose(server.port)
        until(lambda: recorded(path, "CCD Simulator", "CCD_EXPOSURE").messages >= 4)
    summary = summarize(str(path))
    assert list(summary.devices) == ["CCD Simulator"]
    assert summary.devices["CCD Simulator"]["CCD1"].frames == 0


def test_the_recording_of_a_killed_recorder_can_be_replayed(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "night"
    with (
        serving(tmp_path, program("indi_simulator_ccd")) as server,
        command(tmp_path, "record", f"localhost:{server.port}", "-o", path, "--blobs") as recorder,
    ):
        recorder.until_stderr("recording to")
        fits = expose(server.port)
        until(lambda: recorded(path, "CCD Simulator", "CCD1").frames == 1)
        recorder.process.kill()
        recorder.wait()
    summary = summarize(str(path))
    assert summary.cut is not None and summary.damage is None
    with Replay(tmp_path, "--once", "--speed", "max", path) as replay:
        assert replay.wait() == 0
        assert "cut short" in replay.stderr
    assert replayed_picture(tmp_path, path) == fits


def test_recording_goes_on_when_the_server_comes_back(tmp_path: Path, program: Program) -> None:
    port, path = free_port(), tmp_path / "night"
    with contextlib.ExitStack() as stack:
        with serving(tmp_path, program("indi_simulator_telescope"), port=port):
            stack.enter_context(recording(tmp_path, f"localhost:{port}", "-o", path))
            until(lambda: devices(path))
        with serving(tmp_path, program("indi_simulator_telescope"), port=port):
            until(lambda: messages_since_a_note(path, "connected to") > 10)
    notes = [note.split(" localhost")[0] for note in summarize(str(path)).notes]
    assert notes == ["lost server", "connected to", "lost server"]


def test_serve_records_both_directions(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "traffic"
    with serving(tmp_path, "--record", path, "--record-blobs", program("indi_simulator_ccd")) as server:
        fits = expose(server.port)
        until(lambda: recorded(path, "CCD Simulator", "CCD1").frames == 1)
        (value,) = getprop(program, server.port, "CCD Simulator.CCD_EXPOSURE.CCD_EXPOSURE_VALUE")
    summary = summarize(str(path))
    assert summary.cut is None
    assert (summary.commands["newSwitchVector"], summary.commands["newNumberVector"]) == (1, 1)
    assert summary.commands["enableBLOB"] >= 1
    printed = command(tmp_path, "replay", "--print", path)
    assert printed.wait() == 0
    assert "newNumberVector CCD Simulator.CCD_EXPOSURE CCD_EXPOSURE_VALUE=0.2" in printed.stderr
    assert f"to   driver {program('indi_simulator_ccd')} getProperties" in printed.stderr
    assert " from client " in printed.stderr and " to   client " in printed.stderr
    assert replayed_picture(tmp_path, path) == fits
    with Replay(tmp_path, "--speed", "max", path) as replay:
        replay.until_stderr(f"{summary.played} messages in")
        client = replay.client()
        definition = client.until_text('name="CCD_EXPOSURE"')[-1]
        assert values(definition)["CCD_EXPOSURE_VALUE"] == value.split("=")[1] == "0"
        client.close()


@pytest.mark.usefixtures("all_sky")
def test_serve_records_a_driver_without_clients(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    with serving(tmp_path, "--record", path, "--record-blobs", "all_sky:make"):
        until(lambda: recorded(path, "Camera", "PICTURE").frames >= 3)
    assert summarize(str(path)).devices["Camera"]["PICTURE"].blob_bytes % 200_000 == 0


def test_devices_of_a_driver_that_died_are_deleted_in_the_replay(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "traffic"
    with serving(tmp_path, "-r", 0, "--record", path, program("indi_simulator_telescope")) as server:
        channel = Channel.connect(server.port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text('name="CONNECTION"')
        for child in psutil.Process(server.pid).children(recursive=True):
            child.kill()
        channel.until_text("delProperty")
        channel.close()
        server.wait()
    with Replay(tmp_path, "--wait", "--speed", "max", path) as replay:
        client = replay.client()
        assert any(b"defSwitchVector" in message for message in client.until_text("delProperty"))
        client.close()


@pytest.mark.usefixtures("all_sky")
def test_serve_does_not_overwrite_an_earlier_recording(tmp_path: Path) -> None:
    path = tmp_path / "traffic.indi"
    for expected in (path, tmp_path / "traffic-2.indi", tmp_path / "traffic-3.indi"):
        with serving(tmp_path, "--record", path, "all_sky:make") as server:
            server.until_stderr("listening on")
            until(expected.exists, what=f"a recording {expected.name}")
        assert summarize(str(expected)).cut is None
        assert ("already exists" in server.stderr) == (expected != path)


@pytest.mark.usefixtures("all_sky")
def test_a_server_that_does_not_start_leaves_no_recording(tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        for driver in ("all_sky:make", "indi_no_such_driver"):
            with Serve(tmp_path, "--record", tmp_path / "traffic.indi", driver, port=port) as server:
                assert server.wait() == 1
            assert "in use" in server.stderr
            assert not list(tmp_path.glob("traffic*"))


def test_the_message_about_a_full_disk_names_the_file(tmp_path: Path) -> None:
    done = Serve(tmp_path, "--record", "/dev/full", "indi_no_such_driver")
    assert done.wait() == 1
    assert "/dev/full: No space left on device" in done.stderr


def test_recording_ends_after_a_given_time(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "short"
    with serving(tmp_path, program("indi_simulator_telescope")) as server:
        address = f"localhost:{server.port}"
        seconds = itertools.count(1)  # a busy machine may need several attempts, and longer ones

        def something_recorded() -> bool:
            recorder = command(tmp_path, "record", address, "-o", path, "--for", next(seconds), "--force")
            status = recorder.wait()
            assert status in (0, 1), recorder.stderr
            return status == 0

        until(something_recorded, what="a message within the time")
        assert summarize(str(path)).cut is None
        nothing = command(tmp_path, "record", address, "-o", tmp_path / "n", "--for", 0.5, "--device", "None")
        assert nothing.wait() == 1
        assert "sent no messages about None during the recording" in nothing.stderr


def test_a_device_that_is_not_there_is_reported_at_once(tmp_path: Path) -> None:
    drivers = ("indifast.cli.demo.drivers:ThermostatDriver",)
    with serving(tmp_path, *drivers) as server:
        said = "(waited 2 s)"
        while "(waited 2 s)" in said:  # the server had no devices yet, or did not run
            words = ("--device", "Demo Thermostat", "--device", "Demo Termostat", "-o", tmp_path / "r", "--force")
            with command(tmp_path, "record", f"localhost:{server.port}", *words) as recorder:
                said = recorder.until_stderr("waiting for").splitlines()[-1]
                recorder.process.send_signal(signal.SIGINT)
                status = recorder.wait()
        near = "did you mean 'Demo Thermostat'?"
        assert said == f"indifast record: no device 'Demo Termostat' on this server: {near} (waiting for it)"
        assert status == 0
        assert recorder.stderr.count("waiting for") == 1


def test_messages_about_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    port = free_port()
    for arguments, message in [
        ((f"localhost:{port}", "-o", tmp_path / "new"), "no INDI server"),
        ((f"localhost:{port}", "-o", tmp_path / "there"), "--force"),
        (("localhost:0", "-o", tmp_path / "new"), "the port must be a number from 1 to 65535, not 0"),
        (("localhost",), "--output"),
    ]:
        done = command(tmp_path, "record", *arguments)
        assert done.wait() == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("all_sky")
def test_a_recording_names_senders_and_receivers(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    with serving(tmp_path, "--record", path, "all_sky:make") as server:
        channel = Channel.connect(server.port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text("defBLOBVector")
        channel.close()
    heads = []
    summarize(str(path), lambda record: heads.append(record.head))
    found = {(head.direction, head.party) for head in heads}
    assert {(Direction.FROM, Party.CLIENT), (Direction.FROM, Party.DRIVER), (Direction.TO, Party.CLIENT)} <= found
    assert {head.label for head in heads if head.party is Party.DRIVER} == {"Camera"}
    assert json.dumps(summarize(str(path)).as_dict())
