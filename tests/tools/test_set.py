"""`indifast set`, compared with `indi_setprop` on the same server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pexpect
import pytest

from indifast.cli.toolkit.assignments import parse_assignment
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.following import Progress
from indifast.client import IPyClient
from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON, free_port, python_environment, until
from tests.support.commands import INDIFAST
from tests.support.libindi import Indiserver, libindi, value
from tests.support.terminals import end
from tests.support.waiting import eventually
from tests.tools.support import (
    CAMERA,
    MOUNT,
    PATIENT,
    SURE,
    THEIRS,
    Answering,
    not_permitted,
    tool,
    unprivileged,
    without_messages,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("D.P.E=1", {"E": "1"}),
        ("D.P.E=", {"E": ""}),
        ("D.P.A;B=1;2", {"A": "1", "B": "2"}),
        ("D.P.A=1;B=2", {"A": "1", "B": "2"}),
        ("D.P.T=a;b", {"T": "a;b"}),
        ("D.P.T=a=b.c", {"T": "a=b.c"}),
        ("D.P.A=x=1;B=y=2", {"A": "x=1", "B": "y=2"}),
        (r"D.P.A=x\;B=y", {"A": "x;B=y"}),
        (r"D.P.A=x\;y;B=z", {"A": "x;y", "B": "z"}),
        (r"D.P.A;B=1\;2;3", {"A": "1;2", "B": "3"}),
        (r"D.P.A=a\\;B=b", {"A": "a\\", "B": "b"}),
        (r"D.P.A=a\\\;B=b", {"A": r"a\;B=b"}),
        (r"D.P.A=\\host\x\\", {"A": r"\\host\x\\"}),
    ],
)
def test_assignments(text: str, values: dict[str, str]) -> None:
    assignment = parse_assignment(text)
    assert assignment.names == (("D", "P", next(iter(values))),)
    assert assignment.values == values


SWITCHES = b"""
<defSwitchVector device="D" name="CONNECTION" state="Idle" perm="rw" rule="OneOfMany">
<defSwitch name="CONNECT">Off</defSwitch><defSwitch name="DISCONNECT">On</defSwitch></defSwitchVector>
<defTextVector device="D" name="T" state="Idle" perm="rw"><defText name="A"/><defText name="B"/></defTextVector>
"""


@pytest.mark.parametrize(
    ("words", "members"),
    [
        (["D.CONNECTION.CONNECT=on"], [("CONNECT", "On")]),
        (["D.CONNECTION.CONNECT;DISCONNECT=ON;off"], [("DISCONNECT", "Off"), ("CONNECT", "On")]),
        (["-s", "D.CONNECTION.CONNECT=on"], [("CONNECT", "On")]),
        (["D.T.A=on"], [("A", "on")]),
        (["D.T.A=on\\;B=off"], [("A", "on;B=off")]),
    ],
)
def test_values_that_are_sent(words: list[str], members: list[tuple[str, str]]) -> None:
    with Answering(SWITCHES) as server:
        done = tool("set", server.port, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.members() == members


def test_a_switch_to_turn_on_instead_is_named() -> None:
    with Answering(SWITCHES) as server:
        done = tool("set", server.port, "D.CONNECTION.CONNECT=Off")
    said = "D CONNECTION: OneOfMany needs one switch On: instead of CONNECT=Off, set DISCONNECT=On"
    assert (done.returncode, done.stderr) == (Status.NOTHING, f"indifast set: {said}\n")
    assert server.members() == []


def test_dots_may_belong_to_names() -> None:
    assignment = parse_assignment("D.T.B.x;y=1;2")
    assert assignment.names == (("D", "T", "B.x"), ("D", "T.B", "x"), ("D.T", "B", "x"))
    assert assignment.values == {"B.x": "1", "y": "2"}, "as indi_setprop reads it"


INVALID = ["", "D", "D.P.E", "D.P=1", "D..E=1", "...=1"]
DOUBTFUL = ["D.P.A;B=1", "D.P.A;B=1;2;3", "D.P.A;;B=1;2;3"]
"""Valid only if a name contains separators."""


@pytest.mark.parametrize("kind", [None, "n"])
@pytest.mark.parametrize("text", INVALID + DOUBTFUL)
def test_text_that_is_not_an_assignment(text: str, kind: str | None) -> None:
    if kind is None and text in DOUBTFUL:
        assert parse_assignment(text, kind).problem
        return
    with pytest.raises(ToolError):
        parse_assignment(text, kind)


@pytest.mark.parametrize("text", ["D.P.E=\x1b1", "D.P\udcff.E=1", "D.P.E=\x00"])
def test_text_that_no_message_can_contain(text: str) -> None:
    with pytest.raises(ToolError, match="cannot be sent") as caught:
        parse_assignment(text)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_a_missing_number_is_not_read_as_0(server: int) -> None:
    period = value(server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS")
    done = tool("set", server, *SURE, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=")
    sentence = f"{CAMERA} POLLING_PERIOD PERIOD_MS: a number is needed"
    assert (done.returncode, done.stderr) == (1, f"indifast set: {sentence}\n")
    assert value(server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS") == period


DOTTED = """
from indifast import Device, IPyDriver, NumberMember, NumberVector

