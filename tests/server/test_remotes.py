"""Links between servers over real sockets: both directions, loss and return, rings, and a C++ server at either end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from indifast.server import IPyServer
from indifast.server import remote as remote_module
from tests.server.support import NEW, Client, Echo, peers
from tests.support.blackbox import LIMIT, free_port
from tests.support.loops import on_every_loop, run_on
from tests.support.servers import indiserver
from tests.support.sockets import reset
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(remote_module, "LONGEST_PAUSE", 0.2)


def devices(server: IPyServer) -> set[str]:
    """Return the devices that the server knows."""
    return set(server.stats()["devices"])


@contextlib.asynccontextmanager
async def served(*names: str, port: int = 0) -> AsyncIterator[IPyServer]:
    """Run a server with a driver of these devices."""
    async with IPyServer(Echo(*names), port=port, maxconnections=None) as server:
        yield server


def test_clients_and_drivers_of_both_sides_see_each_other() -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b:
            remote = a.add_remote("localhost", b.port, blob_enable=True)
            at_a, at_b = await Client.to(a), await Client.to(b)
            await at_a.hears("defNumberVector", "B", "P")
            await at_b.hears("defNumberVector", "A", "P")
            assert remote.connected and remote.devicenames == {"B"} and "B" in remote and list(remote) == ["B"]
            assert repr(remote) == f"<RemoteConnection localhost:{b.port}>"
            for client, far in ((at_a, "B"), (at_b, "A")):
                client.say(NEW.format(far))
                await client.hears("setNumberVector", far, "P", state="Busy")
                await client.hears("setNumberVector", far, "P", state="Ok")
            driver = a.drivers[0]
            await driver.send_getProperties("B", "P")
            await eventually(lambda: driver.snooped)
            await at_a.close()
            await at_b.close()

    asyncio.run(run())


@on_every_loop
def test_a_link_that_is_reset_with_its_last_words_is_established_again(loop: str) -> None:
    async def run() -> None:
        async with served("A") as a:
            with socket.create_server(("127.0.0.1", 0)) as far:
                far.setblocking(False)
                remote = a.add_remote("127.0.0.1", far.getsockname()[1])
                for _ in range(3):
                    async with asyncio.timeout(LIMIT):
                        link, _ = await asyncio.get_running_loop().sock_accept(far)
                    await eventually(lambda: remote.connected)
                    link.send(b"<message device='Far' message='farewell'/>")
                    reset(link)  # our event loop sees both at once

    run_on(loop, run())


@pytest.mark.parametrize("turns", range(8))
def test_a_link_can_be_ended_at_any_moment_of_its_start(turns: int) -> None:
    """The cancellation may coincide with the connection."""

    async def run() -> None:
        async with served("A") as a, served("B") as b:
            loop = asyncio.get_running_loop()
            connect, begun = loop.sock_connect, asyncio.Event()

            async def watched(sock: socket.socket, address: Any) -> None:
                begun.set()
                await connect(sock, address)

            loop.sock_connect = watched  # type: ignore[method-assign]
            remote = a.add_remote("127.0.0.1", b.port)
            async with asyncio.timeout(LIMIT):
                await begun.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
                await remote.end()
            assert not remote.connected
            await eventually(lambda: not b.stats()["clients"])

    asyncio.run(run())


def test_an_empty_device_does_not_restrict_a_link() -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b:
            a.add_remote("localhost", b.port, device="")
            client = await Client.to(a)
            await client.hears("defNumberVector", "B", "P")

    asyncio.run(run())


def test_blobs_cross_a_link_in_both_directions_but_only_while_wanted() -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b:
            a.add_remote("localhost", b.port, blob_enable=True)
            at_a, at_b = await Client.to(a), await Client.to(b)
            await at_a.hears("defBLOBVector", "B", "B")
            await at_b.hears("defBLOBVector", "A", "B")

            def sent(server: IPyServer) -> int:
                return sum(sum(peer.get("frames_sent", {}).values()) for peer in server.stats()["peers"])

            async def shoot(server: IPyServer, device: str) -> bytes:
                data = device.encode() * 100_000
                vector = server.drivers[0][device]["B"]
                vector["m"] = data
                await vector.send_setVectorMembers(members=["m"])
                return data

            await shoot(b, "B")
            assert sent(b) == 0
            for client, far, device in ((at_a, b, "B"), (at_b, a, "A")):
                client.say(f"<enableBLOB device='{device}'>Also</enableBLOB>")
                await eventually(lambda far=far, device=device: any(far._indifast_hub.router.demand(device, "B")))
                data = await shoot(far, device)
                element = await client.hears("setBLOBVector", device, "B")
                assert element.members[0].data == data
                client.say(f"<enableBLOB device='{device}'>Never</enableBLOB>")
                await eventually(lambda far=far, device=device: not any(far._indifast_hub.router.demand(device, "B")))
            await at_a.close()
            await at_b.close()

    asyncio.run(run())


def test_a_lost_remote_returns() -> None:
    async def run() -> None:
        port = free_port()
        async with served("A") as a:
            remote = a.add_remote("localhost", port)
            client = await Client.to(a)
            await client.hears("message", message="trying again")
            async with served("B", port=port):
                await client.hears("message", message="connected")
                await client.hears("defNumberVector", "B")
            await client.hears("delProperty", "B")
            await client.hears("message", message="lost")
            await eventually(lambda: remote.attempts >= 3)
            async with served("B", port=port):
                await client.hears("message", message="connected")
                assert not any(
                    element.tag == "message" for element in client.heard
                )  # one for each change, not for each attempt
                await client.hears("defNumberVector", "B")
                await a.remove_remote(remote)
                await client.hears("delProperty", "B")
                assert a.remotes == []
            await client.close()

    asyncio.run(run())


def test_failed_attempts_are_forgotten_after_a_link_that_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that restarts is found again at once, however long it was away the time before."""
    attempts: list[int] = []

    def pause(failures: int, *_: float) -> float:
        attempts.append(failures)
        return 0.01

    monkeypatch.setattr(remote_module, "pause_after", pause)
    monkeypatch.setattr(remote_module, "HEALTHY", 1e-6)

    async def run() -> None:
        port = free_port()
        async with served("A") as a:
            remote = a.add_remote("localhost", port)
            await eventually(lambda: len(attempts) >= 3)
            async with served("B", port=port):
                await eventually(lambda: "B" in remote)
                before = len(attempts)
            await eventually(lambda: len(attempts) > before + 1)
            assert attempts[: before + 2] == [*range(1, before + 1), 1, 1]

    asyncio.run(run())


