"""Machines that vanish without a word: real servers, links and clients on a switch whose cables are pulled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.network import Unavailable, namespace
from indifast.transport.alive import NOTICED_WITHIN
from tests.support.blackbox import PYTHON, SLOWNESS, Child, python_environment, until
from tests.support.machines import Machine, Switch

PROGRAM = Path(__file__).parent / "programs" / "machines.py"
SLACK = 30 * SLOWNESS
"""Seconds that a busy machine may add. The kernel itself would need a quarter of an hour."""
BACK_WITHIN = 12
"""Seconds: the longest pause between two attempts, and the longest between two packets of an attempt."""

LINKS = ["Remote Idle@10.78.0.2:7624", "Remote Busy@10.78.0.2:7624"]
CLIENTS = ["Idle client", "Busy client"]


@pytest.fixture
def switch() -> Iterator[Switch]:
    try:
        with namespace():
            pass
    except Unavailable as why:
        pytest.skip(f"no network namespaces here: {why}")
    with Switch() as made:
        yield made


class Program(Child):
    """One of the programs; see there."""

    def __init__(self, role: str, machine: Machine, other: Machine, folder: Path) -> None:
        words = [*machine.enter, PYTHON, PROGRAM, role, machine.host, other.host]
        super().__init__(words, folder, env=python_environment())

    def times(self, text: str) -> list[float]:
        """Return the times of the lines with a text."""
        return [float(time) for time in re.findall(rf"^([\d.]+) .*{text}", self.stderr, re.MULTILINE)]

    def until_said(self, texts: list[str], since: float) -> list[float]:
        """Wait until each of the texts was logged after a time. Return how many seconds later that was for each."""

        def late(text: str) -> list[float]:
            return [time - since for time in self.times(text) if time >= since]

        try:
            until(lambda: all(map(late, texts)), what="all of the texts")
        except TimeoutError:
            raise TimeoutError(f"{[t for t in texts if not late(t)]} missing since {since}:\n{self.stderr}") from None
        return [late(text)[0] for text in texts]


def pull_the_cable(near: Machine, far: Machine) -> Callable[[], None]:
    """Cut the network, and return what mends it."""
    far.unplug()
    return far.plug


def take_the_own_address(near: Machine, far: Machine) -> Callable[[], None]:
    """Do the same on our side, where the kernel knows that nothing can be sent."""
    near.take_address()
    return near.give_address


@pytest.mark.parametrize("cut", [pull_the_cable, take_the_own_address])
def test_a_network_that_is_gone_is_noticed_on_both_sides_and_used_again(
    switch: Switch, tmp_path: Path, cut: Callable[[Machine, Machine], Callable[[], None]]
) -> None:
    near, far = switch.machine(1), switch.machine(2)
    with Program("near", near, far, tmp_path) as ours, Program("far", far, near, tmp_path) as theirs:
        started(ours)
        cut_at = time.monotonic()
        mend = cut(near, far)
        noticed(ours, cut_at)
        until(lambda: len(theirs.times("shut down complete")) == 4, what="the end of all clients of the far server")
        assert max(theirs.times("shut down complete")) - cut_at < NOTICED_WITHIN + SLACK
        mended_at = time.monotonic()
        mend()
        back_again(ours, mended_at)


def test_a_machine_that_has_lost_its_power_is_noticed_and_its_successor_used(switch: Switch, tmp_path: Path) -> None:
    near, far = switch.machine(1), switch.machine(2)
    with Program("near", near, far, tmp_path) as ours:
        with Program("far", far, near, tmp_path):
            started(ours)
            cut_at = time.monotonic()
            far.unplug()
        far.end()
        noticed(ours, cut_at)
        far = switch.machine(2)
        with Program("far", far, near, tmp_path) as successor:
            until(lambda: successor.times("ready"), what="the successor")
            back_again(ours, successor.times("ready")[0])


def started(ours: Program) -> None:
    """Wait until everything is connected, and the client that reads nothing is stalled."""
    ours.until_said([*(f"{link}: connected" for link in LINKS), *(f"{each} made" for each in CLIENTS), "stalled"], 0)


def noticed(ours: Program, since: float) -> None:
    """Check that links and clients were lost in time, and that the server has noticed the same of all its clients."""
    texts = [f"{link}: connection lost" for link in LINKS] + [f"{each} lost" for each in CLIENTS]
    texts += [f"Client 10.78.0.2:{port}: error .*timed out" for port in (5001, 5002, 5003)]
    taken = dict(zip(texts, ours.until_said(texts, since), strict=True))
    assert max(taken.values()) < NOTICED_WITHIN + SLACK, taken


def back_again(ours: Program, since: float) -> None:
    texts = [f"{link}: connected" for link in LINKS] + [f"{each} made" for each in CLIENTS]
    taken = dict(zip(texts, ours.until_said(texts, since), strict=True))
    assert max(taken.values()) < BACK_WITHIN + SLACK, taken
