"""The router against a naive model of its rules: a list of all that peers have said, read from the start each time.

The model knows drivers and clients: which driver owns a device, who asked for what, the enableBLOB table, who receives
a message. Links are tested in test_router.py.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.routing.peer import Kind
from tests.routing.talk import World, blob, command, define, update

DRIVERS = ["d1", "d2"]
CLIENTS = ["c1", "c2"]
DEVICES = ["A", "B"]
NAMES = ["P", "Q"]


class Model:
    """All that peers have said so far, in order. Every answer is found by reading it from the start."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str | None, str | None, str | None]] = []  # peer, tag, device, name, text
        self.owner: dict[str, str] = {}

    def interested(self, who: str, device: str, name: str | None) -> bool:
        for speaker, tag, asked_device, asked_name, _ in self.said:
            if speaker != who:
                continue
            if tag == "getProperties" and asked_device is None:
                return True
            subscribes = tag == "getProperties" or (who in CLIENTS and (tag == "enableBLOB" or tag == "command"))
            if subscribes and asked_device == device and asked_name in (None, name):
                return True
        return False

    def touches(self, who: str, device: str) -> bool:
        return any(self.interested(who, device, name) for name in [None, *NAMES])

    def policy(self, who: str, device: str, name: str) -> str:
        policy = "Never"
        for speaker, tag, of_device, of_name, text in self.said:
            if speaker != who or tag != "enableBLOB" or of_device != device or text is None:
                continue
            if of_name is None or of_name == name:
                policy = text
        return policy

    def device_policy(self, who: str, device: str) -> str:
        policy = "Never"
        for speaker, tag, of_device, of_name, text in self.said:
            if speaker == who and tag == "enableBLOB" and of_device == device and of_name is None and text is not None:
                policy = text
        return policy

    def hears(self, who: str, kind: str, device: str | None, name: str | None) -> bool:
        """Return whether a peer receives a message from the owner of a device."""
        if device is None:
            return who in CLIENTS or any(s[0] == who and s[1] == "getProperties" and s[2] is None for s in self.said)
        if kind == "delProperty" and name is None:
            return self.touches(who, device)
        if not self.interested(who, device, name):
            return False
        if kind == "blob":
            assert name is not None
            return self.policy(who, device, name) in ("Also", "Only")
        if kind in ("define", "delProperty", "state"):
            return True
        return self.device_policy(who, device) != "Only"


def say(kind: str, device: str | None, name: str | None, text: str | None, absent: str) -> str:
    """Return a message. Where an empty attribute means the same as none, `absent` replaces those that are None."""
    if kind in ("message", "enableBLOB", "getProperties"):
        at_device = absent.format("device") if device is None else f" device='{device}'"
        at_name = absent.format("name") if name is None else f" name='{name}'"
    else:
        at_device = "" if device is None else f" device='{device}'"
        at_name = "" if name is None else f" name='{name}'"
    match kind:
        case "define":
            return define(device or "", name or "")
        case "update":
            return update(device or "", name or "")
        case "blob":
            return blob(device or "", name or "")
        case "state":
            return f"<setBLOBVector{at_device}{at_name} state='Busy'/>"
        case "command":
            return command(device or "", name or "")
        case "message":
            return f"<message{at_device} message='m'/>"
        case "enableBLOB":
            return f"<enableBLOB{at_device}{at_name}>{text}</enableBLOB>"
        case "getProperties":
            return f"<getProperties version='1.7'{at_device}{at_name}/>"
    return f"<delProperty{at_device}{at_name}/>"


