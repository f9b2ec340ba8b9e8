"""`python -m indifast` is the command `indifast`."""

from __future__ import annotations

import sys

try:
    from indifast.cli.main import run

    status = run()
except KeyboardInterrupt:  # before `run` could take care of it
    status = 130
sys.exit(status)
