"""Completion with TAB: in a real bash, and the command behind it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest

from indifast.cli import COMMANDS
from indifast.cli.tools.completion import candidates, split_line
from tests.support.blackbox import LIMIT, free_port, python_environment
from tests.tools.support import CAMERA, MOUNT, tool


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", [""]),
        ("a b", ["a", "b"]),
        ("a ", ["a", ""]),
        ('a "b c', ["a", "b c"]),
        ("a b\\ c", ["a", "b c"]),
        ("a 'b \"c", ["a", 'b "c']),
        ("a ''", ["a", ""]),
        ('a "b\\"c"', ["a", 'b"c']),
    ],
)
def test_a_line_is_split_into_words(line: str, words: list[str]) -> None:
    assert split_line(line) == words


def test_commands_and_options_are_completed() -> None:
    assert candidates("indifast ") == sorted(COMMANDS)
    assert candidates("indifast de") == ["demo", "devices"]
    assert candidates("'indifast' 'dev'") == ["devices"]  # as the script for zsh puts it
    assert candidates("indifast completion ") == ["bash", "zsh"]
    assert candidates("indifast get --w") == ["--wait"]
    assert candidates("indifast serve --tls-") == ["--tls-ca", "--tls-cert", "--tls-key"]
    assert candidates("indifast nonsense -") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_options_and_help(name: str) -> None:
    assert "--help" in candidates(f"indifast {name} -")
    done = tool(name, None, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 150


def test_names_are_completed(server: int) -> None:
    get = f"indifast get -p {server}"
    assert candidates(f"{get} ") == [f"{CAMERA}.", f"{MOUNT}."]
    assert candidates(f'{get} "{CAMERA}.CCD_TEMP') == [f"{CAMERA}.CCD_TEMPERATURE.", f"{CAMERA}.CCD_TEMP_RAMP."]
    assert candidates(f"{get} CCD\\ Simulator.CONNECT") == [
        f"{CAMERA}.CONNECTION.CONNECT",
        f"{CAMERA}.CONNECTION.DISCONNECT",
    ]
    assert candidates(f'indifast set -p {server} "{CAMERA}.CONNECTION.C') == [f"{CAMERA}.CONNECTION.CONNECT="]
    assert candidates(f"indifast expose -h localhost:{server} ") == [CAMERA, MOUNT]
    assert candidates(f"{get} -t ") == []


def test_without_a_server_nothing_is_offered_or_printed() -> None:
    done = tool("completion", None, f"--line=indifast get -p {free_port()} C")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert candidates("indifast get -p nonsense C") == []
    assert tool("completion", None).returncode == 2
    assert tool("completion", None, "fish").returncode == 2


@pytest.fixture
def bash(tmp_path: Path) -> pexpect.spawn:
    """An interactive bash that has loaded the script."""
    command = tmp_path / "indifast"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m indifast "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, **python_environment(PS1="$ ", TERM="dumb", PATH=f"{tmp_path}:{os.environ['PATH']}")}
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], env=environment, encoding="utf-8", timeout=LIMIT, dimensions=(24, 300)
    )
    shell.sendline("source <(indifast completion bash); bind 'set bell-style none'; echo rea''dy")
    shell.expect("ready\r\n")
    yield shell
    shell.close(force=True)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("indifast dev\t", "indifast devices "),
        ("indifast watch --def\t", "indifast watch --definitions"),
        ('indifast get -p PORT "CCD Simulator.CONNECTION.C\t', '"CCD Simulator.CONNECTION.CONNECT"'),
        ("indifast get -p PORT CCD\\ Simulator.CONNECTION.C\t", r"CCD\ Simulator.CONNECTION.CONNECT"),
        ("indifast expose -p PORT C\t", r"expose -p PORT CCD\ Simulator"),
        ("indifast get -h localhost:PORT Tel\t", r"Telescope\ Simulator."),
    ],
)
def test_a_real_bash(server: int, bash: pexpect.spawn, typed: str, completed: str) -> None:
    bash.send(typed.replace("PORT", str(server)))
    bash.expect_exact(completed.replace("PORT", str(server)))