def test_a_name_that_does_not_resolve_causes_one_message() -> None:
    async def run() -> None:
        async with served("A") as a:
            client = await Client.to(a)
            await client.settle()
            remote = a.add_remote("no-such-host.invalid", 7624)
            await client.hears("message", message="no-such-host.invalid")
            await eventually(lambda: remote.attempts >= 2)
            assert not any(element.tag == "message" for element in await client.settle())
            await client.close()

    asyncio.run(run())


def test_messages_of_the_server_itself_reach_linked_servers() -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b:
            b.keepalive = 0
            a.add_remote("localhost", b.port)
            at_b = await Client.to(b)
            await at_b.hears("defNumberVector", "A", "P")
            a.keepalive = 0.05
            for _ in range(3):
                await at_b.hears("message", message="Keep alive message")
            a.keepalive = 0
            await a.send_message("the roof is open")
            await at_b.hears("message", message="the roof is open")
            assert b.stats()["refused"] == {}
            await at_b.close()

    asyncio.run(run())


async def quiet(servers: list[IPyServer], clients: Sequence[Client] = ()) -> None:
    """Wait until nothing travels between the servers: every message that one has sent over a link has been received."""
    names = {client.name for client in clients}

    def links() -> list[tuple[int, int, int]]:
        found = [peer for server in servers for kind in ("client", "remote") for peer in peers(server, kind)]
        return [
            (peer["sent_messages"], peer["received"], peer["queued_messages"])
            for peer in found
            if peer["name"] not in names
        ]

    still = 0
    before: list[tuple[int, int, int]] = []
    async with asyncio.timeout(LIMIT):
        while still < 20:  # iterations of the event loop, in which drivers may answer
            sent, received, queued = map(sum, zip(*(now := links()), strict=True))
            still = still + 1 if now == before and sent == received and not queued else 0
            before = now
            await asyncio.sleep(0)


@pytest.mark.parametrize("size", [2, 3])
def test_a_ring_of_servers_is_broken(size: int) -> None:
    async def run() -> None:
        names = "ABC"[:size]
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(served(name)) for name in names]
            for server, following in zip(servers, servers[1:] + servers[:1], strict=True):
                server.add_remote("localhost", following.port, blob_enable=True)
            for server in servers:
                await eventually(lambda server=server: devices(server) == set(names))
            await quiet(servers)
            clients = [await Client.to(server) for server in servers]
            for client in clients:
                for name in names:
                    await client.until(lambda c, name=name: any(e.device == name for e in c.heard))
            await quiet(servers, clients)
            for client in clients:
                client.heard.clear()
            for client in clients:  # every client commands every device
                for name in names:
                    client.say(NEW.format(name))
                    await client.hears("setNumberVector", name, "P", state="Ok")
            await servers[0].drivers[0].send_message("round and round")
            await quiet(servers, clients)
            for client in clients:
                heard = [element.attrs.get("message") for element in await client.settle()]
                assert heard.count("round and round") <= 1
            for server in servers:
                for peer in server.stats()["peers"]:
                    assert peer["queued_bytes"] == 0
            for client in clients:
                await client.close()

    asyncio.run(run())


