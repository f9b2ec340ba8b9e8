"""Base64 codec for BLOBs, available to any program.

`encode` and `decode` return new bytes. `encode_into` and `decode_into` write to a buffer and return the number of bytes
written; `encoded_length` returns the size of the buffer that encoding needs. Decoding is strict: invalid text raises
`Base64Error`, a ValueError whose `offset` says where the error is. White space is allowed anywhere because BLOBs are
sent in lines. `Decoder` decodes text that arrives in pieces. All of them let other threads run while they process large
data.

`paths()` lists the implementations that this machine can run, fastest first. The fastest one is the default; `use_path`
selects another one for this process.
"""

from __future__ import annotations

from indifast._base64 import (
    Base64Error,
    Decoder,
    decode,
    decode_into,
    encode,
    encode_into,
    encoded_length,
    paths,
    use_path,
)

__all__ = [
    "Base64Error",
    "Decoder",
    "decode",
    "decode_into",
    "encode",
    "encode_into",
    "encoded_length",
    "paths",
    "use_path",
]
