"""The address of the repository is the one in pyproject.toml, and links to files in it are valid."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

READ_ELSEWHERE = ("README.md", "SECURITY.md")
"""Pages that are shown by a package index or other sites, so that their links must be absolute."""

_ADDRESS_OF_OURS = re.compile(r"https?://[^\s)\"'`>|]*/indifast\b[^\s)\"'`>|]*")
_TARGET = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.md")]
    return [*found, *(ROOT / ".github").rglob("*.yml"), *(ROOT / "src").rglob("*.py"), *(ROOT / "examples").rglob("*")]


def test_there_is_no_other_address() -> None:
    others = {
        (str(path.relative_to(ROOT)), address)
        for path in pages()
        if path.is_file()
        for address in _ADDRESS_OF_OURS.findall(path.read_text(errors="replace"))
        if not re.fullmatch(re.escape(ADDRESS) + r"(\.git)?(/.*)?", address.rstrip(".,;"))
    }
    assert not others


@pytest.mark.parametrize("name", READ_ELSEWHERE)
def test_links_that_are_read_elsewhere_are_absolute_and_lead_to_files(name: str) -> None:
    for target in _TARGET.findall((ROOT / name).read_text()):
        assert target.startswith(("https://", "#")), target
        if target.startswith(ADDRESS + "/"):
            found = re.fullmatch(r"/(?:blob|tree|raw)/main/([^#]+)(?:#.*)?", target.removeprefix(ADDRESS))
            assert found is not None, target
            assert (ROOT / found[1]).exists(), target


def test_a_new_address_is_written_everywhere(tmp_path: Path) -> None:
    """In a small repository, since the address of this one must not change."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "address.py", tmp_path / "docs")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://old.example/x"\n')
    (tmp_path / "README.md").write_text("[a](https://old.example/x/blob/main/a.md)\n")
    (tmp_path / "picture.png").write_bytes(b"\0https://old.example/x")
    for words in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(words, cwd=tmp_path, check=True)
    command = [sys.executable, "docs/address.py", "https://new.example/y/"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "README.md").read_text() == "[a](https://new.example/y/blob/main/a.md)\n"
    assert 'Repository = "https://new.example/y"' in (tmp_path / "pyproject.toml").read_text()
    assert (tmp_path / "picture.png").read_bytes() == b"\0https://old.example/x"
