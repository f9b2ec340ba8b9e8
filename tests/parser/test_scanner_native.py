"""The scanner with vector instructions does what it does without, on this machine and on aarch64."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast._parser import Tokenizer

SOURCE = Path(__file__).with_name("scanner.c")
CROSS = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
CSRC = Path(__file__).parents[2] / "src" / "indifast" / "csrc"

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def compile_it(compiler: str, *options: str) -> Path:
        if shutil.which(compiler) is None:
            pytest.fail(f"{compiler} is not installed; on Debian: apt install build-essential {CROSS}")
        program = tmp_path / f"scanner-{len(list(tmp_path.iterdir()))}"
        options += ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", f"-I{CSRC}")
        subprocess.run([compiler, *options, str(SOURCE), "-o", str(program)], check=True)
        return program

    return compile_it


def run(*command: str, data: bytes) -> bytes:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input=data, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def stream(seed: int) -> bytes:
    """Elements of few shapes with values of many lengths, and some damage."""
    rng = random.Random(seed)
    shapes = [
        b"<setNumberVector device='%s' name=\"%s\"\n state='Ok'>\n  <oneNumber name='a'>\n   %s\n  </oneNumber>\n"
        b"</setNumberVector>\n",
        b"<setTextVector device='%s'  a-b='%s'><oneText name='t'>%s</oneText><!-- x --></setTextVector>",
        b"<message device='%s' message='%s'>%s</message>",
        b"<setBLOBVector device='%s'><oneBLOB name='%s' size='1'>%s</oneBLOB></setBLOBVector>",
    ]  # fmt: skip
    out = b""
    for _ in range(300):
        shape = rng.choice(shapes)
        for _ in range(rng.choice([1, 1, 2, 5])):
            lengths = rng.choices([0, 1, 5, 15, 16, 17, 31, 32, 33, 60], k=3)
            values = [bytes(rng.choices(b"abcXYZ019 .:", k=length)) for length in lengths]
            if rng.random() < 0.2:
                odd = [b"&lt;", b"\xe9", b"\xc3\xa9", b"\0", b"\r\n", b">", b"<", b"x" * 120]
                values[rng.randrange(3)] += rng.choice(odd)
            out += shape % tuple(values)
        if rng.random() < 0.1:
            out = out[: -rng.randrange(1, 60)]
    return out


def test_vector_instructions_change_nothing(build: Build) -> None:
    data = stream(1) + stream(2)
    expected = run(str(build("gcc", "-O2", "-DTZ_SCALAR")), data=data)
    assert expected.count(b"root ") > 200 and expected.count(b"refused") > 10
    assert run(str(build("gcc", "-O3")), data=data) == expected
    sanitized = build("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert run(str(sanitized), data=data) == expected
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.fail(f"qemu-aarch64 is not installed; on Debian: apt install {CROSS}")
    assert run(emulator, str(build("aarch64-linux-gnu-gcc", "-O2", "-static")), data=data) == expected


def test_the_module_reads_the_same(build: Build) -> None:
    data = stream(3).replace(b"<setBLOB", b"<xetBLOB").replace(b"</setBLOB", b"</xetBLOB")
    notes = run(str(build("gcc", "-O2", "-DTZ_SCALAR")), data=data).decode("latin-1").splitlines()
    tokenizer = Tokenizer(attribute=100, element=1000, depth=5, members=9)
    elements = tokenizer.feed(data)
    roots = [line.rpartition("root ")[2] for line in notes if "root " in line]
    assert [element.tag for element in elements] == roots
