"""C programs that tests compile and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "src" / "indifast" / "csrc"
AARCH64 = "aarch64-linux-gnu-gcc"
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_CROSS = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
_PACKAGES = {"gcc": "build-essential", AARCH64: _CROSS}


def compile_c(source: Path, out: Path, *flags: str, compiler: str = "gcc") -> Path:
    """Compile a C file to `out` with all warnings as errors. A missing compiler fails the test."""
    if shutil.which(compiler) is None:
        pytest.fail(f"{compiler} is not installed; on Debian: apt install {_PACKAGES[compiler]}")
    command = [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", f"-I{CSRC}"]
    if counts := os.environ.get("INDIFAST_GCOV"):  # `make coverage` counts the lines that are reached
        flags = (*flags, "--coverage", "-dumpdir", f"{counts}/{uuid.uuid4()}-")
    run([*command, str(source), "-o", str(out), *flags])
    return out


def run(command: Sequence[str | os.PathLike[str]], data: bytes = b"") -> bytes:
    """Run a program with `data` as its input, and return its output. A failure of the program fails the test.

    The program does not inherit a sanitizer that is preloaded into this process.
    """
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input=data, capture_output=True, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


def aarch64_emulator() -> str:
    """Return the path of an emulator for programs compiled with `AARCH64`. A missing one fails the test."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.fail(f"qemu-aarch64 is not installed; on Debian: apt install {_CROSS}")
    return emulator
