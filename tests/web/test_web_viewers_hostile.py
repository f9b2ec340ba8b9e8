"""Viewers of live frames who do what no browser does: it harms nobody else, and is not remembered."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import Any

import pytest

from indifast.web import direct, viewing
from indifast.web.bounds import LIVE_AHEAD, NOTES
from indifast.web.frames import Kept
from indifast.web.views import NoView, view_of
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually, turns
from tests.web.test_web_viewers import LARGE, Seat, answer_late, crowds, looking, masked, run

pytestmark = pytest.mark.xdist_group("web")

__all__ = ["crowds"]


def viewings(monkeypatch: pytest.MonkeyPatch) -> list[viewing.Viewing]:
    """Return a list of all that is made from now on for viewers to share."""
    known: list[viewing.Viewing] = []
    made = viewing.Viewing.__init__

    def note(self: viewing.Viewing, *given: Any) -> None:
        made(self, *given)
        known.append(self)

    monkeypatch.setattr(viewing.Viewing, "__init__", note)
    return known


def test_numbers_that_are_too_large_are_refused() -> None:
    for key in ("region", "stretch"):
        with pytest.raises(NoView, match=f"`{key}` must be a list of numbers"):
            view_of({key: [10**400, 0, 1, 1][: 4 if key == "region" else 3]})


@pytest.mark.usefixtures("crowds")
def test_a_fault_ends_one_websocket_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = viewing._short_request

    def fail(text: bytes) -> Any:
        if text == b"fail":
            raise ZeroDivisionError
        return read(text)

    monkeypatch.setattr(viewing, "_short_request", fail)

    async def talk() -> None:
        async with looking() as (driver, port):
            seats = [await Seat.taken(port) for _ in range(30)]
            for at, seat in enumerate(seats):  # all within one turn of the page
                if at % 3 == 0:
                    seat.say("fail")
                else:
                    seat.ask()
            await driver.take()
            for at, seat in enumerate(seats):
                if at % 3 == 0:
                    assert await seat.ended() == b""
                else:
                    await seat.frame()

    with caplog.at_level(logging.ERROR, "indifast.web"):
        run(talk())
    assert [each.message for each in caplog.records] == ["a fault of this program has ended a WebSocket"] * 10


@pytest.mark.usefixtures("crowds")
def test_one_who_was_cut_off_is_not_listened_to_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would take a view that nobody gives back: after a few of them, no one else could have one."""
    known = viewings(monkeypatch)

    async def flood() -> None:
        async with looking(1920, 1080) as (driver, port):
            seat = await Seat.taken(port, small=True)
            seat.ask(LIVE_AHEAD, LARGE)
            await driver.take()
            await seat.reader.readexactly(1000)
            seat.say(b"", 9)  # from now on, it is listened to more carefully
            with contextlib.suppress(ConnectionError):
                for at in range(NOTES // 1000):
                    complaints = masked(b"{") * 12  # of each, it is told what is wrong with it
                    seat.writer.write(complaints + masked(b'{"view":{"region":[%d,0,8,8]}}' % (at % 2)))
                    await seat.writer.drain()
                await seat.ended()
            seat.leave()
            await eventually(lambda: not known[0]._shares._all)
            await turns()
            assert not known[0]._channels and not known[0]._views._all

    run(flood())


def test_frames_are_not_kept_for_those_who_ask_for_no_more() -> None:
    """The frame itself may have a hundred megabytes, and a page that nobody looks at asks for none."""

    gc.collect()
    others = sum(isinstance(each, Kept) for each in gc.get_objects())  # which other tests have left

    async def look() -> None:
        async with looking() as (driver, port):
            seats, staying = [], await Seat.taken(port)
            staying.ask(LIVE_AHEAD)
            for _ in range(10):
                seats.append(await Seat.taken(port))
                seats[-1].ask()
                await seats[-1].frame()
                before, _ = await staying.frame()
                staying.ask()
                await driver.take()
            gc.collect()
            assert before >= 10
            assert sum(isinstance(each, Kept) for each in gc.get_objects()) <= others + 3
            for each in (*seats, staying):
                each.leave()

    run(look())


@pytest.mark.usefixtures("crowds")
def test_one_who_reads_slowly_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the rest of a long frame, a ping would arrive too late to be answered in time."""
    monkeypatch.setattr(direct, "_SWEEP", 0.02)
    sweeps = 0
    check = direct.Direct.check

    def note(self: direct.Direct, now: float) -> None:
        nonlocal sweeps
        sweeps += 1
        check(self, now)

    monkeypatch.setattr(direct.Direct, "check", note)

    async def look() -> None:
        nonlocal sweeps
        async with looking(1920, 1080) as (driver, port):
            seat = await Seat.taken(port, small=True)
            seat.ask(1, LARGE)
            await driver.take()
            await seat.reader.readexactly(1000)
            monkeypatch.setattr(direct, "_PING", 0.05)
            sweeps = 0
            await eventually(lambda: sweeps > 20)
            monkeypatch.setattr(direct, "_PING", 20.0)
            assert (await read_to_end(seat)).endswith(b"\xff\xd9")
            seat.leave()

    run(look())


def test_it_may_be_said_twice_that_the_program_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    known = viewings(monkeypatch)

    async def stop() -> None:
        async with looking() as (_, port):
            seat = await Seat.taken(port)
            seat.ask()
            await seat.frame()
            known[0].close()
            known[0].close()
            assert (await seat.hear())[0] == 8

    run(stop())


@pytest.mark.usefixtures("crowds")
def test_slow_viewers_hold_no_more_frames_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is stuck in a frame of its own. Those who are furthest behind make room."""

    async def look() -> None:
        async with looking(1920, 1080) as (driver, port):
            seats, other = [], await Seat.taken(port)
            other.ask(1, LARGE)
            size = len((await other.frame())[1])
            monkeypatch.setattr(viewing, "HELD", 10 * size)
            for _ in range(30):
                seats.append(await Seat.taken(port, small=True))
                seats[-1].ask(1, LARGE)
                other.ask()
                await driver.take()
                await other.frame()
                await seats[-1].reader.readexactly(1000)
            whole = 0
            for seat in seats:
                whole += (await read_to_end(seat)).endswith(b"\xff\xd9")
            assert 5 <= whole <= 20, "the kernel and asyncio hold more, some of each frame"
            other.leave()

    run(look())


@pytest.mark.parametrize(("early", "code"), [(b"\x81\x02{}", 1002), (masked(b"x" * 5000), 1009)])
def test_what_comes_before_the_answer_is_understood_after_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, early: bytes, code: int
) -> None:
    asked, may = answer_late(monkeypatch)

    async def talk() -> None:
        async with looking() as (_, port):
            seat = await Seat.asking(port)
            await asked.wait()
            seat.say(b"x", 9)
            seat.writer.write(early)
            await turns(100)
            may.set()
            assert (await seat.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await seat.hear() == (10, b"x")
            opcode, content = await seat.hear()
            assert (opcode, int.from_bytes(content[:2], "big")) == (8, code)
            assert await seat.ended() == b""

    with caplog.at_level(logging.ERROR):
        run(talk())
    assert not caplog.records


@pytest.mark.usefixtures("crowds")
def test_one_who_pings_without_end_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = 0
    hear = direct.Direct._hear_odd

    def note(self: direct.Direct, data: bytes) -> None:
        nonlocal heard
        heard += 1
        hear(self, data)

    monkeypatch.setattr(direct.Direct, "_hear_odd", note)
    monkeypatch.setattr(direct, "_SWEEP", 1e6)  # who waits, waits to the end of the test
    monkeypatch.setattr(viewing, "LIVE_REQUESTS_PER_SECOND", 50)

    async def flood() -> None:
        async with looking() as (driver, port):
            seat, other = await Seat.taken(port), await Seat.taken(port)
            seat.writer.write(masked(b"", 9) * 1000)
            await eventually(lambda: heard >= 50)
            for _ in range(10):
                other.ask()
                await driver.take()
                await other.frame()
            assert heard < 50 + 256 // 6 + 1, "no more than one piece was read after that"
            for each in (seat, other):
                each.leave()

    run(flood())


@pytest.mark.usefixtures("crowds")
def test_others_have_their_turn_while_all_are_asked_for_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_AT_ONCE", 10)
    asked = most = 0
    note = direct.Direct.note

    def count(self: direct.Direct, frame: bytes) -> None:
        nonlocal asked
        asked += 1
        note(self, frame)

    monkeypatch.setattr(direct.Direct, "note", count)

    async def look() -> None:
        nonlocal most
        async with looking() as (_, port):
            seats = [await Seat.taken(port) for _ in range(100)]
            monkeypatch.setattr(direct, "_PING", 0.0)
            while asked < len(seats):
                before = asked
                await asyncio.sleep(0)
                most = max(most, asked - before)
            assert most <= 10
            for each in seats:
                each.leave()

    run(look())


async def read_to_end(seat: Seat) -> bytes:
    """Return what arrives last: the rest of a picture, unless the viewer was cut off."""
    last = b""
    async with asyncio.timeout(LIMIT):
        with contextlib.suppress(ConnectionError):
            while not last.endswith(b"\xff\xd9") and (data := await seat.reader.read(1 << 16)):
                last = last[-1:] + data
    return last
