"""The container of recordings: frames are compressed, reading begins anywhere, and a file without its end is read."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.cli.demo.starfield import StarField
from indifast.protocol.limits import Limits
from indifast.recording import Direction, Party, Player, Recording, RecordingError, container, summarize
from indifast.recording.state import Devices, Property
from indifast.routing.link import Demand
from indifast.transport import shm
from indifast.transport.blobs import BlobMessage, routable
from tests.recording.support import DEFINITION, PICTURE, angle, as_text, elements, picture, recorded, write
from tests.support.descriptors import arrived
from tests.support.waiting import eventually

STARS = bytes(StarField(640, 480).frame())
SMALL = STARS[:100_000]


def contents(path: Path) -> list[bytes]:
    """Return the contents of all BLOBs in a recording."""
    with Recording(str(path)) as recording:
        found = [record.message for record in recording]
    assert recording.cut is None and not recording.skipped
    return [member.data for message in found if message is not None for member in message.blobs if member.data]


def headers(path: Path) -> list[tuple[int, container.Header]]:
    """Return the offset and the header of each block."""
    data, found, offset = path.read_bytes(), [], len(container.MAGIC)
    while offset < len(data):
        header = container.parse_header(data[offset : offset + container.HEADER])
        found.append((offset, header))
        offset += container.HEADER + header.length
    assert offset == len(data)
    return found


def kinds(path: Path) -> list[bytes]:
    return [header.kind for _, header in headers(path)]


# Frames


@pytest.mark.parametrize(("methods", "ratio"), [(("lz4", "zstd"), 1.9), (("lz4",), 1.7), (("zstd",), 1.9), ((), 0.9)])
def test_frames_are_compressed_by_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...], ratio: float
) -> None:
    monkeypatch.setattr("indifast.recording.writer.installed", lambda: methods)
    frames = [bytes(StarField(640, 480, seed=seed).frame()) for seed in range(3)]
    write(tmp_path / "r", [PICTURE, *map(picture, frames)])
    assert contents(tmp_path / "r") == frames
    assert (tmp_path / "r").stat().st_size < sum(map(len, frames)) / ratio


def test_it_is_said_that_frames_are_not_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("indifast.recording.writer.installed", lambda: ())
    write(tmp_path / "without", [PICTURE], blobs=False)
    assert not caplog.messages
    write(tmp_path / "with", [PICTURE])
    assert "with: frames are recorded without compression: pip install indifast[compression]" in caplog.text


def test_compressed_frames_cannot_be_read_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "r", [PICTURE, angle(1), picture(STARS)])

    def missing(method: str) -> None:
        raise ImportError(f"{method} is not installed: pip install indifast[compression]")

    monkeypatch.setattr("indifast.compression._load", missing)
    with pytest.raises(
        RecordingError, match=r"r has compressed frames, but zstd is not installed: pip install indifast"
    ):
        contents(tmp_path / "r")
    assert summarize(str(tmp_path / "r")).devices["Dome"]["PICTURE"].blob_bytes == len(STARS), "this reads no frames"


@pytest.mark.parametrize(
    "size", [1, 2, container.PIECE - 1, container.PIECE, container.PIECE + 1, 3 * container.PIECE + 5]
)
def test_frames_of_any_size(tmp_path: Path, size: int) -> None:
    data = (STARS * (size // len(STARS) + 1))[:size]
    write(tmp_path / "r", [PICTURE, picture(data)])
    assert contents(tmp_path / "r") == [data]


def test_a_message_with_several_blobs(tmp_path: Path) -> None:
    members = {"A": STARS[:1000], "B": b"", "C": b"x" * 2_000_000, "D": b"d"}
    text = b"<setBLOBVector device='Dome' name='PICTURE' state='Ok' message='a &lt; b'>"
    blobs = [shm.share(data) for data in members.values() if data]
    for name, data in members.items():
        how = b" attached='true'" if data else b""
        text += b"<oneBLOB name='%b' size='%d' format='.%b'%b/>" % (name.encode(), len(data), name.encode(), how)
    (element,) = elements((text + b"</setBLOBVector>").decode())
    message = routable(element, arrived(*blobs))
    write(tmp_path / "r", [PICTURE, message])
    assert contents(tmp_path / "r") == [data for data in members.values() if data]
    with Recording(str(tmp_path / "r")) as recording:
        *_, record = recording
    assert record.message is not None
    assert record.message.attrs["message"] == "a < b"
    assert [(member.name, member.format) for member in record.message.members] == [(n, f".{n}") for n in members]


def test_base64_with_line_ends_is_recorded(tmp_path: Path) -> None:
    lines = base64.encodebytes(STARS).decode()
    blob = f'<oneBLOB name="ALL" size="{len(STARS)}" format=".f">{lines}</oneBLOB>'
    (element,) = elements(f'<setBLOBVector device="Dome" name="PICTURE">{blob}</setBLOBVector>')
    write(tmp_path / "r", [PICTURE, BlobMessage.of(element)])
    assert contents(tmp_path / "r") == [STARS]


def test_a_driver_may_fill_its_buffer_again(tmp_path: Path) -> None:
    """Its contents are read only once they are encoded, or at once if they can't change."""
    memory = bytearray(STARS)

    async def record() -> None:
        recorder = write(tmp_path / "r", [PICTURE], close=False)
        message = picture(memory, encoded=False)  # type: ignore[arg-type]
        assert message.raw() is None
        recorder.put(Direction.FROM, Party.DRIVER, "dome", message)
        await eventually(lambda: message.whole(False))
        message.release()
        memory[:] = bytes(len(memory))
        fixed = picture(STARS[::-1], encoded=False)
        assert fixed.raw() is not None
        recorder.put(Direction.FROM, Party.DRIVER, "dome", fixed)
        await eventually(lambda: not recorder._runs)
        recorder.close()

    asyncio.run(record())
    assert contents(tmp_path / "r") == [STARS, STARS[::-1]]


