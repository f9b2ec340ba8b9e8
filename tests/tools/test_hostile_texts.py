"""Names, labels, values and messages that would control a terminal, or that it cannot show."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.tools.support import PATIENT, answering, tool

HOSTILE = (
    '<defTextVector device="Mo\u00fcnt&#155;2J" name="T" label="l&#155;31m&#x202e;" group="g&#155;0m" state="Ok"'
    ' perm="rw" message="m&#155;1m&#10;Mount.T.A=forged"><defText name="A" label="b&#127;">x&#155;2J&#10;y</defText>'
    "</defTextVector>"
    '<defTextVector device="Camera&#x202e;gnp" name="&#x200b;T" group="&#x2066;" state="Ok" perm="ro">'
    '<defText name="&#xfeff;A">&#xe0041;</defText></defTextVector>'
).encode()


@pytest.fixture
def server() -> Iterator[int]:
    with answering(HOSTILE) as port:
        yield port


@pytest.mark.parametrize(
    "words",
    [
        ["get"], ["get", "-l"], ["get", "--json"], ["get", "Mo\u00fcnt\x9b2J.T.*"],
        ["get", "-1", "Mo\u00fcnt\x9b2J.T.A"],
        ["devices"], ["devices", "--json"], ["snap"], ["snap", "--json"], ["watch", "--definitions", "--count", "1"],
        ["watch", "--json", "--definitions", "--count", "1"], ["set", *PATIENT, "Mo\u00fcnt\x9b2J.T.B=1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_output_controls_the_terminal(server: int, words: list[str]) -> None:
    done = tool(words[0], server, *words[1:])
    shown = done.stdout + done.stderr
    assert "Mo\u00fcnt" in shown or "x\\x9b2J" in shown
    assert [each for each in shown if not each.isprintable() and each != "\n"] == []


def test_json_keeps_the_names_unchanged(server: int) -> None:
    assert list(json.loads(tool("get", server, "--json").stdout)["devices"]) == ["Mo\u00fcnt\x9b2J", "Camera\u202egnp"]


def test_names_that_would_control_the_terminal_are_not_completed(server: int) -> None:
    done = tool("completion", None, "--line", f"indifast get -p {server} ")
    assert (done.stdout, done.stderr) == ("", "")
    done = tool("completion", None, "--line", f"indifast get -p {server} 'Camera\u202egnp.")
    assert (done.stdout, done.stderr) == ("", "")


def test_watch_prints_one_line_for_each_change(server: int) -> None:
    lines = tool("watch", server, "--definitions", "--count", 2).stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "Mo\u00fcnt\\x9b2J.T.A=x\\x9b2J\\x0ay [Ok]", "Mo\u00fcnt\\x9b2J.T: m\\x9b1m\\x0aMount.T.A=forged"
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["get", "devices", "snap"])
def test_a_terminal_without_these_letters(server: int, command: str) -> None:
    done = tool(command, server, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Mo\\xfcnt" in done.stdout
