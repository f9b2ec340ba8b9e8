"""Raw frames: how they are agreed on, written and read. Nothing but a complete frame is ever taken for a message."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast._parser import BlockPool, Element, Tokenizer
from indifast.compression import WIDTHS, Compressor, Decompressor
from indifast.protocol.limits import Limits
from indifast.protocol.message import ATTACHED, INLINE, RAW, Routable, opened
from indifast.routing.cutting import LARGEST_PIECE
from indifast.transport import incoming, rawframes, shm
from indifast.transport.blobs import END_MARK, BlobContent, BlobMessage, routable
from indifast.transport.rawframes import ACCEPTANCE, ACCEPTED, OFFER, OFFERED, Agreement, offer
from tests.support.descriptors import arrived
from tests.support.waiting import eventually
from tests.transport.support import ReaderLog, memory_file

SMALL = b"<setTextVector device='Cam' name='%b' state='Ok'><oneText name='m'>x</oneText></setTextVector>"
COMMAND = b"<newSwitchVector device='Roof' name='OPEN'><oneSwitch name='ON'>On</oneSwitch></newSwitchVector>"
DATA = os.urandom(300_000)
VECTOR = {"device": "Cam", "name": "B", "state": "Ok"}


def frame(*contents: bytes, name: bytes = b"B", mark: bytes = END_MARK, tag: bytes = b"setBLOBVector") -> bytes:
    members = b"".join(
        b'<oneBLOB name="m%d" size="%d" format=".x" len="%d" attached="raw"/>' % (n, len(data), len(data))
        for n, data in enumerate(contents)
    )
    return b'<%b device="Cam" name="%b">%b</%b>%b%b' % (tag, name, members, tag, b"".join(contents), mark)


def agreed(limits: Limits | None = None, *, relay: bool = True) -> ReaderLog:
    """Return a reader of a side that has accepted raw frames."""
    log = ReaderLog(limits or Limits(), relay=relay)
    log.reader.expect_raw(OFFERED, lambda agreed: None)
    assert read(log, OFFER.data) == []
    return log


def read(log: ReaderLog, text: bytes, cuts: Sequence[int] = ()) -> list[Routable]:
    """Read a text that arrives in chunks which end at `cuts`: every other one where it belongs, if that is known."""
    messages: list[Routable] = []
    at = 0
    for number, cut in enumerate((*cuts, len(text))):
        if number % 2:
            at += fill(log, text[at:cut])
        messages += log.reader.read(text[at:cut], 0, cut - at, [])
        at = cut
        while log.reader.unread:
            messages += log.reader.read(b"", 0, 0, [])
    return messages


def fill(log: ReaderLog, text: bytes) -> int:
    """Write the beginning of a text where it belongs, if that is known; return how many bytes these are."""
    target = log.reader.target()
    if target is None:
        return 0
    with target:
        nbytes = min(len(target), len(text))
        target[:nbytes] = text[:nbytes]
    log.reader.arrived(nbytes)
    return nbytes


def contents(message: Routable) -> list[bytes | None]:
    return [member.data for member in opened(message).members]


relays = pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])


# -- Reading


@relays
@given(data=st.data())
def test_frames_are_read_whatever_the_chunks_and_the_content(relay: bool, data: st.DataObject) -> None:
    """Content that looks like a message, an end mark or an instruction is content."""
    piece = st.sampled_from([b"<", b"?>", END_MARK, COMMAND, OFFER.data, b"]]>", b"\0\xff", b"x" * 70_000, b""])
    content = st.lists(piece | st.binary(max_size=50), max_size=4).map(b"".join)
    sent = data.draw(st.lists(st.lists(content.filter(bool), min_size=1, max_size=3), min_size=1, max_size=3))
    text = b"".join(SMALL % b"before" + frame(*one) + SMALL % b"after" for one in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    log = agreed(relay=relay)
    messages = read(log, text, cuts)
    assert [message.name for message in messages] == ["before", "B", "after"] * len(sent)
    assert [contents(message) for message in messages[1::3]] == sent
    assert log.skips == log.violations == [] and log.reader.held == 0


def test_frames_in_single_bytes() -> None:
    log = agreed()
    text = SMALL % b"a" + frame(b"12345", b"6", name=b"b") + SMALL % b"c"
    messages = read(log, text, range(1, len(text)))
    assert [message.name for message in messages] == ["a", "b", "c"] and contents(messages[1]) == [b"12345", b"6"]


def test_frames_are_kept_without_a_copy_and_small_pieces_together() -> None:
    block = BlockPool(256 << 10).get()
    log = agreed()
    text = frame(DATA)
    whole = memoryview(block).cast("B")
    whole[:] = text[: 256 << 10]
    assert list(log.reader.read(block, 0, 256 << 10, [])) == []
    (message,) = read(log, text[256 << 10 :], range(500, len(text) - (256 << 10), 500))
    parts = message.parts(RAW)
    assert parts is not None and b"".join(parts)[-len(DATA) - len(END_MARK) :] == DATA + END_MARK
    slices = [part for part in parts if isinstance(part, memoryview)]
    assert [slice.obj for slice in slices] == [block], "a long piece stays where it is"
    assert len(parts) == 4, "envelope, long piece, the short ones as one, end mark"


@relays
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (frame(b"1234", mark=b"<?END?>"), "without its end mark"),
        (frame(b"1234", mark=b"\n" + END_MARK), "without its end mark"),
        (frame(b"x" * 1001), "1001 bytes, more than 1000"),
        (frame(b"1234").replace(b"len=", b"lend=").replace(b"size=", b"sized="), "without a size"),
        (frame(b"1234").replace(b"len=", b"lend=").replace(b'size="4"', b'size="0"'), "without a size"),
        (frame(b"1234").replace(b'len="4"', b'len="-4"'), "without a length"),
        (frame(b"1234").replace(b"/>", b"/><oneBLOB name='i' size='3' format=''>QUJD</oneBLOB>", 1), "another form"),
        (frame(b"1234").replace(b"/>", b"/><oneBLOB name='i' size='3' format='' attached='true'/>", 1), "another form"),
        (b"<setBLOBVector device='Cam' name='x'><oneBLOB name=/>", "damaged"),
        (b"<setBLOBVector device='Cam' name='x'>" + SMALL, "damaged"),
        (b"<newBLOBVector device='Cam' name='x' a='1' a='2'/>", "damaged"),
    ],
)
def test_who_may_have_lost_count_is_not_heard_any_more(relay: bool, fault: bytes, why: str) -> None:
    """What was complete before counts. What looks like a message afterwards may be part of a frame."""
    for cuts in ((), range(1, 5000)):
        log = agreed(Limits(blob=1000), relay=relay)
        text = SMALL % b"a" + frame(b"12", name=b"b") + fault + COMMAND
        messages = read(log, text, [cut for cut in cuts if cut < len(text)])
        assert [message.name for message in messages] == ["a", "b"]
        assert len(log.violations) == 1 and why in log.violations[0]
        assert read(log, COMMAND) == []


@relays
def test_other_damage_costs_only_its_message(relay: bool) -> None:
    log = agreed(Limits(blob=1000), relay=relay)
    inline = b"<setBLOBVector device='Cam' name='i'><oneBLOB name='m' size='3' format=''>%b</oneBLOB></setBLOBVector>"
    text = b"<setTextVector device='Cam' name='t' x=/>" + inline % b"Q*JD" + inline % (b"QUJD" * 1000) + b"junk"
    text += inline % b"QUJD" + frame(b"12") + SMALL % b"c"
    assert [message.name for message in read(log, text)] == ["i", "B", "c"]
    assert log.violations == [] and "base64" in log.skips


@relays
def test_a_frame_that_was_not_agreed_on_ends_the_connection(relay: bool) -> None:
    for prepare in (lambda log: None, lambda log: log.reader.expect_raw(ACCEPTED, lambda agreed: None)):
        for cuts in ((), range(1, 300)):
            log = ReaderLog(relay=relay)
            prepare(log)
            assert [message.name for message in read(log, SMALL % b"a" + frame(COMMAND) + COMMAND, cuts)] == ["a"]
            assert log.violations == ["sent a raw frame, which was not agreed on"]
            assert read(log, SMALL % b"b") == []


@relays
def test_a_frame_that_is_too_much_is_skipped(relay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: 100_000)
    log = agreed(relay=relay)
    text = frame(COMMAND * 1000, DATA) + SMALL % b"a" + frame(b"fits", name=b"b")
    messages = read(log, text, range(10_000, len(text), 10_000))
    assert [message.name for message in messages] == ["a", "b"] and contents(messages[1]) == [b"fits"]
    assert len(log.outgrowths) == 1 and log.skips == ["abandoned"] and log.violations == []
    assert log.reader.tokenizer.skipped == {"abandoned": 1}


def test_an_unfinished_frame_is_held_watched_and_counted_at_the_end() -> None:
    log = agreed(Limits(stall=60.0))
    assert read(log, frame(DATA)[:-100_000]) == []
    assert 190_000 < log.reader.held < 210_000
    assert [timer.delay for timer in log.timers] == [60.0]
    log.reader.close()
    assert log.skips == ["truncated"] and log.reader.held == 0


# -- Pieces


def in_pieces(*contents: bytes, sizes: Sequence[int], between: bytes = b"", name: bytes = b"B") -> bytes:
    """Return a frame in pieces of these sizes, the last of which is repeated, with something between them."""
    whole = frame(*contents, name=name)
    content = b"".join(contents)
    text = b"<?indi-pieces?>" + whole[: -len(content + END_MARK)]
    at = number = 0
    while at < len(content):
        piece = content[at : at + sizes[min(number, len(sizes) - 1)]]
        at, number = at + len(piece), number + 1
        text += between + b"<?indi-piece %d %d?>" % (number, len(piece)) + piece
    return text + END_MARK


@relays
@given(data=st.data())
def test_frames_in_pieces_are_read_whatever_the_chunks_and_what_is_between(relay: bool, data: st.DataObject) -> None:
    piece = st.sampled_from([b"<?indi-piece 1 5?>", b"?>", END_MARK, COMMAND, b"\0\xff", b"x" * 70_000, b""])
    content = st.lists(piece | st.binary(max_size=50), max_size=4).map(b"".join).filter(bool)
    sent = data.draw(st.lists(st.lists(content, min_size=1, max_size=3), min_size=1, max_size=3))
    sizes = data.draw(st.lists(st.sampled_from([1, 7, 100, 30_000, 256 << 10]), min_size=1, max_size=4))
    sizes.append(256 << 10)
    between = data.draw(st.sampled_from([b"", b"\n", SMALL % b"between"]))
    text = b""
    count = 0
    for one in sent:
        part = in_pieces(*one, sizes=sizes, between=between)
        count += part.count(b"name='between'")
        text += SMALL % b"before" + part + SMALL % b"after" + frame(*one, name=b"whole")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    log = agreed(relay=relay)
    messages = read(log, text, cuts)
    names = [message.name for message in messages]
    assert [name for name in names if name != "between"] == ["before", "B", "after", "whole"] * len(sent)
    assert names.count("between") == count
    assert [contents(message) for message in messages if message.name == "B"] == sent
    assert log.skips == log.violations == [] and log.reader.held == 0


def test_what_is_between_two_pieces_arrives_before_the_frame() -> None:
    log = agreed()
    text = in_pieces(b"12345678", sizes=[4], between=SMALL % b"a")
    first = text.index(b"<?indi-piece 2")
    assert [message.name for message in read(log, text[:first], range(1, first))] == ["a", "a"]
    assert log.reader.held == 4
    (message,) = read(log, text[first:], range(1, len(text) - first))
    assert message.name == "B" and contents(message) == [b"12345678"]


PIECES = b"<?indi-pieces?>"
ENVELOPE = frame(b"12345678").partition(b"12345678")[0]


@relays
@pytest.mark.parametrize(
    "fault",
    [
        b"<?indi-piece 1 4?>1234",  # of no frame
        frame(b"12") + b"<?indi-piece 1 4?>1234",
        PIECES + ENVELOPE + b"<?indi-piece 2 4?>1234",
        PIECES + ENVELOPE + b"<?indi-piece 1 4?>1234<?indi-piece 1 4?>5678" + END_MARK,
        PIECES + ENVELOPE + b"<?indi-piece 1 9?>123456789",
        PIECES + ENVELOPE + b"<?indi-piece 1 0?>",
        PIECES + ENVELOPE + b"<?indi-piece 1 -1?>",
        PIECES + ENVELOPE + b"<?indi-piece 1?>",
        PIECES + ENVELOPE + b"<?indi-piece?>",
        PIECES + ENVELOPE + b"<?indi-piece 1 4 5?>1234",
        PIECES + ENVELOPE + b"<?indi-piece 1 9999999999?>",
        PIECES + ENVELOPE + b"<?indi-piece 1 8?>12345678<?END?>",
        PIECES + ENVELOPE + b"<?indi-piece 1 4?>1234" + frame(b"12"),
        PIECES + ENVELOPE + b"<?indi-piece 1 4?>1234" + PIECES,
        PIECES + frame(b"x" * 300_000).replace(b"x" * 300_000 + END_MARK, b"<?indi-piece 1 262145?>" + b"x" * 262_145),
        PIECES + frame(b"x" * (1 << 20)),  # more than the limit
    ],
)
def test_pieces_that_are_not_the_next_ones_end_the_connection(relay: bool, fault: bytes) -> None:
    for cuts in ((), range(1, 400)):
        log = agreed(Limits(blob=1_000_000), relay=relay)
        text = SMALL % b"a" + in_pieces(b"12", sizes=[1], name=b"b") + fault + COMMAND
        messages = read(log, text, [cut for cut in cuts if cut < len(text)])
        assert [message.name for message in messages if message.name != "B"] == ["a", "b"]
        assert len(log.violations) == 1
        assert read(log, COMMAND) == []


@relays
def test_pieces_that_were_not_agreed_on_end_the_connection(relay: bool) -> None:
    log = ReaderLog(relay=relay)
    log.reader.expect_raw(OFFERED, lambda agreed: None)
    read(log, b"<?indi-offer raw?>")
    assert read(log, in_pieces(b"1234", sizes=[2], between=COMMAND) + COMMAND) == []
    assert log.violations == ["sent a raw frame without its end mark"]


@relays
def test_a_frame_in_pieces_that_is_too_much_is_skipped(relay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: 100_000)
    log = agreed(relay=relay)
    text = in_pieces(COMMAND * 1000, DATA, sizes=[20_000], between=SMALL % b"a") + frame(b"fits", name=b"b")
    messages = read(log, text, range(10_000, len(text), 10_000))
    assert {message.name for message in messages[:-1]} == {"a"} and contents(messages[-1]) == [b"fits"]
    assert len(log.outgrowths) == 1 and log.skips == ["abandoned"] and log.violations == []


# -- Compressed pieces

METHODS = ("lz4", "zstd")
every_method = pytest.mark.parametrize("method", METHODS)


def agreed_on_methods(
    limits: Limits | None = None,
    *,
    relay: bool = True,
    methods: Sequence[str] = METHODS,
) -> ReaderLog:
    log = ReaderLog(limits or Limits(), relay=relay)
    log.reader.expect_raw(OFFERED, lambda agreed: None, lambda: methods)
    assert read(log, offer(METHODS).data) == []
    return log


def packed(
    *contents: bytes,
    sizes: Sequence[int],
    method: str,
    width: int = 1,
    most: int = LARGEST_PIECE,
    between: bytes = b"",
    name: bytes = b"B",
) -> bytes:
    """Return a frame in blocks of these sizes, the last of which is repeated, in pieces of at most `most` bytes."""
    whole = frame(*contents, name=name)
    content = b"".join(contents)
    text = b"<?indi-pieces?>" + whole[: -len(content + END_MARK)]
    at = number = blocks = 0
    while at < len(content):
        block = content[at : at + sizes[min(blocks, len(sizes) - 1)]]
        at, blocks = at + len(block), blocks + 1
        made = bytes(Compressor(method, width).compress(block))
        for start in range(0, len(made), most):
            part = made[start : start + most]
            number += 1
            if made == block:
                head = b"<?indi-piece %d %d?>" % (number, len(part))
            elif start + most < len(made):
                head = b"<?indi-piece %d %d more?>" % (number, len(part))
            else:
                head = b"<?indi-piece %d %d %b %d %d?>" % (number, len(part), method.encode(), width, len(block))
            text += between + head + part
    return text + END_MARK


@relays
@settings(deadline=None)
@given(data=st.data())
def test_compressed_frames_are_read_whatever_the_chunks_and_the_blocks(relay: bool, data: st.DataObject) -> None:
    piece = st.sampled_from([b"<?indi-piece 1 5?>", END_MARK, COMMAND, b"\0\1" * 40_000, b"x" * 70_000, DATA[:5000]])
    content = st.lists(piece | st.binary(max_size=50), max_size=4).map(b"".join).filter(bool)
    text = b""
    sent = data.draw(st.lists(st.lists(content, min_size=1, max_size=3), min_size=1, max_size=3))
    for one in sent:
        text += packed(
            *one,
            sizes=[*data.draw(st.lists(st.sampled_from([1, 100, 30_000]), max_size=3)), 256 << 10],
            method=data.draw(st.sampled_from(METHODS)),
            width=data.draw(st.sampled_from(WIDTHS)),
            most=data.draw(st.sampled_from([1000, 20_000, 256 << 10])),
            between=data.draw(st.sampled_from([b"", SMALL % b"between"])),
        )
        text += SMALL % b"after" + frame(*one, name=b"whole")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    log = agreed_on_methods(relay=relay)
    messages = read(log, text, cuts)
    assert [message.name for message in messages if message.name != "between"] == ["B", "after", "whole"] * len(sent)
    assert [contents(message) for message in messages if message.name == "B"] == sent
    assert log.skips == log.violations == [] and log.reader.held == 0


@every_method
def test_what_has_come_of_a_compressed_frame_is_held(method: str) -> None:
    log = agreed_on_methods()
    text = packed(b"x" * 500_000, sizes=[200_000], method=method, most=10)
    first = text.index(b"<?indi-piece 2")
    assert read(log, text[:first]) == [] and log.reader.held == 10, "a part of a block"
    rest = text.index(END_MARK)
    assert read(log, text[first:rest], range(1, rest - first)) == [] and log.reader.held == 500_000
    (message,) = read(log, text[rest:])
    assert contents(message) == [b"x" * 500_000]


COMPRESSED = {method: bytes(Compressor(method, 2).compress(bytes(1000))) for method in METHODS}


def head(*words: object) -> bytes:
    return b"<?indi-piece %b?>" % " ".join(map(str, words)).encode()


@relays
@every_method
@pytest.mark.parametrize(
    "fault",
    [
        lambda made, method: head(1, len(made), method, 2, 1001),  # of more than is missing
        lambda made, method: head(1, len(made), method, 2, 999) + made,  # it inflates to more
        lambda made, method: head(1, len(made), method, 2, 0) + made,
        lambda made, method: head(1, len(made), method, 2, len(made)) + made,  # nothing is gained
        lambda made, method: head(1, len(made), method, 3, 1000) + made,
        lambda made, method: head(1, len(made), method, 1000) + made,
        lambda made, method: head(1, len(made), method, 2, 1000, 1) + made,
        lambda made, method: head(1, len(made), method, 2, "x") + made,
        lambda made, method: head(1, len(made), "rot13", 2, 1000) + made,
        lambda made, method: head(1, len(made), "\xff", 2, 1000) + made,
        lambda made, method: head(1, 0, method, 2, 1000),
        lambda made, method: head(2, len(made), method, 2, 1000) + made,
        lambda made, method: head(1, len(made) - 1, method, 2, 1000) + made[:-1] + END_MARK,
        lambda made, method: head(1, len(made), method, 2, 1000) + made[::-1] + END_MARK,
        lambda made, method: head(1, len(made), method, 2, 1000) + bytes(len(made)) + END_MARK,
        lambda made, method: head(1, len(made), method, 2, 1000) + made + COMMAND,  # no end mark
        lambda made, method: head(1, 1000, "more"),  # as much as is missing
        lambda made, method: head(1, 4, "more", 1) + made[:4],
        lambda made, method: head(1, 4, "most") + made[:4],
        lambda made, method: head(1, 4, "more") + made[:4] + head(2, 996) + bytes(996) + END_MARK,
        lambda made, method: head(1, 990, "more") + bytes(990) + head(2, 10, method, 2, 1000) + bytes(10),
    ],
)  # fmt: skip
def test_compressed_pieces_at_fault_end_the_connection(
    relay: bool, method: str, fault: Callable[[bytes, str], bytes]
) -> None:
    envelope = frame(bytes(1000)).partition(bytes(1000))[0]
    said = SMALL % b"a" + PIECES + envelope + fault(COMPRESSED[method], method) + COMMAND + END_MARK * 2
    for cuts in ((), range(1, 400)):
        log = agreed_on_methods(relay=relay)
        messages = read(log, said, [cut for cut in cuts if cut < len(said)])
        assert [message.name for message in messages if message.name != "OPEN"] == ["a"]
        assert "B" not in [message.name for message in messages]
        read(log, COMMAND + END_MARK)
        assert len(log.violations) == 1, log.violations


@relays
def test_methods_that_were_not_agreed_on_end_the_connection(relay: bool) -> None:
    for log, method in ((agreed_on_methods(relay=relay, methods=["zstd"]), "lz4"), (agreed(relay=relay), "zstd")):
        assert read(log, packed(bytes(1000), sizes=[1000], method=method) + COMMAND) == []
        assert log.violations == ["sent a piece of a raw frame that is not the next one"]
    log = agreed(relay=relay)
    assert read(log, packed(bytes(100_000), sizes=[100_000], method="zstd", most=10) + COMMAND) == []
    assert len(log.violations) == 1


@every_method
@relays
def test_a_bomb_is_skipped_before_it_takes_the_memory(
    relay: bool, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it arrives in one read, and would take a thousand times as much memory."""
    most = 2_000_000
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: most)
    log = agreed_on_methods(relay=relay)
    text = SMALL % b"a" + packed(bytes(200 << 20), sizes=[256 << 10], method=method) + SMALL % b"c"
    assert len(text) < 1 << 20
    text += packed(b"fits" * 1000, sizes=[4000], method=method, name=b"b")
    tracemalloc.start()
    try:
        messages = read(log, text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [message.name for message in messages] == ["a", "c", "b"] and contents(messages[2]) == [b"fits" * 1000]
    assert len(log.outgrowths) == 1 and log.skips == ["abandoned"] and log.violations == [] and log.reader.held == 0
    assert peak < 3 * most


def test_a_frame_that_was_abandoned_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    log = agreed_on_methods()
    text = packed(bytes(1 << 20), sizes=[100_000], method="lz4")
    begin = text.index(b"<?indi-piece 5")
    assert read(log, text[:begin]) == [] and log.reader.held == 400_000
    log.reader.abandon()
    assert log.reader.held == 0
    monkeypatch.setattr(Decompressor, "decompress", lambda *words: pytest.fail("inflated"))
    assert [message.name for message in read(log, text[begin:] + SMALL % b"a")] == ["a"]
    assert log.violations == []


def test_blocks_are_inflated_into_memory_that_is_used_again() -> None:
    before = rawframes._pool.blocks
    text = packed(bytes(10 << 20), sizes=[256 << 10], method="lz4", width=2)
    for _ in range(3):
        assert [contents(message) for message in read(agreed_on_methods(), text)] == [[bytes(10 << 20)]]
    assert rawframes._pool.blocks - before <= 48


@relays
@pytest.mark.parametrize("size", [100_000, 256 << 10])
def test_a_frame_without_memory_for_a_block_is_skipped(relay: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its length is known, this costs neither the connection nor what follows."""
    log = agreed_on_methods(relay=relay)
    text = packed(bytes(1 << 20), sizes=[size], method="lz4")
    inflate = Decompressor.decompress
    calls: list[object] = []

    def scarce(*words: Any) -> Any:
        calls.append(words)
        if len(calls) == 2:
            raise MemoryError
        return inflate(*words)

    monkeypatch.setattr(Decompressor, "decompress", scarce)
    messages = read(log, text + SMALL % b"after" + text)
    assert [message.name for message in messages] == ["after", "B"]
    assert contents(messages[1]) == [bytes(1 << 20)]
    assert [type(error) for _, error in log.refusals] == [MemoryError]
    assert log.violations == [] and log.reader.held == 0


@relays
def test_a_reader_leaves_what_takes_long_for_later(relay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rawframes, "AT_ONCE", 250_000)
    log = agreed_on_methods(relay=relay)

    def read(log: ReaderLog, text: bytes) -> list[Routable]:
        return list(log.reader.read(text, 0, len(text), []))

    size = 1_000_000
    text = packed(bytes(size), sizes=[100_000], method="zstd", between=SMALL % b"between") + SMALL % b"after"
    messages = read(log, text)
    assert log.reader.unread and [message.name for message in messages] == ["between"] * 3
    held = [log.reader.held]
    while log.reader.unread:
        messages += log.reader.read(b"", 0, 0, [])
        held.append(log.reader.held)
    assert held == [300_000, 600_000, 900_000, 0]
    messages += read(log, text) + read(log, text + SMALL % b"last")  # more comes although something is left
    while log.reader.unread:
        messages += log.reader.read(b"", 0, 0, [])
    assert [message.name for message in messages] == [*["between"] * 10, "B", "after"] * 3 + ["last"]
    assert contents(messages[10]) == contents(messages[22]) == contents(messages[34]) == [bytes(size)]
    read(log, text[: text.index(b"<?indi-piece 10")] + b"<?indi-piece 9?>")
    while log.reader.unread:
        log.reader.read(b"", 0, 0, [])
    assert len(log.violations) == 1


@relays
@pytest.mark.parametrize("width", [1, 2])
def test_what_has_to_be_unshuffled_waits_for_numpy(relay: bool, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long to load, and an event loop has other things to do."""
    loaded = False
    asked: list[bool] = []
    monkeypatch.setattr(rawframes, "prepared", lambda: asked.append(loaded) or loaded)
    log = agreed_on_methods(relay=relay)
    assert not asked, "perhaps there will be no frame"
    content = bytes(range(200)) * 1000
    text = packed(content, sizes=[100_000], method="lz4", width=width)
    begin = text.index(b"more") if b"more" in text else text.index(b"<?indi-piece 2")
    messages = [*log.reader.read(text[:begin], 0, begin, [])]
    assert (log.reader.unread, log.reader.again_after > 0) == ((True, True) if width > 1 else (False, False))
    messages += log.reader.read(b"", 0, 0, [])
    messages += log.reader.read(text[begin:] + SMALL % b"after", 0, len(text[begin:] + SMALL % b"after"), [])
    assert [message.name for message in messages] == ([] if width > 1 else ["B", "after"])
    loaded = True
    if width > 1:
        messages += log.reader.read(b"", 0, 0, [])
    assert [message.name for message in messages] == ["B", "after"] and contents(messages[0]) == [content]
    assert not log.reader.unread and log.reader.again_after == 0 and log.violations == []


def test_numpy_begins_to_be_loaded_with_the_first_piece_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(rawframes, "prepared", lambda: asked.append(True) or True)
    text = packed(os.urandom(1000) + bytes(100_000), sizes=[200_000], method="lz4", most=500)
    log = agreed_on_methods()
    log.reader.read(text, 0, text.index(b"more?>") + len(b"more?>") + 1, [])
    assert asked and not log.reader.unread


def test_a_block_takes_no_more_memory_than_its_content() -> None:
    size = 70_000
    text = packed(bytes(100 * size), sizes=[size], method="lz4")
    log = agreed_on_methods()
    read(log, text[:5000])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0], rawframes._pool.blocks * LARGEST_PIECE
        read(log, text[5000 : text.index(END_MARK)])
        taken = tracemalloc.get_traced_memory()[0] + rawframes._pool.blocks * LARGEST_PIECE - sum(before)
    finally:
        tracemalloc.stop()
    assert log.reader.held == 100 * size
    assert taken < 1.5 * log.reader.held, taken


# -- Agreement


@pytest.mark.parametrize("chunked", [False, True])
def test_both_sides_agree_and_a_frame_may_follow_at_once(chunked: bool) -> None:
    for expected, said in ((OFFERED, OFFER), (ACCEPTED, ACCEPTANCE)):
        log = ReaderLog()
        agreements: list[Agreement] = []
        log.reader.expect_raw(expected, agreements.append)
        text = SMALL % b"a" + said.data + SMALL % b"b" + frame(DATA, name=b"c") + said.data + SMALL % b"d"
        messages = read(log, text, range(1, 500) if chunked else ())
        assert [message.name for message in messages] == list("abcd") and contents(messages[2]) == [DATA]
        assert agreements == [Agreement(pieces=True)], "saying it again changes nothing"


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (ACCEPTED, OFFER.data),  # an echo
        (OFFERED, ACCEPTANCE.data),
        (OFFERED, b"<?indi-offer?>"),
        (OFFERED, b"<?indi-offer rawer?>"),
        (OFFERED, b"<?indi-offers raw?>"),
        (OFFERED, b"<!--<?indi-offer raw?>-->"),
        (OFFERED, b"<message message='<?indi-offer raw?>'/>"),
        (OFFERED, b"<setTextVector device='Cam' name='t'><?indi-offer raw?></setTextVector>"),
    ],
)
def test_nothing_else_is_an_agreement(expected: bytes, said: bytes) -> None:
    log = ReaderLog()
    log.reader.expect_raw(expected, lambda agreed: pytest.fail("agreed"))
    read(log, said + SMALL % b"a")
    assert log.violations == []


