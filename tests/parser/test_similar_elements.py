"""An element like an earlier one is read by comparing the two: nothing may leak from one to the next."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from indifast._parser import Element, Tokenizer
from tests.parser import streams

# Characters of one, two and four bytes in memory; the wider ones begin with the bytes of "BA" and "AB".
NAMES = st.lists(st.sampled_from("AB\xe9䅂䉁\U00014142\U00014241"), min_size=2, max_size=4).map("".join)

VALUES = st.one_of(
    NAMES.map(str.encode),
    st.sampled_from([b"", b"1", b"Ok", b"12.5", b"CCD Simulator", b"2026-11-20T15:30:16", b"a\nb", b"\0"]),
    st.sampled_from([b"x" * n for n in (14, 15, 16, 17, 31, 32, 33, 80, 100)]),
    st.sampled_from([b"&lt;", b"\xc2\xb0", b"\xb0", b"\r\n", b" "]),
    st.sampled_from([b">", b"=", b"/", b"a b", b"&", b"]]>", b"<!-- c -->", b"<", b"<a/>", b"<message/>", b'"', b"'"]),
    st.integers(-99999, 99999).map(lambda n: str(n).encode()),
)

SKELETONS = st.one_of(
    st.sampled_from([
        b"<setNumberVector device='%s' name=\"%s\" state='Ok'>\n  <oneNumber name='a'>\n    %s\n  </oneNumber>\n"
        b"  <oneNumber name='%s'>%s</oneNumber>\n</setNumberVector>",
        b"<setNumberVector device='%s' name=\"%s\" state='Ok'>\n  <oneNumber name='a'>\n    %s\n  </oneNumber>\n"
        b"</setNumberVector>",
        b"<setTextVector device='%s'><oneText>%s</oneText><!-- %s --></setTextVector>",
        b"<message device='%s' message='%s'/>",
        b"<message device='%s' message='%s' device='%s'/>",
        b"<message device='%s'  message='%s'/>",
        b"<message/>",
        b"<message a='%s'><a><b>%s</b>%s</a></message>",
        b"<enableBLOB device='%s'>%s</enableBLOB>",
        b"<enableBLOB device='%s'>%s<![CDATA[%s]]></enableBLOB>",
        b"<setBLOBVector device='%s'><oneBLOB size='%s' name='b'>QUJD</oneBLOB></setBLOBVector>",
        b"<setBLOBVector device='%s'><oneBLOB size='%s' name='b' attached='true'/></setBLOBVector>",
        b"<unknown a='%s'>",
    ]),
)  # fmt: skip


@st.composite
def similar(draw: st.DrawFn) -> list[bytes]:
    """Return elements with some skeletons and changing values, not all of them well-formed."""
    skeletons = draw(st.lists(SKELETONS, min_size=1, max_size=6))
    values = draw(st.lists(VALUES, min_size=1, max_size=4))
    wires = []
    for _ in range(draw(st.integers(2, 8))):
        skeleton = draw(st.sampled_from(skeletons))
        wires.append(skeleton % tuple(draw(st.sampled_from(values)) for _ in range(skeleton.count(b"%s"))))
        if draw(st.integers(0, 9)) == 0:
            wires[-1] = wires[-1][: draw(st.integers(0, len(wires[-1])))]
    return wires


def seen(element: Element) -> object:
    assert element.device == element.attrs.get("device") and element.name == element.attrs.get("name")
    members = [(m.tag, m.name, m.attrs, m.text, m.data, m.attached) for m in element.members]
    return element.tag, element.device, element.name, element.attrs, element.text, element.values(), members


LIMITS = {"attribute": 90, "members": 4, "depth": 3, "element": 400}


def tokenizer(relay: bool) -> Tokenizer:
    return Tokenizer(relay=relay, **LIMITS)  # type: ignore[arg-type]


@given(st.data(), similar(), st.booleans())
@settings(max_examples=500)
def test_elements_do_not_depend_on_earlier_ones(data: st.DataObject, wires: list[bytes], relay: bool) -> None:
    wire = b"\n".join(wires)
    known = tokenizer(relay)
    elements = [element for chunk in data.draw(streams.cuts(wire)) for element in known.feed(chunk)]
    slow = tokenizer(relay)  # fed byte by byte, it cannot compare
    slowly = [element for i in range(len(wire)) for element in slow.feed(wire, i, i + 1)]
    assert [seen(element) for element in elements] == [seen(element) for element in slowly]
    assert [element.parts(False) for element in elements] == [element.parts(False) for element in slowly]
    assert known.skipped == slow.skipped and known.replaced == slow.replaced
    assert known.lost_attached == slow.lost_attached


@given(similar(), st.booleans())
@settings(max_examples=300)
def test_elements_in_one_stream_are_read_as_if_alone(wires: list[bytes], relay: bool) -> None:
    alone = []
    whole = []
    for wire in wires:
        single = tokenizer(relay)
        found = single.feed(wire)
        single.close()
        if not single.skipped:
            alone += found
            whole.append(wire)
    together = tokenizer(relay).feed(b"\n".join(whole) + b" " * 99)
    assert [seen(element) for element in together] == [seen(element) for element in alone]
    assert [element.parts(False) for element in together] == [element.parts(False) for element in alone]


@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=6), st.booleans())
@settings(max_examples=500)
def test_names_with_the_same_bytes_in_memory_differ(names: list[tuple[str, str]], relay: bool) -> None:
    """A server decides by the name who owns a device."""
    wire = "".join(f"<setTextVector device='{device}' name='{name}'/>" for device, name in names).encode()
    assert [(element.device, element.name) for element in tokenizer(relay).feed(wire)] == names


@given(st.permutations(range(6)), st.integers(1, 6), st.booleans())
@settings(max_examples=30)
def test_shapes_that_come_in_turn(order: list[int], count: int, relay: bool) -> None:
    """More shapes than are remembered, with a damaged element now and then."""
    layouts = [
        "<setNumberVector device='D' name='{0}' state='Ok'><oneNumber name='n'>{1}</oneNumber></setNumberVector>",
        '<setNumberVector device="D" name="{0}" state="Ok"><oneNumber name="n">{1}</oneNumber></setNumberVector>',
        "<setTextVector device='{0}' name='T'>\n <oneText name='t'>{1}</oneText>\n</setTextVector>",
        "<setTextVector device='{0}' name='T'><oneText name='t'>{1}</oneText><oneText name='u'/></setTextVector>",
        "<message device='{0}' message='{1}'/>",
        "<delProperty device='{0}' name='{1}'/>",
    ]
    wires = []
    for number in range(60):
        wire = layouts[order[number % count]].format("x" * (number % 40), number * 37)
        wires.append(wire[:-3] if number % 17 == 16 else wire)
    data = "\n".join(wires).encode()
    whole = tokenizer(relay).feed(data + b" " * 99)
    slow = tokenizer(relay)
    slowly = [element for i in range(len(data)) for element in slow.feed(data, i, i + 1)]
    assert [seen(element) for element in whole] == [seen(element) for element in slowly]
    assert len(whole) > 50
