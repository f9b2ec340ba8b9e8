"""Write `docs/explanation/performance.md`, its plots and the README's figures from stored results.

python -m benchmarks.page [--results benchmarks/results] [--page docs/explanation/performance.md] [--readme README.md]
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers, report
from benchmarks.catalogue import load, results_in
from benchmarks.results import CPP, KERNEL, OURS, OURS_UVLOOP, PYTHON_PEER, Plot, Result
from indifast.transport.senders import MOST, SMALLEST

ROOT = peers.HERE.parent
RESULTS = peers.HERE / "results"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
BEGIN, END = "<!-- figures: written by python -m benchmarks.page -->\n", "<!-- end of figures -->\n"

INTRODUCTION = """\
# Performance

A program writes this page from the figures stored in `benchmarks/results`. To measure everything again and rewrite it:

```sh
make performance
```

This runs `python -m benchmarks.everything` and `python -m benchmarks.page`. Links take as long again, and
have a command of their own: `make performance-links`.

How to read the tables:

* A figure is the median of the runs listed below its table. The contenders take turns, and each round begins with a
  different one.
* An indifast server in a process of its own runs on indifast's event loop. Drivers, clients, and servers within a
  driver's process run on asyncio's. The column “{uvloop}” is the same code on uvloop's loop; no goal is about it.
* “failed” is a contender with a wrong or missing byte, a lost client or no answer, in any run. “-” was not measured.
* The receivers compare every byte of every frame within the timed runs, at the same cost for every contender. A
  contender for which that made fewer than 100 frames ran on until it had them.
* “{cpp}” is the server that Debian packages; the next table has its version. libindi's current version is 2.2.
* indifast is not meant to beat a C++ program in two things: the time until a server answers for the first time, as an
  interpreter has to start before it, and the memory of a server or client that is idle, as Python's objects are larger.
"""


CORES = """\
What limits a server that sends frames to many clients is the copy of each frame into the kernel, once per client. One
thread makes one copy at a time. So threads write what is large (at least {smallest} KiB at once), and the event loop
reads, scans and routes the next frame meanwhile. The threads run no Python code. `--senders N` of `indifast serve` and
`senders=N` of `IPyServer` say how many there may be. By default, there are as many as cores that the process may use,
at most {most}; with a single core, the loop writes everything.

Where this ends:

* A client's frames are written by one thread at a time, in order. With one client, only reading and writing overlap.
* One thread, that of the event loop, reads and scans. It does so once per frame, however many clients there are.
* Clients on the same machine need cores, too: those that look at what they receive need more of them than the server.
  They come first: the threads have a lower priority than the server itself (5 levels of `nice`). Otherwise frames would
  wait in full sockets and leave the processors' caches, and 50 clients that read on two cores would get half as much.
  Where all cores are busy with something else, such as stacking pictures, each thread gets a third of what a busy
  program gets, also for clients on other machines; `--senders 0` gives frames the priority of the server. Where the
  system shares processor time between sessions or services first, all this holds only within the server's own.
* Memory has a limit of its own, which a few cores reach.
* Small messages, BLOBs as descriptors, connections with TLS and pipes are written by the loop.

`python -m benchmarks.scaling` measures by the number of cores, with clients that cost nearly nothing.
"""


def tables(results: Sequence[Result]) -> str:
    """Return all tables, for `results.md`."""
    return "\n".join(report.section(result) for result in results)


def _span(values: Sequence[float]) -> str:
    """Return the common value as text, or the range of the values."""
    return " to ".join(f"{value:g}" for value in sorted({min(values), max(values)}))


def whole(results: Sequence[Result], plots: dict[str, Sequence[Plot]]) -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION.format(uvloop=OURS_UVLOOP, cpp=CPP),
        "## The machine",
        _machine(results),
        "## The goals",
        summary(results),
        "## Several cores",
        CORES.format(smallest=SMALLEST >> 10, most=MOST),
    ]
    for result in results:
        parts.append(report.section(result).rstrip())
        parts += [f"![{plot.caption}](performance/{plot.file})" for plot in plots.get(result.name, ())]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _machine(results: Sequence[Result]) -> str:
    """Return a table of facts about the machine. Where results differ, it has all their values."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.machine.items():
            values.setdefault(name, {})[value] = None
    facts = [(name, "; ".join(several)) for name, several in values.items()]
    dates = sorted(result.date for result in results)
    if dates:
        facts.append(
            ("measured", dates[0][:10] if dates[0][:10] == dates[-1][:10] else f"{dates[0][:10]} to {dates[-1][:10]}")
        )
    return report.machine_table(facts)


