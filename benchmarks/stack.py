"""Frames from a Python driver through a Python server to a Python client, beside the Python peers.

    python -m benchmarks.stack [--seconds 5] [--runs 5] [--size 4194304] [--json FILE]

Driver and server in one process, the client in another, TCP on loopback. The driver writes every frame anew, the client
looks at every page of it. The peers (indipydriver 3.1.2, indipyserver 0.0.6, indipyclient 0.9.4) are measured when
`make bench-peers` has installed them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers, report

AHEAD = 3
"""Frames under way at a time."""


@dataclass(frozen=True)
class Stack:
    """A driver, server and client, and the interpreter that has them."""

    python: str
    driver: str
    client: str


def installed() -> dict[str, Stack]:
    """The stacks that can be measured here, by name."""
    home = Path(os.environ.get("INDIFAST_PEERS") or peers.HERE.parent / ".venv-peers")
    stacks = {"indifast": Stack(sys.executable, "indifast", "indifast.client")}
    if (python := home / "d31" / "bin" / "python").exists():
        stacks["indipydriver, -server, -client"] = Stack(str(python), "indipydriver", "indipyclient")
    return stacks


def measure(stack: Stack, size: int, seconds: float) -> float:
    """MB/s raw in one run. Raises RuntimeError when frames were damaged or lost."""
    port = 0 if stack.driver == "indifast" else peers.free_port()
    camera = [stack.python, str(peers.HERE / "stack_camera.py"), stack.driver, str(port), str(size)]
    with peers.process(camera) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        peers.wait_for_port(port, child)
        receiver = [stack.python, str(peers.HERE / "stack_receiver.py"), stack.client, str(port), str(size)]
        done = subprocess.run(
            [*receiver, str(AHEAD), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=seconds + 120,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["wrong"] or not result["frames"]:
        raise RuntimeError(f"damaged frames: {result}")
    return float(result["raw_bytes"] / result["seconds"] / 1e6)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stack", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per run (default: 5)")
    parser.add_argument("--runs", type=int, default=5, help="of each stack (default: 5)")
    parser.add_argument("--size", type=int, default=4 << 20, help="bytes per frame (default: 4 MiB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    options = parser.parse_args(arguments)

    stacks = installed()
    figures: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(options.runs):
        for name, stack in stacks.items():
            figures[name].append(measure(stack, options.size, options.seconds))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    rows = [[name, f"{median:.0f}", f"{median / medians['indifast']:.2f}"] for name, median in medians.items()]
    print(report.table(["driver to server to client", "MB/s raw", "of indifast's"], rows))
    if options.json:
        settings = {"seconds": options.seconds, "runs": options.runs, "size": options.size, "ahead": AHEAD}
        report.write_json(options.json, "stack", settings, dict(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
