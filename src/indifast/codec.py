"""The base64 codec of the BLOBs, for programs of one's own.

`encode` and `decode` return new bytes, `encode_into` and `decode_into` write into a buffer and return how many bytes;
`encoded_length` tells how large it has to be. Decoding is strict (`Base64Error`, a ValueError with the `offset` of
what is wrong) and takes white space anywhere, as BLOBs come in lines; `Decoder` does it for data that arrives in
pieces. All of them let other threads run meanwhile.

`paths()` are the ways this machine can do it, the fastest, which is taken, first; `use_path` selects another one for
this process.
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