devices = st.sampled_from(DEVICES)
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.sampled_from(DRIVERS), st.sampled_from(["define", "update", "blob", "state"]), devices, names),
    st.tuples(st.sampled_from(DRIVERS), st.just("message"), st.none() | devices, st.none()),
    st.tuples(st.sampled_from(DRIVERS), st.just("delProperty"), devices, st.none() | names | st.just("")),
    st.tuples(st.sampled_from(DRIVERS + CLIENTS), st.just("getProperties"), st.none() | devices, st.none() | names),
    st.tuples(st.sampled_from(CLIENTS), st.just("enableBLOB"), devices, st.none() | names),
    st.tuples(st.just("c1"), st.just("enableBLOB"), st.just("A"), st.none() | st.just("P")),
    st.tuples(st.just("d1"), st.just("blob"), st.just("A"), st.just("P")),
    st.tuples(st.sampled_from(CLIENTS), st.just("command"), devices, names),
    st.tuples(st.sampled_from(CLIENTS), st.sampled_from(["update", "blob"]), devices, names),
    st.tuples(st.sampled_from(CLIENTS + DRIVERS), st.just("gone"), st.none(), st.none()),
)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(steps, st.sampled_from(["Never", "Also", "Only"]), st.sampled_from(["", " {}=''"])),
        min_size=10,
        max_size=60,
    )
)
def test_the_router_does_what_the_model_does(script: list[tuple[Any, str, str]]) -> None:
    world = World()
    model = Model()
    for label in DRIVERS:
        world.add(label, Kind.DRIVER)
    for label in CLIENTS:
        world.add(label, Kind.CLIENT)
    for (who, kind, device, name), text, absent in script:
        if kind == "getProperties" and device is None:
            name = None
        world.forget()
        if kind == "gone":
            gone(world, model, who)
            continue
        owner = model.owner.get(device) if device else None
        world.say(who, say(kind, device, name, text, absent))
        heard = {label: world.heard(label) for label in world.peers}
        expected: dict[str, bool] = dict.fromkeys(world.peers, False)
        producing = kind in ("define", "update", "blob", "state", "message", "delProperty")
        if producing and who in DRIVERS:
            claims = kind in ("define", "update", "blob", "state")
            if device is not None and owner is None and claims:
                owner = model.owner[device] = who
            speaks = device is None or owner == who or (kind == "message" and owner is None)
            for label in expected:
                expected[label] = speaks and label != who and model.hears(label, kind, device, name)
            if not speaks and kind == "define":  # a message about the conflict goes to all clients, once
                heard = {label: [line for line in lines if "has already" not in line] for label, lines in heard.items()}
            if kind == "delProperty" and name is None and owner == who:
                assert device is not None
                del model.owner[device]
                for label in DRIVERS:  # another driver that has offered it is asked
                    heard[label] = [line for line in heard[label] if not line.startswith("getProperties")]
        elif kind == "getProperties":
            for label in DRIVERS:
                expected[label] = label != who and (device is None or owner == label)
            model.said.append((who, kind, device, name, None))
        elif kind == "command":
            expected[owner or who] = True  # the owner, or the refusal to the sender
            if owner is not None:
                model.said.append((who, kind, device, name, None))
        elif kind == "enableBLOB":
            model.said.append((who, kind, device, name, text))
        assert {label: bool(lines) for label, lines in heard.items()} == expected, (who, kind, device, name, heard)
        assert {name: peer.label for name, peer in world.router.owners.items()} == model.owner


def gone(world: World, model: Model, who: str) -> None:
    """Replace a client by a new one, or let a driver die and come back: it still snoops."""
    devices_of = [device for device, owner in model.owner.items() if owner == who]
    if who in CLIENTS:
        world.router.detach(world.peers.pop(who), 0.0)
        world.add(who, Kind.CLIENT)
        model.said = [entry for entry in model.said if entry[0] != who]
        return
    world.router.lose(world.peers[who], 0.0)
    for label in world.peers:
        heard = [line for line in world.heard(label) if line.startswith("delProperty")]
        assert sorted(heard) == sorted(
            f"delProperty {device}" for device in devices_of if label != who and model.touches(label, device)
        )
    for device in devices_of:
        del model.owner[device]
