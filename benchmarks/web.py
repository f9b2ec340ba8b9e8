"""Live frames in browsers.

A camera of 2 Mpixel with 16 bits (1920 by 1080, FITS, stars on noise) sends to `indifast web`, which makes previews of
640 pixels. It sends 31 frames a second: of 30, a viewer who misses none may see one less within a run. One viewer is a
real browser, Chromium without a window: previews are counted when they are drawn. Ten viewers are one program with ten
WebSockets. Ages are between the time that the driver has given a frame and the arrival of its preview. What a viewer
costs that reads nothing is measured while the camera sends as fast as frames are taken; it asks for pictures of its
own, of the largest size. Processor time is that of `indifast web`, for each preview that arrives.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.processes import cpu_seconds
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import OURS, Bound, Goal, Row
from benchmarks.web_viewers import PATH

RATE = 31.0
GOAL = 30.0
VIEWERS = 10
BROWSER = "one browser"
TEN = f"10 viewers of {RATE:g} frames/s"
FASTEST = "10 viewers, as fast as it goes"
BESIDE = "indifast, beside one that reads nothing"


@contextmanager
def serving(rate: float, *size: int, options: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """A camera, perhaps of another size, and the web application: gives the port and the process id of the latter."""
    with peers.process([sys.executable, "-m", "benchmarks.web_camera", str(rate), *map(str, size)]) as camera:
        server, port = peers.first_number(camera), peers.free_port()
        words = ["-m", "indifast", "web", f"127.0.0.1:{server}", "--listen", str(port), *options]
        with peers.process([sys.executable, *words]) as web:
            peers.wait_for_port(port, web)
            _until_known(port)
            yield port, web.pid


def _until_known(port: int) -> None:
    """Wait until the camera is known.

    Raises:
        Failed: It does not become known.
    """
    end = time.monotonic() + peers.PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"GET /api/v1/devices/Camera HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if b" 200 " in sock.recv(100):
                return
        time.sleep(0.05)
    raise Failed("no camera")


def measure_viewers(rate: float, stalled: bool, seconds: float) -> dict[str, float]:
    """Make one run with ten viewers, perhaps beside another one that reads nothing."""
    with serving(rate) as (port, pid), contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.web_viewers", str(port), str(VIEWERS), str(seconds)]
        viewers = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=peers.HERE.parent)
        )
        stack.callback(viewers.kill)
        assert viewers.stdin is not None and viewers.stdout is not None
        if viewers.stdout.readline() != "ready\n":
            raise Failed("the viewers have seen nothing")
        if stalled:
            stack.enter_context(_deaf(port))
        before = cpu_seconds(pid)
        viewers.stdin.write("\n")
        viewers.stdin.flush()
        out = viewers.stdout.readline()
        used = cpu_seconds(pid) - before
    if not out:
        raise Failed("the viewers were disconnected")
    figures: dict[str, float] = json.loads(out)
    return figures | {"cost": used / (figures["total"] * seconds)}


@contextmanager
def _deaf(port: int) -> Iterator[None]:
    """A viewer that asks for everything and reads nothing."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        sock.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        if b"101" not in sock.recv(15):
            raise Failed("no WebSocket for the viewer that reads nothing")
        ask = b'{"more": 4, "view": {"size": 1920}}'
        frame = bytes([0x81, 0x80 | len(ask), 0, 0, 0, 0]) + ask
        sock.sendall(100 * frame)
        time.sleep(1)  # until then, it is sent what fits in the buffers of the system
        yield


def measure_browser(seconds: float) -> dict[str, float]:
    """Make one run with Chromium.

    Raises:
        Failed: It is not installed, or shows nothing.
    """
    from selenium.webdriver.common.by import By

    from tests.web.chromium import chromium

    count = (
        "window.drawn = 0; const draw = CanvasRenderingContext2D.prototype.drawImage;"
        "CanvasRenderingContext2D.prototype.drawImage = function (...given) "
        "{ window.drawn += 1; return draw.apply(this, given); };"
    )
    with (
        serving(RATE) as (port, pid),
        tempfile.TemporaryDirectory() as folder,
        chromium(Path(folder), 1100, 900) as browser,
    ):
        browser.get(f"http://127.0.0.1:{port}/")
        browser.execute_script(count)
        _until(lambda: browser.find_elements(By.XPATH, "//button[starts-with(., 'Show')]"))
        browser.find_element(By.XPATH, "//button[starts-with(., 'Show')]").click()
        _until(lambda: browser.execute_script("return window.drawn") > RATE)
        before, used, start = browser.execute_script("return window.drawn"), cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        drawn = browser.execute_script("return window.drawn") - before
        took, used = time.monotonic() - start, cpu_seconds(pid) - used
    return {"rate": drawn / took, "cost": used / drawn}


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + peers.PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed("the browser shows nothing")
        time.sleep(0.05)


def measure(settings: Settings) -> Iterable[Row]:
    """Run everything; gives the rows."""
    turns = settings.turns(BROWSER, {OURS: measure_browser})
    yield turns.row("rate", BROWSER, "previews/s", digits=1)
    yield turns.row("cost", f"{BROWSER}, processor", "ms for each preview", digits=1, scale=1000)
    turns = settings.turns(TEN, {OURS: partial(measure_viewers, RATE, False)})
    yield turns.row("least", f"{TEN}, the slowest one", "previews/s", digits=1)
    yield turns.row("median", f"{TEN}, age, median", "ms", scale=1000)
    yield turns.row("p99", f"{TEN}, age, 99 %", "ms", scale=1000)
    yield turns.row("cost", f"{TEN}, processor", "ms for each preview", digits=2, scale=1000)
    runs = {OURS: partial(measure_viewers, 0.0, False), BESIDE: partial(measure_viewers, 0.0, True)}
    turns = settings.turns(FASTEST, runs)
    yield turns.row("total", FASTEST, "previews/s, all together")
    yield turns.row("cost", f"{FASTEST}, processor", "ms for each preview", digits=2, scale=1000)


PROGRAM = Program(
    "web",
    "In the browser",
    __doc__ or "",
    measure,
    timed=4,
    overhead=5.0,
    goals=(
        Goal(BROWSER, ">=", (Bound(15),)),
        Goal(f"{TEN}, the slowest one", ">=", (Bound(GOAL),)),
        Goal(f"{TEN}, age, 99 %", "<=", (Bound(100),)),
        Goal(FASTEST, ">=", (Bound(0.95, OURS),), BESIDE),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
