from __future__ import annotations

from indifast.protocol.backoff import JITTER, pause_after, varied


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_after(failures, 0.25, 30.0) for failures in range(1, 10)] == [
        0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0,
    ]  # fmt: skip
    assert pause_after(100_000, 0.25, 30.0) == 30.0, "any number of failures is allowed"
    assert pause_after(1, 60.0, 30.0) == 30.0, "the limit applies to the first pause too"


def test_pauses_vary_around_the_given_length() -> None:
    pauses = [varied(8.0) for _ in range(1000)]
    assert 8.0 * (1 - JITTER) <= min(pauses) < 8.0 < max(pauses) <= 8.0 * (1 + JITTER)
    assert len(set(pauses)) > 900
