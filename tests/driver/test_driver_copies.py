"""Copies of vectors and devices, as programs make them of templates."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from indifast import Device, IPyDriver
from tests.driver.support import fence_device, full_driver, listening

COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


def device() -> Device:
    """A device that is not part of a driver."""
    vectors = full_driver()["Dev"].properties()
    for vector in vectors:
        vector.driver = None
    return Device("Dev", vectors)


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_copy_is_a_device_of_its_own(copied: Callable[[Any], Any]) -> None:
    async def run() -> None:
        original = device()
        other = copied(original)
        other["nu"]["n"] = 7
        other["nu"].send_threadsafe({})
        assert original["nu"]["n"] == "1.25"
        assert list(other) == list(original)
        async with listening(IPyDriver(other, fence_device())) as client:
            client.send('<enableBLOB device="Dev">Also</enableBLOB>')
            await client.answers("")
            await other["nu"].send_setVector()
            assert (await client.next("setNumberVector")).values() == {"n": "7"}
            other["bl"]["b1"] = b"x"
            await other["bl"].send_setVectorMembers(members=["b1"])
            await client.next("setBLOBVector")
            assert await asyncio.to_thread(lambda: other["nu"].send_threadsafe({"n": 8}, block=True))
            assert (await client.next("setNumberVector")).values() == {"n": "8"}

    asyncio.run(run())


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_list_of_vectors_is_copied(copied: Callable[[Any], Any]) -> None:
    template = device().properties()
    vectors = copied(template)
    assert [vector.name for vector in vectors] == [vector.name for vector in template]
    assert all(new._frames._send.__self__ is new for new in vectors)
