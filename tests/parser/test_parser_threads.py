"""Tokenizers, elements and blocks in several threads at once. `make tsan` looks for races between them."""

from __future__ import annotations

import base64
import os
import threading
from itertools import count

import pytest

from indifast._parser import Block, BlockPool, Element, Tokenizer
from tests.support.blackbox import LIMIT
from tests.support.threads import in_threads

START = b"<setBLOBVector device='D' name='v'><oneBLOB name='b' size='90000' format='.x'>\n"
END = b"\n</oneBLOB></setBLOBVector>"
RAW = os.urandom(90_000)  # large enough for the tokenizer to release the GIL
TEXT = base64.b64encode(RAW)


@pytest.mark.parametrize("relay", [False, True])
def test_a_tokenizer_may_be_watched_while_it_is_fed(relay: bool) -> None:
    tokenizer = Tokenizer(relay=relay)
    number = count()
    found: list[Element] = []
    fed = threading.Event()

    def work() -> None:
        if next(number):
            while not fed.is_set():
                assert 0 <= tokenizer.held < 2 * len(TEXT)
                assert tokenizer.skipped_bytes == tokenizer.replaced == tokenizer.lost_attached == 0
                assert tokenizer.skipped == {}
                with pytest.raises(ValueError, match="no such slice"):
                    tokenizer.feed(b"", 1)
            return
        try:
            for _ in range(50):
                found.extend(tokenizer.feed(START + TEXT + END))
        finally:
            fed.set()

    in_threads(3, work)
    assert [element.members[0].data for element in found] == [RAW] * 50


def test_many_threads_read_one_element() -> None:
    """Each asks for everything first, in an order of its own."""
    members = b"".join(b"<oneBLOB name='b%d' size='9000' format='.x'>%s</oneBLOB>" % (n, TEXT) for n in range(5))
    wire = b"<setBLOBVector device='D' name='v'>" + members + b"</setBLOBVector>"
    for _ in range(5):
        (element,) = Tokenizer(relay=True).feed(wire)
        number = count()

        def read(element: Element = element, number: count[int] = number) -> None:
            turn = next(number)
            members = element.members
            for member in members[turn:] + members[:turn]:
                assert member.data == RAW and member.attrs["format"] == ".x"
                assert b"".join(map(bytes, member.slices)) == TEXT
            parts = element.parts(False)
            assert parts is not None and b"".join(map(bytes, parts)).count(TEXT) == 5
            assert element.attrs == {"device": "D", "name": "v"} and len(element.values()) == 5

        in_threads(5, read)


def test_blocks_go_back_to_their_pool_in_any_thread() -> None:
    pool = BlockPool(size=20_000, keep=3)
    given: list[Block] = []

    def work() -> None:
        for n in range(300):
            block = pool.get()
            memoryview(block)[:4] = n.to_bytes(4)
            assert int.from_bytes(memoryview(block)[:4]) == n
            given.append(block)
            del block
            if len(given) > 8:
                given.pop(0)
            if n % 50 == 0:
                pool.trim(1)

    in_threads(4, work)
    given.clear()
    assert 1 <= pool.blocks <= 3


def test_a_tokenizer_that_is_being_fed_refuses_a_thread_whose_argument_let_others_run() -> None:
    """The end of a slice may be any object with `__index__`, which may run for as long as it likes."""
    busy, go_on = threading.Event(), threading.Event()

    def on_skip(reason: str, size: int, excerpt: bytes) -> None:
        busy.set()
        go_on.wait(LIMIT)

    tokenizer = Tokenizer(on_skip=on_skip)
    other = threading.Thread(target=tokenizer.feed, args=(b"<message device='D'</message><message/>",))

    class End:
        def __index__(self) -> int:
            other.start()
            assert busy.wait(LIMIT)
            return 10

    try:
        with pytest.raises(RuntimeError, match="already being fed"):
            tokenizer.feed(b"<message/>", 0, End())  # type: ignore[arg-type]
    finally:
        go_on.set()
        other.join(LIMIT)
    assert len(tokenizer.feed(b"<message/>")) == 1
