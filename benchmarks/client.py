"""The client library beside indipyclient: updates, BLOBs, memory, and the client behind queues.

    INDIFAST_PEERS=… python -m benchmarks.client [--runs 5] [--updates 100000] [--frames 60] [--json FILE]

A plain process sends without pause, over TCP on loopback, what each library in turn receives in a process of its own:

* updates: setNumberVectors of three members per second that reach `rxevent`, and processor time for each;
* BLOBs: frames of 4 MiB, base64 in lines of 72 columns, MB of content per second; peak of memory above idle in frames,
  with the model keeping the last frame, and for `frames(keep=False)`;
* queues: microseconds for an event of a `QueClient` that knows 400 vectors, its snapshot included.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import peers, report

FRAME = 4 << 20
PROGRAM = peers.HERE / "client_program.py"


def definition(name: str, members: int) -> str:
    numbers = "".join(
        f'<defNumber name="m{i}" format="%g" min="0" max="0" step="0">0</defNumber>' for i in range(members)
    )
    return f'<defNumberVector device="D" name="{name}" state="Idle" perm="rw" timeout="5">{numbers}</defNumberVector>'


def update(number: int) -> str:
    return (
        f'<setNumberVector device="D" name="N" state="Ok" timeout="5" timestamp="2024-01-02T03:04:05.{number:06d}">'
        f'<oneNumber name="m0">{number}.5</oneNumber><oneNumber name="m1">{number * 2}.25</oneNumber>'
        f'<oneNumber name="m2">{number}e-3</oneNumber></setNumberVector>\n'
    )


def frame() -> str:
    text = base64.b64encode(os.urandom(FRAME)).decode()
    lines = "\n".join(text[at : at + 72] for at in range(0, len(text), 72))
    return (
        '<setBLOBVector device="D" name="B" state="Ok" timestamp="2024-01-02T03:04:05">'
        f'<oneBLOB name="img" size="{FRAME}" enclen="{len(text)}" format=".bin">\n{lines}\n</oneBLOB></setBLOBVector>'
    )


def send(kind: str, count: int) -> None:
    """The sending process: serves one connection after the other until it is killed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        if kind == "updates":
            first, block, last = definition("N", 3), "".join(map(update, range(1000))), "setNumberVector"
            blocks, name = count // 1000, "N"
        elif kind == "blobs":
            first = '<defBLOBVector device="D" name="B" state="Idle" perm="ro"><defBLOB name="img"/></defBLOBVector>'
            block, last, blocks, name = frame(), "setBLOBVector", count, "B"
        else:
            first = "".join(definition(f"N{number}", 3) for number in range(400))
            block, last, blocks, name = "", "", 0, ""
        data = block.encode()
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                try:
                    connection.sendall(first.encode())
                    for _ in range(blocks):
                        connection.sendall(data)
                    if kind == "blobs":
                        connection.sendall(data.replace(b'state="Ok"', b'state="Alert"', 1))
                    elif last:
                        connection.sendall(f'<{last} device="D" name="{name}" state="Alert"></{last}>'.encode())
                    while connection.recv(4096):
                        pass
                except ConnectionError:
                    pass


@contextmanager
def sender(kind: str, count: int) -> Iterator[int]:
    with peers.process([sys.executable, "-m", "benchmarks.client", "--send", kind, str(count)]) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())


def receive(library: str, task: str, port: int) -> dict[str, float]:
    """One run of one library."""
    python = sys.executable
    if library == "indipyclient":
        home = os.environ.get("INDIFAST_PEERS") or peers.HERE.parent / ".venv-peers"
        python = str(Path(home) / "d31" / "bin" / "python")
    module = "indipyclient" if library == "indipyclient" else "indifast.client"
    done = subprocess.run(
        [python, str(PROGRAM), module, task, str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=300, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


LIBRARIES = ("indipyclient", "indifast")


def measure(kind: str, count: int, runs: int) -> dict[str, dict[str, float]]:
    """Medians of interleaved runs, by library."""
    found: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
    with sender(kind, count) as port:
        for _ in range(runs):
            for library in LIBRARIES:
                found[library].append(receive(library, "queued" if kind == "queues" else "count", port))
        medians = {
            library: {key: statistics.median(run[key] for run in results) for key in results[0]}
            for library, results in found.items()
        }
        if kind == "blobs":
            borrowed = [receive("indifast", "borrow", port)["above_idle"] for _ in range(runs)]
            medians["indifast"]["borrowed_above_idle"] = statistics.median(borrowed)
    return medians


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each library (default: 5)")
    parser.add_argument("--updates", type=int, default=100_000, help="per run (default: 100000)")
    parser.add_argument("--frames", type=int, default=60, help="per run (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.send:
        send(options.send[0], int(options.send[1]))
        return 0
    results: dict[str, Any] = {
        "updates": measure("updates", options.updates, options.runs),
        "blobs": measure("blobs", options.frames, options.runs),
        "queues": measure("queues", 0, options.runs),
    }
    rows = []
    for title, kind, key, form, more in (
        ("updates per second", "updates", "rate", "{:.0f}", True),
        ("µs of processor time per update", "updates", "cpu_us", "{:.1f}", False),
        ("BLOBs, MB of content per second", "blobs", "mb", "{:.0f}", True),
        ("µs of processor time per BLOB", "blobs", "cpu_us", "{:.0f}", False),
        ("QueClient, µs per event", "queues", "event_us", "{:.1f}", False),
    ):
        theirs, ours = (results[kind][library][key] for library in LIBRARIES)
        ratio = ours / theirs if more else theirs / ours
        rows.append([title, form.format(theirs), form.format(ours), f"{ratio:.1f}"])
    peaks = {"peak above idle, frames": "above_idle", "the same, frames(keep=False)": "borrowed_above_idle"}
    for title, key in peaks.items():
        frames = [results["blobs"][library].get(key) for library in LIBRARIES]
        shown = ["-" if value is None else f"{value * (1 << 20) / FRAME:.2f}" for value in frames]
        rows.append([title, *shown, ""])
    print(report.table(["", *LIBRARIES, "ratio"], rows))
    if options.json:
        settings = {"runs": options.runs, "updates": options.updates, "frames": options.frames}
        report.write_json(options.json, "client", settings, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
