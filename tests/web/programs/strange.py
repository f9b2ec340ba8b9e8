"""Drivers for the tests of the web application: one that answers in all ways, one with hostile names, and a camera."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)
from indifast.protocol.numbers import read_number

NASTY = "<img src=x onerror=document.title='HTML'> & A/B?%2F#"
SECRET = "correct horse"
WIDTH, HEIGHT = 64, 48


def fits(number, mosaic=True):
    """A dark picture of 16 bits with one bright pixel, perhaps of a mosaic: all of it changes with the number."""
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": WIDTH, "NAXIS2": HEIGHT, "BZERO": 32768}  # fmt: skip
    if mosaic:
        cards["BAYERPAT"] = "'RGGB    '"
    header = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END".ljust(80)
    values = [1000 + (number * 3 + at * 7 + at // WIDTH * 13) % 50 for at in range(WIDTH * HEIGHT)]
    values[number % len(values)] = 60_000
    pixels = b"".join((value - 32768).to_bytes(2, "big", signed=True) for value in values)
    return header.encode().ljust(2880) + pixels.ljust(-len(pixels) % 2880 + len(pixels), b"\0")


class Strange(IPyDriver):
    taken = 0

    async def rxevent(self, event):
        vector = event.vector
        match event.vectorname:
            case "ANSWER":
                value = read_number(event["VALUE"])
                vector["VALUE"] = value
                if value == 13:
                    await vector.send_setVector(state="Alert", message="thirteen is <b>unlucky</b>")
                elif value == 7:
                    await vector.send_setVector(state="Busy")
                elif value == 5:
                    await vector.send_setVector(state="Busy")
                    await asyncio.sleep(0.1)
                    await vector.send_setVector(state="Ok", message="five after all")
                elif value == 9:
                    await vector.send_setVector(state="Ok")
                    await vector.send_delVector()
                else:
                    await vector.send_setVector(state="Ok")
            case "LOGIN" | "WIFI":
                said = self["Strange"]["SAID"]
                said["LAST"] = f"{event.vectorname} {'right' if SECRET in event.values() else 'wrong'}"
                await said.send_setVector(state="Ok")
                for name, value in event.items():
                    vector[name] = value
                await vector.send_setVector(state="Ok")
            case "STORE":
                content = event["FILE"]
                state = "Alert" if content.startswith(b"bad") else "Ok"
                size, form = event.sizeformat["FILE"]
                await vector.send_setVectorMembers(state=state, message=f"{sha256(content).hexdigest()} {size} {form}")
            case "MODE" | "PARTS":
                for name, value in event.items():
                    vector[name] = value
                await vector.send_setVector(state="Ok")
            case "TAKE":
                picture = self["Eye"]["PICTURE"]
                for _ in range(int(float(event["FRAMES"]))):
                    self.taken += 1
                    content = fits(self.taken, mosaic=float(event["PLAIN"]) == 0)
                    picture["LEFT"] = content if float(event["DAMAGED"]) == 0 else b"SIMPLE  = nonsense"
                    await picture.send_setVectorMembers(state="Ok", members=["LEFT"])
                vector["FRAMES"] = self.taken
                await vector.send_setVector(state="Ok")
            case "COUNT":
                for number in range(int(float(event["TO"]))):
                    vector["TO"] = number
                    await vector.send_setVector(state="Busy")
                vector["TO"] = event["TO"]
                await vector.send_setVector(state="Ok")


def make():
    def number(name, label="Number", **more):
        return [NumberMember(name, label, "%.3f", 0, 1e6, 0, 1)]

    first = Device(
        "Strange",
        [
            NumberVector("ANSWER", "Answer", "Main", "rw", "Idle", number("VALUE")),
            NumberVector("COUNT", "Count", "Main", "rw", "Idle", number("TO")),
            TextVector("LOGIN", "Log in", "Main", "wo", "Idle", [TextMember("WORD", "Word", SECRET)]),
            TextVector(
                "WIFI", "Network", "Main", "rw", "Idle",
                [TextMember("SSID", "Network", "dome"), TextMember("KEY", "Password", SECRET)],
            ),
            NumberVector(
                "DOOR", "Door", "Main", "rw", "Ok",
                [NumberMember("LEVEL", "Level", "%g", 0, 9, 0, 1), NumberMember("CODE", "Passcode", "%g", 0, 9, 0, 99)],
            ),
            BLOBVector("STORE", "Store", "Main", "wo", "Idle", [BLOBMember("FILE", "File")]),
            TextVector("SAID", "Said", "Main", "ro", "Idle", [TextMember("LAST", "Last", "nothing")]),
            SwitchVector(
                "MODE", "Mode", "Main", "rw", "OneOfMany", "Ok",
                [SwitchMember("A", "Fast", "On"), SwitchMember("B", "Slow", "Off")],
            ),
            LightVector("HEALTH", "Health", "Main", "Ok", [LightMember("FAN", "Fan", "Busy")]),
        ],
    )  # fmt: skip
    nasty = Device(NASTY, [TextVector(NASTY, NASTY, NASTY, "rw", "Ok", [TextMember(NASTY, NASTY, NASTY)])])
    numbers = [*number("FRAMES"), *number("DAMAGED"), *number("PLAIN")]
    filters = [
        TextMember("CFA_OFFSET_X", "X", "0"),
        TextMember("CFA_OFFSET_Y", "Y", "1"),
        TextMember("CFA_TYPE", "Type", "GRBG"),
    ]
    eye = Device(
        "Eye",
        [
            NumberVector("TAKE", "Take", "Main", "rw", "Idle", numbers),
            TextVector("CCD_CFA", "Filters", "Main", "ro", "Ok", filters),
            BLOBVector("PICTURE", "Picture", "Main", "ro", "Ok", [BLOBMember("LEFT", "Left", blobformat=".fits")]),
        ],
    )
    return Strange(first, nasty, eye)
