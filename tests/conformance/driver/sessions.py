"""Records all implementations in all ways of running, and finds where indifast differs from a release."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.conformance.driver import inputs
from tests.conformance.driver.runner import PROGRAMS, Record, Subject, run, run_all
from tests.support.blackbox import PYTHON, Child, python_environment

RELEASES = ("3.1.2", "2.2.0", "1.2.2")
ENVIRONMENTS = {"3.1.2": "d31", "2.2.0": "d22", "1.2.2": "d12"}
MODES = {"3.1.2": ("stdio", "server"), "2.2.0": ("stdio", "listen", "server"), "1.2.2": ("stdio", "listen", "server")}

STEPS: dict[str, list[tuple[str, bytes | None]]] = {
    "sends": [(name, None) for name in inputs.SENDS],
    "receives": list(inputs.RECEIVES),
    "snoops": list(inputs.SNOOPS),
    "enable": list(inputs.ENABLE_BLOB),
}

OURS = Path(__file__).parent / "ours.json"
KEPT: dict[str, dict[str, dict[str, list[str]]]] = json.loads(OURS.read_text()) if OURS.exists() else {}
"""Program -> step -> way of running -> what indifast does, for all steps in which it differs from a release."""


class Case(NamedTuple):
    """A release in one way of running, with which indifast is compared."""

    release: str
    mode: str

    @property
    def style(self) -> str:
        return "old" if self.release == "1.2.2" else "modern"

    @property
    def ours(self) -> str:
        return f"{self.style} {self.mode}"

    @property
    def title(self) -> str:
        return f"{self.release} {self.mode}"


def modes(program: str, release: str) -> tuple[str, ...]:
    if program == "api":
        return ("plain",)
    if program == "snoops":
        return tuple(mode for mode in MODES[release] if mode != "listen")
    return MODES[release]


def records_of(program: str, peers: dict[str, str]) -> dict[tuple[str, str, str], Record]:
    """Run everything. Return the records by implementation, style and mode."""
    wanted = {("indifast", "modern", "listen")} if program not in ("api", "snoops") else set()
    for release in RELEASES:
        style = "old" if release == "1.2.2" else "modern"
        for mode in modes(program, release):
            wanted |= {(release, style, mode), ("indifast", style, mode)}

    def job(implementation: str, style: str, mode: str):  # type: ignore[no-untyped-def]
        environment = ENVIRONMENTS.get(implementation)
        python = str(peers[environment]) if environment else PYTHON
        if program == "api":
            return lambda: ask(implementation, style, python)
        script = "receives" if program == "enable" else program
        steps = [step for step in STEPS[program] if mode == "stdio" or not _stdio_only(step)]
        return lambda: run(Subject(implementation, style, mode), python, script, steps)

    return {tuple(key): record for key, record in run_all({Subject(*key): job(*key) for key in sorted(wanted)}).items()}  # type: ignore[misc]


def _stdio_only(step: tuple[str, bytes | None]) -> bool:
    """Return whether a step needs stdio: 2.2.0 is silent after an Only, and a server hides the end of its driver."""
    return step[0] == "shut_down" or b"Only" in (step[1] or b"")


def ask(implementation: str, style: str, python: str) -> Record:
    """Return the answers of `api.py`."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        log = Path(name) / "log"
        log.touch()
        settings = {"CONFORMANCE_LOG": str(log), "CONFORMANCE_STYLE": style}
        script = str(PROGRAMS / "api.py")
        if implementation == "indifast":
            argv, env = [PYTHON, "-m", "indifast.dropin", script], python_environment(**settings)
        else:
            argv, env = [python, script], {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", **settings}
        with Child(argv, Path(name), env=env) as child:
            status = child.wait()
            record: Record = {"exit status": [str(status)]}
            step = ""
            for line in log.read_text().splitlines():
                entry = json.loads(line)
                if "question" in entry:
                    step = entry["question"]
                    record[step] = []
                elif "result" in entry:
                    record[step].append(json.dumps(entry["result"]))
                elif (logged := f"logged {entry['logged']}") not in record[step]:
                    record[step].append(logged)
            if status:
                print(child.stderr[-2000:])
            return record


def compare(
    program: str, records: dict[tuple[str, str, str], Record]
) -> list[tuple[Case, str, list[str], list[str], set[str]]]:
    """Return for every case and step: the case, the step, ours, theirs, and the releases with which ours agrees."""
    found = []
    for release in RELEASES:
        for mode in modes(program, release):
            case = Case(release, mode)
            theirs = records[release, case.style, mode]
            ours = records["indifast", case.style, mode]
            for step in theirs:
                mine, other = ordered(program, step, ours.get(step, ["missing"])), ordered(program, step, theirs[step])
                agreeing = {
                    peer
                    for (peer, _, _), record in records.items()
                    if peer != "indifast" and ordered(program, step, record.get(step, [])) == mine
                }
                found.append((case, step, mine, other, agreeing))
    return found


def ordered(program: str, step: str, lines: list[str]) -> list[str]:
    """Return the part of an outcome that is compared, in an order that does not depend on chance.

    The definitions of a driver come in any order, because vectors are served concurrently. Refused input is logged only
    once for each kind, so whether a step logs something depends on earlier steps.
    """
    if program not in ("sends", "api"):
        lines = [line for line in lines if not line.startswith("logged ")]
    return sorted(lines) if step == "begin" else lines
