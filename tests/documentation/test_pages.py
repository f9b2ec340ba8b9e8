"""Every code block of the documentation works, unless it is marked as one that is not run (see blocks.py)."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import inspect
import json
import pkgutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import indifast
from tests.documentation.blocks import Block, alike, blocks_of, commands_of
from tests.documentation.machines import PYTHON, ROOT, Machine, machines

PAGES = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
MARKS = ("fragment", "interface", "system")
"""Words that keep a block from being run."""

TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def run(block: Block, machine: Machine) -> None:
    """Run a block as its words say. AssertionError: it does not do what the page says."""
    if block.has("restart"):
        machine.stop()
    if block.has("file"):
        machine.save(block.words["file"], block.text)
        return
    if block.has("terminal"):
        machine.in_terminal(block.text.strip(), block.words["terminal"], block.where)
        return
    program = f"line-{block.line}.py"
    if block.language == "python":
        machine.save(program, block.text)
    if block.has("background"):
        *before, last = block.text.strip().replace("\\\n", " ").split("\n")
        lines = "\n".join(["set -e", *before, f"exec {last}"])  # so that Ctrl-C is for the program alone
        command = [PYTHON, program] if block.language == "python" else ["bash", "-c", lines]
        running = machine.start(command, block.where)
        machine.wait_for(running, int(block.words["port"]) if block.has("port") else None)
        return
    expected = int(block.words.get("status", 0))
    if block.language == "console":
        for command in commands_of(block):
            status, printed = machine.shell(command.line)
            assert status == expected, f"{block.where}: {command.line}: exit status {status}\n{printed}"
            assert alike(command.output, printed), f"{block.where}: {command.line}: has printed\n{printed}"
        return
    status, printed = machine.shell(f"{PYTHON} {program}" if block.language == "python" else block.text)
    assert status == expected, f"{block.where}: exit status {status}\n{printed}"


@functools.cache
def defined() -> dict[str, list[Any]]:
    """Return all classes and functions that the modules of the package define, by name."""
    found: dict[str, list[Any]] = {}
    modules = pkgutil.walk_packages(indifast.__path__, "indifast.")
    for module in [importlib.import_module(each.name) for each in modules if "__main__" not in each.name]:
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", "").startswith("indifast"):
                found.setdefault(name, []).append(value)
    return found


def compare(block: Block) -> None:
    """Compare declarations of classes and functions with the source. AssertionError: they differ."""
    for node in ast.parse(block.text).body:
        assert isinstance(node, ast.ClassDef | ast.FunctionDef), f"{block.where}: not a class or a function"
        found = defined().get(node.name, [])
        assert any(like(node, each) for each in found), f"{block.where}: {node.name} differs from the source: {found}"


def like(node: ast.stmt, value: Any) -> bool:
    """Return whether a class has the declared methods, and a function the declared arguments."""
    if isinstance(node, ast.ClassDef):
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        return all(like(each, getattr(value, each.name, None)) for each in methods)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    try:
        parameters = [each for each in inspect.signature(value).parameters if each not in ("self", "cls")]
    except (ValueError, TypeError):  # compiled functions may have none
        return callable(value)
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    written = [each.arg for each in arguments if each.arg not in ("self", "cls")]
    return parameters in (written, ["args", "kwargs"])


def check(block: Block) -> None:
    """Check a block without running it. Raises AssertionError or the error of its parser."""
    if block.language == "python":
        compile(block.text, block.where, "exec", flags=TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        if block.has("interface"):
            compare(block)
    elif block.language == "sh":
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        assert done.returncode == 0, f"{block.where}: {done.stderr}"
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "ini":
        configparser.ConfigParser(strict=False).read_string(block.text)


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page, ROOT)
    for block in blocks:
        check(block)
    saved = [block.words["file"] for block in blocks if block.has("file")]
    for name in saved:
        assert sum(name.removesuffix(".py") in block.text for block in blocks) > 0, f"{page}: nothing uses {name}"
    with machines(tmp_path) as all_machines:
        for block in blocks:
            runs = block.language in ("python", "sh", "console") and not any(map(block.has, MARKS))
            if runs or block.has("file"):
                run(block, all_machines[block.host])
        for machine in all_machines.values():
            machine.stop()


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("AIR=12.3 Ok\n", "AIR=-7   Ok\n", True),
        ("AIR=12.3 Ok\n", "AIR=12.3 Busy\n", False),
        ("one\n…\nlast\n", "one\ntwo\nthree\nlast\n", True),
        ("one\n…\nlast\n", "one\ntwo\n", False),
        ("", "", True),
        ("", "an error\n", False),
    ],
)
def test_what_is_printed_is_compared(expected: str, printed: str, same: bool) -> None:
    assert alike(expected, printed) is same


@pytest.mark.parametrize("info", ["", "pyton", "python runs", "sh port"])
def test_a_block_without_a_known_mark_is_an_error(info: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n```{info}\nx\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:3"):
        blocks_of(page, tmp_path)
