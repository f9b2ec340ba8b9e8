"""Starting and stopping drivers, their own port, faults of user code, and drivers under a server."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import pytest

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    IPyServer,
    Message,
    NumberMember,
    NumberVector,
    TextMember,
    TextVector,
    setTextVector,
)
from indifast.driver import portlink, snooping
from indifast.driver.snooping import TICK
from indifast.protocol import complaints
from indifast.protocol.limits import Limits
from indifast.routing.interest import MAX_ENTRIES
from indifast.transport import contents
from tests.driver.support import WireClient, connected, fence_device, full_driver, listen, listening, served
from tests.support.blackbox import LIMIT, free_port
from tests.support.waiting import Clock, eventually, turns

NUMBER = '<newNumberVector device="Dev" name="nu"><oneNumber name="n">1</oneNumber></newNumberVector>'


class Failing(IPyDriver):
    """Raises an exception in the methods that its user data names."""

    async def rxevent(self, event: Any) -> None:
        self.fail("rxevent")
        event.vector.update(event)
        await event.vector.send_setVector()

    async def snoopevent(self, event: Any) -> None:
        self.fail("snoopevent")

    async def hardware(self) -> None:
        self.fail("hardware")

    def fail(self, where: str) -> None:
        if where in self.driverdata["where"]:
            raise ZeroDivisionError(f"in {where}")


def failing(*where: str) -> Failing:
    return Failing(*full_driver().values(), where=where)


# Shutdown


@pytest.mark.parametrize("how", ["hardware", "background", "rxevent", "tasks"])
def test_shutdown_ends_a_run_whatever_user_code_does(how: str) -> None:
    class Busy(IPyDriver):
        async def hardware(self) -> None:
            if how == "hardware":
                await self.loop()

        async def rxevent(self, event: Any) -> None:
            await self.loop()

        async def loop(self) -> None:
            reached.set()
            while True:
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(how)

    reached = asyncio.Event()
    cancelled: list[str] = []

    async def run() -> None:
        driver = Busy(*full_driver().values())
        driver.listen("127.0.0.1", 0)
        if how == "background":
            driver["Dev"].add_background(driver.loop())
        if how == "tasks":
            driver.add_background(driver.loop())
        running = asyncio.create_task(driver.asyncrun(grace=0.05))
        await driver._indifast_runtime.up.wait()
        async with connected(driver.listening_port) as client:
            client.send(NUMBER)
            await reached.wait()
            assert not driver.stopped.is_set()
            driver.shutdown()
            assert driver.shutdownrequested.is_set()
            async with asyncio.timeout(LIMIT):
                await running
            assert driver.stopped.is_set()
            assert cancelled
            await client.until_eof()

    asyncio.run(run())


@pytest.mark.usefixtures("bursts_only")
def test_clients_that_are_turned_away_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "BURST", 2)
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with listening(driver := full_driver()) as client:
            client.send(NUMBER)
            for _ in range(20):
                async with connected(driver.listening_port) as late:
                    await late.until_eof()

    asyncio.run(run())
    assert sum("turned away" in record.getMessage() for record in caplog.records) == 2


def test_user_code_has_time_to_finish() -> None:
    class Tidy(IPyDriver):
        async def hardware(self) -> None:
            await self.shutdownrequested.wait()
            await turns()
            self.tidied = True

    async def run() -> None:
        driver = Tidy()
        async with listening(driver):
            pass
        assert driver.tidied

    asyncio.run(run())


def test_shutdown_from_another_thread() -> None:
    async def run() -> None:
        driver = full_driver()
        driver.listen("127.0.0.1", 0)
        running = asyncio.create_task(driver.asyncrun())
        await driver._indifast_runtime.up.wait()
        threading.Thread(target=driver.shutdown).start()
        async with asyncio.timeout(LIMIT):
            await running

    asyncio.run(run())


def test_hardware_that_returns_does_not_end_the_driver() -> None:
    async def run() -> None:
        driver = full_driver()
        async with listening(driver) as client:
            assert await client.answers('<getProperties version="1.7" device="Dev" />')
            assert not driver.stopped.is_set()

    asyncio.run(run())


def test_a_driver_can_run_again() -> None:
    async def run() -> None:
        driver = full_driver()
        driver.listen("127.0.0.1", 0)
        for _ in range(2):
            async with driver:
                async with connected(driver.listening_port) as client:
                    assert len(await client.answers('<getProperties version="1.7" device="Dev" />')) == 5
                with pytest.raises(RuntimeError):
                    await driver.asyncrun()
            assert driver.stop

    asyncio.run(run())


def test_a_driver_can_run_again_in_another_event_loop() -> None:
    driver = full_driver()
    driver.listen("127.0.0.1", 0)
    vector = driver["Dev"]["nu"]

    async def run() -> None:
        async with driver:
            assert not (driver.stop or vector.device.stop or vector.stop)
            async with connected(driver.listening_port) as client:
                assert len(await client.answers('<getProperties version="1.7" device="Dev" />')) == 5
        assert driver.stop
        assert vector.device.stop
        assert vector.stop

    for _ in range(3):
        asyncio.run(run())


def test_an_invalid_port_or_method_is_refused_at_once() -> None:
    driver = full_driver()
    with pytest.raises(ValueError, match="the port must be a number from 0"):
        driver.listen("127.0.0.1", 99999)
    with pytest.raises(TypeError, match="the port must be an int from 0"):
        driver.listen("127.0.0.1", "http")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="compress must be auto, off, lz4 or zstd, not 'best'"):
        driver.listen("127.0.0.1", 0, compress="best")
    driver.listen("127.0.0.1", 0)  # the refused calls have changed nothing


def test_cancelling_a_driver_ends_everything_it_started() -> None:
    ended = []

    class Busy(IPyDriver):
        async def hardware(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("hardware")

    async def run() -> None:
        driver = Busy()
        driver.listen("127.0.0.1", port := free_port())  # which no other process takes when the driver has left it
        running = asyncio.create_task(driver.asyncrun(grace=0.05))
        await driver._indifast_runtime.up.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended == ["hardware"]
        assert driver.stopped.is_set()
        with pytest.raises(ConnectionRefusedError):
            await WireClient.connect(port)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


# The driver's own port


def client_of(driver: IPyDriver) -> Any:
    """The driver's side of the connection to its client; None if the client is not going to send anything more."""
    client = driver._indifast_runtime.link._client  # type: ignore[union-attr]
    return None if client is None or client.ended else client


