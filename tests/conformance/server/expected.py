"""The routing matrix of indifast, and what the two peers do where they differ.

Endpoints: the executable drivers X (owner of A and B), Y (snoops on A, with its BLOBs), V (snoops on A.t) and Z; P, a
driver in the server's process that snoops on A (not at indiserver); R, a remote server; and the clients that
`serverfield` describes.
"""

from __future__ import annotations

EVERYBODY = "sends it to every client and link, whatever they have asked for"
NO_PING = "does not answer pings"
COPIES = "passes commands and requests on to all clients, drivers and links"
LINK_BLOBS = "sends BLOBs to a link that has not asked for them"
PROPERTY_FIRST = "a setting for a device leaves the earlier one of its property in place"
NOT_PASSED_ON = "decides itself which BLOBs a remote server may send, and asks for all of them"
TWO_OWNERS_STOP = "a second definition of a device stops the server"
SNOOPED_MESSAGE = "a device message stops a snooping driver, and the server with it"
NO_OWNERS = "a device has no owner: everybody may send messages for it, and gets its commands afterwards"
WIDE_ONLY = "links get only what they ask for; Only for a device silences the whole connection"
WIDE_POLICY = "a setting without a property applies to all devices; a snooping driver has to ask for BLOBs"
WIDE_POLICY_ATTACHED = f"{WIDE_POLICY}; a driver gets BLOBs as descriptors, which it can't read"
ATTACHED = "commands are copied to other clients; drivers get BLOBs as descriptors, which they can't read"
ECHO = "commands are copied to other clients, and to all who have ever sent a message about the device"
TO_ALL_DRIVERS = "requests go to all who have ever sent a message about the device; they never widen an interest"
STUCK = "the connection that sent it is no longer served"
UNKNOWN = "unknown elements are passed on"

ENDS = "(the server ends)"

