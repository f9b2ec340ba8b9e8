"""The C code against itself: every path must do what the scalar one does, on this machine and on aarch64."""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast import _base64

Build = Callable[..., Path]
CROSS = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"


def run(command: list[str], data: bytes = b"") -> str:
    """The output of a program; its complaints when it fails.  A sanitizer that is loaded here is not loaded there."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input=data, capture_output=True, env=environment)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


one_build = pytest.mark.xdist_group("codec harness")  # in one parallel worker, which compiles it once


@one_build
def test_every_path_does_what_the_scalar_one_does(harness: Build) -> None:
    program = harness("gcc", "-O3", packages="build-essential")
    assert run([str(program), "check", str(random.randrange(10**9))]).split() == list(_base64.paths())


def test_no_path_touches_memory_outside_its_buffers(harness: Build) -> None:
    program = harness("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                      packages="build-essential")  # fmt: skip
    assert run([str(program), "check", "1"]).split() == list(_base64.paths())


def test_neon_does_what_the_scalar_path_does(harness: Build) -> None:
    program = harness("aarch64-linux-gnu-gcc", "-O3", "-static", packages=CROSS)
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.fail(f"qemu-aarch64 is not installed; on Debian: apt install {CROSS}")
    assert run([emulator, str(program), "check", str(random.randrange(10**9))]).split() == ["neon", "scalar"]


def naive_scan(text: bytes) -> tuple[int, int, int, int, int, int]:
    """What scanning finds in a right text followed by anything: consumed, chars, last, pads, wrapped72, unwrapped."""
    consumed = re.match(rb"[A-Za-z0-9+/= \t\r\n]*", text)
    assert consumed is not None
    body = consumed[0].strip(b" \t\r\n")
    lead = len(consumed[0]) - len(consumed[0].lstrip(b" \t\r\n"))
    wrapped = re.fullmatch(rb"(?:[^\s]{72}\n)*[^\s]{0,72}", body) is not None
    return (
        len(consumed[0]),
        len(re.sub(rb"\s", b"", body)),
        lead + len(body) if body else 0,
        body.count(b"="),
        int(wrapped),
        int(re.search(rb"\s", body) is None),
    )


def lines(text: bytes, width: int, feed: bytes = b"\n") -> bytes:
    return feed.join(text[i : i + width] for i in range(0, len(text), width))


@one_build
def test_scanning_tells_the_layout(harness: Build) -> None:
    rng = random.Random(7)
    texts = [b"", b"\n", b"   ", b"<", b"AAAA", b"AA==\n\n  "]
    for size in [*range(240), 500, 540, 1000, 4000, 54 * 40]:
        text = base64.b64encode(rng.randbytes(size))
        for body in (text, lines(text, 72), lines(text, 76), lines(text, 71), lines(text, 72, b"\r\n"), lines(text, 64),
                     lines(text, 72, b"\n\n"), lines(text, 72, b" ")):  # fmt: skip
            texts.append(rng.choice([b"", b"\n", b"  "]) + body + rng.choice([b"", b"\n", b"\n   <", b"<", b" \n"]))
        if size > 200:  # one fault only
            wrapped = lines(text, 72)
            at, to = rng.randrange(1, len(wrapped) - 4), rng.randrange(1, len(wrapped) - 4)
            texts.append(wrapped[:at] + rng.choice([b"\n", b" "]) + wrapped[at:])
            rest = wrapped[:at] + wrapped[at + 1 :]
            texts.append(rest[:to] + wrapped[at : at + 1] + rest[to:])
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    answers = run([str(harness("gcc", "-O3", packages="build-essential")), "scan"], data).splitlines()
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        *found, stop, verdict = map(int, answer.split())
        assert tuple(found) == naive_scan(text), text
        assert stop == (1 if found[0] < len(text) else 0)
        assert verdict == 0


@one_build
@pytest.mark.parametrize(
    ("text", "consumed", "verdict"),
    [(b"A", 1, 3), (b"AAA", 3, 3), (b"AA=", 3, 3), (b"=", 0, 1), (b"A=", 1, 1), (b"AA==A", 4, 2), (b"AA===", 4, 2),
     (b"AA=A", 3, 3), (b"AAA=\nAAAA", 5, 2), (b"AA=\n=\n", 6, 0)],
)  # fmt: skip
def test_scanning_judges_the_padding(harness: Build, text: bytes, consumed: int, verdict: int) -> None:
    program = harness("gcc", "-O3", packages="build-essential")
    found = run([str(program), "scan"], struct.pack("<I", len(text)) + text).split()
    assert (int(found[0]), int(found[-1])) == (consumed, verdict)
