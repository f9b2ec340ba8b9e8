"""Runs one target under atheris: `python -m fuzzing.guided PROGRAM TARGET [options of libFuzzer] [folders of inputs]`.

It is a program of its own, as modules must be instrumented while they are imported. `python -m fuzzing` starts it, by a
script, PROGRAM, by which libFuzzer can start it again.
"""

from __future__ import annotations

import sys

import atheris

from fuzzing import targets


def main() -> None:
    """Instrument the package, then hand over to libFuzzer, which does not return."""
    program, name, *words = sys.argv[1:]
    with atheris.instrument_imports(include=["indifast"]):
        run = targets.load(name)
    atheris.Setup([program, *words], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
