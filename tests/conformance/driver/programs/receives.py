"""A driver for all that a client may send, and the events that result from it."""

from __future__ import annotations

import common
import indipydriver as ipd
from common import step

dev = ipd.Device(
    "Dev",
    [
        ipd.SwitchVector(
            "sw",
            "SwL",
            "G",
            "rw",
            "OneOfMany",
            "Ok",
            [ipd.SwitchMember("a", membervalue="On"), ipd.SwitchMember("b", "Bee")],
        ),
        ipd.SwitchVector("swro", "SwR", "G", "ro", "OneOfMany", "Ok", [ipd.SwitchMember("a")]),
        ipd.TextVector("tx", "TxL", "G", "rw", "Idle", [ipd.TextMember("t", "T"), ipd.TextMember("e")]),
        ipd.NumberVector(
            "nu",
            "NuL",
            "G",
            "wo",
            "Busy",
            [ipd.NumberMember("n", format="%9.6m", min="-5", max="10.5", membervalue="1.25")],
        ),
        ipd.LightVector("li", "LiL", "G", "Alert", [ipd.LightMember("l", "L", "Ok")]),
        ipd.BLOBVector("bl", "BlL", "G", "rw", "Ok", [ipd.BLOBMember("b1")]),
        ipd.TextVector("off", "Off", "G", "rw", "Idle", [ipd.TextMember("t")]),
    ],
)
second = ipd.Device(
    "Second",
    [
        ipd.TextVector("tx", "T", "G", "rw", "Idle", [ipd.TextMember("t")]),
        ipd.TextVector("ty", "T", "G", "rw", "Idle", [ipd.TextMember("t")]),
    ],
)
asleep = ipd.Device("Asleep", [ipd.TextVector("tx", "T", "G", "rw", "Idle", [ipd.TextMember("t")])])
dev["off"].enable = False
asleep.enable = False


async def answer(driver, event):
    """Store the values and confirm them, as drivers do."""
    if not isinstance(event, (ipd.newSwitchVector, ipd.newTextVector, ipd.newNumberVector)):
        return
    for name, value in event.items():
        event.vector[name] = value
    await event.vector.send_setVectorMembers(members=list(event), state="Ok")


common.Driver.answer = answer


@step
def definitions_by_hand(driver):
    driver.auto_send_def = False


@step
def definitions_automatic(driver):
    driver.auto_send_def = True


if __name__ == "__main__":
    common.main(common.make(dev, second, asleep))
