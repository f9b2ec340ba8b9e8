"""The words of INDI 1.7: tags, states, permissions, rules and BLOB policies."""

from __future__ import annotations

from typing import Final

VERSION: Final = "1.7"
"""The protocol version that getProperties carries."""

KINDS: Final = ("Text", "Number", "Switch", "Light", "BLOB")

STATES: Final = ("Idle", "Ok", "Busy", "Alert")
SWITCH_STATES: Final = ("On", "Off")
PERMISSIONS: Final = ("ro", "wo", "rw")
RULES: Final = ("OneOfMany", "AtMostOne", "AnyOfMany")

NEVER: Final = "Never"
ALSO: Final = "Also"
ONLY: Final = "Only"
BLOB_POLICIES: Final = (NEVER, ALSO, ONLY)

DEF_VECTORS: Final = frozenset(f"def{kind}Vector" for kind in KINDS)
SET_VECTORS: Final = frozenset(f"set{kind}Vector" for kind in KINDS)
NEW_VECTORS: Final = frozenset(f"new{kind}Vector" for kind in KINDS if kind != "Light")

SNOOPED: Final = DEF_VECTORS | SET_VECTORS | {"message", "delProperty"}
"""Messages about the devices of other drivers that a driver may receive."""
