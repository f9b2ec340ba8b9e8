"""`indifast-server` as pip installs it from one wheel into environments of all kinds."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from indifast import _parser
from tests.serve.front_support import HOME
from tests.serve.support import Client, connect
from tests.support.blackbox import LIMIT, free_port

INSTALL = ["install", "--quiet", "--no-compile", "--no-deps", "--no-index", "--disable-pip-version-check"]
NATIVE = sys.platform == "linux"


def quietly(*command: object, **keywords) -> str:
    """Run a program. Its output is shown only if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(python: object, *words: object, **keywords) -> None:
    quietly(sys.executable, "-m", "pip", "--python", python, *words, **keywords)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of this tree, with the extension modules that exist: building them would take half a minute."""
    folder = tmp_path_factory.getbasetemp()
    if run := os.environ.get("PYTEST_XDIST_TESTRUNUID"):  # all workers share one wheel
        folder = folder.parent / run
    folder = folder / "wheel"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            package = folder / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "indifast"
            package.mkdir(parents=True)
            for path in Path(_parser.__file__).parent.glob("*.so"):
                shutil.copy(path, package)
            setup = ["setup.py", "--quiet", "egg_info", "--egg-base", folder, "build", "--build-base", folder]
            quietly(
                sys.executable, *setup, "bdist_wheel", "--dist-dir", folder, "--bdist-dir", folder / "dist", cwd=HOME
            )
    (path,) = folder.glob("*.whl")
    return path


@dataclass
class Installed:
    """An installation: the program, its interpreter, and the folder of its package."""

    program: Path
    python: Path
    package: Path
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture(params=["venv", "with blanks", "far" * 40, "user", "prefix", "editable"])
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Installed:
    kind = request.param
    folder = tmp_path / kind
    program = folder / "bin" / "indifast-server"
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    if kind == "user":
        variables = {"PYTHONUSERBASE": str(folder)}
        pip(base, *INSTALL, "--user", "--break-system-packages", wheel, env=os.environ | variables)
        return Installed(program, base, folder, variables)
    if kind == "prefix":
        pip(base, *INSTALL, "--prefix", folder, "--ignore-installed", "--break-system-packages", wheel)
        (package,) = {path.parent for path in folder.rglob("indifast") if path.is_dir()}
        (program,) = folder.rglob("indifast-server")  # Debian's pip puts everything in the folder "local" of the prefix
        return Installed(program, base, folder, {"PYTHONPATH": str(package)})
    python = folder / "bin" / "python"
    quietly(sys.executable, "-m", "venv", "--without-pip", folder)
    tree = tmp_path / "tree"
    if kind == "editable":
        shutil.copytree(HOME / "src", tree / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
            shutil.copy(HOME / name, tree)
        for path in Path(_parser.__file__).parent.glob("*.so"):  # a tree without them may be tested with a wheel
            shutil.copy(path, tree / "src" / "indifast")
        code = "from setuptools.build_meta import build_editable; build_editable(__import__('sys').argv[1])"
        quietly(sys.executable, "-c", code, tmp_path, cwd=tree, env={**os.environ, "INDIFAST_EXTENSIONS": "later"})
        (wheel,) = tmp_path.glob("*.whl")
    pip(python, *INSTALL, wheel)
    return Installed(program, python, tree / "src" if kind == "editable" else folder)


def test_it_listens_at_once_and_finds_its_package(installed: Installed, tmp_path: Path) -> None:
    link = tmp_path / "indiserver"
    link.symlink_to(installed.program)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "indifast.py").write_text("raise ImportError('from the current folder')\n")
    if NATIVE:
        assert installed.program.read_bytes().startswith(b"\x7fELF")
    assert os.access(installed.program, os.X_OK)

    port = free_port()
    words = [str(link), "-v", "-p", str(port), "-u", str(tmp_path / "local"), "cat"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | installed.environment
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(words, env=variables, cwd=elsewhere, stderr=file)
    try:
        client = Client(connect(port, server)).say("<pingRequest uid='here'/>")
        assert client.get("pingReply")
        client.close()
        process = psutil.Process(server.pid)
        python, *rest = process.cmdline()
        assert rest == words
        if installed.python.parent == installed.program.parent:
            assert Path(python).parent == installed.python.parent
        assert os.path.samefile(python, installed.python)
        assert process.name() == "indiserver"
        (module,) = {Path(found.path) for found in process.memory_maps() if "/_parser." in found.path}
        assert module.is_relative_to(installed.package)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(LIMIT) == 0, log.read_text()
    if installed.python.parent == installed.program.parent:
        pip(installed.python, "uninstall", "--quiet", "--yes", "indifast")
        assert list(installed.program.parent.glob("indifast*")) == []
