"""The package as a whole."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from Cython.Build.Dependencies import create_dependency_tree

import indifast
from indifast import _base64, _parser, codec
from indifast.cli.serve.options import parse_arguments

HOME = Path(__file__).resolve().parent.parent
INSTALLED = Path(indifast.__file__).resolve().parents[1]


def test_version_is_stated_once() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert indifast.version == project["version"]


def test_importing_the_package_loads_little() -> None:
    """Large modules are loaded when they are first used. So Ctrl-C as a command starts interrupts few imports."""
    program = "import sys; before = set(sys.modules); import indifast; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.check_output([sys.executable, "-S", "-E", "-c", program], text=True, cwd=INSTALLED).split()
    assert loaded == ["__future__", "indifast"]
    program = "import sys, indifast.client, indifast.driver, indifast.server; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=INSTALLED)


def test_the_extension_modules_import_only_each_other() -> None:
    """`make lint` checks the imports of all other modules."""
    program = "import sys, indifast._parser; print(*(name for name in sys.modules if name.startswith('indifast')))"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=INSTALLED).split()
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
    for name in ("_parser.c", "_parser.cpython-311-x86_64-linux-gnu.so"):  # they are absent if a wheel is installed
        (here / "src" / "indifast" / name).touch()
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


def test_a_wheel_holds_what_is_needed_to_run(tmp_path: Path) -> None:
    """Nothing of what the compiled parts are made of, and nothing of the tests."""
    here = tmp_path / "tree"
    shutil.copytree(HOME / "src", here / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(HOME / name, here)
    command = [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')"]
    environment = os.environ | {"INDIFAST_EXTENSIONS": "later"}  # compiling them takes a minute
    subprocess.run(command, cwd=here, check=True, capture_output=True, env=environment)
    (wheel,) = (here / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        packed = set(opened.namelist())
        (metadata,) = (opened.read(name).decode() for name in packed if name.endswith(".dist-info/METADATA"))
    wanted = {
        str(path.relative_to(here / "src"))
        for path in (here / "src" / "indifast").rglob("*")
        if path.suffix in (".py", ".pyi", ".tcss", ".json", ".html", ".js", ".css", ".svg") or path.name == "py.typed"
    }
    assert {name for name in packed if name.startswith("indifast/")} == wanted
    others = {re.sub(r"^indifast-[^/]*\.(dist-info|data)/", r"\1/", name) for name in packed - wanted}
    records = {f"dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")}
    assert others == records | {"dist-info/licenses/LICENSE", "data/scripts/indifast-server"}
    for field in ("Author: the indifast developers", "Keywords: INDI,", "Classifier: Development Status :: "):
        assert f"\n{field}" in metadata


def test_the_image_starts_the_command() -> None:
    """What docker would do at its end; docker itself is not run by any test."""
    lines = (HOME / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    for sources in (words.split()[:-1] for name, words in instructions if name == "COPY"):
        assert all((HOME / source).exists() for source in sources)
    (entry,) = (json.loads(words) for name, words in instructions if name == "ENTRYPOINT")
    assert entry[:2] == ["indifast", "serve"]
    options = parse_arguments([*entry[2:], "indi_simulator_ccd"])
    assert (options.host, options.abstract) == ("0.0.0.0", False)
    last = [name for name, _ in instructions][-1 - instructions[::-1].index(("USER", "7624")) :]
    assert "RUN" not in last, "what runs is done as root before"


def test_building_on_windows_ends_with_a_sentence() -> None:
    program = "import runpy, sys; sys.platform = 'win32'; runpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("indifast runs on Linux and macOS, not on Windows: ")


@pytest.mark.skipif("-g" in os.environ.get("CFLAGS", ""), reason="built with debug information")
@pytest.mark.parametrize("module", [_base64, _parser])
def test_the_extension_modules_have_no_debug_information(module: ModuleType) -> None:
    """It would be four fifths of them."""
    assert module.__file__ is not None
    assert b".debug_info" not in Path(module.__file__).read_bytes()


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
