"""What a running process costs: processor time and memory, as Linux tells."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process that live, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes that a process has in memory; `VmHWM`: at most since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has ended")


def forget_peak(pid: int) -> None:
    """Let `VmHWM` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wait_until_quiet(pids: list[int], patience: float = 20.0) -> None:
    """Return when no process has run for more than 5 ms in a quarter of a second: they have started, and wait."""
    end = time.monotonic() + patience
    before = [-1.0] * len(pids)
    while time.monotonic() < end:
        now = [cpu_seconds(pid) for pid in pids]
        if max(b - a for a, b in zip(before, now, strict=True)) < 5e-3:
            return
        before = now
        time.sleep(0.25)
    raise RuntimeError("a process does not come to rest")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in map(int, tasks.read_text().split()):
                found += [child, *descendants(child)]
    return found


class Peaks:
    """The most that processes held above idle: begins when made."""

    def __init__(self, pids: list[int]) -> None:
        self._idle = {}
        for pid in pids:
            forget_peak(pid)
            self._idle[pid] = memory(pid)

    def bytes(self) -> list[int]:
        return [memory(pid, "VmHWM") - idle for pid, idle in self._idle.items()]
