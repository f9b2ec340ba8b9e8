"""The codec in several threads at once. `make tsan` looks for races between them."""

from __future__ import annotations

import base64
import os
import time
from functools import partial
from itertools import count

from indifast import _base64
from indifast._base64 import Decoder, decode, decode_into, encode, encode_into
from tests.support.threads import fed_by_threads, in_threads

RAW = os.urandom(90_000)  # large enough for the codec to release the GIL
TEXT = base64.b64encode(RAW)


def test_a_path_may_be_selected_while_others_are_at_work() -> None:
    before = _base64.use_path(_base64.paths()[0])
    number = count()
    at_work = [1, 2, 3]

    def work() -> None:
        if next(number) == 0:
            while at_work:
                for name in _base64.paths():
                    _base64.use_path(name)
                    time.sleep(0.0001)
            return
        for _ in range(20):
            assert encode(RAW) == TEXT and decode(TEXT) == RAW
        at_work.pop()

    try:
        in_threads(4, work)
    finally:
        _base64.use_path(before)


def test_each_thread_writes_to_its_own_part_of_a_buffer() -> None:
    texts, raws = bytearray(4 * len(TEXT)), bytearray(4 * len(RAW))
    number = count()

    def work() -> None:
        at = next(number)
        text = memoryview(texts)[at * len(TEXT) : (at + 1) * len(TEXT)]
        raw = memoryview(raws)[at * len(RAW) : (at + 1) * len(RAW)]
        for _ in range(10):
            assert encode_into(RAW, text) == len(TEXT) and decode_into(text, raw) == len(RAW)

    in_threads(4, work)
    assert texts == TEXT * 4 and raws == RAW * 4


def test_a_decoder_that_is_being_fed_refuses_other_threads() -> None:
    """A piece is decoded once, or refused as a whole."""
    for into in (None, bytearray(80 * len(RAW))):
        decoder = Decoder(into=into)
        taken = fed_by_threads(partial(decoder.feed, TEXT))
        assert bytes(decoder.finish()) == RAW * taken
