"""What the page in the browser costs a relay.

A server passes on frames of 4 MiB from an executable driver to one TCP client (the two ends of `csrc/wire.c`). A second
driver sends frames of 2 Mpixel (FITS) at a steady pace. The page is not there, or nobody looks at it, or ten viewers
ask for each preview of the second driver: of `indifast serve --web`, or of `indifast web` as a process of its own,
which is a client of the same server. The rate is that of the relay, in MB/s on the wire; “previews” are those that the
viewers have seen, in a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks import peers
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.relay import receive
from benchmarks.results import Bound, Goal, Row

NONE, IDLE, BESIDE, INSIDE = "indifast, no page", "indifast, nobody looks", "indifast web", "indifast serve --web"
EXPOSER = peers.HERE / "drivers" / "exposer.py"
INDIFAST = [sys.executable, "-m", "indifast"]


@contextmanager
def serving(contender: str, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run a server and its page; yields their ports."""
    port, web = peers.free_port(), peers.free_port()
    drivers = [str(peers.compile_c("wire")), str(EXPOSER)]
    words = ["--web", str(web)] if contender in (IDLE, INSIDE) else []
    with ExitStack() as stack:
        command = [*INDIFAST, "serve", "-p", str(port), "--no-abstract", *words, *drivers]
        server = stack.enter_context(peers.process(command, environment))
        peers.wait_for_port(port, server)
        if words:
            peers.wait_for_port(web, server)
        if contender == BESIDE:
            command = [*INDIFAST, "web", "--listen", str(web), f"localhost:{port}"]
            peers.wait_for_port(web, stack.enter_context(peers.process(command)))
        yield port, web


@contextmanager
def viewing(port: int, count: int) -> Iterator[subprocess.Popen[str]]:
    """Run viewers that have all seen a preview."""
    command = [sys.executable, "-m", "benchmarks.browser_viewers", str(port), str(count)]
    home, pipe = peers.HERE.parent, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=home) as run:
        assert run.stdout is not None
        try:
            if run.stdout.readline() != "seen\n":
                raise Failed("the viewers see nothing")
            yield run
        finally:
            run.kill()


def measure_one(contender: str, count: int, environment: dict[str, str], seconds: float) -> dict[str, float]:
    """Make one run: MB/s of the relay, its frames, and previews per second.

    Raises:
        Failed: Frames were changed or lost, or nothing was seen.
    """
    with serving(contender, environment) as (port, web), ExitStack() as stack:
        seen = 0.0
        if contender in (BESIDE, INSIDE):
            viewers = stack.enter_context(viewing(web, count))
            began = time.monotonic()
            result = receive(port, seconds, environment)
            seconds = time.monotonic() - began
            said, _ = viewers.communicate("")
            seen = json.loads(said)["seen"] / seconds
        else:
            result = receive(port, seconds, environment)
    if result["wrong"] or result["missed"] or result["frames"] < 2:
        raise Failed("{wrong} of {frames} frames damaged, {missed} missed".format(**result))
    rate = result["wire_bytes"] / result["seconds"] / 1e6
    return {"rate": rate, "frames": result["frames"], "previews": seen}


def measure(settings: Settings) -> Iterable[Row]:
    environment = {"WIRE_BYTES": str(4 << 20), "WIRE_WRAP": "72", "WIRE_ENCLEN": "1",
                   "EXPOSER_RATE": str(settings.options["rate"])}  # fmt: skip
    count = int(settings.options["viewers"])
    runs = {name: partial(measure_one, name, count, environment) for name in (NONE, IDLE, BESIDE, INSIDE)}
    turns = settings.turns("relay", runs)
    yield turns.row("rate", "relay", "MB/s")
    yield turns.row("previews", "previews", "1/s")


PROGRAM = Program(
    "browser",
    "The page in the browser: what it costs a relay",
    __doc__ or "",
    measure,
    timed=4,
    options={"viewers": 10, "rate": 5},
    goals=(
        Goal("relay", ">=", (Bound(0.95, NONE),), contender=IDLE),
        Goal("relay", ">=", (Bound(0.95, BESIDE),), contender=INSIDE),
        Goal("previews", ">=", (Bound(0.9, BESIDE),), contender=INSIDE),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
