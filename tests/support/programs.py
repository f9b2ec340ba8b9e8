"""Programs that a test writes into a folder."""

from __future__ import annotations

import sys
from pathlib import Path


def executable(path: Path, text: str) -> Path:
    """Write an executable file, for example a script for the shell."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def python_program(path: Path, code: str, *options: str) -> Path:
    """Write a program in Python, which runs in this interpreter with these options."""
    return executable(path, f"#!{' '.join([sys.executable, *options])}\n{code}")
