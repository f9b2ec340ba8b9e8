"""Damaged, oversized and hostile input: it costs one message, which is counted, and the next message is read."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from indifast._parser import Element, Tokenizer
from tests.parser.support import GOOD, written
from tests.support.blackbox import python_environment
from tests.support.wrapping import lines

BOTH = pytest.mark.parametrize("relay", [False, True])
CHUNKS = pytest.mark.parametrize("size", [1, 13, 1 << 30])


class Reader:
    """A tokenizer, the elements that it has read, and what it has reported as skipped."""

    def __init__(self, **arguments: int) -> None:
        self.skips: list[tuple[str, int, bytes]] = []
        self.most_held = 0
        self.elements: list[Element] = []
        self.tokenizer = Tokenizer(on_skip=lambda *skip: self.skips.append(skip), **arguments)  # type: ignore[arg-type]

    def feed(self, data: bytes, size: int = 1 << 30) -> Reader:
        for i in range(0, len(data), size):
            self.elements += self.tokenizer.feed(data[i : i + size])
            self.most_held = max(self.most_held, self.tokenizer.held)
        return self

    @property
    def names(self) -> list[str | None]:
        return [element.name for element in self.elements]

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.skips]


@CHUNKS
@BOTH
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"<setNumberVector device='D' name='x'><oneNumber name='a'>1", "truncated"),
        (b"<setNumberVector device='D' name='x'><oneNumber name='a'>1</oneNumber>", "truncated"),
        (b"<setNumberVector device='D' name='x", "truncated"),
        (b"<setNumberVector device='D' name='x'><oneNumber name=", "syntax"),
        (b"<setNumberVector device='D' name='x'", "syntax"),
        (b"<setNumberVector device='D'><?pi ", "truncated"),
        (b"<setNumberVector device='D'><!DOCTYPE a [", "truncated"),
        (b"<setNumberVector name='x'><oneNumber name='a'>1</oneText></setNumberVector>", "mismatched end tag"),
        (b"<setNumberVector device='D' name='x'></setTextVector>", "mismatched end tag"),
        (b"<setNumberVector device='D' name='x'>a < b</setNumberVector>", "syntax"),
        (b"<setNumberVector device=D name='x'/>", "syntax"),
        (b"<setNumberVector device/>", "syntax"),
        (b"<setNumberVector device='D' & />", "syntax"),
        (b"<setNumberVector device='D' device='E'/>", "duplicate attribute"),
        (b"<setNumberVector device='D'><one-number/></setNumberVector>", "syntax"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QU", "truncated"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QU*D</oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QU\0D</oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QUI</oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QUI==</oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QU==QUJD</oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QU<![CDATA[JD]]></oneBLOB></setBLOBVector>", "base64"),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'><a/>QUJD</oneBLOB></setBLOBVector>", "base64"),
        (
            b"<setBLOBVector device='D'><oneBLOB name='b' size='3' attached='true'>QUJD</oneBLOB></setBLOBVector>",
            "attached blob with content",
        ),
    ],
)
def test_damage_costs_one_element(bad: bytes, reason: str, relay: bool, size: int) -> None:
    reader = Reader(relay=relay).feed(GOOD + bad + GOOD + GOOD, size)
    assert reader.names == ["good"] * 3
    assert reader.reasons == [reason] and reader.tokenizer.skipped == {reason: 1}
    assert reader.skips[0][2].startswith(bad[:20]) and len(reader.skips[0][2]) <= 80
    assert reader.tokenizer.skipped_bytes >= len(bad) - 1
    assert reader.tokenizer.held == 0


@CHUNKS
@BOTH
@pytest.mark.parametrize(
    "opening", [b'<message a="', b"<message a='b' c='", b"<message><!-- ", b"<message><![CDATA[", b"<!--"]
)
def test_an_unclosed_construct_is_given_up_at_its_limit(opening: bytes, relay: bool, size: int) -> None:
    hides = not opening.endswith((b'"', b"'"))
    reader = Reader(relay=relay, attribute=200).feed(opening + b"x" * 50 + GOOD + b"y" * 200 + GOOD, size)
    assert reader.names == ["good", "good"]
    if hides:  # roots inside a comment are found only once the comment is given up
        early = Reader(relay=relay, attribute=200).feed(opening + b"x" * 50 + GOOD, size)
        assert early.names == []
    assert reader.most_held < 200 + 100 + 10 * 20 + (1024 if size > 1 else 0) + len(GOOD)


def test_a_comment_or_cdata_that_ends_in_time_hides_roots() -> None:
    reader = Reader().feed(b"<!-- " + GOOD + b" -->" + GOOD + b"<message><![CDATA[" + GOOD + b"]]></message>")
    assert [element.tag for element in reader.elements] == ["setTextVector", "message"]
    assert reader.skips == []


def test_a_known_root_inside_an_unknown_wrapper_is_read() -> None:
    reader = Reader().feed(b"<stream from='x'>\n" + GOOD + b"<foo>" + GOOD + b"</foo></stream>")
    assert reader.names == ["good", "good"]
    assert set(reader.reasons) == {"junk"}


def test_a_bare_member_is_junk() -> None:
    """libindi's parser leaves one behind after an error. Forwarding it would break the driver."""
    reader = Reader().feed(b"<oneNumber name='a'>1</oneNumber>" + GOOD)
    assert reader.names == ["good"] and reader.skips == [("junk", 33, b"<oneNumber name='a'>1</oneNumber>")]


