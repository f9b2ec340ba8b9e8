"""The fuzz targets without a fuzzer: all inputs that are kept, and a number of mutations of them, always the same.

How to find new inputs: fuzzing/README.md.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fuzzing import native, targets
from fuzzing.corpus import inputs
from fuzzing.mutate import mutations, words

SEED = 1
MUTATIONS = {
    "tokenizer": 5000,
    "codec": 6000,
    "recording": 3000,
    "fifo": 8000,
    "options": 2500,
    "client": 2500,
    "driver": 4000,
    "server": 900,
}
"""How many for each target: some five seconds' worth."""
NATIVE_MUTATIONS = 20_000


def run_all(run: Callable[[bytes], None], named: Iterable[tuple[str, bytes]]) -> None:
    """Run a target with inputs; a failure shows which."""
    for name, data in named:
        try:
            run(data)
        except BaseException as error:
            error.add_note(f"input: {name}: {data!r}")
            raise


@pytest.mark.parametrize("target", targets.NAMES)
def test_inputs_that_are_kept(target: str) -> None:
    files = list(inputs(target))
    assert len(files) > 5
    run_all(targets.load(target), ((path.name, path.read_bytes()) for path in files))


@pytest.mark.parametrize("target", targets.NAMES)
def test_mutations(target: str) -> None:
    seeds = [path.read_bytes() for path in inputs(target)]
    made = mutations(seeds, MUTATIONS[target], SEED)
    run_all(targets.load(target), ((f"mutation {number}", data) for number, data in enumerate(made)))


@pytest.mark.parametrize("target", native.SOURCES)
def test_native_targets(target: str, tmp_path: Path) -> None:
    program = native.build_replay(target, tmp_path)
    files = [str(path) for name in (target, native.sibling(target)) for path in inputs(name)]
    for number, word in enumerate(words()):  # pieces for mutations, and inputs like any others
        path = tmp_path / f"word-{number}"
        path.write_bytes(word)
        files.append(str(path))
    command = [str(program), f"-mutations={NATIVE_MUTATIONS}", f"-seed={SEED}", *files]
    done = subprocess.run(command, capture_output=True, text=True, env=native.environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(files)} inputs, {NATIVE_MUTATIONS} mutations\n"


def test_mutations_are_the_same_for_the_same_seed() -> None:
    seeds = [b"<message/>", b"abc"]
    assert list(mutations(seeds, 50, 3)) == list(mutations(seeds, 50, 3)) != list(mutations(seeds, 50, 4))
    assert b"\xf0\x94\x85\x82" in words() and b"setBLOBVector" in words()
