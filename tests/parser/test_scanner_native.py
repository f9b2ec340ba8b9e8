"""The scanner finds the same with vector instructions as without, on this machine and on aarch64."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from indifast._parser import Tokenizer
from tests.support import native

SOURCE = Path(__file__).with_name("scanner.c")

Scan = Callable[..., bytes]


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """Compile scanner.c with the given options, and return what it prints about `data`."""

    def compile_and_run(data: bytes, *flags: str, compiler: str = "gcc", emulator: str | None = None) -> bytes:
        program = native.compile_c(SOURCE, tmp_path / "scanner", *flags, compiler=compiler)
        return native.run([emulator, program] if emulator else [program], data)

    return compile_and_run


def stream(seed: int) -> bytes:
    """Return elements of a few shapes with values of many lengths, some of them damaged."""
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


def test_vector_instructions_change_nothing(scan: Scan) -> None:
    data = stream(1) + stream(2)
    expected = scan(data, "-O2", "-DTZ_SCALAR")
    assert expected.count(b"root ") > 200 and expected.count(b"refused") > 10
    assert scan(data, "-O3") == expected
    assert scan(data, *native.SANITIZED) == expected
    emulator = native.aarch64_emulator()
    assert scan(data, "-O2", "-static", compiler=native.AARCH64, emulator=emulator) == expected


def test_the_module_finds_the_same_roots(scan: Scan) -> None:
    data = stream(3).replace(b"<setBLOB", b"<xetBLOB").replace(b"</setBLOB", b"</xetBLOB")
    notes = scan(data, "-O2", "-DTZ_SCALAR").decode("latin-1").splitlines()
    tokenizer = Tokenizer(attribute=100, element=1000, depth=5, members=9)
    elements = tokenizer.feed(data)
    roots = [line.rpartition("root ")[2] for line in notes if "root " in line]
    assert [element.tag for element in elements] == roots
