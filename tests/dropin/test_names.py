"""Programs written for the original packages give their attributes and methods any name that these do not use."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import UserDict, deque
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

import indifast as ipd
from indifast.client import IPyClient
from indifast.client.queclient import QueClient
from indifast.client.settings import Settings
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

CLIENT_PUBLIC = [
    *inspect.get_annotations(Settings),
    "events", "expose", "frames", "on_message", "ping", "problems", "ready", "stats", "stopped", "unsent",
    "wait_connected", "wait_for",
]  # fmt: skip
ORIGINAL = {
    "BLOBfolder", "enableBLOBdefault", "enable_reports", "idle_timeout", "indihost", "indiport",
    "resend_enableBLOB_on_def", "respond_timeout", "timeout_enable", "vector_timeout_max", "vector_timeout_min",
}  # fmt: skip
"""Settings that the original client has, too: a program that sets them means them."""
CLIENT_PRIVATE = [
    "_arm", "_blob_requests", "_choices", "_command", "_counts", "_exposing", "_frames", "_idle_timeout", "_itemid",
    "_keepalive", "_lifecycle", "_link", "_model", "_note", "_notifier", "_open_stream", "_parts", "_problems",
    "_receiver", "_respond_timeout", "_run", "_sender", "_session", "_timeout_enable", "_timeouts", "_trace", "_waits",
    "_watchers",
]  # fmt: skip
HOOKS = {"on_problem", "on_raw_message"}
"""A method of one of these names is called, whatever it is for."""
CLIENT = sorted({*CLIENT_PUBLIC, *CLIENT_PRIVATE} - ORIGINAL)
DRIVER = [
    "_add_background", "_dispatcher", "_has_clientevent", "_link", "_runtime", "_tasks", "_vectorport", "devices",
    "listen", "listening_port", "run", "stats", "tasks",
]  # fmt: skip

SERVER = [
    "_accept", "_clients", "_close", "_compress", "_grace", "_handle", "_hub", "_keepalive", "_listen", "_listeners",
    "_local", "_prepare", "_ready", "_restarts", "_running", "_senders", "_shutdown", "_tasks", "_thread",
]  # fmt: skip


DAMAGED = (
    '<defNumberVector device="dev" name="n" state="Ok" perm="rw"><defNumber name="x">one</defNumber></defNumberVector>'
)


class Driver(ipd.IPyDriver):
    """Carries out commands, and sends a frame and something that cannot be used with each."""

    async def rxevent(self, event: Any) -> None:
        event.vector.update(event)
        await event.vector.send_setVector(state="Ok")
        await self["dev"]["b"].send_setVectorMembers(members=["img"])
        await self.send(ElementTree.fromstring(DAMAGED))


class Client(IPyClient):
    """Keeps the types of its events."""

    def __init__(self, *words: Any, **keywords: Any) -> None:
        super().__init__(*words, **keywords)
        self.enableBLOBdefault = "Also"
        self.seen: list[str] = []

    async def rxevent(self, event: Any) -> None:
        self.seen.append(type(event).__name__)


def devices() -> ipd.Device:
    image = ipd.BLOBMember("img", blobformat=".bin", membervalue=bytes(1000))
    return ipd.Device(
        "dev",
        [
            ipd.TextVector("t", "T", "g", "rw", "Idle", [ipd.TextMember("a")]),
            ipd.BLOBVector("b", "B", "g", "ro", "Ok", [image]),
        ],
    )


def serving(driver: Driver) -> ipd.IPyServer:
    return ipd.IPyServer(driver, host="127.0.0.1", port=0)


async def converse(
    driver: Driver, client_class: type[Client], server_of: Callable[[Driver], ipd.IPyServer] = serving
) -> Client:
    """Run a client and a driver, from the definitions over a command and its answers to the end of both."""
    async with asyncio.timeout(LIMIT), server_of(driver) as server:
        client = client_class("127.0.0.1", server.port)
        running = asyncio.create_task(client.asyncrun())
        try:
            await eventually(lambda: "dev" in client.data and len(client.data["dev"]) == 2, "the definitions")
            await client.send_newVector("dev", "t", members={"a": "moved"})
            await eventually(lambda: {"setTextVector", "setBLOBVector"} <= {*client.seen}, "the answers")
            await eventually(lambda: any(text.startswith("dev: n: ") for _, text in client.messages), "the complaint")
            assert client["dev"]["t"]["a"] == client.snapshot()["dev"]["t"]["a"] == "moved"
            assert client.snapshot().connected is client.connected is True
            assert "not connected" not in repr(client)
            client.report, client.warning  # noqa: B018 - names of the original client
            client.timeout_enable, client.idle_timeout = False, 30
        finally:
            client.shutdown()
            await running
        assert client.stop
    assert driver.stop
    return client


def method(self: object, one: object, other: object) -> list[object]:
    """A method of a program."""
    return [one, other]


async def coroutine(self: object) -> None:
    """A coroutine method of a program."""


def using(base: type[Any], name: str, way: Callable[..., object]) -> type[Any]:
    """Return a class of a program that has an attribute of this name, a list, or else a method."""

    class Own(base):  # type: ignore[misc]
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            if way is list:
                setattr(self, name, [])

    if way is not list:
        setattr(Own, name, way)
    return Own


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("name", CLIENT)
@pytest.mark.parametrize("way", [list, method, coroutine], ids=["attribute", "method", "coroutine"])
def test_a_client_runs_whatever_its_program_calls_its_own(
    way: Callable[..., object], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = using(Client, name, way)
    client = asyncio.run(converse(Driver(devices()), own))
    assert getattr(client, name) == [] if way is list else getattr(client, name).__func__ is way
    if name not in HOOKS or way is not method:
        assert not faults(caplog)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compress", True), ("connect_timeout", None), ("device_limit", "dev"), ("device_limit", 2.5),
        ("device_limit", True), ("grace", None), ("limits", (0, 100)), ("on_problem", "text"),
        ("on_raw_message", ""), ("raw_frames", 0), ("reconnect", 3), ("retry_max", "3"), ("ssl", "no"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_the_class", [False, True])
def test_a_value_of_another_type_is_not_a_setting(
    name: str, value: object, of_the_class: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Client):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            if not of_the_class:
                setattr(self, name, value)

    if of_the_class:
        setattr(Own, name, value)
    client = asyncio.run(converse(Driver(devices()), Own))
    assert getattr(client, name) is value and not faults(caplog)
    assert getattr(client._indifast.given, name) == getattr(Settings, name)


def test_tls_is_not_given_up_for_an_attribute_of_the_program() -> None:
    client = IPyClient(ssl=True)
    client.ssl = "on"  # type: ignore[assignment]
    assert client._indifast.given.ssl is True
    with pytest.raises(TypeError, match="ssl must be True or an SSLContext"):
        IPyClient(ssl="cert.pem")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DRIVER)
@pytest.mark.parametrize("way", [list, method, coroutine], ids=["attribute", "method", "coroutine"])
def test_a_driver_runs_whatever_its_program_calls_its_own(
    way: Callable[..., object], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = using(Driver, name, way)
    driver = own(devices())
    asyncio.run(converse(driver, Client))
    assert getattr(driver, name) == [] if way is list else getattr(driver, name).__func__ is way
    assert not faults(caplog)


@pytest.mark.parametrize("name", SERVER)
@pytest.mark.parametrize("way", [list, method, coroutine], ids=["attribute", "method", "coroutine"])
def test_a_server_runs_whatever_its_program_calls_its_own(
    way: Callable[..., object], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers: list[ipd.IPyServer] = []

    class Server(using(ipd.IPyServer, name, way)):  # type: ignore[misc]
        def __init__(self, driver: Driver) -> None:
            super().__init__(driver)
            self.host, self.port = "127.0.0.1", 0
            servers.append(self)

    asyncio.run(converse(Driver(devices()), Client, Server))
    assert getattr(servers[0], name) == [] if way is list else getattr(servers[0], name).__func__ is way
    assert not faults(caplog)


@pytest.mark.parametrize("make", [IPyClient, ipd.IPyDriver, ipd.IPyServer, lambda: QueClient(deque(), deque())])
def test_private_names_are_unlikely_ones(make: Callable[[], object]) -> None:
    ours = {name for name in set(dir(make())) - set(dir(UserDict())) if not name.startswith("__")}
    assert {name for name in ours if name.startswith("_") and not name.startswith("_indifast")} == {"_stop"}
