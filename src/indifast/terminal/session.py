"""The client behind the screen: made, run and exchanged for another when another server is chosen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from indifast.client import IPyClient
from indifast.terminal.board import Board, Key

logger = logging.getLogger(__name__)


TURN = 100
"""Events, of some 15 µs each, that are handled before everything else gets its turn. A key takes several turns."""


class Server(Protocol):
    """Where a server is, in the words of people (`str`); makes clients of it."""

    def client(self, kind: type[IPyClient] | None = None) -> IPyClient:
        """A client that does not run yet; ValueError when the server cannot be one, such as for a missing file."""


class Client(IPyClient):
    """A client that tells a function of everything it receives."""

    retry_max = 10.0
    vector_timeout_max = 3600.0
    receive_event: Callable[[Any], None]
    _turn = 0

    async def rxevent(self, event: Any) -> None:
        """Only note it: the screen is refreshed later. In a flood, keys get their turn every so many events."""
        self.receive_event(event)
        self._turn += 1
        if self._turn >= TURN:
            self._turn = 0
            await asyncio.sleep(0)


class Session:
    """Runs the client of the server that is shown, and passes on what people ask of it."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.server: Server | None = None
        self.client: Client | None = None
        self.folder: Path | None = None
        self.wanted_blobs: set[tuple[str, str | None]] = set()
        """Devices (with None) and vectors whose BLOBs were asked for."""
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # people may choose faster than a connection ends
        board.blob_note = self._blob_note

    @property
    def running(self) -> bool:
        """Whether a server is shown or tried."""
        return self._task is not None and not self._task.done()

    async def connect(self, server: Server) -> None:
        """Show a server; what was shown of another one is forgotten. ValueError, see `Server.client`."""
        made = server.client(Client)
        assert isinstance(made, Client)
        async with self._changing:
            await self._end()
            if str(server) != str(self.server):
                self.board.clear()
            self.wanted_blobs.clear()
            self.server = server
            self.client = client = made
            client.receive_event = self.board.receive
            client.BLOBfolder = self.folder
            self.board.trying = True
            self._task = asyncio.create_task(self._run(client), name="terminal client")

    async def _run(self, client: Client) -> None:
        try:
            await client.asyncrun()
        except Exception as error:  # a fault of ours: the screen stays, and says so
            logger.exception("the client has stopped")
            self.board.note(f"the client has stopped: {error}")

    async def disconnect(self) -> None:
        """End the connection, or the attempts to make one. What is shown stays."""
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        self.board.trying = False
        if self.client is not None and self._task is not None:
            self.client.shutdown()
            await asyncio.wait((self._task,))
        self._task = self.client = None

    async def send(self, device: str, vector: str, members: Mapping[str, Any]) -> None:
        """Command a vector. INDICheckError for what it cannot take, ConnectionError without a connection."""
        client = self._connected()
        await client.send_newVector(device, vector, members=members, check=True)
        self.board.touch((device, vector))

    def _connected(self) -> Client:
        if self.client is None or not self.client.connected:
            raise ConnectionError("there is no connection to the server")
        return self.client

    # -- BLOBs

    def blobs_wanted(self, device: str, vector: str | None = None) -> bool:
        """Whether the server was asked for the BLOBs of a device, or of a vector of it."""
        return self.folder is not None or bool({(device, None), (device, vector)} & self.wanted_blobs)

    def _blob_note(self, key: Key) -> str:
        if self.folder is not None:
            return f"saved to {self.folder}"
        return "BLOBs are asked for, b ends that" if self.blobs_wanted(*key) else "BLOBs are not asked for: press b"

    async def want_blobs(self, device: str, vector: str | None, wanted: bool) -> None:
        """Ask for BLOBs, or for no more. ConnectionError without a connection."""
        await self._connected().send_enableBLOB("Also" if wanted else "Never", device, vector)
        if vector is None:
            self.wanted_blobs = {key for key in self.wanted_blobs if key[0] != device}
        elif not wanted and (device, None) in self.wanted_blobs:  # the others of the device stay asked for
            others = {shown.key for shown in self.board.of(device) if shown.vector.vectortype == "BLOBVector"}
            self.wanted_blobs = (self.wanted_blobs | others) - {(device, None)}
        if wanted:
            self.wanted_blobs.add((device, vector))
        else:
            self.wanted_blobs.discard((device, vector))
        for shown in self.board.of(device):
            self.board.touch(shown.key)

    def save_to(self, folder: Path | None) -> None:
        """Save BLOBs to a folder, which asks for those of all devices, or to none. KeyError: no such folder."""
        if self.client is not None:
            self.client.BLOBfolder = folder
        self.folder = folder
        self.wanted_blobs.clear()
        for shown in self.board:
            self.board.touch(shown.key)
