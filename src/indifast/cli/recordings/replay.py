"""`indifast replay`: serve a recording again, or show what is in it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from indifast.cli import WRITING
from indifast.cli.arguments import Parser, number
from indifast.cli.lossy import never_wait
from indifast.cli.signals import STOPPING, handle_in
from indifast.cli.toolkit.delivery import nothing_taken, until_taken
from indifast.cli.toolkit.session import Status, ToolError, file_failure, run
from indifast.protocol import jsonform
from indifast.protocol.drivernames import PORT
from indifast.protocol.escape import printable
from indifast.recording import Direction, Player, Record, Recording, RecordingError, Summary, summarize
from indifast.server.ipyserver import IPyServer

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTION = """\
Serve a recording again to INDI clients, with its original timing. Clients may connect at any time; their commands are
answered, but change nothing."""

EXAMPLES = """\
examples:
  indifast replay night.indi
  indifast replay night.indi -p 7625 --speed 10 --start-at 3600
  indifast replay --info night.indi
  indifast replay --print --json night.indi | head

exit status: 0 ended; 2 the recording cannot be read, or the port is in use; 3 clients did not take the rest after
--once"""

_PROGRAM = "indifast replay"
_REFRESH = 0.5  # seconds between updates of the progress line
_PATIENCE = 1.0  # seconds for which the end waits for clients without saying so
_LONGEST = 366 * 86400.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `indifast replay`, and return the exit status."""
    reader = parser()
    options = reader.parse_args(list(arguments or ()))
    if options.json and not (options.info or options.print):
        reader.error("--json requires --info or --print")
    if options.loop and options.once:
        reader.error("--loop and --once cannot be used together")
    if not (options.info or options.print or options.text):
        never_wait("stderr", lambda sentence: f"{_PROGRAM}: {sentence}")
    return run(_PROGRAM, options, _replay)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(_PROGRAM, DESCRIPTION, EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="made by `indifast record` or `indifast serve --record`")
    parser.add_argument("--host", default="localhost", help="listen on this name or address (default: localhost)")
    parser.add_argument(
        "-p", "--port", type=number(int, 0, 65535), default=PORT, help="(default: %(default)s; 0: any free port)"
    )
    parser.add_argument("--unix", metavar="PATH", help="also listen on this Unix socket; @NAME is an abstract one")
    parser.add_argument("--speed", type=_speed, default=1.0, help="2: twice as fast; max: as fast as clients read")
    parser.add_argument(
        "--start-at", type=number(float, 0, _LONGEST), default=0.0, metavar="SECONDS", help="skip the beginning"
    )
    parser.add_argument("--loop", action="store_true", help="start again from the beginning after the end")
    parser.add_argument("--once", action="store_true", help="exit after the end instead of serving the last state")
    parser.add_argument("--wait", action="store_true", help="start when the first client asks for devices")
    parser.add_argument("--now", action="store_true", help="change timestamps to the time of the replay")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--info", action="store_true", help="show what is in the file, and serve nothing")
    what.add_argument("--print", action="store_true", help="print all messages, one per line, and serve nothing")
    what.add_argument("--text", action="store_true", help="write the recording as text, which can be edited, and serve"
                      " nothing")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="with --info or --print: print JSON")
    parser.add_argument("--debug", action="store_true", help="log the traffic, and show tracebacks")
    return parser


def _speed(text: str) -> float | None:
    """Convert a factor; None for max."""
    return None if text == "max" else number(float, 1e-6, 1e6)(text)


async def _replay(options: argparse.Namespace) -> int:
    try:
        if options.info or options.print:
            return _show(options)
        if options.text:
            return _write_text(options.file)
        with Recording(options.file) as recording:  # fails before anything is served
            title = recording.title
        return await _serve(options, f"{options.file} ({title.source}, {title.began:%Y-%m-%d %H:%M:%S} UTC)")
    except OSError as error:
        if error.errno == errno.EPIPE or (error.errno in WRITING and error.errno != errno.EIO):
            raise  # caused by the output, whereas EIO may come from the disk with the recording
        raise file_failure(error, options.file) from error
    except RecordingError as error:
        raise ToolError(str(error)) from error


# -- Serving


async def _serve(options: argparse.Namespace, what: str) -> int:
    stop = asyncio.Event()
    handle_in(asyncio.get_running_loop(), STOPPING, stop.set)
    server = IPyServer(host=options.host, port=int(options.port), maxconnections=None, unix_socket=options.unix)
    server.keepalive = 0
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise ToolError(error.strerror or str(error)) from error
        player = Player(
            options.file,
            server.open_link(f"replay of {os.path.basename(options.file)}"),
            speed=options.speed,
            start_at=options.start_at,
            loop=options.loop,
            now=options.now,
        )
        where = f"{options.host}:{server.port}" + (f" and {options.unix}" if options.unix else "")
        _say(f"replaying {what} on {where}; Ctrl-C ends it")
        playing = asyncio.create_task(_play(player, options))
        stopped = asyncio.create_task(stop.wait())
        progress = asyncio.create_task(_progress(player, server))
        try:
            await asyncio.wait((playing, stopped), return_when=asyncio.FIRST_COMPLETED)
            progress.cancel()
            if playing.done():
                playing.result()
                _say_the_end(player, options)
                if not options.once:
                    await stopped
                elif left := await _until_taken(server, stopped):
                    raise ToolError(nothing_taken("clients have", left), Status.TIMEOUT)
        finally:
            for task in (playing, stopped, progress):
                task.cancel()
            await asyncio.wait((playing, stopped, progress))
    return Status.DONE


