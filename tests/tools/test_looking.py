"""The commands `devices`, `snap` and `watch`."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast.cli.toolkit.failures import Status
from indifast.protocol.kinds import interfaces
from tests.support import commands
from tests.support.blackbox import Child, free_port, until
from tests.support.libindi import Indiserver, libindi
from tests.tools.support import CAMERA, MOUNT, PATIENT, THEIRS, answering, line_with, tool, without_messages


def test_devices(server: int) -> None:
    lines = tool("devices", server, *PATIENT).stdout.splitlines()
    assert lines[0].split() == ["DEVICE", "CONNECTED", "KIND", "DRIVER"]
    assert {line[: len(CAMERA)]: line for line in lines}[CAMERA].split(maxsplit=3)[2:] == [
        "yes", "camera, guider, filter wheel  indi_simulator_ccd 1.0"]  # fmt: skip
    assert len(lines) == 3


def test_devices_have_an_order_that_does_not_depend_on_the_drivers() -> None:
    text = "<defTextVector device='{}' name='T' state='Ok' perm='ro'><defText name='m'/></defTextVector>"
    with answering("".join(map(text.format, ("mount", "Focuser", "Camera", "focuser"))).encode()) as port:
        lines = tool("devices", None, f"localhost:{port}").stdout.splitlines()
        shown = [line for line in tool("snap", port).stdout.splitlines() if line[:1].strip()]
    assert [line.split()[0] for line in lines[1:]] == shown == ["Camera", "Focuser", "focuser", "mount"]


def test_devices_as_json(server: int) -> None:
    found = json.loads(tool("devices", server, *PATIENT, "--json").stdout)["devices"]
    assert set(found) == {CAMERA, MOUNT}
    assert found[MOUNT]["connected"] is True
    assert found[MOUNT]["driver"] == "indi_simulator_telescope"
    assert "telescope" in found[MOUNT]["interfaces"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("3", ["telescope", "camera"]),
        ("", []),
        ("x", []),
        ("0", []),
        ("²", []),
        ("٣", []),
        ("-1", []),
        ("9" * 5000, []),
    ],
)
def test_interfaces_are_named(text: str, kinds: list[str]) -> None:
    assert interfaces(text) == kinds


@pytest.mark.parametrize("name", ["devices", "snap", "watch"])
def test_no_server(name: str) -> None:
    done = tool(name, free_port())
    assert done.returncode == Status.TROUBLE
    assert done.stderr.startswith(f"indifast {name}: no INDI server at localhost:")


def test_snap_as_json_has_every_value(server: int) -> None:
    state = json.loads(tool("snap", server, *PATIENT, "--json").stdout)
    assert set(state["devices"]) == {CAMERA, MOUNT}
    theirs = libindi("getprop", server, *THEIRS, f"{CAMERA}.CCD_FRAME.*").stdout
    frame = state["devices"][CAMERA]["properties"]["CCD_FRAME"]["members"]
    assert [f"{CAMERA}.CCD_FRAME.{name}={member['text']}" for name, member in frame.items()] == theirs.splitlines()


def test_snap_as_text(server: int) -> None:
    text = tool("snap", server, *PATIENT, CAMERA).stdout
    assert text.startswith(f"{CAMERA}\n")
    assert "\n  Main Control\n    CONNECTION (Connection) [Ok, rw]\n      CONNECT     On   (Connect)\n" in text
    assert MOUNT not in text.splitlines()
    done = tool("snap", server, *PATIENT, "CCD")
    assert done.returncode == Status.NOTHING
    assert "no device 'CCD' on this server" in done.stderr


def watching(port: int, folder: Path, *words: str) -> Child:
    """Start `indifast watch`, which prints all definitions first."""
    return commands.start(folder, "watch", "-p", port, "--definitions", *words, stdio=True)


def test_changes_are_printed_until_ctrl_c(server: int, tmp_path: Path) -> None:
    libindi("setprop", server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1000")
    with watching(server, tmp_path, f"{CAMERA}.POLLING_PERIOD") as child:
        line_with(child, ".PERIOD_MS=1000 [")
        libindi("setprop", server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1700")
        stamp, change = line_with(child, "=1700").split(" ", 1)
        assert change == f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1700 [Ok]\n"
        assert stamp[10] == "T"
        os.kill(child.pid, signal.SIGINT)
        assert child.wait() == Status.INTERRUPTED
        assert child.stderr == ""


def test_changes_as_json_with_blobs(server: int, tmp_path: Path) -> None:
    with watching(server, tmp_path, "--json", "--blobs", f"{CAMERA}.CCD1", f"{CAMERA}.CCD_EXPOSURE") as child:
        line_with(child, '"define"')
        libindi("setprop", server, f"{CAMERA}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=0.5")
        busy = json.loads(line_with(child, '"Busy"'))
        assert (busy["event"], busy["device"], busy["property"]) == ("set", CAMERA, "CCD_EXPOSURE")
        # The simulator may count down before it first says what it was told.
        assert 0 <= busy["members"]["CCD_EXPOSURE_VALUE"] <= 0.5
        blob = json.loads(line_with(child, '"size"'))
        assert blob["property"] == "CCD1"
        assert blob["members"]["CCD1"]["size"] > 1e6


@pytest.mark.parametrize(("queries", "gone"), [(["D.N"], ["D.N"]), (["D.N.x"], ["D.N"]), ([], ["D.T", "D.N"])])
def test_deletions_are_printed(queries: list[str], gone: list[str]) -> None:
    """A deletion with an empty name deletes nothing."""
    deletions = "".join(f'<delProperty device="D" name="{name}"/>' for name in ("", "T", "N"))
    with answering(f"{two_texts('D')}{deletions}".encode()) as port:
        done = tool("watch", port, "--count", len(gone), *queries)
    assert done.returncode == Status.DONE
    assert [line.split(" ", 1)[1] for line in done.stdout.splitlines()] == [f"{name} is gone" for name in gone]


def two_texts(device: str) -> str:
    """Return definitions of N and T."""
    return "".join(
        f'<defTextVector device="{device}" name="{name}" state="Ok" perm="ro"><defText name="x">1</defText>'
        "</defTextVector>"
        for name in "NT"
    )


def test_watch_ends_after_a_count_or_a_time(server: int, tmp_path: Path) -> None:
    words = ["watch", "-p", server, "--count", "2", "--all", f"{CAMERA}.POLLING_PERIOD"]
    with commands.start(tmp_path, *words, stdio=True) as child:

        def ended() -> bool:
            libindi("setprop", server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1100")
            return not child.running()

        until(ended)
        assert child.wait() == Status.DONE
        assert child.process.stdout is not None
        assert child.process.stdout.read().count(b".PERIOD_MS=1100 [Ok]\n") == 2
    assert tool("watch", server, "--for", "0.1", "Nobody").returncode == Status.DONE
    done = tool("watch", server, "--for", "0.2", "--count", "1000", "Nobody")
    assert done.returncode == Status.TIMEOUT
    assert done.stderr == "indifast watch: only 0 of 1000 changes in 0.2 s\n"


def test_missing_properties_are_reported_and_waited_for(program: Callable[[str], str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Indiserver(tmp_path, "-f", str(fifo), program("indi_simulator_ccd")) as server:
        server.until_defined(f"{CAMERA}.CONNECTION.CONNECT")
        queries = [MOUNT, f"{CAMERA}.CONNECTON", f"{CAMERA}.CONNECTION"]
        with watching(server.port, tmp_path, *queries) as child:
            said = child.until_stderr("CONNECTON").splitlines()
            assert said[0].startswith(f"indifast watch: no device '{MOUNT}' on this server: ")
            assert said[1].startswith(
                f"indifast watch: no property 'CONNECTON' of {CAMERA}: did you mean 'CONNECTION'?"
            )
            assert all(line.endswith(" (waiting for it)") for line in said)
            assert len(said) == 2
            fifo.write_text(f"start {program('indi_simulator_telescope')}\n")
            assert "CONNECT=Off" in line_with(child, f" {MOUNT}.CONNECTION.CONNECT=")


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ([], "2026-01-02T03:04:05.000 closing the dome"),
        (["Mount.EQUATORIAL_EOD_COORD"], "2026-01-02T03:04:05.000 closing the dome"),
        (
            ["--json"],
            '{"version": 1, "time": "2026-01-02T03:04:05Z", "event": "message", "device": null,'
            ' "message": "closing the dome"}',
        ),
    ],
)
def test_a_message_without_a_device(words: list[str], printed: str) -> None:
    with answering(b'<message timestamp="2026-01-02T03:04:05" message="closing the dome"/>') as port:
        done = tool("watch", port, "--count", 1, *words)
    assert (done.returncode, re.sub(' "received": "[^"]*",', "", done.stdout)) == (0, f"{printed}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [
        ["get"],
        ["get", "--json"],
        ["devices"],
        ["snap"],
        ["watch", "--definitions"],
        ["expose", CAMERA, "0.1", "-o", "-"],
    ],
    ids=" ".join,
)
def test_an_output_that_cannot_be_written(server: int, words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = tool(words[0], server, *words[1:], stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == Status.TROUBLE
    assert without_messages(done.stderr) == "indifast: the output cannot be written: No space left on device\n"


def test_an_output_that_is_only_open_for_reading(server: int) -> None:
    with open(os.devnull) as null:
        done = tool("devices", server, stdout=null)
    assert done.returncode == Status.TROUBLE
    assert done.stderr == "indifast: the output cannot be written: Bad file descriptor\n"


def test_the_end_of_the_server_is_reported(program: Callable[[str], str], tmp_path: Path) -> None:
    with Indiserver(tmp_path, program("indi_simulator_focus")) as server:
        server.until_defined("Focuser Simulator.CONNECTION.CONNECT")
        with watching(server.port, tmp_path, "--no-reconnect") as child:
            line_with(child, "CONNECTION.CONNECT=Off")
            server.kill()
            assert child.wait() == Status.TROUBLE
            assert child.stderr.startswith(f"indifast watch: lost the connection to localhost:{server.port}")
