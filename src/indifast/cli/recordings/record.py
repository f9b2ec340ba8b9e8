"""`indifast record`: record what a client may see of a server, with times, in a file for `indifast replay`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from indifast.cli.arguments import Parser, number
from indifast.cli.lossy import never_wait
from indifast.cli.signals import STOPPING, handle_in
from indifast.cli.toolkit.definitions import PATIENCE, gather
from indifast.cli.toolkit.session import (
    Address,
    Status,
    ToolError,
    add_reconnect,
    add_server_options,
    address_of,
    connected,
    file_failure,
    run,
    say,
    unknown,
)
from indifast.client import ConnectionLost, ConnectionMade, IPyClient
from indifast.recording import Direction, Party, Recorder

if TYPE_CHECKING:
    import argparse

    from indifast.protocol.message import Routable

DESCRIPTION = """\
Record what a client may see of a server, until Ctrl-C. A server need not show the commands of other clients;
`indifast serve --record FILE` records both directions."""

EXAMPLES = """\
examples:
  indifast record -o night.indi
  indifast record observatory:7624 -o night.indi --blobs
  indifast record -o camera.indi --device "CCD Simulator" --for 3600

exit status: 0 recorded; 1 nothing was sent; 2 no server, or the file cannot be written"""

_PROGRAM = "indifast record"
_REFRESH = 0.5  # seconds between updates of the progress line
_LONGEST = 366 * 86400.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `indifast record`, and return the exit status."""
    options = parser().parse_args(list(arguments or ()))
    never_wait("stderr", lambda sentence: f"{_PROGRAM}: {sentence}")
    return run(_PROGRAM, options, _record)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(_PROGRAM, DESCRIPTION, EXAMPLES)
    add_reconnect(parser, "connect again")
    add_server_options(parser, word=True)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to create")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument("--blobs", action="store_true", help="include the content of BLOBs")
    parser.add_argument("--device", action="append", metavar="DEVICE", help="only this device; may be repeated")
    parser.add_argument(
        "--for", type=number(float, 0.1, _LONGEST), dest="seconds", metavar="SECONDS", help="end after this time"
    )
    return parser


class _Client(IPyClient):
    """A client that passes everything it receives to a recorder."""

    def __init__(self, *server: Any, address: Address, options: argparse.Namespace, **keywords: Any) -> None:
        super().__init__(*server, **keywords)
        self.recorder: Recorder | None = None
        self.devices: frozenset[str] | None = frozenset(options.device) if options.device else None
        self.asked: set[str] = set()
        self.blobs: bool = options.blobs
        self.label = str(address)
        self._before: list[Routable] = []
        self.on_raw_message = self._before.append

    def record(self, recorder: Recorder) -> None:
        """Record everything from now on, and what has come since the connection was made."""
        self.recorder = recorder
        self.on_raw_message = self._put
        for message in self._before:
            self._put(message)
        self._before.clear()

    def _put(self, message: Routable) -> None:
        if self.recorder is not None and (self.devices is None or message.device in self.devices):
            self.recorder.put(Direction.FROM, Party.SERVER, self.label, message)

    async def rxevent(self, event: Any) -> None:
        """Ask for the BLOBs of each device; note when the connection is lost and made again."""
        if self.blobs and event.eventtype in ("Define", "DefineBLOB") and event.devicename not in self.asked:
            if self.devices is None or event.devicename in self.devices:
                self.asked.add(event.devicename)
                await self.send_enableBLOB("Also", event.devicename)
        elif isinstance(event, ConnectionLost) and self.recorder is not None:
            self.asked.clear()
            self.recorder.lost(Party.SERVER, self.label)
        elif isinstance(event, ConnectionMade) and self.recorder is not None:
            self.recorder.note(f"connected to {self.label} again")


