"""The event loop that calls the readers and writers of descriptors directly must otherwise behave like asyncio's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from indifast import IPyServer, new_event_loop
from indifast.transport.epoll import EventLoop
from indifast.transport.stream import SocketStream
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(main: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run `main(loop)` on the loop under test, for a limited time."""

    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await main(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(limited())


def make_readable(
    loop: asyncio.AbstractEventLoop, pairs: list[tuple[socket.socket, socket.socket]], read: Callable[[int], None]
) -> None:
    """Make all pairs readable at the same moment. `read` is called with the number of the pair."""
    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, read, number)


def test_a_reader_is_called_with_its_arguments_in_its_context(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    variable = contextvars.ContextVar("variable", default="")

    async def main(loop: asyncio.AbstractEventLoop) -> tuple[bytes, str, str]:
        done = loop.create_future()
        variable.set("of the registration")
        loop.add_reader(ours, lambda word: done.set_result((ours.recv(10), word, variable.get())), "word")
        variable.set("later")
        theirs.send(b"data")
        try:
            return await done
        finally:
            assert loop.remove_reader(ours)

    assert run(main) == (b"data", "word", "of the registration")


def test_reader_and_writer_of_one_descriptor_are_independent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    seen = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        readable, writable = loop.create_future(), loop.create_future()

        def read() -> None:
            seen.append(ours.recv(10))
            readable.set_result(None)

        def write() -> None:
            loop.remove_writer(ours)
            writable.set_result(None)

        loop.add_reader(ours, read)
        loop.add_writer(ours, write)
        await writable
        assert not loop.remove_writer(ours)
        assert not seen
        theirs.send(b"later")
        await readable
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)
        loop.add_reader(ours, read)  # works as for a new descriptor
        assert loop.remove_reader(ours)

    run(main)
    assert seen == [b"later"]


def test_a_reader_that_another_one_removes_at_the_same_moment_is_not_called() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> list[int]:
        pairs = [socket.socketpair() for _ in range(2)]
        called = []

        def read(number: int) -> None:
            called.append(number)
            for ours, _ in pairs:
                loop.remove_reader(ours)

        make_readable(loop, pairs, read)
        while not called:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        for ends in pairs:
            for end in ends:
                end.close()
        return called

    assert len(run(main)) == 1


def test_a_hang_up_reaches_the_reader() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        heard = asyncio.Event()
        source, sink = os.pipe()
        os.close(sink)  # the kernel reports only this, as there is nothing to read
        loop.add_reader(source, heard.set)
        await heard.wait()
        loop.remove_reader(source)
        os.close(source)

    run(main)


