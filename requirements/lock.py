"""Writes the locked versions anew: `make lock`, or `python requirements/lock.py NAME ...` for some of the files.

One file for what building needs, one for what tests and lint need on top of it, one for what the documentation needs,
one for fuzzing, and one for each environment of a peer. Each names every package with its version and the hashes of its
files, for all versions of CPython and all systems that indifast supports. Users of indifast keep the ranges of
pyproject.toml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST_PYTHON = "3.11"

PEERS = {
    "d31": ["indipydriver==3.1.2", "indipyserver==0.0.6", "indipyclient==0.9.4", "numpy"],
    "d22": ["indipydriver==2.2.0"],
    "d12": ["indipydriver==1.2.2"],
    "term": ["indipyterm==0.1.8"],
    "web": ["indipyweb==0.2.1"],
}
"""The programs that the tests talk to and the benchmarks measure, by the names of their environments."""


def lock(name: str, wanted: list[str], *options: str) -> None:
    """Write one file: what is wanted, and what that needs."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        sys.exit("uv is not installed beside this Python: make lock")
    target = HERE / f"{name}.txt"
    words = [uv, "pip", "compile", "-", "--output-file", str(target), "--universal", "--python-version", OLDEST_PYTHON]
    words += ["--generate-hashes", "--upgrade", "--no-header", "--no-annotate", "--quiet", *options]
    subprocess.run(words, input="\n".join(wanted), text=True, check=True)
    print(f"{target.name}: {target.read_text().count('==')} packages")


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    building = project["build-system"]["requires"] + project["project"]["dependencies"]
    # All but the peers share one environment, so each file keeps the versions of those before it.
    files = {
        "build": (building, ()),
        "test": (building + extras["test"] + extras["lint"], ("build",)),
        "docs": (building + extras["docs"], ("build", "test")),
        "fuzz": (extras["fuzz"], ()),
        **{f"peer-{name}": (wanted, ()) for name, wanted in PEERS.items()},
    }
    for name in sys.argv[1:] or files:
        wanted, before = files[name]
        lock(name, wanted, *(word for other in before for word in ("--constraint", str(HERE / f"{other}.txt"))))


if __name__ == "__main__":
    main()