@CHUNKS
def test_declarations_anywhere(size: int) -> None:
    doctype = b"""<!DOCTYPE x SYSTEM "a>b" [ <!ENTITY a "<b>]>"> <!ELEMENT c (#PCDATA)> ]>"""
    head = b"<?xml version='1.0'?>\n"
    lax = b"<?xml version='1.0'>\n"  # ended by the root after it
    inside = GOOD.replace(b"<oneText", head + doctype + b"<oneText")
    reader = Reader().feed(head + GOOD + head + doctype + head + inside + lax + GOOD, size)
    assert reader.names == ["good"] * 3
    assert [element.values() for element in reader.elements] == [{"t": "fine"}] * 3
    assert set(reader.reasons) <= {"junk"}


def test_entities_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><message message="&c;"/>'
    (element,) = Reader().feed(bomb).elements
    assert element.attrs == {"message": "&c;"}
    assert written(element) == b'<message message="&amp;c;"/>\n'


@CHUNKS
@BOTH
def test_latin1_bytes(relay: bool, size: int) -> None:
    bad = b"<setTextVector device='Caf\xe9' name='\xc3\xa9'><oneText name='t'>\xb0C</oneText></setTextVector>"
    (element,) = Reader(relay=relay).feed(bad, size).elements
    assert (element.device, element.name, element.values()) == ("Café", "é", {"t": "°C"})
    root = ET.fromstring(written(element))
    assert root.attrib == {"device": "Café", "name": "é"} and root[0].text == "°C"


@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xff"])
def test_text_that_is_not_utf8_is_read_as_latin1(text: bytes) -> None:
    (element,) = Reader().feed(b"<message message='" + text + b"'/>").elements
    assert element.attrs["message"] == text.decode("latin-1")
    ET.fromstring(written(element))


@CHUNKS
@BOTH
def test_nuls_and_control_characters(relay: bool, size: int) -> None:
    reader = Reader(relay=relay)
    reader.feed(b"\0\0" + GOOD + b"\0<message message='a\0b&#1;c&#xD800;d\xef\xbf\xbf'/>\0\0", size)
    assert [element.tag for element in reader.elements] == ["setTextVector", "message"]
    assert reader.elements[1].attrs["message"] == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert reader.tokenizer.replaced == 4
    ET.fromstring(written(reader.elements[1]))
    assert reader.reasons == ["junk", "junk"]


@CHUNKS
@BOTH
def test_a_ten_megabyte_attribute(relay: bool, size: int) -> None:
    if size == 1:
        size = 4096
    reader = Reader(relay=relay).feed(GOOD + b"<message message='" + b"x" * 10_000_000 + b"'/>" + GOOD, size)
    assert reader.names == ["good", "good"] and reader.reasons[0] == "attribute too long"
    assert reader.most_held < 200_000


