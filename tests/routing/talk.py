"""A router without a server: what peers say goes in as XML, what they are told comes out as XML."""

from __future__ import annotations

from typing import Any

from indifast._parser import Tokenizer
from indifast.protocol.message import Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.router import Router
from indifast.routing.routerlistener import RouterListener


class Talk(RouterListener):
    """Text in, text out; the peers have names."""

    def __init__(self, **options: Any) -> None:
        self.router = Router(self, **options)
        self.peers: dict[str, Peer] = {}
        self.now = 1000.0

    def join(self, label: str, kind: Kind, outbox: Outbox | DriverOutbox | None = None, **options: Any) -> Peer:
        peer = self.peers[label] = Peer(kind, label, outbox, **options)
        self.router.attach(peer)
        return peer

    def say(self, label: str, xml: str) -> None:
        for element in Tokenizer(relay=True).feed(xml.encode()):
            self.router.receive(self.peers[label], element, self.now)

    def messages(self, label: str) -> list[Routable]:
        """What a peer was told since the last time."""
        pop = self.peers[label].outbox.pop
        return list(iter(pop, None))

    def told(self, label: str) -> str:
        """The same as text."""
        return b"".join(b"".join(message.parts(False) or ()) for message in self.messages(label)).decode()


class World(Talk):
    """With words for what most tests begin with, and short ones for what is told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.paused: list[str] = []
        self.held = 0

    def add(self, label: str, kind: Kind, *, full_at: int = 1 << 20, attached: bool = False, **options: Any) -> Peer:
        return self.join(
            label, kind, DriverOutbox(full_at) if kind is Kind.DRIVER else Outbox(attached=attached), **options
        )

    def client(self, label: str, *, asks: bool = True, **options: Any) -> Peer:
        peer = self.add(label, Kind.CLIENT, **options)
        if asks:
            self.say(label, "<getProperties version='1.7'/>")
        return peer

    def driver(self, label: str, *devices: str, **options: Any) -> Peer:
        peer = self.add(label, Kind.DRIVER, **options)
        for device in devices:
            self.say(label, define(device))
        return peer

    def remote(self, label: str, **options: Any) -> Peer:
        peer = self.add(label, Kind.REMOTE, **options)
        self.router.start(peer, self.now)
        return peer

    def on_pause(self, peer: Peer) -> None:
        self.paused.append(peer.label)

    def on_resume(self, peer: Peer) -> None:
        self.paused.remove(peer.label)

    def on_held(self) -> None:
        self.held += 1

    def heard(self, label: str) -> list[str]:
        """What a peer was told since the last time, in short."""
        return [short(message) for message in self.messages(label)]

    def forget(self) -> None:
        for label in self.peers:
            self.heard(label)


def short(message: Routable) -> str:
    words = [message.tag, message.device, message.name]
    if message.tag in ("enableBLOB", "message", "pingReply"):
        element = message.element()
        words.append(element.text or element.attrs.get("message") or element.attrs.get("uid"))
    return " ".join(word for word in words if word)


def define(device: str, name: str = "P", kind: str = "Number") -> str:
    return f"<def{kind}Vector device='{device}' name='{name}'><def{kind} name='m'/></def{kind}Vector>"


def update(device: str, name: str = "P") -> str:
    start = f"<setNumberVector device='{device}' name='{name}' state='Ok'>"
    return start + "<oneNumber name='m'>1</oneNumber></setNumberVector>"


def command(device: str, name: str = "P") -> str:
    return f"<newNumberVector device='{device}' name='{name}'><oneNumber name='m'>1</oneNumber></newNumberVector>"


def blob(device: str, name: str = "B", tag: str = "setBLOBVector") -> str:
    return (
        f"<{tag} device='{device}' name='{name}' state='Ok'>"
        f"<oneBLOB name='m' size='3' format='.f'>QUJD</oneBLOB></{tag}>"
    )


def who(world: World, xml: str, source: str = "driver") -> set[str]:
    world.forget()
    world.say(source, xml)
    return {label for label in world.peers if world.heard(label)}
