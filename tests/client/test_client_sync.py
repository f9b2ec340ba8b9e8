"""The client without `await`, used from the thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from indifast import IPyServer
from indifast.client import INDICheckError, INDIUnknown, IPyClient, SyncClient, connect
from tests.client.support import NUMBERS
from tests.support.blackbox import LIMIT
from tests.support.servers import indiserver
from tests.tools.support import answering


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


def test_a_device_without_connection_has_readable_errors() -> None:
    with answering(NUMBERS.encode()) as port, connect("127.0.0.1", port, timeout=LIMIT) as c:
        c.wait_for("D", "N", timeout=LIMIT)
        for place in (c["D"], c.snapshot()["D"]):
            with pytest.raises(INDIUnknown, match=r"^no property 'NN' of D: did you mean 'N'"):
                place["NN"]


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


IMPOSSIBLE = [("x", ValueError), (0, ValueError), (70000, ValueError), (-1, ValueError), ("", ValueError)]
IMPOSSIBLE += [(3.5, TypeError), (None, TypeError), (True, TypeError), (b"7624", TypeError)]


@pytest.mark.parametrize(("port", "error"), IMPOSSIBLE)
def test_a_port_that_cannot_be_is_refused_at_once(port: Any, error: type[Exception]) -> None:
    """Trying again would not help, and the system would take 70000 for 4464."""
    for make in (connect, IPyClient, IPyServer().add_remote):
        with pytest.raises(error, match="the port must be a number from 1 to 65535, not"):
            make("127.0.0.1", port)
    with pytest.raises(TimeoutError, match="not connected to /no/such/socket"):
        connect("/no/such/socket", port, timeout=0.1)  # a Unix socket has no port


def test_a_port_may_be_text() -> None:
    assert IPyClient("127.0.0.1", "7624").indiport == "7624"
    assert IPyServer().add_remote("127.0.0.1", "7624").indiport == 7624  # type: ignore[arg-type]


def test_a_host_must_be_text() -> None:
    with pytest.raises(TypeError, match="the host must be a str, not 5"):
        connect(5)  # type: ignore[arg-type]


async def attempt(port: Any) -> None:
    client = IPyClient("127.0.0.1")
    client.indiport, client.reconnect = port, False
    await client.asyncrun()


def test_a_port_that_is_set_later_is_checked_by_each_attempt() -> None:
    with pytest.raises(OSError, match="the port must be a number from 1 to 65535, not 70000"):
        asyncio.run(attempt(70000))
