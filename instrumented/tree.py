"""Copies of the repository whose compiled parts are built with an instrument."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).resolve().parent
ROOT = HOME.parent

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", ".git", ".hypothesis", ".venv*", ".*_cache")
_COVERAGE = (
    """import os; exec("if 'COVERAGE_PROCESS_START' in os.environ: import coverage; coverage.process_startup()")"""
)
"""A line that measures every process which starts in such an environment."""

_BUILT = {"build", "dist", ".benchmarks", ".coverage"}


def _sources(root: Path) -> Iterator[Path]:
    """Yield the files of a copy of the repository, relative to its root, but nothing that is built."""
    for folder, folders, names in os.walk(root):
        left_out = _LEFT_OUT(folder, [*folders, *names]) | (_BUILT if Path(folder) == root else set())
        folders[:] = [name for name in folders if name not in left_out]
        for path in (Path(folder, name) for name in names if name not in left_out):
            if path.suffix != ".c" or not path.with_suffix(".pyx").exists():
                yield path.relative_to(root)


class Tree:
    """A copy of the repository in build/NAME, with an environment that has the packages of this one.

    Attributes:
        root: The folder of the copy.
        python: Its interpreter.
    """

    def __init__(self, name: str) -> None:
        self.root = ROOT / "build" / name
        self._environment = self.root / ".venv"
        self._scripts = self._environment / "bin"
        self.python = self._scripts / "python"

    def update(self) -> None:
        """Make the copy equal to the repository, except for what is built. Only what has changed is newer after it."""
        wanted = set(_sources(ROOT))
        for path in wanted:
            here, there = ROOT / path, self.root / path
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.exists() or not filecmp.cmp(here, there, shallow=False):
                shutil.copy(here, there)
        for path in set(_sources(self.root)) - wanted:
            (self.root / path).unlink()
        peers = self.root / ".venv-peers"
        peers.unlink(missing_ok=True)
        peers.symlink_to(os.environ.get("INDIFAST_PEERS") or ROOT / ".venv-peers")
        self._make_environment()

    def _make_environment(self) -> None:
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", self._environment], check=True)
        variables = {"base": str(self._environment), "platbase": str(self._environment)}
        packages = Path(sysconfig.get_path("purelib", "venv", variables))
        paths = (str(self.root / "src"), sysconfig.get_path("purelib"), _COVERAGE)
        (packages / "instrumented.pth").write_text("\n".join(paths) + "\n")
        shutil.copy(HOME / "cython_lines.py", packages)
        for script in Path(sysconfig.get_path("scripts")).iterdir():
            there = self._scripts / script.name
            if script.name.startswith(("python", "activate", "Activate", "indifast-server")) or there.exists():
                continue
            data = script.read_bytes()
            if data.startswith(b"#!" + os.fsencode(sys.exec_prefix)):
                there.write_bytes(data.replace(os.fsencode(sys.exec_prefix), os.fsencode(self._environment), 1))
                there.chmod(0o755)
            else:
                there.symlink_to(script)
        for name in (".packages", ".tools", ".built"):  # for `make` in the copy: nothing is to be installed there
            (self._environment / name).touch()

    def use_interpreter(self, *flags: str) -> None:
        """Replace the interpreter by one that is linked with a sanitizer."""
        named = self._scripts / f"python{sysconfig.get_config_var('py_version_short')}"
        for path in (self.python, named, self._scripts / "python3"):
            path.unlink(missing_ok=True)
        include, folder = sysconfig.get_path("include"), sysconfig.get_config_var("LIBDIR")
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            library = [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-lpython{sysconfig.get_config_var('LDVERSION')}"]
        else:
            library = [str(Path(sysconfig.get_config_var("LIBPL"), sysconfig.get_config_var("LIBRARY")))]
            library += " ".join(map(sysconfig.get_config_var, ("LIBS", "SYSLIBS"))).split()
        subprocess.run(
            # Of libstdc++, a sanitizer must find the functions when the process starts, not when a module needs it.
            ["gcc", "-g", *flags, f"-I{include}", str(HOME / "interpreter.c"), "-o", str(self.python), "-rdynamic",
             *library, "-Wl,--no-as-needed", "-lstdc++"],
            check=True,
        )  # fmt: skip
        for path in (named, self._scripts / "python3"):
            path.symlink_to(self.python.name)

    def build(self, **variables: str) -> None:
        """Build the extensions and the native front in place, as `make build` does, with these variables set."""
        command = ["setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
        command += ["build_scripts", "--build-dir", str(self._scripts)]
        subprocess.run([sys.executable, *command], cwd=self.root, env={**os.environ, **variables}, check=True)

    def run(self, *words: str, **variables: str) -> int:
        """Run the interpreter of the copy, in the copy, and return its exit status."""
        path = f"{self._scripts}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "INDIFAST_PATIENCE": "5", **variables}
        environment.pop("PYTHONPATH", None)
        return subprocess.run([self.python, *words], cwd=self.root, env=environment).returncode
