"""Reading well-formed streams, in chunks of any size and both modes."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from indifast._parser import Element, Tokenizer
from tests.parser.support import written
from tests.support.wrapping import lines

RAW = bytes(range(256)) * 30

LIBINDI = b"""<?xml version='1.0'?>
<setNumberVector
  device='CCD Simulator'
  name='POLLING_PERIOD'
  state='Ok'
  timeout='0'
  timestamp='2026-11-20T15:30:16'
>
  <oneNumber name='PERIOD_MS'>
      1000
  </oneNumber>
  <oneNumber name='OTHER'>
      12.5
  </oneNumber>
</setNumberVector>
"""

RELAYED = b"""<setNumberVector device="CCD Simulator" name="POLLING_PERIOD" state="Ok" timeout="0" \
timestamp="2026-11-20T15:30:16">
    <oneNumber name="PERIOD_MS">
1000
    </oneNumber>
    <oneNumber name="OTHER">
12.5
    </oneNumber>
</setNumberVector>
"""


def wrapped(data: bytes, columns: int = 72) -> bytes:
    return lines(base64.b64encode(data), columns) + b"\n"


def blob_vector(text: bytes, attributes: bytes = b"size='7680' format='.fits'") -> bytes:
    return (
        b"<setBLOBVector\n  device='CCD'\n  name='CCD1'\n  state='Ok'\n>\n  <oneBLOB\n    name='CCD1' "
        + attributes + b">\n" + text + b"  </oneBLOB>\n</setBLOBVector>\n"
    )  # fmt: skip


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for i in range(0, len(data), size):
        yield data[i : i + size]


def read(data: bytes, size: int = 1 << 30, *, relay: bool = False) -> list[Element]:
    tokenizer = Tokenizer(relay=relay)
    found = [element for chunk in chunks(data, size) for element in tokenizer.feed(chunk)]
    tokenizer.close()
    assert tokenizer.skipped == {}
    return found


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_number_vector(relay: bool, size: int) -> None:
    (element,) = read(LIBINDI, size, relay=relay)
    assert element.tag == "setNumberVector"
    assert (element.device, element.name) == ("CCD Simulator", "POLLING_PERIOD")
    assert list(element.attrs) == ["device", "name", "state", "timeout", "timestamp"]
    assert element.values() == {"PERIOD_MS": "1000", "OTHER": "12.5"}
    assert [member.text for member in element.members] == ["\n      1000\n  ", "\n      12.5\n  "]
    assert written(element) == RELAYED
    assert element.size == len(RELAYED)
    assert not element.blob and element.formats == () and element.carried == frozenset()


def test_values_has_the_members_with_a_name() -> None:
    (element,) = Tokenizer().feed(
        b"<setTextVector device='D' name='T'><oneText>a</oneText><oneText name=''>b</oneText>"
        b"<oneText name='' x='&lt;'>c &amp;</oneText><oneText name='n'>d</oneText></setTextVector>"
    )
    assert element.values() == {"n": "d"}
    assert [member.name for member in element.members] == ["", "", "", "n"]


@pytest.mark.parametrize("size", [1, 3, 72, 73, 5000, 100000])
@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("text", [wrapped(RAW), base64.b64encode(RAW), b"\n  \n" + wrapped(RAW, 60) + b"\n \n"])
def test_blob(size: int, relay: bool, text: bytes) -> None:
    before, element, after = read(LIBINDI + blob_vector(text) + LIBINDI, size, relay=relay)
    assert element.blob and element.formats == (".fits",) and element.carried == {"CCD1"}
    (member,) = element.members
    assert member.data == RAW and member.blob_size == len(RAW) and member.format == ".fits"
    assert before.values() == after.values()
    assert element.parts(True) is None
    if relay:
        out = written(element)
        assert out.endswith(text.strip() + b"\n    </oneBLOB>\n</setBLOBVector>\n")
        assert element.size == len(out)
        assert out.startswith(
            b'<setBLOBVector device="CCD" name="CCD1" state="Ok">\n'
            b'    <oneBLOB name="CCD1" size="7680" format=".fits">\n'
        )
    else:
        assert element.parts(False) is None


def test_envelope_forms() -> None:
    (element,) = read(blob_vector(wrapped(RAW)), relay=True)
    assert element.envelope(True) == (
        b'<setBLOBVector device="CCD" name="CCD1" state="Ok">\n'
        b'    <oneBLOB name="CCD1" size="7680" format=".fits" attached="true"/>\n</setBLOBVector>\n',
    )
    (element,) = read(blob_vector(b"", b"size='7680' format='.fits' len='7000' attached='true'"), relay=True)
    assert element.attached == 1 and element.blob and element.carried == {"CCD1"} and element.members[0].attached
    assert element.parts(False) is None and element.parts(True) is None
    assert element.envelope(False) == (
        b'<setBLOBVector device="CCD" name="CCD1" state="Ok">\n'
        b'    <oneBLOB name="CCD1" size="7680" format=".fits" len="7000">\n',
        b"\n    </oneBLOB>\n</setBLOBVector>\n",
    )
    assert element.envelope(True) == (
        b'<setBLOBVector device="CCD" name="CCD1" state="Ok">\n'
        b'    <oneBLOB name="CCD1" size="7680" format=".fits" len="7000" attached="true"/>\n</setBLOBVector>\n',
    )


@pytest.mark.parametrize(
    ("attributes", "attached"),
    [
        ("size='20' format='.fits'", 'size="20" format=".fits"'),  # in libindi's own test, 21 bytes announced as 20
        ("format='.fits' size='7680'", 'format=".fits" size="7680"'),
        ("format='.fits'", 'format=".fits" size="7680"'),
        ("size='7680' format='.fits.z'", 'size="7680" format=".fits.z"'),
        ("size='9000' len='5' format='.fits'", 'size="9000" len="7680" format=".fits"'),
        ("size='9000' format='.fits'", 'size="9000" format=".fits" len="7680"'),
        ("size='9000' format='.fits.z'", 'size="9000" format=".fits.z" len="7680"'),
        ("format='.fits.fz' size='7000'", 'format=".fits.fz" size="7000" len="7680"'),
    ],
)
def test_an_attached_form_has_a_len_if_the_size_may_not_be_that_of_the_content(attributes: str, attached: str) -> None:
    (element,) = read(blob_vector(wrapped(RAW), attributes.encode()), relay=True)
    assert f'<oneBLOB name="CCD1" {attached} attached="true"/>'.encode() in element.envelope(True)[0]


def test_every_root_is_known() -> None:
    tags = ["getProperties", "enableBLOB", "message", "delProperty", "pingRequest", "pingReply"]
    tags += [f"new{kind}Vector" for kind in ("Text", "Number", "Switch", "BLOB")]
    tags += [f"{verb}{kind}Vector" for verb in ("def", "set") for kind in ("Text", "Number", "Switch", "Light", "BLOB")]
    for relay in (False, True):
        wire = "".join(f"<{tag} a='b'><one{tag}/></{tag}>" for tag in tags).encode()
        assert [element.tag for element in read(wire, relay=relay)] == tags


PLAIN = b"<message device='D' message='m'/>"


@pytest.mark.parametrize(
    ("stream", "plain"),
    [
        (b"", True),
        (PLAIN, True),
        (b" \n" + PLAIN + b"\n" + PLAIN, True),
        (b"junk" + PLAIN, True),
        (PLAIN + b"<", False),
        (PLAIN + b"<message device='D'", False),
        (PLAIN + b"<setBLOBVector device='D'><oneBLOB name='b'>QU", False),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='0'/></setBLOBVector>", True),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3'>QUJD</oneBLOB></setBLOBVector>" + PLAIN, False),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3' attached='true'/></setBLOBVector>" + PLAIN, False),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='0' attached='true'/></setBLOBVector>" + PLAIN, False),
        (b"<setBLOBVector device='D'><oneBLOB name='b' size='3' attached='raw'/></setBLOBVector>" + PLAIN, False),
    ],
)
@pytest.mark.parametrize("relay", [False, True])
def test_whether_a_read_was_plain(stream: bytes, plain: bool, relay: bool) -> None:
    tokenizer = Tokenizer(relay=relay)
    found = tokenizer.feed(stream)
    assert tokenizer.plain is plain
    if plain:
        assert not tokenizer.held and not any(each.blob or each.descriptors for each in found)
    tokenizer.abandon()
    if not tokenizer.broken:
        tokenizer.feed(PLAIN)
        assert tokenizer.plain, "what was read before does not count"