def test_a_ring_is_used_in_the_other_direction_when_a_link_is_lost() -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b, served("C") as c:
            direct = a.add_remote("localhost", b.port)
            a.add_remote("localhost", c.port)
            c.add_remote("localhost", b.port)
            await eventually(lambda: devices(a) == devices(b) == devices(c) == {"A", "B", "C"})
            await quiet([a, b, c])
            client = await Client.to(a)
            await client.hears("defNumberVector", "B")
            if a.stats()["devices"]["B"] == f"Remote localhost:{b.port}":
                await a.remove_remote(direct)
                await client.hears("delProperty", "B")
                await client.hears("defNumberVector", "B", "P")
            client.say(NEW.format("B"))
            await client.hears("setNumberVector", "B", "P", state="Ok")
            await client.close()

    asyncio.run(run())


# -- The C++ server


async def seemingly_quiet(servers: list[IPyServer]) -> None:
    """Wait until the servers have received nothing for a while. The C++ server does not say whether it is finished."""

    def received() -> list[int]:
        return [sum(peer["received"] for peer in server.stats()["peers"]) for server in servers]

    async with asyncio.timeout(LIMIT):
        before: list[int] = []
        while before != (before := received()):
            await asyncio.sleep(0.3)


CONNECT = "<newSwitchVector device='{}' name='CONNECTION'><oneSwitch name='CONNECT'>On</oneSwitch></newSwitchVector>"
EXPOSE = (
    "<newNumberVector device='CCD Simulator' name='CCD_EXPOSURE'>"
    "<oneNumber name='CCD_EXPOSURE_VALUE'>0.1</oneNumber></newNumberVector>"
)


async def take_a_frame(client: Client) -> Any:
    """Connect the simulated camera, and return its frame."""
    await client.hears("defSwitchVector", "CCD Simulator", "CONNECTION")
    client.say(CONNECT.format("CCD Simulator"))
    await client.hears("defBLOBVector", "CCD Simulator", "CCD1")
    client.say("<enableBLOB device='CCD Simulator' name='CCD1'>Also</enableBLOB>")
    await client.settle()
    async with asyncio.timeout(LIMIT):
        while True:  # the C++ server does not say when enableBLOB has arrived
            client.say(EXPOSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    return await client.hears("setBLOBVector", "CCD Simulator", "CCD1", state="Ok")


def test_a_cpp_server_as_remote(program: Callable[[str], str]) -> None:
    async def run() -> None:
        with indiserver(program, "indi_simulator_ccd", "indi_simulator_telescope") as (port, _):
            async with served("A") as a:
                a.add_remote("localhost", port, blob_enable=True)
                client = await Client.to(a)
                element = await take_a_frame(client)
                data = element.members[0].data
                assert data is not None and data.startswith(b"SIMPLE") and len(data) > 1 << 20
                await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("device", ["", "CCD Simulator"])
def test_a_cpp_server_uses_ours_as_remote(program: Callable[[str], str], device: str) -> None:
    async def run() -> None:
        async with served("A") as a:
            a.add_exdriver("indi_simulator_ccd")
            await eventually(lambda: "CCD Simulator" in devices(a))
            with indiserver(program, f"{device}@localhost:{a.port}") as (port, _):
                client = await Client.to(port)
                if not device:  # the C++ server passes on no command for a device that it does not know yet
                    other = await Client.to(port)
                    await other.hears("defNumberVector", "A", "P")
                    await other.close()
                element = await take_a_frame(client)
                data = element.members[0].data
                assert data is not None and data.startswith(b"SIMPLE")
                if not device:
                    client.say(NEW.format("A"))
                    await client.hears("setNumberVector", "A", "P", state="Ok")
                await client.close()

    asyncio.run(run())


def test_a_ring_that_contains_a_cpp_server_is_broken(program: Callable[[str], str]) -> None:
    async def run() -> None:
        async with served("A") as a, served("B") as b:
            with indiserver(program, "indi_simulator_telescope", f"@localhost:{a.port}") as (port, _):
                a.add_remote("localhost", b.port)
                b.add_remote("localhost", port)
                names = {"A", "B", "Telescope Simulator"}
                await eventually(lambda: devices(a) == devices(b) == names)
                await seemingly_quiet([a, b])
                client = await Client.to(b)
                for name in names:
                    await client.until(lambda c, name=name: any(e.device == name for e in c.heard))
                await seemingly_quiet([a, b])
                client.heard.clear()
                client.say(NEW.format("A"))
                await client.hears("setNumberVector", "A", "P", state="Ok")
                await a.drivers[0].send_message("round and round")
                await seemingly_quiet([a, b])
                heard = [element.attrs.get("message") for element in await client.settle()]
                assert heard.count("round and round") <= 1
                await a.send_message("from the server itself")
                await client.hears("message", message="from the server itself")
                await seemingly_quiet([a, b])
                assert "from the server itself" not in [e.attrs.get("message") for e in await client.settle()]
                await client.close()

    asyncio.run(run())