@pytest.mark.parametrize(
    ("said", "allowed", "methods"),
    [
        (b"<?indi-offer raw pieces zstd lz4?>", ("lz4", "zstd"), ("lz4", "zstd")),
        (b"<?indi-offer lz4 raw pieces brotli?>", ("lz4", "zstd"), ("lz4",)),
        (b"<?indi-offer raw pieces lz4 zstd?>", ("zstd",), ("zstd",)),
        (b"<?indi-offer raw pieces lz4 zstd?>", (), ()),
        (b"<?indi-offer raw lz4 zstd?>", ("lz4", "zstd"), ()),  # compressed frames come in pieces
        (b"<?indi-offer raw pieces?>", None, ()),
    ],
)
def test_methods_are_used_that_both_sides_name(
    said: bytes, allowed: tuple[str, ...] | None, methods: tuple[str, ...]
) -> None:
    """What this side allows is not asked for, as that takes time, unless the other side names any."""
    log = ReaderLog()
    agreements: list[Agreement] = []
    log.reader.expect_raw(OFFERED, agreements.append, lambda: pytest.fail("asked") if allowed is None else allowed)
    read(log, said)
    (agreement,) = agreements
    assert agreement.methods == methods
    words = agreement.acceptance.data.removesuffix(b"?>").split()
    assert tuple(words[3:]) == tuple(method.encode() for method in methods)
    if methods:
        assert offer(methods).data == agreement.acceptance.data.replace(ACCEPTED, OFFERED)


