"""The tokenizer: what it makes of a stream does not depend on how the stream is cut, and what it relays is clean."""

from __future__ import annotations

from xml.etree import ElementTree

from fuzzing.checks import Seen, check_relayed, seen, written
from fuzzing.inputs import Input, chunks
from indifast._base64 import encoded_length
from indifast._parser import BlockPool, Element, Tokenizer

GOOD = b'<setTextVector device="D" name="good"><oneText name="t">fine</oneText></setTextVector>\n'
LIMITS = {"attribute": 64, "element": 1000, "blob": 100, "depth": 4, "members": 10}
"""Limits that small inputs can exceed."""
MOST_HELD = 1000 + 20 * 700 + 10 * (100 * 3 + (1 << 16) + 1100)
"""Bytes that may be held under these limits: the element, the notes about it, and its BLOBs."""
EXCERPT = 80

_pool = BlockPool(size=1 << 16, keep=4)


class Reading:
    """One tokenizer, and all that it has said."""

    def __init__(self, *, relay: bool, small: bool) -> None:
        self.skips: list[tuple[str, int, bytes]] = []
        self.elements: list[Element] = []
        self.fed = 0
        self._small = small
        limits = LIMITS if small else {}
        self.tokenizer = Tokenizer(relay=relay, on_skip=lambda *skip: self.skips.append(skip), **limits)

    def feed(self, data: bytes, *, block: bool = False) -> None:
        """Take one chunk, within a receive buffer if `block`."""
        self.fed += len(data)
        if block:
            buffer = _pool.get()
            memoryview(buffer)[: len(data)] = data
            self.elements += self.tokenizer.feed(buffer, 0, len(data))
        else:
            self.elements += self.tokenizer.feed(data)
        if self._small:
            assert self.tokenizer.held <= MOST_HELD

    def check_accounts(self) -> None:
        """Check that what was skipped is counted, told, and no more than what was fed."""
        tokenizer = self.tokenizer
        assert sum(tokenizer.skipped.values()) == len(self.skips)
        taken = sum(map(_least, self.elements))
        assert sum(nbytes for _, nbytes, _ in self.skips) <= tokenizer.skipped_bytes <= self.fed - taken
        for reason, nbytes, excerpt in self.skips:
            assert tokenizer.skipped[reason] and len(excerpt) <= min(nbytes, EXCERPT)

    @property
    def outcome(self) -> tuple[list[Seen], list[bytes | None], dict[str, int], int, int, int]:
        """All that must not depend on the chunks."""
        tokenizer = self.tokenizer
        elements = [seen(element) for element in self.elements]
        counts = tokenizer.skipped_bytes, tokenizer.replaced, tokenizer.lost_attached
        return elements, [written(element) for element in self.elements], tokenizer.skipped, *counts


def _least(element: Element) -> int:
    """Return how many bytes an element must have had at least."""
    size = _of_tag(element.tag, element.attrs) + len(element.text)
    for member in element.members:
        size += _of_tag(member.tag, member.attrs) + len(member.text) + encoded_length(len(member.data or b""))
    return size


def _of_tag(tag: str, attrs: dict[str, str]) -> int:
    return len(tag) + len("</>") + sum(len(name) + len("=''") + len(value) for name, value in attrs.items())


def run(data: bytes) -> None:
    """Read a stream in several ways: a byte of options, one for the cuts, then the stream."""
    given = Input(data)
    options, way = given.byte(), given.byte()
    relay, small, block = bool(options & 1), bool(options & 2), bool(options & 4)
    stream = given.rest()

    whole, cut, bytewise = (Reading(relay=relay, small=small) for _ in range(3))
    whole.feed(stream, block=block)
    for chunk in chunks(stream, way):
        cut.feed(chunk, block=block)
    for chunk in chunks(stream, 1):
        bytewise.feed(chunk)
    for other in (cut, bytewise):
        assert other.outcome == whole.outcome, "chunks make a difference"
        other.check_accounts()

    otherwise = Reading(relay=not relay, small=small)
    otherwise.feed(stream)
    assert otherwise.outcome[0] == whole.outcome[0], "relaying and decoding read differently"

    for element in whole.elements:
        check_relayed(element)
    if whole.tokenizer.skipped_bytes == whole.tokenizer.held == 0:
        _check_with_expat(stream, whole.elements)

    _check_recovery(whole, options & 24)


def _check_with_expat(stream: bytes, elements: list[Element]) -> None:
    """Check that a stream of which nothing was skipped reads as it does for expat, if that takes it for XML."""
    try:
        roots = list(ElementTree.fromstring(b"<all>" + stream + b"</all>"))
    except ElementTree.ParseError:
        return
    if any("{" in name for found in roots for each in found.iter() for name in (each.tag, *each.attrib)):
        return  # namespaces, which the tokenizer knows nothing of
    assert [root.tag for root in roots] == [element.tag for element in elements]
    for root, element in zip(roots, elements, strict=True):
        assert element.attrs == root.attrib
        if not element.tag.endswith("Vector"):
            continue
        for child, member in zip(root, element.members, strict=True):
            assert member.tag == child.tag and member.attrs == child.attrib
            if member.tag != "oneBLOB" and not len(child):
                assert member.text == (child.text or "")


def _check_recovery(reading: Reading, how: int) -> None:
    """Check that whatever is open is given up in time, and that the next message comes out."""
    before = len(reading.elements)
    if how == 8:
        reading.tokenizer.abandon()
        assert reading.tokenizer.held == 0
    elif how == 16:
        reading.tokenizer.close()
        assert reading.tokenizer.held == 0
    else:
        reading.feed(b" " * ((LIMITS["attribute"] if reading._small else 64 << 10) + 8))
    reading.feed(GOOD)
    assert len(reading.elements) > before and reading.elements[-1].attrs == {"device": "D", "name": "good"}
    assert reading.elements[-1].values() == {"t": "fine"}
    reading.tokenizer.close()
    assert reading.tokenizer.held == 0
    reading.check_accounts()
