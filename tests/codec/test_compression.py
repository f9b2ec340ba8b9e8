"""Compression of frames: what was compressed is restored, and what others made is inflated within bounds or refused."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib

import lz4.block
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast import compression
from indifast.cli.demo.starfield import StarField
from indifast.compression import METHODS, PIECE, WIDTHS, CompressionError, Compressor, Decompressor, best_width
from tests.support.blackbox import LIMIT

try:
    from compression import zstd
except ImportError:
    from backports import zstd

methods = pytest.mark.parametrize("method", METHODS)
STARS = bytes(StarField(512, 512).frame())


def test_numpy_is_loaded_by_a_thread_and_once() -> None:
    program = (
        "import sys, threading, time; from indifast import compression; before = threading.active_count()\n"
        "go_on = threading.Event()\n"
        "class Finder:\n"
        "    def find_spec(name, *words):\n"
        "        if name == 'numpy': go_on.wait()\n"
        "sys.meta_path.insert(0, Finder)\n"
        "assert not compression.prepared() and not compression.prepared() and threading.active_count() == before + 1\n"
        "go_on.set()\n"
        "while not compression.prepared(): time.sleep(0.01)\n"
        "compression._loader.join()\n"  # it may have something to do after NumPy is loaded
        "assert 'numpy' in sys.modules; sys.exit(threading.active_count() != before)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=LIMIT).returncode == 0


def test_where_no_thread_can_be_started_nobody_waits_for_it() -> None:
    program = (
        "import sys, threading; from indifast import compression\n"
        'def start(thread): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = start\n"
        "sys.exit(not compression.prepared() or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=LIMIT).returncode == 0


@methods
@settings(deadline=None)
@given(data=st.binary(max_size=300), repeat=st.integers(0, 40), width=st.sampled_from(WIDTHS))
def test_what_was_compressed_is_restored(method: str, data: bytes, repeat: int, width: int) -> None:
    data *= repeat
    made = Compressor(method, width).compress(data)
    assert len(made) < len(data) or made is data
    inflate = Decompressor(method, width)
    assert inflate.decompress(made, len(data)) == data
    memory = bytearray(b"x" * len(data))
    assert inflate.decompress(made, len(data), memory) is memory
    assert memory == data


@methods
def test_any_buffer_is_compressed_and_written_to(method: str) -> None:
    compressor, inflate = Compressor(method, 2), Decompressor(method, 2)
    made = compressor.compress(STARS)
    for kind in (bytearray, memoryview, lambda data: memoryview(numpy.frombuffer(data, "u1"))):
        assert compressor.compress(kind(STARS)) == made
        assert inflate.decompress(kind(made), len(STARS)) == STARS
    memory = numpy.zeros(len(STARS) + 2, "u1")
    inflate.decompress(made, len(STARS), memoryview(memory)[2:])
    assert memory[2:].tobytes() == STARS


@methods
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE])
def test_pieces_of_any_size_up_to_the_limit(method: str, size: int) -> None:
    data = (STARS * 3)[:size]
    for width in WIDTHS:
        assert Decompressor(method, width).decompress(Compressor(method, width).compress(data), size) == data


@methods
def test_larger_pieces_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="more than 1048576"):
        Compressor(method).compress(bytes(PIECE + 1))
    bomb = {"lz4": lambda data: lz4.block.compress(data, store_size=False), "zstd": zstd.compress}[method](
        bytes(50 << 20)
    )
    inflate = Decompressor(method)
    for size in (PIECE + 1, 50 << 20, -1):
        with pytest.raises(CompressionError, match="more than 1048576"):
            inflate.decompress(bomb, size)
    with pytest.raises(CompressionError):
        inflate.decompress(bomb, PIECE)


@methods
@settings(deadline=None, max_examples=300)
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7), size=st.integers(0, 5000))
def test_damaged_pieces_give_bytes_of_the_stated_size_or_an_error(method: str, place: int, bit: int, size: int) -> None:
    piece = STARS[2000:6000]
    made = bytearray(Compressor(method, 2).compress(piece))
    made[place % len(made)] ^= 1 << bit
    try:
        found = Decompressor(method, 2).decompress(made, size)
    except CompressionError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) == size


@methods
@given(st.binary(max_size=200), st.integers(0, PIECE))
def test_other_data_is_refused(method: str, data: bytes, size: int) -> None:
    try:
        found = Decompressor(method).decompress(data, size)
    except CompressionError:
        return
    assert len(found) == size


def test_a_window_beyond_the_limit_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    made = compressor.compress(bytes(1000)) + compressor.flush()
    with pytest.raises(CompressionError):
        Decompressor("zstd").decompress(made, 1000)


def test_unknown_methods_and_widths_are_refused() -> None:
    for method, width in (("rot13", 1), ("lz4", 3), ("lz4", 0)):
        with pytest.raises(CompressionError, match="unknown"):
            Decompressor(method, width)


@pytest.mark.parametrize(
    ("dtype", "width"), [("u1", 1), (">u2", 2), ("<u2", 2), (">f4", 4), ("<i8", 8)], ids=lambda value: str(value)
)
def test_the_width_is_that_of_the_pixels(dtype: str, width: int) -> None:
    random_values = numpy.random.default_rng(1)
    values = random_values.normal(1000, 30, 100_000)
    if dtype == "u1":
        values = random_values.choice([3, 5, 7, 200], 100_000, p=[0.9, 0.05, 0.04, 0.01])
    assert best_width(values.astype(dtype).tobytes()) == width


def test_what_is_compressed_already_is_kept() -> None:
    packed = zlib.compress(random.Random(1).randbytes(100_000))
    for method in METHODS:
        assert Compressor(method, best_width(packed)).compress(packed) is packed


def test_a_star_field_becomes_smaller() -> None:
    assert best_width(STARS) == 2
    sizes = {method: len(Compressor(method, 2).compress(STARS)) for method in METHODS}
    assert sizes["zstd"] < sizes["lz4"] < len(STARS) / 1.7


def test_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(compression, "_LOADERS", dict.fromkeys(METHODS, missing))
    assert compression.installed.__wrapped__() == ()
    for kind in (Compressor, Decompressor):
        with pytest.raises(ImportError, match=r"pip install indifast\[compression\]"):
            kind("lz4", 2)