def test_words_of_the_future_do_no_harm() -> None:
    log = ReaderLog()
    agreements: list[Agreement] = []
    log.reader.expect_raw(OFFERED, agreements.append)
    assert len(read(log, b"<?indi-offer  pieces raw\tlz4 ?>" + frame(b"1"))) == 1
    assert agreements == [Agreement(pieces=True)]


# -- Writing


def one_blob(data: bytes | bytearray, size: int | None = None) -> BlobMessage:
    return BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("m", ".x", data, size)])


async def made(message: Routable, form: int) -> bytes:
    """Return the bytes of a form, after waiting for it as an outbox does."""
    while message.parts(form) is None or (form == INLINE and message.growing):
        ready: list[bool] = []
        message.when_ready(form, partial(ready.append, True))
        await eventually(ready.__len__)
    return b"".join(message.parts(form) or ())


def driven(data: bytes) -> BlobMessage:
    return one_blob(data)


def driven_from_a_buffer(data: bytes) -> BlobMessage:
    return one_blob(bytearray(data))


def inline(data: bytes) -> BlobMessage:
    text = b"<setBLOBVector device='Cam' name='B' state='Ok'><oneBLOB name='m' size='%d' format='.x'>\n%b\n</oneBLOB>"
    (element,) = Tokenizer(relay=True).feed(text % (len(data), b64encode(data)) + b"</setBLOBVector>")
    return BlobMessage.of(element)


