"""What people see of the client in a notebook: values, errors that say what to do, and readable objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from indifast.client import INDICheckError, INDIUnknown, SyncClient, SyncDevice, connect
from tests.support.blackbox import LIMIT
from tests.support.servers import indiserver

CAMERA, MOUNT = "CCD Simulator", "Telescope Simulator"


@pytest.fixture(scope="module")
def client(program: Callable[[str], str]) -> Iterator[SyncClient]:
    """A client of libindi's server, with a connected camera, and a mount that is not connected."""
    with (
        indiserver(program, "indi_simulator_ccd", "indi_simulator_telescope") as (port, _),
        connect("127.0.0.1", port, timeout=LIMIT) as client,
    ):
        client.ready(LIMIT, (CAMERA, "CONNECTION"), (MOUNT, "CONNECTION"))
        client.set(CAMERA, "CONNECTION", CONNECT=True, timeout=LIMIT)
        client.wait_for(CAMERA, "CCD_ABORT_EXPOSURE", timeout=LIMIT)
        client.wait_for(CAMERA, "CCD1", timeout=LIMIT)
        yield client


@pytest.fixture
def camera(client: SyncClient) -> SyncDevice:
    return client[CAMERA]


@pytest.fixture
def sent(client: SyncClient) -> Iterator[Callable[[], int]]:
    """Return how many messages the client has sent since the test began."""
    before = client.client.stats()["sent"]
    yield lambda: client.client.stats()["sent"] - before


def test_numbers_are_numbers_wherever_they_come_from(client: SyncClient, camera: SyncDevice) -> None:
    returned = camera.set("CCD_FRAME", X=0, Y=0, WIDTH=640, HEIGHT=512, timeout=LIMIT)
    waited = client.wait_for(CAMERA, "CCD_FRAME", "Ok", timeout=LIMIT)
    everything = client.snapshot()[CAMERA]["CCD_FRAME"]
    for frame in (returned, waited, everything, camera["CCD_FRAME"], client.wait_for(CAMERA)["CCD_FRAME"]):
        assert frame is not None and dict(frame) == {"X": 0.0, "Y": 0.0, "WIDTH": 640.0, "HEIGHT": 512.0}
        assert all(type(value) is float for value in frame.values())
        assert frame.member("WIDTH").membervalue == "640" and frame.get("NOTHING") is None
    assert camera["CONNECTION"]["CONNECT"] == "On" and camera["DRIVER_INFO"]["DRIVER_NAME"] == CAMERA
    assert everything.dictdump()["members"]["WIDTH"]["value"] == "640"
    function = camera.set("CCD_FRAME", WIDTH=320, until=lambda frame: frame["WIDTH"] < 400, timeout=LIMIT)
    assert function is not None and function["WIDTH"] == 320.0


