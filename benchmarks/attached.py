"""How long an attached BLOB takes from its driver to a client, over TCP and over a Unix socket.

    python -m benchmarks.attached [--size 33554432] [--frames 15] [--json FILE]

The driver shares its frame as libindi's drivers do; the time runs from just before it sends until the client has the
last byte: of base64 over TCP, or of the pages behind the descriptor, which it sums up, over the Unix socket.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import peers, report

_TIME = re.compile(rb'message=["\'](\d+)["\']')
_PATIENCE = 20.0


@contextmanager
def indifast(driver: str, name: str) -> Iterator[int]:
    """The server as a command, on a local socket of this name; gives its port."""
    port = peers.free_port()
    command = [sys.executable, "-c", "from indifast.cli import main; main()", "serve"]
    with peers.process([*command, "-p", str(port), "-u", name, driver]) as child:
        peers.wait_for_port(port, child)
        yield port


@contextmanager
def indiserver(driver: str, name: str) -> Iterator[int]:
    """The C++ server, the same."""
    port = peers.free_port()
    with peers.process(["indiserver", "-p", str(port), "-u", name, "-m", "2000", driver]) as child:
        peers.wait_for_port(port, child)
        yield port


def receive(sock: socket.socket, frames: int, local: bool) -> list[float]:
    """Milliseconds per frame; asks for the next one when it has one."""
    sock.settimeout(_PATIENCE)
    hello = b"<getProperties version='1.7'/><enableBLOB device='Shared'>Also</enableBLOB>"
    sock.sendall(hello)
    times: list[float] = []
    data = bytearray()
    buffer = bytearray(4 << 20)
    while b"</defNumberVector>" not in data:
        data += sock.recv(1 << 16)
    for _ in range(frames):
        data.clear()
        fds: list[int] = []
        next_frame = b"<newNumberVector device='Shared' name='GO'><oneNumber name='g'>1</oneNumber></newNumberVector>"
        sock.sendall(next_frame)
        while b"</setBLOBVector>" not in data[-100:]:
            if local:
                piece, more, _, _ = socket.recv_fds(sock, len(buffer), 16, socket.MSG_CMSG_CLOEXEC)
                data += piece
                fds += more
            else:
                nbytes = sock.recv_into(buffer)
                # Of the base64 only the beginning and the end are looked at.
                data += buffer[:nbytes] if len(data) < 1000 else buffer[max(0, nbytes - 200) : nbytes]
        for fd in fds:
            os.pread(fd, 1, 0)
            os.close(fd)
        now = time.monotonic_ns()
        match = _TIME.search(data)
        assert match is not None
        times.append((now - int(match[1])) / 1e6)
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attached", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=32 << 20, help="bytes (default: 32 MiB)")
    parser.add_argument("--frames", type=int, default=15, help="per run (default: 15)")
    parser.add_argument("--runs", type=int, default=3, help="of each server (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    options = parser.parse_args(arguments)
    os.environ["SHARED_BYTES"] = str(options.size)
    driver = str(peers.HERE / "drivers" / "shared.py")
    servers = {"indifast": indifast}
    if shutil.which("indiserver"):
        servers["indiserver (C++)"] = indiserver
    results: dict[str, dict[str, list[float]]] = {name: {"TCP": [], "Unix socket": []} for name in servers}
    for run in range(options.runs):
        for number, (name, server) in enumerate(servers.items()):
            local_name = f"/tmp/indifast-benchmark-{os.getpid()}-{run}-{number}"
            with server(driver, local_name) as port:
                with closing(socket.create_connection(("127.0.0.1", port))) as sock:
                    results[name]["TCP"] += receive(sock, options.frames, local=False)
                with closing(socket.socket(socket.AF_UNIX)) as sock:
                    sock.connect("\0" + local_name)
                    results[name]["Unix socket"] += receive(sock, options.frames, local=True)
    rows = [
        [name, *(f"{statistics.median(times):.2f}" for times in figures.values())] for name, figures in results.items()
    ]
    print(report.table([f"ms for {options.size / (1 << 20):g} MiB", "TCP", "Unix socket"], rows))
    if options.json:
        settings = {"size": options.size, "frames": options.frames, "runs": options.runs}
        report.write_json(options.json, "attached", settings, json.loads(json.dumps(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
