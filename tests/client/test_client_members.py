"""Members on their own: what they hold, check and write."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from indifast.client.propertymembers import (
    BLOBMember,
    LightMember,
    NumberMember,
    ParseException,
    SwitchMember,
    TextMember,
)


def xml(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")


def test_members_as_xml_elements(tmp_path: Path) -> None:
    assert xml(SwitchMember("s").oneswitch("On")) == '<oneSwitch name="s">On</oneSwitch>'
    assert xml(TextMember("t").onetext("a<b")) == '<oneText name="t">a&lt;b</oneText>'
    assert xml(NumberMember("n").onenumber(3.25)) == '<oneNumber name="n">3.25</oneNumber>'
    assert xml(BLOBMember("b").oneblob(b"abc", 0, ".x")) == '<oneBLOB name="b" format=".x" size="3">YWJj</oneBLOB>'
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"abc")
    assert xml(BLOBMember("b").oneblob(path, 9, "")) == '<oneBLOB name="b" format=".tar.gz" size="9">YWJj</oneBLOB>'
    assert xml(BLOBMember("b", blobformat=".y").oneblob(b"abc", 0, "")).startswith('<oneBLOB name="b" format=".y"')


def test_members_refuse_invalid_values() -> None:
    for member, wrong in (
        (SwitchMember("s"), "on"),
        (LightMember("l"), "Fine"),
        (NumberMember("n"), "x"),
        (BLOBMember("b"), b""),
    ):
        before = member.membervalue
        with pytest.raises(ParseException):
            member.membervalue = wrong
        assert member.membervalue == before
    with pytest.raises(ParseException):
        SwitchMember("s", membervalue="on")
    with pytest.raises(ParseException):
        SwitchMember("s").oneswitch("on")


def test_values_of_numbers() -> None:
    member = NumberMember("n", "", "%6.2f", "0", "10", "1", "-0:30")
    assert (member.label, member.itemid, member.user_string) == ("n", 0, "")
    assert (member.membervalue, member.getfloatvalue(), member.getformattedvalue()) == ("-0:30", -0.5, " -0.50")
    member.membervalue = 5
    assert (member.membervalue, member.getfloat("1:30"), member.getformattedstring("1:30")) == ("5", 1.5, "  1.50")
