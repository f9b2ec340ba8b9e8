"""How fast a driver updates a property, and answers getProperties: indifast against indipydriver and indipyserver.

    python -m benchmarks.driver --peer PYTHON [--runs 5] [--json FILE]

`PYTHON` is the interpreter of an environment with indipydriver and indipyserver. Each library serves the same driver
(`driver_program.py`) with its own server in one process; one TCP client in this process counts what it receives:

* updates: `send_setVector` of a vector with 3 numbers, so many times in a row, until the client has all of them;
* definitions: the answer to one getProperties for 1000 vectors of 3 numbers.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers, report

PROGRAM = Path(__file__).with_name("driver_program.py")
UPDATES = 5000
VECTORS = 1000
GET = b'<getProperties version="1.7" />'


class Client:
    """Counts the elements that close with a given tag."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def time(self, request: bytes, closing: bytes, count: int) -> float:
        """Seconds from the request to the last of so many elements."""
        begin = time.perf_counter()
        self._socket.sendall(request)
        tail = b""
        while count > 0:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server has closed the connection")
            data = tail + data
            count -= data.count(closing)
            tail = data[-len(closing) + 1 :]
        return time.perf_counter() - begin

    def close(self) -> None:
        self._socket.close()


def measure(python: str, library: str) -> dict[str, float]:
    """Updates and definitions per second in one run."""
    port = peers.free_port()
    command = [python, str(PROGRAM), library, str(port), str(VECTORS)]
    with peers.process(command, {"PYTHONPATH": _path(library)}) as child:
        peers.wait_for_port(port, child)
        client = Client(port)
        try:
            client.time(GET, b"</defNumberVector>", VECTORS)  # warm-up
            definitions = min(client.time(GET, b"</defNumberVector>", VECTORS) for _ in range(5))
            client.time(_send(UPDATES // 10), b"</setNumberVector>", UPDATES // 10)
            updates = client.time(_send(UPDATES), b"</setNumberVector>", UPDATES)
        finally:
            client.close()
    return {"updates/s": UPDATES / updates, "definitions/s": VECTORS / definitions}


def _send(count: int) -> bytes:
    """The command to send so many updates."""
    member = f'<oneNumber name="x">{count}</oneNumber>'
    return f'<newNumberVector device="Device" name="control">{member}</newNumberVector>'.encode()


def _path(library: str) -> str:
    return str(PROGRAM.parents[1] / "src") if library == "indifast" else ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", required=True, help="interpreter that has indipydriver and indipyserver")
    parser.add_argument("--runs", type=int, default=5, help="of each library (default: 5)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    contenders = {"indifast": sys.executable, "indipydriver": options.peer}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(options.runs):
        for library, python in contenders.items():
            figures[library].append(measure(python, library))
    medians = {
        library: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for library, runs in figures.items()
    }
    ours, theirs = medians["indifast"], medians["indipydriver"]
    rows = [[key, f"{ours[key]:.0f}", f"{theirs[key]:.0f}", f"{ours[key] / theirs[key]:.1f}"] for key in ours]
    print(report.table(["", "indifast", "indipydriver", "ratio"], rows))
    if options.json is not None:
        report.write_json(options.json, "driver", {"runs": options.runs}, {"medians": medians, "runs": figures})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
