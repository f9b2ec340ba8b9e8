"""What one client that reads nothing costs the nine others, and the server's memory.

    python -m benchmarks.stalled [--seconds 10] [--runs 3] [--json FILE]

Frames of 4 MiB (.bin) from one executable driver, as fast as it can, to nine TCP clients that compare every byte; once
alone and once beside a client that has asked for the BLOBs and reads none. The memory is the server's resident set,
sampled while frames pass; queues are as large as they are by default (128 MB).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import peers, report
from benchmarks.fanout import START

READERS = 9
ENVIRONMENT = {"WIRE_BYTES": str(4 << 20), "WIRE_WRAP": "72", "WIRE_ENCLEN": "1"}


@contextmanager
def indifast(driver: str) -> Iterator[tuple[int, int]]:
    """(port, process) of IPyServer."""
    with peers.process([sys.executable, "-m", "benchmarks.serve", driver], ENVIRONMENT) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline()), child.pid


@contextmanager
def indiserver(driver: str) -> Iterator[tuple[int, int]]:
    """(port, process) of the C++ server."""
    port = peers.free_port()
    command = ["indiserver", "-p", str(port), "-u", f"/tmp/indifast-stalled-{port}", driver]
    with peers.process(command, ENVIRONMENT) as child:
        peers.wait_for_port(port, child)
        yield port, child.pid


CONTENDERS: dict[str, Callable[[str], AbstractContextManager[tuple[int, int]]]] = {
    "indifast": indifast,
    "indiserver (C++)": indiserver,
}


def resident(pid: int) -> float:
    """MB of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(name: str, seconds: float, stalled: bool) -> dict[str, float]:
    """MB/s of all readers, readers lost, and the server's largest resident set in MB."""
    wire = str(peers.compile_c("wire"))
    settings = {**os.environ, **ENVIRONMENT, "WIRE_WAIT": "1"}
    with CONTENDERS[name](wire) as (port, pid):
        command = [wire, "receive", str(port), str(seconds)]
        children = [
            subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(READERS)
        ]
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        largest = [resident(pid)]
        over = threading.Event()

        def sample() -> None:
            while not over.wait(0.05):
                largest.append(resident(pid))

        with socket.create_connection(("127.0.0.1", port)) as sock:
            if stalled:
                sock.sendall(b"<getProperties version='1.7'/><enableBLOB device='Wire'>Also</enableBLOB>")
            sock.sendall(START)
            sampler = threading.Thread(target=sample)
            sampler.start()
            rates, lost = [], 0
            for child in children:
                out, _ = child.communicate(timeout=seconds + 60)
                result: dict[str, Any] = json.loads(out) if out.strip() else {}
                if child.returncode or not result or result["wrong"] or result["missed"] or result["frames"] < 2:
                    lost += 1
                else:
                    rates.append(result["wire_bytes"] / result["seconds"] / 1e6)
            over.set()
            sampler.join()
    return {"total": sum(rates), "lost": lost, "memory": max(largest)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalled", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="per run (default: 10)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    options = parser.parse_args(arguments)
    contenders = [name for name in CONTENDERS if name in peers.installed()]
    results: dict[str, dict[str, list[dict[str, float]]]] = {name: {"alone": [], "beside": []} for name in contenders}
    for _ in range(options.runs):
        for name in contenders:
            results[name]["alone"].append(measure(name, options.seconds, stalled=False))
            results[name]["beside"].append(measure(name, options.seconds, stalled=True))
    rows = []
    for name, both in results.items():
        median = {
            key: {what: statistics.median(run[what] for run in runs) for what in ("total", "lost", "memory")}
            for key, runs in both.items()
        }
        alone, beside = median["alone"], median["beside"]
        kept = beside["total"] / alone["total"] if alone["total"] else 0.0
        rates = [f"{alone['total']:.0f}", f"{beside['total']:.0f}", f"{kept:.2f}", f"{beside['lost']:.0f}"]
        rows.append([name, *rates, f"{alone['memory']:.0f}", f"{beside['memory']:.0f}"])
    header = ["", "alone, MB/s", "beside a stalled one", "kept", "lost", "memory alone, MB", "memory beside, MB"]
    print(report.table(header, rows))
    if options.json:
        report.write_json(
            options.json, "stalled", {"seconds": options.seconds, "runs": options.runs}, dict(results)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
