"""Escaped text reads back unchanged."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast._parser import Tokenizer, escape_attr, escape_text
from tests.parser import streams


def test_which_characters_are_escaped() -> None:
    assert escape_text("a<b>c&d\"e'f\tg\nh\ri") == "a&lt;b&gt;c&amp;d\"e'f\tg\nh\ri"
    assert escape_attr("a<b>c&d\"e'f\tg\nh\ri") == "a&lt;b&gt;c&amp;d&quot;e'f&#09;g&#10;h&#13;i"
    for escape in (escape_text, escape_attr):
        assert escape("\0\x01\x1f\ud800\udfff\ufffe\uffff") == "\ufffd" * 7
        assert escape("") == "" and escape("é°\U0001f600\x7f\x80") == "é°\U0001f600\x7f\x80"
        plain = "CCD Simulator 12.5"
        assert escape(plain) is plain


@given(st.text(streams.CHARACTERS))
@settings(max_examples=300)
def test_escaped_text_reads_back(text: str) -> None:
    member = f'<oneText name="t">{escape_text(text)}</oneText>'
    wire = f'<setTextVector device="{escape_attr(text)}">{member}</setTextVector>'
    (element,) = Tokenizer().feed(wire.encode())
    assert element.device == text
    assert element.members[0].text == text.replace("\r\n", "\n").replace("\r", "\n")  # as every XML parser reads it
    root = ET.fromstring(wire)
    assert (root.attrib["device"], root[0].text or "") == (element.device, element.members[0].text)


@given(st.text())
@settings(max_examples=300)
def test_any_text_becomes_xml(text: str) -> None:
    ET.fromstring(f'<a b="{escape_attr(text)}">{escape_text(text)}</a>')


@pytest.mark.parametrize("escape", [escape_text, escape_attr])
def test_other_types_are_refused(escape: object) -> None:
    for wrong in (None, b"a", 1):
        with pytest.raises(TypeError):
            escape(wrong)  # type: ignore[operator]