def summary(results: Sequence[Result]) -> str:
    """Return how many goals are met, and a table of those that are not."""
    goals = [goal for result in results for goal in result.goals]
    missed = [goal for goal in goals if goal.met is False]
    text = f"{sum(goal.met is True for goal in goals)} of {len(goals)} goals are met."
    if unknown := sum(goal.met is None for goal in goals):
        text += f" {unknown} could not be judged, because a peer was not measured or failed."
    if missed:
        text += " Not met:\n\n" + report.goals_table(missed)
    return text


README_ROWS = {
    ("relay", "with enclen"): "a driver's frames to one client, MB/s on the wire",
    ("relay", "without enclen"): "the same, as Python drivers send them (without `enclen`)",
    ("fanout", "10 clients, all together"): "to 10 clients, all together",
    ("stack", "TCP, 1 client, read"): "Python driver, server and client, MB/s of content",
    ("upload", "upload, client to driver"): "a client's frames to a driver, MB/s of content",
    ("latency", "command, Busy, Ok, median"): "a command, answered by Busy and Ok, µs",
    ("flood", "updates to 1 client"): "small updates to one client, per second",
}
"""Rows that the README shows, by program and title, and their titles there."""


def readme_figures(results: Sequence[Result]) -> str:
    """Return the README's table; empty if there is nothing to show."""
    rows = [
        (text, row)
        for (name, title), text in README_ROWS.items()
        for result in results
        for row in result.rows
        if (result.name, row.title) == (name, title)
    ]
    if not rows:
        return ""
    columns = (OURS, CPP, PYTHON_PEER, KERNEL)
    table = report.table(["", *columns], [[text, *(row.shown(name) for name in columns)] for text, row in rows])
    shown = [result for result in results if any(name == result.name for name, _ in README_ROWS)]
    runs, seconds = (_span([result.settings[key] for result in shown]) for key in ("runs", "seconds"))
    machine = results[0].machine["machine"]
    return (
        f"Frames of 4 MiB and small messages on {machine}; medians of {runs} runs of {seconds} s,\n"
        f"with the contenders taking turns and every byte of every frame compared:\n\n{table}\n\n"
        "“failed”: a client or a byte was lost. “no server”: a C program that only sends. For all figures, goals\n"
        f"and curves, and how they are measured, see [performance]({ADDRESS}/blob/main/{PAGE.relative_to(ROOT)}).\n"
    )


def with_figures(readme: str, results: Sequence[Result]) -> str:
    """Return the README with the figures of these results in their place; unchanged if there are none."""
    before, begin, after_begin = readme.partition(BEGIN)
    _, end, after = after_begin.partition(END)
    figures = readme_figures(results)
    return before + begin + figures + end + after if figures and end else readme


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with JSON files (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    parser.add_argument(
        "--readme", type=Path, help="README whose figures to replace (default: the project's if the results are)"
    )
    given = parser.parse_args(arguments)
    results = results_in(given.results)
    if not results:
        parser.error(f"no results in {given.results}: run python -m benchmarks.everything --results {given.results}")
    pictures = given.page.parent / "performance"
    plots: dict[str, Sequence[Plot]] = {}
    for result in results:
        draw = load(result.name).draw
        if draw is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            plots[result.name] = draw(result, pictures)
    given.page.write_text(whole(results, plots))
    readme = given.readme or (ROOT / "README.md" if given.results.resolve() == RESULTS else None)
    if readme is not None:
        readme.write_text(with_figures(readme.read_text(), results))
    print(given.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