def test_a_port_that_is_in_use() -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            driver = full_driver()
            driver.listen("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(OSError, match="in use"):
                await driver.asyncrun()
            with pytest.raises(OSError, match="in use"):
                async with driver:
                    pass

    asyncio.run(run())


def test_one_client_at_a_time_and_the_next_one_at_once() -> None:
    async def run() -> None:
        driver = full_driver()
        driver.listen("127.0.0.1", 0)
        async with driver:
            for _ in range(5):
                async with connected(driver.listening_port) as client:
                    assert len(await client.answers('<getProperties version="1.7" device="Dev" />')) == 5
                    async with connected(driver.listening_port) as second:
                        await second.until_eof()
                        assert not second.raw
                    assert len(await client.answers('<getProperties version="1.7" device="Dev" />')) == 5
                await driver["Dev"]["nu"].send_setVector()  # dropped: there is no client
                await eventually(lambda: not client_of(driver))

    asyncio.run(run())


def test_a_client_that_has_shut_down_its_side_gets_answers_until_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(IPyDriver):
        async def rxevent(self, event: Any) -> None:
            await self.driverdata["go"].wait()
            await event.vector.send_setVector(message="done")

    async def run() -> None:
        vector = NumberVector("n", "", "", "rw", "Ok", [NumberMember("n")])
        driver = Slow(Device("Dev", [vector]), go=asyncio.Event())
        driver.listen("127.0.0.1", 0)
        monkeypatch.setattr(portlink, "_LINGER", LIMIT)
        async with driver:
            port = driver.listening_port
            for _ in range(3):
                driver.driverdata["go"].clear()
                async with connected(port) as client:
                    member = '<oneNumber name="n">1</oneNumber>'
                    client.send(f'<newNumberVector device="Dev" name="n">{member}</newNumberVector>')
                    client.send_eof()
                    await eventually(lambda: not client_of(driver))
                    driver.driverdata["go"].set()
                    assert (await client.next("setNumberVector")).attrs["message"] == "done"
                    async with connected(port) as following:
                        following.send('<getProperties version="1.7" />')
                        await following.next("defNumberVector")
                        await client.until_eof()
                await eventually(lambda: not client_of(driver))
            monkeypatch.setattr(portlink, "_LINGER", 0.05)
            async with connected(port) as client:
                client.send_eof()
                await client.until_eof()  # after a while, although no other client comes

    asyncio.run(run())


def test_each_client_begins_with_blobs_turned_off() -> None:
    async def run() -> None:
        driver = full_driver()
        driver.listen("127.0.0.1", 0)
        driver["Dev"]["bl"]["b1"] = b"abc"
        async with driver:
            for enable in (True, False):
                async with connected(driver.listening_port) as client:
                    await client.answers('<enableBLOB device="Dev">Also</enableBLOB>' if enable else "")
                    await driver["Dev"]["bl"].send_setVectorMembers(members=["b1"])
                    await driver.send_message("end")
                    await client.next("message")
                    assert any(element.blob for element in client.elements) == enable
                await eventually(lambda: not client_of(driver))

    asyncio.run(run())


def test_a_client_with_too_many_blob_settings_can_still_change_them(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        driver = full_driver()
        async with listening(driver) as client:

            async def gets_content() -> bool:
                driver["Dev"]["bl"]["b1"] = b"abc"
                await driver["Dev"]["bl"].send_setVectorMembers(members=["b1"])
                return any(element.blob for element in await client.answers(""))

            await client.answers('<enableBLOB device="Dev" name="bl">Also</enableBLOB>')
            for number in range(1, MAX_ENTRIES):
                client.send(f'<enableBLOB device="D{number}">Also</enableBLOB>')
            await client.answers("")
            assert await gets_content() and not driver.stats().get("refused")
            await client.answers('<enableBLOB device="More">Also</enableBLOB>')
            assert driver.stats()["refused"] == 1
            await client.answers('<enableBLOB device="Dev" name="bl">Never</enableBLOB>')
            assert not await gets_content(), "a stored setting can be changed"
            await client.answers('<enableBLOB device="Dev">Also</enableBLOB>')
            assert await gets_content() and driver.stats()["refused"] == 1, "and fewer settings leave room for others"

    asyncio.run(run())
    assert "enableBLOB for More refused: there are 10000 settings already" in caplog.text


def test_a_client_that_stops_within_a_message_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        driver = full_driver()
        clock = Clock(monkeypatch)
        async with listening(driver, Limits(stall=100)) as client:

            def held() -> int:
                return client_of(driver)._reader.held

            await client.answers("")
            client.send("<newNumberVector ")
            await eventually(held)
            for _ in range(6):  # a slow client may go on
                before = held()
                client.send('device="Dev" ')
                await eventually(lambda before=before: held() > before)  # type: ignore[misc]
                await clock.advance(60)
            assert not client.eof
            await clock.advance(60)
            await client.until_eof()

    asyncio.run(run())


def test_pings_of_a_client_that_does_not_read_are_not_answered() -> None:
    async def run() -> None:
        driver = full_driver()
        listen(driver, Limits(small_queue=1 << 20))
        async with driver:
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", driver.listening_port)) as sock:
                sock.setblocking(False)
                pings = 0
                while not driver.stats().get("refused"):
                    await loop.sock_sendall(sock, f'<pingRequest uid="{"u" * 30_000}"/>'.encode())
                    pings += 1
                await loop.sock_sendall(sock, b'<getProperties version="1.7" device="Dev" name="nu"/>')
                received = bytearray()
                while b"</defNumberVector>" not in received:
                    received += await loop.sock_recv(sock, 1 << 20)
            assert 30 < received.count(b"<pingReply") < pings, "later requests are answered when the client reads again"

    asyncio.run(run())


def test_a_driver_has_either_a_port_or_a_server() -> None:
    driver = full_driver()
    driver.listen()
    with pytest.raises(RuntimeError):
        driver.listen()
    with pytest.raises(RuntimeError):
        IPyServer(driver)
    served = full_driver()
    IPyServer(served)
    with pytest.raises(RuntimeError):
        served.listen()


# Faults of user code


@pytest.mark.parametrize("where", ["rxevent", "hardware", "background"])
def test_an_exception_in_user_code_ends_a_driver_without_a_server(where: str) -> None:
    async def fault() -> None:
        raise ZeroDivisionError("in background")

    async def run() -> None:
        driver = failing(where)
        driver.listen("127.0.0.1", 0)
        if where == "background":
            driver.add_background(fault())
        running = asyncio.create_task(driver.asyncrun())
        if where == "rxevent":
            await driver._indifast_runtime.up.wait()
            async with connected(driver.listening_port) as client:
                client.send(NUMBER)
                await client.until_eof()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(ZeroDivisionError, match=where):
                await running

    asyncio.run(run())


def test_under_a_server_the_driver_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def fault() -> None:
        raise ZeroDivisionError("in background")

    async def run() -> None:
        driver = failing("rxevent", "hardware", "snoopevent")
        driver["Dev"].add_background(fault())
        other = IPyDriver(Device("Other", [NumberVector("n", "", "", "rw", "Ok", [NumberMember("n")])]))
        driver.snoop("Other", "n")
        async with served(driver, other) as client:
            await client.answers('<getProperties version="1.7" />', 1)
            client.send(NUMBER)
            await client.until(lambda: any("rxevent" in e.attrs.get("message", "") for e in client.elements))
            await other["Other"]["n"].send_setVector()
            await eventually(lambda: driver.stats()["user_faults"] >= 4)
            driver.driverdata["where"] = ()
            client.send(NUMBER)
            assert (await client.next("setNumberVector")).device is not None

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    faults = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ZeroDivisionError]
    texts = {str(record.exc_info[1]) for record in faults if record.exc_info}
    assert texts == {"in rxevent", "in hardware", "in snoopevent", "in background"}


@pytest.mark.parametrize("own", [False, True])
def test_a_cancelled_wait_in_user_code_is_handled_like_an_exception(
    own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """User code cancels either its own task or another task that it waits for."""
    received = []

    class Cancelling(IPyDriver):
        async def rxevent(self, event: Any) -> None:
            received.append(event["nu"])
            if event["nu"] == "0":
                task = asyncio.current_task() if own else asyncio.create_task(asyncio.Event().wait())
                assert task is not None
                task.cancel()
                await (asyncio.Event().wait() if own else task)

        async def hardware(self) -> None:
            if not own:
                raise asyncio.CancelledError

    async def run() -> None:
        vector = NumberVector("n", "", "", "rw", "Ok", [NumberMember("nu")])
        driver = Cancelling(Device("Dev", [vector]))
        async with served(driver) as client:
            for value in "0", "1", "2":
                member = f'<oneNumber name="nu">{value}</oneNumber>'
                client.send(f'<newNumberVector device="Dev" name="n">{member}</newNumberVector>')
                await eventually(lambda value=value: received[-1:] == [value])  # type: ignore[misc]
            assert driver.stats().get("user_faults", 0) == (0 if own else 2)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == (
        [] if own else ["hardware failed, the driver goes on", "rxevent for Dev.n failed, the driver goes on"]
    )


def test_a_vector_that_cannot_be_sent_does_not_prevent_other_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        broken = TextVector("broken", "", "", "rw", "wrong", [TextMember("t")])
        odd = TextVector("odd", "", "", "rw", "Ok", [TextMember("t", None, 5)])  # type: ignore[arg-type]
        good = TextVector("good", "", "", "rw", "Ok", [TextMember("t")])
        driver = IPyDriver(Device("Dev", [broken, odd, good]), fence_device())
        async with served(driver) as client:
            answers = await client.answers('<getProperties version="1.7" device="Dev" />')
            assert [element.name for element in answers if element.tag.startswith("def")] == ["good"]

    asyncio.run(run())


def test_asyncrun_of_a_subclass_is_called_by_the_server() -> None:
    prepared = []

    class Prepared(IPyDriver):
        async def asyncrun(self, *, grace: float = 2.0) -> None:
            prepared.append(True)
            await super().asyncrun(grace=grace)

    async def run() -> None:
        async with served(Prepared(fence_device())) as client:
            await client.answers("")
        assert prepared == [True]

    asyncio.run(run())


# Snooping


class Snooper(IPyDriver):
    async def snoopevent(self, event: Any) -> None:
        self.driverdata["received"].append(event)


def test_snooping_on_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snooping, "FIRST_ANSWER", 3600.0)  # on a busy machine, the first answer may be late

    async def run() -> None:
        received: list[Any] = []
        snooper = Snooper(Device("Snooper", []), received=received)
        snooper.snoop("Dev", "nu")
        assert snooper.snoopvectors[("Dev", "nu")][0] == 30
        other = full_driver()
        async with IPyServer(snooper, other, host="127.0.0.1", port=0):
            await eventually(lambda: received)
            assert type(received[0]).__name__ == "defNumberVector"
            other["Dev"]["nu"]["n"] = 7
            await other["Dev"]["nu"].send_setVector(state="Ok")
            await other["Dev"]["sw"].send_setVector()
            await other["Dev"]["nu"].send_setVectorMembers(state="Busy")
            await eventually(lambda: len(received) == 3)
            assert dict(received[1]) == {"n": "7"}
            assert (received[2].state, dict(received[2])) == ("Busy", {})

    asyncio.run(run())


@pytest.mark.parametrize("names", [(), ("",), ("", ""), (None, "")], ids=str)
def test_snooping_on_everything(names: tuple[str | None, ...]) -> None:
    async def run() -> None:
        received: list[Any] = []
        snooper = Snooper(Device("Snooper", []), received=received)
        other = full_driver()
        async with IPyServer(snooper, other, host="127.0.0.1", port=0):
            await snooper.send_getProperties(*names)
            await eventually(lambda: len(received) == 6)
            await other["Dev"].send_device_message("hello")
            await other["Dev"]["sw"].send_delProperty("gone")
            await other["Dev"].send_delProperty()
            await eventually(lambda: len(received) == 9)
            assert [type(event).__name__ for event in received[6:]] == ["Message", "delProperty", "delProperty"]
            assert received[6].message == "hello"

    asyncio.run(run())


@pytest.mark.parametrize("vectorname", [None, ""])
def test_blobs_of_other_drivers_as_arrays(vectorname: str | None) -> None:
    async def run() -> None:
        received: list[Any] = []
        snooper = Snooper(Device("Snooper", []), received=received)
        vector = BLOBVector("ccd", "", "", "ro", "Ok", [BLOBMember("a")])
        other = IPyDriver(Device("Cam", [vector]))
        data = bytes(range(256)) * 4096
        async with IPyServer(snooper, other, host="127.0.0.1", port=0):
            await snooper.send_getProperties("Cam", vectorname)
            await eventually(lambda: len(received) == 1)
            vector["a"] = data
            await vector.send_setVectorMembers(members=["a"])
            await eventually(lambda: len(received) == 2)
            assert received[1]["a"] == data
            assert received[1].sizeformat == {"a": (len(data), "")}
            assert received[1].array("a", "u1", (1024, 1024)).sum() == sum(data)

    asyncio.run(run())


def test_a_silent_vector_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snooping, "FIRST_ANSWER", 1000.0)  # much longer than a busy machine takes for a step

    async def run() -> None:
        driver = IPyDriver(Device("Dev", []), fence_device())
        clock = Clock(monkeypatch)
        async with listening(driver) as client:
            driver.snoop("Other", "v", 5000)
            driver.snoop("Other", "w", timeout="60000")  # type: ignore[arg-type]
            driver.snoop("Other", "x", 4)
            driver.snoop("Dev", "v")
            with pytest.raises(ValueError):
                driver.snoop("Other", "y", "often")  # type: ignore[arg-type]
            # At once, soon after that, and when the timeout is over.
            for wait, names in (0, "vw"), (1000 + TICK, "vw"), (5000 + TICK, "v"):
                await clock.advance(wait)
                await client.answers("")
                requests = [element for element in client.elements if element.tag == "getProperties"]
                assert [(element.device, element.name) for element in requests] == [("Other", name) for name in names]
                client.elements.clear()
            asked = driver.snoopvectors[("Other", "v")][1]
            client.send('<setTextVector device="Other" name="v" state="Ok" />')
            await client.answers("")
            assert driver.snoopvectors[("Other", "v")][1] > asked

    asyncio.run(run())


