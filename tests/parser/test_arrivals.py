"""Memory that becomes bytes: nobody can change these."""

from __future__ import annotations

import sys

import pytest

from indifast._parser import Arrival


def test_what_was_written_becomes_bytes() -> None:
    arrival = Arrival(5)
    assert len(arrival) == arrival.size == 5
    with memoryview(arrival) as view:
        assert not view.readonly
        view[:2], view[2:] = b"ab", b"cde"
    made = arrival.finish()
    assert made == b"abcde" and type(made) is bytes
    assert sys.getrefcount(made) == 2, "nobody else has it"


def test_it_stays_memory_while_somebody_could_write() -> None:
    arrival = Arrival(3)
    view = memoryview(arrival)
    part = view[1:]
    view.release()
    with pytest.raises(BufferError, match="still written to"):
        arrival.finish()
    part[:] = b"yz"
    part.release()
    memoryview(arrival)[0] = ord("x")
    assert arrival.finish() == b"xyz"


def test_bytes_are_not_written_to() -> None:
    arrival = Arrival(3)
    arrival.finish()
    with pytest.raises(BufferError, match="has become bytes"):
        memoryview(arrival)
    with pytest.raises(BufferError, match="has become bytes"):
        arrival.finish()


@pytest.mark.parametrize("size", [0, -1])
def test_there_is_something(size: int) -> None:
    with pytest.raises(ValueError, match="something that arrives"):
        Arrival(size)


def test_too_much() -> None:
    with pytest.raises(MemoryError):
        Arrival(1 << 62)