@pytest.mark.parametrize(
    ("property", "values", "options", "why"),
    [
        ("CCD_BINNING", {"HOR_BIN": 99, "VER_BIN": 1}, {}, "CCD Simulator CCD_BINNING HOR_BIN: 99 is outside 1 to 4"),
        ("CCD_BINNING", {"HOR_BINN": 2}, {}, "no member 'HOR_BINN' of CCD Simulator.CCD_BINNING: did you mean"),
        ("CCD_BINING", {"HOR_BIN": 2}, {}, "no property 'CCD_BINING' of CCD Simulator: did you mean 'CCD_BINNING'"),
        ("CCD_FRAME", {"X": "wide"}, {}, "'wide' is not a number: write 12.5, 1e-3 or 12:30:00"),
        ("CCD_FRAME", {"X": float("nan")}, {}, "a finite number is needed, not nan"),
        ("CCD_FRAME", {"X": True}, {}, "True is not a number: write 12.5, 1e-3 or 12:30:00"),
        ("CCD_INFO", {"CCD_MAX_X": 1}, {}, "CCD_INFO is read-only"),
        ("CONNECTION", {"CONNECT": "Onn"}, {}, "'Onn' for CONNECT is neither On nor Off"),
        ("CONNECTION", {"CONNECT": "On", "DISCONNECT": True}, {}, "OneOfMany allows one switch On, not 2"),
        ("CONNECTION", {"CONNECT": False}, {}, "instead of CONNECT=Off, set DISCONNECT=On"),
        ("CCD_BINNING", {}, {}, "no member is named, so there is nothing to set"),
        ("CCD_BINNING", 2, {}, "values go with the names of members, not 2 alone"),
        ("UPLOAD_SETTINGS", {"UPLOAD_DIR": 7}, {}, "a text must be a str, not int"),
        ("CCD_FRAME", {"X": 1}, {"accept": ("Okay",)}, "use Idle, Ok, Busy or Alert; did you mean 'Ok'"),
        ("CCD_FRAME", {"X": 1}, {"accept": "ok"}, "did you mean 'Ok'"),
        ("CCD_FRAME", {"X": 1}, {"until": {"WIDHT": 3}}, "no member 'WIDHT' of CCD Simulator.CCD_FRAME"),
        ("CCD_FRAME", {"X": 1}, {"until": {"X": "far"}}, "until CCD Simulator.CCD_FRAME.X: 'far' is not a number"),
    ],
)  # fmt: skip
def test_what_a_property_cannot_accept_is_not_sent(
    camera: SyncDevice, sent: Callable[[], int], property: str, values: Any, options: dict[str, object],
    why: str,
) -> None:  # fmt: skip
    with pytest.raises(INDICheckError) as error:
        camera.set(property, values, timeout=LIMIT, **options)
    assert why in str(error.value)
    assert sent() == 0


@pytest.mark.parametrize(
    ("look", "why"),
    [
        (lambda c: c["CCD Simulater"], f"no device 'CCD Simulater' on this server: did you mean '{CAMERA}'"),
        (lambda c: c.snapshot()["Nothing"], f"no device 'Nothing' on this server: known: '{CAMERA}', '{MOUNT}'"),
        (lambda c: c[CAMERA]["CONECTION"], f"no property 'CONECTION' of {CAMERA}: did you mean 'CONNECTION'?"),
        (lambda c: c[CAMERA]["CONNECTION"]["connect"], "did you mean 'CONNECT'"),
        (lambda c: c[CAMERA]["CCD_FRAME"]["WITH"], f"no member 'WITH' of {CAMERA}.CCD_FRAME: did you mean 'WIDTH'?"),
        (lambda c: c.enable_blobs(CAMERA, "CCD1", "Alway"), "'Alway' is not a BLOB policy: use Never, Also or Only"),
        (lambda c: c[CAMERA]["CCD_FRAME"].member("WITH"), "did you mean 'WIDTH'"),
        (lambda c: c.enable_blobs(CAMERA, "CCD_1"), "did you mean 'CCD1'"),
        (lambda c: c.wait_for(CAMERA, "CCD1", "Okey"), "'Okey' is not a state"),
        (lambda c: c[MOUNT]["EQUATORIAL_EOD_COORDS"], f"{MOUNT} is not connected, and may have more properties"),
        (lambda c: c.set("CCD", "CONNECTION", CONNECT=True), "no device 'CCD' on this server"),
        (lambda c: c[5], "no device 5 on this server"),
        (lambda c: c[CAMERA][None], f"no property 'None' of {CAMERA}"),
        (lambda c: c.set(CAMERA, "CCD_FRAME", {5: 1}), f"no member 5 of {CAMERA}.CCD_FRAME: known: 'X', 'Y'"),
    ],
)
def test_what_does_not_exist_is_an_error_with_similar_names(
    client: SyncClient, sent: Callable[[], int], look: Callable[[SyncClient], object], why: str
) -> None:
    with pytest.raises(INDIUnknown) as error:
        look(client)
    assert isinstance(error.value, KeyError) and isinstance(error.value, ValueError)
    assert why in str(error.value)
    assert sent() == 0