def test_a_shared_file_that_was_cut_short_costs_only_its_content(tmp_path: Path) -> None:
    fd = os.memfd_create("frame")
    os.truncate(fd, 200_000)
    (element,) = elements(
        "<setBLOBVector device='Dome' name='PICTURE'>"
        "<oneBLOB name='ALL' size='200000' format='.f' attached='true'/></setBLOBVector>"
    )
    message = routable(element, arrived(os.dup(fd)))
    os.truncate(fd, 100)
    os.close(fd)
    recorder = write(tmp_path / "r", [PICTURE, message, angle(3)])
    assert recorder.frames == 0
    assert contents(tmp_path / "r") == []
    assert summarize(str(tmp_path / "r")).devices["Dome"]["PICTURE"].frames_without_content == 1


def test_frames_are_not_read_for_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write(path, [PICTURE, *[picture(STARS)] * 3, angle(1)])
    data = bytearray(path.read_bytes())
    for offset, header in headers(path):
        if header.kind == container.FRAME:
            end = offset + container.HEADER + header.length
            data[end - 1000 : end] = bytes(1000)
    path.write_bytes(data)
    summary = summarize(str(path))
    assert (summary.damage, summary.cut) == (None, None)
    found = summary.devices["Dome"]["PICTURE"]
    assert (found.frames, found.blob_bytes, found.frames_without_content) == (3, 3 * len(STARS), 0)
    with pytest.raises(RecordingError, match="piece of a frame does not match its checksum"):
        contents(path)


# States, the index, and reading from the middle


class Link:
    """Takes what a player sends."""

    closed = False

    def __init__(self) -> None:
        self.sent: list[str] = []

    def on_receive(self, callback: object) -> None:
        pass

    def send(self, message: object) -> None:
        self.sent.append(message.tag)  # type: ignore[attr-defined]

    async def not_full(self) -> None:
        pass

    async def paced(self, device: str, name: str) -> None:
        pass

    def demand(self, device: str, name: str) -> Demand:
        return Demand(inline=True, attached=False)


Definition = tuple[dict[str, str], dict[str, tuple[dict[str, str], str]]]


def read_definitions(devices: Devices) -> list[Definition]:
    """Return the attributes of all properties, and those of their members with the values."""
    return [
        (vector.attrs, {member.name: (member.attrs, member.text.strip()) for member in vector.members})
        for _, definition in devices.definitions()
        for vector in [definition.element()]
    ]