def test_messages_and_deletions_reach_only_snooping_drivers() -> None:
    async def run() -> None:
        received: list[Any] = []
        driver = Snooper(Device("Dev", []), fence_device(), received=received)
        async with listening(driver) as client:
            driver.snoopdevices.add("Whole")
            driver.snoopvectors[("One", "v")] = None
            for device in ("Whole", "One", "None"):
                client.send(f'<message device="{device}" message="m" /><delProperty device="{device}" name="v" />')
            client.send('<message message="system" /><delProperty device="One" />')
            await client.answers("")
            await eventually(lambda: len(received) == 3)
            assert [(type(event).__name__, event.devicename) for event in received] == [
                ("Message", "Whole"),
                ("delProperty", "Whole"),
                ("delProperty", "One"),
            ]
            driver.snoopall = True
            client.send('<message message="system" />')
            await eventually(lambda: len(received) == 4)
            assert received[3].devicename is None

    asyncio.run(run())


def test_messages_beyond_the_limits_for_peers_reach_snooping_drivers() -> None:
    async def run() -> None:
        received: list[Any] = []
        talker = IPyDriver(Device("Dev", [TextVector("t", "", "", "rw", "Ok", [TextMember("t")])]))
        listener = Snooper(received=received)
        async with IPyServer(talker, listener, host="127.0.0.1", port=0):
            await listener.send_getProperties()
            await eventually(lambda: received)
            vector = talker["Dev"]["t"]
            await talker.send_message("m" * 100_000)
            for text, message in ("", "m" * 100_000), ("t" * (17 << 20), ""), ("end", ""):
                count = len(received)
                vector["t"] = text
                await vector.send_setVector(message=message)
                await eventually(lambda count=count: len(received) > count)  # type: ignore[misc]
            assert {len(event.message) for event in received if isinstance(event, Message)} == {100_000}
            updates = [event for event in received if isinstance(event, setTextVector)]
            assert [len(event.message) for event in updates] == [100_000, 0, 0]
            assert [len(event["t"]) for event in updates] == [0, 17 << 20, 3]

    asyncio.run(run())


