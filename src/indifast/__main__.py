"""`python -m indifast` is the command `indifast`."""

from __future__ import annotations

import sys

from indifast.cli import main

sys.exit(main())
