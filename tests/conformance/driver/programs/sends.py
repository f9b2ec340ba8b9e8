"""A driver with a step for every way of sending."""

from __future__ import annotations

import io
import os
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import common
import indipydriver as ipd
from common import step

WHEN = datetime(2024, 1, 2, 3, 4, 5)
FOLDER = Path(tempfile.mkdtemp(prefix="conformance-"))


def vectors():
    return [
        ipd.SwitchVector(
            "sw",
            "SwL",
            "G",
            "rw",
            "OneOfMany",
            "Ok",
            [ipd.SwitchMember("a", membervalue="On"), ipd.SwitchMember("b", "Bee"), ipd.SwitchMember("c", "Sea")],
        ),
        ipd.TextVector(
            "tx",
            "TxL",
            "G",
            "rw",
            "Idle",
            [
                ipd.TextMember("t", "T", "a<b>&\"c\" 'd'"),
                ipd.TextMember("e"),
                ipd.TextMember("ws", "W & <W>", "  in  "),
            ],
        ),
        ipd.TextVector("txro", "TxR", "G", "ro", "Idle", [ipd.TextMember("t", "T", "x")]),
        ipd.NumberVector(
            "nu",
            "NuL",
            "G",
            "wo",
            "Busy",
            [
                ipd.NumberMember("n", format="%9.6m", min="-5", max="10.5", membervalue="1.25"),
                ipd.NumberMember("m", "Em", "%d", "0", "0", "0", "7"),
            ],
        ),
        ipd.NumberVector("nuro", "NuR", "G", "ro", "Idle", [ipd.NumberMember("n", format="%5.2f", membervalue="3.0")]),
        ipd.LightVector("li", "LiL", "G", "Alert", [ipd.LightMember("l", "L", "Ok"), ipd.LightMember("k")]),
        ipd.BLOBVector("bl", "BlL", "G", "ro", "Ok", [ipd.BLOBMember("b1"), ipd.BLOBMember("b2", "B2", 0, ".fits")]),
        ipd.BLOBVector("blrw", "BlRW", "G", "rw", "Ok", [ipd.BLOBMember("b1")]),
        # 3.1 repeats a message forever, so vectors with messages are used for nothing else.
        ipd.SwitchVector("sw2", "SwL", "G", "rw", "OneOfMany", "Ok", [ipd.SwitchMember("a"), ipd.SwitchMember("b")]),
        ipd.TextVector("tx2", "TxL", "G", "rw", "Idle", [ipd.TextMember("t", "T", "x")]),
        ipd.TextVector("tx3", "TxL", "G", "rw", "Idle", [ipd.TextMember("t", "T", "x")]),
        ipd.NumberVector("nu2", "NuR", "G", "ro", "Idle", [ipd.NumberMember("n", format="%5.2f", membervalue="3.0")]),
        ipd.BLOBVector("bl2", "BlL", "G", "ro", "Ok", [ipd.BLOBMember("b2", "B2", 0, ".fits")]),
        ipd.SwitchVector("ghost", "Ghost", "G", "rw", "AnyOfMany", "Idle", [ipd.SwitchMember("a")]),
    ]


dev = ipd.Device("Dev", vectors())
other = ipd.Device("Other", [ipd.TextVector("tx", "T", "G", "rw", "Idle", [ipd.TextMember("t")])])


def definition(name):
    async def run(driver):
        await driver["Dev"][name].send_defVector(timestamp=WHEN)

    run.__name__ = "def_" + name
    step(run)


for _name in ("sw", "tx", "txro", "nu", "nuro", "li", "bl", "blrw"):
    definition(_name)


def setting(name):
    async def run(driver):
        await driver["Dev"][name].send_setVector(timestamp=WHEN)

    run.__name__ = "set_" + name
    step(run)


for _name in ("sw", "tx", "txro", "nu", "nuro", "li"):
    setting(_name)


@step
async def def_with_everything(driver):
    await driver["Dev"]["sw2"].send_defVector(
        message="hello <&> \"q\" 'a'", timestamp=WHEN, timeout="12.5", state="Busy"
    )
    await driver["Dev"]["sw2"].send_defVector(message="other", timestamp=WHEN, timeout="0", state="Ok")


@step
async def message_is_of_one_send(driver):
    vector = driver["Dev"]["nu2"]
    await vector.send_setVector(message="once")
    await vector.send_setVector()


@step
async def set_with_everything(driver):
    await driver["Dev"]["sw2"].send_setVector(message="hello", timestamp=WHEN.replace(microsecond=678), timeout="3")
    await driver["Dev"]["sw2"].send_setVector(message=" ", timestamp=WHEN, timeout="0", state="Ok")


@step
async def timestamps(driver):
    vector = driver["Dev"]["txro"]
    for stamp in (
        WHEN.replace(microsecond=120000),
        WHEN.replace(tzinfo=UTC),
        WHEN.replace(tzinfo=timezone(timedelta(hours=1))),
        "2024-01-02T03:04:05",
        5,
    ):
        await vector.send_setVector(timestamp=stamp)