class Dotted(IPyDriver):
    async def rxevent(self, event):
        for member, value in event.items():
            event.vector[member] = value
        await event.vector.send_setVector(state="Ok")

def vector(name, *members):
    return NumberVector(name, name, "", "rw", "Ok", [NumberMember(m, m, "%g", 0, 0, 0, 0) for m in members])

def make():
    return Dotted(Device("D", [vector("T", "B.x", "y")]), Device("D.T", [vector("P", "x"), vector("Q.R", "x")]))
"""


@pytest.mark.parametrize("words", [[], ["--wait", "Ok"], ["-n"]])
def test_dots_in_names(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "dotted.py").write_text(DOTTED)
    port = free_port()
    with commands.start(tmp_path, "serve", "-p", port, "-u", f"{tmp_path}/socket", "dotted:make"):
        until(lambda: not tool("get", port, "D.T.y").returncode)
        names = ["D.T.B.x"] if "-n" in words else ["D.T.B.x", "D.T.y", "D.T.P.x", "D.T.Q.R.x"]
        for number, name in enumerate(names, 1):
            done = tool("set", port, *SURE, *words, f"{name}={number}")
            assert (done.returncode, done.stderr) == (0, "")
            until(lambda name=name, number=number: tool("get", port, *SURE, "-1", name).stdout == f"{number}\n")
            assert tool("eval", port, *SURE, f'"{name}" == {number}').returncode == 0
        if not words:
            for query in ("D.T.P", "D.T.Q.R"):
                assert tool("get", port, *PATIENT, query).stdout.startswith(f"{query}.x=")
            assert {line.rpartition("=")[0] for line in tool("get", port, *PATIENT, "D.T").stdout.splitlines()} == {
                "D.T.B.x", "D.T.y", "D.T.P.x", "D.T.Q.R.x",
            }  # fmt: skip
            assert "no property 'Z'" in tool("get", port, *PATIENT, "D.Z.x").stderr


def _numbers(device: str, name: str, *members: str) -> bytes:
    inner = "".join(
        f'<defNumber name="{member}" format="%g" min="0" max="0" step="0">0</defNumber>' for member in members
    )
    vector = f'<defNumberVector device="{device}" name="{name}" state="Idle" perm="rw">{inner}</defNumberVector>'
    return vector.encode()


SEPARATORS = _numbers("D.", "P", "a=b", "x;y", ".e.", "f") + _numbers("a=b", "P;Q", "m", "n")


@pytest.mark.parametrize(
    ("specs", "members"),
    [
        (["D..P.a=b=5"], [("a=b", "5")]),
        (["D..P.x;y=5"], [("x;y", "5")]),
        (["D..P..e.=5"], [(".e.", "5")]),
        (["D..P.f=1;x;y=2;a=b=3"], [("a=b", "3"), ("x;y", "2"), ("f", "1")]),
        (["D..P.x;y;a=b;f=1;2;3"], [("a=b", "2"), ("x;y", "1"), ("f", "3")]),
        (["a=b.P;Q.m=1;n=2", "a=b.P;Q.n;m=3;4"], [("m", "1"), ("n", "2"), ("m", "4"), ("n", "3")]),
    ],
)
def test_separators_in_names(specs: list[str], members: list[tuple[str, str]]) -> None:
    with Answering(SEPARATORS) as server:
        done = tool("set", server.port, *specs)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.members() == members


@pytest.mark.parametrize(
    ("command", "query", "said"),
    [
        ("get", "D..P.a=b", "D..P.a=b=0\n"),
        ("get", "D..P..e.", "D..P..e.=0\n"),
        ("get", "D..P", "".join(f"D..P.{member}=0\n" for member in ("a=b", "x;y", ".e.", "f"))),
        ("get", "D..*.f", "D..P.f=0\n"),
        ("eval", '"D..P..e." == 0', ""),
    ],
)
def test_queries_for_names_with_separators(command: str, query: str, said: str) -> None:
    with Answering(SEPARATORS) as server:
        done = tool(command, server.port, *PATIENT, query)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("spec", DOUBTFUL)
def test_nothing_is_sent_if_one_assignment_is_invalid(spec: str) -> None:
    with Answering(SEPARATORS) as server:
        done = tool("set", server.port, "D..P.f=1", spec)
    assert done.returncode == Status.TROUBLE
    assert f"{spec!r} has " in done.stderr
    assert not server.members()


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1100"], {f"{CAMERA}.POLLING_PERIOD.PERIOD_MS": "1100"}),
        (["-n", f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1200"], {f"{CAMERA}.POLLING_PERIOD.PERIOD_MS": "1200"}),
        (
            ["-n", f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1300", "-s", f"{CAMERA}.DEBUG.ENABLE=On"],
            {f"{CAMERA}.POLLING_PERIOD.PERIOD_MS": "1300", f"{CAMERA}.DEBUG.ENABLE": "On"},
        ),
        (
            [f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_TELESCOPE=A;ACTIVE_ROTATOR=B"],
            {f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_TELESCOPE": "A", f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_ROTATOR": "B"},
        ),
        (
            [f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_TELESCOPE;ACTIVE_ROTATOR=C;D", f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1400"],
            {f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_ROTATOR": "D", f"{CAMERA}.POLLING_PERIOD.PERIOD_MS": "1400"},
        ),
        (
            ["-x", f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_TELESCOPE;ACTIVE_ROTATOR=E;F"],
            {f"{CAMERA}.ACTIVE_DEVICES.ACTIVE_TELESCOPE": "E"},
        ),
    ],
)
def test_arguments_of_indi_setprop(server: int, side: str, words: list[str], expected: dict[str, str]) -> None:
    for before in ("DEBUG.DISABLE=On", "POLLING_PERIOD.PERIOD_MS=1000"):
        libindi("setprop", server, f"{CAMERA}.{before}")
    until(lambda: value(server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS") == "1000")
    done = tool("set", server, *SURE, *words) if side == "ours" else libindi("setprop", server, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name, text in expected.items():
        until(lambda name=name, text=text: value(server, name) == text, what=f"{name}={text}")


@pytest.mark.parametrize(
    "words",
    [
        [f"{CAMERA}.CONNECTION.FOO=On"],
        [f"{CAMERA}.DRIVER_INFO.DRIVER_NAME=x"],
        ["Nobody.CONNECTION.CONNECT=On"],
        [f"{CAMERA}.CONNECTION=On"],
        [f"{CAMERA}.CCD_FRAME.X;Y=1"],
        [],
    ],
)
def test_exit_statuses_are_those_of_indi_setprop(server: int, words: list[str]) -> None:
    ours, theirs = tool("set", server, *PATIENT, *words), libindi("setprop", server, *THEIRS, *words)
    assert ours.returncode == theirs.returncode != 0
    assert ours.stderr.count("\n") == 1


def test_no_server_has_the_status_of_libindi() -> None:
    port = free_port()
    for words in (["A.B.C=1"], ["-n", "A.B.C=1"]):
        assert tool("set", port, *words).returncode == libindi("setprop", port, *words).returncode == Status.TROUBLE


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1", "outside 10 to 600000"),
        (f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=soon", "soon"),
        (f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=nan", "a finite number is needed, not nan"),
        (f"{MOUNT}.EQUATORIAL_EOD_COORD.RA=24.0000000001", "24.0000000001 is outside 0 to 24"),
        (f"{CAMERA}.CONNECTION.CONNECT=Perhaps", "neither On nor Off"),
        (f"{CAMERA}.CONNECTION.CONNECT;DISCONNECT=On;On", "CONNECTION"),
        (f"{CAMERA}.DRIVER_INFO.DRIVER_NAME=x", "read-only"),
        (f"{CAMERA}.CONNECTION.CONECT=On", "did you mean 'CONNECT'"),
        (f"{CAMERA}.CONECTION.CONNECT=On", "did you mean 'CONNECTION'"),
        (f"{CAMERA}x.CONNECTION.CONNECT=On", f"did you mean '{CAMERA}'"),
    ],
)
def test_invalid_values_are_not_sent(server: int, spec: str, said: str) -> None:
    done = tool("set", server, *PATIENT, spec)
    assert done.returncode == Status.NOTHING
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_checks_can_be_turned_off(server: int) -> None:
    done = tool("set", server, *SURE, "--no-check", "-v", f"{CAMERA}.CCD_TEMP_RAMP.RAMP_SLOPE=99")
    assert done.returncode == 0
    assert done.stderr == f"{CAMERA}.CCD_TEMP_RAMP.RAMP_SLOPE <- 99\n"


def test_other_assignments_are_sent_although_one_is_refused(server: int) -> None:
    done = tool("set", server, *PATIENT, f"{CAMERA}.NO.NO=1", f"{CAMERA}.POLLING_PERIOD.PERIOD_MS=1500")
    assert done.returncode == Status.NOTHING
    until(lambda: value(server, f"{CAMERA}.POLLING_PERIOD.PERIOD_MS") == "1500")


def test_waiting_until_a_command_is_done(server: int) -> None:
    exposure = f"{CAMERA}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE"
    done = tool("set", server, "--wait", "Ok", "--timeout", "60", f"{exposure}=0.3")
    assert (done.returncode, without_messages(done.stderr)) == (0, "")
    assert value(server, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Ok"
    done = tool("set", server, "--wait", "Ok", "--timeout", "0.2", f"{exposure}=60")
    assert done.returncode == Status.TIMEOUT
    assert "CCD_EXPOSURE is Busy" in done.stderr
    assert tool("set", server, "--wait", "Ok,Idle,Alert", f"{CAMERA}.CCD_ABORT_EXPOSURE.ABORT=On").returncode == 0


@pytest.mark.parametrize("command", ["set", "get", "expose"])
def test_waiting_ends_when_the_driver_dies(camera_server: Indiserver, tmp_path: Path, command: str) -> None:
    port, pid = camera_server.port, camera_server.pid
    exposure = f"{CAMERA}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE"
    if command == "get":
        libindi("setprop", port, f"{exposure}=600")
        until(lambda: value(port, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Busy")
    words = {
        "set": [*SURE, "--wait", "Ok", "--timeout", "600", f"{exposure}=600"],
        "get": [*SURE, "--debug", "--wait", "Ok", "--timeout", "600", exposure],
        "expose": [*SURE, CAMERA, "600", "--quiet"],
    }[command]
    with commands.start(tmp_path, command, "-p", port, *words, stdio=True) as child:
        if command == "get":
            child.until_stderr("CCD_EXPOSURE")
        until(lambda: value(port, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Busy")
        driver = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
        os.kill(int(driver), signal.SIGKILL)
        assert child.wait() == Status.TROUBLE
        said = re.findall(rf"^indifast {command}: (.*)$", without_messages(child.stderr), re.MULTILINE)
        assert [CAMERA in each and "has gone: " in each and "connection" not in each for each in said] == [True]


def test_alert_is_reported_with_the_drivers_reason(server: int) -> None:
    words = ["--no-check", "--wait", "Ok", "--timeout", "30", f"{CAMERA}.CCD_TEMPERATURE.CCD_TEMPERATURE_VALUE=-99"]
    done = tool("set", server, *words)
    assert done.returncode == Status.ALERT
    assert done.stderr.startswith(f"indifast set: {CAMERA} CCD_TEMPERATURE went to Alert: ")
    assert "-50" in done.stderr
    assert done.stderr.count("\n") == 1


COORDINATES = f"{MOUNT}.EQUATORIAL_EOD_COORD"


def unpark(port: int) -> None:
    """Let the mount move."""
    done = tool("set", port, "--wait", "Ok,Idle", f"{MOUNT}.TELESCOPE_PARK.UNPARK=On")
    assert (done.returncode, without_messages(done.stderr)) == (0, "")


def near(port: int, name: str, number: float) -> bool:
    return abs(float(value(port, name)) - number) < 0.05


def test_only_named_members_are_sent_unless_all_are_requested(server: int) -> None:
    """The mount needs both coordinates."""
    unpark(server)
    for words in (["-v", f"{COORDINATES}.RA=5"], ["-v", "-n", f"{COORDINATES}.RA=5"]):
        done = tool("set", server, "--wait", "Ok", "--timeout", "2", *words)
        assert done.returncode in (Status.TIMEOUT, Status.ALERT)
        said = without_messages(done.stderr)
        assert said.startswith(f"{COORDINATES}.RA <- 5\n")
        assert said.endswith("; DEC was not sent: give it as well, or use --all\n")
        assert said.count("\n") == 2
    done = tool("set", server, "--wait", "Ok", "-v", f"{COORDINATES}.RA;DEC=5;89")
    assert (done.returncode, without_messages(done.stderr)) == (0, f"{COORDINATES}.RA <- 5\n{COORDINATES}.DEC <- 89\n")
    until(lambda: near(server, f"{COORDINATES}.RA", 5) and near(server, f"{COORDINATES}.DEC", 89))
    done = tool("set", server, "--wait", "Ok", "--all", f"{COORDINATES}.RA=5.2")
    assert (done.returncode, without_messages(done.stderr)) == (0, "")
    until(lambda: near(server, f"{COORDINATES}.RA", 5.2) and near(server, f"{COORDINATES}.DEC", 89))


ODD = b"""
<defNumberVector device="D" name="INFO" state="Idle" perm="rw">
<defNumber name="A" format="%g" min="10" max="5000" step="0">0</defNumber>
<defNumber name="B" format="%g" min="10" max="5000" step="0">0</defNumber>
<defNumber name="C" format="%g" min="0" max="0" step="0">nan</defNumber></defNumberVector>
<defTextVector device="D" name="LOGIN" state="Idle" perm="wo">
<defText name="USER"/><defText name="PASSWORD"/></defTextVector>
"""


@pytest.mark.parametrize(
    ("words", "members"),
    [
        (["D.INFO.A=20"], [("A", "20")]),
        (["D.INFO.A;C=20;1"], [("A", "20"), ("C", "1")]),
        (["--all", "D.INFO.A;B;C=20;30;1"], [("A", "20"), ("B", "30"), ("C", "1")]),
        (["--all", "--no-check", "D.INFO.A=20"], [("A", "20"), ("B", "0"), ("C", "nan")]),
        (["D.LOGIN.USER=me"], [("USER", "me")]),
        (["--all", "D.LOGIN.USER=me"], [("USER", "me")]),
    ],
)
def test_members_that_are_sent(words: list[str], members: list[tuple[str, str]]) -> None:
    with Answering(ODD) as server:
        assert tool("set", server.port, *words).returncode == 0
    assert server.members() == members


@pytest.mark.parametrize(
    ("values", "said"),
    [("A=20", "D INFO B: 0 is outside 10 to 5000"), ("A;B=20;20", "D INFO C: a finite number is needed, not nan")],
)
def test_unchanged_members_that_are_sent_are_checked(values: str, said: str) -> None:
    with Answering(ODD) as server:
        done = tool("set", server.port, "--all", f"D.INFO.{values}")
    assert done.returncode == Status.NOTHING
    assert done.stderr == f"indifast set: {said}, and it would be sent along unchanged\n"
    assert b"<new" not in server.heard


def test_messages_of_the_driver_appear_while_a_wait_lasts(server: int) -> None:
    unpark(server)
    done = tool("set", server, "--wait", "Ok", f"{COORDINATES}.RA;DEC=6;88")
    assert f"indifast set: {MOUNT}: [INFO] Slewing to RA: " in done.stderr
    assert tool("set", server, "--wait", "Ok", "--no-messages", f"{COORDINATES}.RA;DEC=6.1;88").stderr == ""
    done = tool("get", server, "--wait", "Ok", f"{COORDINATES}.RA")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_progress_of_a_slew_is_drawn(server: int) -> None:
    unpark(server)
    words = ["set", "-p", str(server), *SURE, "--wait", "Ok", f"{COORDINATES}.RA;DEC=6.1;70"]
    environment = {**os.environ, **python_environment()}
    terminal = pexpect.spawn(
        PYTHON, [*INDIFAST[1:], *words], env=environment, encoding="utf-8", timeout=2 * LIMIT, dimensions=(24, 40)
    )
    terminal.expect(pexpect.EOF)
    end(terminal, None)
    assert terminal.exitstatus == 0
    lines = re.findall(r"\r\x1b\[K(\[#*-*\][^\r]*)", terminal.before)
    assert len(lines) > 3
    assert all(len(line) < 40 for line in lines)
    assert all(re.match(r"\[#*-*\] Busy, \d+ s, RA +\d+:\d+:\d+, ", line) for line in lines)
    filled = [line.count("#") for line in lines]
    assert filled[0] < filled[-1]


COORDINATE = """<defNumberVector device="{}" name="C" state="Busy" perm="rw">
<defNumber name="RA" format="%g" min="0" max="24" step="0">{}</defNumber>
<defNumber name="DEC" format="%g" min="-90" max="90" step="0">{}</defNumber></defNumberVector>"""


def test_a_coordinate_that_was_there_already_says_nothing_about_the_progress() -> None:
    """Or the bar of a mount that moves in declination alone would be as empty as the mount tracks well."""

    async def bars() -> list[str]:
        async with IPyClient("localhost", server.port) as client:
            await eventually(lambda: "after" in client)
            device = "before"
            both = Progress(lambda: client[device]["C"], {"RA": "6.1", "DEC": "80"})
            alone = Progress(lambda: client[device]["C"], {"RA": "6.1"})
            device = "after"
            return [progress.line().partition("] ")[0] for progress in (both, alone)]

    definitions = COORDINATE.format("before", 6.1001, 0) + COORDINATE.format("after", 6.1002, 40)
    with Answering(definitions.encode()) as server:
        both, alone = asyncio.run(bars())
    assert both.count("#") == both.count("-") > 0
    assert "#" not in alone and "-" in alone, "it counts if nothing else moves"


SLEWING = b"""
<defNumberVector device="M" name="EQUATORIAL_EOD_COORD" state="Idle" perm="rw">
<defNumber name="RA" format="%g" min="0" max="24" step="0">1</defNumber></defNumberVector>
<defSwitchVector device="M" name="CONNECTION" state="Ok" perm="rw" rule="OneOfMany">
<defSwitch name="CONNECT">On</defSwitch></defSwitchVector>
"""
ABORT = b"""<defSwitchVector device="M" name="TELESCOPE_ABORT_MOTION" state="Idle" perm="rw" rule="AtMostOne">
<defSwitch name="ABORT">Off</defSwitch></defSwitchVector>"""


@pytest.mark.parametrize(
    ("more", "stop"),
    [(b"", ""), (ABORT, '; to stop it, run: indifast set "M.TELESCOPE_ABORT_MOTION.ABORT=On"')],
)
def test_ctrl_c_says_that_the_driver_goes_on(tmp_path: Path, more: bytes, stop: str) -> None:
    with Answering(more + SLEWING) as server:
        words = ("set", "-p", server.port, *SURE, "--wait", "Ok", "M.EQUATORIAL_EOD_COORD.RA=2")
        with commands.start(tmp_path, *words) as child:
            until(lambda: b"</newNumberVector>" in server.heard, what="the command")
            os.kill(child.pid, signal.SIGINT)
            assert child.wait() == Status.INTERRUPTED
            said = f"M.EQUATORIAL_EOD_COORD is still Busy: the command was sent, and the driver goes on{stop}"
            assert child.stderr == f"indifast set: {said}\n"


def test_a_message_that_there_is_not_is_not_quoted() -> None:
    with Answering(SLEWING) as server:
        done = tool("set", server.port, "--wait", "Ok", "--timeout", 0.3, "M.EQUATORIAL_EOD_COORD.RA=2")
    said = "indifast set: M EQUATORIAL_EOD_COORD is Busy (waited 0.3 s)\n"
    assert (done.returncode, done.stderr) == (Status.TIMEOUT, said)


BLOB = b"""<defBLOBVector device="S" name="IMAGE" state="Idle" perm="wo"><defBLOB name="FILE"/></defBLOBVector>"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name of the file is empty"),
        ("folder", "folder: is a directory"),
        ("none", "none: no such file or directory"),
        ("empty", "empty: the file is empty"),
        ("fifo", "fifo: not a file that can be sent as a BLOB"),
    ],
)
def test_a_file_that_cannot_be_sent(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with Answering(BLOB) as server:
        done = tool("set", server.port, *SURE, f"S.IMAGE.FILE={name}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (Status.TROUBLE, f"indifast set: {said}\n")
    assert b"<new" not in server.heard


def test_a_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "dark.fits.gz").write_bytes(b"content")
    with Answering(BLOB, pings=True) as server:
        done = tool("set", server.port, "-v", *SURE, "S.IMAGE.FILE=dark.fits.gz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "S.IMAGE.FILE <- dark.fits.gz\n")
    assert b'format=".fits.gz"' in server.heard and b"Y29udGVudA==" in server.heard


@pytest.mark.parametrize("name", ["secret", "private/a.fits"])
def test_a_file_without_permission(name: str) -> None:
    with Answering(BLOB, pings=True) as server, not_permitted() as folder:
        done = unprivileged("set", "-p", server.port, *SURE, f"S.IMAGE.FILE={folder}/{name}")
    said = f"indifast set: {folder}/{name}: permission denied\n"
    assert (done.returncode, done.stderr) == (Status.TROUBLE, said)


@pytest.mark.parametrize(
    ("command", "query"),
    [("get", "D.CCD1.X"), ("get", "D.CCD1"), ("eval", '"D.CCD1.X" == 1'), ("watch", "D.CCD1"), ("set", "D.CCD1.X=1")],
)
def test_a_device_that_is_not_connected_may_have_more(command: str, query: str) -> None:
    patience = ("--for", 4) if command == "watch" else ("-t", 4)
    with Answering(SWITCHES) as server:
        done = tool(command, server.port, *patience, query)
    more = "; D is not connected, and may have more properties once CONNECTION.CONNECT is On"
    waiting = " (waiting for it)" if command == "watch" else ""
    said = f"indifast {command}: no property 'CCD1' of D: known: 'CONNECTION', 'T'{more}{waiting}\n"
    status = {"watch": Status.DONE, "eval": Status.TROUBLE}.get(command, Status.NOTHING)
    assert (done.returncode, done.stderr) == (status, said)
