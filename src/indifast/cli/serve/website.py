"""The page in the browser, in the process of the server that it shows."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indifast.cli.toolkit import webpage
from indifast.client.display import DisplayClient
from indifast.protocol.loglevels import NOTICE

if TYPE_CHECKING:
    from indifast.cli.serve.options import Web
    from indifast.cli.serve.server import TappedServer
    from indifast.client import IPyClient

logger = logging.getLogger(__name__)


class ThisServer:
    """The server of this process as one that clients can be made of: they need neither a port nor a certificate."""

    def __init__(self, server: TappedServer) -> None:
        self._server = server

    def __str__(self) -> str:
        return f"{socket.gethostname()}:{self._server.port}"

    def client(self, kind: type[IPyClient] | None = None) -> IPyClient:
        """Return a client that is not running yet."""
        client = DisplayClient() if kind is None else kind()
        assert isinstance(client, DisplayClient)
        client.inside = self._server.connect_inside
        return client


class Website:
    """The page, on sockets that already listen.

    Args:
        server: The server that is shown.
        options: Who may do what.
        sockets: The sockets.

    Raises:
        ValueError: The page cannot be served as the options say it.
    """

    def __init__(self, server: TappedServer, options: Web, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        rules = webpage.Rules(options.token_file, options.users, options.read_only, "--web-")
        access = rules.access(sock.getsockname()[0] for sock in sockets)
        webpage.limit_warnings(logging.getLogger().handlers)
        names = [*options.names, *([options.listen[0]] if options.listen else [])]
        self._page = webpage.Webpage(ThisServer(server), access, names)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve; return when browsers can connect."""
        self._task = asyncio.create_task(self._run())
        await self._page.started()
        logger.log(NOTICE, "page in the browser: %s", webpage.address_of(self._sockets))

    def stop(self) -> None:
        """Begin to end all connections of browsers, and the one to the server."""
        self._page.stop()

    async def end(self) -> None:
        """End them, and wait until that is done."""
        self.stop()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            await self._page.run(self._sockets)
        except Exception:
            logger.exception("the page in the browser has failed; the server continues without it")
