"""How incomplete and damaged vectors are read: one policy for drivers, clients and tools."""

from __future__ import annotations

import math
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from indifast._parser import Element, Tokenizer
from indifast.client import IPyClient
from indifast.client import events as client_events
from indifast.client.propertymembers import ParseException
from indifast.driver import events as driver_events
from indifast.protocol import vectors, wire
from indifast.protocol.numbers import read_number
from indifast.protocol.vocabulary import KINDS, PERMISSIONS, RULES, STATES, SWITCH_STATES


def element(text: str) -> Element:
    (found,) = Tokenizer().feed(text.encode())
    return found


def definition(kind: str, members: str, attributes: str = ' state="Ok" perm="rw" rule="AnyOfMany"') -> Any:
    return vectors.definition(element(f'<def{kind}Vector device="D" name="V"{attributes}>{members}</def{kind}Vector>'))


def update(kind: str, members: str, attributes: str = ' state="Ok"') -> Any:
    return vectors.update(element(f'<set{kind}Vector device="D" name="V"{attributes}>{members}</set{kind}Vector>'))


# Definitions


def test_a_complete_definition_has_no_faults() -> None:
    read = definition(
        "Number",
        '<defNumber name="a" label="A" format="%5.2f" min="-1" max="1" step=".5"> 0:30\n</defNumber>',
        ' label="L" group="G" state="Busy" perm="wo" timeout="5" message="m"',
    )
    assert (read.kind, read.device, read.name, read.label, read.group) == ("Number", "D", "V", "L", "G")
    assert (read.state, read.perm, read.timeout, read.message) == ("Busy", "wo", "5", "m")
    member = read.members["a"]
    assert (member.label, member.value, member.number, member.received) == ("A", "0:30", 0.5, None)
    assert member.details == ("%5.2f", "-1", "1", ".5")
    assert not read.faults and not read.nameless


def test_missing_attributes_have_defaults_and_are_not_faults() -> None:
    read = definition("Number", '<defNumber name="a" format="" min=" " step="">1</defNumber>', "")
    assert (read.label, read.group, read.state, read.perm, read.timeout, read.message) == (
        "V", None, "Idle", "ro", None, "",
    )  # fmt: skip
    assert (read.members["a"].label, read.members["a"].details) == ("a", ("%g", "0", "0", "0"))
    assert definition("Switch", '<defSwitch name="a">On</defSwitch>', "").rule == "OneOfMany"
    assert not read.faults


@pytest.mark.parametrize("text", ["", "N/A", "0,5", "-", "1:2:3:4", "abc"])
def test_a_number_that_cannot_be_read_keeps_its_text(text: str) -> None:
    read = definition("Number", f'<defNumber name="a"> {text} </defNumber><defNumber name="b">1</defNumber>')
    member = read.members["a"]
    assert (member.value, member.received) == (text, text)
    assert math.isnan(member.number)
    assert (read.members["b"].number, read.members["b"].received) == (1, None)
    assert len(read.faults) == bool(text)


@pytest.mark.parametrize(("kind", "default"), [("Switch", "Off"), ("Light", "Idle")])
@pytest.mark.parametrize("text", ["", "ON", "ok", "1"])
def test_a_state_that_cannot_be_read_becomes_the_default(kind: str, default: str, text: str) -> None:
    read = definition(kind, f'<def{kind} name="a">{text}</def{kind}>')
    assert (read.members["a"].value, read.members["a"].received) == (default, text)
    assert len(read.faults) == bool(text)


def test_members_without_a_name_and_of_other_kinds_are_left_out() -> None:
    read = definition(
        "Switch",
        '<defSwitch name="a">On</defSwitch><defSwitch name="" label="">Off</defSwitch><defSwitch>On</defSwitch>'
        '<defText name="b">x</defText>',
    )
    assert list(read.members) == ["a"]
    assert read.nameless == 2
    assert read.faults == ["b is a defText, which does not belong in a defSwitchVector: left out"]


