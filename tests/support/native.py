"""C programs that tests compile and run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "src" / "indifast" / "csrc"
KEPT = ROOT / "build" / "tests"
"""What has been compiled, by a hash of what it was compiled from."""
AARCH64 = "aarch64-linux-gnu-gcc"
SANITIZED = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_CROSS = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
_PACKAGES = {"gcc": "build-essential", AARCH64: _CROSS}


def compile_c(source: Path, out: Path, *flags: str, compiler: str = "gcc", counted: bool = True) -> Path:
    """Compile a C file to `out` with all warnings as errors. A missing compiler fails the test.

    The result is also kept in build/, for other tests that need the same. `counted` says whether `make coverage` counts
    the lines that are reached.
    """
    path = shutil.which(compiler)
    if path is None:
        pytest.fail(f"{compiler} is not installed; on Debian: apt install {_PACKAGES[compiler]}")
    command = [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", f"-I{CSRC}"]
    if counted and (counts := os.environ.get("INDIFAST_GCOV")):
        run([*command, str(source), "-o", str(out), *flags, "--coverage", "-dumpdir", f"{counts}/{uuid.uuid4()}-"])
        return out
    headers = sorted({*CSRC.glob("*.h"), *source.parent.glob("*.h")})
    made_of = command, flags, os.stat(path).st_mtime_ns, [file.read_bytes() for file in (source, *headers)]
    kept = KEPT / hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
    KEPT.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            run([*command, str(source), "-o", str(kept.with_suffix(".new")), *flags])
            kept.with_suffix(".new").rename(kept)
    run(["cp", kept, out])  # a copy made by this process could not be executed while another thread starts a program
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
