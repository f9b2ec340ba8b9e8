"""How bytes and descriptors become messages, in order. What does not become one is reported to the owner."""

from __future__ import annotations

import os
from base64 import b64encode

import pytest

from indifast._parser import Element
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable, opened
from indifast.transport import incoming
from indifast.transport.blobs import BlobMessage
from indifast.transport.descriptors import MAX_WAITING
from indifast.transport.shm import BlobTooLarge, DescriptorError
from tests.transport.support import ReaderLog, memory_file

SMALL = "<setTextVector device='Cam' name='{}' state='Ok'><oneText name='m'>x</oneText></setTextVector>"
ATTACHED = (
    "<setBLOBVector device='Cam' name='{}'><oneBLOB name='m' size='4' format='.x' attached='true'/></setBLOBVector>"
)
INLINE = f"<setBLOBVector device='Cam' name='{{}}'><oneBLOB name='m' size='4' format='.x'>{b64encode(b'here').decode()}"
INLINE += "</oneBLOB></setBLOBVector>"
UNFINISHED = "<setTextVector device='Cam' name='half'><oneText name='m'>"

pytestmark = pytest.mark.usefixtures("no_fd_left_open")


def read(log: ReaderLog, text: str, *fds: int) -> list[Routable]:
    return list(log.reader.read(text.encode(), 0, len(text), fds))


def content(message: Routable) -> list[bytes | None]:
    return [member.data for member in opened(message).members]


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_messages_stay_in_order_and_those_without_content_are_the_tokenizers_elements(relay: bool) -> None:
    log = ReaderLog(relay=relay)
    text = SMALL.format("a") + ATTACHED.format("b") + SMALL.format("c") + INLINE.format("d") + SMALL.format("e")
    messages = read(log, text, memory_file(b"file"))
    assert [message.name for message in messages] == list("abcde")
    assert [type(message) for message in messages[::2]] == [Element] * 3
    assert all(opened(message) is message for message in messages[::2])
    assert isinstance(messages[1], BlobMessage) and content(messages[1]) == [b"file"]
    assert type(messages[3]) is (BlobMessage if relay else Element) and content(messages[3]) == [b"here"]
    only = log.reader.read((SMALL.format("a") * 3).encode(), 0, 3 * len(SMALL.format("a")), [])
    assert [type(message) for message in only] == [Element] * 3
    assert log.skips == [] and log.refusals == []


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_refused_content_costs_only_its_own_message(relay: bool) -> None:
    log = ReaderLog(Limits(blob=1000), relay=relay)
    fd = memory_file(b"")
    os.ftruncate(fd, 5000)
    large = ATTACHED.format("large").replace("size='4'", "size='5000'")
    short = ATTACHED.format("short").replace("size='4'", "size='900'")
    text = SMALL.format("a") + large + SMALL.format("b") + short + ATTACHED.format("c") + ATTACHED.format("missing")
    messages = read(log, text + SMALL.format("d"), fd, memory_file(b"too short"), memory_file(b"file"))
    assert [message.name for message in messages] == list("abcd")
    assert [(name, type(error)) for name, error in log.refusals] == [
        ("large", BlobTooLarge),
        ("short", DescriptorError),
        ("missing", DescriptorError),
    ]
    log.reader.close()


@pytest.mark.parametrize("relay", [False, True], ids=["reads", "relays"])
def test_a_connection_without_descriptors_refuses_messages_that_announce_some(relay: bool) -> None:
    log = ReaderLog(relay=relay)
    empty = ATTACHED.format("empty").replace("size='4'", "size='0'")
    assert [message.name for message in read(log, ATTACHED.format("a") + SMALL.format("b") + empty)] == ["b", "empty"]
    assert [(name, "carries no descriptors" in str(error)) for name, error in log.refusals] == [("a", True)]


def test_unannounced_descriptors_are_bounded_and_messages_with_them_are_read() -> None:
    log = ReaderLog()
    fds = [memory_file(b"x") for _ in range(MAX_WAITING + 1)]
    assert [message.name for message in read(log, SMALL.format("a"), *fds)] == ["a"]
    assert [str(error) for error in log.floods] == ["more than 256 descriptors without the BLOBs they belong to"]


def test_an_unfinished_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: 5000)
    log = ReaderLog()
    read(log, UNFINISHED)
    assert 0 < log.reader.held < 1000 and log.outgrowths == []
    assert read(log, "x" * 10_000) == []
    ((held, most),) = log.outgrowths
    assert held > 10_000 and most == 5000 and log.reader.held == 0
    assert log.skips == ["abandoned"]
    assert [message.name for message in read(log, "</oneText></setTextVector>" + SMALL.format("a"))] == ["a"]


class Clock:
    """The clock that the reader uses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(incoming.time, "monotonic", lambda: self.now)

    def fire(self, log: ReaderLog) -> None:
        """Let time pass until the reader's timer fires."""
        timer = log.timers[-1]
        assert not timer.cancelled
        self.now += timer.delay
        timer.fire()


def test_a_message_not_finished_in_time_is_reported_until_it_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), ReaderLog(Limits(stall=60.0))
    read(log, SMALL.format("a"))
    assert log.timers == [], "nothing is unfinished"
    read(log, UNFINISHED)
    clock.now += 40
    read(log, "more")
    assert [timer.delay for timer in log.timers] == [60.0], "one timer is enough, however often data arrives"
    clock.now -= 40
    clock.fire(log)
    assert log.stalls == [] and log.timers[-1].delay == 40.0
    clock.fire(log)
    clock.fire(log)
    assert log.stalls == [log.reader.held] * 2
    assert log.reader.abandon() > 0 and log.skips == ["abandoned"]
    clock.fire(log)
    assert len(log.stalls) == 2 and len(log.timers) == 4, "no longer watched"


def test_the_peer_is_not_blamed_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), ReaderLog(Limits(stall=60.0))
    log.reader.pause()
    read(log, UNFINISHED)
    for _ in range(3):
        clock.fire(log)
    assert log.stalls == []
    clock.now += 30
    log.reader.resume()
    clock.now -= 30
    clock.fire(log)
    assert log.stalls == [] and log.timers[-1].delay == 30.0
    clock.fire(log)
    assert len(log.stalls) == 1


def test_the_owner_may_close_a_stalled_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), ReaderLog()
    monkeypatch.setattr(log, "stalled", lambda held: log.reader.close())
    read(log, UNFINISHED)
    clock.fire(log)
    assert log.skips == ["truncated"] and len(log.timers) == 1


def test_the_end_of_the_stream_discards_everything_that_waits() -> None:
    log = ReaderLog()
    read(log, ATTACHED.format("half")[:-20], memory_file(b"file"))
    log.reader.close()
    assert log.skips == ["truncated"] and log.reader.held == 0
    assert [timer.cancelled for timer in log.timers] == [True]
    log.reader.close()
    assert log.skips == ["truncated"]


def test_all_owners_have_the_same_limits() -> None:
    limits = Limits(partial_memory=0.5)
    assert incoming.most_unfinished(limits) == 2 * incoming.most_unfinished(DEFAULT_LIMITS)
    assert incoming.most_unfinished(Limits(partial_memory=0.0)) == 1 << 20
