"""Runs our tools and libindi's."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.blackbox import python_environment

CAMERA = "CCD Simulator"
MOUNT = "Telescope Simulator"
LIMIT = 120


def tool(
    name: str, port: int | None, *words: object, cwd: Path | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `indifast NAME`; whatever happens, there is no traceback."""
    where = [] if port is None else ["-p", str(port)]
    command = [sys.executable, "-m", "indifast", name, *where, *map(str, words)]
    environment = {**os.environ, **python_environment()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, env=environment, cwd=cwd, input=text, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def libindi(name: str, port: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `indi_NAME`."""
    command = [f"indi_{name}", "-p", str(port), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def last_values(output: str) -> dict[str, str]:
    """name=value lines: of names that come again, the first place and the last value."""
    return dict(line.split("=", 1) for line in output.splitlines())


@contextmanager
def answering(answer: bytes | None, *, context: ssl.SSLContext | None = None, close: bool = False) -> Iterator[int]:
    """A server that says one thing to everybody once it was spoken to; gives its port."""
    kept = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            kept.append(peer)
            peer.settimeout(LIMIT)
            try:
                if context is not None:
                    peer = context.wrap_socket(peer, server_side=True)
                    kept.append(peer)
                peer.recv(1000)
                peer.sendall(answer or b"")
                if close:
                    peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    with socket.create_server(("localhost", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:  # closing alone would not wake the thread, and a test that has failed would never end
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    for peer in kept:
        peer.close()
