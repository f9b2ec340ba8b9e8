"""Reading tag, device, name and members of small elements, compared with the standard library; relaying; BLOBs."""

from __future__ import annotations

from typing import Any, cast
from xml.etree.ElementTree import Element, XMLPullParser

import pytest

from benchmarks.tokenizer import blob_stream, tokenize
from indifast._parser import Tokenizer

COUNT = 1000
STREAM = b"".join(
    b"<setNumberVector device='Telescope Simulator' name='EQUATORIAL_EOD_COORD' state='Ok' timeout='60' "
    b"timestamp='2026-11-20T15:44:41'>\n  <oneNumber name='RA'>\n      %d.000069603354980075\n  </oneNumber>\n"
    b"  <oneNumber name='DEC'>\n      90\n  </oneNumber>\n</setNumberVector>\n" % (number % 24)
    for number in range(COUNT)
)


def indifast() -> int:
    found = 0
    for element in Tokenizer().feed(STREAM):
        if element.tag == "setNumberVector" and element.device and element.name:
            found += len(element.values())
    return found


def pull_parser() -> int:
    found = 0
    parser: XMLPullParser[Any] = XMLPullParser(("end",))
    parser.feed(b"<stream>")
    parser.feed(STREAM)
    for event in cast(Any, parser).read_events():
        element = cast(Element, event[1])
        if element.tag == "setNumberVector":
            if element.get("device") and element.get("name"):
                found += len({member.get("name"): (member.text or "").strip() for member in element})
            element.clear()
    return found


@pytest.mark.benchmark(group="1000 setNumberVectors of two members")
@pytest.mark.parametrize(
    "read",
    [pytest.param(indifast), pytest.param(pull_parser, marks=pytest.mark.peer)],
    ids=["indifast", "XMLPullParser"],
)
def test_read(benchmark: Any, read: Any) -> None:
    assert benchmark(read) == 2 * COUNT


@pytest.mark.benchmark(group="1000 setNumberVectors, relayed")
def test_relay(benchmark: Any) -> None:
    """Do what a server does: read the envelope, write the outgoing form."""

    def relay() -> int:
        return sum(len(part) for element in Tokenizer(relay=True).feed(STREAM) for part in element.parts(False) or ())

    assert benchmark(relay) > len(STREAM) / 2


@pytest.mark.benchmark(group="a BLOB of 4 MiB through the tokenizer")
@pytest.mark.parametrize("columns", [0, 72], ids=["unwrapped", "wrapped72"])
@pytest.mark.parametrize("relay", [False, True], ids=["decoded", "relayed"])
def test_blob(benchmark: Any, columns: int, relay: bool) -> None:
    data = blob_stream(4 << 20, columns)
    assert benchmark(tokenize, data, relay) == 1
