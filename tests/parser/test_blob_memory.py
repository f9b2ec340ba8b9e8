"""The size of the buffer that a BLOB is decoded into, whatever size was announced for it."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from indifast._base64 import encode
from indifast._parser import Tokenizer
from tests.support.wrapping import lines

SIZE = 3_000_001
DATA = random.Random(1).randbytes(SIZE)


def message(announced: int | None, width: int) -> bytes:
    text = encode(DATA)
    if width:
        text = lines(text, width) + b"\n"
    size = b"" if announced is None else b" size='%d'" % announced
    return (
        b"<setBLOBVector device='a' name='b' state='Ok'>\n<oneBLOB name='c'%s format='.fits'>\n%s</oneBLOB>\n"
        b"</setBLOBVector>\n" % (size, text)
    )


def decoded(wire: bytes, piece: int) -> tuple[bytes | None, int]:
    """Return the content of the only BLOB, and the largest number of bytes held while it arrived."""
    tokenizer = Tokenizer()
    most, content = 0, None
    for start in range(0, len(wire), piece):
        for element in tokenizer.feed(wire[start : start + piece]):
            content = element.members[0].data
        most = max(most, tokenizer.held)
    return content, most


@pytest.mark.parametrize("width", [0, 72, 20])
@pytest.mark.parametrize("piece", [10_000, 1 << 18])
def test_the_buffer_has_the_announced_size(width: int, piece: int) -> None:
    content, most = decoded(message(SIZE, width), piece)
    assert content == DATA
    assert most < SIZE + 1000


@pytest.mark.parametrize("announced", [None, 0, -1, 1, 1000, SIZE - 63, SIZE - 1, SIZE + 1, SIZE * 2, 1 << 60])
@pytest.mark.parametrize("width", [0, 72])
def test_a_wrong_announced_size_loses_no_content(announced: int | None, width: int) -> None:
    for piece in (77_777, 1 << 30):
        content, most = decoded(message(announced, width), piece)
        assert content == DATA
        assert most < SIZE * 2.5


def test_content_that_can_no_longer_be_decoded_leaks_no_memory() -> None:
    (element,) = Tokenizer(relay=True).feed(message(SIZE, 0))
    member = element.members[0]
    member.slices[0].release()
    tracemalloc.start()
    try:
        for _ in range(5):
            with pytest.raises(ValueError, match="released"):
                member.data  # noqa: B018
        assert tracemalloc.get_traced_memory()[0] < SIZE
    finally:
        tracemalloc.stop()