def test_exposures_are_checked(client: SyncClient, camera: SyncDevice) -> None:
    with pytest.raises(INDICheckError, match=r"-1 is outside 0\.01 to 3600"):
        camera.expose(-1, timeout=LIMIT)
    with pytest.raises(INDIUnknown, match="no device 'CCD Simulater' on this server: did you mean 'CCD Simulator'"):
        client.expose("CCD Simulater", 1)
    with pytest.raises(INDICheckError, match=f"{MOUNT} is not a camera but a telescope"):
        client.expose(MOUNT, 1)
    with pytest.raises(INDIUnknown, match=f"no property 'CCD9' of {CAMERA}: did you mean 'CCD"):
        camera.expose(0.1, vector="CCD9", timeout=0.1)
    with pytest.raises(TimeoutError, match=r"is not defined: no device 'CCD Simulater'.*did you mean 'CCD Simulator'"):
        client.wait_for("CCD Simulater", timeout=0.1)


def test_switches_take_what_people_write(camera: SyncDevice) -> None:
    for value in (True, "on", " ON "):
        reply = camera.set("CCD_FRAME_TYPE", FRAME_BIAS=value, timeout=LIMIT)
        assert reply is not None and reply["FRAME_BIAS"] == "On"
        camera.set("CCD_FRAME_TYPE", FRAME_LIGHT=True, timeout=LIMIT)


def test_a_check_can_be_left_out(camera: SyncDevice) -> None:
    camera.set("CCD_BINNING", HOR_BIN=99, VER_BIN=99, check=False, wait=False)
    assert camera["CCD_BINNING"]["HOR_BIN"] < 99


def test_objects_can_be_read(client: SyncClient, camera: SyncDevice) -> None:
    where = f"127.0.0.1:{client.client.indiport}"
    assert repr(client) == f"<SyncClient {where}, connected: {CAMERA}, {MOUNT}>"
    assert repr(client.snapshot()) == f"<Snap {where}, connected: {CAMERA}, {MOUNT}>"
    assert repr(client.client) == f"<IPyClient {where}, connected: {CAMERA}, {MOUNT}>"
    assert repr(camera).startswith(f"<SyncDevice {CAMERA}: CONNECTION, DRIVER_INFO, ")
    assert repr(camera).endswith(" more>")
    assert repr(camera.snapshot()).startswith(f"<Device {CAMERA}: CONNECTION, ")
    assert repr(camera["CONNECTION"]) == f"<SwitchVector {CAMERA}.CONNECTION [Ok, rw] CONNECT=On, DISCONNECT=Off>"
    assert "[Idle, rw] CCD_TEMPERATURE_VALUE=0.00>" in repr(camera["CCD_TEMPERATURE"])
    assert "DRIVER_NAME='CCD Simulator'" in repr(camera["DRIVER_INFO"])
    assert repr(camera["CCD_FRAME"].member("X")) == "<NumberMember X: 0>"
    assert repr(camera["CONNECTION"].member("CONNECT")) == "<Member CONNECT: On>"
    frame = camera.expose(0.05, timeout=LIMIT)
    assert repr(frame) == f"<Frame {CAMERA}.CCD1.CCD1: {len(frame.data)} bytes .fits>"
    assert f"CCD1={len(frame.data)} bytes .fits" in repr(camera["CCD1"])


def test_a_client_that_is_closed_can_be_read(program: Callable[[str], str]) -> None:
    with indiserver(program, "indi_simulator_focus") as (port, _):
        with connect("127.0.0.1", port, timeout=LIMIT) as client:
            device = client["Focuser Simulator"]
        assert repr(client) == f"<SyncClient 127.0.0.1:{port}, closed>"
        assert repr(device) == "<SyncDevice Focuser Simulator, closed>"
