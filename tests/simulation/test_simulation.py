"""More than a hundred runs with fixed seeds. `make simulation SECONDS=600` runs others; a failure names its seed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from indifast.routing.link import Link
from tests.simulation import faults
from tests.simulation.checkers import Checker
from tests.simulation.report import Failure, find, run_seed
from tests.simulation.script import SITES, make, parse_steps, write_steps
from tests.simulation.shrink import run, shrink
from tests.simulation.site import Site, open_files

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 8
RUNS = 104
ON_EACH_SITE = 4


@pytest.mark.parametrize("first", range(0, RUNS, AT_ONCE))
def test_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        run_seed(seed, shrinking=30.0)


@pytest.mark.parametrize("shape", [shape for shape in SITES if shape != "one server"])
def test_all_invariants_hold_on_every_kind_of_site(shape: str) -> None:
    for seed in range(1000, 1000 + ON_EACH_SITE):
        run_seed(seed, shape=shape, shrinking=30.0)


WAY = """
import sys
from tests.simulation.script import make
from tests.simulation.shrink import run
print([run(make(seed)).digest for seed in map(int, sys.argv[1:])])
"""


def test_a_seed_goes_the_same_way_in_every_process() -> None:
    """Otherwise a failure could not be seen again."""
    seeds = range(500, 510)
    environment = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    command = [sys.executable, "-c", WAY, *map(str, seeds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"{[run_seed(seed, shrinking=30.0).digest for seed in seeds]}\n"


def test_a_failure_is_made_small_and_can_be_repeated() -> None:
    fault = faults.fault("a gone device stays")
    found = find(fault)
    assert found is not None
    with fault.planted():
        with pytest.raises(Failure) as raised:
            run_seed(found.seed, shape=fault.shape, theme=fault.theme, shrinking=20.0)
        text = str(raised.value)
        command = shlex.split(text.rpartition("Again: python -m tests.simulation ")[2])
        options = dict(zip(command[::2], command[1::2], strict=True))
        script = make(int(options["--seed"]), options["--shape"], options["--theme"])
        steps = parse_steps(options["--steps"], len(script.steps))
        assert len(steps) < 15
        again = run(script, steps).violation
        assert again is not None and text.startswith(str(again))
    assert run(script, steps).violation is None


def test_an_error_in_a_checker_leaves_nothing_behind() -> None:
    class Broken(Checker):
        def quiet(self) -> None:
            raise ZeroDivisionError

    descriptors, site = open_files(), Site(make(7))
    site.checkers.append(Broken(site))
    with pytest.raises(ZeroDivisionError):
        site.run()
    assert site.loop.is_closed()
    assert site._left(descriptors) is None


def test_a_driver_whose_server_is_gone_forges_nothing() -> None:
    site = Site(make(7))
    driver = next(iter(site.drivers.values()))
    driver.link = mock.create_autospec(Link, instance=True)  # it has not noticed yet
    driver.do_forge("Nobody", "B0", "def")
    assert not driver.link.mock_calls
    site._clean_up(orderly=True)


def test_shrinking_finds_the_steps_that_matter() -> None:
    script = make(7)

    def runner(_: object, steps: object) -> object:
        broken = {3, 11, 17} <= set(steps)  # type: ignore[call-overload]
        violation = type("Violation", (), {"invariant": "X"})() if broken else None
        return type("Outcome", (), {"violation": violation})()

    assert shrink(script, "X", runner=runner) == [3, 11, 17]  # type: ignore[arg-type]


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2, 7], [3, 5, 7], list(range(20))])
def test_steps_are_written_as_they_are_read(numbers: list[int]) -> None:
    assert parse_steps(write_steps(numbers), 20) == numbers
    assert parse_steps("17-", 20) == [17, 18, 19]