EXPECTED: dict[str, str] = {
    "def": "P R V Y also_dev also_prop devA never_prop only_dev only_prop propA w",
    "def of another property": "P R Y also_dev also_prop devA never_prop only_dev only_prop w",
    "def blob": "P R Y also_dev also_prop devA never_prop only_dev only_prop w",
    "set text": "P R V Y also_dev also_prop devA never_prop only_prop propA w",
    "set number": "P R Y also_dev also_prop devA never_prop only_prop w",
    "set switch": "P R Y also_dev also_prop devA never_prop only_prop w",
    "set light": "P R Y also_dev also_prop devA never_prop only_prop w",
    "set without members": "P R V Y also_dev also_prop devA never_prop only_prop propA w",
    "set blob": "P Y also_dev also_prop only_dev only_prop",
    "set blob without members": "P R Y also_dev also_prop devA never_prop only_dev only_prop w",
    "set text of another device": "R also_prop devB never_prop only_prop w",
    "set blob of another device": "",
    "device message": "P R Y also_dev also_prop devA never_prop only_prop w",
    "message": "also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
    "delete property": "P R Y also_dev also_prop devA never_prop only_dev only_prop w",
    "def of a new device": "R also_prop never_prop only_prop w",
    "delete device": "R also_prop never_prop only_prop w",
    "ping": "X:<pingReply uid=u>",
    "driver asks for a device": "Y",
    "then it is told": "R Z also_prop never_prop only_prop w",
    "driver asks for a remote device": "R",
    "then it is told by the remote": "Z also_prop never_prop only_prop w",
    "driver asks for an unknown device": "",
    "driver commands another": "X",
    "driver speaks of a foreign device": "",
    "driver defines a foreign device": (
        "also_dev+also_prop+devA+devB+never_prop+only_dev+only_prop+propA+silent+w:<message message=Driver dr"
        "iver_Z offers A, which Driver driver_X has already: ignored there>"
    ),
    "driver deletes a foreign device": "",
    "in-process def": "R also_prop never_prop only_prop w",
    "in-process set": "R also_prop never_prop only_prop w",
    "in-process blob": "",
    "in-process device message": "R also_prop never_prop only_prop w",
    "in-process message": "also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
    "in-process asks": "X",
    "remote def": "Z also_prop never_prop only_prop w",
    "remote set": "Z also_prop never_prop only_prop w",
    "remote blob": "",
    "remote device message": "also_prop never_prop only_prop w",
    "remote message": "also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
    "remote delete": "also_prop never_prop only_prop w",
    "remote asks": "X",
    "then the remote is told": "P R V Y also_dev also_prop devA never_prop only_prop propA w",
    "remote commands": "X",
    "remote speaks of a foreign device": "",
    "client commands": "X",
    "client sends a blob": "X",
    "client commands the in-process driver": "P",
    "client commands the remote": "R",
    "client commands an unknown device": (
        "w:<message device=Nobody message=refused: a command for Nobody, which is not here>"
    ),
    "client asks for all": (
        "V X Y Z R:<getProperties device=R version=1.7>|<defTextVector device=P group=G label=t name=t perm=r"
        "w state=Ok timeout=0><defText label=m name=m>x|<defBLOBVector device=P group=G label=b name=b perm=r"
        "w state=Ok timeout=0><defBLOB label=m name=m> also_prop+never_prop+only_prop+w:<defTextVector device"
        "=P group=G label=t name=t perm=rw state=Ok timeout=0><defText label=m name=m>x|<defBLOBVector device"
        "=P group=G label=b name=b perm=rw state=Ok timeout=0><defBLOB label=m name=m>"
    ),
    "client asks for a device": "X",
    "client asks for a property": "X",
    "client asks for a remote device": "R",
    "client asks for an unknown device": "",
    "client pings": "w:<pingReply uid=u>",
    "client message": "also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
    "client speaks of a device": "",
    "client deletes a device": "",
    "client speaks for a device": "",
    "client wants blobs of a property": "",
    "then it gets one": "P Y also_dev also_prop only_dev only_prop w",
    "client wants blobs of a device no more": "",
    "then it gets none": "P Y also_dev also_prop only_dev only_prop",
    "client wants blobs of the remote": "R",
    "then it gets one of the remote": "w",
    "client wants only blobs of a device": "",
    "then nothing else of that device": "R also_prop devB never_prop only_prop",
    "but its blobs": "w",
    "and all of another": "P R V Y also_dev also_prop devA never_prop only_prop propA w",
    "client wants nonsense": "",
    "remote defines a foreign device": (
        "also_dev+also_prop+devA+devB+never_prop+only_dev+only_prop+propA+silent+w:<message message=Remote AD"
        "DRESS offers A, which Driver driver_X has already: ignored there>"
    ),
    "client defines a device that exists": (
        "also_dev+also_prop+devA+devB+never_prop+only_dev+only_prop+propA+silent+w:<message message=Client AD"
        "DRESS offers A, which Driver driver_X has already: ignored there>"
    ),
    "then neither is told": "P V Y also_dev also_prop devA never_prop only_prop propA",
    "unknown root": "",
}

