"""What is sent in the routing matrix: the sender and the message of each case, in this order.

For `P`, the driver in the server's process, the message is a key of `SAYINGS` in `python_server.py`.
"""

from __future__ import annotations

HELLO = "aGVsbG8="
BLOB = f'<oneBLOB name="m" size="5" format=".x">{HELLO}</oneBLOB>'


def vector(tag: str, device: str, name: str, inner: str = "", extra: str = ' state="Ok"') -> str:
    return f'<{tag} device="{device}" name="{name}"{extra}>{inner}</{tag}>'


def set_text(device: str, name: str = "t") -> str:
    return vector("setTextVector", device, name, '<oneText name="m">v</oneText>')


def new_text(device: str, name: str = "t") -> str:
    return vector("newTextVector", device, name, '<oneText name="m">v</oneText>', "")


def def_text(device: str, name: str = "t") -> str:
    return vector("defTextVector", device, name, '<defText name="m">v</defText>', ' state="Ok" perm="rw"')


def set_blob(device: str) -> str:
    return vector("setBLOBVector", device, "b", BLOB)


def get(device: str | None = None, name: str | None = None) -> str:
    words = (f' device="{device}"' if device else "") + (f' name="{name}"' if name else "")
    return f'<getProperties version="1.7"{words}/>'


CASES: dict[str, tuple[str, str]] = {
    # A driver sends messages about its own devices.
    "def": ("X", def_text("A")),
    "def of another property": ("X", def_text("A", "t2")),
    "def blob": ("X", vector("defBLOBVector", "A", "b", '<defBLOB name="m"/>', ' state="Ok" perm="rw"')),
    "set text": ("X", set_text("A")),
    "set number": ("X", vector("setNumberVector", "A", "n", '<oneNumber name="m">1</oneNumber>')),
    "set switch": ("X", vector("setSwitchVector", "A", "s", '<oneSwitch name="m">On</oneSwitch>')),
    "set light": ("X", vector("setLightVector", "A", "l", '<oneLight name="m">Ok</oneLight>')),
    "set without members": ("X", '<setTextVector device="A" name="t" state="Busy"/>'),
    "set blob": ("X", set_blob("A")),
    "set blob without members": ("X", '<setBLOBVector device="A" name="b" state="Busy"/>'),
    "set text of another device": ("X", set_text("B")),
    "set blob of another device": ("X", set_blob("B")),
    "device message": ("X", '<message device="A" message="of the device"/>'),
    "message": ("X", '<message message="of the driver"/>'),
    "delete property": ("X", '<delProperty device="A" name="t2"/>'),
    "def of a new device": ("X", def_text("C")),
    "delete device": ("X", '<delProperty device="C"/>'),
    "ping": ("X", '<pingRequest uid="u"/>'),
    # A driver sends messages to or about others.
    "driver asks for a device": ("Z", get("Y", "t")),
    "then it is told": ("Y", set_text("Y")),
    "driver asks for a remote device": ("Z", get("R", "t")),
    "then it is told by the remote": ("R", set_text("R")),
    "driver asks for an unknown device": ("Z", get("Nobody")),
    "driver commands another": ("Z", new_text("A")),
    "driver speaks of a foreign device": ("Z", set_text("A")),
    "driver defines a foreign device": ("Z", def_text("A")),
    "driver deletes a foreign device": ("Z", '<delProperty device="A" name="t"/>'),
    # A driver in the server's process.
    "in-process def": ("P", "def"),
    "in-process set": ("P", "set"),
    "in-process blob": ("P", "blob"),
    "in-process device message": ("P", "device message"),
    "in-process message": ("P", "message"),
    "in-process asks": ("P", "get"),
    # A remote server.
    "remote def": ("R", def_text("R")),
    "remote set": ("R", set_text("R")),
    "remote blob": ("R", set_blob("R")),
    "remote device message": ("R", '<message device="R" message="of the remote device"/>'),
    "remote message": ("R", '<message message="of the remote"/>'),
    "remote delete": ("R", '<delProperty device="R" name="t2"/>'),
    "remote asks": ("R", get("A", "t")),
    "then the remote is told": ("X", set_text("A")),
    "remote commands": ("R", new_text("A")),
    "remote speaks of a foreign device": ("R", set_text("A")),
    # A client.
    "client commands": ("w", new_text("A")),
    "client sends a blob": ("w", vector("newBLOBVector", "A", "b", BLOB, "")),
    "client commands the in-process driver": ("w", new_text("P")),
    "client commands the remote": ("w", new_text("R")),
    "client commands an unknown device": ("w", new_text("Nobody")),
    "client asks for all": ("w", get()),
    "client asks for a device": ("w", get("A")),
    "client asks for a property": ("w", get("A", "t")),
    "client asks for a remote device": ("w", get("R")),
    "client asks for an unknown device": ("w", get("Nobody")),
    "client pings": ("w", '<pingRequest uid="u"/>'),
    "client message": ("w", '<message message="of a client"/>'),
    # A client acts as a driver.
    "client speaks of a device": ("w", set_text("A")),
    "client deletes a device": ("w", '<delProperty device="A"/>'),
    "client speaks for a device": ("w", '<message device="A" message="hello"/>'),
    # Requests for BLOBs.
    "client wants blobs of a property": ("w", '<enableBLOB device="A" name="b">Also</enableBLOB>'),
    "then it gets one": ("X", set_blob("A")),
    "client wants blobs of a device no more": ("w", '<enableBLOB device="A">Never</enableBLOB>'),
    "then it gets none": ("X", set_blob("A")),
    "client wants blobs of the remote": ("w", '<enableBLOB device="R" name="b">Also</enableBLOB>'),
    "then it gets one of the remote": ("R", set_blob("R")),
    "client wants only blobs of a device": ("w", '<enableBLOB device="B">Only</enableBLOB>'),
    "then nothing else of that device": ("X", set_text("B")),
    "but its blobs": ("X", set_blob("B")),
    "and all of another": ("X", set_text("A")),
    "client wants nonsense": ("w", '<enableBLOB device="A">Sometimes</enableBLOB>'),
    # Two owners: a second one that offers a known device is sent nothing more about it.
    "remote defines a foreign device": ("R", def_text("A")),
    "client defines a device that exists": ("w", def_text("A")),
    "then neither is told": ("X", set_text("A")),
    # An unknown root comes last. No server is obliged to pass it on.
    "unknown root": ("X", '<foo device="A" name="t"/>'),
}