@BOTH
def test_the_longest_attribute(relay: bool) -> None:
    for size in (1, 1000):
        reader = Reader(relay=relay, attribute=100).feed(b"<message a='" + b"x" * 100 + b"'/>", size)
        assert len(reader.elements) == 1
        reader = Reader(relay=relay, attribute=100).feed(b"<message a='" + b"x" * 101 + b"'/>", size)
        assert reader.elements == [] and reader.reasons[0] == "attribute too long"


@CHUNKS
@BOTH
def test_an_element_beyond_its_limit(relay: bool, size: int) -> None:
    reader = Reader(relay=relay, element=5000)
    reader.feed(GOOD + b"<defTextVector><defText name='a'>" + b"x" * 20000 + b"</defText></defTextVector>" + GOOD, size)
    assert reader.names == ["good", "good"] and reader.reasons == ["element too large"]
    assert reader.most_held < 6000 + 1024


def test_the_largest_element() -> None:
    for size in (1, 1 << 20):
        assert Reader(element=len(GOOD) - 1).feed(GOOD, size).names == ["good"]
        assert Reader(element=len(GOOD) - 2).feed(GOOD, size).reasons == ["element too large"]


@BOTH
def test_depth_and_members(relay: bool) -> None:
    assert Reader(depth=3, relay=relay).feed(b"<message><a><b/></a></message>").skips == []
    assert Reader(depth=2, relay=relay).feed(b"<message><a><b/></a></message>" + GOOD).reasons == ["too deep"]
    assert Reader(members=2, relay=relay).feed(b"<message><a/><a/></message>").skips == []
    assert Reader(members=2, relay=relay).feed(b"<message><a/><a/><a/></message>").reasons == ["too many members"]


@BOTH
def test_many_attributes(relay: bool) -> None:
    many = b"".join(b" a%d='x'" % i for i in range(200))
    reader = Reader(relay=relay).feed(b"<message" + many + b"/>" + GOOD)
    assert reader.names == ["good"] and reader.reasons == ["syntax"]


@CHUNKS
@BOTH
@pytest.mark.parametrize("enclen", [b"-1", b"4", b"99999999999999999999", b"10239", b"x", b""])
def test_a_wrong_enclen_is_ignored_and_never_passed_on(enclen: bytes, relay: bool, size: int) -> None:
    raw = bytes(range(256)) * 30
    text = lines(base64.b64encode(raw), 72)
    bad = b"<setBLOBVector device='D' name='b'><oneBLOB name='b' size='7680' format='.x' enclen='" + enclen + b"'>\n"
    reader = Reader(relay=relay).feed(bad + text + b"\n</oneBLOB></setBLOBVector>" + GOOD, size)
    assert reader.names == ["b", "good"] and reader.skips == []
    assert reader.elements[0].members[0].data == raw
    if relay:
        assert b"enclen" not in written(reader.elements[0])


@CHUNKS
@pytest.mark.parametrize(
    ("text", "enclen", "kept"),
    [
        ("%s\n", 1, True),  # in libindi's own tests, and its server passes it on
        ("\n%s\n    ", 1, True),
        ("%s\n", 0, True),
        ("%s", 0, True),
        ("%s", 1, False),
        ("\n%s", 1, False),
        ("%s\n", 2, False),
        ("\n%s\n", 2, False),
        ("%s\n", -1, False),
    ],
)
@pytest.mark.parametrize("length", [4, 28, 72])
def test_an_enclen_may_count_the_line_break_after_a_short_line(
    text: str, enclen: int, kept: bool, length: int, size: int
) -> None:
    one = f"<oneBLOB name='b' size='3' format='.x' enclen='{length + enclen}'>{text % ('A' * length)}</oneBLOB>"
    (element,) = Reader(relay=True).feed(f"<setBLOBVector>{one}</setBLOBVector>".encode(), size).elements
    assert (f'enclen="{length + enclen}"'.encode() in written(element)) is kept
    assert b"enclen" not in element.envelope(True)[0]


@pytest.mark.parametrize("length", [76, 144, 7680])
@pytest.mark.parametrize("columns", [72, 7680])
def test_an_enclen_that_counts_line_breaks_of_longer_text_is_removed(length: int, columns: int) -> None:
    """It stalls libindi's parser for good."""
    text = lines(b"A" * length, columns) + b"\n"
    for count in (len(text), len(text) - 1, length + 1):
        if count == length:
            continue
        one = b"<oneBLOB name='b' size='3' format='.x' enclen='%d'>%s</oneBLOB>" % (count, text)
        (element,) = Reader(relay=True).feed(b"<setBLOBVector>%s</setBLOBVector>" % one).elements
        assert b"enclen" not in written(element)


