"""The tokenizer compared with xml.etree.ElementTree.XMLPullParser.

Both read the same stream of setNumberVectors with three members, in chunks of 64 KiB, up to the point where tag,
device, name and the members' values are available. “relayed” is the tokenizer as a server uses it, which also writes
the element again. The contenders take turns, and the figure of a run is the median of its turns. The garbage collector
is off: XMLPullParser makes it work hard, and would lose by more than it does here.
"""

from __future__ import annotations

import base64
import gc
import statistics
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.program import Failed, Program, Settings, main, tell
from benchmarks.results import OURS, Bound, Goal, Row
from indifast._parser import Tokenizer

CHUNK = 64 << 10

LAYOUTS = {
    "libindi": """<setNumberVector
  device='CCD Simulator'
  name='EQUATORIAL_PE'
  state='Ok'
  timeout='60'
  timestamp='2026-11-20T15:30:16'
>
  <oneNumber name='RA_PE'>
      {0}.069603354980075
  </oneNumber>
  <oneNumber name='DEC_PE'>
      90
  </oneNumber>
  <oneNumber name='ANGLE'>
      -{0}.5
  </oneNumber>
</setNumberVector>
""",
    "indiserver": """<setNumberVector device="CCD Simulator" name="EQUATORIAL_PE" state="Ok" timeout="60" """
    """timestamp="2026-11-20T15:30:16">
    <oneNumber name="RA_PE">
{0}.069603354980075
    </oneNumber>
    <oneNumber name="DEC_PE">
90
    </oneNumber>
    <oneNumber name="ANGLE">
-{0}.5
    </oneNumber>
</setNumberVector>
""",
    "indipydriver": """<setNumberVector device="CCD Simulator" name="EQUATORIAL_PE" timestamp="2026-11-20T15:30:16" """
    """timeout="60" state="Ok"><oneNumber name="RA_PE">{0}.069603354980075</oneNumber>"""
    """<oneNumber name="DEC_PE">90</oneNumber><oneNumber name="ANGLE">-{0}.5</oneNumber></setNumberVector>""",
}


def small_stream(layout: str, count: int) -> bytes:
    """Return `count` vectors with different values, whose lengths differ as well."""
    return "".join(LAYOUTS[layout].format(index * 7 % 1013) for index in range(count)).encode()


def mixed_stream(count: int) -> bytes:
    """Return `count` vectors, each with another layout than the one before."""
    order = sorted(LAYOUTS)
    return "".join(LAYOUTS[order[index % 3]].format(index * 7 % 1013) for index in range(count)).encode()


def blob_stream(size: int, columns: int) -> bytes:
    """Return a setBLOBVector with `size` bytes, wrapped at `columns` (0: not at all)."""
    text = base64.b64encode(bytes(range(256)) * (size // 256))
    if columns:
        text = b"\n".join(text[at : at + columns] for at in range(0, len(text), columns))
    return (
        b"<setBLOBVector device='CCD' name='CCD1' state='Ok'><oneBLOB name='CCD1' size='%d' format='.fits'>\n" % size
        + text
        + b"\n</oneBLOB></setBLOBVector>\n"
    )


def read_tokenizer(data: bytes) -> int:
    tokenizer = Tokenizer()
    count = 0
    for at in range(0, len(data), CHUNK):
        for element in tokenizer.feed(data[at : at + CHUNK]):
            _ = element.tag, element.device, element.name, element.values()
            count += 1
    return count


def relay_tokenizer(data: bytes) -> int:
    tokenizer = Tokenizer(relay=True)
    count = 0
    for at in range(0, len(data), CHUNK):
        for element in tokenizer.feed(data[at : at + CHUNK]):
            _ = element.tag, element.device, element.name, element.parts(False), element.size
            count += 1
    return count


def read_xml(data: bytes) -> int:
    parser: Any = ET.XMLPullParser(["end"])
    parser.feed(b"<stream>")
    count = 0
    for at in range(0, len(data), CHUNK):
        parser.feed(data[at : at + CHUNK])
        for _, element in parser.read_events():
            if element.tag == "setNumberVector":
                values = {member.get("name"): (member.text or "").strip() for member in element}
                _ = element.tag, element.get("device"), element.get("name"), values
                element.clear()
                count += 1
    return count


def tokenize(data: bytes, relay: bool) -> int:
    tokenizer = Tokenizer(relay=relay)
    return sum(len(tokenizer.feed(data[at : at + (256 << 10)])) for at in range(0, len(data), 256 << 10))


RELAYED = "indifast, relayed"
XML = "XMLPullParser"
READERS: dict[str, Callable[[bytes], int]] = {OURS: read_tokenizer, RELAYED: relay_tokenizer, XML: read_xml}


def measure_one(data: bytes, count: int, seconds: float) -> dict[str, float]:
    """Make one run: microseconds per element, by reader.

    Raises:
        Failed: A reader found a wrong number of elements.
    """
    times: dict[str, list[float]] = {name: [] for name in READERS}
    end = time.monotonic() + seconds
    gc.disable()
    try:
        while time.monotonic() < end or not times[XML]:
            for name, read in READERS.items():
                start = time.perf_counter()
                found = read(data)
                times[name].append((time.perf_counter() - start) / count * 1e6)
                if found != count:
                    raise Failed(f"{name} found {found} of {count} elements")
            gc.collect()
    finally:
        gc.enable()
    return {name: statistics.median(measured) for name, measured in times.items()}


STREAMS: dict[str, Callable[[int], bytes]] = {
    **{f"as {layout} writes": partial(small_stream, layout) for layout in sorted(LAYOUTS)},
    "these in turn": mixed_stream,
}
"""Functions by row that make a stream of the given number of elements."""


def measure(settings: Settings) -> Iterable[Row]:
    count = 2000
    for title, make in STREAMS.items():
        data = make(count)
        runs = []
        for number in range(settings.runs):
            tell(f"{title}, run {number + 1} of {settings.runs}")
            runs.append(measure_one(data, count, settings.seconds))
        yield Row(title, "µs", {name: [run[name] for run in runs] for name in READERS}, digits=2)


PROGRAM = Program(
    "tokenizer",
    "The tokenizer",
    __doc__ or "",
    measure,
    timed=len(STREAMS),
    overhead=0.1,
    goals=tuple(Goal(title, "<=", (Bound(0.1, XML),)) for title in STREAMS),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
