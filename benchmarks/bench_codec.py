"""The codec compared with the standard library and pybase64: 4 MiB, a small camera frame, with new output each time."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import pybase64
import pytest

from indifast import _base64

SIZE = 4 << 20
RAW = random.Random(1).randbytes(SIZE)
TEXT = base64.b64encode(RAW)
WRAPPED = b"".join(TEXT[i : i + 72] + b"\n" for i in range(0, len(TEXT), 72))

Function = Callable[[bytes], bytes]

peer = pytest.mark.peer


def strict(text: bytes) -> bytes:
    return pybase64.b64decode(text, validate=True)


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(_base64.encode, id="indifast"),
        pytest.param(pybase64.b64encode, id="pybase64", marks=peer),
        pytest.param(base64.b64encode, id="base64", marks=peer),
    ],
)
@pytest.mark.benchmark(group="codec: encode 4 MiB")
def test_encode(benchmark: Any, encode: Function) -> None:
    assert benchmark(encode, RAW) == TEXT


@pytest.mark.parametrize(
    "decode",
    [
        pytest.param(_base64.decode, id="indifast"),
        pytest.param(strict, id="pybase64", marks=peer),
        pytest.param(base64.b64decode, id="base64", marks=peer),
    ],
)
@pytest.mark.benchmark(group="codec: decode 4 MiB")
def test_decode(benchmark: Any, decode: Function) -> None:
    assert benchmark(decode, TEXT) == RAW


@pytest.mark.parametrize(
    "decode",
    [
        pytest.param(_base64.decode, id="indifast"),
        pytest.param(pybase64.b64decode, id="pybase64", marks=peer),
        pytest.param(base64.b64decode, id="base64", marks=peer),
    ],
)
@pytest.mark.benchmark(group="codec: decode 4 MiB in lines of 72")
def test_decode_lines_of_72(benchmark: Any, decode: Function) -> None:
    assert benchmark(decode, WRAPPED) == RAW


@pytest.mark.parametrize("text", [pytest.param(TEXT, id="unwrapped"), pytest.param(WRAPPED, id="lines-of-72")])
@pytest.mark.benchmark(group="codec: decode 4 MiB that arrive in pieces of 256 KiB into one buffer")
def test_decode_in_pieces(benchmark: Any, text: bytes) -> None:
    out = bytearray(SIZE)
    pieces = [text[i : i + (256 << 10)] for i in range(0, len(text), 256 << 10)]

    def run() -> None:
        decoder = _base64.Decoder(into=out)
        for piece in pieces:
            decoder.feed(piece)
        decoder.finish()

    benchmark(run)
    assert out == RAW
