"""Where the inputs of the targets are kept.

`corpus/TARGET` has what a fuzzer found worth keeping, each in a file named after its hash; `faults/TARGET` has one file
for each fault that was ever found, named after the fault. Both are replayed by the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).resolve().parent
CORPUS = HOME / "corpus"
FAULTS = HOME / "faults"


def inputs(target: str) -> Iterator[Path]:
    """Yield the files with inputs of a target, the known faults first, always in the same order."""
    for home in (FAULTS, CORPUS):
        folder = home / target
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def store(target: str, data: bytes) -> Path:
    """Keep an input in the corpus of a target, under its hash, as libFuzzer does."""
    path = CORPUS / target / hashlib.sha1(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
