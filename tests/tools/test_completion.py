"""Completion with TAB: in a real bash, and the command behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from indifast.cli import COMMANDS
from indifast.cli.tools.completion import candidates, split_line
from tests.support.blackbox import LIMIT, free_port, python_environment
from tests.support.terminals import end
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
    assert candidates("indifast completion ") == ["bash", "fish", "zsh"]
    assert candidates("indifast help dev") == ["devices"]
    assert candidates("indifast term --log-level ") == ["debug", "error", "info", "warning"]
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
    assert candidates(f"{get} -t 4 --timeout 3 ") == [f"{CAMERA}.", f"{MOUNT}."]
    assert candidates(f"indifast record localhost:{server} --device C") == [CAMERA]
    assert candidates(f"indifast expose -p {server} X 1 ") == []
    assert candidates(f"indifast devices -p {server} ") == []


def test_without_a_server_nothing_is_offered_or_printed() -> None:
    done = tool("completion", None, f"--line=indifast get -p {free_port()} C")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert candidates("indifast get -p nonsense C") == []
    assert tool("completion", None).returncode == 2
    assert tool("completion", None, "tcsh").returncode == 2


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a shell finds the command `indifast`."""
    command = tmp_path / "indifast"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m indifast "$@"\n')
    command.chmod(0o755)
    return {**os.environ, **python_environment(PS1="$ ", TERM="dumb", PATH=f"{tmp_path}:{os.environ['PATH']}")}


@pytest.fixture
def bash(environment: dict[str, str]) -> Iterator[pexpect.spawn]:
    """An interactive bash that has loaded the script."""
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], env=environment, encoding="utf-8", timeout=LIMIT, dimensions=(24, 300)
    )
    shell.sendline("source <(indifast completion bash); bind 'set bell-style none'; echo rea''dy")
    shell.expect("ready\r\n")
    yield shell
    end(shell)


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


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("indifast dev", ["devices"]),
        ("indifast watch --def", ["--definitions"]),
        ('indifast get -p PORT "CCD Simulator.CONNECTION.C', [f"{CAMERA}.CONNECTION.CONNECT"]),
        ("indifast get -h localhost:PORT CCD\\ Simulator.CONNECTION.C", [f"{CAMERA}.CONNECTION.CONNECT"]),
        ("indifast set -p PORT 'CCD Simulator.CONNECTION.C", [f"{CAMERA}.CONNECTION.CONNECT="]),
        ("indifast expose -p PORT ", [CAMERA, MOUNT]),
        ("indifast replay nig", ["night.indi"]),
    ],
)
def test_a_real_fish(server: int, environment: dict[str, str], tmp_path: Path, typed: str, offered: list[str]) -> None:
    (tmp_path / "night.indi").touch()
    script = "indifast completion fish | source; complete --do-complete $argv[1]"
    words = ["fish", "--no-config", "-c", script, typed.replace("PORT", str(server))]
    done = subprocess.run(
        words, env={**environment, "HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.stdout.splitlines(), done.stderr) == (offered, "")