def states(recording: Recording, until: float) -> list[Definition]:
    """Return the definitions of all properties at a time, as a replay that starts there makes them."""
    devices = Devices()
    for record in recording:
        if record.seconds >= until:
            break
        if record.played and record.message is not None:
            devices.take(record.message, (record.head.party, record.head.label))
    return read_definitions(devices)


_UPDATES = [
    angle(1),
    angle(2, "Alert"),
    angle(3, "Fine"),
    angle(4).replace(">4<", ">4,5<"),
    angle(5).replace('state="Busy" ', 'timeout="7" '),
    angle(6).replace('name="AZ"', 'name="AZ" min="-5" max="500"'),
    angle(7).replace('name="AZ"', 'name="NONE"'),
    angle(8).replace('name="AZ"', 'name="ALT"').replace(' timestamp="2020-01-02T03:04:06"', ""),
    "<setBLOBVector device='Dome' name='PICTURE' state='Busy'/>",
    "<delProperty device='Dome' name='ANGLE'/>",
    DEFINITION,
    "<delProperty device='Dome'/>",
    DEFINITION.replace("Dome", "Roof"),
    angle(9).replace("Dome", "Roof"),
    PICTURE,
    "<message device='Dome' message='hello'/>",
]
_updates = st.lists(st.sampled_from(_UPDATES), max_size=60)


@settings(deadline=None, max_examples=300)
@given(_updates)
def test_updates_that_are_not_read_do_not_matter(updates: list[str]) -> None:
    """The state is what it would be if each message was applied when it came."""
    lazy, eager, owner = Devices(), Devices(), (Party.DRIVER, "dome")
    for message in [DEFINITION, PICTURE, *updates]:
        for element in elements(message):
            assert lazy.take(element, owner) == eager.take(element, owner)
            list(eager.definitions())
    assert list(map(repr, lazy.definitions())) == list(map(repr, eager.definitions()))
    assert [one.data for _, one in lazy.definitions()] == [one.data for _, one in eager.definitions()]


def test_members_of_another_kind_are_no_part_of_a_property() -> None:
    devices, owner = Devices(), (Party.DRIVER, "dome")
    strange = DEFINITION.replace("</defNumberVector>", '<defBLOB name="B"/><other name="O">1</other></defNumberVector>')
    for text in (strange, angle(7).replace('name="AZ"', 'name="B"'), angle(8).replace('name="AZ"', 'name="O"')):
        devices.take(elements(text)[0], owner)
    ((attributes, members),) = read_definitions(devices)
    assert (attributes["state"], list(members)) == ("Busy", ["AZ", "ALT"])


def test_few_of_many_updates_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[object] = []
    devices = Devices()
    devices.take(elements(DEFINITION)[0], (Party.DRIVER, "dome"))
    apply = Property._apply
    monkeypatch.setattr(Property, "_apply", lambda self, element: (applied.append(element), apply(self, element)))
    both = '<oneNumber name="ALT">1</oneNumber></setNumberVector>'
    for number in range(3200):
        (element,) = elements(angle(number).replace("</setNumberVector>", both))
        devices.take(element, (Party.DRIVER, "dome"))
    assert b">3199<" in next(devices.definitions())[1].data
    assert len(applied) <= 110


