from __future__ import annotations

from xml.etree.ElementTree import Comment, fromstring, tostring
from xml.etree.ElementTree import Element as TreeElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast._parser import Tokenizer
from indifast.protocol import wire
from indifast.protocol.etree import to_tree
from indifast.protocol.limits import Limits
from indifast.protocol.message import Wire


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wire.message("hi", "2024-01-02T03:04:05", "D"),
         '<message device="D" timestamp="2024-01-02T03:04:05" message="hi" />'),
        (wire.message(None, "2024-01-02T03:04:05"), '<message timestamp="2024-01-02T03:04:05" />'),
        (wire.message("", None), '<message message="" />'),
        (wire.del_property("D", "v", "t", "gone"), '<delProperty device="D" name="v" timestamp="t" message="gone" />'),
        (wire.del_property("D"), '<delProperty device="D" />'),
        (wire.get_properties(), '<getProperties version="1.7" />'),
        (wire.get_properties("D"), '<getProperties version="1.7" device="D" />'),
        (wire.get_properties("D", "v"), '<getProperties version="1.7" device="D" name="v" />'),
        (wire.enable_blob("D", None, "Also"), '<enableBLOB device="D">Also</enableBLOB>'),
        (wire.enable_blob("D", "v", "Only"), '<enableBLOB device="D" name="v">Only</enableBLOB>'),
        (wire.ping_reply('"1"'), '<pingReply uid="&quot;1&quot;" />'),
        (wire.vector("newTextVector", {"device": "D", "name": "v"}, wire.text_element("oneText", {"name": "t"}, "<é>")),
         '<newTextVector device="D" name="v"><oneText name="t">&lt;é&gt;</oneText></newTextVector>'),
        (wire.vector("setTextVector", {"device": "D", "name": "v", "state": "Ok"}, ""),
         '<setTextVector device="D" name="v" state="Ok" />'),
        (wire.message("a\tb\nc\rd'e", None), '<message message="a&#09;b&#10;c&#13;d\'e" />'),
    ],
)  # fmt: skip
def test_messages_are_written(written: Wire, expected: str) -> None:
    assert written.data.decode() == expected
    assert written.tag == expected[1:].split(" ")[0]
    assert written.size == len(expected.encode())


def test_a_small_message_has_one_form_and_no_content() -> None:
    data = b'<message device="d" message="hi" />'
    written = Wire("message", "d", None, data)
    assert written.parts(False) == written.parts(True) == (data,)
    assert written.size == len(data)
    assert not written.blob
    assert not written.carried
    assert not written.formats
    assert not written.fds()


allowed = st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufffe\uffff", min_codepoint=32)
texts = st.text(allowed | st.just("\n"))


@given(texts, texts)
def test_written_messages_read_back(value: str, content: str) -> None:
    written = wire.vector(
        "newTextVector", {"device": value, "name": "v"}, wire.text_element("oneText", {"name": "t"}, content)
    )
    (element,) = Tokenizer().feed(written.data)
    assert element.device == value
    assert [member.text for member in element.members] == [content]
    assert written.element().device == value


def test_a_received_element_becomes_a_tree() -> None:
    text = b'<setBLOBVector device="D" name="v"><oneBLOB name="a" format=".x" size="3">YWJj</oneBLOB></setBLOBVector>'
    (element,) = Tokenizer().feed(text)
    assert tostring(to_tree(element)) == text
    assert tostring(to_tree(element, content=False)) == text.replace(b">YWJj</oneBLOB>", b" />")
    (enable,) = Tokenizer().feed(b'<enableBLOB device="D">Also</enableBLOB>')
    assert to_tree(enable).text == "Also"


def test_limits_reach_the_tokenizer() -> None:
    skipped = []
    limits = Limits(attribute=10)
    tokenizer = Tokenizer(on_skip=lambda *what: skipped.append(what), **limits.tokenizer())
    elements = tokenizer.feed(b'<message message="%s" /><message message="short" />' % (b"x" * 100))
    assert [element.attrs["message"] for element in elements] == ["short"]
    assert skipped


MEMBERS = [wire.BlobHead("a", ".fits", 7, 3), wire.BlobHead("b", None, 0, 0), wire.BlobHead("c", "", 2, 2)]
VECTOR = {"device": "D", "name": "v", "state": None}


def test_blobs_are_written_in_all_forms() -> None:
    around = wire.around_blobs("setBLOBVector", VECTOR, MEMBERS)
    assert around == [
        b'<setBLOBVector device="D" name="v"><oneBLOB name="a" format=".fits" size="7">',
        b'</oneBLOB><oneBLOB name="b" size="0" /><oneBLOB name="c" format="" size="2">',
        b"</oneBLOB></setBLOBVector>",
    ]
    assert wire.blobs_beside("setBLOBVector", VECTOR, MEMBERS, "true") == (
        b'<setBLOBVector device="D" name="v"><oneBLOB name="a" format=".fits" size="7" len="3" attached="true" />'
        b'<oneBLOB name="b" size="0" /><oneBLOB name="c" format="" size="2" len="2" attached="true" /></setBLOBVector>'
    )
    inline = wire.inline_blobs("setBLOBVector", VECTOR, list(zip(MEMBERS, (b"abc", b"", b"xy"), strict=True)))
    assert inline == around[0] + b"YWJj" + around[1] + b"eHk=" + around[2]
    (element,) = Tokenizer().feed(inline)
    assert [member.data for member in element.members] == [b"abc", None, b"xy"]
    assert wire.inline_blobs("newBLOBVector", {"device": "D"}, []) == b'<newBLOBVector device="D" />'


@given(texts, texts, st.none() | texts)
def test_a_definition_that_is_sent_again_differs_in_timestamp_and_message(
    label: str, said: str, text: str | None
) -> None:
    attributes = {"device": "D", "name": "v", "label": label, "perm": "ro"}
    definition = wire.Definition("Text", attributes, '6"0', [wire.define("Text", "t", label, text)])
    for stamp, message in (("2024-01-02T03:04:05", said), ("2025-01-02T03:04:05", "")):
        (element,) = Tokenizer().feed(definition.at(stamp, message).data)
        expected = {**attributes, "timestamp": stamp, "timeout": '6"0'}
        assert element.attrs == (expected | {"message": message} if message else expected)
        assert [(member.attrs, member.text) for member in element.members] == [
            ({"name": "t", "label": label}, text or "")
        ]


def test_a_timestamp_replaces_another() -> None:
    data = wire.message('the old timestamp="1" > this', "2", "D").data
    assert wire.with_timestamp(data, "3") == data.replace(b'timestamp="2"', b'timestamp="3"')
    without = b'<setTextVector device="D"><oneText timestamp="1" /></setTextVector>'
    assert wire.with_timestamp(without, "3") == without


def test_a_tree_is_written_without_comments_and_layout() -> None:
    member = '<oneText name="t">a &lt; b</oneText>'
    tree = fromstring(f'<newTextVector device="D&quot;">{member}\n  </newTextVector>')
    tree.append(Comment("x"))
    assert wire.tree(tree) == f'<newTextVector device="D&quot;">{member}</newTextVector>'
    for wrong in (TreeElement("message", {"message": 3}), TreeElement(None)):  # type: ignore[dict-item, arg-type]
        with pytest.raises(TypeError, match="can't be written"):
            wire.tree(wrong)