def test_an_error_reaches_the_writer() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        heard = asyncio.Event()
        source, sink = os.pipe()
        os.set_blocking(sink, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(sink, bytes(1 << 16)):
                pass
        loop.add_writer(sink, heard.set)
        loop.call_soon(os.close, source)  # the kernel reports only this, as nothing can be written
        await heard.wait()
        loop.remove_writer(sink)
        os.close(sink)

    run(main)


def test_an_event_does_not_reach_the_next_owner_of_the_descriptor() -> None:
    """Of two sockets that are ready, the reader called first closes the other, whose number goes to a quiet socket."""

    async def main(loop: asyncio.AbstractEventLoop) -> list[str]:
        pairs = [socket.socketpair() for _ in range(2)]
        quiet = socket.socketpair()
        called = []

        def read(number: int) -> None:
            called.append("read")
            for ours, _ in pairs:
                loop.remove_reader(ours)
            other = pairs[1 - number][0].fileno()
            os.dup2(quiet[0].fileno(), other)
            loop.add_reader(other, called.append, "quiet")

        make_readable(loop, pairs, read)
        while not called:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        for ours, theirs in [*pairs, quiet]:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()
        return called

    assert run(main) == ["read"]


def test_a_descriptor_may_have_a_reader_of_ours_and_a_writer_of_asyncios(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    content = os.urandom(8 << 20)

    async def main(loop: asyncio.AbstractEventLoop) -> bytes:
        heard: list[bytes] = []
        got = asyncio.Event()
        loop.add_reader(ours, lambda: (heard.append(ours.recv(100)), got.set()))

        def take_all() -> None:
            left = len(content)
            while left:
                left -= len(theirs.recv(min(left, 1 << 16)))
            theirs.send(b"thank you")

        taking = asyncio.to_thread(take_all)
        await asyncio.gather(loop.sock_sendall(ours, content), taking)
        await got.wait()
        assert loop.remove_reader(ours)
        return b"".join(heard)

    assert run(main) == b"thank you"


def test_the_descriptor_of_a_transport_takes_no_reader() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            with pytest.raises(RuntimeError, match="transport"):
                loop.add_reader(ours.fileno(), print)
            writer.close()
            await writer.wait_closed()

    run(main)


def test_an_exception_is_reported_and_the_loop_continues(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reports: list[dict[str, Any]] = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(lambda loop, report: reports.append(report))
        again = asyncio.Event()

        def fail() -> None:
            if reports:
                again.set()
                loop.remove_reader(ours)
            raise LookupError("on purpose")

        loop.add_reader(ours, fail)
        theirs.send(b"x")
        await again.wait()

    run(main)
    assert [type(report["exception"]) for report in reports] == [LookupError, LookupError]


def test_an_interrupt_ends_the_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        def interrupt() -> None:
            loop.remove_reader(ours)
            raise SystemExit(7)

        loop.add_reader(ours, interrupt)
        theirs.send(b"x")
        await loop.create_future()

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 7


def test_a_closed_descriptor_is_forgotten(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(ours, print)
        number = ours.fileno()
        ours.close()
        assert loop.remove_reader(number)
        with pytest.raises(OSError, match="descriptor"):
            loop.add_reader(number, print)
        assert not loop.remove_reader(number)

    run(main)
    with pytest.raises(RuntimeError, match="closed"):
        loop = EventLoop()
        loop.close()
        loop.add_reader(0, print)


def test_everything_else_of_asyncio_works() -> None:
    """Transports, sock_ calls, child processes, signals, threads and timers on one loop, next to direct readers."""

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        content = os.urandom(3_000_000)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(content)
        writer.write_eof()
        assert await reader.read() == content
        writer.close()

        with socket.socket() as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, address)
            got = asyncio.Event()
            loop.add_reader(raw, got.set)
            loop.add_writer(raw, lambda: (raw.send(b"direct"), loop.remove_writer(raw)))
            await got.wait()
            loop.remove_reader(raw)
            assert await loop.sock_recv(raw, 100) == b"direct"

        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input()[::-1])", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate(b"abc\n")
        assert output == b"cba\n"

        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR2, heard.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await heard.wait()
        loop.remove_signal_handler(signal.SIGUSR2)

        assert await asyncio.to_thread(lambda: 3) == 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        server.close()
        await server.wait_closed()

    run(main)


def test_more_descriptors_than_one_call_of_epoll_returns_are_all_served() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        pairs = [socket.socketpair() for _ in range(300)]
        waiting = set(range(len(pairs)))
        done = loop.create_future()

        def read(number: int) -> None:
            """Read nothing, so that the descriptor stays ready, which must not keep the others from their turn."""
            waiting.discard(number)
            if not waiting and not done.done():
                done.set_result(None)

        make_readable(loop, pairs, read)
        await done
        for ours, theirs in pairs:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()

    run(main)


def test_a_server_runs_on_it() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = IPyServer(host="127.0.0.1", port=0)
        server.add_exdriver("indi_simulator_telescope")
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        child = await asyncio.create_subprocess_exec(
            "indi_getprop",
            "-p",
            str(server.port),
            "-t",
            str(int(LIMIT)),
            "-1",
            "Telescope Simulator.CONNECTION.CONNECT",
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await child.communicate()
        assert output.strip() == b"Off"
        server.shutdown()
        await running

    run(main)


def test_the_loop_is_ours_or_without_epoll_that_of_uvloop_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind() -> type[asyncio.AbstractEventLoop]:
        loop = new_event_loop()
        loop.close()
        return type(loop)

    class Installed(asyncio.SelectorEventLoop):
        pass

    uvloop = ModuleType("uvloop")
    vars(uvloop)["new_event_loop"] = Installed
    monkeypatch.setitem(sys.modules, "uvloop", uvloop)
    assert kind() is EventLoop
    monkeypatch.delattr(select, "epoll")
    assert kind() is Installed
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert issubclass(kind(), asyncio.SelectorEventLoop) and kind() is not EventLoop


def test_call_at_end_runs_after_all_ready_descriptors_and_before_the_next_iteration() -> None:
    """Each callback is called once. An exception is reported, and the others are called nevertheless."""
    calls: list[str] = []
    failures: list[BaseException] = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert isinstance(loop, EventLoop)
        loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))
        loop.call_at_end(lambda: calls.append("outside"))
        assert not calls
        await asyncio.sleep(0)
        with contextlib.ExitStack() as stack:
            pairs = []
            for _ in range(3):
                pairs.append(socket.socketpair())
                stack.enter_context(pairs[-1][0])
                stack.enter_context(pairs[-1][1])

            def read(number: int) -> None:
                pairs[number][0].recv(10)
                calls.append(f"read {number}")
                if number == 1:
                    loop.call_at_end(lambda: 1 // 0)
                loop.call_at_end(lambda: calls.append(f"end {number}"))
                loop.call_soon(calls.append, f"soon {number}")

            make_readable(loop, pairs, read)
            while len(calls) < 10:
                await asyncio.sleep(0)
            for ours, _ in pairs:
                loop.remove_reader(ours)

    run(main)
    numbers = [0, 1, 2]
    assert calls == ["outside", *(f"{what} {number}" for what in ("read", "end", "soon") for number in numbers)]
    assert [type(each) for each in failures] == [ZeroDivisionError]


def echo_itself(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket], heard: Callable[[], object]
) -> None:
    """Keep a descriptor ready for ever, and call `heard` for each time that the loop reports it."""
    ours, theirs = pair

    def read() -> None:
        ours.recv(10)
        theirs.send(b"x")
        heard()

    loop.add_reader(ours, read)
    theirs.send(b"x")


def test_timers_and_other_callbacks_have_their_turn_while_descriptors_are_always_ready(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        echo_itself(loop, pair, lambda: None)
        await asyncio.sleep(0.01)
        await asyncio.to_thread(loop.call_soon_threadsafe, lambda: None)
        soon = loop.create_future()
        loop.remove_reader(pair[0])
        echo_itself(loop, pair, lambda: soon.done() or loop.call_soon(lambda: soon.done() or soon.set_result(None)))
        await soon
        loop.remove_reader(pair[0])

    run(main)


def test_a_reader_can_stop_the_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    loop = EventLoop()
    try:
        calls: list[int] = []

        def heard() -> None:
            calls.append(1)
            if len(calls) == 3:
                loop.stop()

        echo_itself(loop, pair, heard)
        loop.run_forever()
        assert len(calls) in (3, 4)  # asyncio polls once more before it stops
        loop.remove_reader(pair[0])
    finally:
        loop.close()


def test_timers_that_readers_set_and_cancel_do_not_add_up(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        enough = loop.create_future()
        calls: list[int] = []

        def heard() -> None:
            loop.call_later(1000 + len(calls), list).cancel()
            calls.append(1)
            if len(calls) == 2000:
                enough.set_result(None)

        loop.call_later(500, list)  # so that those that are cancelled are not the next ones
        echo_itself(loop, pair, heard)
        await enough
        loop.remove_reader(pair[0])
        assert len(loop._scheduled) < 500  # type: ignore[attr-defined]

    run(main)


def test_the_loop_does_not_wait_for_a_timer_that_is_cancelled(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair

    async def main(loop: asyncio.AbstractEventLoop) -> float | None:
        assert isinstance(loop, EventLoop)
        waits: list[float | None] = []
        poll = loop._direct.poll
        done = loop.create_future()

        def counted(timeout: float | None) -> list[Any]:
            if timeout != 0:
                waits.append(timeout)
                theirs.send(b"x")
            return poll(timeout)

        monkeypatch.setattr(loop._direct, "poll", counted)
        loop.add_reader(ours, lambda: ours.recv(10) and (done.done() or done.set_result(None)))
        loop.call_later(100, list).cancel()
        loop.call_later(1, list).cancel()
        await done
        loop.remove_reader(ours)
        return waits[0]

    wait = run(main)  # the next timer is that of `run`
    assert wait is not None and wait > 1


class Polls:
    """An epoll object that notes how long it is to wait."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.waits: list[float | None] = []
        self.asleep = threading.Event()

    def poll(self, timeout: float | None, most: int) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        if timeout != 0:
            self.asleep.set()
        found: list[tuple[int, int]] = self.real.poll(timeout, most)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def converse(
    pair: tuple[socket.socket, socket.socket], rounds: int, *, expecting: bool = True, late: bool = False
) -> list[list[float | None]]:
    """Send messages that a thread answers, if `late` when the loop sleeps. Return how long it was to wait each time."""
    ours, theirs = pair
    theirs.setblocking(True)
    polls = Polls(None)

    def answer() -> None:
        while theirs.recv(1):
            if late:
                polls.asleep.wait(LIMIT)
            theirs.send(b"a")

    async def main(loop: asyncio.AbstractEventLoop) -> list[list[float | None]]:
        assert isinstance(loop, EventLoop)
        polls.real = loop._direct._epoll
        loop._direct._epoll = polls  # type: ignore[assignment]
        waits: list[list[float | None]] = []
        done = loop.create_future()

        def heard() -> None:
            ours.recv(1)
            if polls.waits:
                waits.append(polls.waits.copy())
            if len(waits) == rounds:
                done.set_result(None)
                return
            polls.waits.clear()
            polls.asleep.clear()
            ours.send(b"q")
            if expecting:
                loop.expect_answer()

        loop.add_reader(ours, heard)
        ours.send(b"q")
        await done
        loop.remove_reader(ours)
        return waits[1:]

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        found: list[list[float | None]] = run(main)
        return found
    finally:
        ours.shutdown(socket.SHUT_WR)
        thread.join()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets how long a brief wait and staying awake are, in seconds, and the number of cores."""

    def put(brief: float, awake: float, cores: int = 2) -> None:
        monkeypatch.setattr("indifast.transport.epoll._BRIEF", brief)
        monkeypatch.setattr("indifast.transport.epoll._AWAKE", awake)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))

    return put


def test_while_answers_come_at_once_the_loop_does_not_sleep(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None]
) -> None:
    limits(brief=LIMIT, awake=LIMIT / 2)
    first, *others = converse(pair, 20)
    assert 0 not in first
    assert all(set(waits) == {0} for waits in others[2:])


def test_a_late_answer_lets_the_loop_sleep_again(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None]
) -> None:
    limits(brief=LIMIT, awake=0.002)
    rounds = converse(pair, 30, late=True)
    awake = [number for number, waits in enumerate(rounds) if 0 in waits]
    assert awake
    assert all(rounds[number][-1] not in (0, None) for number in awake), "it slept after it had been awake in vain"
    assert min(b - a for a, b in pairwise(awake)) > 3, "and the next answers were awaited asleep"