def decoded(data: bytes) -> BlobMessage:
    text = b"<setBLOBVector device='Cam' name='B'><oneBLOB name='m' size='%d' format='.x' enclen='9'>%b</oneBLOB>"
    (element,) = Tokenizer().feed(text % (len(data), b64encode(data)) + b"</setBLOBVector>")
    return BlobMessage.of(element)


def attached(data: bytes, fd: int | None = None, more: bytes = b"") -> BlobMessage:
    text = b"<setBLOBVector device='Cam' name='B'><oneBLOB name='m' size='%d' format='.x' attached='true'%b/>"
    (element,) = Tokenizer(relay=True).feed(text % (len(data), more) + b"</setBLOBVector>")
    message = routable(element, arrived(memory_file(data) if fd is None else fd))
    assert isinstance(message, BlobMessage)
    return message


def attached_with_an_empty_length(data: bytes) -> BlobMessage:
    return attached(data, more=b" len=''")


def attached_and_sealed(data: bytes) -> BlobMessage:
    return attached(data, shm.share(data))


def raw(data: bytes) -> BlobMessage:
    (message,) = read(agreed(), frame(data))
    assert isinstance(message, BlobMessage)
    return message


SOURCES = [
    driven, driven_from_a_buffer, inline, decoded, attached, attached_with_an_empty_length, attached_and_sealed, raw,
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 70_000, 2_000_001])
@pytest.mark.parametrize("source", SOURCES)
def test_every_message_has_a_raw_form_which_is_read_as_what_was_sent(
    source: Callable[[bytes], BlobMessage], size: int
) -> None:
    async def scenario() -> None:
        data = os.urandom(size)
        message = source(data)
        text = await made(message, RAW)
        assert text.endswith(b">" + data + END_MARK)
        (again,) = read(agreed(), text)
        assert contents(again) == [data]
        assert again.tag == "setBLOBVector" and (again.device, again.name) == ("Cam", "B")
        (member,) = again.element().members
        assert (member.attrs["format"], member.blob_size, member.blob_length) == (".x", size, size)

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, 70_000, 2_000_001])
@pytest.mark.parametrize("first", [[RAW], [INLINE], [ATTACHED], [RAW, INLINE], []], ids=str)
@pytest.mark.parametrize("source", [driven_from_a_buffer, raw])
def test_any_form_can_be_made_from_any_other(
    source: Callable[[bytes], BlobMessage], first: list[int], size: int
) -> None:
    async def scenario() -> None:
        data = os.urandom(size)
        message = source(data)
        for form in first:
            await made(message, form)
        message.release()
        held = message.raw()
        assert held is not None
        assert b"".join(bytes(block) for block in held.contents[0].blocks(3 << 10)) == data
        (plain,) = Tokenizer().feed(await made(message, INLINE))
        assert plain.members[0].data == data
        (again,) = read(agreed(), await made(message, RAW))
        assert contents(again) == [data]
        await made(message, ATTACHED)
        assert os.pread(message.fds()[0], size, 0) == data
        assert contents(message) == [data]

    asyncio.run(scenario())