@step
async def bad_state_is_not_sent(driver):
    await driver["Dev"]["txro"].send_setVector(state="Fine")
    return driver["Dev"]["txro"].state


@step
async def state_setter_is_forgiving(driver):
    vector = driver["Dev"]["txro"]
    vector.state = "Fine"
    before = vector.state
    vector.state = "Busy"
    after = vector.state
    vector.state = "Idle"
    return [before, after]


@step
async def perm_and_rule_setters_are_forgiving(driver):
    vector = driver["Dev"]["sw"]
    vector.perm = "xx"
    vector.rule = "yy"
    return [vector.perm, vector.rule]


@step
async def values_unknown_and_invalid(driver):
    sw, li = driver["Dev"]["sw"], driver["Dev"]["li"]
    sw["nobody"] = "On"
    sw["a"] = "Maybe"
    li["l"] = "Fine"
    return [dict(sw), dict(li)]


@step
async def switches_off_before_on(driver):
    vector = driver["Dev"]["sw"]
    vector["a"], vector["c"] = "Off", "On"
    await vector.send_setVector()
    vector["a"], vector["b"] = "On", "On"
    await vector.send_setVector()
    vector["b"], vector["c"] = "Off", "Off"
    await vector.send_setVector(state="Ok")


@step
async def allvalues_nothing_changed_idle(driver):
    vector = driver["Dev"]["txro"]
    await vector.send_setVector(state="Idle")
    await vector.send_setVector(allvalues=False)


@step
async def allvalues_nothing_changed_ok(driver):
    vector = driver["Dev"]["txro"]
    await vector.send_setVector(state="Ok")
    await vector.send_setVector(allvalues=False)
    await vector.send_setVector(state="Idle")


@step
async def allvalues_member_changed(driver):
    vector = driver["Dev"]["tx"]
    await vector.send_setVector()
    vector["t"] = "new text"
    await vector.send_setVector(allvalues=False)
    vector["t"] = "new text"
    await vector.send_setVector(allvalues=False)


@step
async def allvalues_state_changed(driver):
    vector = driver["Dev"]["tx"]
    await vector.send_setVector(allvalues=False, state="Busy")
    await vector.send_setVector(allvalues=False, state="Idle")


@step
async def allvalues_message_or_timeout(driver):
    vector = driver["Dev"]["tx2"]
    await vector.send_setVector(allvalues=False, message="only a message")
    await vector.send_setVector(allvalues=False, timeout="7")
    await vector.send_setVector(allvalues=False, timeout="0")


@step
async def chosen_members(driver):
    vector = driver["Dev"]["nu"]
    await vector.send_setVectorMembers(members=["m"])
    await vector.send_setVectorMembers(members=["m", "n"])
    await vector.send_setVectorMembers(members=["nobody"])
    await vector.send_setVectorMembers()
    await driver["Dev"]["sw"].send_setVectorMembers(members=["a", "b"], state="Busy")
    await driver["Dev"]["li"].send_setVectorMembers(members=["k"])
    await driver["Dev"]["sw"].send_setVector(state="Ok")


@step
async def texts(driver):
    vector = driver["Dev"]["tx"]
    for value in ("", "a\nb\tc", "quote \" and ' here", "<tag/>&amp;", "ends with space "):
        vector["t"] = value
        await vector.send_setVectorMembers(members=["t"])


@step
async def text_not_ascii(driver):
    vector = driver["Dev"]["tx3"]
    vector["t"] = "é 漢字 😀"
    await vector.send_setVectorMembers(members=["t"], message="größe")


@step
async def text_carriage_return(driver):
    vector = driver["Dev"]["tx"]
    vector["t"] = "a\r\nb"
    await vector.send_setVectorMembers(members=["t"])


@step
async def numbers_as_text(driver):
    vector = driver["Dev"]["nu"]
    for value in ("3.0", "0001", "1e-7", "-0.5", "+4"):
        vector["n"] = value
        await vector.send_setVectorMembers(members=["n"])


@step
async def numbers_as_numbers(driver):
    vector = driver["Dev"]["nu"]
    for value in (3, 2.5, 1e-07, True):
        vector["n"] = value
        await vector.send_setVectorMembers(members=["n"])


@step
async def sexagesimal_in_definition(driver):
    vector = driver["Dev"]["nu"]
    vector["n"] = "1:30:00"
    await vector.send_defVector(timestamp=WHEN)


@step
async def sexagesimal_in_set(driver):
    vector = driver["Dev"]["nu"]
    vector["n"] = "1:30:00"
    await vector.send_setVectorMembers(members=["n"])
    vector["n"] = "1.25"


@step
async def timeout_kinds(driver):
    vector = driver["Dev"]["nu"]
    for value in ("2", 5, 2.5):
        await vector.send_setVectorMembers(members=["m"], timeout=value)
    await vector.send_setVectorMembers(members=["m"], timeout="0")