# Frames under a server


def test_a_frame_is_encoded_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    real = contents.encode_block

    def counting(data: memoryview) -> Any:
        encoded.append(len(data))
        return real(data)

    monkeypatch.setattr(contents, "encode_block", counting)

    async def run() -> None:
        vector = BLOBVector("ccd", "", "", "ro", "Ok", [BLOBMember("a")])
        driver = IPyDriver(Device("Cam", [vector]), fence_device())
        async with IPyServer(driver, host="127.0.0.1", port=0) as server:
            vector["a"] = bytes(1 << 20)
            await vector.send_setVectorMembers(members=["a"])
            assert encoded == []
            clients = [await WireClient.connect(server.port) for _ in range(3)]
            for client in clients:
                await client.answers('<getProperties version="1.7" /><enableBLOB device="Cam">Also</enableBLOB>', 1)
            await vector.send_setVectorMembers(members=["a"])
            for client in clients:
                assert (await client.next("setBLOBVector")).members[0].data == bytes(1 << 20)
                await client.close()
            assert sum(encoded) == 1 << 20

    asyncio.run(run())


def test_subclasses_may_use_common_attribute_names() -> None:
    class Mine(IPyDriver):
        def __init__(self) -> None:
            super().__init__(fence_device())
            self.port = "/dev/ttyUSB0"
            self.devices = {}  # type: ignore[assignment]
            self.tasks = self.link = self._running = self._driver = self.state = None

    class MyDevice(Device):
        def __init__(self) -> None:
            super().__init__("Mine", [])
            self._driver = self._background = self.propertyvectors = None  # type: ignore[assignment]

    async def run() -> None:
        driver = Mine()
        driver.data["Mine"] = device = MyDevice()
        device.driver = driver
        async with listening(driver) as client:
            await client.answers("")
            await device.send_device_message("m")
            await client.next("message")

    asyncio.run(run())
