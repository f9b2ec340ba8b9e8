"""The one way in: bytes and descriptors become messages, in order, and what does not is told as data."""

from __future__ import annotations

import gc
import os
from base64 import b64encode

import pytest

from indifast._parser import Element
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable, opened
from indifast.transport import incoming, shm
from indifast.transport.blobs import BlobMessage
from indifast.transport.shm import BlobTooLarge, DescriptorError
from tests.transport.support import Told, open_fds

SMALL = "<setTextVector device='Cam' name='{}' state='Ok'><oneText name='m'>x</oneText></setTextVector>"
ATTACHED = (
    "<setBLOBVector device='Cam' name='{}'><oneBLOB name='m' size='4' format='.x' attached='true'/></setBLOBVector>"
)
INLINE = f"<setBLOBVector device='Cam' name='{{}}'><oneBLOB name='m' size='4' format='.x'>{b64encode(b'here').decode()}"
INLINE += "</oneBLOB></setBLOBVector>"
UNFINISHED = "<setTextVector device='Cam' name='half'><oneText name='m'>"


def memory(content: bytes) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def read(told: Told, text: str, *fds: int) -> list[Routable]:
    return list(told.reader.read(text.encode(), 0, len(text), fds))


def content(message: Routable) -> list[bytes | None]:
    return [member.data for member in opened(message).members]


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_messages_come_in_order_and_what_carries_nothing_is_what_the_tokenizer_gave(relay: bool) -> None:
    before = open_fds()
    told = Told(relay=relay)
    text = SMALL.format("a") + ATTACHED.format("b") + SMALL.format("c") + INLINE.format("d") + SMALL.format("e")
    messages = read(told, text, memory(b"file"))
    assert [message.name for message in messages] == list("abcde")
    assert [type(message) for message in messages[::2]] == [Element] * 3
    assert all(opened(message) is message for message in messages[::2])
    assert isinstance(messages[1], BlobMessage) and content(messages[1]) == [b"file"]
    assert type(messages[3]) is (BlobMessage if relay else Element) and content(messages[3]) == [b"here"]
    only = told.reader.read((SMALL.format("a") * 3).encode(), 0, 3 * len(SMALL.format("a")), [])
    assert [type(message) for message in only] == [Element] * 3
    assert told.skips == [] and told.refusals == []
    del messages
    gc.collect()
    assert open_fds() == before


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_content_that_is_not_taken_costs_its_own_message(relay: bool) -> None:
    before = open_fds()
    told = Told(Limits(blob=1000), relay=relay)
    fd = memory(b"")
    os.ftruncate(fd, 5000)
    large = ATTACHED.format("large").replace("size='4'", "size='5000'")
    short = ATTACHED.format("short").replace("size='4'", "size='900'")
    text = SMALL.format("a") + large + SMALL.format("b") + short + ATTACHED.format("c") + ATTACHED.format("missing")
    messages = read(told, text + SMALL.format("d"), fd, memory(b"only so much"), memory(b"file"))
    assert [message.name for message in messages] == list("abcd")
    assert [(name, type(error)) for name, error in told.refusals] == [
        ("large", BlobTooLarge),
        ("short", DescriptorError),
        ("missing", DescriptorError),
    ]
    told.reader.close()
    del messages
    gc.collect()
    assert open_fds() == before


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_a_connection_without_descriptors_refuses_what_should_have_some(relay: bool) -> None:
    told = Told(relay=relay)
    empty = ATTACHED.format("empty").replace("size='4'", "size='0'")
    assert [message.name for message in read(told, ATTACHED.format("a") + SMALL.format("b") + empty)] == ["b", "empty"]
    assert [(name, "carries no descriptors" in str(error)) for name, error in told.refusals] == [("a", True)]


def test_descriptors_that_nobody_announces_are_bounded_and_what_comes_with_them_is_read() -> None:
    before = open_fds()
    told = Told()
    fds = [memory(b"x") for _ in range(shm.MAX_WAITING + 1)]
    assert [message.name for message in read(told, SMALL.format("a"), *fds)] == ["a"]
    assert [str(error) for error in told.floods] == ["more than 256 descriptors without the BLOBs they belong to"]
    assert open_fds() == before


def test_an_unfinished_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: 5000)
    told = Told()
    read(told, UNFINISHED)
    assert 0 < told.reader.held < 1000 and told.outgrowths == []
    assert read(told, "x" * 10_000) == []
    ((held, most),) = told.outgrowths
    assert held > 10_000 and most == 5000 and told.reader.held == 0
    assert told.skips == ["abandoned"]
    assert [message.name for message in read(told, "</oneText></setTextVector>" + SMALL.format("a"))] == ["a"]


class Clock:
    """The time, as the reader sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(incoming.time, "monotonic", lambda: self.now)

    def fire(self, told: Told) -> None:
        """Let the time pass for which the reader's timer is set."""
        timer = told.timers[-1]
        assert not timer.cancelled
        self.now += timer.delay
        timer.fire()


def test_what_is_not_finished_in_time_is_told_until_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(monkeypatch), Told(Limits(stall=60.0))
    read(told, SMALL.format("a"))
    assert told.timers == [], "nothing to wait for"
    read(told, UNFINISHED)
    clock.now += 40
    read(told, "more")
    assert [timer.delay for timer in told.timers] == [60.0], "one is enough, however often something comes"
    clock.now -= 40
    clock.fire(told)
    assert told.stalls == [] and told.timers[-1].delay == 40.0
    clock.fire(told)
    clock.fire(told)
    assert told.stalls == [told.reader.held] * 2
    assert told.reader.abandon() > 0 and told.skips == ["abandoned"]
    clock.fire(told)
    assert len(told.stalls) == 2 and len(told.timers) == 4, "watched no longer"


def test_the_peer_is_not_blamed_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(monkeypatch), Told(Limits(stall=60.0))
    told.reader.pause()
    read(told, UNFINISHED)
    for _ in range(3):
        clock.fire(told)
    assert told.stalls == []
    clock.now += 30
    told.reader.resume()
    clock.now -= 30
    clock.fire(told)
    assert told.stalls == [] and told.timers[-1].delay == 30.0
    clock.fire(told)
    assert len(told.stalls) == 1


def test_an_owner_may_end_what_has_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(monkeypatch), Told()
    monkeypatch.setattr(told, "stalled", lambda held: told.reader.close())
    read(told, UNFINISHED)
    clock.fire(told)
    assert told.skips == ["truncated"] and len(told.timers) == 1


def test_the_end_of_the_stream_is_the_end_of_all_that_waits() -> None:
    before = open_fds()
    told = Told()
    read(told, ATTACHED.format("half")[:-20], memory(b"file"))
    told.reader.close()
    assert told.skips == ["truncated"] and told.reader.held == 0
    assert [timer.cancelled for timer in told.timers] == [True]
    told.reader.close()
    assert told.skips == ["truncated"]
    assert open_fds() == before


def test_all_owners_have_the_same_limits() -> None:
    limits = Limits(partial_memory=0.5)
    assert incoming.most_unfinished(limits) == 2 * incoming.most_unfinished(DEFAULT_LIMITS)
    assert incoming.most_unfinished(Limits(partial_memory=0.0)) == 1 << 20