@pytest.mark.parametrize(
    "text",
    [
        '<defTextVector name="V"><defText name="a">x</defText></defTextVector>',
        '<defTextVector device="" name="V"><defText name="a">x</defText></defTextVector>',
        '<defTextVector device="D"><defText name="a">x</defText></defTextVector>',
        '<defTextVector device="D" name=""><defText name="a">x</defText></defTextVector>',
        '<defTextVector device="D" name="V"/>',
        '<defTextVector device="D" name="V"><defText name="">x</defText></defTextVector>',
        '<defTextVector device="D" name="V"><defNumber name="a">1</defNumber></defTextVector>',
    ],
)
def test_definitions_without_anything_usable_are_refused(text: str) -> None:
    for source in (element(text), fromstring(text)):
        with pytest.raises(vectors.VectorError):
            vectors.definition(source)


# Updates


def test_values_that_cannot_be_read_are_left_out_of_an_update() -> None:
    members = "".join(f'<oneNumber name="{name}">{text}</oneNumber>' for name, text in [("a", "1"), ("b", "0,5")])
    read = update("Number", members + '<oneNumber name="c"/><oneNumber>2</oneNumber>', ' state="Odd" timeout="3"')
    assert (read.values, read.state, read.timeout) == ({"a": "1"}, None, "3")
    assert read.faults == ["'0,5' for b is not a number: left out", "an empty text for c is not a number: left out"]


def test_an_update_without_readable_values_still_has_its_state() -> None:
    read = update("Switch", '<oneSwitch name="a">ON</oneSwitch>')
    assert (read.values, read.state) == ({}, "Ok")


def test_messages_about_faults_are_short_and_printable() -> None:
    text = "&#10;forged &#27;[2J" + "x" * 10_000
    read = definition("Number", f'<defNumber name="a{text}">{text}</defNumber>')
    assert len(read.faults[0]) < 300 and read.faults[0].isprintable()


def test_contents_of_blobs() -> None:
    faults: list[str] = []
    found = vectors.blobs(
        element(
            '<setBLOBVector device="D" name="V"><oneBLOB name="a">QUJD</oneBLOB><oneBLOB name="b" size="9" format=""/>'
            '<oneBLOB name="c" size="-4" format=".x">QUJD</oneBLOB><oneBLOB name="d" size="0"/><oneBLOB>QUJD</oneBLOB>'
            "</setBLOBVector>"
        ),
        faults,
    )
    assert found == {"a": (b"ABC", 3, None), "c": (b"ABC", 3, ".x")}
    assert faults == ["the BLOB b has no content: left out"]


# Commands


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("Number", ""),
        ("Number", '<oneNumber name="a">1</oneNumber><oneNumber name="b">1,5</oneNumber>'),
        ("Number", '<oneText name="a">1</oneText>'),
        ("Number", '<oneNumber name="c">1</oneNumber>'),
        ("Text", "<oneText>x</oneText>"),
        ("Switch", '<oneSwitch name="a">ON</oneSwitch>'),
    ],
)
def test_a_command_with_a_wrong_member_is_refused(kind: str, members: str) -> None:
    with pytest.raises(vectors.VectorError):
        vectors.command(element(f'<new{kind}Vector device="D" name="V">{members}</new{kind}Vector>'), kind, ["a", "b"])


# Generated vectors

words = st.sampled_from(
    ["", " ", "Ok", "Idle", "rw", "On", "off", "OneOfMany", "%g", "%d %s", "0", "-1", "1:30", "1,5"]
)
texts = words | st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=8
)  # as a tokenizer returns them

Case = tuple[str, str, list[tuple[str, str | None]]]
"""A vector: its kind, its text, and the (tag, name) of its members."""


@st.composite
def messages(draw: st.DrawFn, action: str, part: str) -> Case:
    """Return a vector in which anything may be missing or wrong."""
    kind = draw(st.sampled_from(KINDS))
    keys = draw(
        st.sets(st.sampled_from(["label", "group", "state", "perm", "rule", "timeout", "message", "timestamp"]))
    )
    attributes: dict[str, str | None] = {"device": "D", "name": "V"} | {key: draw(texts) for key in keys}
    members, content = [], ""
    for name in draw(st.lists(st.none() | st.sampled_from(["", "a", "b", "c"]), max_size=4, unique=True)):
        tag = f"{part}{draw(st.sampled_from([kind, kind, kind, *KINDS]))}"
        others = draw(st.sets(st.sampled_from(["label", "format", "min", "max", "step", "size", "more"])))
        about: dict[str, str | None] = {"name": name} | {key: draw(texts) for key in others}
        text = draw(st.sampled_from(["", "QUJD"])) if tag == "oneBLOB" else draw(texts)
        content += wire.text_element(tag, about, text)
        members.append((tag, name))
    return kind, wire.element(f"{action}{kind}Vector", attributes, content), members