async def _until_taken(server: IPyServer, stopped: asyncio.Task[Any]) -> int:
    """Wait until the clients have taken everything, or the command is stopped.

    Returns:
        The bytes that clients have not taken although there was time; 0 if the command is stopped.
    """
    taking = asyncio.create_task(until_taken(lambda: {stream: stream.unsent for stream in server.connectionpool}))
    try:
        await asyncio.wait((taking, stopped), timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not (taking.done() or stopped.done()):
            _say("waiting for clients that are behind; Ctrl-C ends it")
            await asyncio.wait((taking, stopped), return_when=asyncio.FIRST_COMPLETED)
        return taking.result() if taking.done() else 0
    finally:
        taking.cancel()


async def _play(player: Player, options: argparse.Namespace) -> None:
    if options.wait:
        await player.asked.wait()
    await player.play()


def _say_the_end(player: Player, options: argparse.Namespace) -> None:
    after = "" if options.once else "; serving the last state until Ctrl-C"
    skipped = f", {player.skipped} more skipped because they are not valid INDI" if player.skipped else ""
    _say(f"{player.sent} messages in {player.seconds:.1f} s of the recording{skipped}{after}")
    if player.cut is not None:
        _say(player.cut)


def _say(text: str) -> None:
    start = "\n" if sys.stderr.isatty() and text[0].isdigit() else ""
    print(f"{start}{_PROGRAM}: {text}", file=sys.stderr, flush=True)


async def _progress(player: Player, server: IPyServer) -> None:
    """Show the progress of the replay on a terminal."""
    while sys.stderr.isatty():
        minutes, seconds = divmod(int(player.seconds), 60)
        clients = len(server.connectionpool)
        text = (
            f"{minutes:02d}:{seconds:02d} ({player.share:.0%} of the file), {player.sent} messages, {clients} clients"
        )
        print(f"\r{text} ", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(_REFRESH)


# -- Contents


def _show(options: argparse.Namespace) -> int:
    """Do what `--info` or `--print` asks for, and return the exit status. Raises ToolError if the file is damaged."""
    if options.print:
        line = _json_line if options.json else _line
        summary = summarize(options.file, lambda record: print(line(record)))
        if summary.cut is not None:
            print(f"{_PROGRAM}: {summary.cut}", file=sys.stderr)
    else:
        summary = summarize(options.file)
        print(jsonform.text(summary.as_dict()) if options.json else "\n".join(_info(summary)))
    if summary.damage is not None:
        raise ToolError(summary.damage)
    return Status.DONE


def _write_text(path: str) -> int:
    """Write a recording of version 1, up to the end or to where the file is damaged, and return the exit status."""
    with Recording(path) as recording:
        for piece in recording.text():
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return Status.DONE


def _info(summary: Summary) -> Iterator[str]:
    yield f"{summary.path}: {printable(summary.source)}"
    yield f"  began      {summary.began:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  lasts      {summary.seconds:.1f} s"
    yield f"  size       {summary.size} bytes, BLOBs {'recorded' if summary.blobs else 'without content'}"
    yield f"  messages   {summary.messages}, {summary.played} of them are played"
    if summary.skipped:
        yield f"  skipped    {summary.skipped} that are not valid INDI"
    yield f"  end        {summary.cut or summary.damage or 'complete'}"
    for who, count in summary.said.most_common():
        yield f"  sent by    {printable(who)}: {count}"
    for tag, count in summary.commands.most_common():
        yield f"  clients    {printable(tag)}: {count}"
    for note in summary.notes:
        yield f"  note       {printable(note)}"
    for device, properties in summary.devices.items():
        yield printable(device)
        for name, found in properties.items():
            text = f"  {printable(name) or '(device)':<30} {found.messages:>7}"
            if found.frames:
                text += f"   BLOBs: {found.frames}, {found.blob_bytes} bytes"
            if found.frames_without_content:
                text += f"   BLOBs without content: {found.frames_without_content}"
            yield text


def _line(record: Record) -> str:
    """Return a record as a line for people."""
    head, element = record.head, record.message
    text = f"{record.seconds:12.6f} {head.direction.value:<4} "
    if head.direction is Direction.NOTE:
        return text + printable(head.label)
    text += printable(f"{head.party.value} {head.label}")
    if element is None:
        return text
    where = ".".join(part for part in (element.device, element.name) if part)
    words = [text, element.tag, printable(where)]
    words += [f"[{printable(element.attrs[key])}]" for key in ("state",) if key in element.attrs]
    words += [f"{printable(name)}={printable(value)}" for name, value in _values(record)]
    if element.text:
        words.append(printable(element.text))
    if element.attrs.get("message"):
        words.append(json.dumps(printable(element.attrs["message"]), ensure_ascii=False))
    return " ".join(word for word in words if word)


def _json_line(record: Record) -> str:
    """Return a record as a line of JSON."""
    head, element = record.head, record.message
    found: dict[str, Any] = {
        "seconds": round(record.seconds, 6),
        "received": jsonform.moment(head.time),
        "direction": head.direction.value,
    }
    if head.direction is Direction.NOTE:
        found["note"] = head.label
    else:
        found |= {"party": head.party.value, "label": head.label}
    if element is not None:
        found |= jsonform.of_element(element)
    return jsonform.text(found, indent=None)


def _values(record: Record) -> list[tuple[str, str]]:
    """Return the members and their values; for a BLOB, its format and size."""
    element = record.message
    assert element is not None
    if element.tag.endswith("BLOBVector"):
        return [
            (member.name, f"{member.format} {member.blob_size or 0} bytes".strip())
            for member in element.members
            if member.tag == "oneBLOB"
        ]
    return [(member.name, member.text.strip()) for member in element.members]
