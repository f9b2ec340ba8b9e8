#!/usr/bin/env python3
"""An executable driver that sends as much as it is asked for, for `benchmarks.bench_server`.

A new number for `FRAMES` asks for that many frames of BURST_BYTES (default 4 MiB) as wrapped base64, one for `UPDATES`
for that many small updates. An update of the property that was asked follows. A new BLOB is answered by an update of
`TAKEN`.
"""

import base64
import os
import re
import select
from collections.abc import Iterator

SIZE = int(os.environ.get("BURST_BYTES", 4 << 20))
NUMBERS = ("FRAMES", "UPDATES", "TAKEN")
DEFINE = (
    "<defNumberVector device='Burst' name='{}' state='Idle' perm='rw'>"
    "<defNumber name='n' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n"
)
DEFINE_BLOB = "<defBLOBVector device='Burst' name='{0}' state='Idle' perm='rw'><defBLOB name='b'/></defBLOBVector>\n"
UPDATE = "<setNumberVector device='Burst' name='{}' state='Ok'><oneNumber name='n'>1</oneNumber></setNumberVector>\n"
DEFINITIONS = "".join([DEFINE_BLOB.format("FRAME"), *map(DEFINE.format, NUMBERS)]).encode()
UPDATES = "".join([UPDATE.format("VALUE")] * 100).encode()


def frame() -> bytes:
    content = base64.encodebytes(os.urandom(SIZE // 3 * 3))
    head = f"<setBLOBVector device='Burst' name='FRAME' state='Ok'><oneBLOB name='b' size='{SIZE}' format='.raw'>\n"
    return head.encode() + content + b"</oneBLOB></setBLOBVector>\n"


def say(text: bytes) -> None:
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:
            select.select([], [1], [])


def messages() -> Iterator[tuple[bytes, bytes]]:
    """Read messages; yield the name and the text of each."""
    seen = bytearray()
    while data := os.read(0, 1 << 20):
        checked = max(len(seen) - 64, 0)
        seen += data
        while begin := re.match(rb"\s*<(\w+)[^>]*>", seen):
            ending = b">" if begin[0].endswith(b"/>") else b"</%s>" % begin[1]
            end = seen.find(ending, checked)
            if end < 0:
                break
            end += len(ending)
            yield begin[1], bytes(seen[:end])
            del seen[:end]
            checked = 0


def main() -> None:
    sent = {b"FRAMES": frame(), b"UPDATES": UPDATES}
    os.set_blocking(0, True)
    for kind, text in messages():
        if kind == b"getProperties":
            say(DEFINITIONS)
        elif kind == b"newNumberVector":
            name = next(name for name in sent if name in text)
            count = int(text.partition(b"<oneNumber")[2].partition(b">")[2].partition(b"<")[0])
            for _ in range(count if name == b"FRAMES" else count // len(UPDATES.splitlines())):
                say(sent[name])
            say(UPDATE.format(name.decode()).encode())
        elif kind == b"newBLOBVector":
            say(UPDATE.format("TAKEN").encode())


if __name__ == "__main__":
    main()
