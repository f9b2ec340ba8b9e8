"""Messages that indifast's client accepts and indipyclient refuses, with the reason and what a program sees here.

If indipyclient can't read one value, it drops the whole property, and everything that is sent about it later. Everything
else that it refuses is refused here as well: see the scenario `refused` in test_client_conformance.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

VALUE = "a value that can't be read costs only that value: libindi's client uses a default, or skips it"
WORD = "libindi's client uses a default for a missing or unknown word"
NAMELESS = "libindi's drivers define members without a name, and its client skips them"
NULL = "a published library documents that an empty number means no value"
NUMBER = "indipydriver sends an empty format, and other drivers omit attributes that they consider optional"
FRAME = "a BLOB without a format, or with a size that can't be read, is still a frame"

SHAPES = re.compile(r"%(-?\d*)\.(7|9|1\d)m")
"""Sexagesimal formats that are shown as in indipydriver, d:mm:ss.ss, because both sides share one formatter.

indipyclient refuses some of them. For the others it shows the requested decimal places of seconds, but rounds to one.
"""


@dataclass(frozen=True)
class Difference:
    """A message, and what a program sees of it here: the event, its members as pairs, some fields, and the state."""

    message: str
    reason: str
    event: str
    members: list[list[Any]]
    fields: dict[str, Any] = field(default_factory=dict)
    state: str | None = None


def numbers(name: str, member: str, attributes: str = "") -> str:
    return f'<defNumberVector device="D" name="{name}" state="Ok" perm="rw"{attributes}>{member}</defNumberVector>'


DIFFERENCES = [
    Difference(
        '<defTextVector device="D" name="T2" state="Odd" perm="rw"><defText name="x">1</defText></defTextVector>',
        WORD, "Define", [["x", "1"]], {"state": "Idle", "perm": "rw"},
    ),
    Difference(
        '<defTextVector device="D" name="T3" perm="r"><defText name="x">1</defText></defTextVector>',
        WORD, "Define", [["x", "1"]], {"state": "Idle", "perm": "ro", "timeout": 0.0, "label": "T3"},
    ),
    Difference(
        '<defTextVector device="E" name="T2" state="Odd" perm="rw"><defText name="x">1</defText></defTextVector>',
        WORD, "Define", [["x", "1"]], {"state": "Idle"},
    ),
    Difference(
        '<defSwitchVector device="D" name="S2" state="Ok" perm="rw" rule="Some"><defSwitch name="x">On</defSwitch>'
        "</defSwitchVector>",
        WORD, "Define", [["x", "On"]], {"rule": "OneOfMany"},
    ),
    Difference(
        '<defSwitchVector device="D" name="S3" state="Ok" perm="rw" rule="AnyOfMany"><defSwitch name="x">on</defSwitch>'
        '<defSwitch name="y">On</defSwitch></defSwitchVector>',
        VALUE, "Define", [["x", "Off"], ["y", "On"]], {"rule": "AnyOfMany"},
    ),
    Difference(
        '<defSwitchVector device="D" name="S4" state="Ok" perm="rw" rule="OneOfMany"><defSwitch name="x">On</defSwitch>'
        '<defSwitch name="" label="">Off</defSwitch><defSwitch>Off</defSwitch></defSwitchVector>',
        NAMELESS, "Define", [["x", "On"]], {"memberlabels": {"x": "x"}},
    ),
    Difference(
        numbers("N2", '<defNumber name="a" format="%g" min="0" max="1">1</defNumber>'),
        NUMBER, "Define", [["a", "1"]], {"memberlabels": {"a": ["a", "%g", "0", "1", "0"]}},
    ),
    Difference(
        numbers("N3", '<defNumber name="a" format="" min="" max="" step="">1</defNumber>'),
        NUMBER, "Define", [["a", "1"]], {"memberlabels": {"a": ["a", "%g", "0", "0", "0"]}},
    ),
    Difference(
        numbers("N4", '<defNumber name="a" format="%g" min="0" max="1" step="1">x</defNumber>'),
        VALUE, "Define", [["a", "x"]],
    ),
    Difference(
        numbers("N5", '<defNumber name="a" format="%g" min="0" max="1" step="1"/>'), NULL, "Define", [["a", ""]]
    ),
    Difference(
        '<defLightVector device="D" name="L2" state="Ok"><defLight name="l">ok</defLight><defLight name="m"/>'
        "</defLightVector>",
        VALUE, "Define", [["l", "Idle"], ["m", "Idle"]],
    ),
    Difference(
        '<setNumberVector device="D" name="N" state="Busy"><oneNumber name="a">x</oneNumber>'
        '<oneNumber name="b">2</oneNumber></setNumberVector>',
        VALUE, "Set", [["b", "2"]], state="Busy",
    ),
    Difference(
        '<setNumberVector device="D" name="N"><oneNumber name="a"></oneNumber></setNumberVector>',
        VALUE, "Set", [], {"state": None}, state="Busy",
    ),
    Difference(
        '<setSwitchVector device="D" name="S" state="Ok"><oneSwitch name="on">ON</oneSwitch></setSwitchVector>',
        VALUE, "Set", [], state="Ok",
    ),
    Difference(
        '<setLightVector device="D" name="L" state="Odd"><oneLight name="l">Fine</oneLight></setLightVector>',
        VALUE, "Set", [], {"state": None}, state="Idle",
    ),
    Difference(
        '<setBLOBVector device="D" name="B"><oneBLOB name="img" size="3" format="">QUJD</oneBLOB></setBLOBVector>',
        FRAME, "SetBLOB", [["img", "414243"]], {"sizeformat": {"img": [3, ""]}},
    ),
    Difference(
        '<setBLOBVector device="D" name="B"><oneBLOB name="img" size="a" format=".x">QUJD</oneBLOB></setBLOBVector>',
        FRAME, "SetBLOB", [["img", "414243"]], {"sizeformat": {"img": [3, ".x"]}},
    ),
    Difference(
        '<setBLOBVector device="D" name="B" state="Ok"><oneBLOB name="img" size="3" format=".x"></oneBLOB>'
        '<oneBLOB format=".x" size="3">QUJD</oneBLOB></setBLOBVector>',
        VALUE, "SetBLOB", [], {"sizeformat": {}}, state="Ok",
    ),
]  # fmt: skip
