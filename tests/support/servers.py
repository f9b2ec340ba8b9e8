"""Servers that run as programs."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.blackbox import Child, free_port, until


def await_listener(child: Child, port: int) -> None:
    """Wait until a program accepts connections on a TCP port."""

    def accepts() -> bool:
        assert child.running(), f"the program has ended:\n{child.stderr[-3000:]}"
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(accepts, what=f"a listener on port {port}")


@contextlib.contextmanager
def indiserver(program: Callable[[str], str], *drivers: str) -> Iterator[tuple[int, str]]:
    """Run libindi's server with drivers; yields its TCP port and the name of its local socket."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:  # its path is short enough for a Unix socket
        local = f"{home}/socket"
        words = [driver if "@" in driver else program(driver) for driver in drivers]
        words = [program("indiserver"), "-p", str(port), "-u", local, *words]
        with Child(words, Path(home), env={"HOME": home}) as server:
            await_listener(server, port)
            yield port, local
