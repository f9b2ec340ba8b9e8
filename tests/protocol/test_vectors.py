"""What is made of vectors that are missing something or damaged: one policy for drivers, clients and tools."""

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


# definitions


def test_a_whole_definition_has_no_faults() -> None:
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


def test_what_is_absent_has_a_default_and_is_no_fault() -> None:
    read = definition("Number", '<defNumber name="a" format="" min=" " step="">1</defNumber>', "")
    assert (read.label, read.group, read.state, read.perm, read.timeout, read.message) == (
        "V", None, "Idle", "ro", None, "",
    )  # fmt: skip
    assert (read.members["a"].label, read.members["a"].details) == ("a", ("%g", "0", "0", "0"))
    assert definition("Switch", '<defSwitch name="a">On</defSwitch>', "").rule == "OneOfMany"
    assert not read.faults


@pytest.mark.parametrize("text", ["", "N/A", "0,5", "-", "1:2:3:4", "abc"])
def test_a_number_that_cannot_be_read_stays_with_its_text(text: str) -> None:
    read = definition("Number", f'<defNumber name="a"> {text} </defNumber><defNumber name="b">1</defNumber>')
    member = read.members["a"]
    assert (member.value, member.received) == (text, text)
    assert math.isnan(member.number)
    assert (read.members["b"].number, read.members["b"].received) == (1, None)
    assert len(read.faults) == bool(text)


@pytest.mark.parametrize(("kind", "default"), [("Switch", "Off"), ("Light", "Idle")])
@pytest.mark.parametrize("text", ["", "ON", "ok", "1"])
def test_a_word_that_cannot_be_read_has_a_default(kind: str, default: str, text: str) -> None:
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
def test_definitions_of_which_nothing_can_be_taken(text: str) -> None:
    for source in (element(text), fromstring(text)):
        with pytest.raises(vectors.VectorError):
            vectors.definition(source)


# updates


def test_values_that_cannot_be_read_are_left_out_of_an_update() -> None:
    members = "".join(f'<oneNumber name="{name}">{text}</oneNumber>' for name, text in [("a", "1"), ("b", "0,5")])
    read = update("Number", members + '<oneNumber name="c"/><oneNumber>2</oneNumber>', ' state="Odd" timeout="3"')
    assert (read.values, read.state, read.timeout) == ({"a": "1"}, None, "3")
    assert read.faults == ["'0,5' for b is not a number: left out", "an empty text for c is not a number: left out"]


def test_an_update_without_anything_readable_still_has_its_state() -> None:
    read = update("Switch", '<oneSwitch name="a">ON</oneSwitch>')
    assert (read.values, read.state) == ({}, "Ok")


def test_faults_are_short_and_harmless_whatever_was_sent() -> None:
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


# commands


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
def test_one_wrong_member_refuses_a_command(kind: str, members: str) -> None:
    with pytest.raises(vectors.VectorError):
        vectors.command(element(f'<new{kind}Vector device="D" name="V">{members}</new{kind}Vector>'), kind, ["a", "b"])


# everything at once

words = st.sampled_from(
    ["", " ", "Ok", "Idle", "rw", "On", "off", "OneOfMany", "%g", "%d %s", "0", "-1", "1:30", "1,5"]
)
texts = words | st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=8
)  # what a tokenizer gives


@st.composite
def messages(draw: st.DrawFn, action: str, part: str) -> tuple[str, str, list[tuple[str, str | None]]]:
    """A vector of which anything may be missing or wrong: its kind, its text, and its members' (tag, name)."""
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
def test_no_named_member_of_a_definition_is_ever_lost(case: tuple[str, str, list[tuple[str, str | None]]]) -> None:
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
def test_drivers_and_clients_take_the_same_definitions(case: tuple[str, str, list[tuple[str, str | None]]]) -> None:
    kind, text, _ = case
    name = f"def{kind}Vector"
    client = IPyClient()
    try:
        expected = vectors.definition(element(text))
    except vectors.VectorError:
        with pytest.raises(driver_events.EventException):
            getattr(driver_events, name)(element(text))
        with pytest.raises(ParseException):
            getattr(client_events, name)(element(text), None, client._problems)
        return
    heard: Any = getattr(driver_events, name)(element(text))
    told: Any = getattr(client_events, name)(element(text), None, client._problems)
    assert list(heard.memberlabels) == list(told.memberlabels) == list(expected.members)
    assert heard.state == told.state == expected.state
    if kind != "BLOB":
        values = {name: member.value.strip() for name, member in expected.members.items()}
        assert dict(told) == values
        assert {name: (value or "").strip() for name, value in heard.items()} == values
    assert client.stats()["left_out"] == expected.nameless + len(expected.faults)


class Vector:
    """As much of a client's vector as an update looks at."""

    _enable = True

    def __init__(self, kind: str) -> None:
        self.vectortype = f"{kind}Vector"


class Device:
    def __init__(self, kind: str) -> None:
        self.data = {"V": Vector(kind)}


@given(messages("set", "one"))
@example(("Text", "<setTextVector device='D' name='V'><oneText name='a'>\xa0b\x85</oneText></setTextVector>", []))
def test_the_short_way_of_updates_makes_the_same_of_them(case: tuple[str, str, list[tuple[str, str | None]]]) -> None:
    """A client reads updates by another way as long as all is well; nobody can tell."""
    kind, text, _ = case
    name = f"set{kind}Vector"
    client = IPyClient()
    expected = vectors.update(element(text))
    told: Any = getattr(client_events, name)(element(text), Device(kind), client._problems)
    heard: Any = getattr(driver_events, name)(element(text))
    assert told.state == heard.state == expected.state
    if kind == "BLOB":
        faults: list[str] = []
        contents = vectors.blobs(element(text), faults)
        assert dict(heard) == {name: blob.data for name, blob in contents.items()}
        assert {name: data for name, data in told.items() if data is not None} == dict(heard)
        return
    assert dict(told) == {name: value.strip() for name, value in expected.values.items()}
    assert dict(heard) == expected.values
    assert client.stats()["left_out"] == len(expected.faults)
    if kind == "Number":
        assert told._floats == pytest.approx([read_number(value) for value in told.values()], nan_ok=True)


@given(messages("new", "one"))
def test_commands_are_taken_whole_or_refused(case: tuple[str, str, list[tuple[str, str | None]]]) -> None:
    kind, text, members = case
    read: Any = vectors.sent_blobs if kind == "BLOB" else vectors.command
    arguments = (["a", "b"],) if kind == "BLOB" else (kind, ["a", "b"])
    assume(kind != "Light")
    for source in (element(text), fromstring(text)):
        try:
            found = read(source, *arguments)
        except vectors.VectorError:
            continue
        assert list(found) == [name for _, name in members]
        assert set(found) <= {"a", "b"}
