"""The class IPyServer: construction, start, stop, clients, and drivers in its process."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import pytest

from indifast.driver.device import Device
from indifast.driver.ipydriver import IPyDriver
from indifast.server import IPyServer
from indifast.server.statistics import PeerStats, ServerStats
from tests.server.support import GET, NEW, Client, Echo, blob_vector, peers
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually


def test_the_constructor_takes_drivers_or_one_list_of_them() -> None:
    async def run() -> None:
        one, two = Echo("A"), Echo("B")
        server = IPyServer(one, two)
        assert server.drivers == [one, two] and list(server.devices) == ["A", "B"]
        assert (server.host, server.port, server.maxconnections) == ("localhost", 7624, 5)
        assert server.remotes == server.exdrivers == server.connectionpool == [] and server.server is None
        assert not server.stop and not server.stopped.is_set() and server.debug_enable and server.keepalive == 30
        assert len(IPyServer([Echo("A"), Echo("B")]).drivers) == 2
        assert IPyServer().drivers == []

    asyncio.run(run())


def test_statistics_have_the_keys_of_their_types() -> None:
    async def run() -> None:
        server = IPyServer(Echo("A"), port=0)
        assert server.stats().keys() == ServerStats.__required_keys__
        async with server:
            client = await Client.to(server)
            await client.settle()
            stats = server.stats()
            assert stats.keys() == ServerStats.__annotations__.keys()
            assert len(stats["peers"]) == 2
            for peer in stats["peers"]:
                assert PeerStats.__required_keys__ <= peer.keys() <= PeerStats.__annotations__.keys()
            assert any(peer.keys() == PeerStats.__annotations__.keys() for peer in stats["peers"])
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"maxconnections": 0}, ValueError, "maxconnections"),
        ({"maxconnections": -1}, ValueError, "maxconnections"),
        ({"maxconnections": "5"}, TypeError, "maxconnections"),
        ({"senders": -1}, ValueError, "senders"),
        ({"senders": 65}, ValueError, "senders"),
        ({"senders": "2"}, TypeError, "senders"),
        ({"port": -1}, ValueError, "the port must be a number from 0"),
        ({"port": 65536}, ValueError, "the port must be a number from 0"),
        ({"port": 99999}, ValueError, "the port must be a number from 0"),
        ({"port": "x"}, TypeError, "the port must be an int from 0"),
        ({"port": "http"}, TypeError, "the port must be an int from 0"),
        ({"port": b"7624"}, TypeError, "the port must be an int from 0"),
        ({"port": 7624.0}, TypeError, "the port must be an int from 0"),
        ({"port": True}, TypeError, "the port must be an int from 0"),
        ({"no_such_limit": 17}, TypeError, "no_such_limit"),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        IPyServer(**arguments)


def test_wrong_drivers_are_errors() -> None:
    with pytest.raises(TypeError, match="IPyDriver"):
        IPyServer(17)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rename"):
        IPyServer(Echo("A"), Echo("A"))
    driver = Echo("A")
    IPyServer(driver)
    with pytest.raises(RuntimeError):
        IPyServer(driver)


def test_limits_may_be_high_or_absent() -> None:
    assert IPyServer(port=65535).port == 65535
    assert IPyServer(maxconnections=1000).maxconnections == 1000
    assert IPyServer(maxconnections=None, blob=1 << 20).limits.blob == 1 << 20


def test_a_client_is_served() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            await server.ready()
            client = await Client.to(server)
            await client.hears("defNumberVector", "Echo", "P")
            client.say(NEW.format("Echo"))
            await client.hears("setNumberVector", "Echo", "P", state="Busy")
            element = await client.hears("setNumberVector", "Echo", "P", state="Ok")
            assert element.values() == {"m": "7"}
            await client.close()
        assert server.stop and server.stopped.is_set()

    asyncio.run(run())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_localhost_means_both_families(family: int) -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            address = "127.0.0.1" if family == socket.AF_INET else "::1"
            client = Client(*await asyncio.open_connection(address, server.port))
            client.say(GET)
            await client.hears("defNumberVector", "Echo")
            await client.close()

    asyncio.run(run())


def test_a_port_in_use_is_an_error_with_port_and_remedy() -> None:
    async def run() -> None:
        async with IPyServer(port=0) as server:
            second = IPyServer(Echo(), port=server.port)
            with pytest.raises(OSError, match=f"{server.port}.*in use.*choose another port"):
                await second.asyncrun()
            assert second.stopped.is_set()

    asyncio.run(run())


def test_a_missing_program_is_an_error_and_leaves_nothing_behind() -> None:
    async def run() -> None:
        server = IPyServer(Echo(), port=0)
        server.add_exdriver("no_such_program_anywhere")
        with pytest.raises(FileNotFoundError, match="no_such_program_anywhere"):
            await server.asyncrun()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", server.port)

    asyncio.run(run())


def test_shutdown_returns_while_a_client_reads_nothing_and_hardware_never_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(Echo):
        async def hardware(self) -> None:
            await asyncio.Event().wait()

    async def run() -> None:
        driver = Stubborn()
        server = IPyServer(driver, port=0, grace=0.3)
        task = asyncio.create_task(server.asyncrun())
        await server.ready()
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"<getProperties version='1.7'/><enableBLOB device='Echo'>Also</enableBLOB>")
        await eventually(lambda: any(p["received"] == 2 for p in server.stats()["peers"]))
        for _ in range(3):
            driver["Echo"]["B"]["m"] = bytes(8 << 20)
            await driver["Echo"]["B"].send_setVectorMembers(members=["m"])
        server.shutdown("that is all")
        async with asyncio.timeout(LIMIT):
            await task
        client.close()
        assert server.stopped.is_set()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "that is all" in caplog.text


def test_shutdown_works_from_another_thread_and_before_the_start() -> None:
    async def run() -> None:
        server = IPyServer(Echo(), port=0)
        task = asyncio.create_task(server.asyncrun())
        await server.ready()
        threading.Thread(target=server.shutdown).start()
        async with asyncio.timeout(LIMIT):
            await task
        early = IPyServer(Echo("B"), port=0)
        early.shutdown()
        async with asyncio.timeout(LIMIT):
            await early.asyncrun()

    asyncio.run(run())


def test_surplus_connections_are_accepted_and_closed() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0, maxconnections=2) as server:
            clients = [await Client.to(server) for _ in range(2)]
            for client in clients:
                await client.hears("defNumberVector")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read() == b""
            writer.close()
            assert server.stats()["surplus"] == 1 and len(server.connectionpool) == 2
            await clients[0].close()
            await eventually(lambda: len(server.connectionpool) == 1)
            client = await Client.to(server)
            await client.hears("defNumberVector")
            for each in (client, clients[1]):
                await each.close()

    asyncio.run(run())


def test_a_thousand_clients_at_once() -> None:
    async def run() -> None:
        driver = Echo()
        async with IPyServer(driver, port=0, maxconnections=None) as server:
            clients = [await Client.to(server, asks=False) for _ in range(1000)]
            await eventually(lambda: len(server.connectionpool) == 1000)
            await driver.send_message("to all")
            for client in clients:
                await client.hears("message", message="to all")
            await asyncio.gather(*(client.close() for client in clients))
            await eventually(lambda: not server.connectionpool)

    asyncio.run(run())


def test_a_failing_driver_does_not_stop_the_server(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Echo):
        async def rxevent(self, event: Any) -> None:
            raise ZeroDivisionError("on purpose")

        async def hardware(self) -> None:
            raise KeyError("on purpose too")

    async def run() -> None:
        async with IPyServer(Faulty("Bad"), Echo("Good"), port=0) as server:
            client = await Client.to(server)
            await client.hears("defNumberVector", "Good")
            client.say(NEW.format("Bad"))
            client.say(NEW.format("Good"))
            await client.hears("setNumberVector", "Good", state="Ok")
            await eventually(lambda: "on purpose too" in caplog.text and "ZeroDivisionError" in caplog.text)
            await client.close()

    asyncio.run(run())


def test_drivers_can_be_added_and_removed_while_the_server_runs() -> None:
    async def run() -> None:
        async with IPyServer(Echo("A"), port=0) as server:
            client = await Client.to(server)
            await client.hears("defNumberVector", "A")
            driver = Echo("B")
            server.add_driver(driver)
            with pytest.raises(ValueError, match="B"):
                server.add_driver(Echo("B"))
            await client.hears("defNumberVector", "B")
            await server.remove_driver(driver)
            await client.hears("delProperty", "B")
            assert list(server.devices) == ["A"]
            await client.close()

    asyncio.run(run())


def test_send_message_reaches_every_client() -> None:
    async def run() -> None:
        async with IPyServer(Echo(), port=0) as server:
            clients = [await Client.to(server, asks=False) for _ in range(3)]
            await eventually(lambda: len(server.connectionpool) == 3)
            await server.send_message("hello & good-bye")
            await server.send_message("never seen", timestamp="yesterday")  # type: ignore[arg-type]
            for client in clients:
                element = await client.hears("message", message="hello & good-bye")
                assert list(element.attrs) == ["timestamp", "message"]
                assert await client.settle() == []
                await client.close()
        await server.send_message("to nobody")

    asyncio.run(run())


def test_idle_clients_get_keepalive_messages() -> None:
    async def run() -> None:
        server = IPyServer(Echo(), port=0)
        server.keepalive = 0.05
        async with server:
            client = await Client.to(server, asks=False)
            for _ in range(3):
                element = await client.hears("message", message="Keep alive message")
                assert list(element.attrs) == ["timestamp", "message"]

            def sent() -> int:
                (peer,) = peers(server)
                return peer["sent_messages"] + peer["queued_messages"]

            server.keepalive = 0
            before = sent()
            await asyncio.sleep(0.1)  # twice the former period: a timer that was still set would end before this one
            assert sent() == before
            with pytest.raises(TypeError):
                server.keepalive = "often"  # type: ignore[assignment]
            await client.close()

    asyncio.run(run())


def test_drivers_snoop_on_each_other() -> None:
    async def run() -> None:
        a, b = Echo("A"), Echo("B")
        async with IPyServer(a, b, port=0):
            await a.send_getProperties("B", "P")
            await eventually(lambda: a.snooped)
            await b["B"]["P"].send_setVector(state="Alert")
            await eventually(lambda: any(type(e).__name__ == "setNumberVector" for e in a.snooped))

    asyncio.run(run())


def test_blobs_reach_clients_that_enable_them_intact() -> None:
    async def run() -> None:
        driver = IPyDriver(Device("Cam", [blob_vector()]))
        async with IPyServer(driver, port=0) as server:
            wants, silent = await Client.to(server), await Client.to(server)
            for client in (wants, silent):
                await client.hears("defBLOBVector", "Cam", "B")
            wants.say("<enableBLOB device='Cam' name='B'>Also</enableBLOB>")
            await wants.settle()
            for size in (1, 1000, 1 << 20, 5 << 20):
                data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
                driver["Cam"]["B"]["m"] = data
                await driver["Cam"]["B"].send_setVectorMembers(members=["m"])
                element = await wants.hears("setBLOBVector", "Cam", "B")
                assert element.members[0].data == data
            assert not any(element.tag == "setBLOBVector" for element in await silent.settle())
            assert sum(peer["frames_sent"].get("Cam.B", 0) for peer in peers(server)) == 4
            await wants.close()
            await silent.close()

    asyncio.run(run())


def test_sent_messages_are_counted_by_peer_and_property() -> None:
    async def run() -> None:
        a, b = Echo("A"), Echo("B")
        async with IPyServer(a, b, port=0, maxconnections=None) as server:
            first, second = await Client.to(server), await Client.to(server)
            for client in (first, second):
                client.say("<enableBLOB device='A' name='B'>Also</enableBLOB>")
                await client.settle()
            await a.send_getProperties("B", "P")
            await eventually(lambda: a.snooped)

            def sent() -> dict[str, dict[str, int]]:
                return {peer["name"]: dict(peer["sent"]) for peer in server.stats()["peers"]}

            before = sent()
            for _ in range(3):
                await b["B"]["P"].send_setVector()
            await first.close()  # new routes are made, and the counts of the old ones must not be lost
            await eventually(lambda: server.stats()["clients"] == 1)
            for number in range(4):
                await b["B"]["P"].send_setVector(message=f"number {number}")
            a["A"]["B"]["m"] = b"content"
            await a["A"]["B"].send_setVectorMembers(members=["m"])
            second.say("<newNumberVector device='A' name='P'><oneNumber name='m'>1</oneNumber></newNumberVector>")
            await second.hears("setNumberVector", "A", "P", state="Ok")
            after = sent()
            (name,) = (label for label in after if label.startswith("Client"))
            assert after[name]["B.P"] - before[name]["B.P"] == 7
            assert after[name]["A.B"] - before[name]["A.B"] == 1
            assert after[name]["A.P"] - before[name]["A.P"] == 2
            assert after["Driver A"]["B.P"] - before["Driver A"]["B.P"] == 7
            assert after["Driver A"]["A.P"] - before["Driver A"].get("A.P", 0) == 1
            assert server.stats()["updates"]["B.P"] == 7
            await second.close()

    asyncio.run(run())


def test_a_driver_in_the_style_of_release_1_2_works() -> None:
    class Old(IPyDriver):
        async def clientevent(self, event: Any) -> None:
            if type(event).__name__ == "getProperties":
                await event.vector.send_defVector()

    async def run() -> None:
        driver = Old(devices=[Device("D", [blob_vector()])], tasks=[])
        server = IPyServer([driver], port=0)
        task = asyncio.create_task(server.asyncrun())
        await server.ready()
        client = await Client.to(server)
        await client.hears("defBLOBVector", "D", "B")
        await client.close()
        server.shutdown()
        await task

    asyncio.run(run())
