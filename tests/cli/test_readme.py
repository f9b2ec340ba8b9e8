"""The programs of the README do what it says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def programs(port: int) -> dict[str, str]:
    """The programs whose first line names them, by name, with another port than the usual one."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", README.read_text(), re.DOTALL)
    return {name: text.replace("7624", str(port)) for name, text in blocks}


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_client_sees_what_the_driver_measures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        texts = programs(free.getsockname()[1])
    with running(texts["thermometer"]), running(texts["watch"]) as watch:
        assert watch.stdout is not None
        assert re.fullmatch(r"\d{4}-\d\d-\d\d .* -?\d+(\.\d+)?\n", watch.stdout.readline())
