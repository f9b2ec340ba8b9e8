"""Characters from peers that are not shown as they are."""

from __future__ import annotations

import json
import sys
import unicodedata
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast.protocol.escape import UNSAFE, escaped, for_log, json_escaped
from indifast.terminal.celltext import visible


@cache
def all_characters() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


def test_unsafe_characters_are_not_printable_and_ordinary_text_is_safe() -> None:
    every = all_characters()
    unsafe = "".join(UNSAFE.findall(every))
    assert not any(character.isprintable() for character in unsafe)
    categories = {"Cc", "Cs", "Zl", "Zp"}
    controls = {unicodedata.bidirectional("\u202e"), "LRE", "RLE", "PDF", "LRO", "LRI", "RLI", "FSI", "PDI"}
    for character in every:
        if unicodedata.category(character) in categories or unicodedata.bidirectional(character) in controls:
            assert UNSAFE.match(character), hex(ord(character))
    assert not UNSAFE.search("Kühlung 10\u00a0°C \u202f日本語 🔭 \u0645\u0631\u062d\u0628\u0627 e\u0301 \ufe0f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CCD Simulator", "CCD Simulator"),
        ("a\n\x1b[2J\x9b", "a\\x0a\\x1b[2J\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\U000e0041\ud800", "a\\U000e0041\\ud800"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert escaped(text) == expected
    assert escaped("\t\n\r", keep="\t\n") == "\t\n\\x0d"


unsafe_characters = st.deferred(lambda: st.sampled_from(UNSAFE.findall(all_characters())))
texts = st.text(st.characters() | unsafe_characters, max_size=20)


@given(texts)
def test_no_unsafe_character_is_left(text: str) -> None:
    assert not UNSAFE.search(escaped(text))
    assert not UNSAFE.search(visible(text)) and len(visible(text)) == len(text)


@given(st.dictionaries(texts, texts, max_size=3))
def test_json_keeps_its_data(data: dict[str, str]) -> None:
    written = json_escaped(json.dumps(data, ensure_ascii=False, indent=1))
    assert not UNSAFE.search(written.replace("\n", ""))
    assert json.loads(written) == json.loads(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CCD Simulator", "CCD Simulator"),
        ("Kühlung °C", "Kühlung °C"),
        ("a\nb\tc\x1b[2J", "a\\x0ab\\x09c\\x1b[2J"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("", ""),
        (None, "*"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
    ],
)
def test_text_for_a_log_is_one_line_of_bounded_length(text: str | None, line: str) -> None:
    assert for_log(text) == line
