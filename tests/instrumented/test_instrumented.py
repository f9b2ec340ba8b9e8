"""The runs with instruments: what they leave out, and how they judge what was reached. `make` runs them."""

from __future__ import annotations

import ast
import contextlib
import sqlite3
import tomllib
from pathlib import Path

import pytest

from instrumented import table, tree
from instrumented.plugin import LIST, is_part
from instrumented.table import Limits, Reached
from instrumented.tree import ROOT

LEFT_OUT = [(kind, name) for kind, names in tomllib.loads(LIST.read_text()).items() for name in names]


def names_in(path: Path) -> set[str]:
    """Return the names of the tests of a module."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if hasattr(inner, "name")}
    return found


@pytest.mark.parametrize(("kind", "name"), LEFT_OUT)
def test_what_is_left_out_exists(kind: str, name: str) -> None:
    module, _, test = name.partition("::")
    assert (ROOT / module).exists()
    assert not test or test.partition("[")[0] in names_in(ROOT / module)


@pytest.mark.parametrize(
    ("test", "of", "expected"),
    [
        ("tests/a.py::test_b", "tests/a.py::test_b", True),
        ("tests/a.py::test_b[1]", "tests/a.py::test_b", True),
        ("tests/a.py::test_b@group", "tests/a.py::test_b", True),
        ("tests/a.py::test_b", "tests/a.py", True),
        ("tests/c/a.py::test_b", "tests/c", True),
        ("tests/a.py::test_bc", "tests/a.py::test_b", False),
        ("tests/cd/a.py::test_b", "tests/c", False),
    ],
)
def test_a_name_stands_for_all_tests_under_it(test: str, of: str, expected: bool) -> None:
    assert is_part(test, of) is expected


LIMITS = Limits(
    {"src/a/": 95, "src/a/fast/": 80}, {"src/a/odd.py": {"percent": 50, "reason": "needs a machine that is rare"}}
)


WHOLE = """
create table file (id integer primary key, path text);
create table tracer (file_id integer primary key, tracer text);
insert into file values (1, 'a/b.py'), (2, 'a/c.pyx'), (3, 'a/d.pxi');
insert into tracer values (2, 'cython_lines.Plugin'), (3, 'cython_lines.Plugin');
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WHOLE, True),
        (WHOLE + "delete from tracer where file_id = 3", False),
        (WHOLE + "drop table tracer", False),
        ("", False),
    ],
)
def test_what_a_killed_process_has_left_is_found(tmp_path: Path, content: str, expected: bool) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "data")) as data:
        data.executescript(content)
    assert table.is_whole(tmp_path / "data") is expected


def test_what_is_no_database_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(range(256)) * 100)
    assert not table.is_whole(tmp_path / "data")


def test_files_below_their_limit_are_named() -> None:
    files = {
        "src/a/good.py": Reached(90, 90, 9, 10),  # 99 %
        "src/a/bad.py": Reached(90, 90, 0, 10, ["3→5"]),  # 90 %, because of its branches
        "src/a/fast/good.pyx": Reached(80, 100),
        "src/a/fast/bad.pyx": Reached(79, 100, missing=["1-21"]),
        "src/a/odd.py": Reached(50, 100),
        "src/a/nothing.py": Reached(),
        "src/b/free.py": Reached(0, 100),
    }
    bad, fast = table.check(files, LIMITS)
    assert bad == "src/a/bad.py: 90.0 % is reached, less than 95 %; missing: 3→5"
    assert fast == "src/a/fast/bad.pyx: 79.0 % is reached, less than 80 %; missing: 1-21"


def test_a_limit_without_a_file_is_named() -> None:
    assert table.check({"src/a/fast/x.pyx": Reached(1, 1)}, LIMITS) == ["limits.toml: no file is named src/a/odd.py"]


def test_the_table_adds_up_each_folder() -> None:
    files = {"src/a/x.py": Reached(3, 4, 1, 2), "src/a/y.py": Reached(5, 6), "src/b/z.py": Reached(1, 1)}
    lines = [line.split() for line in table.rows(files)]
    assert lines[1:4] == [["x.py", "3/4", "1/2", "66.7"], ["y.py", "5/6", "83.3"], ["src/a", "8/10", "1/2", "75.0"]]
    assert lines[4:] == [["z.py", "1/1", "100.0"], ["src/b", "1/1", "100.0"]]


def test_a_run_can_add_to_what_earlier_ones_have_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    measured = table.Measured(tree.Tree("coverage"))
    kept = Path(measured.start(False)["COVERAGE_FILE"])
    kept.touch()
    measured.start(True)
    assert kept.exists()
    measured.start(False)
    assert not kept.exists()


def test_the_limits_are_readable() -> None:
    limits = Limits.read(table.LIMITS)
    assert limits.of("src/indifast/routing/router.py") == 95
    assert limits.of("src/indifast/parser/content.pxi") == 90
    assert limits.of("src/indifast/cli/main.py") == 0
    assert all(entry["reason"] for entry in limits.lower.values())


def test_numbers_are_printed_as_spans() -> None:
    assert table.spans([7, 1, 2, 3, 9, 8]) == ["1-3", "7-9"]
    assert table.spans([5]) == ["5"]
