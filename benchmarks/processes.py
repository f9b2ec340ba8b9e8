"""Processor time and memory of running processes, from Linux's `/proc`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the processor time of all living threads of a process, with nanosecond resolution."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread may have just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory(pid: int, what: str = "VmRSS") -> int:
    """Return the bytes that a process has in memory; with `VmHWM`, the peak since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has ended")


def forget_peak(pid: int) -> None:
    """Reset `VmHWM`."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wait_until_quiet(pids: list[int], patience: float = 60.0) -> None:
    """Wait until no process has used more than 5 ms in a quarter of a second: all have started, and are idle.

    Raises:
        RuntimeError: `patience` seconds have passed.
    """
    end = time.monotonic() + patience
    before = [-1.0] * len(pids)
    while time.monotonic() < end:
        now = [cpu_seconds(pid) for pid in pids]
        if max(b - a for a, b in zip(before, now, strict=True)) < 5e-3:
            return
        before = now
        time.sleep(0.25)
    raise RuntimeError(f"a process was not idle within {patience:g} s")


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, directly or indirectly."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread may have just ended
            for child in map(int, tasks.read_text().split()):
                found += [child, *descendants(child)]
    return found


class Peaks:
    """Peaks of the memory of processes above their idle size, which is read when the object is created."""

    def __init__(self, pids: list[int]) -> None:
        self._idle = {}
        for pid in pids:
            forget_peak(pid)
            self._idle[pid] = memory(pid)

    def bytes(self) -> list[int]:
        """Return the peak above idle of each process."""
        return [memory(pid, "VmHWM") - idle for pid, idle in self._idle.items()]
