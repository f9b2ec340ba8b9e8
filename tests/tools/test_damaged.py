"""Incomplete and damaged properties: what is usable is shown, and the rest is reported once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.tools.support import LESS_PATIENT, PATIENT, answering, tool

FPS = (
    '<defNumberVector device="mag" name="fps" state="Idle" perm="rw">'
    '<defNumber name="current" format="%g" min="0" max="0" step="0">N/A</defNumber>'
    '<defNumber name="target" format="%g" min="0" max="0" step="0"/></defNumberVector>'
)
NAMELESS = (
    '<defSwitchVector device="mag" name="F" state="Ok" perm="rw" rule="OneOfMany"><defSwitch name="fits">On</defSwitch>'
    '<defSwitch name="" label="">Off</defSwitch></defSwitchVector>'
)
NONE = '<defTextVector device="mag" name="none" state="Ok" perm="rw"><defText name="">x</defText></defTextVector>'


MEANINGLESS = (  # a simulator of libindi sends such messages
    '<defSwitchVector device="" name="" state="Idle" perm="ro" rule="OneOfMany"/>'
    '<setNumberVector device="" name="" state="Ok"><oneNumber name="">1</oneNumber></setNumberVector>'
    '<setNumberVector device="mag" name="later" state="Ok"/><delProperty device="mag" name=""/>'
)


@pytest.fixture
def server() -> Iterator[int]:
    with answering((FPS + NAMELESS + NONE * 2 + MEANINGLESS).encode()) as port:
        yield port


def test_usable_members_are_shown_and_the_others_are_reported(server: int) -> None:
    done = tool("get", server, *PATIENT)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["mag.fps.current=N/A", "mag.fps.target=", "mag.F.fits=On"]
    assert done.stderr.splitlines() == [
        "indifast get: mag.fps: 'N/A' for current is not a number",
        "indifast get: mag.none: a definition without members that have a name",
    ]


def test_json_has_the_text_that_was_received(server: int) -> None:
    found = json.loads(tool("get", server, *PATIENT, "--json", "mag.fps").stdout)["devices"]["mag"]["properties"]["fps"]
    assert {name: (member["unreadable"], member["value"]) for name, member in found["members"].items()} == {
        "current": ("N/A", None), "target": ("", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [["get", *PATIENT, "mag.none.x"], ["set", *PATIENT, "mag.none.x=1"], ["eval", *PATIENT, '"mag.none.x" > 1']],
)
def test_an_unusable_property_is_not_called_unknown(server: int, words: list[str]) -> None:
    done = tool(words[0], server, *words[1:])
    assert done.returncode in (1, 2) and not done.stdout
    assert (
        f"indifast {words[0]}: mag.none can't be used: a definition without members that have a name\n" in done.stderr
    )
    assert "no property" not in done.stderr


def test_an_operand_that_is_not_a_number_is_reported_once() -> None:
    update = '<setSwitchVector device="mag" name="F" state="{}"/>'
    updates = "".join(update.format(state) for state in ("Busy", "Ok", "Busy", "Ok"))
    with answering((FPS + NAMELESS + updates).encode()) as port:
        done = tool("eval", port, "-w", "-o", *LESS_PATIENT, '"mag.fps.current" > 1')
    assert (done.returncode, done.stdout) == (3, "mag.fps.current=nan\n")
    assert f"not true after {LESS_PATIENT[1]} s: mag.fps.current is nan" in done.stderr


def test_completion_prints_no_errors(server: int) -> None:
    done = tool("completion", None, "--line", f"indifast get -p {server} mag.")
    assert (done.stdout.split(), done.stderr) == (["mag.F.", "mag.fps."], "")


def test_a_server_with_only_unusable_definitions_is_not_called_empty() -> None:
    with answering(NONE.encode()) as port:
        done = tool("devices", port, *PATIENT)
    assert done.returncode == 3
    assert "no definition could be used within" in done.stderr
    assert "mag.none: a definition without members that have a name" in done.stderr


ODD = [
    ("nan", "%010.6m", "nan"), ("inf", "%d", "inf"), ("1.5", "%m", "1.5"), ("1.5", "%1$g", "1.5"),
    ("2.5", "%s %s", "2.5"), ("3.5", "%x", "3.5"), ("4.5", "%.0f%", "4.5"), ("5.5", "plain", "5.5"),
    ("12.99999", "%010.6m", "13:00:00"), ("0,5", "%5.2f", "0,5"), ("", "%g", ""), ("6.5", "%.99999f", "6.5"),
]  # fmt: skip
ODD_NUMBERS = "".join(
    f'<defNumber name="n{index}" format="{form}" min="0" max="{("abc", "1,5")[index % 2]}" step="0">{text}</defNumber>'
    for index, (text, form, _) in enumerate(ODD)
)


@pytest.mark.parametrize("words", [["get", "-l"], ["snap"]], ids=" ".join)
def test_a_number_that_its_format_cannot_show_is_shown_as_received(words: list[str]) -> None:
    """One odd format must not make the tool fail for everything on the server."""
    definition = f'<defNumberVector device="D" name="N" state="Ok" perm="rw">{ODD_NUMBERS}</defNumberVector>'
    with answering((definition + NAMELESS).encode()) as port:
        done = tool(words[0], port, *words[1:])
    assert done.returncode == 0 and "fault" not in done.stderr
    for index, (text, _, shown) in enumerate(ODD):
        found = re.search(rf"\bn{index}\b *(\S*)", done.stdout)
        assert found is not None and (not text or found[1] == shown)
    assert "fits" in done.stdout


def test_get_shows_the_text_that_was_received(server: int) -> None:
    current, target = tool("get", server, *PATIENT, "-l", "mag.fps").stdout.splitlines()
    assert re.fullmatch(r"mag\.fps\.current  N/A  DEFAULT GROUP / fps / current \[Idle, rw\]", current)
    assert re.fullmatch(r"mag\.fps\.target  +DEFAULT GROUP / fps / target \[Idle, rw\]", target)
