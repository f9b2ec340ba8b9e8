"""The package as a whole."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from Cython.Build.Dependencies import create_dependency_tree

import indifast
from indifast import codec

HOME = Path(__file__).resolve().parent.parent


def test_version_is_stated_once() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert indifast.version == project["version"]


def test_importing_the_package_loads_little() -> None:
    """Large modules are loaded when they are first used. So Ctrl-C as a command starts interrupts few imports."""
    program = "import sys; before = set(sys.modules); import indifast; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.check_output([sys.executable, "-S", "-E", "-c", program], text=True, cwd=HOME / "src").split()
    assert loaded == ["__future__", "indifast"]
    program = "import sys, indifast.client, indifast.driver, indifast.server; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=HOME / "src")


def test_the_extension_modules_import_only_each_other() -> None:
    """`make lint` checks the imports of all other modules."""
    program = "import sys, indifast._parser; print(*(name for name in sys.modules if name.startswith('indifast')))"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=HOME / "src").split()
    assert set(loaded) == {"indifast", "indifast._base64", "indifast._parser"}


def test_the_codec_has_a_public_module() -> None:
    """With the functions that docs/reference/bench.md shows."""
    raw = bytes(range(256)) * 33
    text = codec.encode(raw)
    assert text == base64.b64encode(raw)
    assert codec.encoded_length(len(raw)) == len(text)
    encoded, buffer = bytearray(len(text)), bytearray(len(raw))
    assert codec.encode_into(raw, encoded) == len(text)
    assert codec.decode_into(text, buffer) == len(raw)
    decoder = codec.Decoder()
    for at in range(0, len(text), 1000):
        decoder.feed(text[at : at + 1000])
    assert codec.decode(text) == decoder.finish() == buffer == raw
    assert encoded == text
    with pytest.raises(codec.Base64Error) as caught:
        codec.decode(b"QUJD?")
    assert caught.value.offset == 4
    before = codec.use_path("scalar")
    assert codec.use_path(before) == "scalar"
    assert before in codec.paths()


def test_the_source_distribution_is_complete(tmp_path: Path) -> None:
    """It has everything needed to build, test and check the project, and no generated files."""
    here = tmp_path / "tree"
    left_out = (".git", ".venv*", ".benchmarks", ".*_cache", "__pycache__", ".hypothesis", "build", "*.egg-info")
    shutil.copytree(HOME, here, ignore=shutil.ignore_patterns(*left_out))
    source = {  # of the copy, because other tests may create files in the original
        str(path.relative_to(here))
        for top in ("src", "tests", "benchmarks", "examples", "docs", ".ci")
        for path in (here / top).rglob("*")
        if path.is_file()
    }
    command = [sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('dist')"]
    subprocess.run(command, cwd=here, check=True, capture_output=True)
    (archive,) = (here / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    generated = {name for name in source if name.endswith(".so") or re.fullmatch(r"src/indifast/\w+\.c", name)}
    assert generated
    assert source - generated <= packed
    assert not generated & packed


def test_a_change_in_any_source_recompiles_the_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cython and `make` know all sources, including include files, declarations and headers."""
    monkeypatch.chdir(HOME)
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    package = Path("src/indifast")
    sources = {path for end in ("pyx", "pxd", "pxi") for path in package.rglob(f"*.{end}")}
    assert {path.suffix for path in sources} == {".pyx", ".pxd", ".pxi"}
    tree = create_dependency_tree(quiet=True)
    known = {Path(name) for module in package.glob("*.pyx") for name in tree.all_dependencies(str(module))}
    assert sources <= known
    for source in [*sources, *package.glob("csrc/*.h")]:
        command = ["make", "--dry-run", "--old-file", ".venv/.packages", "--what-if", str(source), "build"]
        assert "build_ext" in subprocess.check_output(command, text=True), source
