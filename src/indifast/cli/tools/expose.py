"""`indifast expose`: take pictures with a camera and save them."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indifast.cli.arguments import Parser, number
from indifast.cli.toolkit import console
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.following import drawn, messages
from indifast.cli.toolkit.patterns import devices_of
from indifast.cli.toolkit.session import (
    add_reconnect,
    add_server_options,
    connected,
    device_of,
    file_failure,
    run,
    say,
    vector_of,
)  # fmt: skip
from indifast.client import ConnectionMade, Frame, INDIAlert, IPyClient
from indifast.client.commandchecks import why_no_camera
from indifast.client.events import defVector, setVector
from indifast.client.formats import dotted
from indifast.client.frames import FrameStream, why_no_frames
from indifast.protocol.backoff import pause_after, varied
from indifast.protocol.kinds import CAMERA, kinds_of

DESCRIPTION = """\
Take one or more exposures with a camera and save the frames in the format that the camera sends, usually FITS.

On a terminal, a bar shows the progress. Ctrl-C aborts the exposure.

If the connection is lost, a series of frames goes on when the server and the camera are there again: the frame that was
interrupted is taken anew. With --connect, the camera is connected again, too; otherwise that is waited for."""

EXAMPLES = """\
examples:
  indifast expose "CCD Simulator" 2.5 -o m31.fits
  indifast expose "CCD Simulator" 30 -n 20 -o night/ --connect     makes the folder if needed
  indifast expose "Guide Camera" 0.5 --property CCD2 --exposure GUIDER_EXPOSURE -o guide.fits

In a folder, files are named device_time_seconds.format; several frames with one name get _001, _002 …
exit status: 0 all saved; 1 unknown device or out of range; 2 no server, not connected, or the file cannot be written;
3 no frame in time; 4 the camera answered with Alert; 130 Ctrl-C"""

BLOB, EXPOSURE = "CCD1", "CCD_EXPOSURE"
"""The properties of cameras, unless the options name others."""

_UPLOAD_MODE = 0.2
"""Seconds to wait for the rest of a camera's definitions."""

_ABORT = {EXPOSURE: "CCD_ABORT_EXPOSURE", "GUIDER_EXPOSURE": "GUIDER_ABORT_EXPOSURE"}
"""What aborts the exposures of a property."""

_ABORTING = 3.0
"""Seconds to wait for the end of an aborted exposure."""

_PAUSES = 2.0, 60.0
"""Shortest and longest pause in seconds before another attempt to connect the camera."""

_DOWNLOAD = 10.0
"""Seconds to wait, after a reconnection, for the frame of an exposure that has ended."""

_STDOUT = "-"
_PROGRAM = "indifast expose"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run(_PROGRAM, parser().parse_args(arguments), _expose)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(_PROGRAM, DESCRIPTION, EXAMPLES)
    parser.add_argument("device", metavar="DEVICE", help="the camera")
    parser.add_argument("seconds", metavar="SECONDS", type=number(float, 0, 86400), help="length of each exposure")
    parser.add_argument(
        "-o", dest="output", default=".", metavar="FILE|FOLDER", help="- is standard output (default: current folder)"
    )
    parser.add_argument(
        "-n", dest="frames", type=number(int, 1, 1e6), default=1, metavar="N", help="frames (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--connect", action="store_true", help="connect the camera first, if necessary")
    parser.add_argument("--timeout", type=number(float, 0.05, 1e6), default=60.0, metavar="S",
                        help="longest time for connecting, and for a frame after its exposure"
                        " (default: 60)")  # fmt: skip
    parser.add_argument("--property", dest="blob", default=BLOB, metavar="NAME", help="property that brings the"
                        " frames (default: %(default)s)")  # fmt: skip
    parser.add_argument("--exposure", default=EXPOSURE, metavar="NAME", help="property that takes the"
                        " seconds (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--quiet", action="store_true", help="print no file names, no bar, and no messages from the driver"
    )
    add_reconnect(parser, "connect again with -n, and end for a single frame")
    add_patience(parser)
    add_server_options(parser)
    return parser