def test_a_drivers_buffer_may_change_after_the_release() -> None:
    async def scenario() -> None:
        buffer = bytearray(os.urandom(200_000))
        data = bytes(buffer)
        message = one_blob(buffer)
        text = message.when_ready(RAW, lambda agreed: None)
        message.release()  # waits for the thread
        buffer[:] = bytes(len(buffer))
        text = await made(message, RAW)
        assert text.endswith(data + END_MARK)

    asyncio.run(scenario())


def test_several_members_of_which_one_has_no_content() -> None:
    contents_ = [BlobContent("a", ".1", DATA), BlobContent("none", ".2", b""), BlobContent("b", ".z", b"zipped", 1000)]
    message = BlobMessage.from_members("newBLOBVector", VECTOR, contents_)
    (again,) = read(agreed(), asyncio.run(made(message, RAW)))
    assert contents(again) == [DATA, None, b"zipped"]
    assert [member.blob_size for member in again.element().members] == [len(DATA), 0, 1000]
    (plain,) = Tokenizer().feed(asyncio.run(made(again, INLINE)))
    assert [member.data for member in plain.members] == [DATA, None, b"zipped"]
    assert [member.blob_size for member in plain.members] == [len(DATA), 0, 1000]


def test_a_mapping_is_sent_only_of_a_file_that_nobody_can_cut() -> None:
    async def pieces(message: BlobMessage) -> list[object]:
        await made(message, RAW)
        parts = message.parts(RAW)
        assert parts is not None
        return [type(memoryview(part).obj).__name__ for part in parts[1:-1]]

    async def scenario() -> None:
        assert await pieces(attached_and_sealed(DATA)) == ["mmap"]
        assert "mmap" not in await pieces(attached(DATA)), "not sealed"
        fd = os.memfd_create("sparse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, len(DATA))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
        assert "mmap" not in await pieces(attached(bytes(len(DATA)), fd)), "its pages do not exist"

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_file_that_was_cut_before_its_length_is_announced_costs_the_message(size: int) -> None:
    async def scenario() -> None:
        fd = memory_file(bytes(size))
        faults: list[str] = []
        message = attached(bytes(size), os.dup(fd))
        message.on_fault = faults.append
        os.ftruncate(fd, size - 1)
        assert await made(message, RAW) == b"\n"
        assert faults == ["BLOB lost"]
        os.close(fd)

    asyncio.run(scenario())


def test_random_streams() -> None:
    """Messages of all kinds, in chunks of all sizes, through one reader that relays to another."""
    draw = random.Random(1)
    near, far = agreed(), agreed(relay=False)
    sent: list[tuple[str, list[bytes | None]]] = []
    text = b""
    for number in range(300):
        name = f"n{number}"
        if draw.random() < 0.5:
            sizes = draw.choices([1, 100, 5000, 90_000], k=draw.choice([1, 2]))
            content = [draw.randbytes(size) for size in sizes]
            text += frame(*content, name=name.encode())
            sent.append((name, [*content]))
        else:
            text += SMALL % name.encode()
            sent.append((name, [None]))
    got: list[tuple[str | None, list[bytes | None]]] = []
    at = 0
    while at < len(text):
        step = draw.choice([1, 10, 1000, 65_536, 262_144])
        for message in near.reader.read(text[at : at + step], 0, min(step, len(text) - at), []):
            if isinstance(message, BlobMessage):
                out = asyncio.run(made(message, RAW))
            else:
                assert isinstance(message, Element)
                out = b"".join(message.parts(RAW) or ())
            for again in read(far, out, [draw.randrange(len(out))]):
                got.append((again.name, contents(again)))
        at += step
    assert got == sent


# -- Long contents are read where they belong

LONG = random.Random(1).randbytes(300_000)


def written(*contents: bytes, pieces: bool, size: int) -> bytes:
    return in_pieces(*contents, sizes=[size]) if pieces else frame(*contents)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_contents_are_what_they_were_wherever_they_are_read(pieces: bool, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 1000, (64 << 10) - 1, 64 << 10, 200_000]), min_size=1, max_size=3))
    sent = [LONG[: size + number] for number, size in enumerate(sizes)]
    text = written(*sent, pieces=pieces, size=data.draw(st.sampled_from([5000, 100_000, 256 << 10])))
    text = SMALL % b"a" + text + SMALL % b"b" + text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    log = agreed(relay=False)
    messages = read(log, text, cuts)
    assert [message.name for message in messages] == ["a", "B", "b", "B"]
    assert contents(messages[1]) == contents(messages[3]) == sent
    assert all(type(content) is bytes for content in contents(messages[1]))
    assert log.reader.held == 0 and log.reader.target() is None and log.violations == []


