"""When memory runs out, only the element that needs it is lost: no other is changed, and none of its memory leaks."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.support import scarce

STREAM = """
import base64
from indifast._parser import Tokenizer

RAW = bytes(range(256)) * 60
BLOB = base64.b64encode(RAW)
GOOD = b"<message device='D' message='good'/>"
NUMBERS = b"".join(b"<oneNumber name='n%d'>%d</oneNumber>" % (n, n) for n in range(100))
WIRE = b"".join([
    b"<?xml version='1.0'?>",
    b"<setTextVector device='Caf\\xe9' name='t' state='Ok'><oneText name='a'>1 &lt; 2</oneText></setTextVector>",
    b"<!-- a comment -->",
    b"<setNumberVector device='D' name='many'>" + NUMBERS + b"</setNumberVector>",
    b"<setBLOBVector device='D' name='b'><oneBLOB name='b' size='1'>" + BLOB + b"</oneBLOB></setBLOBVector>",
    b"<setBLOBVector device='D' name='c'><oneBLOB name='b' size='15360'>\\n", BLOB[:4000], b"<!-- c -->", BLOB[4000:],
    b"\\n</oneBLOB><oneBLOB name='c' size='1'>QQ==</oneBLOB></setBLOBVector>",
    b"<setTextVector device='D' name='long'><oneText name='a'>", b"x" * 5000, b"</oneText></setTextVector>",
    b"<enableBLOB device='D'>Al<x/>so</enableBLOB>",
])

def seen(element):
    parts = element.parts(False)
    members = [(member.tag, member.attrs, member.text, member.data) for member in element.members]
    return element.tag, element.attrs, element.values(), members, parts and b"".join(map(bytes, parts))
"""


def run(program: str, folder: Path, **values: object) -> None:
    lines = [f"{name} = {value!r}\n" for name, value in values.items()]
    scarce.run(STREAM + "".join(lines) + textwrap.dedent(program), folder)


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("size", [1 << 20, 9000, 700])
def test_an_allocation_that_fails_costs_one_element(relay: bool, size: int, tmp_path: Path) -> None:
    program = """
    class Reading:
        def __init__(self):
            self.tokenizer = Tokenizer(relay=relay)
            self.pieces = [WIRE[at : at + size] for at in range(0, len(WIRE), size)]
            self.found = [None] * len(self.pieces)

        def read(self):
            for at, piece in enumerate(self.pieces):
                if self.found[at] is None:  # the piece was not read: there was no memory even for the list
                    self.found[at] = self.tokenizer.feed(piece)

    whole = Reading()
    whole.read()
    expected = [seen(element) for found in whole.found for element in found]

    def check(reading, refused):
        reading.read()
        found = [seen(element) for found in reading.found for element in found]
        left = iter(expected)
        assert all(element in left for element in found), "differs from what was sent, or is out of order"
        lost = len(expected) - len(found)
        assert lost <= refused, (lost, refused)
        assert set(reading.tokenizer.skipped) <= {"memory"}
        assert reading.tokenizer.skipped.get("memory", 0) >= lost or refused > 1  # a new key takes memory as well
        assert reading.tokenizer.skipped_bytes or not lost
        assert reading.tokenizer.held == 0
        (good,) = reading.tokenizer.feed(GOOD)
        assert good.attrs == {"device": "D", "message": "good"}

    each_allocation(Reading, Reading.read, check)
    before = live()
    each_allocation(Reading, Reading.read, check)
    assert live() < before + 100, (before, live())
    """
    run(program, tmp_path, relay=relay, size=size)


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("end", [1000, 3000, 20_000, 30_000, 48_000])
def test_an_element_can_be_abandoned_without_memory(relay: bool, end: int, tmp_path: Path) -> None:
    """What is kept for it is freed first, as no other memory may be available."""
    program = """
    def half():
        tokenizer = Tokenizer(relay=relay, on_skip=lambda *skip: None)
        tokenizer.feed(WIRE, 0, end)
        assert tokenizer.held > 0
        return tokenizer

    def check(tokenizer, refused):
        if tokenizer.held:  # `abandon` was not even called
            tokenizer.abandon()
        assert tokenizer.held == 0
        assert tokenizer.skipped_bytes
        assert tokenizer.skipped == {"abandoned": 1} or refused  # a new key of a dictionary takes memory as well
        (good,) = tokenizer.feed(GOOD)
        assert good.attrs == {"device": "D", "message": "good"}

    each_allocation(half, lambda tokenizer: tokenizer.abandon(), check, counts=(1, 100))
    """
    run(program, tmp_path, relay=relay, end=end)


def test_reading_an_element_without_memory_can_be_repeated(tmp_path: Path) -> None:
    program = """
    def prepare():
        return Tokenizer(relay=True).feed(WIRE)

    def read(elements):
        for element in elements:
            seen(element)
            element.envelope(True)

    expected = list(map(seen, prepare()))

    def check(elements, refused):
        assert list(map(seen, elements)) == expected

    each_allocation(prepare, read, check, counts=(1,))
    before = live()
    each_allocation(prepare, read, check, counts=(1,))
    assert live() < before + 100, (before, live())
    """
    run(program, tmp_path)


@pytest.mark.parametrize("what", ["formats", "carried", "blobs", "members"])
def test_properties_of_blobs_are_released_once(what: str, tmp_path: Path) -> None:
    """All elements share their names and formats, so releasing one too often frees a string that is in use."""
    program = """
    import sys

    ONE = b"<oneBLOB name='Ein' size='3' format='.xy'>QUJD</oneBLOB>"
    WIRE = b"<setBLOBVector device='D' name='b'>" + ONE + b"</setBLOBVector>"
    (element,) = Tokenizer(relay=True).feed(WIRE)
    name, format = element.members[0].name, element.members[0].format
    known = (name, format)

    def check(subject, refused):
        gc.collect()
        assert (sys.getrefcount(name), sys.getrefcount(format)) == before

    getattr(element, what)
    before = sys.getrefcount(name), sys.getrefcount(format)
    each_allocation(lambda: element, lambda element: getattr(element, what), check)
    """
    run(program, tmp_path, what=what)