async def _expose(options: argparse.Namespace) -> int:
    if options.output == _STDOUT:
        if options.frames > 1:
            raise ToolError("standard output takes one frame: give a file or a folder for several")
    else:
        try:
            _check_output(options)
        except OSError as error:
            raise file_failure(error, options.output) from error
    reconnect = options.frames > 1 if options.reconnect is None else options.reconnect
    async with connected(options, reconnect=reconnect) as client:
        client.check_before_send = True
        async with messages(client, _PROGRAM, [options.device], shown=not options.quiet):
            await _camera(client, options)
            if options.output != _STDOUT:
                _make_folder(options.output)
            await _frames(client, options, reconnect)
    return Status.DONE


async def _frames(client: IPyClient, options: argparse.Namespace, reconnect: bool) -> None:
    """Take the frames and save them."""
    for index in range(options.frames):
        try:
            frame = await (_frame_at_last if reconnect else _frame)(client, options, index)
        except asyncio.CancelledError:
            say(_PROGRAM, await _abort(client, options))
            raise
        if options.output == _STDOUT:
            await asyncio.to_thread(_print, frame.data)
            continue
        path = Path(options.output)
        try:
            path = _path(options, index, frame)
            await asyncio.to_thread(_save, path, frame.data, options.force)
        except OSError as error:
            raise file_failure(error, str(path)) from error
        if not options.quiet:
            print(f"{path}: {len(frame.data)} bytes", flush=True)


def _check_output(options: argparse.Namespace) -> None:
    """Check where the frames are saved, before the exposures instead of after them.

    Raises:
        ToolError: They can't be saved there.
        OSError: This user may not look there.
    """
    if not options.force:
        for path in _planned(options):
            if path.exists() and not _is_special(path):
                raise ToolError(f"{path} exists; use --force to replace it, or another name")
    folder = Path(options.output) if _is_folder(options.output) else Path(options.output).parent
    if options.output.endswith(os.sep) and not folder.exists():
        return  # created once there is a camera
    if not folder.is_dir() or not (os.access(folder, os.W_OK) or _is_special(Path(options.output))):
        raise ToolError(f"{folder} is not a writable folder")


def _make_folder(output: str) -> None:
    """Create the folder if the output ends in /, which always names a folder.

    Raises:
        ToolError: It can't be created.
    """
    if output.endswith(os.sep):
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_failure(error, output) from error


async def _camera(client: IPyClient, options: argparse.Namespace) -> None:
    """Wait for the definitions of the camera, connect it if requested, and check that it can expose.

    Raises:
        ToolError: There is no such camera, or it can't expose.
    """
    device = options.device
    await gather(client, lambda: _has(client, device, options.exposure) and _has(client, device, options.blob),
                 options.patience)  # fmt: skip
    device_of(client, device)
    if not _has(client, device, options.exposure) and (why := why_no_camera(client[device])):
        raise ToolError(f"{why}{_cameras(client)}", Status.NOTHING)
    if _has(client, device, "CONNECTION") and client[device]["CONNECTION"].get("CONNECT") == "Off":
        if not options.connect:
            command = f'indifast set --wait Ok "{device}.CONNECTION.CONNECT=On"'
            raise ToolError(f"{device} is not connected to its camera; run: {command}, or use --connect")
        await _connect(client, options)
        for name in (options.exposure, options.blob):
            with suppress(TimeoutError):  # reported below
                await client.wait_for(device, name, timeout=options.patience)
    for name, kind in ((options.exposure, "NumberVector"), (options.blob, "BLOBVector")):
        try:
            vector = vector_of(client, device, name)
        except ToolError as error:
            if name not in (EXPOSURE, BLOB):
                raise
            raise ToolError(f"{device} does not work as a camera: {error}{_cameras(client)}", error.status) from None
        if vector.vectortype != kind:
            raise ToolError(f"{device}.{name} is not a {kind}", Status.NOTHING)
    await _check_upload(client, options)


async def _connect(client: IPyClient, options: argparse.Namespace) -> None:
    members = {"CONNECT": "On"}
    await client.send_newVector(options.device, "CONNECTION", members=members, wait=True, timeout=options.timeout)


async def _connects(client: IPyClient, options: argparse.Namespace, attempt: int) -> bool:
    """Try to connect the camera, and return whether another attempt is due at once or later."""
    try:
        await _connect(client, options)
    except (INDIAlert, TimeoutError) as error:
        if attempt == 1:
            say(_PROGRAM, f"{error}; trying again until it works")
        return True
    return False


