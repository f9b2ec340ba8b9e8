"""The C code of the codec by itself: all its paths give the same results, on this machine and on aarch64."""

from __future__ import annotations

import base64
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast import _base64
from tests.support import native
from tests.support.wrapping import lines

Build = Callable[..., Path]

one_build = pytest.mark.xdist_group("codec harness")  # one parallel worker compiles it once for all of them


@one_build
def test_every_path_gives_the_results_of_the_scalar_one(harness: Build) -> None:
    program = harness("-O3")
    assert native.run([program, "check", str(random.randrange(10**9))]).decode().split() == list(_base64.paths())


def test_no_path_touches_memory_outside_its_buffers(harness: Build) -> None:
    program = harness(*native.SANITIZED)
    assert native.run([program, "check", "1"]).decode().split() == list(_base64.paths())


def test_neon_gives_the_results_of_the_scalar_path(harness: Build) -> None:
    program = harness("-O3", "-static", compiler=native.AARCH64)
    command = [native.aarch64_emulator(), program, "check", str(random.randrange(10**9))]
    assert native.run(command).decode().split() == ["neon", "scalar"]


def scan(program: Path, *texts: bytes) -> list[list[int]]:
    """Return what the harness prints about each text."""
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return [list(map(int, line.split())) for line in native.run([program, "scan"], data).splitlines()]


def naive_scan(text: bytes) -> tuple[int, int, int, int, int, int]:
    """Return what scanning finds in valid text, whatever follows: consumed, chars, last, pads, wrapped72, unwrapped."""
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


@one_build
def test_scanning_finds_the_layout(harness: Build) -> None:
    rng = random.Random(7)
    texts = [b"", b"\n", b"   ", b"<", b"AAAA", b"AA==\n\n  "]
    for size in [*range(240), 500, 540, 1000, 4000, 54 * 40]:
        text = base64.b64encode(rng.randbytes(size))
        for body in (text, lines(text, 72), lines(text, 76), lines(text, 71), lines(text, 72, b"\r\n"), lines(text, 64),
                     lines(text, 72, b"\n\n"), lines(text, 72, b" ")):  # fmt: skip
            texts.append(rng.choice([b"", b"\n", b"  "]) + body + rng.choice([b"", b"\n", b"\n   <", b"<", b" \n"]))
        if size > 200:  # a single fault: white space added, or a character moved
            wrapped = lines(text, 72)
            at, to = rng.randrange(1, len(wrapped) - 4), rng.randrange(1, len(wrapped) - 4)
            texts.append(wrapped[:at] + rng.choice([b"\n", b" "]) + wrapped[at:])
            rest = wrapped[:at] + wrapped[at + 1 :]
            texts.append(rest[:to] + wrapped[at : at + 1] + rest[to:])
    for text, (*found, stop, verdict) in zip(texts, scan(harness("-O3"), *texts), strict=True):
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
    (found,) = scan(harness("-O3"), text)
    assert (found[0], found[-1]) == (consumed, verdict)
