#!/usr/bin/env python3
"""An executable driver that answers each new number with an update, for `benchmarks.chain`.

The update carries the time at which it was written (nanoseconds, monotonic).
"""

import os
import time

DEFINITION = (
    b"<defNumberVector device='Stamp' name='N' state='Idle' perm='rw'>"
    b"<defNumber name='n' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n"
)
UPDATE = (
    "<setNumberVector device='Stamp' name='N' state='Ok' message='{}'><oneNumber name='n'>1</oneNumber>"
    "</setNumberVector>\n"
)


def main() -> None:
    seen = b""
    while data := os.read(0, 65536):
        seen += data
        while (end := seen.find(b">")) >= 0:
            word, seen = seen[: end + 1], seen[end + 1 :]
            if b"getProperties" in word:
                os.write(1, DEFINITION)
            elif b"</newNumberVector" in word:
                os.write(1, UPDATE.format(time.monotonic_ns()).encode())


main()
