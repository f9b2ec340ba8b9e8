"""Properties of which something is missing or damaged: shown as far as they can be, and what cannot is said once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.tools.support import answering, tool

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


NO_NEWS = (  # as a simulator of libindi says it
    '<defSwitchVector device="" name="" state="Idle" perm="ro" rule="OneOfMany"/>'
    '<setNumberVector device="" name="" state="Ok"><oneNumber name="">1</oneNumber></setNumberVector>'
    '<setNumberVector device="mag" name="later" state="Ok"/><delProperty device="mag" name=""/>'
)


@pytest.fixture
def server() -> Iterator[int]:
    with answering((FPS + NAMELESS + NONE * 2 + NO_NEWS).encode()) as port:
        yield port


def test_what_can_be_taken_is_shown_and_the_rest_named(server: int) -> None:
    done = tool("get", server)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["mag.fps.current=N/A", "mag.fps.target=", "mag.F.fits=On"]
    assert done.stderr.splitlines() == [
        "indifast get: mag.fps: 'N/A' for current is not a number",
        "indifast get: mag.none: a definition without members that have a name",
    ]


def test_programs_see_the_text_that_was_received(server: int) -> None:
    members = json.loads(tool("get", server, "--json", "mag.fps").stdout)["mag"]["fps"]["members"]
    assert {name: (member["value"], member["floatvalue"]) for name, member in members.items()} == {
        "current": ("N/A", None), "target": ("", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    "words", [["get", "mag.none.x"], ["set", "-t", "1", "mag.none.x=1"], ["eval", "-t", "1", '"mag.none.x" > 1']]
)
def test_a_property_that_cannot_be_used_is_not_called_unknown(server: int, words: list[str]) -> None:
    done = tool(words[0], server, *words[1:])
    assert done.returncode in (1, 2) and not done.stdout
    assert (
        f"indifast {words[0]}: mag.none can't be used: a definition without members that have a name\n" in done.stderr
    )
    assert "no property" not in done.stderr


def test_an_operand_that_holds_no_number_is_told_once() -> None:
    update = '<setSwitchVector device="mag" name="F" state="{}"/>'
    news = "".join(update.format(state) for state in ("Busy", "Ok", "Busy", "Ok"))
    with answering((FPS + NAMELESS + news).encode()) as port:
        done = tool("eval", port, "-w", "-o", "-t", "1", '"mag.fps.current" > 1')
    assert (done.returncode, done.stdout) == (3, "mag.fps.current=nan\n")
    assert "not true after 1 s: mag.fps.current is nan" in done.stderr


def test_nothing_is_said_while_somebody_types(server: int) -> None:
    done = tool("completion", None, "--line", f"indifast get -p {server} mag.")
    assert (done.stdout.split(), done.stderr) == (["mag.F.", "mag.fps."], "")


def test_no_device_is_not_what_is_said_where_none_could_be_taken() -> None:
    with answering(NONE.encode()) as port:
        done = tool("devices", port, "-t", "0.5")
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
def test_what_a_format_cannot_show_is_shown_as_it_came(words: list[str]) -> None:
    """One odd format was a fault of the program, for everything on the server."""
    definition = f'<defNumberVector device="D" name="N" state="Ok" perm="rw">{ODD_NUMBERS}</defNumberVector>'
    with answering((definition + NAMELESS).encode()) as port:
        done = tool(words[0], port, *words[1:])
    assert done.returncode == 0 and "fault" not in done.stderr
    for index, (text, _, shown) in enumerate(ODD):
        found = re.search(rf"\bn{index}\b *(\S*)", done.stdout)
        assert found is not None and (not text or found[1] == shown)
    assert "fits" in done.stdout


def test_people_see_the_text_that_was_received(server: int) -> None:
    current, target = tool("get", server, "-l", "mag.fps").stdout.splitlines()
    assert re.fullmatch(r"mag\.fps\.current  N/A  DEFAULT GROUP / fps / current \[Idle, rw\]", current)
    assert re.fullmatch(r"mag\.fps\.target  +DEFAULT GROUP / fps / target \[Idle, rw\]", target)
