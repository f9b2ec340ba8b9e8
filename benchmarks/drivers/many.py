#!/usr/bin/env python3
"""An executable driver with many properties, for `benchmarks.scaling`.

It has MANY_PROPERTIES (default 10) number vectors of one member, `P0` and so on, and one more, `GO`, which is defined
last. A new number for `GO` asks for that many rounds of updates of all the others, followed by an update of `GO`.
"""

import contextlib
import os
import select

COUNT = int(os.environ.get("MANY_PROPERTIES", "10"))
DEFINE = (
    "<defNumberVector device='Many' name='{0}' label='Property {0}' group='Main' state='Idle' perm='rw'>"
    "<defNumber name='n' label='Number' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n"
)
UPDATE = "<setNumberVector device='Many' name='{}' state='Ok'><oneNumber name='n'>{}</oneNumber></setNumberVector>\n"
NAMES = [f"P{number}" for number in range(COUNT)]
DEFINITIONS = "".join(DEFINE.format(name) for name in [*NAMES, "GO"]).encode()
UPDATES = "".join(UPDATE.format(name, 1) for name in NAMES).encode()
END = UPDATE.format("GO", 1).encode()


def say(text: bytes) -> None:
    left = memoryview(text)
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(1, left) :]
            continue
        select.select([], [1], [])


def main() -> None:
    seen = b""
    while data := os.read(0, 65536):
        seen += data
        while (end := seen.find(b">")) >= 0:
            word, seen = seen[: end + 1], seen[end + 1 :]
            if b"getProperties" in word:
                say(DEFINITIONS)
            elif b"</oneNumber" in word:
                for _ in range(int(word.partition(b"<")[0])):
                    say(UPDATES)
                say(END)


main()
