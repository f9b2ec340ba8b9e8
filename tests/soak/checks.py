"""Checks of everything that a soak test runs, made when a fault is over."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indifast._parser import Element
from indifast.recording import Direction, Recording, RecordingError
from tests.soak.ledger import Ledger
from tests.soak.processes import Failure, Usage, seen_by, until, usage
from tests.soak.world import COUNTING, World

MEMORY_ROOM = 64 << 20
"""Bytes by which a process may grow beyond its first size, because allocators and pools keep some."""
SHARED_ROOM = 24
"""Shared BLOBs that a process may have open: clients keep the last one of each property, others relay them."""
THREAD_ROOM = 8
"""Threads that a process may have in addition to the first ones, because pools keep them."""
LOG_ROOM = 256 << 10
"""Bytes by which the log of a process may grow during one fault and the recovery from it."""

_UNWANTED = re.compile(
    r"Traceback|Exception ignored|Exception in callback|never retrieved|never awaited|was destroyed|internal error"
)
_AGAIN = 5.0  # seconds after which the camera is asked again


class Checks:
    """Checks a world again and again. What processes use is compared with what they used at first."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self.world = world
        self._draw = draw
        self._first: dict[str, Usage] = {}
        self._log_sizes: dict[Path, int] = {}
        self._unannounced = 0

    def all_is_well(self, *, frames_may_be_lost: bool = False) -> None:
        """Wait until everything works again, and check everything.

        Raises:
            Failure: Something is wrong, or does not become right in time.
        """
        began = time.monotonic()
        self.world.alive()
        self._all_is_fresh()
        for _ in range(2):
            self._a_command_is_obeyed()
        self._the_camera_works()
        self._nothing_is_left_open()
        self._no_files_are_left()
        self.logs()
        self._no_frames_are_missing(frames_may_be_lost)
        self.world.figures.recovery = max(self.world.figures.recovery, time.monotonic() - began)

    # -- What clients are told

    def reports(self) -> dict[str, dict[str, Any]]:
        """Ask all clients for their reports.

        Raises:
            Failure: A client was told something wrong.
        """
        reports = {name: client.report() for name, client in self.world.clients.items()}
        for name, report in reports.items():
            if report["violated"]:
                raise Failure(f"{name}: {report['violated']} violations:\n" + "\n".join(report["violations"]))
        return reports

    def _all_is_fresh(self) -> None:
        """Wait until every client has news of every device: counters go on, and frames arrive."""
        devices = self.world.devices
        counters = {f"{device}.beat" for device in devices.intersection(COUNTING)} | {"Beta.mirror"}
        frames = {f"{device}.frame.data" for device in ("Alpha", "Beta", "Gamma")}
        before = self.reports()

        def late() -> Iterator[str]:
            for name, report in self.reports().items():
                old = before[name]
                for key in counters:
                    if report["counters"].get(key, 0) < old["counters"].get(key, 0) + 2:
                        yield f"{name} has news of {key}"
                for key in frames:
                    if report["frames"].get(key, 0) <= old["frames"].get(key, 0):
                        yield f"{name} has a frame of {key}"
                for device in devices.difference(report["devices"]):
                    yield f"{name} knows {device}"

        until(lambda: self.world.alive() and not any(late()), lambda: ", ".join(late()))

    def _a_command_is_obeyed(self) -> None:
        """Let a client command a driver, and wait until all clients and the terminal see the result."""
        sender = self._draw.choice(list(self.world.clients))
        device = self._draw.choice([name for name in COUNTING if name in self.world.devices])
        text = self.world.send_command(sender, device)

        def late() -> list[str]:
            return [name for name, report in self.reports().items() if report["tokens"].get(device) != text]

        until(lambda: not late(), lambda: f"{late()} see {text} of {device}")
        if device == "Alpha":
            self.world.screen.until(text)

    def _the_camera_works(self) -> None:
        """Let the C++ camera take an image, and wait until it has reached every client."""
        key = "CCD Simulator.CCD1.CCD1"
        before = {name: report["frames"].get(key, 0) for name, report in self.reports().items()}
        again = 0.0

        def everywhere() -> bool:
            nonlocal again
            if time.monotonic() >= again:  # the driver may have been started anew, and be far from ready
                again = time.monotonic() + _AGAIN
                self._tell_camera("Switch", "CONNECTION", CONNECT="On")
                self._tell_camera("Number", "CCD_FRAME", X=0, Y=0, WIDTH=320, HEIGHT=200)
                self._tell_camera("Number", "CCD_EXPOSURE", CCD_EXPOSURE_VALUE=0.01)
            return all(report["frames"].get(key, 0) > before[name] for name, report in self.reports().items())

        until(everywhere, "every client has an image of the camera")
        self.world.figures.exposures += 1

    def _tell_camera(self, kind: str, name: str, **members: object) -> None:
        words = "".join(f'<one{kind} name="{member}">{value}</one{kind}>' for member, value in members.items())
        text = f'send <new{kind}Vector device="CCD Simulator" name="{name}">{words}</new{kind}Vector>'
        self.world.clients["tcp-c"].say(text)

    def _no_frames_are_missing(self, may_be: bool) -> None:
        missing = {name: report["unannounced"] for name, report in self.reports().items() if report["unannounced"]}
        total = sum(sum(of.values()) for of in missing.values())
        if total > self._unannounced and not may_be:
            raise Failure(f"frames are missing that nothing has announced: {missing}")
        self._unannounced = total

    # -- What processes use

    def measure(self) -> None:
        """Note what the processes use now, to which they have to return."""
        for name, pid in self.world.pids().items():
            self._first[name] = usage(pid)
        self.world.figures.first = {name: use.amounts() for name, use in self._first.items()}

    def _nothing_is_left_open(self) -> None:
        """Wait until every process uses no more than at first."""
        most = self.world.figures.most
        for name, pid in self.world.pids().items():
            amounts = self._back_to_first(name, pid).amounts()
            before = most.get(name, amounts)
            most[name] = {kind: max(amount, before[kind]) for kind, amount in amounts.items()}
            self.world.figures.last[name] = amounts

    def _back_to_first(self, name: str, pid: int) -> Usage:
        now = usage(pid)
        first = self._first.get(name, now)

        def back() -> bool:
            nonlocal now
            now = usage(pid)
            return (
                now.open <= first.open
                and now.descriptors["memfd"] <= SHARED_ROOM
                and now.threads <= first.threads + THREAD_ROOM
                and now.memory <= first.memory + MEMORY_ROOM
            )

        def too_much() -> str:
            more = {kind: count for kind, count in (now.descriptors - first.descriptors).items() if count}
            return f"{name} is back to {first.amounts()}; it has {now.amounts()} (more descriptors: {more})"

        until(back, too_much)
        return now

    def _no_files_are_left(self) -> None:
        folders = [self.world.temporary]
        if not self.world.disks.missing:  # server a has shared memory of its own
            folders.append(seen_by(self.world.servers["a"].program.pid, Path("/dev/shm")))

        def left() -> list[str]:
            return [str(path) for folder in folders for path in folder.iterdir()]

        until(lambda: not left(), lambda: f"temporary files are gone: {left()}")

    def logs(self) -> None:
        """Check that logs have grown by a limited amount, and contain no sign of a fault in the program."""
        for path in self.world.folder.glob("*.log"):
            before, size = self._log_sizes.get(path, 0), path.stat().st_size
            self._log_sizes[path] = size
            self.world.figures.log_bytes += size - before
            if size - before > LOG_ROOM:
                raise Failure(f"{path} has grown by {size - before} bytes")
            with path.open("rb") as file:
                file.seek(before)
                text = file.read(size - before).decode(errors="replace")
            self.world.figures.restarts += text.count(": restart #")
            found = _UNWANTED.search(text)
            if found is not None:
                raise Failure(f"{path} has: {text[max(0, found.start() - 500) : found.start() + 3000]}")

    # -- At the end

    def count(self) -> None:
        """Add what the clients were told to the figures."""
        figures = self.world.figures
        for report in self.reports().values():
            figures.messages += report["messages"]
            figures.frames += report["frames_total"]
            figures.nbytes += report["nbytes"]
            figures.announced += report["announced"]
            figures.unannounced += sum(report["unannounced"].values())
            figures.reconnections += report["connections"] - 1


