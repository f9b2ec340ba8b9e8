"""Runs the test suite with an instrument: `python -m instrumented sanitize`; what follows `--` is for pytest."""

from __future__ import annotations

import argparse
import shutil
import sys

from instrumented import planted, table
from instrumented.tree import Tree

SLOWER = 900
"""Seconds that one test may take."""

_SANITIZERS = {"sanitize": "address,undefined", "tsan": "thread"}


def sanitize(kind: str, words: list[str]) -> int:
    """Run the tests with sanitizers. Any report is a failure, even if the tests pass without the process."""
    tree = Tree(kind)
    tree.update()
    tree.use_interpreter(f"-fsanitize={_SANITIZERS[kind]}")
    tree.build(INDIFAST_SANITIZE=_SANITIZERS[kind])
    if kind == "tsan":
        planted.find(tree, planted.THREAD, "ThreadSanitizer: data race")
    else:
        planted.find(tree, planted.ADDRESS, "AddressSanitizer: heap-buffer-overflow")
    reports = tree.root / "build" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    options = {f"{name}_OPTIONS": f"log_path={reports / name.lower()}" for name in ("ASAN", "TSAN", "UBSAN")}
    options["ASAN_OPTIONS"] += ":verify_asan_link_order=0"  # for the native front, as in interpreter.c
    status = tree.run(*_tests(kind, words), INDIFAST_SANITIZE=_SANITIZERS[kind], **options)
    found = sorted(reports.iterdir())
    for report in found:
        print(f"\n{report.name}\n{report.read_text(errors='replace')}", file=sys.stderr)
    print(f"{kind}: {len(found)} reports")
    return status or bool(found)


def coverage(words: list[str], add: bool) -> int:
    """Run the tests with line tracing, and print what was reached, in this run or in earlier ones too."""
    tree = Tree("coverage")
    tree.update()
    tree.build(INDIFAST_COVERAGE="yes")
    measured = table.Measured(tree)
    status = tree.run(*_tests("coverage", words), **measured.start(add))
    return measured.report() or status


def _tests(kind: str, words: list[str]) -> list[str]:
    always = ["-p", "instrumented.plugin", "--instrument", kind, "--timeout", str(SLOWER), "--dist", "loadgroup"]
    return ["-m", "pytest", *always, *words]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m instrumented", description=__doc__)
    parser.add_argument("kind", choices=[*_SANITIZERS, "coverage"])
    parser.add_argument("--add", action="store_true", help="count what earlier runs of `coverage` have reached, too")
    parser.add_argument("words", nargs="*", metavar="ARGUMENT", help="for pytest, after --")
    arguments = parser.parse_args()
    if arguments.kind == "coverage":
        return coverage(arguments.words, arguments.add)
    return sanitize(arguments.kind, arguments.words)


if __name__ == "__main__":
    sys.exit(main())
