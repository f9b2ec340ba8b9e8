"""`indifast eval`, compared with `indi_eval`."""

from __future__ import annotations

import math

import pytest

from indifast.cli.toolkit.expression import parse_expression
from indifast.cli.toolkit.failures import Status, ToolError
from tests.support.blackbox import free_port
from tests.support.libindi import libindi
from tests.tools.support import CAMERA, PATIENT, SURE, tool


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3+4*2", 11), ("2-3-4", -5), ("12/3/2", 2), ("-2*3", -6), ("!0", 1), ("!!5", 1), ("2<3==1", 1), ("1||1/0", 1),
        ("0&&1", 0), ("(1+2)*3", 9), ("1e3", 1000), (".5", 0.5), ("10>=10", 1), ("3!=3", 0), ("pow(2,10)", 1024),
        ("abs(-2)", 2), ("floor(2.7)", 2), ("degrad(180)", math.pi), ("raddeg(pi)", 180), ("atan2(1,1)", math.pi / 4),
        ("1/0", math.inf), ("-1/0", -math.inf), ("log(0)", -math.inf), ("exp(1000)", math.inf), ('"a.b.c"*2', 14),
        ("1 - -1", 2), ("+3", 3),
    ],
)  # fmt: skip
def test_values_of_expressions(text: str, value: float) -> None:
    assert parse_expression(text).value({"a.b.c": 7.0}.__getitem__) == pytest.approx(value)


@pytest.mark.parametrize("text", ["0/0", "sqrt(-1)", "log(-1)", "pow(-8, 0.3)"])
def test_expressions_whose_value_is_not_a_number(text: str) -> None:
    assert math.isnan(parse_expression(text).value({}.__getitem__))


@pytest.mark.parametrize(
    "text",
    ["", "1+", "1;2", "abc", "abc(1)", "sin", "sin(1", "pow(1)", "(1", "1)", '"a.b"', '"a.b.*"', '"a.b.c', "1 2", "a.b",
     "__import__('os')", "(" * 1000 + "1", "-" * 1000 + "1", "\x00", "²"],
)  # fmt: skip
def test_text_that_is_not_an_expression(text: str) -> None:
    with pytest.raises(ToolError):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("CCD Simulator.CCD_INFO.CCD_MAX_X > 3", '"CCD Simulator.CCD_INFO.CCD_MAX_X" > 3'),
        ("abs(Mount.A.B + 10) < 0.5 && Dome.C.D", 'abs("Mount.A.B" + 10) < 0.5 && "Dome.C.D"'),
        ("'Mount.A.B' == 1", '"Mount.A.B" == 1'),
        ("SX-CCD.A.B", '"device.property.member"'),
        ("Mount.A", '"device.property.member"'),
    ],
)
def test_operands_without_quotes_of_their_own(text: str, meant: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse_expression(text)
    assert str(caught.value).endswith(f": '{meant}'")


def test_an_expression_of_several_words() -> None:
    done = tool("eval", None, "Mount.A.B", "==", 1)
    said = "the expression must be one word for the shell"
    assert (done.returncode, done.stderr) == (2, f"indifast eval: {said}: '\"Mount.A.B\" == 1'\n")


@pytest.mark.parametrize(
    "expression",
    [
        "3+4*2", "1/7", "0.1+0.2", "1000000*10", "1==2",
        f'"{CAMERA}.CCD_INFO.CCD_MAX_X" / 7',
        f'"{CAMERA}.CONNECTION._STATE" == 1 && "{CAMERA}.CONNECTION.CONNECT"',
        f'"{CAMERA}.CONNECTION.DISCONNECT"',
        f'"{CAMERA}.CCD_INFO.CCD_MAX_X" < "{CAMERA}.CCD_INFO.CCD_MAX_Y"',
        f'"{CAMERA}.CONNECTION.FOO" < 7',
        "1+", "abc",
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [["-f"], ["-o", "-e"]])
def test_values_and_statuses_are_those_of_indi_eval(server: int, expression: str, options: list[str]) -> None:
    patience = PATIENT if "FOO" in expression else SURE
    ours, theirs = (run("eval", server, *patience, *options, expression) for run in (tool, libindi))
    assert ours.returncode == theirs.returncode
    if ours.returncode == Status.TROUBLE:
        assert not ours.stdout
        assert ours.stderr.count("\n") == 1
    else:
        values = ours.stdout.splitlines()
        assert sorted(values) == sorted(theirs.stderr.splitlines())  # libindi's tool writes values there
        assert values[-1] == theirs.stderr.splitlines()[-1]


def test_the_expression_can_come_from_standard_input(server: int) -> None:
    assert tool("eval", server, "-i", "-f", text="1 == 1\n").stdout == "1\n"
    assert tool("eval", server, "-i", "1").returncode == Status.TROUBLE
    assert tool("eval", server).returncode == Status.TROUBLE


def test_waiting_until_an_expression_is_true(server: int) -> None:
    exposure = f"{CAMERA}.CCD_EXPOSURE"
    libindi("setprop", server, f"{exposure}.CCD_EXPOSURE_VALUE=3")
    done = tool("eval", server, "-t", "60", "-w", "-o", f'"{exposure}._STATE" == 1')
    assert done.returncode == Status.DONE
    assert done.stdout.splitlines()[-1] == f"{exposure}._STATE=1"
    done = tool("eval", server, "-w", *PATIENT, f'"{CAMERA}.CCD_INFO.CCD_MAX_X" < 7')
    assert done.returncode == Status.TIMEOUT
    assert done.stderr == f"indifast eval: not true after {PATIENT[1]} s: {CAMERA}.CCD_INFO.CCD_MAX_X is 1280\n"


def test_an_operand_that_is_not_a_number(server: int) -> None:
    done = tool("eval", server, *PATIENT, f'"{CAMERA}.DRIVER_INFO.DRIVER_EXEC" > 1')
    assert done.returncode == Status.TROUBLE
    assert "does not hold a number: 'indi_simulator_ccd'" in done.stderr


def test_no_server() -> None:
    port = free_port()
    assert tool("eval", port, '"a.b.c"').returncode == libindi("eval", port, '"a.b.c"').returncode == Status.TROUBLE
