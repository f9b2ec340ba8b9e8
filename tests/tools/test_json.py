"""JSON of all commands: valid against the schema, for real servers and drivers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indifast.protocol import jsonform
from tests.support import commands
from tests.support.jsonschema import ROOT, SCHEMA, valid
from tests.support.libindi import libindi
from tests.tools.support import CAMERA, MOUNT, PATIENT, THEIRS, answering, line_with, tool


def fetched(name: str, port: int, *words: object) -> Any:
    """Run a command with --json, and return what it has printed."""
    done = tool(name, port, *PATIENT, "--json", *words)
    assert done.returncode == 0, done.stderr
    return valid(name, done.stdout)


def age(stamp: str) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(stamp)


def test_everything_that_the_simulators_define(server: int) -> None:
    got, snapped, listed = (fetched(name, server)["devices"] for name in ("get", "snap", "devices"))
    assert set(got) == set(snapped) == set(listed) == {CAMERA, MOUNT}
    for name, device in snapped.items():
        assert {key: device[key] for key in listed[name]} == listed[name]
        kinds = {each["type"] for each in device["properties"].values()}
        assert {"number", "switch", "text"} <= kinds
        for each in device["properties"].values():
            assert timedelta(0) <= age(each["received"]) < timedelta(minutes=2)
            assert abs(age(each["time"]) - age(each["received"])) < timedelta(days=1)
    assert snapped[CAMERA]["connected"] is True
    assert got[CAMERA]["properties"]["CCD_FRAME"]["members"] == snapped[CAMERA]["properties"]["CCD_FRAME"]["members"]


def test_values_have_the_types_of_json(server: int) -> None:
    theirs = libindi("getprop", server, *THEIRS, f"{CAMERA}.CCD_FRAME.*").stdout
    names = [f"{CAMERA}.{name}" for name in ("CCD_FRAME", "CONNECTION", "DRIVER_INFO")]
    found = fetched("get", server, *names)["devices"][CAMERA]["properties"]
    frame = found["CCD_FRAME"]["members"]
    assert [f"{CAMERA}.CCD_FRAME.{name}={each['text']}" for name, each in frame.items()] == theirs.splitlines()
    assert (frame["WIDTH"]["value"], frame["WIDTH"]["shown"], frame["WIDTH"]["min"]) == (1280.0, "1280", 1.0)
    values = {name: each["value"] for name, each in found["CONNECTION"]["members"].items()}
    assert values == {"CONNECT": True, "DISCONNECT": False}
    assert (found["CONNECTION"]["rule"], found["DRIVER_INFO"]["type"]) == ("OneOfMany", "text")
    assert found["DRIVER_INFO"]["members"]["DRIVER_EXEC"]["value"] == "indi_simulator_ccd"


KINDS = (
    '<defNumberVector device="D" name="N" state="Ok" perm="rw" timeout="inf" timestamp="2026-01-02T03:04:05.25">'
    '<defNumber name="a" format="%.1f" min="-inf" max="inf" step="nan">inf</defNumber>'
    '<defNumber name="b" format="%010.6m" min="0" max="24" step="0">12.5</defNumber>'
    '<defNumber name="c" format="%g" min="0" max="0" step="0">N/A</defNumber></defNumberVector>'
    '<defLightVector device="D" name="L" state="Alert"><defLight name="a">Busy</defLight></defLightVector>'
    '<defSwitchVector device="D" name="S" state="Ok" perm="rw" rule="AnyOfMany"><defSwitch name="a">ON</defSwitch>'
    '</defSwitchVector><defBLOBVector device="D" name="B" state="Idle" perm="ro"><defBLOB name="a"/></defBLOBVector>'
)

UPDATE = (
    '<setNumberVector device="D" name="N" state="{}" timestamp="2026-01-02T03:04:06"><oneNumber name="b">{}</oneNumber>'
    "</setNumberVector>"
)


def test_the_first_change_has_all_members_and_later_ones_what_is_new() -> None:
    updates = [UPDATE.format("Busy", 1), UPDATE.format("Busy", "2:30"), UPDATE.format("Ok", "2:30")]
    gone = '<delProperty device="D" name="N" timestamp="2026-01-02T03:04:07"/>'
    with answering((KINDS + "".join(updates) + gone).encode()) as port:
        done = tool("watch", port, "--json", "--count", 4, "D.N.a", "D.N.b")
    lines = [valid("watch", line) for line in done.stdout.splitlines()]
    assert [each.get("members") for each in lines] == [{"a": None, "b": 1.0}, {"b": 2.5}, {}, None]
    assert [each["event"] for each in lines] == ["set", "set", "set", "delete"]
    assert [each.get("state") for each in lines] == ["Busy", "Busy", "Ok", None]
    assert [each["time"][17:] for each in lines] == ["06Z", "06Z", "06Z", "07Z"]
    assert all(timedelta(0) <= age(each["received"]) < timedelta(minutes=2) for each in lines)


def test_definitions_messages_frames_and_deletions_are_lines(server: int, tmp_path: Path) -> None:
    words = ["watch", "-p", server, "--json", "--blobs", "--definitions", CAMERA]
    with commands.start(tmp_path, *words, stdio=True) as child:
        define = valid("watch", line_with(child, '"CCD_EXPOSURE"'))
        assert (define["event"], list(define["members"])) == ("define", ["CCD_EXPOSURE_VALUE"])
        libindi("setprop", server, f"{CAMERA}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=0.1")
        frame = valid("watch", line_with(child, '"size"'))
        assert frame["members"]["CCD1"]["format"] == ".fits" and frame["members"]["CCD1"]["size"] > 1e6
        for switch in ("DISCONNECT", "CONNECT"):
            tool("set", server, *PATIENT, "--wait", "Ok,Idle", f"{CAMERA}.CONNECTION.{switch}=On")
        assert valid("watch", line_with(child, '"delete"'))["device"] == CAMERA


def test_what_json_cannot_hold_and_what_cannot_be_read() -> None:
    with answering(KINDS.encode()) as port:
        found = fetched("snap", port)["devices"]["D"]["properties"]
        lines = tool("watch", port, "--json", "--definitions", "--count", 4).stdout.splitlines()
    numbers = found["N"]["members"]
    assert [(each["value"], each["shown"]) for each in numbers.values()] == [
        (None, "inf"), (12.5, "12:30:00"), (None, "N/A")]  # fmt: skip
    assert {key: numbers["a"][key] for key in ("min", "max", "step")} == dict.fromkeys(("min", "max", "step"))
    assert (numbers["b"]["max"], numbers["b"]["text"], numbers["c"]["unreadable"]) == (24.0, "12.5", "N/A")
    assert found["N"]["time"] == "2026-01-02T03:04:05.250000Z"
    assert found["L"]["members"]["a"]["value"] == "Busy"
    assert found["S"]["members"]["a"] == {"label": "a", "value": False, "unreadable": "ON"}
    assert found["B"]["members"]["a"]["value"] is None
    members = {each["property"]: each["members"] for each in (valid("watch", line) for line in lines)}
    assert members == {"N": {"a": None, "b": 12.5, "c": None}, "L": {"a": "Busy"}, "S": {"a": False}, "B": {"a": None}}


def test_get_prints_a_line_for_each_update_with_m(server: int, tmp_path: Path) -> None:
    with commands.start(tmp_path, "get", "-p", server, "-m", "--json", f"{CAMERA}.CCD_FRAME", stdio=True) as child:
        first = line_with(child, "CCD_FRAME")
    assert list(valid("get", first)["devices"][CAMERA]["properties"]) == ["CCD_FRAME"]


def test_recordings(server: int, tmp_path: Path) -> None:
    commands.run("record", "-p", server, "-o", "r.indi", "--for", 8, cwd=tmp_path)
    lines = commands.run("replay", "--print", "--json", "r.indi", cwd=tmp_path).stdout.splitlines()
    records = [valid("record", line) for line in lines]
    (connection,) = (each for each in records if each.get("property") == "CONNECTION" and each["device"] == CAMERA)
    assert (connection["tag"], connection["members"]) == ("defSwitchVector", {"CONNECT": True, "DISCONNECT": False})
    assert all(age(each["received"]) < timedelta(minutes=2) for each in records)
    info = valid("info", commands.run("replay", "--info", "--json", "r.indi", cwd=tmp_path).stdout)
    assert info["messages"] <= len(records)


def test_numbers_for_people_have_the_format_of_the_property() -> None:
    update = '<setNumberVector device="D" name="N"><oneNumber name="b">-1.26</oneNumber></setNumberVector>'
    with answering((KINDS + update).encode()) as port:
        lines = tool("watch", port, "--definitions", "--count", 6).stdout.splitlines()
    assert [line.split("D.N.")[1] for line in lines if "D.N." in line] == [
        "a=inf [Ok]", "b=12:30:00 [Ok]", "c=N/A [Ok]", "b=-1:15:36 [Ok]"]  # fmt: skip


def test_a_text_is_one_line_with_the_version_first() -> None:
    line = jsonform.text({"a": float("nan"), "b": [float("inf"), 1.5], "c": "x\u2028\x9b\ny"}, indent=None)
    assert line == '{"version": 1, "a": null, "b": [null, 1.5], "c": "x\\u2028\\u009b\\ny"}'
    assert json.loads(line)["c"] == "x\u2028\x9b\ny"


@pytest.mark.parametrize(
    ("name", "kind"), [("SwitchVector", "switch"), ("newNumberVector", "number"), ("defBLOBVector", "blob")]
)
def test_kinds_by_tags_and_types(name: str, kind: str) -> None:
    assert jsonform.kind_of(name) == kind


def test_the_pages_name_every_key() -> None:
    page = "".join((ROOT / "docs/reference" / name).read_text() for name in ("json.md", "web.md"))
    keys: set[str] = set()

    def collect(schema: Any) -> None:
        if isinstance(schema, dict):
            keys.update(schema.get("properties", ()) if "required" in schema else ())
            for each in schema.values():
                collect(each)
        elif isinstance(schema, list):
            for each in schema:
                collect(each)

    collect(json.loads(SCHEMA.read_text()))
    assert {key for key in keys if not re.search(rf"`{key}`", page)} == set()
    assert f"version {jsonform.VERSION}" in page.casefold()
