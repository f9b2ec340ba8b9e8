"""Recordings and message logs of a server: their files, and what goes wrong with them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from indifast.protocol import wire
from indifast.recording.summary import summarize
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.rings import RING_CHECK
from indifast.server.trafficlog import MessageLog, TrafficRecorder
from tests.support.blackbox import LIMIT


def driver() -> Peer:
    return Peer(Kind.DRIVER, "Driver toy", DriverOutbox(1 << 20))


@pytest.fixture
def nobody() -> Iterator[None]:
    """Run the test as a user who is not root."""
    user = os.getuid()
    os.setresuid(user or 65534, user or 65534, user)
    yield
    os.setresuid(user, user, user)


def test_a_new_recording_replaces_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "traffic.indi"
    for name in ("traffic.indi", "traffic-2.indi", "traffic-3.indi"):
        recorder = TrafficRecorder(str(path), blobs=False)
        recorder.note("from", driver(), wire.message("hello", None, "D"))
        recorder.close()
        assert summarize(str(tmp_path / name)).messages == 1
    assert f"{path} already exists: recording to {tmp_path / 'traffic-3.indi'}" in caplog.text


def test_a_recording_without_messages_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "traffic.indi"
    TrafficRecorder(str(path), blobs=False).discard()
    assert not path.exists()
    recorder = TrafficRecorder(str(path), blobs=False)
    recorder.note("from", driver(), wire.message("hello", None, "D"))
    recorder.discard()
    assert path.exists()


def test_a_recording_without_messages_that_can_not_be_deleted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traffic.indi"
    recorder = TrafficRecorder(str(path), blobs=False)

    def refuse(path: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "unlink", refuse)
    recorder.discard()
    assert path.exists()


def test_checks_for_rings_are_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "traffic.indi"
    recorder = TrafficRecorder(str(path), blobs=False)
    client = Peer(Kind.CLIENT, "Client 1", Outbox())
    for device in (RING_CHECK, "D"):
        recorder.note("from", client, wire.del_property(device, "x"))
    recorder.close()
    assert summarize(str(path)).messages == 1


GROWING = """
import resource, sys
from indifast.protocol import wire
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.server.trafficlog import TrafficRecorder

recorder = TrafficRecorder(sys.argv[1], blobs=False)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
recorder.note("from", Peer(Kind.DRIVER, "Driver toy", DriverOutbox(1 << 20)), wire.message("x", None, "D"))
recorder.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_a_recording_that_can_not_grow_ends_with_a_line_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "traffic.indi"
    done = subprocess.run(
        [sys.executable, "-c", GROWING, path], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert done.stderr == f"{path}: File too large; recording has ended\n"


@pytest.mark.usefixtures("nobody")
def test_a_message_log_needs_a_folder_that_can_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o500)
        with pytest.raises(PermissionError, match=f"no permission to write the message log to {folder}: name another"):
            MessageLog(folder)
        missing = f"{folder}/missing"
        with pytest.raises(FileNotFoundError, match=f"{missing} is not a folder for the message log"):
            MessageLog(missing)


def test_lost_lines_of_a_message_log_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, peer = MessageLog(str(tmp_path)), driver()
    path = tmp_path / "2026-01-02.islog"
    path.mkdir()
    for number in range(3):
        log.note("from", peer, wire.message(f"lost {number}", "2026-01-02T03:04:05", "D"))
    path.rmdir()
    for number in range(2):
        log.note("from", peer, wire.message(f"kept {number}", "2026-01-02T03:04:05", "D"))
    assert path.read_text() == "2026-01-02T03:04:05: D: kept 0\n2026-01-02T03:04:05: D: kept 1\n"
    error, warning = caplog.records
    assert error.levelno == logging.ERROR and "Is a directory" in error.getMessage()
    assert warning.getMessage() == "message log: 3 messages could not be written"


def test_a_message_log_is_dated_even_if_the_message_is_not(tmp_path: Path) -> None:
    log, peer = MessageLog(str(tmp_path)), driver()
    log.note("from", peer, wire.message("odd date", "once upon a time", "D"))
    log.note("to", peer, wire.message("not from a driver", None, "D"))
    log.note("from", peer, wire.del_property("D", "no message"))
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "once upon a time: D: odd date\n"