async def _check_upload(client: IPyClient, options: argparse.Namespace) -> None:
    """Check that the camera sends its frames.

    Raises:
        ToolError: It keeps them.
    """
    device = options.device
    with suppress(TimeoutError):  # libindi's cameras define it after the others; some have none
        await client.wait_for(device, "UPLOAD_MODE", timeout=_UPLOAD_MODE)
    if why := why_no_frames(client[device]):
        raise ToolError(f'{why}; to have them sent, run: indifast set "{device}.UPLOAD_MODE.UPLOAD_CLIENT=On"')


def _cameras(client: IPyClient) -> str:
    """Return which devices of the server are cameras, as the end of a sentence."""
    found = [repr(device.devicename) for device in devices_of(client) if CAMERA in kinds_of(device)]
    return f"; cameras on this server: {', '.join(found)}" if found else ""


def _has(client: IPyClient, device: str, name: str) -> bool:
    return device in client and name in client[device] and client[device][name].enable


async def _frame(client: IPyClient, options: argparse.Namespace, index: int) -> Frame:
    async with drawn(_Bar(client, options, index).line, not options.quiet):
        return await client.expose(
            options.device, options.seconds, vector=options.blob, exposure=options.exposure, timeout=options.timeout
        )


async def _abort(client: IPyClient, options: argparse.Namespace) -> str:
    """Abort the exposure, and return a sentence that says whether that was possible."""
    device, abort = options.device, _ABORT.get(options.exposure, "")
    if not client.connected:
        return f"stopped without a connection: if {device} is exposing, it goes on"
    if not _has(client, device, options.exposure):
        return f"stopped: {device} is not exposing"
    if not _has(client, device, abort):
        return f"stopped; the exposure goes on, because {device} has no property that aborts it"
    members = {next(iter(client[device][abort])): "On"}
    try:
        await client.send_newVector(device, abort, members=members, wait=True, timeout=_ABORTING)
        await client.wait_for(device, options.exposure, {"Ok", "Idle", "Alert"}, _ABORTING, there=True)
    except (OSError, INDIAlert):
        return f"asked {device} to abort the exposure, but it has not confirmed that"
    return f"aborted the exposure of {device}"


async def _frame_at_last(client: IPyClient, options: argparse.Namespace, index: int) -> Frame:
    """Take a frame, again and again if the connection is lost or the camera goes away meanwhile."""
    of = f"frame {index + 1} of {options.frames}" if options.frames > 1 else "the frame"
    while True:
        try:
            if not _can_expose(client, options) and (frame := await _camera_again(client, options)):
                return frame
            return await _frame(client, options, index)
        except OSError as error:  # also INDIDeleted
            if isinstance(error, TimeoutError) or client.stop:
                raise
            say(_PROGRAM, f"{of} was interrupted ({error}); it is taken anew when the camera is there")


def _can_expose(client: IPyClient, options: argparse.Namespace) -> bool:
    return all(_has(client, options.device, name) for name in (options.exposure, options.blob))


async def _camera_again(client: IPyClient, options: argparse.Namespace) -> Frame | None:
    """Wait until the camera can expose again. Return the frame of an exposure that went on in the meantime, if any.

    Raises:
        OSError: The connection was lost again, or the camera has gone again.
    """
    device = options.device
    frames = client.frames(device, options.blob)  # asks for them from the first definition on
    events = client.events(types=(ConnectionMade, defVector, setVector))
    told, failures = False, 0
    try:
        while not _can_expose(client, options):
            if _has(client, device, "CONNECTION") and client[device]["CONNECTION"].get("CONNECT") == "Off":
                if options.connect:
                    if failures:
                        await asyncio.sleep(varied(pause_after(failures, *_PAUSES)))
                    failures += 1
                    if await _connects(client, options, failures):
                        continue
                elif not told:
                    told = True
                    command = f'indifast set "{device}.CONNECTION.CONNECT=On"'
                    say(_PROGRAM, f"{device} is back, but not connected to its camera: waiting until someone runs"
                        f" {command} (--connect does that)")  # fmt: skip
            if await anext(events, None) is None:
                raise ConnectionError("the client has stopped")
        if client[device][options.exposure].state == "Busy":
            say(_PROGRAM, f"{device} is still exposing: waiting for the end of that")
            frame = await _left_over(client, options, frames)
            if frame is not None:
                return frame
        await _check_upload(client, options)
    finally:
        frames.close()
        events.close()
    say(_PROGRAM, f"{device} is there again: going on")
    return None


