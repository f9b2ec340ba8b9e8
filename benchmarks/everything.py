"""Run the benchmark programs in turn, and store their results.

    python -m benchmarks.everything [--runs 5] [--seconds 5] [--only relay,fanout] [--quick] [--results FOLDER]

There will be one JSON file per program, and `results.md` with the tables of all that are in the folder. Programs that
take long, `links`, run only if they are named.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page, peers
from benchmarks.catalogue import NAMES, load, results_in
from benchmarks.program import settings_of, settings_parser, tell


def wanted(only: Sequence[str] | None) -> list[str]:
    """Return the programs to run, in their order; without names, all that are not `apart`."""
    return [name for name in NAMES if (name in only if only is not None else not load(name).apart)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = settings_parser("python -m benchmarks.everything", __doc__ or "")
    parser.set_defaults(results=peers.BUILD / "results")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,…", help=", ".join(NAMES))
    given = parser.parse_args(arguments)
    names = wanted(given.only)
    if unknown := set(given.only or ()) - set(NAMES):
        parser.error(f"no such program: {', '.join(sorted(unknown))} (known: {', '.join(NAMES)})")
    settings = settings_of(given, {})
    options = ["--runs", str(settings.runs), "--seconds", str(settings.seconds), *(["--quick"] if given.quick else [])]
    folder: Path = given.results.resolve()
    left = {name: load(name).estimate(settings) for name in names}
    failed = []
    start = time.monotonic()
    for number, name in enumerate(names):
        tell(f"\n[{number + 1} of {len(names)}] {name}; about {sum(left.values()) / 60:.0f} min to go")
        command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--results", str(folder)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, cwd=peers.HERE.parent, check=False).returncode:
            failed.append(name)
        del left[name]
    results = results_in(folder)
    told = f"{page.tables(results)}\n## The goals\n\n{page.summary(results)}\n"
    (folder / "results.md").write_text(told)
    print(told, end="")
    tell(f"took {(time.monotonic() - start) / 60:.1f} min; results are in {folder}")
    if failed:
        tell(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
