"""The processes of a soak test: how they are started, limited, measured, and found when none should be left."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.blackbox import Child

LIMIT = 120.0
"""Seconds after which a condition that is waited for counts as failed. The machine may be busy with other work."""

QUICK = 60.0
"""Seconds in which a process has to end after it was asked to."""

SLOW = 15.0
"""Seconds after which a condition is reported to `on_slow`, in case it comes true later."""

MARK = "SOAK_RUN"
"""The variable by which the processes of a run are found, however they were started."""


class Failure(Exception):
    """Something happened that must not happen, or did not happen that must."""


def on_slow(text: str) -> None:
    """Report something that takes long."""
    for listener in slow_listeners:
        listener(text)


slow_listeners: list[Callable[[str], object]] = []


def until(condition: Callable[[], object], what: str | Callable[[], str], limit: float = LIMIT) -> None:
    """Wait until a condition holds; it may raise Failure itself."""
    began = time.monotonic()
    slow = began + SLOW
    while not condition():
        now = time.monotonic()
        if now > min(began + limit, slow):
            text = what if isinstance(what, str) else what()
            if now > began + limit:
                raise Failure(f"after {limit:g} s, still not: {text}")
            slow = began + limit
            on_slow(f"after {SLOW:g} s, not yet: {text}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Usage:
    """What a process uses at a moment."""

    descriptors: Counter[str]
    """By kind: socket, pipe, memfd, the path of a file."""
    threads: int
    memory: int
    """Bytes of its own that are in memory."""

    @property
    def open(self) -> int:
        """The number of descriptors, except those of BLOBs that are shared."""
        return sum(self.descriptors.values()) - self.descriptors["memfd"]

    def amounts(self) -> dict[str, int]:
        """The same as numbers alone."""
        return {"descriptors": self.open, "threads": self.threads, "memory": self.memory}


def usage(pid: int) -> Usage:
    """Measure a process.

    Raises:
        Failure: It is gone.
    """
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        kinds: Counter[str] = Counter()
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                kinds[_kind(os.readlink(f"/proc/{pid}/fd/{number}"))] += 1
        return Usage(kinds, int(status["Threads"]), int(status["RssAnon"].split()[0]) << 10)
    except (FileNotFoundError, ProcessLookupError, KeyError) as error:
        raise Failure(f"process {pid} is gone: {error}") from None


def _kind(target: str) -> str:
    return "memfd" if target.startswith("/memfd:") else target if target.startswith("/") else target.split(":[")[0]


def _killed_with_us() -> list[str]:
    """The words before a command with which it does not outlive the soak test, whatever ends that."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--"]


class Program:
    """A program of the run, which may be started again after its end. What it writes on stderr goes to a log.

    Args:
        name: Its name in reports.
        command: The program and its arguments.
        folder: Where its log is.
        environment: What is added to the environment of all.
        controlled: It understands the commands of `reporting`.
        errors: A named pipe that its stderr goes to instead.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        folder: Path,
        environment: Mapping[str, str],
        *,
        controlled: bool = False,
        errors: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [*_killed_with_us(), *map(str, command)]
        if errors is not None:
            self.command[:0] = ["sh", "-c", f'exec "$@" 2>"{errors}"', "sh"]
        self.folder = folder
        self.environment = dict(environment)
        self.controlled = controlled
        self._answered = b""
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self.child = Child(self.command, self.folder, env=self.environment, stdio=self.controlled)
        logs = (self.folder / f"{self.name}-{number}.log" for number in itertools.count(1))
        self.log_path = next(path for path in logs if not path.exists())
        self.child.stderr_path.rename(self.log_path)
        self._answered = b""

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log(self) -> str:
        """What it has written since it was last started."""
        return self.log_path.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it runs.

        Raises:
            Failure: It does not.
        """
        status = self.child.process.poll()
        if status is not None:
            raise Failure(f"{self.name} has ended with status {status}:\n{self.log[-3000:]}")
        return True

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.child.process.send_signal(number)

    def say(self, text: str) -> None:
        """Give it a command."""
        assert self.child.process.stdin is not None
        try:
            self.child.process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            self.alive()
            raise

    def report(self) -> dict[str, Any]:
        """Ask it for its report, and wait for that."""
        self.say("report")
        assert self.child.process.stdout is not None
        descriptor = self.child.process.stdout.fileno()
        deadline = time.monotonic() + LIMIT
        while b"\n" not in self._answered:
            readable, _, _ = select.select([descriptor], [], [], 1)
            if readable:
                data = os.read(descriptor, 1 << 16)
                self._answered += data
                if not data:
                    until(lambda: self.child.process.poll() is not None, f"{self.name} ends", 10)
            self.alive()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} has not answered for {LIMIT:g} s")
        line, _, self._answered = self._answered.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self, number: int | None = signal.SIGTERM) -> int:
        """End it in an orderly way, by a signal or by `quit`; its exit status.

        Raises:
            Failure: It does not end.
        """
        if number is not None:
            self.send(number)
        else:
            self.say("quit")
        try:
            return self.child.wait(QUICK)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} has not ended within {QUICK:g} s:\n{self.log[-3000:]}") from None

    def kill(self) -> None:
        self.child.kill()


@contextlib.contextmanager
def limited(pids: Sequence[int], kind: int, soft: int) -> Iterator[None]:
    """Lower a limit of processes; afterwards they, and what they have started meanwhile, have the old one."""
    before = {pid: resource.prlimit(pid, kind) for pid in pids}
    old = next(iter(before.values()))
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, kind, (soft, hard))
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
                    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                        resource.prlimit(process.pid, kind, old)


def marked(mark: str) -> list[int]:
    """The processes of a run that there are now, except the dead ones that wait for their parent."""
    found = []
    needle = f"{MARK}={mark}\0".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if needle in Path(f"/proc/{name}/environ").read_bytes() + b"\0":
                    found.append(int(name))
    return found


def describe(pid: int) -> str:
    """A process in words."""
    with contextlib.suppress(psutil.Error):
        return f"{pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    return str(pid)


_ON_SMALL_DISKS = """set -e; size=$1; shift
for folder; do shift; [ "$folder" = -- ] && break; mount -t tmpfs -o "size=$size" soak "$folder"; done
exec "$@"
"""


class SmallDisks:
    """Runs programs that see small disks of their own where others see folders, if the system permits that."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.missing = ""
        """Why there can be none; empty if there can."""
        unshare = shutil.which("unshare")
        if unshare is None:
            self.missing = "there is no unshare (util-linux)"
            return
        for words in ([unshare, "--mount"], [unshare, "--user", "--map-root-user", "--mount"]):
            tried = subprocess.run([*words, "mount", "-t", "tmpfs", "soak", "/mnt"], capture_output=True, text=True)
            if tried.returncode == 0:
                self.words = words
                return
            self.missing = f"mounting in a namespace is not permitted here: {tried.stderr.strip()}"

    def command(self, folders: Sequence[Path], size: str, command: Sequence[object]) -> list[str]:
        """The command that runs another with disks of this size; the same process becomes that other."""
        return [*self.words, "sh", "-c", _ON_SMALL_DISKS, "sh", size, *map(str, folders), "--", *map(str, command)]


def seen_by(pid: int, path: Path) -> Path:
    """A path as another process sees it, from outside of its namespace."""
    return Path(f"/proc/{pid}/root{path}")