async def _left_over(client: IPyClient, options: argparse.Namespace, frames: FrameStream) -> Frame | None:
    """Return the frame that an exposure brings which has outlived the connection, or None if it brings none."""
    limit = options.seconds + options.timeout
    ends = client.wait_for(options.device, options.exposure, {"Ok", "Idle", "Alert"}, limit, there=True)
    end, taken = asyncio.ensure_future(ends), asyncio.ensure_future(anext(frames))
    try:
        await asyncio.wait((end, taken), return_when=asyncio.FIRST_COMPLETED)
        if not taken.done():
            end.result()
            await asyncio.wait((taken,), timeout=min(_DOWNLOAD, options.timeout))
        return taken.result() if taken.done() else None
    finally:
        end.cancel()
        taken.cancel()


class _Bar:
    """A bar that follows the countdown of the camera, if it has one, and the clock in between."""

    def __init__(self, client: IPyClient, options: argparse.Namespace, index: int) -> None:
        self._client = client
        self._options = options
        self._of = f"{index + 1}/{options.frames} " if options.frames > 1 else ""
        self._seconds = float(options.seconds)
        self._told = self._left()
        self._began = time.monotonic()

    def _left(self) -> float | None:
        """Return the seconds that are left, as the camera says; None if it says nothing."""
        device, name = self._options.device, self._options.exposure
        vector: Any = self._client[device][name] if _has(self._client, device, name) else None
        if vector is None or vector.state != "Busy":
            return None
        return float(next(iter(vector.data.values())).getfloatvalue())

    def line(self) -> str:
        """Return the line to show now."""
        left, now = self._left(), time.monotonic()
        if left is not None and left != self._told and 0 < left <= self._seconds:
            self._began = now - (self._seconds - left)
        self._told = left
        gone = now - self._began
        share = min(1.0, gone / self._seconds) if self._seconds else 1.0
        what = (
            f"{gone:.1f} of {self._seconds:g} s" if gone < self._seconds else f"download, {gone - self._seconds:.0f} s"
        )
        return f"{self._of}{console.bar(share, len(self._of) + len(what) + 1)} {what}"


def _is_folder(output: str) -> bool:
    return output.endswith(os.sep) or Path(output).is_dir()


def _planned(options: argparse.Namespace) -> list[Path]:
    """Return the files that are known before the first exposure; in a folder, names contain the time."""
    if _is_folder(options.output):
        return []
    return [_numbered(Path(options.output), options, index) for index in range(options.frames)]


def _numbered(path: Path, options: argparse.Namespace, index: int) -> Path:
    return path if options.frames == 1 else path.with_stem(f"{path.stem}_{index + 1:03d}")


def _path(options: argparse.Namespace, index: int, frame: Frame) -> Path:
    if not _is_folder(options.output):
        return _numbered(Path(options.output), options, index)
    device = re.sub(r"[^\w.-]+", "_", options.device).strip("._") or "frame"
    form = re.sub(r"[^\w.]", "", dotted(frame.format))
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return Path(options.output) / f"{device}_{stamp}_{options.seconds:g}s{form}"


def _print(content: memoryview) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _is_special(path: Path) -> bool:
    """Return whether the path exists but is neither a file nor a folder: /dev/null, a named pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _publish(partial: Path, path: Path) -> None:
    """Give a complete file its name, unless the name is taken."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links, as on memory cards: reserve the name first, then put the file there.
        path.touch(exist_ok=False)
        partial.replace(path)


def _save(path: Path, content: memoryview, force: bool) -> None:
    """Write a file that appears only when it is complete.

    A device or a pipe is written to directly, and stays what it is.

    Raises:
        FileExistsError: The file exists and `force` is false.
    """
    if _is_special(path):
        path.write_bytes(content)
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
        try:
            file.write(content)
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)
            if force:
                partial.replace(path)
            else:
                _publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
