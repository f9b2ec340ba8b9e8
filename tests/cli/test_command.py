"""The command `indifast`: help, version, mistakes, and outputs that cannot be written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import indifast
from indifast.cli import COMMANDS
from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*arguments, PYTHONWARNINGS="error")


def test_help_names_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_without_a_command_the_help_is_shown_and_the_status_is_2() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: indifast COMMAND" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command(command: str) -> None:
    """It has examples, in which no shell finds a pattern of file names. `-h` does not show it."""
    shown = run(command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run("help", command).stdout == shown.stdout
    assert run(command, "-h").returncode == 2
    examples = shown.stdout.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    for example in examples:
        bare = re.sub("'[^']*'" + r'|"[^"]*"', "QUOTED", example)
        assert not set("*?[]") & set(bare), example
        assert f"indifast {command}" in bare


def test_help_of_a_command_that_does_not_exist() -> None:
    assert run("help").stdout == run("--help").stdout
    for done in (run("help", "wach"), run("wach")):
        assert (done.returncode, done.stderr) == (2, "indifast: there is no command 'wach': did you mean watch?\n")


@pytest.mark.parametrize("word", ["-h", "-hdome", "--host=dome", "-x"])
def test_an_option_before_the_command(word: str) -> None:
    done = run(word)
    assert (done.returncode, done.stdout) == (2, "")
    assert ("-h names the server" if word != "-x" else "there is no option -x") in done.stderr
    assert done.stderr.count("\n") == 1


def test_version() -> None:
    assert run("--version").stdout.strip() == f"indifast {indifast.version}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dmeo"], "no command 'dmeo'"),
        (["demo", "--size", "big"], "'big' is not WIDTHxHEIGHT"),
        (["demo", "--size", "8x8"], "'8x8' is not between 16x16 and 16384x16384"),
        (["demo", "--size", "1x²"], "is not WIDTHxHEIGHT"),
        (["demo", "--seconds", "soon"], "'soon' is not a number from 0.1 to 86400"),
        (["demo", "--seconds", "nan"], "'nan' is not a number"),
        (["demo", "--clients", "0"], "'0' is not a whole number from 1 to 100"),
        (["demo", "--clients", "1.5"], "'1.5' is not a whole number"),
        (["demo", "--frames", "3"], "--frames"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--size", "64x48", "--seconds", "0.2"]])
def test_an_output_that_cannot_be_written_is_reported_in_one_sentence(
    arguments: list[str], unbuffered: str, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        done = commands.run(*arguments, stdout=full, cwd=tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr == "indifast: the output cannot be written: No space left on device\n"


def test_a_command_works_without_an_output(tmp_path: Path) -> None:
    command = f"'{PYTHON}' -m indifast demo --size 64x48 --seconds 0.2 >&- 2>errors"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, timeout=LIMIT)
    assert done.returncode == 0
    assert (tmp_path / "errors").read_text() == ""
    assert (tmp_path / "demo-frame.fits").exists()


INTERRUPTED_AT_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.write(1, b"imported ")
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell ignore it
sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = {arguments!r}
import runpy
runpy.run_module("indifast", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("module", ["indifast.cli", "indifast.cli.main", "indifast.cli.{}", "argparse", "asyncio"])
def test_ctrl_c_while_modules_are_imported_is_silent(command: str, module: str) -> None:
    code = INTERRUPTED_AT_IMPORT.format(module=module.format(COMMANDS[command][0]), arguments=[command, "--help"])
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT)
    interrupted = "imported" in done.stdout
    assert done.returncode == (130 if interrupted else 0)
    assert done.stderr == ""
    assert interrupted or not module.startswith("indifast")  # other modules are not needed by every command
