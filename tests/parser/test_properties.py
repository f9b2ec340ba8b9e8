"""Properties of every stream: the same elements however it is cut, clean output, no exception, bounded memory."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from hypothesis import example, given, settings
from hypothesis import strategies as st

from indifast._parser import BlockPool, Element, Tokenizer
from tests.parser import streams
from tests.parser.support import GOOD, written

LIMITS = {"attribute": 64, "element": 1000, "blob": 100, "depth": 4, "members": 10}


def seen(element: Element) -> streams.Part:
    members = [streams.Part(m.tag, m.attrs, "" if m.tag == "oneBLOB" else m.text, m.data) for m in element.members]
    return streams.Part(element.tag, element.attrs, element.text, None, members)


def bare(part: streams.Part) -> streams.Part:
    return streams.Part(part.tag, part.attrs, part.text, part.data, [bare(m) for m in part.members])


def stripped(part: streams.Part) -> streams.Part:
    """Return the part as relaying leaves it: only the text of text members keeps its outer white space."""
    text = part.text if part.tag in ("oneText", "defText") else part.text.strip()
    return streams.Part(part.tag, part.attrs, text, part.data, [stripped(m) for m in part.members])


def is_written(attribute: str) -> bool:
    """Return whether relaying keeps an attribute.

    libindi fails on names with these characters, and trusts `enclen` and `attached` on any element.
    """
    return not set(attribute) & set("-:.") and attribute not in ("enclen", "attached")


def feed(tokenizer: Tokenizer, chunks: list[bytes]) -> list[Element]:
    return [element for chunk in chunks for element in tokenizer.feed(chunk)]


def can_be_written(element: Element) -> bool:
    return element.parts(False) is not None


def forms(elements: list[Element]) -> list[bytes | None]:
    """Return what each element is on the wire; None for a BLOB vector whose content was not kept for relaying."""
    return [written(element) if can_be_written(element) else None for element in elements]


@given(st.data(), streams.streams(), st.booleans())
@settings(max_examples=120)
def test_the_elements_of_a_stream_do_not_depend_on_its_chunks(
    data: st.DataObject, stream: tuple[bytes, list[streams.Part]], relay: bool
) -> None:
    wire, parts = stream
    tokenizer = Tokenizer(relay=relay)
    elements = feed(tokenizer, data.draw(streams.cuts(wire)))
    tokenizer.close()
    assert [seen(element) for element in elements] == [bare(part) for part in parts]
    assert tokenizer.skipped == {} and tokenizer.skipped_bytes == 0 and tokenizer.replaced == 0
    assert tokenizer.held == 0
    for element in elements:
        texts = {m.name: "" if m.tag == "oneBLOB" else m.text.strip() for m in element.members}
        assert element.values() == texts
        assert element.device == element.attrs.get("device") and element.name == element.attrs.get("name")
        assert element.carried == {m.name for m in element.members if m.data}


@given(st.data(), streams.streams())
@settings(max_examples=100)
def test_relayed_output_is_xml_that_relaying_does_not_change(
    data: st.DataObject, stream: tuple[bytes, list[streams.Part]]
) -> None:
    wire, parts = stream
    once = feed(Tokenizer(relay=True), data.draw(streams.cuts(wire)))
    out = written(*once)
    twice = Tokenizer(relay=True).feed(out)
    assert written(*twice) == out
    assert [stripped(seen(element)) for element in twice] == [stripped(bare(part)) for part in parts]
    for element, part in zip(once, parts, strict=True):
        assert element.size == len(written(element))
        root = ET.fromstring(written(element))
        assert root.tag == part.tag and root.attrib == part.attrs
        for child, member in zip(root, part.members, strict=True):
            assert child.tag == member.tag and child.attrib == member.attrs
            if member.tag in ("oneText", "defText"):
                assert (child.text or "") == member.text


@given(st.sampled_from(["message", "enableBLOB"]), streams.MIXED)
@example("message", b"<y name='n'/>&#x20;")
@settings(max_examples=200)
def test_relaying_keeps_the_mixed_content_of_a_root(tag: str, inside: bytes) -> None:
    """White space alone between its elements means nothing, and only the first hop sees that it was a reference."""
    (once,) = Tokenizer().feed(b"<%s>%s</%s>" % (tag.encode(), inside, tag.encode()))
    (twice,) = Tokenizer().feed(written(once))
    assert (twice.text, twice.values()) == (once.text, once.values())
    assert re.sub(rb">\s+<", b"><", written(twice)) == re.sub(rb">\s+<", b"><", written(once))


@given(st.sampled_from(["oneText", "oneNumber", "defSwitch", "oneBLOB"]), streams.MIXED, streams.MIXED)
@settings(max_examples=300)
def test_relaying_keeps_the_mixed_content_of_a_member(tag: str, inside: bytes, between: bytes) -> None:
    """The text of the vector itself, which nobody reads, is not written."""
    member = b"<%s name='m'>%s</%s>" % (tag.encode(), inside, tag.encode())
    (once,) = Tokenizer().feed(b"<setNumberVector name='v'>%s%s%s</setNumberVector>" % (between, member, between))
    (twice,) = Tokenizer().feed(written(once))
    assert twice.values() == once.values() and twice.text == ""
    assert [stripped(part) for part in seen(twice).members] == [stripped(part) for part in seen(once).members]
    assert written(twice) == written(once)


@given(streams.roots())
@settings(max_examples=100)
def test_agrees_with_elementtree(part: streams.Part) -> None:
    (element,) = Tokenizer().feed(part.wire)
    root = ET.fromstring(part.wire)
    assert element.attrs == root.attrib
    for member, child in zip(element.members, root, strict=True):
        assert member.attrs == child.attrib
        if member.tag != "oneBLOB":
            assert member.text == "".join(child.itertext())


def bound(relay: bool) -> int:
    """Return the largest number of bytes that may be held: the element, the notes about it, and its BLOBs."""
    return 1000 + 20 * 700 + 10 * (100 * 3 + (1 << 16) + 1100 if relay else 200)


@given(st.data(), streams.JUNK, st.booleans())
@settings(max_examples=600)
def test_any_bytes_at_all(data: st.DataObject, junk: bytes, relay: bool) -> None:
    whole = Tokenizer(relay=relay, **LIMITS)  # type: ignore[arg-type]
    expected = whole.feed(junk)
    tokenizer = Tokenizer(relay=relay, **LIMITS)  # type: ignore[arg-type]
    elements = []
    for chunk in data.draw(streams.cuts(junk)):
        elements += tokenizer.feed(chunk)
        assert tokenizer.held <= bound(relay)
    assert [seen(e) for e in elements] == [seen(e) for e in expected]
    assert forms(elements) == forms(expected)
    assert tokenizer.skipped == whole.skipped
    assert tokenizer.replaced == whole.replaced
    clean = list(filter(can_be_written, elements))
    for element in clean:
        ET.fromstring(written(element))
    again = Tokenizer(relay=True).feed(written(*clean))
    assert [list(e.attrs) for e in again] == [[k for k in e.attrs if is_written(k)] for e in clean]


@given(st.data(), streams.JUNK, st.booleans())
@settings(max_examples=400)
def test_the_first_root_after_any_damage_is_read(data: st.DataObject, junk: bytes, relay: bool) -> None:
    """An open quote, comment or element is given up at the attribute limit at the latest."""
    wire = junk + b" " * (LIMITS["attribute"] + 8) + GOOD
    tokenizer = Tokenizer(relay=relay, **LIMITS)  # type: ignore[arg-type]
    elements = feed(tokenizer, data.draw(streams.cuts(wire)))
    assert elements and written(elements[-1]) == written(*Tokenizer().feed(GOOD))


@given(st.data(), streams.streams())
@settings(max_examples=50)
def test_blocks_may_be_fed_in_pieces(data: st.DataObject, stream: tuple[bytes, list[streams.Part]]) -> None:
    wire, parts = stream
    pool = BlockPool(size=max(1, len(wire)), keep=1)
    tokenizer = Tokenizer(relay=True)
    elements = []
    for chunk in data.draw(streams.cuts(wire)):
        block = pool.get()
        memoryview(block)[: len(chunk)] = chunk
        elements += tokenizer.feed(block, 0, len(chunk))
    assert [seen(element) for element in elements] == [bare(part) for part in parts]
