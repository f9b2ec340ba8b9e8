"""indipyterm and indipyweb, unmodified, with indifast's client, and servers for them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blackbox import LIMIT, Child, free_port, python_environment, until
from tests.support.servers import example, getprop, indiserver

PILOT = Path(__file__).with_name("term_pilot.py")


@pytest.fixture
def lamp(tmp_path: Path) -> Iterator[int]:
    """The port of a server with the device `Desk lamp`."""
    with example("led.py", tmp_path) as port:
        yield port


@pytest.fixture
def camera(program: Callable[[str], str]) -> Iterator[int]:
    """The port of libindi's server with its simulated camera."""
    with indiserver(program, "indi_simulator_ccd") as (port, _):
        yield port


def test_indipyterm_shows_a_device(dependants: dict[str, Path], lamp: int) -> None:
    words = [str(dependants["term"]), "-m", "indifast.dropin", "-m", "indipyterm", "--port", str(lamp)]
    pid, terminal = pty.fork()
    if pid == 0:  # the child
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


def polling_period(program: Callable[[str], str], port: int) -> float:
    """The polling period of the camera in milliseconds."""
    (line,) = getprop(program, port, "CCD Simulator.POLLING_PERIOD.PERIOD_MS")
    return float(line.split("=")[1])


def test_indipyterm_sets_a_number_of_a_camera(
    dependants: dict[str, Path], program: Callable[[str], str], camera: int, tmp_path: Path
) -> None:
    words = [str(dependants["term"]), "-m", "indifast.dropin", str(PILOT), str(camera)]
    done = subprocess.run(
        words, cwd=tmp_path, env=python_environment(), capture_output=True, text=True, timeout=4 * LIMIT
    )
    assert done.returncode == 0 and done.stdout.endswith("shown\n"), done.stdout + done.stderr
    assert polling_period(program, camera) == 3000


class Web:
    """indipyweb as a separate process, and what a browser sees of it."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.port = free_port()
        words = [str(python), "-m", "indifast.dropin", "-m", "indipyweb", "--host", "localhost"]
        words += ["--port", str(self.port), "--dbfolder", str(folder)]
        self.child = Child(words, folder, env=python_environment())
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def fetch(self, path: str, form: dict[str, str] | None = None) -> str:
        """Return a page, or the answer to a form; empty while the program does not answer."""
        assert self.child.running(), self.child.stderr[-3000:]
        data = None if form is None else urllib.parse.urlencode(form).encode()
        url = f"http://localhost:{self.port}/{urllib.parse.quote(path)}"
        request = urllib.request.Request(url, data, {"HX-Request": "true"})
        try:
            with self._opener.open(request, timeout=LIMIT) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            return ""

    def api(self, path: str = "") -> dict[str, Any]:
        return dict(json.loads(self.fetch(f"api{path}") or "{}"))

    def link(self, page: str, pattern: str) -> Any:
        """Wait until a pattern matches on a page, and return its groups."""
        found: list[Any] = []

        def find() -> bool:
            found[:] = re.findall(pattern, self.fetch(page), re.DOTALL)
            return bool(found)

        until(find, what=f"{pattern} on {page}")
        return found[0]


def prepare(dependants: dict[str, Path], folder: Path, port: int) -> None:
    """Start indipyweb once, which makes its database, and set the port of the INDI server in it."""
    web = Web(dependants["web"], folder)
    with web.child:
        until(web.api, what="the web server")
    with sqlite3.connect(folder / "indipyweb.db") as connection:
        connection.execute("update parameters set indiport = ?", (port,))


def test_indipyweb_serves_a_device(dependants: dict[str, Path], lamp: int, tmp_path: Path) -> None:
    prepare(dependants, tmp_path, lamp)
    web = Web(dependants["web"], tmp_path)
    with web.child:
        until(lambda: "Desk lamp" in web.api().get("devices", ()), what="the device in the web interface")


def test_indipyweb_sets_a_number_of_a_camera(
    dependants: dict[str, Path], program: Callable[[str], str], camera: int, tmp_path: Path
) -> None:
    prepare(dependants, tmp_path, camera)
    web = Web(dependants["web"], tmp_path)
    with web.child:
        until(lambda: web.api("/CCD Simulator/POLLING_PERIOD"), what="the camera")
        assert list(web.api()["devices"]) == ["CCD Simulator"]
        assert web.api("/CCD Simulator")["enable"] is True
        web.fetch("login", {"username": "admin", "password": "password!"})
        device = web.link("updateinstruments", r"choosedevice/(\d+)[^>]*>CCD Simulator")
        web.fetch(f"device/choosedevice/{device}")
        options = f"device/getgroup/{device}/Options"
        vector, member = web.link(options, r"<h3>Polling</h3>.*?vector/submit/(\d+).*?name=\"(member_\d+)\"")
        web.fetch(f"vector/submit/{vector}", {member: "3000"})

        def changed() -> bool:
            period = web.api("/CCD Simulator/POLLING_PERIOD")
            return period["state"] == "Ok" and period["members"]["PERIOD_MS"]["floatvalue"] == 3000

        until(changed, what="the new polling period")
    assert polling_period(program, camera) == 3000
