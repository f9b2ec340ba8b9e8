"""How the tokenizer keeps the text of BLOBs that are relayed."""

from __future__ import annotations

import base64
import gc
import os

import pytest

from indifast._parser import Block, BlockPool, Element, Tokenizer, escape_text
from tests.support.threads import fed_by_threads, in_threads

START = b"<setBLOBVector name='v'><oneBLOB name='b' size='300000' format='.x'>\n"
END = b"\n</oneBLOB></setBLOBVector>"
RAW = os.urandom(300_000)
TEXT = base64.b64encode(RAW)


def fill(pool: BlockPool, data: bytes) -> Block:
    block = pool.get()
    memoryview(block)[: len(data)] = data
    return block


def test_large_slices_are_not_copied() -> None:
    pool = BlockPool(size=len(TEXT) + 1000)
    block = fill(pool, START + TEXT + END)
    (element,) = Tokenizer(relay=True).feed(block, 0, len(START + TEXT + END))
    (piece,) = element.members[0].slices
    assert isinstance(piece, memoryview) and piece.obj is block
    parts = element.parts(False)
    assert parts is not None and piece.tobytes() == TEXT and len(parts) == 3


def test_a_trickle_does_not_hold_buffers() -> None:
    """When each of many large buffers brings a few bytes, the bytes are kept and not the buffers."""
    pool = BlockPool(size=1 << 20, keep=1)
    tokenizer = Tokenizer(relay=True)
    wire = START + TEXT + END
    elements = []
    for at in range(0, len(wire), 1000):
        chunk = wire[at : at + 1000]
        elements += tokenizer.feed(fill(pool, chunk), 0, len(chunk))
        assert tokenizer.held < len(wire) + 2000
    (member,) = elements[0].members
    assert all(isinstance(piece, bytes) for piece in member.slices)
    assert len(member.slices) <= 3 and b"".join(member.slices) == TEXT and member.data == RAW


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
def test_a_bytearray_may_change_afterwards(size: int) -> None:
    tokenizer = Tokenizer(relay=True)
    wire = START + TEXT + END
    elements = []
    for at in range(0, len(wire), size):
        chunk = bytearray(wire[at : at + size])
        elements += tokenizer.feed(chunk)
        chunk[:] = b"*" * len(chunk)
    assert elements[0].members[0].data == RAW


def test_inline_and_attached_in_one_vector() -> None:
    wire = (
        b"<setBLOBVector><oneBLOB name='a' size='3'>QUJD</oneBLOB><oneBLOB name='b' size='9' attached='true'></oneBLOB>"
        b"<oneBLOB name='c' size='0'></oneBLOB><oneBLOB name='d' size='2' attached='true'/></setBLOBVector>"
    )
    (element,) = Tokenizer(relay=True).feed(wire)
    assert element.attached == 2 and element.carried == {"a", "b", "d"}
    assert [member.name for member in element.blobs] == ["a", "b", "d"]
    assert [member.attached for member in element.blobs] == [False, True, True]
    assert element.parts(False) is None and element.parts(True) is None
    pieces = element.envelope(False)
    assert len(pieces) == 4 and b"attached" not in b"".join(pieces)
    whole = pieces[0] + b"QUJD" + pieces[1] + b"REVGR0hJSktM" + pieces[2] + b"TU4=" + pieces[3]
    (again,) = Tokenizer().feed(whole)
    assert [member.data for member in again.members] == [b"ABC", b"DEFGHIJKL", None, b"MN"]
    (attached,) = Tokenizer().feed(b"".join(element.envelope(True)))
    assert attached.attached == 3 and attached.carried == {"a", "b", "d"}
    assert attached.members[0].attrs == {"name": "a", "size": "3", "attached": "true"}


def test_garbage_may_be_collected_while_an_envelope_is_made() -> None:
    """Code that the collector runs may make the envelope of another element."""

    def element(device: bytes) -> Element:
        return Tokenizer(relay=True).feed(b"<setBLOBVector device='%s'>" % device + one + b"</setBLOBVector>")[0]

    one = b"<oneBLOB name='b' size='3'>QUJD</oneBLOB>"
    outer, inner = element(b"a" * 50), element(b"b" * 3000)
    expected = outer.envelope(False), inner.envelope(False)
    collected: list[tuple[bytes, ...]] = []

    def collecting(phase: str, info: object) -> None:
        collected.append(inner.envelope(False))

    kept = []  # enough lists to use up Python's free list, so that the next one triggers a collection
    found = []
    before = gc.get_threshold()
    gc.callbacks.append(collecting)
    try:
        for _ in range(100):
            gc.disable()
            kept.append([[] for _ in range(200)])
            gc.set_threshold(1)
            gc.enable()
            found.append(outer.envelope(False))
    finally:
        gc.callbacks.remove(collecting)
        gc.set_threshold(*before)
        gc.enable()
    assert found == [expected[0]] * 100
    assert collected and collected == [expected[1]] * len(collected)


def test_content_is_decoded_once_from_many_threads() -> None:
    (element,) = Tokenizer(relay=True).feed(START + TEXT + END)
    found: list[bytes | None] = []
    in_threads(8, lambda: found.append(element.members[0].data))
    assert found == [RAW] * 8


def test_feeding_from_several_threads_works_or_is_refused() -> None:
    """The GIL is released while a large chunk is processed. Another thread cannot feed in that time."""
    tokenizer = Tokenizer(relay=True)
    tokenizer.feed(START)
    taken = fed_by_threads(lambda: tokenizer.feed(TEXT))
    (element,) = tokenizer.feed(END)
    assert sum(map(len, element.members[0].slices)) == len(TEXT) * taken


def test_threads_with_their_own_tokenizers_do_not_interfere() -> None:
    """They share scratch memory and the names seen so far, but each reads what it was fed."""
    sent = [(f"D{n % 50}", f"P{n}", f"m{n % 300}", f"1 < {n} é") for n in range(1000)]
    wire = "".join(
        f"<setTextVector device='{device}' name='{name}'><oneText name='{member}'>{escape_text(text)}</oneText>"
        "</setTextVector>\n"
        for device, name, member, text in sent
    ).encode()
    correct: list[bool] = []

    def read() -> None:
        tokenizer = Tokenizer(relay=True)
        for _ in range(10):
            found = [element for at in range(0, len(wire), 5000) for element in tokenizer.feed(wire[at : at + 5000])]
            forms = [b"".join(map(bytes, element.parts(False) or ())) for element in found]
            read = [(e.device, e.name, *item) for e in found for item in e.values().items()]
            correct.append(read == sent and [f.count(b"&lt;") for f in forms] == [1] * len(sent))

    in_threads(4, read)
    assert correct == [True] * 40


def test_the_garbage_collector_does_not_track_elements() -> None:
    """There may be many, and none can be part of a cycle."""
    (element,) = Tokenizer(relay=True).feed(START + TEXT + END)
    assert not any(map(gc.is_tracked, [element, element.members[0], BlockPool().get()]))
