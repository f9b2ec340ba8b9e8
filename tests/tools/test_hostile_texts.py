"""Names, labels, values and messages that would command a terminal, or that it cannot show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.blackbox import python_environment
from tests.tools.support import answering, tool

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
        ["watch", "--json", "--definitions", "--count", "1"], ["set", "-t", "1", "Mo\u00fcnt\x9b2J.T.B=1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_commands_the_terminal(server: int, words: list[str]) -> None:
    done = tool(words[0], server, *words[1:])
    shown = done.stdout + done.stderr
    assert "Mo\u00fcnt" in shown or "x\\x9b2J" in shown
    assert [each for each in shown if not each.isprintable() and each != "\n"] == []


def test_json_keeps_what_it_is(server: int) -> None:
    assert list(json.loads(tool("get", server, "--json").stdout)) == ["Mo\u00fcnt\x9b2J", "Camera\u202egnp"]


def test_no_name_that_commands_the_terminal_is_offered_to_a_shell(server: int) -> None:
    done = tool("completion", None, "--line", f"indifast get -p {server} ")
    assert (done.stdout, done.stderr) == ("", "")
    done = tool("completion", None, "--line", f"indifast get -p {server} 'Camera\u202egnp.")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_line_of_watch_is_one_line(server: int) -> None:
    lines = tool("watch", server, "--definitions", "--count", 2).stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "Mo\u00fcnt\\x9b2J.T.A=x\\x9b2J\\x0ay [Ok]", "Mo\u00fcnt\\x9b2J.T: m\\x9b1m\\x0aMount.T.A=forged"
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["get", "devices", "snap"])
def test_a_terminal_that_has_not_the_letters(server: int, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "indifast", command, "-p", str(server)],
        capture_output=True, timeout=60, env={**os.environ, **python_environment(), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Mo\\xfcnt" in done.stdout
