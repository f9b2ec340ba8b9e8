"""Mutations without coverage: the same ones for the same seed, on every machine, with nothing to install."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from fuzzing.corpus import HOME

LONGEST = 4096

_ENTRY = re.compile(r'^"(.*)"$', re.MULTILINE)


def words() -> list[bytes]:
    """Return the words of the dictionary that libFuzzer uses, too."""
    found = _ENTRY.findall((HOME / "indi.dict").read_text(encoding="ascii"))
    return [word.encode("ascii").decode("unicode_escape").encode("latin-1") for word in found]


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield inputs made of others.

    Args:
        seeds: Inputs to start from.
        count: How many to make.
        seed: Of the random numbers.
    """
    rng = random.Random(seed)
    known = words()
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
            _change(data, rng, known, seeds)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, rng: random.Random, known: Sequence[bytes], seeds: Sequence[bytes]) -> None:
    """Change one place."""
    at = rng.randint(0, len(data))
    match rng.randrange(8):
        case 0:  # another byte
            data[at : at + 1] = rng.randbytes(1)
        case 1:  # some bytes less
            del data[at : at + rng.randint(1, 20)]
        case 2:  # a piece twice
            data[at:at] = data[at : at + rng.randint(1, 100)]
        case 3:  # a word
            data[at:at] = rng.choice(known)
        case 4:  # a word in the place of others
            word = rng.choice(known)
            data[at : at + len(word)] = word
        case 5:  # a bit
            if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
        case 6:  # a piece of another input
            other = rng.choice(seeds)
            start = rng.randint(0, len(other))
            data[at:at] = other[start : start + rng.randint(1, 200)]
        case _:  # a piece elsewhere
            piece = data[at : at + rng.randint(1, 50)]
            to = rng.randint(0, len(data))
            data[to:to] = piece