def test_a_content_is_neither_copied_nor_read_elsewhere() -> None:
    log = agreed(relay=False)
    text = frame(LONG)
    begin = text.index(LONG)
    assert log.reader.target() is None
    assert read(log, text[: begin + 10]) == [] and log.reader.held == 10
    assert fill(log, LONG[10:-1]) == len(LONG) - 11 and log.reader.held == len(LONG) - 1
    assert log.reader.target() is None, "it is not worth a system call"
    (message,) = read(log, LONG[-1:] + text[begin + len(LONG) :])
    assert isinstance(message, BlobMessage)
    ((_, view),) = message.views()
    assert view() is view() and view() == LONG


def test_who_passes_frames_on_keeps_the_pieces() -> None:
    log = agreed(relay=True)
    text = frame(LONG)
    read(log, text[:1000])
    assert log.reader.held and log.reader.target() is None


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_a_frame_that_is_dropped_is_read_no_more_into_its_memory(pieces: bool) -> None:
    log = agreed(relay=False)
    text = written(LONG, pieces=pieces, size=200_000)
    at = 10_000
    read(log, text[:at])
    assert log.reader.target() is not None
    log.reader.abandon()
    assert log.reader.target() is None and log.reader.held == 0
    assert [message.name for message in read(log, text[at:] + SMALL % b"a")] == ["a"]
    assert log.skips == ["abandoned"] and log.violations == []


