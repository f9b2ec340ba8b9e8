"""Random messages from clients and drivers at once, some valid and some not: everything that is sent on is valid."""

from __future__ import annotations

import random

import pytest

from tests.faults.support import GET, Serve, answers
from tests.support.blackbox import Channel, Hub, resident_bytes, tree

TAGS = [
    "newTextVector",
    "newNumberVector",
    "newSwitchVector",
    "newBLOBVector",
    "defTextVector",
    "setTextVector",
    "setBLOBVector",
    "defBLOBVector",
    "delProperty",
    "message",
    "getProperties",
    "enableBLOB",
    "pingRequest",
    "pingReply",
    "foo",
    "defSwitchVector",
    "setLightVector",
]
DEVICES = ["Dev", "X", "Y", "*", "", "é", "a&amp;b", "Q" * 200]
NAMES = ["text", "do", "blob", "b", "switch", "number", "", "zz", "light"]
CONTENTS = [
    "x",
    "1",
    "On",
    "Ok",
    "",
    "aGVsbG8=",
    "aGVsbG8",
    "\n aGVs\nbG8=\n",
    "<![CDATA[x]]>",
    "&lt;",
    "&#0;",
    "é",
    "\x01",
]
EXTRAS = [
    "",
    ' size="5"',
    ' size="5" format=".x"',
    ' size="-1" format=""',
    ' size="5" format=".x" enclen="8"',
    ' size="5" format=".x" enclen="4"',
    ' size="5" format=".stream" attached="true"',
]


def member(dice: random.Random) -> str:
    tag = dice.choice(["one", "def"]) + dice.choice(["Text", "Number", "Switch", "BLOB", "Light"])
    name, extra, content = dice.choice(["t", "a", "n", "b", "zz"]), dice.choice(EXTRAS), dice.choice(CONTENTS)
    return f'<{tag} name="{name}"{extra}>{content}</{tag}>'


def message(dice: random.Random) -> bytes:
    """Return a message; sometimes with a changed byte, without its end, or followed by a part of itself."""
    tag = dice.choice(TAGS)
    attributes = ""
    for name, values, share in (
        ("device", DEVICES, 0.9),
        ("name", NAMES, 0.8),
        ("state", ["Ok", "Busy", "x", ""], 0.5),
        ("perm", ["ro", "rw", "x"], 0.5),
        ("version", ["1.7", "9", "x"], 0.2),
        ("uid", ["1"], 0.2),
    ):
        if dice.random() < share:
            attributes += f' {name}="{dice.choice(values)}"'
    inner = "".join(member(dice) for _ in range(dice.randrange(4)))
    if tag == "enableBLOB":
        inner = dice.choice(["Also", "Never", "Only", "x", ""])
    data = f"<{tag}{attributes}>{inner}</{tag}>".encode()
    where, luck = dice.randrange(len(data)), dice.random()
    if luck < 0.15:
        return data[:where] + bytes([dice.randrange(256)]) + data[where + 1 :]
    if luck < 0.25:
        return data[:where]
    return data + data[where:] if luck < 0.3 else data


def check(channel: Channel) -> None:
    """Check that what has arrived is well-formed, with nothing between messages, and announces no missing content."""
    while channel.pump(0):
        pass
    for received in channel.messages:
        root = tree(received)
        for element in root.iter():
            length = element.get("enclen")
            assert length is None or int(length) == len("".join((element.text or "").split())), received
            assert element.get("attached") is None, received
    assert not channel.splitter.junk.strip()
    channel.messages.clear()
    channel.raw.clear()
    channel.splitter.junk.clear()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_valid_messages_are_sent_on(serve: Serve, hub: Hub, seed: int) -> None:
    dice = random.Random(seed)
    served = serve(programs=[[hub.program("one")], [hub.program("two")]], server={"maxconnections": 50})
    drivers = [hub.accept()[1] for _ in range(2)]
    watcher = served.client()
    clients: list[Channel] = []
    before = resident_bytes(served.pid)
    for number in range(1000):
        if len(clients) < 6:
            clients.append(Channel.connect(served.port))
        speaker = dice.choice([*clients, *drivers])
        try:
            speaker.send(b"".join(message(dice) for _ in range(dice.randrange(20))))
        except OSError:  # the server may disconnect it, for example because of a BLOB without its descriptor
            speaker.close()
            if speaker in clients:
                clients.remove(speaker)
            else:
                drivers.remove(speaker)
                drivers.append(hub.accept()[1])
        if number % 50 == 0:
            for channel in (*clients, *drivers, watcher):
                check(channel)
    for channel in clients:
        channel.close()
    late = served.connect(GET)
    late.until_text('<defBLOBVector device="Dev"')
    answers(late)
    assert resident_bytes(served.pid) - before < 60 << 20
    assert "Traceback" not in served.child.stderr
    served.stop()