PEERS: dict[str, dict[str, tuple[str, str]]] = {
    "indipyserver": {
        "def": ("P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "def of another property": (
            "P R Y also_dev also_prop devA devB never_prop only_prop propA silent w",
            EVERYBODY,
        ),
        "def blob": ("P R Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "set text": ("P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "set number": ("P R Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "set switch": ("P R Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "set light": ("P R Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "set without members": ("R V Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "set blob": ("P R Y also_dev also_prop only_dev only_prop", LINK_BLOBS),
        "set blob without members": (
            "R Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "set text of another device": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "set blob of another device": ("R", LINK_BLOBS),
        "device message": (ENDS, SNOOPED_MESSAGE),
        "message": ("R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "delete property": (
            "P R Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "def of a new device": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "delete device": ("R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "ping": ("", NO_PING),
        "driver asks for a device": (
            "R V X Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            COPIES,
        ),
        "then it is told": ("R Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "driver asks for a remote device": (
            "R V X Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            COPIES,
        ),
        "then it is told by the remote": (
            "Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "driver asks for an unknown device": (
            "R V X Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            COPIES,
        ),
        "driver commands another": ("R X also_dev also_prop devA devB never_prop only_prop propA silent w", COPIES),
        "driver speaks of a foreign device": (
            "P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w",
            NO_OWNERS,
        ),
        "driver defines a foreign device": (ENDS, TWO_OWNERS_STOP),
        "driver deletes a foreign device": (
            "P R V Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            NO_OWNERS,
        ),
        "in-process def": ("R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "in-process set": ("R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "in-process blob": ("R", LINK_BLOBS),
        "in-process device message": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "in-process message": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "in-process asks": (
            "R V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            COPIES,
        ),
        "remote def": ("also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "remote set": ("also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "remote device message": (
            "also_dev also_prop devA devB never_prop only_dev only_prop propA silent w",
            EVERYBODY,
        ),
        "remote delete": ("also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", EVERYBODY),
        "remote asks": ("V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent w", COPIES),
        "then the remote is told": (
            "P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w",
            EVERYBODY,
        ),
        "remote commands": ("X also_dev also_prop devA devB never_prop only_prop propA silent w", COPIES),
        "remote speaks of a foreign device": (
            "P V Y also_dev also_prop devA devB never_prop only_prop propA silent w",
            NO_OWNERS,
        ),
        "client commands": ("R X also_dev also_prop devA devB never_prop only_prop propA silent", COPIES),
        "client sends a blob": ("R X also_dev also_prop only_dev only_prop", COPIES),
        "client commands the in-process driver": (
            "P R also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client commands the remote": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client commands an unknown device": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client asks for all": (
            "V X Y Z R+also_dev+also_prop+devA+devB+never_prop+only_dev+only_prop+propA+silent:<getProperties"
            " version=1.7>|<defTextVector device=P group=G label=t name=t perm=rw state=Ok timeout=0><defText"
            " label=m name=m>x|<defBLOBVector device=P group=G label=b name=b perm=rw state=Ok timeout=0><def"
            "BLOB label=m name=m> w:<defTextVector device=P group=G label=t name=t perm=rw state=Ok timeout=0"
            "><defText label=m name=m>x|<defBLOBVector device=P group=G label=b name=b perm=rw state=Ok timeo"
            "ut=0><defBLOB label=m name=m>",
            COPIES,
        ),
        "client asks for a device": (
            "R V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client asks for a property": (
            "R V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client asks for a remote device": (
            "R V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client asks for an unknown device": (
            "R V X Y Z also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            COPIES,
        ),
        "client pings": ("", NO_PING),
        "client message": ("R also_dev also_prop devA devB never_prop only_dev only_prop propA silent", COPIES),
        "client speaks of a device": (
            "P R V Y also_dev also_prop devA devB never_prop only_prop propA silent",
            NO_OWNERS,
        ),
        "client deletes a device": (
            "P R Y also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            NO_OWNERS,
        ),
        "client speaks for a device": (ENDS, SNOOPED_MESSAGE),
        "then it gets one": ("P R Y also_dev also_prop only_dev only_prop w", EVERYBODY),
        "then it gets none": ("P R Y also_dev also_prop only_dev only_prop w", PROPERTY_FIRST),
        "client wants blobs of the remote": ("", NOT_PASSED_ON),
        "then nothing else of that device": (
            "R also_dev also_prop devA devB never_prop only_dev only_prop propA silent",
            EVERYBODY,
        ),
        "but its blobs": ("R w", LINK_BLOBS),
        "and all of another": ("P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
        "remote defines a foreign device": (ENDS, TWO_OWNERS_STOP),
        "client defines a device that exists": (ENDS, TWO_OWNERS_STOP),
        "then neither is told": ("P R V Y also_dev also_prop devA devB never_prop only_prop propA silent w", EVERYBODY),
    },
    "indiserver": {
        "def": ("V Y also_dev also_prop devA never_prop only_prop propA w", WIDE_ONLY),
        "def of another property": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "def blob": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "set text": ("V Y also_dev also_prop devA never_prop only_prop propA w", WIDE_ONLY),
        "set number": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "set switch": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "set light": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "set without members": ("V Y also_dev also_prop devA never_prop only_prop propA w", WIDE_ONLY),
        "set blob": (
            "also_dev also_prop only_dev only_prop Y:<setBLOBVector device=A name=b state=Ok><oneBLOB attache"
            "d=true format=.x name=m size=5>",
            WIDE_POLICY_ATTACHED,
        ),
        "set blob without members": ("Y also_dev also_prop only_dev only_prop", WIDE_POLICY),
        "set text of another device": ("also_prop devB never_prop only_prop w", WIDE_ONLY),
        "set blob of another device": ("never_prop", WIDE_POLICY),
        "device message": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "message": ("also_dev also_prop devA devB never_prop only_prop propA silent w", WIDE_ONLY),
        "delete property": ("Y also_dev also_prop devA never_prop only_prop w", WIDE_ONLY),
        "def of a new device": ("also_prop never_prop only_prop w", WIDE_ONLY),
        "delete device": ("also_prop never_prop only_prop w", WIDE_ONLY),
        "then it is told": ("Z also_prop never_prop only_prop w", WIDE_ONLY),
        "driver commands another": ("V Y also_dev also_prop devA never_prop only_prop propA w", ECHO),
        "driver speaks of a foreign device": ("V Y also_dev also_prop devA never_prop only_prop propA w", NO_OWNERS),
        "driver defines a foreign device": ("V Y also_dev also_prop devA never_prop only_prop propA w", NO_OWNERS),
        "driver deletes a foreign device": ("V Y also_dev also_prop devA never_prop only_prop propA w", NO_OWNERS),
        "remote blob": ("never_prop", WIDE_POLICY),
        "remote message": ("also_dev also_prop devA devB never_prop only_prop propA silent w", WIDE_ONLY),
        "remote asks": ("X Z", TO_ALL_DRIVERS),
        "then the remote is told": ("R V Y also_dev also_prop devA never_prop only_prop propA w", WIDE_ONLY),
        "remote commands": ("V Y also_dev also_prop devA never_prop only_prop propA w", ECHO),
        "remote speaks of a foreign device": ("V Y also_dev also_prop devA never_prop only_prop propA w", NO_OWNERS),
        "client commands": ("R X Z also_dev also_prop devA never_prop only_prop propA", ECHO),
        "client sends a blob": (
            "R also_dev also_prop devA never_prop only_prop X+Z:<newBLOBVector device=A name=b><oneBLOB attac"
            "hed=true format=.x name=m size=5>",
            ATTACHED,
        ),
        "client commands the in-process driver": ("also_prop never_prop only_prop", ECHO),
        "client commands the remote": ("R also_prop never_prop only_prop", ECHO),
        "client commands an unknown device": ("also_prop never_prop only_prop", ECHO),
        "client asks for all": ("R V X Y Z", TO_ALL_DRIVERS),
        "client asks for a device": ("R X Z", TO_ALL_DRIVERS),
        "client asks for a property": ("R X Z", TO_ALL_DRIVERS),
        "client message": ("R V X Y Z", TO_ALL_DRIVERS),
        "client speaks of a device": (ENDS, STUCK),
        "client deletes a device": ("X", NO_OWNERS),
        "client speaks for a device": ("X", NO_OWNERS),
        "then it gets one": (
            "also_dev also_prop only_dev only_prop w Y:<setBLOBVector device=A name=b state=Ok><oneBLOB attac"
            "hed=true format=.x name=m size=5>",
            WIDE_POLICY_ATTACHED,
        ),
        "then it gets none": (
            "also_dev also_prop only_dev only_prop Y:<setBLOBVector device=A name=b state=Ok><oneBLOB attache"
            "d=true format=.x name=m size=5>",
            WIDE_POLICY_ATTACHED,
        ),
        "then it gets one of the remote": ("never_prop w", WIDE_ONLY),
        "then nothing else of that device": ("also_prop devB never_prop only_prop", WIDE_ONLY),
        "but its blobs": ("never_prop w", WIDE_POLICY),
        "and all of another": ("V Y also_dev also_prop devA never_prop only_prop propA", WIDE_ONLY),
        "remote defines a foreign device": ("V Y also_dev also_prop devA never_prop only_prop propA", NO_OWNERS),
        "client defines a device that exists": ("R X", NO_OWNERS),
        "then neither is told": ("V Y also_dev also_prop devA never_prop only_prop propA", NO_OWNERS),
        "unknown root": ("V Y also_dev also_prop devA never_prop only_prop propA", UNKNOWN),
    },
}
