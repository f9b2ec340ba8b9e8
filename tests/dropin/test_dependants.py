"""indipyterm and indipyweb, unmodified, on indifast's client, and a driver of ours behind them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from blackbox import LIMIT, PYTHON, Channel, Child, free_port, python_environment, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def lamp(tmp_path: Path) -> Iterator[int]:
    """The port of a server with the device `Desk lamp`."""
    port = free_port()
    with Child([PYTHON, str(EXAMPLES / "led.py"), "--port", str(port)], tmp_path, env=python_environment()):
        Channel.connect(port).close()
        yield port


def test_indipyterm_shows_a_device(dependants: dict[str, Path], lamp: int) -> None:
    words = [str(dependants["term"]), "-m", "indifast.dropin", "-m", "indipyterm", "--port", str(lamp)]
    pid, terminal = pty.fork()
    if pid == 0:  # the child: nothing but exec
        os.environ.update(python_environment(TERM="xterm-256color"))
        os.execv(words[0], words)
    shown = b""
    try:
        deadline = time.monotonic() + LIMIT
        while b"Desk lamp" not in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown):
            assert time.monotonic() < deadline, shown[-2000:]
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    pytest.fail(f"indipyterm has ended: {shown[-2000:]!r}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_indipyweb_serves_a_device(dependants: dict[str, Path], lamp: int, tmp_path: Path) -> None:
    database = tmp_path / "indipyweb.db"

    def start() -> tuple[Child, int]:
        port = free_port()
        words = [str(dependants["web"]), "-m", "indifast.dropin", "-m", "indipyweb", "--host", "localhost"]
        return Child(
            [*words, "--port", str(port), "--dbfolder", str(tmp_path)], tmp_path, env=python_environment()
        ), port

    def api(child: Child, port: int) -> dict[str, object]:
        assert child.running(), child.stderr[-3000:]
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/api", timeout=LIMIT) as answer:
                return dict(json.load(answer))
        except (urllib.error.URLError, ConnectionError):
            return {}

    # The first start makes the database; where the INDI server is stands in there.
    child, port = start()
    with child:
        until(lambda: api(child, port), what="the web server")
    with sqlite3.connect(database) as connection:
        connection.execute("update parameters set indiport = ?", (lamp,))
    child, port = start()
    with child:
        until(lambda: "Desk lamp" in json.dumps(api(child, port)), what="the device in the web interface")
