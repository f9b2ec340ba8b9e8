"""Run the simulation: one seed to look at, or one seed after the other for some time."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from functools import partial
from itertools import count

from tests.simulation import trace
from tests.simulation.faults import FAULTS, fault
from tests.simulation.report import Failure, Totals, find_all, run_for, run_seed
from tests.simulation.script import SITES, THEMES, make, parse_steps


def main() -> int:
    """Return the exit status: 0 if all invariants hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed to run, or the first one (default: a random one)")
    parser.add_argument("--steps", help="only these steps of it: 0-5,9,12-")
    parser.add_argument("--shape", choices=SITES, help="a site other than the one that the seed chooses")
    parser.add_argument("--theme", choices=THEMES, help="what happens often, if not what the seed chooses")
    parser.add_argument("--seconds", type=float, help="run seeds from the first one on for so long")
    parser.add_argument(
        "--fault", choices=[each.name for each in FAULTS], help="plant a fault first, where it has shown"
    )
    parser.add_argument("--faults", action="store_true", help="plant one fault after the other, and look for it")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds to make a failure small (default: 60)")
    parser.add_argument("--list", action="store_true", help="show the site and its steps, and run nothing")
    parser.add_argument("--trace", metavar="TEXT", nargs="?", const="", help="show the messages of peers named so")
    arguments = parser.parse_args()
    seed, shape, theme = arguments.seed, arguments.shape, arguments.theme
    planted = None if arguments.fault is None else fault(arguments.fault)
    if planted is not None:
        seed = planted.seed if seed is None else seed
        shape, theme = shape or planted.shape, theme or planted.theme
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 31)
    script = make(seed, shape, theme)
    if arguments.list:
        print(script.describe(), script.listing(range(len(script.steps))), sep="\n")
        return 0
    with contextlib.ExitStack() as stack:
        if planted is not None:
            stack.enter_context(planted.planted())
        if arguments.trace is not None:
            stack.enter_context(trace.shown(arguments.trace))
        try:
            if arguments.faults:
                return 0 if find_all(partial(print, flush=True), first=arguments.seed) else 1
            if arguments.seconds is not None:
                print(f"from seed {seed} on")
                totals = run_for(
                    arguments.seconds,
                    count(seed),
                    partial(print, flush=True),
                    shape=shape,
                    theme=theme,
                    shrinking=arguments.shrink,
                )
            else:
                totals = Totals()
                steps = parse_steps(arguments.steps, len(script.steps)) if arguments.steps is not None else None
                shrinking = 0.0 if arguments.trace is not None else arguments.shrink
                run_seed(seed, shape=shape, theme=theme, steps=steps, totals=totals, shrinking=shrinking)
        except Failure as failure:
            print(failure)
            return 1
    print(f"all invariants hold: {totals}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