async def _record(options: argparse.Namespace) -> int:
    address = address_of(options)
    _check_output(options)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    handle_in(loop, STOPPING, stop.set)
    again = options.reconnect is not False
    async with connected(
        address, _Client, reconnect=again, program=_PROGRAM, address=address, options=options
    ) as client:
        assert isinstance(client, _Client)
        try:
            recorder = Recorder(
                options.output,
                source=str(address),
                blobs=options.blobs,
                replace=options.force,
                on_error=lambda error: _end(loop, stop),
            )
        except OSError as error:
            raise file_failure(error, options.output) from error
        try:
            client.record(recorder)
            print(
                f"{_PROGRAM}: recording to {options.output} what a client may see of {address}: a server need not"
                " show the commands of other clients. Ctrl-C ends it.",
                file=sys.stderr,
            )
            beside = [asyncio.create_task(each) for each in (_end_with(client, stop), _tell_missing(client, options))]
            await _until(stop, options.seconds, recorder)
            for task in beside:
                task.cancel()
        finally:
            recorder.close()
        if client.stop and recorder.error is None:
            raise ConnectionError("the client has stopped")
    if recorder.error is not None:
        raise file_failure(recorder.error, options.output)
    return _say_what_was_recorded(recorder, options)


def _check_output(options: argparse.Namespace) -> None:
    """Refuse to overwrite a file before connecting, so that a mistyped name does not cost a recording."""
    if os.path.isfile(options.output) and not options.force:
        raise file_failure(FileExistsError(errno.EEXIST, ""), options.output)


async def _end_with(client: _Client, stop: asyncio.Event) -> None:
    """Stop recording when the client stops, which it does if the connection is lost and is not to be made again."""
    await client.stopped.wait()
    stop.set()


async def _tell_missing(client: _Client, options: argparse.Namespace) -> None:
    """Say which devices are not there once the server has sent its devices; they may come, or be misspelt."""
    wanted = dict.fromkeys(options.device or ())
    try:
        await gather(client, lambda: all(map(client.__contains__, wanted)), PATIENCE)
    except TimeoutError as error:
        if wanted and client.connected:  # that it is lost is reported, too
            _tell(f"{error} (waiting for {', '.join(wanted)})")
        return
    except ConnectionError:
        return  # `_record` reports it
    known = [name for name, device in client.items() if device.enable]
    for name in wanted:
        if name not in known:
            _tell(f"{unknown('device', name, known, 'on this server')} (waiting for it)")


def _tell(sentence: str) -> None:
    """Print a sentence, below the line that shows how much was recorded."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    say(_PROGRAM, sentence)


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop recording; called by the recorder's thread."""
    loop.call_soon_threadsafe(stop.set)


async def _until(stop: asyncio.Event, seconds: float | None, recorder: Recorder) -> None:
    """Wait for the end, and show on a terminal how much was recorded so far."""
    began = time.monotonic()
    shown = sys.stderr.isatty()
    while not stop.is_set():
        passed = time.monotonic() - began
        left = None if seconds is None else seconds - passed
        if left is not None and left <= 0:
            break
        if shown:
            print(f"\r{_sizes(passed, recorder)} ", end="", file=sys.stderr, flush=True)
            left = _REFRESH if left is None else min(left, _REFRESH)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await stop.wait()
    if shown:
        print(file=sys.stderr)


def _sizes(seconds: float, recorder: Recorder) -> str:
    minutes, remainder = divmod(int(seconds), 60)
    text = f"{minutes:02d}:{remainder:02d}  {recorder.messages} messages, {recorder.frames} with BLOBs"
    return f"{text}, {recorder.written_bytes / 1e6:.1f} MB"


def _say_what_was_recorded(recorder: Recorder, options: argparse.Namespace) -> int:
    text = f"{recorder.messages} messages, {recorder.frames} of them with BLOBs, {recorder.written_bytes} bytes"
    if recorder.left_out or recorder.missed:
        text += f"; the disk was too slow: {recorder.left_out} lack the content of BLOBs, {recorder.missed} are missing"
    print(f"{_PROGRAM}: {options.output}: {text}", file=sys.stderr)
    if not recorder.messages:
        what = f" about {', '.join(options.device)}" if options.device else ""
        raise ToolError(f"the server sent no messages{what} during the recording", Status.NOTHING)
    return Status.DONE
