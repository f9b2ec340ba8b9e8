"""Runs the targets under libFuzzer, one after the other: `python -m fuzzing --seconds 600 tokenizer`.

What is found is kept in build/fuzzing, and the working corpus as well, so that the next run goes on from there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fuzzing import native, targets
from fuzzing.corpus import CORPUS, FAULTS, HOME

ROOT = HOME.parent
EXTENSIONS = ROOT / "build" / "fuzzing-extensions"
"""The extension modules with sanitizers and coverage (`make fuzz` builds them)."""
SANITIZED = ("tokenizer", "codec")
"""The targets that run with them. In the others nearly all is Python, and four times as fast without."""
WORK = ROOT / "build" / "fuzzing"

LONGEST = 4096
"""Bytes of an input at most."""
TIMEOUT = 20
"""Seconds that one input may take at most."""

_SUMMARY = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def command(target: str) -> tuple[list[str], dict[str, str]]:
    """Return how a target is started, and its environment."""
    environment = native.environment()
    environment["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
    if target in native.SOURCES:
        return [str(native.build_fuzzer(target, WORK))], environment
    environment["PYTHONPATH"] = str(ROOT)
    if target in SANITIZED:
        import atheris

        environment |= {
            "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
            "PYTHONPATH": os.pathsep.join([str(EXTENSIONS), str(ROOT)]),
            "PYTHONMALLOC": "malloc",
            # CPython keeps memory at its end. Few frames per allocation and a small quarantine double the speed.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:malloc_context_size=1:quarantine_size_mb=16",
        }
    program = WORK / f"{target}.sh"  # libFuzzer starts itself again for a merge, by the name of a program
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fuzzing.guided "$0" {target} "$@"\n')
    program.chmod(0o755)
    return [str(program)], environment


def folders(target: str) -> list[str]:
    """Return where the inputs of a target are, the one that grows first."""
    growing = WORK / "corpus" / target
    growing.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys((target, native.sibling(target)))
    return [str(growing), *(str(path) for name in names for path in (CORPUS / name, FAULTS / name) if path.is_dir())]


def fuzz(target: str, seconds: int) -> bool:
    """Fuzz a target for so long; print what came of it. False if a fault was found."""
    found = WORK / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    log = WORK / f"{target}.log"
    words, environment = command(target)
    words += [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={TIMEOUT}",
        "-rss_limit_mb=4096",
        f"-dict={HOME / 'indi.dict'}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        *folders(target),
    ]
    with log.open("wb") as output:
        status = subprocess.run(words, env=environment, cwd=ROOT, stdout=output, stderr=output).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    executed, summary = _EXECUTIONS.search(text), _SUMMARY.findall(text)
    coverage, features, kept = summary[-1] if summary else ("?",) * 3
    failed = "" if status == 0 else f": FAILED, see {log} and {found}"
    done = executed[1] if executed else "?"
    print(f"{target}: {done} executions, {coverage} edges, {features} features, {kept} inputs{failed}", flush=True)
    return status == 0


def merge(target: str) -> None:
    """Replace the corpus of a target by few inputs that reach all that it and the working corpus reach.

    What the stored faults reach, and for a native target the corpus of its sibling, is there anyway.
    """
    merged = WORK / "merged" / target
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    sibling = native.sibling(target)
    for folder in {FAULTS / target, FAULTS / sibling, *([CORPUS / sibling] if sibling != target else [])}:
        for path in folder.glob("*"):
            shutil.copy(path, merged)
    given = set(merged.iterdir())
    words, environment = command(target)
    # Without counters: how often an edge is passed would keep ten times as many.
    words += ["-merge=1", "-use_counters=0", f"-max_len={LONGEST}", f"-timeout={TIMEOUT}"]
    words += [str(merged), *folders(target)]
    subprocess.run(words, env=environment, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    kept = sorted(set(merged.iterdir()) - given)
    shutil.rmtree(CORPUS / target, ignore_errors=True)
    (CORPUS / target).mkdir(parents=True)
    for path in kept:
        shutil.copy(path, CORPUS / target)
    print(f"{target}: {len(kept)} inputs, {sum(path.stat().st_size for path in kept)} bytes")


def main() -> int:
    """Read the command line and do what it says."""
    names = (*targets.NAMES, *native.SOURCES)
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description="Fuzz the targets, one after the other.")
    parser.add_argument("target", nargs="*", help=f"one of {', '.join(names)}; all of them if none is given")
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz each target (default 60)")
    parser.add_argument("--merge", action="store_true", help="store the smallest corpus that reaches as much instead")
    given = parser.parse_args()
    for name in given.target:
        if name not in names:
            parser.error(f"there is no target {name}")
    chosen = given.target or names
    if given.merge:
        for name in chosen:
            merge(name)
        return 0
    failed = [name for name in chosen if not fuzz(name, given.seconds)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
