"""The file of a recording: what was written is read, even if the file is cut short, damaged or malicious."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import zlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.protocol import wire
from indifast.protocol.limits import Limits
from indifast.recording import Direction, Party, Record, Recorder, Recording, RecordingError, summarize
from indifast.recording.fileformat import Head, head_line, parse_head
from tests.recording.support import DEFINITION, PICTURE, angle, as_text, elements, picture, write
from tests.support.blackbox import until
from tests.support.waiting import eventually


def read(path: Path, limits: Limits | None = None) -> tuple[list[Record], Recording]:
    with Recording(str(path), limits or Limits()) as recording:
        return list(recording), recording


def messages(records: list[Record]) -> list[tuple[str, str, bytes]]:
    """Return the direction, label and bytes of each message."""
    return [
        (record.head.direction.value, record.head.label, b"".join(record.message.parts(False)))
        for record in records
        if record.message is not None
    ]


# What was written is read

_texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=40)
_members = st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), _texts, min_size=1, max_size=5)
_parties = st.sampled_from([Party.DRIVER, Party.CLIENT, Party.REMOTE])
_records = st.lists(
    st.tuples(st.sampled_from([Direction.FROM, Direction.TO]), _parties, _texts, _texts.filter(bool), _members)
)


@settings(deadline=None, max_examples=60)
@given(_records)
def test_what_is_recorded_is_read(tmp_path_factory: pytest.TempPathFactory, records: list) -> None:
    path = tmp_path_factory.mktemp("round") / "trip"
    recorder = Recorder(str(path), source="a -- test", blobs=False)
    sent = []
    for direction, party, label, device, members in records:
        content = "".join(wire.text_element("oneText", {"name": name}, text) for name, text in members.items())
        message = wire.vector("setTextVector", {"device": device, "name": "NOTES"}, content)
        recorder.put(direction, party, label, message)
        sent.append((direction, party, message))
    recorder.close()
    found, recording = read(path)
    assert recording.title.source == "a -- test"
    assert recording.cut is None and not recording.skipped
    assert len(found) == len(sent)
    for record, (direction, party, message) in zip(found, sent, strict=True):
        assert (record.head.direction, record.head.party) == (direction, party)
        assert record.message is not None
        assert record.message.attrs == message.element().attrs
        assert record.message.values() == message.element().values()
    assert [record.seconds for record in found] == sorted(record.seconds for record in found)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
    _parties,
    st.from_regex(r"[a-zé]([a-zé .:-]{0,20}[a-z])?", fullmatch=True).filter(lambda label: "--" not in label),
)
def test_a_head_is_read_as_it_was_written(time: datetime, party: Party, label: str) -> None:
    head = Head(time, Direction.FROM, party, label)
    assert parse_head(head_line(head).strip()[4:-3]) == head


@given(st.text(st.sampled_from("-->\n\r\0<!x \x85\ud800")))
def test_no_label_ends_the_comment(label: str) -> None:
    line = head_line(Head(datetime(2026, 1, 1), Direction.FROM, Party.CLIENT, label))
    assert line.count(b"\n") == 1 and line.endswith(b" -->\n")
    assert b"--" not in line[4:-4]
    assert parse_head(line.strip()[4:-3]).party is Party.CLIENT


def test_small_and_large_blobs_are_read_as_they_were_written(tmp_path: Path) -> None:
    noise = random.Random(1)
    blobs = [b"x", bytes(100_000), noise.randbytes(3_000_000), noise.randbytes(12_000_000), b"end"]

    async def record() -> Recorder:
        recorder = write(tmp_path / "blobs", [PICTURE], close=False)
        for content in blobs:
            recorder.put(Direction.FROM, Party.DRIVER, "dome", picture(content, encoded=False))
            recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(angle(len(content)))[0])
        await eventually(lambda: not recorder._runs)  # large ones are encoded in a thread
        recorder.close()
        return recorder

    recorder = asyncio.run(record())
    assert (recorder.frames, recorder.left_out) == (len(blobs), 0)
    records, recording = read(tmp_path / "blobs")
    assert recording.cut is None
    got = [record.message for record in records if record.message is not None]
    assert [message.tag for message in got] == ["defBLOBVector"] + ["setBLOBVector", "setNumberVector"] * len(blobs)
    assert [message.members[0].data for message in got if message.blob] == blobs
    assert recorder.written_bytes == (tmp_path / "blobs").stat().st_size


def test_sizes_are_known_without_the_blobs(tmp_path: Path) -> None:
    write(tmp_path / "small", [PICTURE, picture(bytes(1000))], blobs=False)
    records, _ = read(tmp_path / "small")
    assert records[-1].message is not None
    assert records[-1].message.attached == 1
    summary = summarize(str(tmp_path / "small"))
    found = summary.devices["Dome"]["PICTURE"]
    assert (found.frames, found.frames_without_content, summary.blobs) == (0, 1, False)


def test_blobs_are_left_out_and_counted_if_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indifast.recording.writer.FLUSH", 3600.0)  # as if the disk were busy
    recorder = Recorder(str(tmp_path / "slow"), source="a test", blobs=True, max_waiting=400_000)
    for number in range(10):
        recorder.put(Direction.FROM, Party.DRIVER, "dome", picture(bytes([number]) * 60_000))
        recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(angle(number))[0])
    recorder.close()
    records, _ = read(tmp_path / "slow")
    frames = [one.message for one in records if one.message and one.message.blob and not one.message.attached]
    assert 0 < len(frames) < 10
    assert recorder.left_out == 10 - len(frames)
    assert sum(record.message is not None for record in records) == 20, "nothing but BLOBs is left out"
    assert any(
        record.head.direction is Direction.NOTE and str(recorder.left_out) in record.head.label for record in records
    )


def test_a_flood_of_messages_is_limited_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indifast.recording.writer.FLUSH", 3600.0)
    recorder = Recorder(str(tmp_path / "flood"), source="a test", blobs=True, max_waiting=20_000)
    for number in range(1000):
        recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(angle(number))[0])
    assert recorder.waiting < 50_000
    recorder.close()
    records, recording = read(tmp_path / "flood")
    assert recording.cut is None
    assert recorder.messages == sum(record.message is not None for record in records)
    assert recorder.messages + recorder.missed == 1000
    assert f"{recorder.missed} are missing" in records[-1].head.label


def test_the_file_is_text_that_can_be_edited(tmp_path: Path) -> None:
    write(tmp_path / "plain.gz", [DEFINITION, angle(5)])
    text = as_text(tmp_path / "plain.gz")
    (tmp_path / "plain.xml").write_bytes(text.replace(b">\n5", b">\n7"))  # an edited file
    records, recording = read(tmp_path / "plain.xml")
    assert recording.cut is None
    assert records[-1].message is not None
    assert records[-1].message.values() == {"AZ": "7"} or b"7" in messages(records)[-1][2]


def test_messages_are_soon_in_the_file(tmp_path: Path) -> None:
    recorder = write(tmp_path / "live", [DEFINITION], close=False)
    until(lambda: len(messages(read(tmp_path / "live")[0])) == 1)
    assert read(tmp_path / "live")[1].cut is not None
    recorder.close()
    assert read(tmp_path / "live")[1].cut is None


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    with pytest.raises(FileExistsError):
        Recorder(str(tmp_path / "there"), source="", blobs=False)
    assert (tmp_path / "there").read_text() == "precious"


def test_a_full_disk_ends_the_recording_but_not_the_program(tmp_path: Path) -> None:
    errors: list[OSError] = []
    with pytest.raises(OSError):
        Recorder("/dev/full", source="", blobs=False)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    recorder = Recorder(str(tmp_path / "pipe"), source="", blobs=False, on_error=errors.append)
    os.close(reader)  # now nothing more can be written
    recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(DEFINITION)[0])
    until(lambda: errors)
    recorder.put(Direction.FROM, Party.DRIVER, "dome", elements(DEFINITION)[0])
    recorder.close()
    assert recorder.error is errors[0]
    assert errors[0].filename == str(tmp_path / "pipe")


# Files that are cut short

_SHORT = [DEFINITION, angle(1), PICTURE, picture(bytes(range(256)) * 2), angle(2), angle(3, "Ok")]


def test_a_file_that_was_cut_short_is_read_up_to_the_cut(tmp_path: Path) -> None:
    write(tmp_path / "whole", _SHORT)
    data = (tmp_path / "whole").read_bytes()
    everything = messages(read(tmp_path / "whole")[0])
    assert len(everything) == len(_SHORT)
    before = 0
    for length in range(len(data)):
        path = tmp_path / "cut"
        path.write_bytes(data[:length])
        try:
            records, recording = read(path)
        except RecordingError as error:
            assert "cut short" in str(error)
            assert before == 0, "only if the title is missing"
            continue
        found = messages(records)
        assert found == everything[: len(found)]
        assert len(found) >= before, "a longer file has no fewer messages"
        before = len(found)
        if not recording.ended:
            assert recording.cut is not None and "cut short" in recording.cut
    assert before == len(everything)


def test_zeros_at_the_end_after_a_crash_are_not_damage(tmp_path: Path) -> None:
    write(tmp_path / "zeros", _SHORT)
    data = (tmp_path / "zeros").read_bytes()
    (tmp_path / "zeros").write_bytes(data + bytes(5000))
    assert len(messages(read(tmp_path / "zeros")[0])) == len(_SHORT)


# Damaged, foreign and malicious files


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"SIMPLE  =   T" * 500,
        b"<setNumberVector/>",
        gzip.compress(b"hello", mtime=0),
        b"\x1f\x8bhello",
        bytes(range(256)) * 20,
        gzip.compress(b"<!-- indifast recording 2 {} -->", mtime=0),
        b"<!-- indifast recording 1 [] -->",
        b"<!-- x" * 9000,
    ],
)
def test_other_files_are_refused_with_a_message_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(RecordingError, match=r"foreign (is|holds)") as raised:
        read(tmp_path / "foreign")
    assert "\n" not in str(raised.value)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_damage_is_reported_or_adds_nothing(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("damage") / "damaged"
    write(path, _SHORT)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit  # the length of the file varies
    path.write_bytes(content)
    try:
        records, _ = read(path)
    except RecordingError as error:
        assert "\n" not in str(error)
    else:
        assert len(messages(records)) <= len(_SHORT)


def test_records_before_the_damage_are_read(tmp_path: Path) -> None:
    write(tmp_path / "good", _SHORT)
    text = as_text(tmp_path / "good")
    third = [at for at in range(len(text)) if text.startswith(b"<!-- ", at)][3]
    (tmp_path / "bad").write_bytes(gzip.compress(text[:third] + b"<!-- nonsense -->" + text[third:]))
    with Recording(str(tmp_path / "bad")) as recording, pytest.raises(RecordingError, match="damaged"):
        found = []
        for record in recording:
            found.append(record)
    assert len(found) == 2
    assert "damaged" in (summarize(str(tmp_path / "bad")).damage or "")


def _malicious(tmp_path: Path, *pieces: bytes) -> Path:
    """Write a recording that continues with these pieces."""
    write(tmp_path / "start", [DEFINITION])
    text = as_text(tmp_path / "start")
    end = text.rindex(b"<!--")
    path = tmp_path / "malicious"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(text[:end])
        for piece in pieces:
            file.write(piece)
        file.write(text[end:])
    return path


_HEAD = b"<!-- 2026-11-21T20:15:00.000000 from driver x -->\n"


@pytest.mark.parametrize(
    ("begin", "filler", "end"),
    [
        (b'<message message="', b"A" * (1 << 20), b'"/>'),
        (b'<setTextVector device="a" name="b"><oneText name="c">', b"A" * (1 << 20), b"</oneText></setTextVector>"),
        (b'<setTextVector device="a" name="b">', b'<oneText name="c">d</oneText>' * 30_000, b"</setTextVector>"),
        (b'<setBLOBVector device="a" name="b"><oneBLOB name="c">', b"QUJD" * (1 << 18), b"</oneBLOB></setBLOBVector>"),
        (b"", b"<a>" * 300_000, b""),
        (b"", bytes(1 << 20), b""),
    ],
    ids=["attribute", "text", "members", "blob", "depth", "junk"],
)
def test_messages_beyond_the_limits_are_left_out_and_take_no_memory(
    tmp_path: Path, begin: bytes, filler: bytes, end: bytes
) -> None:
    path = _malicious(tmp_path, _HEAD + begin, *[filler] * 40, end + b"\n", _HEAD + angle(9).encode())
    held = 0
    found = []
    with Recording(str(path), Limits(element=1 << 20, blob=1 << 20)) as recording:
        for records in recording.batches():
            found += records
            held = max(held, recording._tokenizer.held)
    assert held < 4 << 20
    assert recording.skipped == 1
    assert [record.message.tag for record in found if record.message] == ["defNumberVector", "setNumberVector"]


def test_an_endless_comment_counts_as_damage(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="does not end"):
        read(_malicious(tmp_path, b"<!-- ", *[b"A" * (1 << 20)] * 100))


def test_a_decompression_bomb_is_read_in_small_chunks(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(300):
        bomb.write(deflate.compress(bytes(1 << 20)))
    bomb.write(deflate.flush())
    write(tmp_path / "bomb", [DEFINITION])
    data = gzip.compress(as_text(tmp_path / "bomb"))
    with open(tmp_path / "bomb", "wb") as file:
        file.write(data + bomb.getvalue())
    largest = 0
    with Recording(str(tmp_path / "bomb")) as recording:
        for chunk in recording._chunks:
            largest = max(largest, len(chunk))
    assert largest <= 256 << 10


def test_times_never_run_backwards(tmp_path: Path) -> None:
    early = head_line(Head(datetime(1999, 1, 1), Direction.FROM, Party.DRIVER, "x"))
    later = head_line(Head(datetime(2100, 1, 1), Direction.FROM, Party.DRIVER, "x"))
    pieces = [head + angle(1).encode() + b"\n" for head in (later, early)]
    records, _ = read(_malicious(tmp_path, *pieces))
    seconds = [record.seconds for record in records]
    assert seconds == sorted(seconds)
    assert seconds[-1] > timedelta(days=365).total_seconds()
