"""`indifast demo`: send frames from a simulated camera through a server to a client that counts them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from indifast.cli.arguments import Parser, image_size, number
from indifast.cli.lossy import never_wait
from indifast.cli.signals import SIGNALS, handle_in, noted_signals

if TYPE_CHECKING:
    from indifast.cli.demo.client import Viewer

T = TypeVar("T")

DESCRIPTION = """\
Serve a simulated camera and a thermostat on a free local port, watch them from another process, and save the last frame
as demo-frame.fits and (with Pillow) demo-frame.png."""

EXAMPLES = """\
examples:
  indifast demo
  indifast demo --seconds 5 --size 4096x4096 --clients 3
  indifast demo --forever                          serves other clients afterwards, until Ctrl-C

exit status: 0 done; 1 the demonstration cannot continue"""

PATIENCE = 30.0
"""Seconds to wait for the server, or for the first frame."""

GRACE = 5.0
"""Seconds that the server and the clients may take to end."""

SLOW_RATE = 2
"""Frames per second that the camera continues to send with --forever."""

PNG_SIDE = 2048
"""Most pixels on the longer side of the PNG."""


class DemoError(Exception):
    """The reason, in one sentence, why the demonstration cannot continue."""


class Totals(NamedTuple):
    """What all clients together have received by a certain time."""

    when: float
    frames: int
    nbytes: int

    def rates(self, earlier: Totals) -> str:
        """Return frames and megabytes per second since an earlier time, as text."""
        seconds = max(self.when - earlier.when, 1e-9)
        frames, nbytes = self.frames - earlier.frames, self.nbytes - earlier.nbytes
        return f"{frames / seconds:.1f} frames/s, {nbytes / seconds / 1e6:.1f} MB/s raw"


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration, and return the exit status."""
    options = parser().parse_args(arguments)
    logging.getLogger("indifast").setLevel(logging.ERROR)  # don't log connections that come and go
    never_wait("stdout", strict=True)  # a program blocked in `print` could not be stopped by Ctrl-C
    never_wait("stderr")
    try:
        with noted_signals() as received:
            return asyncio.run(_run(options, received))
    except DemoError as error:
        print(f"indifast demo: {error}", file=sys.stderr)
        return 1


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast demo", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--seconds", type=number(float, 0.1, 86400), default=10.0, metavar="S", help="duration (default: 10)"
    )
    parser.add_argument(
        "--size",
        type=image_size(16, 16384),
        default=(1920, 1080),
        metavar="WIDTHxHEIGHT",
        help="size of a frame in pixels (default: 1920x1080)",
    )
    parser.add_argument(
        "--clients", type=number(int, 1, 100), default=1, metavar="N", help="number of clients (default: 1)"
    )
    parser.add_argument(
        "--forever", action="store_true", help="then keep the server running for other clients, until Ctrl-C"
    )
    return parser


async def _run(options: argparse.Namespace, received: list[int]) -> int:
    """Run with signal handlers of the event loop: from here on, Ctrl-C is an event like any other."""
    stop = asyncio.Event()
    handle_in(asyncio.get_running_loop(), SIGNALS, stop.set)
    if received:
        stop.set()
    width, height = options.size
    async with _server(width, height, stop) as port:
        if port is not None:
            await _watch_server(port, options, stop)
    return 0


@asynccontextmanager
async def _server(width: int, height: int, stop: asyncio.Event) -> AsyncIterator[int | None]:
    """Run the server process.

    It has its own session, out of reach of the terminal's Ctrl-C, and ends when its input is closed: it never outlives
    this process, however that ends.

    Yields:
        The server's port, or None if `stop` was set before the server was ready.
    """
    command = (sys.executable, "-P", "-m", "indifast.cli.demo.drivers", str(width), str(height))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    up = False
    try:
        line = await _unless(stop, process.stdout.readline(), "the server did not start")
        if line == b"":
            status = await _unless(stop, process.wait(), "the server neither started nor ended")
            # Ctrl-C reaches the new process as well until it has its own session.
            if status is not None and -status not in SIGNALS:
                raise DemoError("the server ended immediately; see its output above")
            line = None
        up = line is not None
        yield None if line is None else int(line)
    finally:
        process.stdin.close()
        if not up:
            _kill(process)
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it has ended
        process.kill()


