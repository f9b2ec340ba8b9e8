#!/usr/bin/env python3
"""An executable driver with many properties; for `benchmarks.scaling`.

MANY_PROPERTIES (default 10): so many number vectors of one member, `P0` …, and one more, `GO`, defined last. A new
number for `GO` asks for so many rounds of updates of all of them, followed by one of `GO`.
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
    rest = memoryview(text)
    while rest:
        with contextlib.suppress(BlockingIOError):
            rest = rest[os.write(1, rest) :]
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