@pytest.mark.parametrize("columns", [71, 76, 10240])
def test_a_correct_enclen_is_removed_unless_the_text_is_wrapped_at_72(columns: int) -> None:
    text = base64.b64encode(bytes(7680))
    for width, kept in ((columns, False), (72, True)):
        blob = b"<setBLOBVector><oneBLOB name='b' size='7680' enclen='10240'>\n" + lines(text, width)
        (element,) = Reader(relay=True).feed(blob + b"\n</oneBLOB></setBLOBVector>").elements
        assert (b'enclen="10240"' in written(element)) is kept


@CHUNKS
@BOTH
@pytest.mark.parametrize(
    ("announced", "passed_on"),
    [
        (b"1", "1"),
        (b"1000000000", "1000000000"),
        (b"1000000000000", "1000000000000"),
        (b"9" * 18, "9" * 18),
        *((odd, "6") for odd in (b"-5", b"abc", b"9" * 19, b"9" * 5000, b"", "²".encode(), "٣".encode(), b"1_0")),
        *((zero, "6") for zero in (b"0", b" 00\n", b"-0")),
    ],
)
def test_a_wrong_size(announced: bytes, passed_on: str, relay: bool, size: int) -> None:
    reader = Reader(relay=relay)
    reader.feed(b"<setBLOBVector name='b'><oneBLOB name='b' format='.x' size='" + announced + b"'>QUJDREVG", size)
    assert reader.most_held < 1_200_000  # an announced size reserves at most a mebibyte
    reader.feed(b"</oneBLOB></setBLOBVector>", size)
    (element,) = reader.elements
    assert element.members[0].data == b"ABCDEF"
    for attached in (False, True):
        (member,) = Reader().feed(b"".join(element.envelope(attached))).elements[0].members
        assert member.attrs["size"] == passed_on and member.attached is attached
    assert member.attrs.get("len") == ("6" if int(passed_on) > 6 else None)
    assert element.size > 0


@pytest.mark.parametrize(
    ("attributes", "size", "length"),
    [
        ("size='7' len='5'", 7, 5),
        ("size=' 7 ' len=''", 7, 7),
        ("size='7'", 7, 7),
        ("size='7' len='²'", 7, None),
        ("size='7' len='-5'", 7, None),
        ("size='7' len='1_0'", 7, None),
        ("size='-7'", -7, None),
        ("size='٣'", None, None),
        ("", None, None),
    ],
)
@BOTH
def test_lengths_of_an_attached_blob(relay: bool, attributes: str, size: int | None, length: int | None) -> None:
    """Later, `int` must be able to read each of them, as its sender meant it."""
    wire = f"<setBLOBVector><oneBLOB name='b' {attributes} attached='true'/></setBLOBVector>".encode()
    (element,) = Reader(relay=relay).feed(wire).elements
    (member,) = element.members
    assert (member.blob_size, member.blob_length) == (size, length)
    assert member.attached is (size is not None and size > 0)
    if member.attached:
        assert element.size == len(wire) + ((length or 0) + 2) // 3 * 4


def test_a_missing_size_is_supplied() -> None:
    """libindi servers close the connection of a peer that omits it."""
    blob = b"<setBLOBVector><oneBLOB name='b'>QUI=</oneBLOB><oneBLOB name='c'/></setBLOBVector>"
    (element,) = Reader(relay=True).feed(blob).elements
    assert written(element) == (
        b'<setBLOBVector>\n    <oneBLOB name="b" size="2">\nQUI=\n    </oneBLOB>\n    <oneBLOB name="c" size="0"/>\n'
        b"</setBLOBVector>\n"
    )


