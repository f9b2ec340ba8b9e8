#!/usr/bin/env python3
"""An executable driver of small messages, with nothing but the standard library, for the measurements.

The device is named after SMALL_DEVICE. A new number is answered as Busy and then as Ok, with one write each.
SMALL_FLOOD=1: from the first new number on, the driver writes updates as fast as they are taken.
"""

import contextlib
import os
import threading

DEVICE = os.environ.get("SMALL_DEVICE", "Small")
DEFINITION = (
    f"<defNumberVector device='{DEVICE}' name='N' state='Idle' perm='rw'>"
    "<defNumber name='n' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n"
)
UPDATE = (
    f"<setNumberVector device='{DEVICE}' name='N' state='{{}}'><oneNumber name='n'>{{}}</oneNumber></setNumberVector>\n"
)


def say(text: bytes) -> None:
    while text:
        with contextlib.suppress(BlockingIOError):
            text = text[os.write(1, text) :]


def flood() -> None:
    number = 0
    while True:
        say("".join(UPDATE.format("Ok", number + i) for i in range(500)).encode())
        number += 500


def main() -> None:
    seen = b""
    flooding = False
    while data := os.read(0, 65536):
        seen += data
        while (end := seen.find(b">")) >= 0:
            word, seen = seen[: end + 1], seen[end + 1 :]
            if b"getProperties" in word:
                say(DEFINITION.encode())
            elif b"</newNumberVector" in word:
                if not os.environ.get("SMALL_FLOOD"):
                    say(UPDATE.format("Busy", 1).encode())
                    say(UPDATE.format("Ok", 1).encode())
                elif not flooding:
                    flooding = True
                    threading.Thread(target=flood, daemon=True).start()


main()
