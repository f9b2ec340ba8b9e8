"""Runs one target under atheris: `python -m fuzzing.guided TARGET [options of libFuzzer] [folders of inputs]`.

It is a program of its own, as modules must be instrumented while they are imported. `python -m fuzzing` calls it.
"""

from __future__ import annotations

import logging
import sys

import atheris

from fuzzing import targets


def main() -> None:
    """Instrument the package, then hand over to libFuzzer, which does not return."""
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["indifast"]):
        run = targets.load(name)
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
