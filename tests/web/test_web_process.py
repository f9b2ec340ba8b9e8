"""The process of the page: what both processes say, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from indifast.cli.serve import pageprocess
from indifast.cli.serve.pageprocess import Line
from indifast.cli.serve.website import _bounded
from tests.support.blackbox import LIMIT, until
from tests.web.eye import EYE, number_of, take
from tests.web.support import event, path, serving, token_file
from tests.web.test_web_serve import child

pytestmark = pytest.mark.xdist_group("web")


@pytest.mark.parametrize("said", [b"", b"x" * 999 + b"\n", b"nonsense\n"])
def test_who_waits_for_an_answer_does_not_outlast_the_server(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a line that cannot be read end more than this connection."""

    async def ask() -> Any:
        ours, theirs = socket.socketpair()
        line = Line(*await asyncio.open_connection(sock=ours, limit=100))
        asked = asyncio.ensure_future(line.ask("list"))
        await asyncio.sleep(0)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LIMIT):
            await line.answers()
            with pytest.raises(ConnectionError, match="the server ends"):
                await asked
            with pytest.raises(ConnectionError, match="the server ends"):
                await line.ask("list")
        theirs.close()

    asyncio.run(ask())
    assert bool(caplog.records) == bool(said)


def test_what_drivers_have_written_makes_no_line_too_long() -> None:
    drivers: list[dict[str, Any]] = [{"name": "a", "devices": ("D",), "lines": ("x" * 1000,)}]
    assert _bounded(drivers) == drivers
    many = drivers * 10_000
    assert _bounded(many) == [{"name": "a", "devices": ("D",), "lines": ()}] * 10_000
    much = [{"name": "a", "devices": ("D" * 9_999_999,), "lines": ()}]
    assert _bounded(much) == [{"name": "a", "devices": (), "lines": ()}]
    assert pageprocess.LONGEST_LINE > 2 * (8 << 20) - 1


def test_it_ends_at_once_and_in_peace_although_requests_wait(tmp_path: Path) -> None:
    with serving(tmp_path, "strange:make") as web:
        web.wait_for("Strange", "ANSWER")
        web.ask("GET", path(*EYE))  # asks for frames
        number = number_of(web, take(web, 1))
        command = {"members": {"VALUE": 7}, "timeout": 60}
        with (
            web.events() as viewer,
            web.live(*EYE) as frames,
            web.asking("POST", path("Strange", "ANSWER"), command) as commanding,
            web.asking("GET", f"{path(*EYE)}?after={number}&wait=25") as looking,
        ):
            event(viewer, "link")
            web.process.process.terminate()
            answers = [commanding(), looking()]
            for socket in (viewer, frames):
                with pytest.raises(ConnectionClosed):
                    while True:
                        socket.recv(LIMIT)
                assert socket.close_code == 1012
        assert answers[0].status in (410, 503), "its device ends, too"
        assert answers[1].status == 503
        assert web.process.wait() == 0
        for word in ("Traceback", "CancelledError", "ASGI", "timeout"):
            assert word not in web.process.stderr, web.process.stderr


def test_why_a_page_cannot_be_served_again_is_logged(tmp_path: Path) -> None:
    tokens = token_file(tmp_path, "operator " + "o" * 16)
    with serving(tmp_path, "--web-token-file", tokens, "strange:make") as web:
        tokens.chmod(0o644)
        child(web, "pageprocess").kill()
        until(lambda: "the page in the browser cannot be served: " in web.process.stderr, what="why")
        assert f"chmod 600 {tokens}" in web.process.stderr
        tokens.chmod(0o600)
        headers = {"Authorization": f"Bearer {'o' * 16}"}
        until(lambda: web.ask("GET", path("Strange", "ANSWER"), **headers).status == 200, what="the page")
