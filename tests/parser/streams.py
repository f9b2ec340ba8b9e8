"""Hypothesis strategies for INDI streams in every lexical variant, and the elements that a reader must find in them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.support.wrapping import lines

ROOTS = {
    "getProperties": (), "enableBLOB": (), "message": (), "delProperty": (), "pingRequest": (), "pingReply": (),
    "newTextVector": ("oneText",), "defTextVector": ("defText",), "setTextVector": ("oneText",),
    "newNumberVector": ("oneNumber",), "defNumberVector": ("defNumber",), "setNumberVector": ("oneNumber",),
    "newSwitchVector": ("oneSwitch",), "defSwitchVector": ("defSwitch",), "setSwitchVector": ("oneSwitch",),
    "defLightVector": ("defLight",), "setLightVector": ("oneLight",), "defBLOBVector": ("defBLOB",),
    "newBLOBVector": ("oneBLOB",), "setBLOBVector": ("oneBLOB",),
}  # fmt: skip


@dataclass
class Part:
    """An element as a reader returns it, and one way to write it."""

    tag: str
    attrs: dict[str, str]
    text: str = ""
    data: bytes | None = None
    members: list[Part] = field(default_factory=list)
    wire: bytes = b""


# Characters that XML 1.0 allows, often those with a special meaning.
CHARACTERS = st.one_of(
    st.sampled_from("&<>\"' \t\n\r;#x=/-]"),
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
)
TEXT = st.text(CHARACTERS, max_size=12)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
SPACE = st.text(st.sampled_from(" \t\n\r"), max_size=3).map(str.encode)
SPACES = st.text(st.sampled_from(" \t\n\r"), min_size=1, max_size=3).map(str.encode)
COMMENTS = st.sampled_from([b"<!-- c -->", b"<!---->", b"<!-- <message> & > - ' -->"])
ODD_COMMENTS = st.sampled_from([b"<!-- -- <message> -->", b"<!-->-->", b"<!--->-->"])  # not well-formed, but harmless
INSTRUCTIONS = st.sampled_from([b"<?xml version='1.0'?>", b'<?xml version="1.0" encoding="UTF-8"?>\n', b"<?a > b?>"])
NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


@st.composite
def characters(draw: st.DrawFn, value: str, special: str) -> bytes:
    """Return `value` with some characters written as references; those in `special` always are."""
    out = []
    for c in value:
        form = draw(st.integers(0, 5))
        if c in special or form == 0:
            if c in NAMED and form != 1:
                out.append(NAMED[c])
            else:
                out.append(f"&#{ord(c)};" if form % 2 else f"&#x{ord(c):x};")
        else:
            out.append(c)
    return "".join(out).encode()


@st.composite
def attributes(draw: st.DrawFn, attrs: dict[str, str]) -> bytes:
    out = b""
    for name, value in attrs.items():
        quote = draw(st.sampled_from("'\""))
        written = draw(characters(value, "&<\t\n\r" + quote))
        out += draw(SPACES) + name.encode() + draw(SPACE) + b"=" + draw(SPACE)
        out += quote.encode() + written + quote.encode()
    return out


@st.composite
def content(draw: st.DrawFn, text: str) -> bytes:
    out = draw(characters(text, "&<>\r"))
    if draw(st.booleans()):
        out = draw(COMMENTS) + out
    if "]]>" not in text and "\r" not in text and draw(st.integers(0, 3)) == 0:
        half = len(text) // 2
        out = draw(characters(text[:half], "&<>\r")) + b"<![CDATA[" + text[half:].encode() + b"]]>"
    return out


@st.composite
def tags(draw: st.DrawFn, tag: str, attrs: dict[str, str], inside: bytes) -> bytes:
    start = b"<" + tag.encode() + draw(attributes(attrs)) + draw(SPACE)
    if not inside and draw(st.booleans()):
        return start + b"/>"
    return start + b">" + inside + b"</" + tag.encode() + draw(SPACE) + b">"


@st.composite
def members(draw: st.DrawFn, tag: str) -> Part:
    attrs = {"name": draw(NAMES), **draw(st.dictionaries(NAMES.filter(lambda n: len(n) > 1), TEXT, max_size=2))}
    attrs = {k: v for k, v in attrs.items() if k not in ("size", "format", "enclen", "attached", "len")}
    if tag != "oneBLOB":
        part = Part(tag, attrs, draw(TEXT))
        part.wire = draw(tags(tag, attrs, draw(content(part.text))))
        return part
    data = draw(st.binary(max_size=200))
    attrs |= {"size": str(len(data)), "format": draw(st.sampled_from([".fits", ".stream", ""]))}
    columns = draw(st.sampled_from([72, 4, 1, 60, 1 << 30]))
    text = base64.b64encode(data)
    text = draw(SPACE) + lines(text, columns) + draw(SPACE)
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(COMMENTS) + text[at:]
    part = Part(tag, attrs, "", data or None)
    part.wire = draw(tags(tag, attrs, text))
    return part


@st.composite
def roots(draw: st.DrawFn) -> Part:
    tag = draw(st.sampled_from(sorted(ROOTS)))
    attrs = draw(st.dictionaries(st.one_of(st.sampled_from(["device", "name", "state"]), NAMES), TEXT, max_size=4))
    part = Part(tag, attrs)
    if ROOTS[tag]:
        part.members = draw(st.lists(members(ROOTS[tag][0]), max_size=3))
        inside = draw(SPACE) + b"".join(member.wire + draw(SPACE) for member in part.members)
    elif tag == "enableBLOB":
        part.text = draw(st.sampled_from(["Never", "Also", "Only"]))
        inside = draw(SPACE) + part.text.encode() + draw(SPACE)
    else:
        inside = draw(SPACE)
    part.wire = draw(tags(tag, attrs, inside))
    return part


# Anything between two tags, including elements.
MIXED = st.recursive(
    st.one_of(TEXT.flatmap(content), SPACE, COMMENTS, st.just(b"<![CDATA[ <&> ]]>")),
    lambda inner: st.lists(
        st.one_of(inner, inner.map(lambda inside: b"<x>" + inside + b"</x>"), st.just(b"<y name='n'/>")), max_size=4
    ).map(b"".join),
    max_leaves=8,
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Part]]:
    """Return a stream, and the elements in it."""
    parts = draw(st.lists(roots(), max_size=4))
    out = b""
    for part in parts:
        between = draw(st.one_of(st.just(b""), COMMENTS, ODD_COMMENTS, INSTRUCTIONS))
        out += draw(SPACE) + between + draw(SPACE) + part.wire
    return out + draw(SPACE), parts


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut `data` into chunks of any size, some of them empty."""
    if draw(st.booleans()):
        size = draw(st.sampled_from([1, 2, 3, 5, 17]))
        return [data[i : i + size] for i in range(0, len(data), size)]
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


JUNK = st.lists(
    st.one_of(
        st.sampled_from([
            b"<setNumberVector ", b"<setNumberVector>", b"</setNumberVector>", b"<oneNumber name='a'>", b"</oneNumber>",
            b"<setBLOBVector device='D'>", b"<oneBLOB name='b' size='3'>", b"</oneBLOB>", b"</setBLOBVector>", b"QUJD",
            b"<message/>", b"<message a='b'/>", b"<getProperties", b"<defText", b"<foo>", b"</foo>", b"<", b">", b"/>",
            b"'", b'"', b"=", b"<!--", b"-->", b"--", b"<![CDATA[", b"]]>", b"<?", b"?>", b"<!DOCTYPE", b"[", b"]",
            b"&lt;", b"&#0;", b" a=", b" a='1'", b" ", b"\n", b"\0", b"\xe9", b"\xc3\xa9", b"x" * 70,
            b"attached='true' size='5'",
        ]),
        st.binary(max_size=6),
    ),
    max_size=25,
).map(b"".join)  # fmt: skip
