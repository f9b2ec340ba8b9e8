"""How small messages pass from executable drivers through a server: latency, and what a flood does to it.

    python -m benchmarks.small [--seconds 5] [--runs 3] [--json FILE]

* Command -> Busy -> Ok: microseconds from a client's command over TCP to the second of the two answers of a driver.
* Flood: updates per second that one client receives from a driver that writes as fast as they are taken; and meanwhile
  the round trip of commands to a second driver, by a client that has asked for that one only.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import peers, report

DRIVER = peers.HERE / "drivers" / "small.py"
COMMAND = "<newNumberVector device='{}' name='N'><oneNumber name='n'>1</oneNumber></newNumberVector>"


@contextmanager
def two_drivers() -> Iterator[list[str]]:
    """Two commands: a driver `Flood` that floods, a driver `Small` that answers."""
    directory = peers.BUILD
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for device, flood in (("Flood", "1"), ("Small", "")):
        path = directory / f"small_{device.lower()}"
        path.write_text(f"#!/bin/sh\nSMALL_DEVICE={device} SMALL_FLOOD={flood} exec {sys.executable} {DRIVER}\n")
        path.chmod(0o755)
        paths.append(str(path))
    yield paths


@contextmanager
def indifast(drivers: Sequence[str]) -> Iterator[int]:
    with peers.process([sys.executable, "-m", "benchmarks.serve", *drivers]) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())


@contextmanager
def indiserver(drivers: Sequence[str]) -> Iterator[int]:
    port = peers.free_port()
    command = ["indiserver", "-p", str(port), "-u", f"/tmp/indifast-small-{port}", "-m", "2000", *drivers]
    with peers.process(command) as child:
        peers.wait_for_port(port, child)
        yield port


Start = Callable[[Sequence[str]], AbstractContextManager[int]]
CONTENDERS: dict[str, Start] = {"indifast": indifast, "indiserver (C++)": indiserver}


class Client:
    """A blocking connection that counts words."""

    def __init__(self, port: int, device: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.device = device
        self.seen = b""
        self.say(f"<getProperties version='1.7' device='{device}'/>")
        self.until(b"</defNumberVector>")

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def until(self, word: bytes, count: int = 1) -> None:
        while self.seen.count(word) < count:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self.seen += data
        self.seen = b""

    def round_trip(self) -> float:
        """Seconds from a command to its second answer."""
        start = time.perf_counter()
        self.say(COMMAND.format(self.device))
        self.until(b"</setNumberVector>", 2)
        return time.perf_counter() - start


def wait_for_drivers(port: int) -> None:
    """Until both drivers have told what they have; a client that asks too early may hear nothing."""
    end = time.monotonic() + peers.PATIENCE
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(b"<getProperties version='1.7'/>")
            sock.settimeout(0.5)
            seen = b""
            try:
                while not (b"Flood" in seen and b"Small" in seen):
                    seen += sock.recv(65536)
                return
            except TimeoutError:
                continue
    raise RuntimeError("the drivers did not start")


def latency(start: Start, drivers: Sequence[str], seconds: float) -> list[float]:
    with start(drivers) as port:
        wait_for_drivers(port)
        client = Client(port, "Small")
        end = time.monotonic() + seconds
        times = []
        while time.monotonic() < end:
            times.append(client.round_trip())
        return times


def flood(start: Start, drivers: Sequence[str], seconds: float) -> tuple[float, list[float]]:
    """Updates per second at the reader, and round trips to the other driver meanwhile."""
    with start(drivers) as port:
        wait_for_drivers(port)
        reader = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.small", "--count", str(port), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=peers.HERE.parent,
        )
        assert reader.stdout is not None
        reader.stdout.readline()
        times: list[float] = []

        def command() -> None:
            try:
                client = Client(port, "Small")
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    times.append(client.round_trip())
                    time.sleep(0.01)
            except OSError:
                times.append(float("inf"))

        thread = threading.Thread(target=command)
        thread.start()
        thread.join(seconds + 60)
        out, _ = reader.communicate(timeout=seconds + 60)
        return float(out.strip() or 0), times


def count_updates(port: int, seconds: float) -> None:
    """Start the flood and print how many updates per second arrive (in a process of its own)."""
    client = Client(port, "Flood")
    print("ready", flush=True)
    client.say(COMMAND.format("Flood"))
    client.until(b"</setNumberVector>")
    start = time.monotonic()
    count, end, rest = 0, start + seconds, b""
    word = b"</setNumberVector>"
    client.sock.settimeout(1.0)
    while time.monotonic() < end:
        try:
            data = client.sock.recv(1 << 20)
        except TimeoutError:
            continue
        if not data:
            break
        count += (rest + data).count(word)
        rest = data[-len(word) + 1 :]
    print(count / (time.monotonic() - start))


def p99(times: Sequence[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))] if times else float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per run (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    parser.add_argument("--count", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.count:
        count_updates(int(options.count[0]), float(options.count[1]))
        return 0
    contenders = {name: one for name, one in CONTENDERS.items() if name in peers.installed()}
    results: dict[str, dict[str, list[Any]]] = {
        name: {"busy_ok": [], "flood": [], "flood_p99": []} for name in contenders
    }
    with two_drivers() as drivers:
        for _ in range(options.runs):
            for name, start in contenders.items():
                results[name]["busy_ok"].append(statistics.median(latency(start, drivers, options.seconds)))
                rate, times = flood(start, drivers, options.seconds)
                results[name]["flood"].append(rate)
                results[name]["flood_p99"].append(p99(times))
    rows = []
    for name, figures in results.items():
        median = {key: statistics.median(values) for key, values in figures.items()}
        rows.append(
            [name, f"{median['busy_ok'] * 1e6:.0f}", f"{median['flood']:.0f}", f"{median['flood_p99'] * 1e3:.1f}"]
        )
    header = ["", "command, Busy, Ok: µs (p50)", "flood: updates/s", "commands meanwhile: ms (p99)"]
    print(report.table(header, rows))
    if options.json:
        settings = {"seconds": options.seconds, "runs": options.runs, "python": os.path.basename(sys.executable)}
        report.write_json(options.json, "small", settings, dict(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
