"""All who wait are told, although one of them fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from indifast.protocol.callbacks import call_all
from indifast.protocol.complaints import BURST, Complaints


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_each_is_called_in_order_and_each_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []
    wrong, scarce = ZeroDivisionError("here"), MemoryError()
    call_all(
        [lambda: called.append(1), failing(wrong), lambda: called.append(2), failing(scarce), lambda: called.append(3)],
        0.0,
    )
    assert called == [1, 2, 3]
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [wrong, scarce]


def test_they_are_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    call_all([failing(ZeroDivisionError())] * (2 * BURST), 0.0)
    assert len(caplog.records) == BURST


def test_who_ends_the_program_ends_it() -> None:
    with pytest.raises(SystemExit):
        call_all([failing(SystemExit())], 0.0)


def test_without_memory_for_the_line_the_others_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Complaints, "say", lambda *words, **more: failing(MemoryError())())
    called: list[int] = []
    call_all([failing(ZeroDivisionError()), lambda: called.append(1)], 0.0)
    assert called == [1]