async def _watch_server(port: int, options: argparse.Namespace, stop: asyncio.Event) -> None:
    from indifast.cli.demo.client import Viewer  # imported here because Ctrl-C must work while that takes its time

    viewers = [Viewer("localhost", port) for _ in range(options.clients)]
    running = [asyncio.create_task(viewer.asyncrun()) for viewer in viewers]
    width, height = options.size
    try:
        print(f"Server on localhost:{port}, frames of {width} x {height} pixels, clients: {len(viewers)}.", flush=True)
        await _unless(stop, _wait_all([viewer.camera_found for viewer in viewers]), "the clients found no camera")
        if stop.is_set():
            return
        await viewers[0].stream(0)
        await _unless(stop, _wait_all([viewer.received for viewer in viewers]), "no frame arrived")
        await _show_progress(viewers, options.seconds, stop)
        if options.forever and not stop.is_set():
            await viewers[0].stream(SLOW_RATE)
            print(f"The server keeps running, {SLOW_RATE} frames/s. Connect any INDI client to it, for example:")
            print(f"    indi_getprop -p {port}\nCtrl-C ends it.", flush=True)
            await stop.wait()
    finally:
        for viewer in viewers:
            viewer.shutdown()
        await asyncio.wait(running, timeout=GRACE)


async def _show_progress(viewers: list[Viewer], seconds: float, stop: asyncio.Event) -> None:
    """Show one updated line on a terminal, otherwise a line per second; then the summary."""
    terminal = sys.stdout.isatty()
    interval = 0.2 if terminal else 1.0
    history = [_totals(viewers)]
    while not stop.is_set() and (left := history[0].when + seconds - time.monotonic()) > 0:
        await _pause(stop, min(interval, left))
        history.append(_totals(viewers))
        if any(viewer.lost_connection for viewer in viewers):
            raise DemoError("the connection to the server was lost")
        now, earlier = history[-1], history[max(0, len(history) - 1 - round(1 / interval))]
        line = f"{now.when - history[0].when:6.1f} s  {now.frames} frames, {now.rates(earlier)}, {viewers[0].degrees}"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
    if terminal:
        print()
    end = _totals(viewers)
    await viewers[0].stop_stream()
    await _summary(viewers, history[0], end)


async def _summary(viewers: list[Viewer], begin: Totals, end: Totals) -> None:
    if viewers[0].last is None:
        print("No frame arrived.", flush=True)
        return
    frames, missed = end.frames - begin.frames, sum(viewer.missed for viewer in viewers)
    losses = f"{missed} dropped on the way" if missed else "none missing"
    print(f"{frames} frames in {end.when - begin.when:.1f} s: {end.rates(begin)}; {losses}.", flush=True)
    names = await asyncio.to_thread(_save, viewers[0].last)
    print(f"Last frame saved: {names}", flush=True)


def _save(frame: bytes | memoryview) -> str:
    """Save the frame in the current directory as FITS and, if Pillow is installed, as PNG; return what was done."""
    fits, png = Path("demo-frame.fits"), Path("demo-frame.png")
    try:
        fits.write_bytes(frame)
        if _save_png(frame, png):
            return f"{fits}, {png}"
        return f"{fits} (as PNG, too, with Pillow: {sys.executable} -m pip install pillow)"
    except OSError as error:
        raise DemoError(f"the last frame could not be saved: {error}") from error


def _save_png(frame: bytes | memoryview, path: Path) -> bool:
    """Save the frame as a picture for people; return whether Pillow is installed."""
    try:
        import PIL.Image
    except ImportError:
        return False
    from indifast.fits import read_image
    from indifast.picture import picture

    side = min(PNG_SIDE, max(read_image(frame).stored.shape))
    PIL.Image.fromarray(picture(frame, ".fits", columns=side, rows=side).pixels).save(path)
    return True


def _totals(viewers: list[Viewer]) -> Totals:
    return Totals(time.monotonic(), sum(one.count for one in viewers), sum(one.nbytes for one in viewers))


async def _wait_all(events: list[asyncio.Event]) -> bool:
    for event in events:
        await event.wait()
    return True


async def _unless(stop: asyncio.Event, awaitable: Awaitable[T], complaint: str) -> T | None:
    """Return the result of the awaitable, or None if `stop` is set first.

    Raises:
        DemoError: The awaitable took too long; the message is `complaint` with the time.
    """
    work = asyncio.ensure_future(awaitable)
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, waiting), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if stop.is_set():
            return None
        raise DemoError(f"{complaint} within {PATIENCE:.0f} s")
    finally:
        work.cancel()
        waiting.cancel()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
