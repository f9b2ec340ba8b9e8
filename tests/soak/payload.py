"""The frames that the drivers of the soak test send. Each frame says which one it is and can be checked.

Drivers and clients share this module. It uses only the standard library, because the clients must be able to judge
indifast without it.
"""

from __future__ import annotations

import re
import struct
import zlib
from functools import cache
from typing import NamedTuple

FORMAT = ".soak"
STREAM_FORMAT = ".stream_soak"
"""A server may replace frames of this format by newer ones, because it contains the word "stream"."""

_MAGIC = b"SOAKFRAM"
_HEAD = struct.Struct("<8s32sQQQI")  # magic, property, run, number, bytes of the body, checksum of all that follows
_CHECKSUM = struct.Struct("<I")
_LARGEST = 4 << 20


class Damaged(Exception):
    """A frame does not have the content that its sender gave it."""


class Identity(NamedTuple):
    """Which frame this is."""

    run: int
    number: int


@cache
def _noise() -> bytes:
    """Bytes that do not compress and do not repeat within a frame."""
    import random

    return random.Random(1).randbytes(_LARGEST + (1 << 20))


def size_of(number: int, largest: int = _LARGEST) -> int:
    """How many bytes frame `number` has: most frames are small, a few are large."""
    draw = zlib.crc32(b"size %d" % number)
    share, rest = draw % 100, draw // 100
    most = 20_000 if share < 40 else 300_000 if share < 85 else 1_500_000 if share < 97 else largest
    return 1 + rest % min(most, largest)


def frame(of: str, identity: Identity, size: int) -> bytes:
    """A frame of the property `of` with a body of `size` bytes."""
    start = zlib.crc32(f"{of} {identity}".encode()) % (1 << 20)
    body = _noise()[start : start + size]
    head = _HEAD.pack(_MAGIC, of.encode()[:32], identity.run, identity.number, size, 0)
    checksum = zlib.crc32(body, zlib.crc32(head[: -_CHECKSUM.size]))
    return head[: -_CHECKSUM.size] + _CHECKSUM.pack(checksum) + body


def identify(of: str, content: bytes | memoryview) -> Identity:
    """Check a frame of the property `of`, and say which one it is.

    Raises:
        Damaged: A byte is wrong, missing or left over, or the frame belongs to another property.
    """
    if len(content) < _HEAD.size:
        raise Damaged(f"{len(content)} bytes are too few for a frame")
    magic, owner, run, number, size, checksum = _HEAD.unpack_from(content)
    if magic != _MAGIC:
        raise Damaged(f"not a frame: it begins with {bytes(content[:16])!r}")
    name = owner.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if name != of[:32]:
        raise Damaged(f"a frame of {name} came as one of {of}")
    if len(content) != _HEAD.size + size:
        raise Damaged(f"frame {number} has {len(content)} bytes instead of {_HEAD.size + size}")
    view = memoryview(content)
    if zlib.crc32(view[_HEAD.size :], zlib.crc32(view[: _HEAD.size - _CHECKSUM.size])) != checksum:
        raise Damaged(f"frame {number} has the wrong checksum")
    return Identity(run, number)


def check_fits(content: bytes | memoryview) -> None:
    """Check what can be checked of a simulator's image: that it is as long as its header says.

    Raises:
        Damaged: It is not.
    """
    head = bytes(content[: 2880 * 4])
    cards = {}
    for start in range(0, len(head), 80):
        card = head[start : start + 80]
        if card.startswith(b"END" + b" " * 77):
            break
        found = re.match(rb"(SIMPLE|BITPIX|NAXIS[12]?) *= +(T|-?\d+)", card)
        if found:
            cards[found[1].decode()] = found[2].decode()
    else:
        raise Damaged(f"no FITS header: it begins with {head[:16]!r}")
    if cards.get("SIMPLE") != "T" or cards.get("NAXIS") != "2":
        raise Damaged(f"not the header of an image: {cards}")
    header = (start // 2880 + 1) * 2880
    pixels = int(cards["NAXIS1"]) * int(cards["NAXIS2"]) * abs(int(cards["BITPIX"])) // 8
    expected = header + -(-pixels // 2880) * 2880
    if len(content) != expected:
        raise Damaged(f"a FITS image of {len(content)} bytes instead of {expected}")
