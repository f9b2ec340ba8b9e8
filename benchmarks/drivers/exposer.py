#!/usr/bin/env python3
"""An executable driver that sends frames as FITS, 16 bit, at a steady pace, for `benchmarks.browser`.

EXPOSER_SIDE are the pixels of a side, EXPOSER_RATE frames per second.
"""

import base64
import os
import select
import time

SIDE = int(os.environ.get("EXPOSER_SIDE", "1448"))
RATE = float(os.environ.get("EXPOSER_RATE", "5"))
DEFINITION = (
    b"<defBLOBVector device='Exposer' name='FRAME' state='Idle' perm='ro'><defBLOB name='F'/></defBLOBVector>\n"
)


def frame() -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": SIDE, "NAXIS2": SIDE}
    head = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END".ljust(80)
    noise = os.urandom(2 * SIDE)
    rows = b"".join(bytes([row >> 6 & 63]).join((noise[:SIDE], noise[SIDE:-1])) for row in range(SIDE))
    content = head.ljust(2880).encode() + rows
    content += bytes(-len(content) % 2880)
    start = f"<setBLOBVector device='Exposer' name='FRAME' state='Ok'><oneBLOB name='F' size='{len(content)}'"
    return f"{start} format='.fits'>\n".encode() + base64.encodebytes(content) + b"</oneBLOB></setBLOBVector>\n"


def say(text: bytes) -> None:
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:
            select.select([], [1], [])


def main() -> None:
    sent, wanted, due = frame(), False, time.monotonic()
    while True:
        pause = max(due - time.monotonic(), 0) if wanted else None
        if select.select([0], [], [], pause)[0]:
            heard = os.read(0, 1 << 16)
            if not heard:
                return
            if b"getProperties" in heard:
                say(DEFINITION)
                wanted = True
        elif wanted:
            say(sent)
            due = max(due + 1 / RATE, time.monotonic())


if __name__ == "__main__":
    main()
