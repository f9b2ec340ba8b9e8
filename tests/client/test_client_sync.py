"""The client without `await`, used from the thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy
import pytest

from indifast.client import INDICheckError, IPyClient, SyncClient, connect
from tests.support.blackbox import LIMIT
from tests.support.servers import indiserver


def test_expose_and_set_from_any_thread(program: Callable[[str], str]) -> None:
    with indiserver(program, "indi_simulator_ccd") as (port, _), connect("127.0.0.1", port, timeout=LIMIT) as c:
        cam = c["CCD Simulator"]
        assert "CCD Simulator" in c and list(c) == ["CCD Simulator"] and len(c) == 1
        connection = cam.set("CONNECTION", CONNECT="On", timeout=LIMIT)
        assert connection is not None and connection["CONNECT"] == "On"
        c.wait_for("CCD Simulator", "CCD1", timeout=LIMIT)
        assert "CCD1" in cam and len(cam) == len(list(cam))
        frame = c.expose("CCD Simulator", 0.2, timeout=LIMIT)
        assert frame.array().shape == (1024, 1280)
        with pytest.raises(INDICheckError, match="outside"):
            cam.set("CCD_BINNING", HOR_BIN=99, VER_BIN=1, check=True)
        frames: list[float] = []

        def shoot() -> None:
            frames.append(float(numpy.ptp(cam.expose(0.1, timeout=LIMIT).array())))

        thread = threading.Thread(target=shoot)
        thread.start()
        assert c.ping() < LIMIT
        thread.join(LIMIT)
        assert frames and frames[0] > 0
        assert c.snapshot()["CCD Simulator"]["CCD1"].member("CCD1").blobformat == ".fits"
    with pytest.raises(RuntimeError, match="closed"):
        c.ping()


def test_connecting_where_no_server_is() -> None:
    with pytest.raises(TimeoutError, match="not connected"):
        connect("127.0.0.1", 1, timeout=0.3)


def test_closing_at_once() -> None:
    client = SyncClient(IPyClient("127.0.0.1", 1))
    closing = threading.Thread(target=client.close, daemon=True)
    closing.start()
    closing.join(LIMIT)
    assert not closing.is_alive()


def test_a_client_that_stops_closes_the_wrapper() -> None:
    with SyncClient(IPyClient("127.0.0.1", 1)) as client:
        client.client.shutdown()
        client._thread.join(LIMIT)
        with pytest.raises(RuntimeError, match="closed"):
            client.snapshot()
