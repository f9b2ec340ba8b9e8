"""Running the same function in several threads at once, and what /proc says about threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Call `work` in `count` threads that start together, wait for all of them, and raise what any of them raised."""
    together = Barrier(count)

    def start() -> None:
        together.wait()
        work()

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(start) for _ in range(count)]:
            done.result()


def fed_by_threads(feed: Callable[[], object]) -> int:
    """Let threads call `feed` 80 times, and return how many calls were taken. The others may raise RuntimeError."""
    results: list[str] = []

    def work() -> None:
        for _ in range(20):
            try:
                feed()
                results.append("taken")
            except RuntimeError:
                results.append("refused")

    in_threads(4, work)
    assert len(results) == 80
    return results.count("taken")


def thread_statuses(pid: int | str = "self") -> dict[Path, str]:
    """Return the entry of each thread of a process in /proc, and its `status`, except for threads that just end."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[task] = (task / "status").read_text()
    return found