def test_a_frame_for_which_there_is_no_memory_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce(*words: Any) -> Any:
        raise MemoryError

    log = agreed(relay=False)
    monkeypatch.setattr(rawframes, "Arrival", scarce)
    messages = read(log, frame(LONG) + SMALL % b"a" + frame(b"fits", name=b"b"))
    assert [message.name for message in messages] == ["a", "b"] and contents(messages[1]) == [b"fits"]
    assert [type(error) for _, error in log.refusals] == [MemoryError] and log.violations == []


def test_a_frame_that_is_not_continued_is_noticed_wherever_it_is_read() -> None:
    log = agreed(relay=False)
    text = frame(LONG)
    begin = text.index(LONG)
    read(log, text[:begin])
    fill(log, LONG[:5])
    (timer,) = log.timers
    log.reader._last_read -= 1000
    timer.fire()
    assert log.stalls == [5]


@every_method
def test_blocks_are_inflated_where_they_belong(method: str) -> None:
    before = rawframes._pool.blocks
    log = agreed_on_methods(relay=False)
    content = bytes(10 << 20) + LONG
    (message,) = read(log, packed(content, b"xy", sizes=[256 << 10], method=method, width=2))
    assert contents(message) == [content, b"xy"] and rawframes._pool.blocks - before <= 1


