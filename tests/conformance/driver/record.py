"""Prints where indifast differs from the releases, and stores what it does there. Read what it prints.

python -m tests.conformance.driver.record [PROGRAM...]
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from pathlib import Path

from tests.conformance.driver import sessions
from tests.conformance.driver.differences import DIFFERENCES

PEERS = Path(os.environ.get("INDIFAST_PEERS", ".venv-peers"))


def main() -> None:
    kept: dict[str, dict[str, dict[str, list[str]]]] = dict(sessions.KEPT)
    for program in sys.argv[1:] or [*sessions.STEPS, "api"]:
        kept[program] = {}
        peers = {name: str(PEERS / name / "bin" / "python") for name in sessions.ENVIRONMENTS.values()}
        for case, step, ours, theirs, agreeing in sessions.compare(program, sessions.records_of(program, peers)):
            if ours == theirs:
                continue
            kept[program].setdefault(step, {})[case.ours] = ours
            reason = DIFFERENCES.get((program, step, case.release))
            print(f"{program}: {step} [{case.title}] {reason or '-- not declared --'} (agrees with {sorted(agreeing)})")
            if reason is None:
                for line in difflib.ndiff(theirs, ours):
                    if line[0] in "+-":
                        print("   ", line[:400])
    sessions.OURS.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
