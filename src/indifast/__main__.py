"""Entry point of `python -m indifast`, which runs the `indifast` command."""

from __future__ import annotations

import sys

try:
    from indifast.cli.main import run

    status = run()
except KeyboardInterrupt:  # before `run` was able to handle it
    status = 130
sys.exit(status)