@pytest.mark.parametrize("method", ["", *METHODS])
def test_the_memory_of_a_frame_that_nobody_has_is_that_of_the_next_but_one(method: str) -> None:
    log = agreed_on_methods(relay=False)
    size = 2 << 20

    def received(value: int) -> bytes:
        content = bytes([value]) * size
        text = packed(content, sizes=[256 << 10], method=method) if method else frame(content)
        (message,) = read(log, text, [500])
        assert isinstance(message, BlobMessage)
        ((_, view),) = message.views()
        assert view() == content
        return bytes(view())

    kept = received(1)
    places = set()
    for value in range(2, 12):
        current = received(value)
        places.add(id(current))
    assert len(places) == 2 and kept == b"\1" * size
    (timer,) = log.timers[-1:]
    timer.fire()
    assert log.reader._raw is not None and log.reader._raw._spares, "a frame has come since the timer was set"
    log.timers[-1].fire()
    assert log.reader._raw._spares == []
    timers = len(log.timers)
    received(12)
    assert len(log.timers) == timers + 1 and log.reader._raw._spares
    log.reader.close()
    assert log.timers[-1].cancelled and log.reader._raw._spares == [] and current == b"\x0b" * size


@pytest.mark.parametrize("size", [1000, 300_000, (64 << 20) + 1])
def test_memory_of_short_and_of_very_long_contents_is_given_back_at_once(size: int) -> None:
    log = agreed(relay=False)
    assert len(read(log, frame(bytes(size)))) == 1
    assert log.reader._raw is not None and log.reader._raw._spares == []