def check_recording(world: World, path: Path, *, cut: bool) -> None:
    """Read a recording and check that everything in it is whole and in order.

    Args:
        world: Whose figures it counts for.
        path: The recording.
        cut: It may have been cut short; otherwise it must have been ended properly.
    """
    ledger = Ledger()
    ledger.made()
    try:
        with Recording(str(path)) as recording:
            for record in recording:
                if record.head.direction is Direction.LOST:
                    ledger.lost()
                elif record.message is not None and record.head.direction is Direction.FROM:
                    _take(ledger, record.message)
            if recording.skipped:
                ledger.violation(f"{recording.skipped} messages of the recording are invalid")
            if recording.cut is not None and not cut:
                ledger.violation(recording.cut)
    except RecordingError as error:
        if not cut or path.stat().st_size > 1000:  # nothing of it can be read if its first words are missing
            raise Failure(f"{path} can't be read: {error}") from error
    if ledger.violated:
        raise Failure(f"{path}: {ledger.violated} violations:\n" + "\n".join(ledger.violations))
    world.figures.recorded += ledger.frames_total


def _take(ledger: Ledger, element: Element) -> None:
    device, name, tag = element.device, element.name, element.tag
    if text := element.attrs.get("message"):
        ledger.said(device, text)
    if device is None:
        return
    if tag == "delProperty":
        ledger.deleted(device, name)
    elif name is None:
        return
    elif tag == "setBLOBVector":
        for member in element.members:
            ledger.frame(device, name, member.name, member.format, member.data)
    elif tag.startswith("def"):
        ledger.defined(device, name, element.values())
    elif tag.startswith("set"):
        ledger.updated(device, name, element.values())
