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
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from indifast.cli.arguments import Parser, number
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.kinds import CAMERA, kinds_of
from indifast.cli.toolkit.patterns import devices_of
from indifast.cli.toolkit.session import add_server_options, connected, device_of, file_failure, run, vector_of
from indifast.client import Frame, IPyClient
from indifast.client.formats import dotted
from indifast.client.frames import why_no_frames

DESCRIPTION = """\
Take one or more exposures with a camera and save the frames in the format that the camera sends, usually FITS.

On a terminal, a bar shows the progress. Ctrl-C aborts the exposure."""

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

_BAR = 30
_STEP = 0.1

_UPLOAD_MODE = 0.2
"""Seconds to wait for the rest of a camera's definitions."""

_STDOUT = "-"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast expose", parser().parse_args(arguments), _expose)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast expose", DESCRIPTION, EXAMPLES)
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
    parser.add_argument("--quiet", action="store_true", help="print no file names and no bar")
    add_patience(parser)
    add_server_options(parser)
    return parser


async def _expose(options: argparse.Namespace) -> int:
    if options.output == _STDOUT:
        if options.frames > 1:
            raise ToolError("standard output takes one frame: give a file or a folder for several")
    else:
        _check_output(options)
    async with connected(options) as client:
        client.check_before_send = True
        await _camera(client, options)
        if options.output != _STDOUT:
            _make_folder(options.output)
        for index in range(options.frames):
            frame = await _frame(client, options, index)
            if options.output == _STDOUT:
                await asyncio.to_thread(_print, frame.data)
                continue
            path = _path(options, index, frame)
            try:
                await asyncio.to_thread(_save, path, frame.data, options.force)
            except OSError as error:
                raise file_failure(error, str(path)) from error
            if not options.quiet:
                print(f"{path}: {len(frame.data)} bytes", flush=True)
    return Status.DONE


def _check_output(options: argparse.Namespace) -> None:
    """Check where the frames are saved, before the exposures instead of after them.

    Raises:
        ToolError: They can't be saved there.
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
    """Wait for the camera, connect it if requested, and check that it can expose.

    Raises:
        ToolError: There is no such camera, or it can't expose.
    """
    device = options.device
    await gather(client, lambda: _has(client, device, options.exposure) and _has(client, device, options.blob),
                 options.patience)  # fmt: skip
    device_of(client, device)
    if not _has(client, device, options.exposure) and (kinds := kinds_of(client[device])) and CAMERA not in kinds:
        raise ToolError(f"{device} is not a camera but a {' and '.join(kinds)}{_cameras(client)}", Status.NOTHING)
    if _has(client, device, "CONNECTION") and client[device]["CONNECTION"].get("CONNECT") == "Off":
        if not options.connect:
            command = f'indifast set --wait Ok "{device}.CONNECTION.CONNECT=On"'
            raise ToolError(f"{device} is not connected to its camera; run: {command}, or use --connect")
        await client.send_newVector(device, "CONNECTION", members={"CONNECT": "On"}, wait=True, timeout=options.timeout)
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
    of = f"{index + 1}/{options.frames} " if options.frames > 1 else ""
    async with _progress(of, options.seconds, sys.stderr.isatty() and not options.quiet):
        try:
            return await client.expose(
                options.device, options.seconds, vector=options.blob, exposure=options.exposure, timeout=options.timeout
            )
        except asyncio.CancelledError:
            if _has(client, options.device, "CCD_ABORT_EXPOSURE"):
                await client.send_newVector(options.device, "CCD_ABORT_EXPOSURE", members={"ABORT": "On"})
            raise


@asynccontextmanager
async def _progress(of: str, seconds: float, shown: bool) -> AsyncIterator[None]:
    """Show a progress bar on standard error while the block runs."""
    if not shown:
        yield
        return
    task = asyncio.create_task(_draw(of, seconds))
    try:
        yield
    finally:
        task.cancel()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


async def _draw(of: str, seconds: float) -> None:
    began = time.monotonic()
    while True:
        gone = time.monotonic() - began
        share = min(1.0, gone / seconds) if seconds else 1.0
        bar = "#" * round(share * _BAR)
        what = f"{min(gone, seconds):.1f} of {seconds:g} s" if gone < seconds else f"download, {gone - seconds:.0f} s"
        print(f"\r\x1b[K{of}[{bar:-<{_BAR}}] {what}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(_STEP)


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
