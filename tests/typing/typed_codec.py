"""The types of the codec that programs rely on.

`make lint` checks this file with mypy and basedpyright; it is not run.
"""

from __future__ import annotations

from typing import assert_type

from indifast import codec

assert_type(codec.encode(b"frame"), bytes)
assert_type(codec.encode_into(memoryview(b"frame"), bytearray(8)), int)
assert_type(codec.decode(bytearray(b"AAAA")), bytes)
assert_type(codec.paths(), tuple[str, ...])

decoder = codec.Decoder(1 << 20, limit=1 << 30, into=bytearray(1 << 20))
assert_type(decoder, codec.Decoder)
assert_type(decoder.feed(b"AAAA"), int)
assert_type(decoder.finish(), bytes | memoryview)

try:
    codec.decode(b"?")
except codec.Base64Error as error:
    assert_type(error.offset, int)

codec.encode("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
codec.Decoder(into=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
