"""The figures of a run, and the report made from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Amounts = dict[str, int]
"""Descriptors, threads and bytes of memory of a process."""


@dataclass
class Figures:
    """What one round has done."""

    loop: str
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    recovery: float = 0.0
    """The longest time from the end of a fault until everything was checked and well, in seconds."""
    messages: int = 0
    frames: int = 0
    nbytes: int = 0
    announced: int = 0
    unannounced: int = 0
    reconnections: int = 0
    commands: int = 0
    exposures: int = 0
    recorded: int = 0
    restarts: int = 0
    """Drivers that were started again."""
    log_bytes: int = 0
    stop_seconds: float = 0.0
    first: dict[str, Amounts] = field(default_factory=dict)
    """What each process used before the first fault,"""
    most: dict[str, Amounts] = field(default_factory=dict)
    """the most that it used after the recovery from one,"""
    last: dict[str, Amounts] = field(default_factory=dict)
    """and what it used after the last one."""


def in_words(report: dict[str, Any]) -> str:
    """Return the report as text."""
    rounds: list[dict[str, Any]] = report["rounds"]
    faults: Counter[str] = Counter()
    for one in rounds:
        faults.update(one["faults"])

    def total(key: str) -> int:
        return int(sum(one[key] for one in rounds))

    def longest(key: str) -> float:
        return max((float(one[key]) for one in rounds), default=0.0)

    lines = [
        f"seed {report['seed']}, {report['seconds']:.0f} s, Python {report['python']},"
        f" {report['processors']} processors",
        f"{len(rounds)} rounds ({', '.join(one['loop'] for one in rounds)}), {faults.total()} faults:",
        *(f"{count:6d}  {name}" for name, count in sorted(faults.items())),
        *(f"     -  {name} (not possible here)" for name in sorted(report["skipped"])),
        f"frames that clients received: {total('frames')} ({total('nbytes') / 1e6:.0f} MB), in recordings:"
        f" {total('recorded')}",
        f"frames dropped for slow clients and announced: {total('announced')}, lost for want of descriptors or memory:"
        f" {total('unannounced')}",
        f"definitions and updates that clients received: {total('messages')}, commands: {total('commands')},"
        f" exposures: {total('exposures')}",
        f"reconnections: {total('reconnections')}, drivers started again: {total('restarts')},"
        f" logs: {total('log_bytes') / 1e3:.0f} kB",
        f"longest recovery: {longest('recovery'):.1f} s, longest stop: {longest('stop_seconds'):.1f} s",
        "",
        f"{'most in a round, at first -> later':36s}{'descriptors':>14s}{'threads':>14s}{'MiB':>14s}",
        *(_process(name, rounds) for name in sorted({name for one in rounds for name in one["most"]})),
        "",
        f"FAILED: {report['failure']}" if report["failure"] else "all was well",
    ]
    return "\n".join(lines) + "\n"


def _process(name: str, rounds: list[dict[str, Any]]) -> str:
    words = []
    for kind in ("descriptors", "threads", "memory"):
        scale = 1 << 20 if kind == "memory" else 1
        first, most = (
            max((one[when][name][kind] for one in rounds if name in one[when]), default=0) // scale
            for when in ("first", "most")
        )
        words.append(f"{f'{first} -> {most}':>14s}")
    return f"  {name:34s}{''.join(words)}"
