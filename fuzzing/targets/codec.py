"""The base64 codec: every path does what the standard library does, and touches nothing outside its buffers."""

from __future__ import annotations

import base64
import binascii
import ctypes
import mmap
import re

from fuzzing.inputs import Input, chunks
from indifast import _base64
from indifast._base64 import Base64Error, Decoder

_PAGE = mmap.PAGESIZE
_ROOM = 4 * _PAGE
_TEXT = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_WHITE = b" \t\r\n"


class Guarded:
    """Memory between two pages that can't be touched, so that one byte outside of it ends the process."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _ROOM + 2 * _PAGE)
        libc = ctypes.CDLL(None, use_errno=True)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (start, start + _PAGE + _ROOM):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(_PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def room(self, size: int, *, at_end: bool) -> memoryview:
        """Return `size` bytes that begin behind the first guard, or end at the second one."""
        start = _PAGE + (_ROOM - size if at_end else 0)
        return memoryview(self._map)[start : start + size]

    def copy(self, data: bytes, *, at_end: bool) -> memoryview:
        """Return `data` in such a place."""
        room = self.room(len(data), at_end=at_end)
        room[:] = data
        return room


_source, _target = Guarded(), Guarded()


def run(data: bytes) -> None:
    """Encode and decode by every path: a byte of options, one for the cuts, then the bytes."""
    given = Input(data)
    options, way = given.byte(), given.byte()
    payload = given.rest()[: _ROOM // 2]
    at_end = not options & 2
    previous = _base64.use_path("scalar")
    try:
        for path in _base64.paths():
            _base64.use_path(path)
            if options & 1:
                _check_encode(payload, way, at_end)
            else:
                _check_decode(payload, way, at_end)
    finally:
        _base64.use_path(previous)


def _check_encode(data: bytes, way: int, at_end: bool) -> None:
    expected = base64.b64encode(data)
    source = _source.copy(data, at_end=at_end)
    assert _base64.encode(source) == expected
    assert _base64.encoded_length(len(data)) == len(expected)
    out = _target.room(len(expected), at_end=at_end)
    assert _base64.encode_into(source, out) == len(expected) and out == expected
    if len(expected) > 0:
        try:
            _base64.encode_into(source, out[1:])
        except ValueError:
            pass
        else:
            raise AssertionError("encoded into too little room")
    columns = (way % 80) + 1
    lines = b"\n".join(expected[at : at + columns] for at in range(0, len(expected), columns))
    _check_decode(lines if len(lines) <= _ROOM else expected, way, at_end)


def _check_decode(text: bytes, way: int, at_end: bool) -> None:
    expected, offset = reference(text)
    source = _source.copy(text, at_end=at_end)
    if expected is not None:
        assert _base64.decode(source) == expected
        out = _target.room(len(expected), at_end=at_end)
        assert _base64.decode_into(source, out) == len(expected) and out == expected
    else:
        for decode in (_base64.decode, lambda data: _base64.decode_into(data, _target.room(_ROOM, at_end=at_end))):
            try:
                decode(source)
            except Base64Error as error:
                assert error.offset == offset, f"fault at {error.offset}, not at {offset}"
            else:
                raise AssertionError("no base64, and decoded")
    _check_pieces(text, way, at_end, expected, offset)


def _check_pieces(text: bytes, way: int, at_end: bool, expected: bytes | None, offset: int) -> None:
    for into in (False, True):
        room = _target.room(len(expected), at_end=at_end) if into and expected is not None else None
        decoder = Decoder(way, into=room)
        done = 0
        try:
            for chunk in chunks(text, way):
                now = decoder.feed(_source.copy(chunk, at_end=at_end))
                assert now >= done
                done = now
            found = decoder.finish()
        except Base64Error as error:
            assert expected is None and error.offset == offset
        else:
            assert found == expected and done == len(found)


def reference(text: bytes) -> tuple[bytes | None, int]:
    """Decode strictly, in the obvious way.

    Returns:
        The bytes, and -1; or None, and the index of the first character that is wrong (the length, if the text ends
        within a group).
    """
    places = [at for at, char in enumerate(text) if char not in _WHITE]
    bare = bytes(text[at] for at in places)
    match = _TEXT.match(bare)
    assert match is not None
    digits = len(match[0].rstrip(b"="))
    pads = len(match[0]) - digits
    within = digits % 4
    wanted = {0: 0, 1: 0, 2: 2, 3: 1}[within]
    good = digits + min(pads, wanted)
    if good < len(bare):
        return None, places[good]
    if within == 1 or (wanted and pads < wanted):
        return None, len(text)
    return binascii.a2b_base64(bare), -1