@settings(deadline=None, max_examples=40)
@given(_updates, st.integers(0, 60), st.booleans())
def test_reading_from_the_middle_gives_the_same_state(
    tmp_path_factory: pytest.TempPathFactory, updates: list[str], at: int, indexed: bool
) -> None:
    path = tmp_path_factory.mktemp("middle") / "r"
    messages = [DEFINITION, PICTURE, *updates]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indifast.recording.writer.STATE_PAUSE", 3.0)
        patch.setattr("indifast.recording.writer._LEAST_BETWEEN_STATES", 0)
        patch.setattr("indifast.recording.writer._STATE_SHARE", 0)
        recorded(path, range(len(messages)), messages)
    assert kinds(path).count(b"STAT") >= (len(messages) - 1) // 5
    if not indexed:
        path.write_bytes(path.read_bytes()[: -container.TAIL_SIZE])
    with Recording(str(path)) as whole, Recording(str(path)) as part:
        part.seek(at)
        assert states(part, at) == states(whole, at)
        assert whole.seconds == part.seconds or part.ended
        left = [record.message.attrs for record in part if record.message is not None]
        assert left == [record.message.attrs for record in whole if record.message is not None]


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of ten minutes, with a frame every second second."""
    monkeypatch.setattr("indifast.recording.writer._LEAST_BETWEEN_STATES", 0)
    messages: list[str | BlobMessage] = [DEFINITION, PICTURE]
    for second in range(600):
        messages.append(angle(second) if second % 2 else picture(SMALL))
    return recorded(tmp_path / "night", [0, 0, *range(600)], messages)


@pytest.mark.parametrize("cut", [False, True])
def test_little_is_read_of_what_comes_before_the_start(night: Path, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cut:
        offset = next(offset for offset, header in headers(night) if header.kind == container.INDEX)
        night.write_bytes(night.read_bytes()[: offset + 20])
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: read.append(count) or pread(fd, count, offset))
    with Recording(str(night)) as recording:
        recording.seek(500)
        records = []
        for record in recording:
            if record.seconds >= 500:
                break
            records.append(record)
    assert recording.position > night.stat().st_size * 0.8
    assert sum(read) < night.stat().st_size / 20
    assert records[0].seconds > 470
    assert [one.message.tag for one in records if one.message][:2] == ["defNumberVector", "defBLOBVector"]
    assert all(one.unread in (0, len(SMALL)) for one in records)
    assert record.message is not None and record.message.members[0].data == SMALL


def test_a_replay_from_the_middle(night: Path) -> None:
    async def play(path: Path) -> tuple[list[str], list[Definition]]:
        link = Link()
        player = Player(str(path), link, speed=None, start_at=550)  # type: ignore[arg-type]
        await player.play()
        return link.sent, read_definitions(player._devices)

    old = night.with_name("old")
    old.write_bytes(gzip.compress(as_text(night), 1))
    sent, definitions = asyncio.run(play(night))
    assert (sent, definitions) == asyncio.run(play(old))
    assert sent[:2] == ["defNumberVector", "defBLOBVector"]
    assert len(sent) == 52


def test_a_long_recording_keeps_a_small_index() -> None:
    index = container.Index()
    for number in range(200_000):
        index.add(number * 1000, number)
    pieces = index.blocks(5, 0)
    assert sum(map(len, pieces)) < container.MAX_FRONT
    for time in (50_000, 123_456, 199_999):
        found = index.before(time)
        assert found is not None
        assert time - 40 <= found // 1000 <= time
    assert index.before(-1) is None


def test_a_recording_of_a_pipe_has_no_need_to_go_back(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", [DEFINITION, angle(4)])
    (tmp_path / "file").write_bytes(os.read(reader, 1 << 20))
    os.close(reader)
    with Recording(str(tmp_path / "file")) as recording:
        assert len(list(recording)) == 2
    assert recording.cut is None


# Malicious files: everything with good checksums


def rewritten(path: Path, number: int, kind: bytes, front: bytes, rest: bytes = b"") -> Path:
    """Replace a block."""
    offset, header = headers(path)[number]
    data = path.read_bytes()
    made = b"".join(container.block(kind, (front,), header.time, len(rest))) + rest
    path.write_bytes(data[:offset] + made + data[offset + container.HEADER + header.length :])
    return path


def frame_front(place: int, method: int, width: int, length: int, *pieces: bytes) -> bytes:
    """Return the front part of a frame with one content."""
    table = b"".join(struct.pack("<II", len(piece), zlib.crc32(piece)) for piece in pieces)
    return struct.pack("<HxxI", 1, 4) + struct.pack("<IBBxxQ", place, method, width, length) + table + b"text"


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)


BOMB = 100 * deflated(bytes(1 << 20))  # inflates to 100 MiB


@pytest.mark.parametrize(
    ("kind", "front", "rest"),
    [
        (b"TEXT", struct.pack("<BxxxI", 0, 5) + b"1234", b""),
        (b"TEXT", struct.pack("<BxxxI", 0, 1 << 31) + b"1234", b""),
        (b"TEXT", struct.pack("<BxxxI", 1, 10) + BOMB, b""),
        (b"TEXT", struct.pack("<BxxxI", 1, 512 << 10) + BOMB, b""),
        (b"TEXT", struct.pack("<BxxxI", 2, 4) + deflated(b"1234"), b""),
        (b"TEXT", struct.pack("<BxxxI", 3, 4) + b"1234", b""),
        (b"TEXT", struct.pack("<BxxxI", 1, 4) + b"garbage", b""),
        (b"TEXT", b"", b""),
        (b"FRAM", b"", b""),
        (b"FRAM", struct.pack("<HxxI", 65535, 4) + b"text", b""),
        (b"FRAM", frame_front(0, 0, 1, 1 << 60), b""),
        (b"FRAM", frame_front(9, 0, 1, 0), b""),
        (b"FRAM", frame_front(0, 9, 1, 0), b""),
        (b"FRAM", frame_front(0, 0, 1, 9, b"123456789")[:-1], b"123456789"),
        (b"FRAM", frame_front(0, 0, 1, 9, bytes(99)), bytes(99)),
        (b"FRAM", frame_front(0, 0, 1, 9, bytes(8)), bytes(8)),
        (b"FRAM", frame_front(0, 1, 3, 9, bytes(8)), bytes(8)),
        (b"FRAM", frame_front(0, 1, 1, 9, bytes(8)), bytes(8)),
        (b"FRAM", frame_front(0, 2, 1, 9, bytes(8)), bytes(8)),
        (b"NONE", b"", b""),
    ],
)  # fmt: skip
def test_impossible_blocks_count_as_damage(tmp_path: Path, kind: bytes, front: bytes, rest: bytes) -> None:
    write(tmp_path / "r", [DEFINITION])
    path = rewritten(tmp_path / "r", 1, kind, front, rest)
    with pytest.raises(RecordingError, match="is damaged near byte") as raised, Recording(str(path)) as recording:
        list(recording)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("front", "rest"),
    [
        (b"", b""),
        (struct.pack("<QI", 4, 0), deflated(b"1234")),
        (struct.pack("<QI", 9, zlib.crc32(BOMB)), BOMB),
        (struct.pack("<QI", 9, zlib.crc32(b"garbage")), b"garbage"),
    ],
    ids=["empty", "checksum", "bomb", "garbage"],
)
def test_impossible_states_count_as_damage(night: Path, front: bytes, rest: bytes) -> None:
    number = kinds(night).index(b"STAT")
    rewritten(night, number, b"STAT", front, rest)
    with pytest.raises(RecordingError, match="damaged"), Recording(str(night)) as recording:
        recording.seek(15)
        list(recording)


def test_an_index_that_lies_is_harmless(night: Path) -> None:
    whole = Recording(str(night))
    expected = len(list(whole))
    number = kinds(night).index(b"INDX")
    for front in (b"123", struct.pack("<QQ", 1 << 62, 0), struct.pack("<QQ", 9, 0), struct.pack("<QQ", 0, 0)):
        rewritten(night, number, b"INDX", front)
        with Recording(str(night)) as recording:
            recording.seek(100)
            try:
                assert len(list(recording)) <= expected
            except RecordingError as error:
                assert "damaged" in str(error)


def test_a_frame_beyond_the_limit_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write(path, [PICTURE, picture(bytes(60 << 20)), angle(5)])
    assert path.stat().st_size < 1 << 20
    found, held = [], 0
    with Recording(str(path), Limits(blob=1 << 20)) as recording:
        for records in recording.batches():
            found += records
            held = max(held, recording._tokenizer.held)
    assert held < 4 << 20
    assert recording.skipped == 1
    assert [record.message.tag for record in found if record.message] == ["defBLOBVector", "setNumberVector"]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1 << 20), st.integers(0, 7))
def test_a_flipped_bit_is_found_or_harmless(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "r"
    sent = [PICTURE, picture(STARS[:5000]), DEFINITION, angle(1)]
    write(path, sent)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        with Recording(str(path)) as recording:
            found = [record.message for record in recording if record.message is not None]
    except RecordingError:
        return
    assert len(found) == len(sent), "only the end of the file is not needed"
    assert found[1].members[0].data == STARS[:5000]
