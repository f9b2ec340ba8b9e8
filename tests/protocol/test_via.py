from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast._parser import Tokenizer
from indifast.protocol import wire
from indifast.protocol.message import Routable
from indifast.protocol.via import via_of, with_via

CONTENT = "<defText name='m'>it came via='here'</defText>"


def received(text: str) -> Routable:
    (element,) = Tokenizer(relay=True).feed(text.encode())
    return element


def data(message: Routable) -> bytes:
    return b"".join(message.parts(False) or ())


@pytest.mark.parametrize(
    "text",
    [
        f"<defTextVector device='D' name='P' label=\" via='x' &gt;\">{CONTENT}</defTextVector>",
        "<defTextVector\n\tdevice='D' name='P' />",
        "<defTextVector/>",
        f"<defTextVector>{CONTENT}</defTextVector>",
    ],
)
def test_setting_and_removing_the_attribute_changes_nothing_else(text: str) -> None:
    plain = received(text)
    first = with_via(plain, ["one"])
    assert via_of(first) == ("one",)
    second = with_via(received(data(first).decode()), ["one", "two"])
    assert via_of(second) == ("one", "two")
    assert (second.tag, second.device, second.name) == (plain.tag, plain.device, plain.name)
    assert second.size == len(data(second))
    expected = {"via": "one two", **plain.element().attrs}
    assert list(second.element().attrs.items()) == list(expected.items())
    assert data(with_via(second, [])) == data(with_via(plain, [])) == data(plain)


def test_our_own_messages_may_have_the_attribute() -> None:
    message = wire.vector("defTextVector", {"device": "D", "name": "P"}, CONTENT)
    assert data(with_via(message, ["one"])) == message.data.replace(b" ", b' via="one" ', 1)
    assert via_of(wire.get_properties(via="one")) == ("one",)
    assert via_of(wire.get_properties()) == ()


def test_a_via_that_is_not_the_first_attribute_is_not_changed() -> None:
    message = received(f"<defTextVector device='D' via='one' name='P'>{CONTENT}</defTextVector>")
    assert via_of(message) == ("one",)
    assert with_via(message, ["one", "two"]) is message


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)))
def test_any_names_can_be_sent(names: list[str]) -> None:
    message = with_via(received("<defTextVector device='D' name='P'/>"), names)
    assert via_of(received(data(message).decode())) == tuple(names)
    assert data(with_via(message, [])) == b'<defTextVector device="D" name="P"/>\n'
