"""What several targets assert about elements and about the XML that leaves."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from indifast._parser import Element, Tokenizer
from indifast.protocol.message import RAW
from indifast.transport.blobs import END_MARK

SPACE = " \t\r\n"
NOT_WRITTEN = frozenset("-:.")
"""Characters of attribute names that libindi can't read: such attributes do not leave."""


class SeenMember(NamedTuple):
    """All that can be read from a member."""

    tag: str
    name: str
    attrs: dict[str, str]
    text: str
    data: bytes | None
    size: int | None
    length: int | None
    format: str
    attached: bool
    descriptor: bool


class Seen(NamedTuple):
    """All that can be read from an element."""

    tag: str
    device: str | None
    name: str | None
    attrs: dict[str, str]
    text: str
    values: dict[str, str]
    blob: bool
    formats: tuple[str, ...]
    carried: frozenset[str]
    attached: int
    descriptors: int
    members: list[SeenMember]


def seen(element: Element) -> Seen:
    """Read everything from an element, and check that it does not contradict itself."""
    members = [
        SeenMember(
            m.tag, m.name, m.attrs, m.text, m.data, m.blob_size, m.blob_length, m.format, m.attached, m.descriptor
        )
        for m in element.members
    ]  # fmt: skip
    attrs = element.attrs
    assert element.device == attrs.get("device"), "the device is not the attribute"
    assert element.name == attrs.get("name"), "the name is not the attribute"
    assert list(attrs) == list(element.attrs)
    assert element.attached == sum(m.attached for m in members)
    assert element.descriptors == sum(m.descriptor for m in members)
    assert element.carried == {m.name for m in members if m.data or m.attached}
    assert element.blob == bool(element.formats)
    for m in members:
        assert m.name == m.attrs.get("name", "")
        assert not (m.attached and m.data)
    return Seen(
        element.tag, element.device, element.name, attrs, element.text, element.values(), element.blob, element.formats,
        element.carried, element.attached, element.descriptors, members,
    )  # fmt: skip


def written(element: Element) -> bytes | None:
    """Return the inline form; None if the element has BLOBs that are in files."""
    parts = element.parts(False)
    return None if parts is None else b"".join(bytes(part) for part in parts)


def check_output(data: bytes) -> list[Element]:
    """Check what leaves: every message is well-formed for expat, and nothing of it is skipped by the tokenizer.

    Returns:
        The messages.
    """
    elements, xml, tokenizer = read_output(data)
    assert tokenizer.held == 0 and xml is not None, "something is unfinished"
    assert tokenizer.replaced == 0, "a character that XML forbids has left"
    roots = ElementTree.fromstring(b"<all>" + xml + b"</all>")
    assert [root.tag for root in roots] == [element.tag for element in elements]
    for root, element in zip(roots, elements, strict=True):
        assert root.attrib == element.attrs
    return elements


def read_output(data: bytes) -> tuple[list[Element], bytes | None, Tokenizer]:
    """Read what leaves, of which the last message may be cut.

    Returns:
        The messages, the data without what follows raw frames (None if such a frame is cut), and the tokenizer.
    """
    tokenizer = Tokenizer(relay=True)
    tokenizer.raw = True
    elements: list[Element] = []
    xml = b""
    at = 0
    while at < len(data):
        found = tokenizer.feed(data, at)
        assert tokenizer.skipped == {}, f"written, but not readable: {tokenizer.skipped}"
        elements += found
        xml += data[at : tokenizer.stopped]
        at = tokenizer.stopped
        if found and found[-1].raws:
            at += sum(member.blob_length or 0 for member in found[-1].blobs)
            mark = data[at : at + len(END_MARK)]
            assert END_MARK.startswith(mark), "a raw frame without its end mark"
            if mark != END_MARK:
                return elements, None, tokenizer
            at += len(END_MARK)
    return elements, xml, tokenizer


def check_relayed(element: Element) -> None:
    """Check that both forms of an element are clean, and that reading the inline form again gives the same."""
    before = seen(element)
    once = written(element)
    if once is not None:
        (again,) = check_output(once)
        assert written(again) == once, "relayed twice, it is not the same"
        assert _as_relayed(before) == _as_relayed(seen(again)), "relayed, it says something else"
        assert element.size == len(once)
    around = element.envelope(True)
    assert len(around) == 1
    (announced,) = check_output(around[0])
    assert announced.attached == len(element.blobs), "the attached form does not announce each BLOB"
    (raw,), _, _ = read_output(element.envelope(RAW)[0].rstrip() + b"x" * raw_length(element) + END_MARK)
    assert raw.raws == raw.attached == len(element.blobs), "the raw form does not announce each BLOB"


def raw_length(element: Element) -> int:
    """Return how many bytes follow the raw form of an element."""
    return sum(len(member.data or b"") or member.blob_length or 0 for member in element.blobs)


def _as_relayed(element: Seen) -> object:
    """What must survive relaying: all but the white space, attributes and sizes that are known to change."""
    vector = element.tag.endswith("Vector")
    members = [
        (m.tag, m.name, _attributes(m.attrs, m.tag == "oneBLOB"), _text(m), m.data, m.format) for m in element.members
    ]
    text = "" if vector else element.text.strip(SPACE)
    return element.tag, _attributes(element.attrs, False), text, element.values, element.carried, members


def _attributes(attrs: dict[str, str], blob: bool) -> dict[str, str]:
    left_out = {"enclen", "attached"} | ({"size", "len"} if blob else set())
    return {name: value for name, value in attrs.items() if not NOT_WRITTEN & {*name} and name not in left_out}


def _text(member: SeenMember) -> str:
    if member.tag == "oneBLOB":
        return ""
    return member.text if member.tag in ("oneText", "defText") else member.text.strip(SPACE)
