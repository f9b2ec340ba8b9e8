"""How measurements are written down: a Markdown table for people, JSON for programs."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.baseline import machine_key


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is right-aligned."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_json(path: Path, name: str, settings: dict[str, Any], results: dict[str, Any]) -> None:
    """Store figures with what is needed to judge them: machine, kernel, date and settings."""
    content = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_key(),
        "kernel": platform.release(),
        "settings": settings,
        "results": results,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
