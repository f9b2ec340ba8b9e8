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


def text(value: int) -> bytes:
    return bytes([value]) * 1000


def arrived(spares: list[bytes], value: int) -> bytes:
    arrival = Arrival(1000, spares)
    memoryview(arrival)[:] = text(value)
    return arrival.finish()


def test_the_memory_of_what_nobody_has_is_used_again() -> None:
    spares: list[bytes] = [text(1), text(2)[:-1], text(3)]
    second, place = spares[1], id(spares[2])
    first = spares[0]
    made = arrived(spares, 4)
    assert id(made) == place and made == text(4)
    assert spares == [first, second] and first == text(1), "those that somebody has stay as they are"
    assert arrived(spares, 5) == text(5) and len(spares) == 2, "nothing fits"


def test_what_is_only_looked_at_stays_as_it_is() -> None:
    spares = [text(1)]
    view = memoryview(spares[0])[5:]
    assert arrived(spares, 2) == text(2)
    assert view == text(1)[5:] and spares == [text(1)]
    view.release()
    place = id(spares[0])
    assert id(arrived(spares, 2)) == place and spares == []


def test_bytes_whose_memory_is_used_again_have_another_hash() -> None:
    spares = [text(1)]
    hash(spares[0])
    place = id(spares[0])
    made = arrived(spares, 2)
    assert id(made) == place and hash(made) == hash(text(2)) and made in {text(2)}


def test_only_bytes_are_spare() -> None:
    with pytest.raises(TypeError):
        Arrival(5, [bytearray(5)])  # type: ignore[list-item]
