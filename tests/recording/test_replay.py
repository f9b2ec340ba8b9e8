"""`indifast replay`: recorded messages are served again, whenever clients connect."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast.client import IPyClient
from indifast.recording import Direction, Party, Recorder
from indifast.recording.state import Devices
from tests.recording.support import (
    DEFINITION,
    PICTURE,
    Replay,
    angle,
    command,
    content,
    elements,
    picture,
    read,
    recorded,
    values,
    write,
)
from tests.support.blackbox import LIMIT, PYTHON, Channel, python_environment
from tests.support.commands import SOON_STUCK
from tests.support.servers import getprop

NOISE = random.Random(7).randbytes(200_000)


@pytest.mark.parametrize("version", [1, 2])
def test_clients_get_recorded_messages(tmp_path: Path, version: int) -> None:
    messages = [DEFINITION, PICTURE, angle(45), picture(NOISE)]
    path = recorded(tmp_path / "r", [0, 0, 0, 0], messages, version=version)
    with Replay(tmp_path, "--wait", path) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        client.until_text("defNumberVector")
        client.until_text("defBLOBVector")
        update = client.until_text("setNumberVector")[-1]
        assert values(update) == {"AZ": "45"}
        assert b'timestamp="2020-01-02T03:04:06"' in update, "timestamps are not changed"
        assert content(client.until_text("setBLOBVector")[-1]) == NOISE
        client.close()


def test_a_client_that_connects_late_gets_definitions_with_the_last_values(tmp_path: Path) -> None:
    damaged = angle(45, "Fine").replace(">45<", ">45,5<")  # affects no other message
    messages = [DEFINITION, PICTURE, angle(45), angle(50.5, "Ok"), damaged, picture(NOISE)]
    path = recorded(tmp_path / "r", [0] * 6, messages)
    with Replay(tmp_path, path) as replay:
        replay.until_stderr("serving the last state")
        late = replay.client()
        definition = late.until_text("defNumberVector")[-1]
        element = read(definition)
        assert element.values() == {"AZ": "50.5", "ALT": "20"}
        assert element.attrs["state"] == "Ok"
        assert element.attrs["timestamp"] == "2020-01-02T03:04:06"
        assert element.attrs["label"] == "Angle"
        assert element.members[0].attrs["format"] == "%g"
        late.until_text("defBLOBVector")
        late.send(b'<getProperties version="1.7" device="Dome" name="ANGLE"/><pingRequest uid="x"/>')
        again = late.until_text("pingReply")
        assert not any(b"defBLOBVector" in message for message in again)
        late.send(b'<getProperties version="1.7" device="Dome" name=""/>')
        late.until_text("defBLOBVector")
        late.close()


def test_blobs_go_to_clients_that_want_them(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 0, 0, 0], [DEFINITION, PICTURE, picture(NOISE), angle(3)])
    with Replay(tmp_path, "--wait", path) as replay:
        without = Channel.connect(replay.port)
        only = Channel.connect(replay.port)
        only.send(b'<enableBLOB device="Dome">Only</enableBLOB><pingRequest uid="1"/>')
        only.until_text("pingReply")
        without.send(b'<getProperties version="1.7"/>')
        assert not any(b"setBLOBVector" in message for message in without.until_text("setNumberVector"))
        only.send(b'<pingRequest uid="2"/>')
        got = only.until_text('uid="2"')
        assert [content(message) for message in got if b"setBLOBVector" in message] == [NOISE]
        assert not any(b"setNumberVector" in message for message in got)
        without.close()
        only.close()


def test_a_unix_socket_carries_blobs_as_descriptors(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 0, 0.0], [PICTURE, picture(NOISE), picture(NOISE[:100])])

    async def watch() -> list[bytes]:
        async with IPyClient(f"unix:{tmp_path}/socket") as client, asyncio.timeout(LIMIT):
            frames = client.frames("Dome")
            return [bytes((await anext(frames)).data) for _ in range(2)]

    with Replay(tmp_path, "--loop", "--unix", f"{tmp_path}/socket", path) as replay:
        replay.until_stderr("replaying")
        assert set(asyncio.run(watch())) <= {NOISE, NOISE[:100]}


def test_commands_are_answered_without_effect(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 0, 0], [DEFINITION, PICTURE, angle(45, "Ok")])
    with Replay(tmp_path, path) as replay:
        replay.until_stderr("serving the last state")
        client = replay.client()
        client.until_text("defNumberVector")
        client.send(
            b'<newNumberVector device="Dome" name="ANGLE"><oneNumber name="AZ">90</oneNumber></newNumberVector>'
        )
        answer = client.until_text("setNumberVector")[-1]
        assert b"this is a replay" in answer
        element = read(answer)
        assert element.values() == {"AZ": "45", "ALT": "20"}
        assert element.attrs["state"] == "Ok"
        client.send(
            b'<newBLOBVector device="Dome" name="PICTURE"><oneBLOB name="ALL" size="0" format=""/></newBLOBVector>'
        )
        assert b"this is a replay" in client.until_text("<message")[-1]
        client.close()


def test_original_speed_and_faster(tmp_path: Path) -> None:
    """Two replays of one recording differ by their progress, not by measured times."""
    path = recorded(tmp_path / "r", [0, 1.0, 3600.0], [DEFINITION, angle(1), angle(2)])
    with Replay(tmp_path, "--wait", path) as normal, Replay(tmp_path, "--wait", "--speed", 1800, path) as fast:
        slower, faster = normal.client(), fast.client()
        assert values(slower.until_text("setNumberVector")[-1]) == {"AZ": "1"}
        faster.until(lambda message: message.startswith(b"<setNumberVector") and values(message) == {"AZ": "2"})
        slower.send(b'<pingRequest uid="now"/>')
        assert not any(b"setNumberVector" in message for message in slower.until_text("pingReply"))
        slower.close()
        faster.close()


def test_as_fast_as_possible_loses_nothing(tmp_path: Path) -> None:
    frames = [random.Random(number).randbytes(150_000) for number in range(60)]
    messages = [DEFINITION, PICTURE, *[angle(number) for number in range(3000)], *map(picture, frames), angle(-1)]
    path = recorded(tmp_path / "r", [number * 60.0 for number in range(len(messages))], messages)
    with Replay(tmp_path, "--speed", "max", "--wait", "--once", path) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        got = client.until_end()
        assert replay.wait() == 0
    updates = [values(message)["AZ"] for message in got if b"<setNumberVector" in message]
    assert updates == [str(number) for number in range(3000)] + ["-1"]
    digests = [hashlib.sha256(content(message)).digest() for message in got if b"<setBLOBVector" in message]
    assert digests == [hashlib.sha256(frame).digest() for frame in frames]


def test_the_end_waits_for_a_client_that_is_behind(tmp_path: Path) -> None:
    frames = [random.Random(number).randbytes(4_000_000) for number in range(3)]  # more than the kernel takes
    path = recorded(tmp_path / "r", [0] * 5, [DEFINITION, PICTURE, *map(picture, frames)])
    with Replay(tmp_path, "--speed", "max", "--wait", "--once", path) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        replay.until_stderr("waiting for clients that are behind; Ctrl-C ends it")
        got = client.until_end()
        assert replay.wait() == 0
    assert [content(message) for message in got if b"<setBLOBVector" in message] == frames


def test_a_client_that_takes_nothing_at_the_end_is_reported(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0] * 3, [DEFINITION, PICTURE, picture(bytes(12_000_000))])
    with Replay(tmp_path, "--speed", "max", "--wait", "--once", path, program=SOON_STUCK) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        assert replay.wait() == 3
        client.close()
    assert re.search(r"clients have taken nothing for 0.5 s: up to \d+ bytes were not sent\n", replay.stderr)


def test_one_that_asks_again_and_again_does_not_count_for_a_client_that_takes_nothing(tmp_path: Path) -> None:
    """Answers to it are sent to all clients, so there is more for the other one each time."""
    path = recorded(tmp_path / "r", [0] * 3, [DEFINITION, PICTURE, picture(bytes(12_000_000))])
    with Replay(tmp_path, "--speed", "max", "--wait", "--once", path, program=SOON_STUCK) as replay:
        other = replay.client(b"")
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        with contextlib.suppress(OSError, EOFError):  # when the replay ends
            while True:
                other.send(b'<getProperties version="1.7"/>')
                other.until_text("defBLOBVector")
                time.sleep(0.1)
        assert replay.wait() == 3
        client.close()
        other.close()


def test_a_client_that_takes_nothing_at_the_end_may_be_left_behind(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0] * 3, [DEFINITION, PICTURE, picture(bytes(12_000_000))])
    with Replay(tmp_path, "--speed", "max", "--wait", "--once", path) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        replay.until_stderr("waiting for clients that are behind")
        replay.process.send_signal(signal.SIGINT)
        assert replay.wait() == 0
        client.close()


def test_repeated_replay(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 0.05, 0.1], [DEFINITION, angle(1), angle(2)])
    with Replay(tmp_path, "--loop", path) as replay:
        client = replay.client()
        for _ in range(3):
            client.until_text('<delProperty device="Dome"')
            client.until_text("defNumberVector")
            assert values(client.until_text("setNumberVector")[-1]) == {"AZ": "1"}
        client.close()


def test_a_start_in_the_middle(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 100, 3600, 3600.1], [DEFINITION, angle(1), angle(2), angle(3, "Ok")])
    with Replay(tmp_path, "--start-at", 3600, path) as replay:
        replay.until_stderr("2 messages in 3600.1 s")
        client = replay.client()
        assert values(client.until_text("defNumberVector")[-1])["AZ"] == "3"
        client.close()


def test_clients_get_definitions_from_before_the_start(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 100, 100.05], [DEFINITION, angle(2), angle(3, "Ok")])
    with Replay(tmp_path, "--wait", "--loop", "--start-at", 50, "--speed", 1000, path) as replay:
        client = replay.client()
        for _ in range(3):
            assert values(client.until_text("defNumberVector")[-1])["AZ"] == "10"
            assert values(client.until_text("setNumberVector")[-1]) == {"AZ": "2"}
            client.until_text('<delProperty device="Dome"')
        client.close()


def test_a_start_after_the_end_shows_the_last_state(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 1], [DEFINITION, angle(2)])
    with Replay(tmp_path, "--wait", "--start-at", 50, path) as replay:
        client = replay.client()
        assert values(client.until_text("defNumberVector")[-1])["AZ"] == "2"
        client.close()
    done = command(tmp_path, "replay", "--port", 0, "--loop", "--start-at", 50, path)
    assert done.wait() == 2
    assert "nothing to play over and over" in done.stderr


def test_the_silence_at_the_end_is_part_of_the_replay(tmp_path: Path) -> None:
    recorded(tmp_path / "r", [0, 0], [DEFINITION, angle(2)], end=1.5)
    begin = time.monotonic()
    done = command(tmp_path, "replay", "--port", 0, "--once", tmp_path / "r")
    assert done.wait() == 0
    assert time.monotonic() - begin >= 1.5, "this may take longer on a busy machine, but not less"
    assert "in 1.5 s of the recording" in done.stderr


def test_timestamps_of_the_present(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 0, 0, 0], [DEFINITION, PICTURE, angle(1), picture(NOISE)])
    with Replay(tmp_path, "--wait", "--now", path) as replay:
        client = replay.client(b'<enableBLOB device="Dome">Also</enableBLOB><getProperties version="1.7"/>')
        got = client.until_text("setBLOBVector")
        stamps = [re.search(rb'timestamp="(\d{4})', message) for message in got if b"Vector" in message]
        assert [stamp[1] for stamp in stamps if stamp is not None and stamp[1] == b"2020"] == []
        assert content(got[-1]) == NOISE
        late = replay.client()
        assert b'timestamp="2020' not in late.until_text("defNumberVector")[-1]
        late.close()
        client.close()


def test_a_deletion_with_an_empty_name_deletes_nothing(tmp_path: Path) -> None:
    """A simulator of libindi sends one when it disconnects."""
    path = recorded(tmp_path / "r", [0, 0], [DEFINITION, "<delProperty device='Dome' name=''/>"])
    with Replay(tmp_path, path) as replay:
        replay.until_stderr("serving the last state")
        client = replay.client()
        client.until_text("defNumberVector")
        client.close()


def test_devices_of_a_lost_server_are_deleted(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "r"), source="a test", blobs=False)
    recorder.put(Direction.FROM, Party.SERVER, "here:7624", elements(DEFINITION)[0])
    recorder.lost(Party.SERVER, "here:7624")
    recorder.note("connected again")
    recorder.close()
    with Replay(tmp_path, "--wait", tmp_path / "r") as replay:
        client = replay.client()
        assert client.until_text("delProperty")[-1].count(b'device="Dome"') == 1
        client.close()
    done = command(tmp_path, "replay", "--info", tmp_path / "r")
    assert done.wait() == 0
    assert "lost server here:7624" in done.stderr


def test_messages_about_devices_of_other_senders_are_not_replayed(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "r"), source="a test", blobs=False)
    recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(DEFINITION)[0])
    recorder.put(Direction.FROM, Party.DRIVER, "impostor", elements(angle(13))[0])
    recorder.put(Direction.FROM, Party.CLIENT, "some client", elements(angle(14))[0])
    recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(angle(15))[0])
    recorder.close()
    with Replay(tmp_path, "--wait", tmp_path / "r") as replay:
        client = replay.client()
        assert values(client.until_text("setNumberVector")[-1]) == {"AZ": "15"}
        client.close()


def test_a_file_that_was_cut_short_is_replayed_up_to_the_cut(tmp_path: Path) -> None:
    write(tmp_path / "r", [DEFINITION, angle(1), angle(2)])
    data = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(data[: len(data) // 2])
    with Replay(tmp_path, "--once", tmp_path / "r") as replay:
        assert replay.wait() == 0
        assert "cut short" in replay.stderr


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =                    T", b"\x1f\x8b\x08\x00garbage"])
def test_messages_about_other_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    for option in ((), ("--info",), ("--print", "--json")):
        done = command(tmp_path, "replay", *option, tmp_path / "foreign")
        assert done.wait() == 2
        assert done.stderr.startswith("indifast replay: ")
        assert done.stderr.count("\n") == 1


def test_messages_about_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    write(tmp_path / "r", [DEFINITION])
    with Replay(tmp_path, tmp_path / "r") as other:
        for arguments, message in [
            ((tmp_path / "none",), "no such file"),
            (("",), "the name of the file is empty"),
            ((tmp_path / "r", "--port", other.port), f"port {other.port} of localhost is in use by another program"),
            ((tmp_path / "r", "--port", 0, "--host", "no.such.invalid"), "replay: cannot listen on 'no.such.invalid'"),
            ((tmp_path / "r", "--speed", "0"), "not a number"),
            ((tmp_path / "r", "--json"), "--info or --print"),
            ((tmp_path / "r", "--loop", "--once"), "cannot be used together"),
            ((tmp_path,), "is a directory"),
        ]:
            done = command(tmp_path, "replay", *arguments)
            assert done.wait() == 2
            assert message in done.stderr
            assert done.stderr.count("\n") == 1
            assert "Traceback" not in done.stderr


def test_info_and_print(tmp_path: Path) -> None:
    write(tmp_path / "r", [DEFINITION, PICTURE, angle(1), angle(2), picture(b"12345")])
    done = command(tmp_path, "replay", "--info", "--json", tmp_path / "r")
    assert done.wait() == 0
    facts = json.loads(done.stderr)
    assert facts["devices"]["Dome"]["ANGLE"]["messages"] == 3
    assert facts["devices"]["Dome"]["PICTURE"] == {
        "messages": 2, "frames": 1, "blob_bytes": 5, "frames_without_content": 0,
    }  # fmt: skip
    assert (facts["messages"], facts["played"], facts["cut"], facts["damage"]) == (5, 5, None, None)
    done = command(tmp_path, "replay", "--info", tmp_path / "r")
    assert done.wait() == 0
    assert re.search(r"ANGLE +3\n", done.stderr)
    assert "BLOBs: 1, 5 bytes" in done.stderr
    done = command(tmp_path, "replay", "--print", tmp_path / "r")
    assert done.wait() == 0
    assert "from driver dome setNumberVector Dome.ANGLE [Busy] AZ=2" in done.stderr
    done = command(tmp_path, "replay", "--print", "--json", tmp_path / "r")
    assert done.wait() == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["tag"] for line in lines] == [
        "defNumberVector",
        "defBLOBVector",
        *["setNumberVector"] * 2,
        "setBLOBVector",
    ]
    assert lines[2]["members"] == {"AZ": 1.0}


def test_a_recording_is_written_as_text_and_edited(tmp_path: Path) -> None:
    write(tmp_path / "r", [DEFINITION, PICTURE, angle(1), picture(NOISE)])
    words = [PYTHON, "-m", "indifast", "replay", "--text", str(tmp_path / "r")]
    done = subprocess.run(words, capture_output=True, env=python_environment(), timeout=LIMIT, check=True)
    assert done.stdout.startswith(b"<!-- indifast recording 1 {")
    assert done.stderr == b""
    (tmp_path / "edited").write_bytes(done.stdout.replace(b"Dome", b"Roof"))
    for kind, device in (("r", "Dome"), ("edited", "Roof")):
        info = command(tmp_path, "replay", "--info", "--json", tmp_path / kind)
        assert info.wait() == 0
        facts = json.loads(info.stderr)
        assert facts["devices"][device]["PICTURE"]["blob_bytes"] == len(NOISE)
        assert (facts["messages"], facts["cut"], facts["damage"]) == (4, None, None)


@pytest.mark.parametrize("option", ["--print", "--info", "--text"])
def test_an_output_that_cannot_be_written_is_not_blamed_on_the_recording(tmp_path: Path, option: str) -> None:
    write(tmp_path / "r", [DEFINITION, *map(angle, range(5000))])
    words = [PYTHON, "-m", "indifast", "replay", option, str(tmp_path / "r")]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, env=python_environment(), timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("indifast: the output cannot be written: ")
    assert done.stderr.count(b"\n") == 1
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, env=python_environment(), timeout=LIMIT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_control_characters_are_not_printed(tmp_path: Path) -> None:
    write(tmp_path / "r", ['<message device="Dome" message="red&#10;\x9b31m\u202e"/>'])
    for option in ("--print", "--info"):
        done = command(tmp_path, "replay", option, tmp_path / "r")
        assert done.wait() == 0
        assert not {"\x9b", "\u202e"} & set(done.stderr)


def test_attributes_that_must_not_be_written_are_not_played() -> None:
    devices = Devices()
    (definition,) = elements(
        '<defNumberVector device="D" name="N" .a="1" x:y="2" attached="true">'
        '<defNumber name="m" enclen="4" b-c="3">1</defNumber></defNumberVector>'
    )
    assert devices.take(definition, "driver a")
    (found,) = devices.find(None)
    (written,) = found.definition().parts(False)
    assert written == b'<defNumberVector device="D" name="N"><defNumber name="m">1</defNumber></defNumberVector>'


def test_the_tools_of_libindi_see_the_devices(tmp_path: Path, program: Callable[[str], str]) -> None:
    path = recorded(tmp_path / "r", [0, 0], [DEFINITION, angle(7)])
    with Replay(tmp_path, path) as replay:
        replay.until_stderr("serving the last state")
        assert getprop(program, replay.port, "Dome.ANGLE.*") == ["Dome.ANGLE.AZ=7", "Dome.ANGLE.ALT=20"]


def test_ctrl_c_ends_a_replay(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [0, 3600], [DEFINITION, angle(7)])
    with Replay(tmp_path, path) as replay:
        client = replay.client()
        client.until_text("defNumberVector")
        replay.process.send_signal(signal.SIGINT)
        assert replay.wait() == 0
        assert "Traceback" not in replay.stderr
        client.until_end()
        client.close()