def test_the_loop_sleeps_while_answers_take_long(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None]
) -> None:
    limits(brief=0, awake=LIMIT / 2)
    assert not any(0 in waits for waits in converse(pair, 10))


def test_the_loop_sleeps_if_no_answer_is_expected(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None]
) -> None:
    limits(brief=LIMIT, awake=LIMIT / 2)
    assert not any(0 in waits for waits in converse(pair, 10, expecting=False))


def test_with_a_single_core_the_loop_always_sleeps(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None]
) -> None:
    limits(brief=LIMIT, awake=LIMIT / 2, cores=1)
    assert not any(0 in waits for waits in converse(pair, 10))


def test_a_timer_that_is_due_soon_is_not_late_because_the_loop_stays_awake(
    pair: tuple[socket.socket, socket.socket], limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(brief=LIMIT, awake=LIMIT / 10)
    given_way: list[int] = []
    monkeypatch.setattr(os, "sched_yield", lambda: given_way.append(1))  # called as long as it stays awake in vain

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert isinstance(loop, EventLoop)
        loop._direct._brief_waits = 100
        for _ in range(3):
            loop.expect_answer()
            await asyncio.sleep(0.01)

    run(main)
    assert not given_way


def test_looking_without_waiting_tells_nothing_about_how_soon_answers_come(
    limits: Callable[..., None],
) -> None:
    limits(brief=LIMIT, awake=LIMIT / 2)

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert isinstance(loop, EventLoop)
        loop.expect_answer()
        for _ in range(10):
            await asyncio.sleep(0)
        assert loop._direct._brief_waits == 0 and loop._direct.answer_expected

    run(main)


def test_only_short_messages_may_be_answered_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert isinstance(loop, EventLoop)
        asked: list[int] = []
        loop.expect_answer = lambda: asked.append(1)  # type: ignore[method-assign]
        stream, out = SocketStream(ours.dup()), Pieces()
        out.feed(stream, Recorder())
        for length, expected in ((100, 1), (1 << 16, 1), (100, 2)):
            out.put(bytes(length))
            await eventually(lambda: not out.queued)
            while length:
                length -= len(theirs.recv(length))
            assert len(asked) == expected
        stream.abort()

    run(main)


def test_a_server_expects_an_answer_to_a_short_message(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(EventLoop, "expect_answer", lambda loop: asked.append(1))

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = IPyServer(host="127.0.0.1", port=0)
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"<pingRequest uid='a'/>")
        assert await reader.readuntil(b">") == b'<pingReply uid="a" />'
        assert asked
        writer.close()
        server.shutdown()
        await running

    run(main)