@CHUNKS
@BOTH
@pytest.mark.parametrize("filler", [b"A", b"\n", b"AAAA\n"])
def test_a_blob_beyond_its_limit(relay: bool, size: int, filler: bytes) -> None:
    text = filler * (2_000_000 // len(filler))
    if size < 1000:
        text = text[:500_000]
    reader = Reader(relay=relay, blob=30_000)
    reader.feed(b"<setBLOBVector><oneBLOB name='b' size='3'>" + text, max(size, 100))
    assert reader.most_held < 30_000 * 3 + (1 << 16) + 10_000 + (max(size, 100) if size < 1000 else len(text)) * relay
    if filler != b"\n":
        assert reader.reasons[0] == "blob too large" and reader.tokenizer.held == 0
    reader.feed(b"</oneBLOB></setBLOBVector>" + GOOD)
    assert reader.elements[-1].name == "good"


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@BOTH
def test_the_largest_blob(relay: bool, size: int) -> None:
    for n, fits in ((3000, True), (3001, False), (3002, False), (3003, False)):
        text = base64.b64encode(bytes(n))
        reader = Reader(relay=relay, blob=3000)
        reader.feed(b"<setBLOBVector><oneBLOB name='b' size='3'>" + text + b"</oneBLOB></setBLOBVector>", size)
        assert (len(reader.elements) == 1) is fits
        assert reader.reasons == ([] if fits else ["blob too large"])


def test_attached_blobs_of_refused_elements_are_counted() -> None:
    """Otherwise their descriptors would be taken for those of the next message."""
    one = b"<oneBLOB name='b' size='3' len='3' attached='true'/>"
    reader = Reader(relay=True).feed(b"<setBLOBVector>" + one + one + b"<message/>")
    assert reader.tokenizer.lost_attached == 2
    reader.feed(b"<setBLOBVector>" + one + b"</setBLOBVector>")
    assert reader.elements[-1].attached == 1 and reader.tokenizer.lost_attached == 2
    empty = one.replace(b"size='3'", b"size='0'")
    reader.feed(b"<setBLOBVector>" + one + empty + b"</setBLOBVector><setBLOBVector>" + empty + b"<message/>")
    assert reader.elements[-2].attached == 1 and reader.elements[-2].descriptors == 2
    assert [member.descriptor for member in reader.elements[-2].members] == [True, True]
    assert reader.tokenizer.lost_attached == 3


def test_state_only_blob_updates() -> None:
    blob = (
        b"<setBLOBVector><oneBLOB name='a' size='0' enclen='0' format='.x' attached='true'> </oneBLOB>"
        b"<oneBLOB name='b' size='0' format=''></oneBLOB></setBLOBVector>"
    )
    for relay in (False, True):
        (element,) = Reader(relay=relay).feed(blob).elements
        assert not element.blob and element.attached == 0 and element.carried == frozenset() and element.formats == ()
        assert [member.data for member in element.members] == [None, None]
        assert element.parts(True) == element.parts(False)
        assert written(element) == (
            b'<setBLOBVector>\n    <oneBLOB name="a" size="0" format=".x"/>\n'
            b'    <oneBLOB name="b" size="0" format=""/>\n</setBLOBVector>\n'
        )


def test_attribute_names_that_libindi_cannot_read_are_not_written() -> None:
    (element,) = Reader().feed(b"<message xml:lang='en' data-x='1' message='m'/>").elements
    assert element.attrs == {"xml:lang": "en", "data-x": "1", "message": "m"}
    assert written(element) == b'<message message="m"/>\n'


def test_white_space_in_attributes() -> None:
    (element,) = Reader().feed(b"<message message='a\tb\nc\r\nd&#10;e&#9;f&#13;'/>").elements
    assert element.attrs["message"] == "a b c d\ne\tf\r"
    assert written(element) == b'<message message="a b c d&#10;e&#09;f&#13;"/>\n'


def test_text_members_gain_no_white_space() -> None:
    data = (
        b"<setTextVector><oneText name='a'> x\n y </oneText><oneText name='b'> </oneText><oneText name='c'></oneText>"
        b"<oneText name='d'>\n\"q\" &apos; &#62; &amp;lt; &unknown; & b\n</oneText></setTextVector>"
    )
    (element,) = Reader().feed(data).elements
    assert written(element) == (
        b'<setTextVector>\n    <oneText name="a"> x\n y </oneText>\n    <oneText name="b"> </oneText>\n'
        b'    <oneText name="c"/>\n'
        b'    <oneText name="d">\n"q" \' &gt; &amp;lt; &amp;unknown; &amp; b\n</oneText>\n</setTextVector>\n'
    )


def test_text_around_elements() -> None:
    data = (
        b"<setSwitchVector> a <oneSwitch name='s'>O<x>\n<y/> </x>f </oneSwitch>b</setSwitchVector>"
        b"<enableBLOB device='D'>\nAl<x/>so</enableBLOB>"
    )
    reader = Reader().feed(data)
    assert [written(element) for element in reader.elements] == [
        b'<setSwitchVector>\n    <oneSwitch name="s">O<x>\n<y/> </x>f </oneSwitch>\n</setSwitchVector>\n',
        b'<enableBLOB device="D">\nAl<x/>so</enableBLOB>\n',
    ]


def test_abandon_and_close() -> None:
    reader = Reader()
    reader.feed(b"<setTextVector name='x'><oneText name='t'>abc")
    assert reader.tokenizer.held > 0
    reader.tokenizer.abandon()
    assert reader.tokenizer.held == 0 and reader.reasons == ["abandoned"]
    reader.feed(b"def</oneText></setTextVector>" + GOOD)
    assert reader.names == ["good"] and reader.reasons == ["abandoned"]
    reader.feed(b"<setBLOBVector><oneBLOB name='a' size='100'>QUJD")
    reader.tokenizer.close()
    assert reader.reasons == ["abandoned", "truncated"] and reader.tokenizer.held == 0
    reader.tokenizer.close()
    assert len(reader.skips) == 2


def test_junk_is_reported_in_bounded_portions() -> None:
    reader = Reader(junk=1000)
    for _ in range(50):
        reader.feed(b"x" * 99)
    assert [reason for reason, _, _ in reader.skips] == ["junk"] * 4
    assert all(nbytes >= 1000 and excerpt == b"x" * 80 for _, nbytes, excerpt in reader.skips)
    assert reader.tokenizer.held == 0


def test_an_exception_in_on_skip_does_not_stop_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reason: str, nbytes: int, excerpt: bytes) -> None:
        raise ZeroDivisionError

    caught: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: caught.append(unraisable.exc_type))
    assert len(Tokenizer(on_skip=fail).feed(b"<message" + GOOD)) == 1
    assert caught == [ZeroDivisionError]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Tokenizer(element=0),
        lambda: Tokenizer(blob=-1),
        lambda: Tokenizer().feed(b"abc", 2, 1),
        lambda: Tokenizer().feed(b"abc", 0, 4),
        lambda: Tokenizer().feed(b"abc", -1),
    ],
)
def test_wrong_values(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        call()


def test_wrong_types() -> None:
    with pytest.raises(TypeError):
        Tokenizer().feed("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Tokenizer(True)  # type: ignore[call-arg]


def test_feeding_from_on_skip_is_refused() -> None:
    problems: list[type[BaseException]] = []

    def again(reason: str, nbytes: int, excerpt: bytes) -> None:
        for call in (lambda: tokenizer.feed(GOOD), tokenizer.abandon, tokenizer.close):
            try:
                call()
            except RuntimeError as problem:
                problems.append(type(problem))

    tokenizer = Tokenizer(on_skip=again)
    assert len(tokenizer.feed(b"<message" + GOOD)) == 1
    assert problems == [RuntimeError] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_too_little_memory_costs_one_element() -> None:
    """In a separate process, whose address space is limited to little more than it uses."""
    program = """
import resource
from indifast._parser import Tokenizer
skips = []
tokenizer = Tokenizer(on_skip=lambda *skip: skips.append(skip[0]))
start = b"<setBLOBVector><oneBLOB name='b' size='1'>"
half = b"QUJD" * (2 << 20)
tokenizer.feed(start)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), resource.RLIM_INFINITY))
for _ in range(20):
    assert tokenizer.feed(half) == []
assert tokenizer.held == 0 and skips[0] == "memory", skips
(element,) = tokenizer.feed(b"</oneBLOB></setBLOBVector><message message='still here'/>")
assert element.attrs == {"message": "still here"}
"""
    subprocess.run([sys.executable, "-c", program], env=os.environ | python_environment(), check=True)
