"""How frames pass from one executable driver, as fast as it can, to many TCP clients that read as fast as they can.

    python -m benchmarks.fanout [--clients 10 50] [--seconds 5] [--runs 3] [--json FILE]

Every client is a process that compares every byte of every frame (`csrc/wire.c`). Counted are the bytes of all clients,
the clients that were disconnected or got a damaged frame, the frames that clients missed, and the slowest client's rate
as a part of the fastest one's.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers, report

START = b"<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>"


def measure(
    contender: peers.Contender, clients: int, seconds: float, environment: Mapping[str, str]
) -> dict[str, float]:
    """One run: MB/s on the wire of all clients, clients lost, frames missed, slowest by fastest."""
    wire = peers.compile_c("wire")
    settings = {**os.environ, **environment, "WIRE_WAIT": "1"}
    with contender(wire, environment) as port:
        command = [str(wire), "receive", str(port), str(seconds)]
        children = [
            subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(clients)
        ]
        for child in children:  # all are there before the first frame
            assert child.stdout is not None
            child.stdout.readline()
        with socket.create_connection(("127.0.0.1", port)) as starter:
            starter.sendall(START)
            rates, missed, lost = _collect(children, seconds)
    return {
        "total": sum(rates),
        "lost": lost,
        "missed": missed,
        "fairness": min(rates) / max(rates) if max(rates) else 0.0,
    }


def _collect(children: Sequence[subprocess.Popen[str]], seconds: float) -> tuple[list[float], int, int]:
    """MB/s of each client, frames missed, clients lost."""
    rates, missed, lost = [], 0, 0
    for child in children:
        try:
            out, _ = child.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        result: dict[str, Any] = json.loads(out) if out.strip() else {}
        if child.returncode or not result or result["wrong"] or result["frames"] < 2:
            lost += 1
            rates.append(0.0)
            continue
        missed += result["missed"]
        rates.append(result["wire_bytes"] / result["seconds"] / 1e6)
    return rates, missed, lost


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--seconds", type=float, default=5.0, help="per run (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default: 3)")
    parser.add_argument("--size", type=int, default=4 << 20, help="raw bytes per frame (default: 4 MiB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    options = parser.parse_args(arguments)

    environment = {"WIRE_BYTES": str(options.size), "WIRE_WRAP": "72", "WIRE_ENCLEN": "1"}
    contenders = {name: one for name, one in peers.installed().items() if name != "no server"}
    if "indiserver (C++)" in contenders:  # as it is started by default
        contenders["indiserver (C++)"] = partial(peers.indiserver, queue=128)
    results: dict[str, Any] = {}
    rows = []
    for clients in options.clients:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(options.runs):
            for name, contender in contenders.items():
                runs[name].append(measure(contender, clients, options.seconds, environment))
        for name, figures in runs.items():
            median = {key: statistics.median(run[key] for run in figures) for key in figures[0]}
            shown = [f"{median['total']:.0f}", f"{median['lost']:.0f}", f"{median['missed']:.0f}"]
            rows.append([name, str(clients), *shown, f"{median['fairness']:.2f}"])
        results[str(clients)] = runs
    print(report.table(["", "clients", "MB/s in all", "lost", "frames missed", "slowest / fastest"], rows))
    if options.json:
        settings = {"seconds": options.seconds, "runs": options.runs, "size": options.size}
        report.write_json(options.json, "fanout", settings, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
