"""`indifast get`, compared with `indi_getprop` on the same server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indifast.cli.toolkit.failures import Status
from tests.support import commands
from tests.support.blackbox import free_port, until
from tests.support.libindi import libindi
from tests.tools.support import CAMERA, MOUNT, PATIENT, SURE, THEIRS, last_values, tool


def test_all_values_are_those_of_libindi(server: int) -> None:
    """Their order within a device is the same, too. Values that depend on the time are not compared."""
    ours = last_values(tool("get", server, *PATIENT).stdout)
    theirs = last_values(libindi("getprop", server, *THEIRS).stdout)
    for device in (CAMERA, MOUNT):
        names = [name for name in theirs if name.startswith(device)]
        assert [name for name in ours if name.startswith(device)] == names
        assert len(names) > 50
    running = ("EQUATORIAL_EOD_COORD", "MOUNT_AXES", "TIME_", "SIDEREAL", "TELESCOPE_PIER_SIDE", "TARGET_EOD")
    still = {name for name in theirs if not any(word in name for word in running)}
    assert {name: ours[name] for name in still} == {name: theirs[name] for name in still}


@pytest.mark.parametrize(
    "words",
    [
        [f"{CAMERA}.CONNECTION.CONNECT"],
        ["-1", f"{CAMERA}.CONNECTION.CONNECT"],
        ["-1", f"{CAMERA}.CONNECTION._STATE"],
        ["-1", f"{CAMERA}.CONNECTION._LABEL"],
        ["-1", f"{CAMERA}.CONNECTION.CONNECT", f"{CAMERA}.CONNECTION.DISCONNECT"],
        ["-1", f"{CAMERA}.CONNECTION.*"],
        [f"{CAMERA}.CONNECTION.*"],
        [f"{CAMERA}.*._GROUP"],
        [f"{CAMERA}.*._PERM"],
        ["-w", f"{CAMERA}.*._PERM"],
        [f"{CAMERA}.*._TO"],
        [f"{CAMERA}.*._STATE"],
        [f"{CAMERA}.CONNECTION._TO", f"{CAMERA}.CONNECTION._PERM", f"{CAMERA}.CONNECTION._GROUP"],
        [f"{CAMERA}.CONNECTION.DISCONNECT", f"{CAMERA}.CONNECTION.CONNECT"],
        [f"{CAMERA}.*.CCD_TEMPERATURE_VALUE"],
        ["-vp", "{port}", f"{CAMERA}.CCD_INFO.*"],
        ["-t", "3", "-h", "localhost", f"{CAMERA}.DRIVER_INFO.DRIVER_EXEC"],
        [f"{CAMERA}.CONNECTION.FOO"],
        [f"{CAMERA}.FOO.CONNECT", f"{CAMERA}.CONNECTION.CONNECT"],
        ["Nobody.CONNECTION.CONNECT"],
    ],
)
def test_arguments_of_indi_getprop(server: int, words: list[str]) -> None:
    words = [word.format(port=server) for word in words]
    ours, theirs = tool("get", server, *PATIENT, *words), libindi("getprop", server, *THEIRS, *words)
    assert list(dict.fromkeys(ours.stdout.splitlines())) == list(dict.fromkeys(theirs.stdout.splitlines()))
    assert ours.returncode == theirs.returncode
    assert bool(ours.stderr) == bool(theirs.stderr)


def test_no_server_has_the_status_of_libindi() -> None:
    port = free_port()
    ours, theirs = tool("get", port, "A.B.C"), libindi("getprop", port, "A.B.C")
    assert ours.returncode == theirs.returncode == Status.TROUBLE
    assert ours.stderr.startswith(f"indifast get: no INDI server at localhost:{port}: connection refused; start one")


def test_patterns_within_names(server: int) -> None:
    found = tool("get", server, *PATIENT, "CCD*.CCD_TEMP*.*VALUE").stdout
    assert found.splitlines() == [libindi("getprop", server, *THEIRS, f"{CAMERA}.CCD_TEMPERATURE.*").stdout.strip()]
    whole, members = (tool("get", server, *PATIENT, f"{CAMERA}.CONNECTION{rest}").stdout for rest in ("", ".*"))
    assert whole == members
    assert all(line.startswith(MOUNT) for line in tool("get", server, *PATIENT, MOUNT).stdout.splitlines())


def test_labels_and_units(server: int) -> None:
    (line,) = tool("get", server, *PATIENT, "-l", f"{CAMERA}.CCD_TEMPERATURE").stdout.splitlines()
    assert line.startswith(f"{CAMERA}.CCD_TEMPERATURE.CCD_TEMPERATURE_VALUE  0.00 C  ")
    assert line.endswith("Main Control / Temperature / Temperature (C) [Idle, rw, -50 to 50]")


def test_json(server: int) -> None:
    found = json.loads(
        tool("get", server, *PATIENT, "--json", f"{CAMERA}.CCD_TEMPERATURE", f"{CAMERA}.CONNECTION.CONNECT").stdout
    )
    assert list(found["devices"]) == [CAMERA]
    properties = found["devices"][CAMERA]["properties"]
    assert properties["CCD_TEMPERATURE"]["members"]["CCD_TEMPERATURE_VALUE"]["value"] == 0
    assert properties["CCD_TEMPERATURE"]["perm"] == "rw"
    assert list(properties["CONNECTION"]["members"]) == ["CONNECT"]
    assert json.loads(tool("get", server, "--json", *PATIENT, "Nobody").stdout)["devices"] == {}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("CCD Simulater.CONNECTION.CONNECT", f"no device 'CCD Simulater' on this server: did you mean '{CAMERA}'"),
        (f"{CAMERA}.CONECTION.CONNECT", f"no property 'CONECTION' of {CAMERA}: did you mean 'CONNECTION'"),
        (f"{CAMERA}.CONNECTION.CONECT", f"no member 'CONECT' of {CAMERA}.CONNECTION: did you mean 'CONNECT'"),
        (f"{CAMERA}.CCD1.CCD1", "is a BLOB, and none has arrived"),
        (f"{MOUNT}.MOUNT_TYPE.*", "is write-only: -w shows it"),
    ],
)
def test_nothing_found(server: int, query: str, said: str) -> None:
    done = tool("get", server, *PATIENT, query)
    assert done.returncode == Status.NOTHING
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_waiting_for_a_state(server: int) -> None:
    query = f"{CAMERA}.CONNECTION.CONNECT"
    assert tool("get", server, "-1", "--wait", "ok,idle", query).stdout == "On\n"
    done = tool("get", server, "--wait", "Busy", "--timeout", "0.2", query)
    assert done.returncode == Status.TIMEOUT
    assert done.stderr == f"indifast get: {CAMERA}.CONNECTION is Ok, not Busy after 0.2 s\n"
    assert not done.stdout
    assert tool("get", server, *PATIENT, "--wait", "Ok", "Nobody").returncode == Status.NOTHING


def test_blobs_are_saved_while_monitoring(server: int, tmp_path: Path) -> None:
    query = f"{CAMERA}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE"
    saved = tmp_path / f"{CAMERA}.CCD1.CCD1.fits"
    with commands.start(tmp_path, "get", "-p", server, "-m", query, f"{CAMERA}.CCD1.CCD1") as child:
        child.until_stderr(f"{query}=")  # its output is in the same file
        libindi("setprop", server, f"{query}=0.5")
        child.until_stderr(f"{CAMERA}.CCD1.CCD1=")
        assert f"{query}=0" in child.stderr  # it was 1; the simulator may be at the end before it says anything
        until(lambda: saved.exists() and saved.read_bytes().startswith(b"SIMPLE"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([".."], "'..' is not a device.property.member"),
        (["-t", "x", "a.b.c"], "'x' is not a number"),
        (["--wait", "Fine", "a.b.c"], "'Fine' is not a state: use Idle, Ok, Busy, Alert"),
        (["-p", "x"], "the port must be a number from 1 to 65535, not 'x'"),
        (["-h", "a b"], "is not a server"),
        (["--frobnicate"], "--frobnicate"),
        (["-d", "3"], "-d"),
    ],
)
def test_wrong_arguments(words: list[str], said: str) -> None:
    done = tool("get", None, *words)
    assert done.returncode == Status.TROUBLE
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_library_logs_nothing_unless_asked_to(server: int) -> None:
    assert tool("get", server, *SURE, "-1", f"{CAMERA}.CONNECTION.CONNECT").stderr == ""
    assert "getProperties" in tool("get", server, *SURE, "--debug", f"{CAMERA}.CONNECTION.CONNECT").stderr