@step
async def messages(driver):
    await driver.send_message("system wide <&>", timestamp=WHEN)
    await driver.send_message(timestamp=WHEN)
    await driver.send_message("x", timestamp="nonsense")
    await driver["Dev"].send_device_message("of the device", timestamp=WHEN)
    await driver["Dev"].send_device_message(timestamp=WHEN)


@step
async def delete_vector(driver):
    vector = driver["Dev"]["ghost"]
    await vector.send_delProperty(message="gone", timestamp=WHEN)
    enabled = vector.enable
    await vector.send_setVector()
    await vector.send_defVector()
    await vector.send_delProperty(timestamp=WHEN)
    vector.enable = True
    await vector.send_defVector(timestamp=WHEN)
    return enabled


@step
async def delete_device(driver):
    device = driver["Other"]
    await device.send_delProperty(message="all gone", timestamp=WHEN)
    enabled = device.enable
    await device["tx"].send_defVector()
    await device["tx"].send_setVector()
    await device.send_device_message("silent")
    await device.send_delProperty(timestamp=WHEN)
    device.enable = True
    await device["tx"].send_defVector(timestamp=WHEN)
    return enabled


async def blob(driver, value, *, member="b1", name="bl", **kwargs):
    vector = driver["Dev"][name]
    vector[member] = value
    await vector.send_setVectorMembers(members=[member], timestamp=WHEN, **kwargs)
    vector.data[member].blobsize = 0


@step
async def blob_bytes(driver):
    await blob(driver, b"hello", state="Ok")
    await blob(driver, bytes(range(256)), member="b2", name="bl2", message="m", state="Busy")


@step
async def blob_rw_has_a_timeout(driver):
    await blob(driver, b"hello", name="blrw", timeout="4")


@step
async def blob_of_another_length(driver):
    vector = driver["Dev"]["bl"]
    vector["b1"] = b"hello"
    await vector.send_setVectorMembers(members=["b1"], timestamp=WHEN)
    vector["b1"] = b"a longer one"
    await vector.send_setVectorMembers(members=["b1"], timestamp=WHEN)
    vector.data["b1"].blobsize = 0


@step
async def blob_with_a_size_of_its_own(driver):
    vector = driver["Dev"]["bl"]
    vector.data["b1"].blobsize = 1000
    vector["b1"] = b"compressed"
    await vector.send_setVectorMembers(members=["b1"], timestamp=WHEN)
    vector.data["b1"].blobsize = 0


@step
async def set_blobsize(driver):
    vector = driver["Dev"]["bl"]
    vector.set_blobsize("b1", 1000)
    vector.set_blobsize("b1", "many")
    vector.set_blobsize("nobody", 3)
    size = vector.data["b1"].blobsize
    vector.set_blobsize("b1", 0)
    return size


@step
async def blob_from_path(driver):
    (FOLDER / "x.tar.gz").write_bytes(b"pathdata")
    await blob(driver, FOLDER / "x.tar.gz")
    await blob(driver, str(FOLDER / "x.tar.gz"))
    await blob(driver, str(FOLDER / "x.tar.gz"), member="b2")


@step
async def blob_from_file_object(driver):
    await blob(driver, io.BytesIO(b"filedata"))


@step
async def blob_file_object_after_the_send(driver):
    source = io.BytesIO(b"filedata")
    await blob(driver, source)
    return source.closed


@step
async def blob_missing_file(driver):
    await blob(driver, str(FOLDER / "nothing.bin"))


@step
async def blob_bytearray(driver):
    await blob(driver, bytearray(b"mutable"))


@step
async def blob_memoryview(driver):
    await blob(driver, memoryview(b"view"))


@step
async def blob_refused_values(driver):
    vector = driver["Dev"]["bl"]
    vector["b1"] = b"kept"
    vector["b1"] = b""
    vector["b1"] = None
    return repr(vector["b1"])


@step
async def blob_state_only(driver):
    await driver["Dev"]["blrw"].send_setVectorMembers(state="Ok", members=[], timestamp=WHEN)
    await driver["Dev"]["blrw"].send_setVectorMembers(state="Alert", message="bad", members=["nobody"], timestamp=WHEN)


@step
async def get_properties(driver):
    await driver.send_getProperties()
    await driver.send_getProperties("Remote")
    await driver.send_getProperties("Remote", "vec")
    await driver.send_getProperties(vectorname="vec")


@step
async def get_properties_of_own_device(driver):
    await driver.send_getProperties("Dev")


@step
async def disabled_vector(driver):
    vector = driver["Dev"]["txro"]
    vector.enable = False
    await vector.send_defVector()
    await vector.send_setVector(state="Busy")
    state = vector.state
    vector.enable = True
    vector.state = "Idle"
    return state


@step
def leave(driver):
    for path in FOLDER.iterdir():
        os.unlink(path)
    FOLDER.rmdir()


@step
def shut_down(driver):
    driver.shutdown()


if __name__ == "__main__":
    common.main(common.make(dev, other))
