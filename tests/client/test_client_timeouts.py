"""The list of vectors that have not answered yet."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indifast.client.timeouts import Timeouts


class Vector:
    devicename = "D"
    timeout = 1.0

    def __init__(self, number: int) -> None:
        self.name = f"V{number}"


@pytest.mark.parametrize("enabled", [False, True])
def test_vectors_that_have_answered_are_released(enabled: bool) -> None:
    settings = SimpleNamespace(timeout_enable=enabled, vector_timeout_min=2.0, vector_timeout_max=10.0)
    timeouts = Timeouts(cast(Any, settings), cast(Any, None), cast(Any, None), Counter())
    timeouts._alarm = cast(Any, SimpleNamespace(set_for=lambda due: None, armed=False))
    silent = Vector(0)
    expected = timeouts.expect(silent)
    vectors = []
    for number in range(1, 2000):
        vector = Vector(number)
        vectors.append(weakref.ref(vector))
        timeouts.expect(vector).over = True
    del vector
    gc.collect()
    assert sum(each() is not None for each in vectors) < 200
    assert expected in timeouts._pending.values(), "this one has not answered yet"