@given(messages("def", "def"))
def test_no_named_member_of_a_definition_is_ever_lost(case: Case) -> None:
    kind, text, members = case
    named = [name for tag, name in members if name and tag == f"def{kind}"]
    for source in (element(text), fromstring(text)):
        if not named:
            with pytest.raises(vectors.VectorError):
                vectors.definition(source)
            continue
        read = vectors.definition(source)
        assert list(read.members) == named
        assert read.nameless == sum(not name for _, name in members)
        assert read.state in STATES and read.perm in PERMISSIONS and read.rule in ("", *RULES)
        for member in read.members.values():
            assert all(member.details) == (kind == "Number")
            if kind == "Number":
                assert (member.received is None) == (read_number(member.text) is not None)
                assert (member.received is None) or math.isnan(member.number)
            elif kind in ("Switch", "Light"):
                assert member.value in (SWITCH_STATES if kind == "Switch" else STATES)


@given(messages("def", "def"))
def test_drivers_and_clients_accept_the_same_definitions(case: Case) -> None:
    kind, text, _ = case
    name = f"def{kind}Vector"
    client = IPyClient()
    try:
        expected = vectors.definition(element(text))
    except vectors.VectorError:
        with pytest.raises(driver_events.EventException):
            getattr(driver_events, name)(element(text))
        with pytest.raises(ParseException):
            getattr(client_events, name)(element(text), None, client._indifast.problems)
        return
    snooped: Any = getattr(driver_events, name)(element(text))
    received: Any = getattr(client_events, name)(element(text), None, client._indifast.problems)
    assert list(snooped.memberlabels) == list(received.memberlabels) == list(expected.members)
    assert snooped.state == received.state == expected.state
    if kind != "BLOB":
        values = {name: member.value.strip() for name, member in expected.members.items()}
        assert dict(received) == values
        assert {name: (value or "").strip() for name, value in snooped.items()} == values
    assert client.stats()["left_out"] == expected.nameless + len(expected.faults)


class Vector:
    """The attributes of a client's vector that an update reads."""

    _enable = True

    def __init__(self, kind: str) -> None:
        self.vectortype = f"{kind}Vector"


class Device:
    def __init__(self, kind: str) -> None:
        self.data = {"V": Vector(kind)}


@given(messages("set", "one"))
@example(("Text", "<setTextVector device='D' name='V'><oneText name='a'>\xa0b\x85</oneText></setTextVector>", []))
def test_drivers_and_clients_read_the_same_from_updates(case: Case) -> None:
    """Clients have a faster way to read updates without faults, which gives the same results."""
    kind, text, _ = case
    name = f"set{kind}Vector"
    client = IPyClient()
    expected = vectors.update(element(text))
    received: Any = getattr(client_events, name)(element(text), Device(kind), client._indifast.problems)
    snooped: Any = getattr(driver_events, name)(element(text))
    assert received.state == snooped.state == expected.state
    if kind == "BLOB":
        faults: list[str] = []
        contents = vectors.blobs(element(text), faults)
        assert dict(snooped) == {name: blob.data for name, blob in contents.items()}
        assert {name: data for name, data in received.items() if data is not None} == dict(snooped)
        return
    assert dict(received) == {name: value.strip() for name, value in expected.values.items()}
    assert dict(snooped) == expected.values
    assert client.stats()["left_out"] == len(expected.faults)
    if kind == "Number":
        assert received._floats == pytest.approx([read_number(value) for value in received.values()], nan_ok=True)


@given(messages("new", "one"))
def test_commands_are_accepted_completely_or_refused(case: Case) -> None:
    kind, text, members = case
    assume(kind != "Light")
    read: Any = vectors.sent_blobs if kind == "BLOB" else vectors.command
    arguments = (["a", "b"],) if kind == "BLOB" else (kind, ["a", "b"])
    for source in (element(text), fromstring(text)):
        try:
            found = read(source, *arguments)
        except vectors.VectorError:
            continue
        assert list(found) == [name for _, name in members]
        assert set(found) <= {"a", "b"}
