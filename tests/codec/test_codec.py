"""The codec as Python sees it: every path against the standard library."""

from __future__ import annotations

import base64
import contextlib
import gc
import mmap
import random
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indifast import _base64
from indifast._base64 import Base64Error, Decoder, decode, decode_into, encode, encode_into, encoded_length
from tests.support import scarce
from tests.support.threads import in_threads
from tests.support.wrapping import lines

WHITE = b" \t\r\n"


def sprinkled(rng: random.Random, text: bytes) -> bytes:
    """Return the text with white space at random places."""
    out = bytearray()
    for char in text:
        while rng.random() < 0.05:
            out.append(rng.choice(WHITE))
        out.append(char)
    return bytes(out) + b" \n"


def test_every_length_against_the_standard_library(path: str) -> None:
    rng = random.Random(path)
    for size in range(1001):
        data = rng.randbytes(size)
        text = base64.b64encode(data)
        assert encode(data) == text
        assert encoded_length(size) == len(text)
        for variant in (text, lines(text, 72), lines(text, 76, b"\r\n"), lines(text, 5), sprinkled(rng, text)):
            assert decode(variant) == data


@pytest.mark.parametrize("size", [1 << 16, (4 << 20) + 1])
def test_large_buffers(path: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = base64.b64encode(data)
    assert encode(data) == text
    assert decode(text) == data
    assert decode(lines(text, 72)) == data


def test_buffers_so_large_that_huge_pages_are_requested() -> None:
    data = random.Random(1).randbytes((32 << 20) + 1)
    text = encode(data)
    assert text == base64.b64encode(data)
    assert decode(text) == data


def test_pieces_of_any_size(path: str) -> None:
    rng = random.Random(path)
    data = rng.randbytes(5000)
    text = base64.b64encode(data)
    for variant in (text, lines(text, 72), lines(text, 40), sprinkled(rng, text)):
        for piece in (1, 2, 3, 5, 63, 64, 65, 72, 73, 255, 256, 257, 4096):
            decoder = Decoder()
            for i in range(0, len(variant), piece):
                done = decoder.feed(variant[i : i + piece])
            assert done == len(data)
            assert decoder.finish() == data
        decoder = Decoder(len(data))
        i = 0
        while i < len(variant):
            n = rng.randrange(200)
            decoder.feed(variant[i : i + n])
            i += n
        assert decoder.finish() == data


def test_foreign_character_at_every_position(path: str) -> None:
    text = base64.b64encode(bytes(range(250)))
    for variant in (text, lines(text, 72)):
        for at in range(len(variant) + 1):
            for foreign in (b"<", b"-", b"\xe9", b"\0", b"\x0b"):
                bad = variant[:at] + foreign + variant[at:]
                with pytest.raises(Base64Error) as caught:
                    decode(bad)
                assert caught.value.offset == at
                decoder = Decoder()
                with pytest.raises(Base64Error) as caught:
                    for i in range(0, len(bad), 70):
                        decoder.feed(bad[i : i + 70])
                assert caught.value.offset == at


@pytest.mark.parametrize(
    ("text", "offset", "sentence"),
    [
        (b"A", 1, "ends after 1 bytes within a group"),
        (b"AAA \n", 5, "ends after 5 bytes within a group"),
        (b"AA=", 3, "ends after 3 bytes within a group"),
        (b"=", 0, "padding at offset 0 begins too early"),
        (b"AAAA\nA=", 6, "padding at offset 6 begins too early"),
        (b"AA=A", 3, "'A' at offset 3 is where the second '=' of the padding should be"),
        (b"AA==AAAA", 4, "'A' at offset 4 follows the padding"),
        (b"AAA= =", 5, "'=' at offset 5 follows the padding"),
        (b"AAAA====", 4, "padding at offset 4 begins too early"),
        (b"AAAA<", 4, "'<' at offset 4 is neither base64 nor white space"),
        (b"AA\x80A", 2, "byte 0x80 at offset 2 is neither base64 nor white space"),
        (b"AA_-", 2, "'_' at offset 2"),
    ],
)
def test_errors_say_what_is_wrong_and_where(path: str, text: bytes, offset: int, sentence: str) -> None:
    for front in (b"", b"QUJD" * 100, lines(b"QUJD" * 100, 72)):
        with pytest.raises(Base64Error) as caught:
            decode(front + text)
        assert caught.value.offset == len(front) + offset
        if not front:
            assert sentence in str(caught.value)
    decoder = Decoder()
    with pytest.raises(Base64Error) as caught:
        for byte in text:
            decoder.feed(bytes([byte]))
        decoder.finish()
    assert caught.value.offset == offset
    for call in (lambda: decoder.feed(b"AAAA"), decoder.finish):
        with pytest.raises(Base64Error) as again:
            call()
        assert again.value.offset == offset


def test_padding_may_be_split_by_white_space(path: str) -> None:
    assert decode(b" QQ = \r\n= \t") == b"A"
    assert decode(b"") == decode(b" \n") == b""


def test_every_kind_of_buffer(path: str, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(30_000)
    text = base64.b64encode(data)
    file = tmp_path / "data"
    file.write_bytes(data)
    array: Any = np.frombuffer(data, dtype=">u2").reshape(100, 150)
    buffer: Any
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for buffer in (data, bytearray(data), memoryview(data), array, array.astype("<f8")[:0], mapped):
            expected = text if memoryview(buffer).nbytes else b""
            assert encode(buffer) == expected
            out = bytearray(len(text) + 5)
            assert encode_into(buffer, out) == len(expected)
            assert out == expected + bytes(len(out) - len(expected))
    for buffer in (bytearray(text), memoryview(text), np.frombuffer(text, dtype=np.uint8)):
        assert decode(buffer) == data


def test_unsuitable_buffers_are_refused() -> None:
    array: Any = np.zeros((10, 10), dtype=np.uint16)[:, ::2]
    for call in (encode, decode, Decoder().feed):
        with pytest.raises((BufferError, ValueError), match="contiguous"):
            call(array)
        with pytest.raises((BufferError, ValueError), match="contiguous"):
            call(memoryview(b"AAAABBBB")[::2])
        with pytest.raises(TypeError):
            call("AAAA")  # type: ignore[arg-type]
    with pytest.raises((BufferError, ValueError)):
        encode_into(b"abc", bytes(4))
    with pytest.raises((BufferError, ValueError)):
        Decoder(into=bytes(4))
    with pytest.raises(ValueError, match="has 3 bytes, but 4 are needed"):
        encode_into(b"abc", bytearray(3))


def test_decoding_into_a_buffer(path: str) -> None:
    data = random.Random(2).randbytes(3001)
    text = lines(base64.b64encode(data), 72)
    for room in (3001, 3002, 5000):
        out = bytearray(b"\xaa" * room)
        decoder = Decoder(into=out)
        for i in range(0, len(text), 1000):
            decoder.feed(text[i : i + 1000])
        view = decoder.finish()
        assert isinstance(view, memoryview)
        assert view == data
        assert out == data + b"\xaa" * (room - len(data))
        view.release()
    for room in (0, 1, 100, 2999, 3000):
        decoder = Decoder(into=bytearray(room))
        with pytest.raises(ValueError, match=f"has {room} bytes"):
            decoder.feed(text)
    array: Any = np.zeros((60, 51), dtype=">u2")
    decoder = Decoder(into=array)
    decoder.feed(text)
    view = decoder.finish()
    assert isinstance(view, memoryview)
    assert view.nbytes == len(data)
    assert array.tobytes()[: len(data)] == data
    array[0, 0] ^= 1
    assert view[1] == data[1] ^ 1


@pytest.mark.parametrize(
    ("text", "room", "limit"), [(b"QUJD!", 9, 9), (b"QUJDQUJD", 3, 9), (b"QUJDQUJD", 9, 3), (b"QUJDQ", 9, 9)]
)
def test_a_decoder_releases_its_buffer_after_an_error(text: bytes, room: int, limit: int) -> None:
    out = bytearray(room)
    decoder = Decoder(limit=limit, into=out)
    with pytest.raises(ValueError) as caught:
        decoder.feed(text)
        decoder.finish()
    out.clear()
    assert out == b""
    for call in (lambda: decoder.feed(b"QUJD"), decoder.finish):
        with pytest.raises(type(caught.value)) as again:
            call()
        assert str(again.value) == str(caught.value) and again.value is not caught.value


def test_an_error_of_a_decoder_keeps_no_variables_of_its_callers_alive() -> None:
    """An exception object that is raised again would collect the frames of all its callers."""

    class Anything:
        pass

    def fail(decoder: Decoder) -> weakref.ref[Anything]:
        local = Anything()
        with contextlib.suppress(Base64Error):
            decoder.feed(b"!")
        return weakref.ref(local)

    decoder = Decoder()
    gc.disable()
    try:
        assert fail(decoder)() is None
        assert fail(decoder)() is None
    finally:
        gc.enable()


def test_memory_that_runs_out_ends_a_decoder(tmp_path: Path) -> None:
    """It may return only bytes that it has decoded."""
    scarce.run(
        """
        import random
        from indifast._base64 import Decoder, encode

        RAW = random.Random(1).randbytes(75_000)
        TEXT = encode(RAW)

        class Decoding:
            def __init__(self):
                self.decoder = Decoder()
                self.result = None

            def decode(self):
                for at in range(0, len(TEXT), 10_000):
                    self.decoder.feed(TEXT[at : at + 10_000])
                self.result = self.decoder.finish()

        def check(decoding, refused):
            if decoding.result is not None:
                assert decoding.result == RAW
                return
            assert refused
            try:
                decoding.decoder.feed(TEXT)
                result = decoding.decoder.finish()
            except MemoryError:
                return
            before = result.removesuffix(RAW)  # the decoder itself did not fail
            assert len(before) < len(result) and len(before) % 7500 == 0 and RAW.startswith(before)

        each_allocation(Decoding, Decoding.decode, check)
        before = live()
        each_allocation(Decoding, Decoding.decode, check)
        assert live() < before + 100, (before, live())
        """,
        tmp_path,
    )


def test_decoding_a_whole_text_into_a_buffer(path: str) -> None:
    rng = random.Random(5)
    for size in (0, 1, 2, 3, 47, 48, 49, 1000, 3001, 40_000):
        data = rng.randbytes(size)
        text = base64.b64encode(data)
        for variant in (text, lines(text, 72), sprinkled(rng, text)):
            for room in (size, size + 1, size + 200):
                out = bytearray(b"\xaa" * room)
                assert decode_into(variant, out) == size
                assert out == data + b"\xaa" * (room - size)
            for room in {0, size // 2, max(size - 1, 0)} - {size}:
                out = bytearray(room)
                with pytest.raises(ValueError, match=f"has {room} bytes"):
                    decode_into(variant, out)
        with pytest.raises(Base64Error) as caught:
            decode_into(text + b"!", bytearray(size))
        assert caught.value.offset == len(text)
        with pytest.raises(Base64Error, match="within a group"):
            decode_into(base64.b64encode(bytes(size // 3 * 3)) + b"AA", bytearray(size + 3))


def test_size_hints_may_be_wrong(path: str) -> None:
    data = random.Random(3).randbytes(100_000)
    unwrapped = base64.b64encode(data)
    for hint in (-5, 0, 1, 50_000, 99_999, 100_000, 100_001, 1 << 29, 1 << 30, 1 << 62):
        for text in (unwrapped, lines(unwrapped, 72)):
            for piece in (len(text), 1 << 14, 777):
                decoder = Decoder(hint)
                for i in range(0, len(text), piece):
                    decoder.feed(text[i : i + piece])
                assert decoder.finish() == data
    decoder = Decoder(1 << 30)
    decoder.feed(b"QQ==")
    assert decoder.finish() == b"A"


def test_the_limit_holds(path: str) -> None:
    for size in (0, 1, 2, 3, 100, 1000, 20_000):
        text = lines(encode(bytes(size)), 72)
        for piece in (13, 1 << 20):
            decoder = Decoder(limit=size)
            for i in range(0, len(text), piece):
                decoder.feed(text[i : i + piece])
            assert decoder.finish() == bytes(size)
            if size:
                decoder = Decoder(1 << 40, limit=size - 1)
                with pytest.raises(Base64Error, match=f"exceeds the limit of {size - 1} bytes"):
                    for i in range(0, len(text), piece):
                        decoder.feed(text[i : i + piece])
    with pytest.raises(ValueError, match="limit"):
        Decoder(limit=-1)


def test_a_decoder_ends_with_finish() -> None:
    decoder = Decoder()
    assert decoder.finish() == b""
    with pytest.raises(ValueError, match="finished"):
        decoder.feed(b"AAAA")
    with pytest.raises(ValueError, match="finished"):
        decoder.finish()


def test_results_are_independent_of_the_decoder() -> None:
    out = bytearray(10)
    decoder = Decoder(into=out)
    decoder.feed(b"QUJD")
    view = decoder.finish()
    del decoder
    assert isinstance(view, memoryview)
    assert bytes(view) == b"ABC"
    with pytest.raises(BufferError):
        out.extend(b"x")  # the view still holds the buffer
    view.release()
    out.extend(b"x")


def test_threads_decode_side_by_side(path: str) -> None:
    data = random.Random(4).randbytes(1 << 20)
    text = lines(base64.b64encode(data), 72)

    def work() -> None:
        for _ in range(5):
            assert decode(text) == data and encode(data) == text.replace(b"\n", b"")

    in_threads(4, work)


def test_selecting_a_path() -> None:
    names = _base64.paths()
    assert names[-1] == "scalar"
    previous = _base64.use_path("scalar")
    assert previous in names
    assert _base64.use_path(previous) == "scalar"
    with pytest.raises(ValueError, match="no base64 path 'mmx' on this machine; there are"):
        _base64.use_path("mmx")


def test_lengths_must_make_sense() -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        encoded_length(-1)
