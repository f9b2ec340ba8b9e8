"""Only one module writes XML: no other one escapes text for it, or contains pieces of elements."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import indifast

PACKAGE = Path(indifast.__file__).parent
WRITER = PACKAGE / "protocol" / "wire.py"
MEASURING_PEER = PACKAGE / "cli" / "bench" / "wire.py"  # see its docstring
ESCAPING = {"escape_attr", "escape_text"}
PIECE = re.compile(r"</|\s/>|<(?:def|set|new|one|message|getP|delP|enableB|ping)")


def pieces(source: str) -> Iterator[str]:
    """Find what is or makes a piece of XML in a module, except in docstrings."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in ESCAPING)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in prose:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if PIECE.search(text):
                yield text


@pytest.mark.parametrize(
    "source",
    [
        "from indifast._parser import escape_attr",
        'start = f"<one{kind} name={name}"',
        "end = b'</oneBLOB>'",
        "write(f'{start} />')",
    ],
)
def test_another_writer_would_be_found(source: str) -> None:
    assert list(pieces(source))


def test_nothing_else_writes_xml() -> None:
    assert list(pieces(WRITER.read_text()))
    others = sorted(set(PACKAGE.rglob("*.py")) - {WRITER, MEASURING_PEER})
    assert len(others) > 100
    found = {str(path.relative_to(PACKAGE)): list(pieces(path.read_text())) for path in others}
    assert {path: texts for path, texts in found.items() if texts} == {}
