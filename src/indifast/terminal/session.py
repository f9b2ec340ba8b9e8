"""Client behind the screen: created, run, and replaced when another server is chosen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from indifast.client.display import DisplayClient, Server
from indifast.terminal.board import Board, Key

logger = logging.getLogger(__name__)


class Session:
    """Runs the client of the server that is shown, and passes on the user's requests."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.server: Server | None = None
        self.client: DisplayClient | None = None
        self.folder: Path | None = None
        self.wanted_blobs: set[tuple[str, str | None]] = set()
        """Devices (with None) and vectors whose BLOBs were requested."""
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # users may choose faster than a connection ends
        board.blob_note = self._blob_note

    @property
    def running(self) -> bool:
        """Whether the client is connected or trying to connect."""
        return self._task is not None and not self._task.done()

    async def connect(self, server: Server) -> None:
        """Show a server; what was shown of another one is forgotten.

        Raises:
            ValueError: The server's address cannot be used; see `Server.client`.
        """
        made = DisplayClient.of(server, self.board.receive)
        async with self._changing:
            await self._end()
            if str(server) != str(self.server):
                self.board.clear()
            self.wanted_blobs.clear()
            self.server = server
            self.client = client = made
            self._restore_folder(client)
            self.board.trying = True
            self._task = asyncio.create_task(self._run(client), name="terminal client")

    def _restore_folder(self, client: DisplayClient) -> None:
        """Have a new client save BLOBs where the last one did."""
        try:
            client.BLOBfolder = self.folder
        except KeyError:  # deleted meanwhile
            self.board.note(f"BLOBs are no longer saved: the folder {self.folder} does not exist any more")
            self.folder = None

    async def _run(self, client: DisplayClient) -> None:
        try:
            await client.asyncrun()
        except Exception as error:  # a bug here: the screen stays, and reports it
            logger.exception("the client has stopped")
            self.board.note(f"the client has stopped: {error}")

    async def disconnect(self) -> None:
        """End the connection, or the attempts to make one; what is shown stays."""
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        self.board.trying = False
        if self.client is not None and self._task is not None:
            self.client.shutdown()
            await asyncio.wait((self._task,))
        self._task = self.client = None

    async def send(self, device: str, vector: str, members: Mapping[str, Any]) -> None:
        """Send a command to a vector.

        Raises:
            INDICheckError: The vector cannot take the members.
            ConnectionError: There is no connection.
        """
        client = self._connected()
        await client.send_newVector(device, vector, members=members, check=True)
        self.board.touch((device, vector))

    def _connected(self) -> DisplayClient:
        if self.client is None or not self.client.connected:
            raise ConnectionError("there is no connection to the server")
        return self.client

    # -- BLOBs

    def blobs_wanted(self, device: str, vector: str | None = None) -> bool:
        """Return whether the BLOBs of a device, or of one of its vectors, were requested."""
        return self.folder is not None or bool({(device, None), (device, vector)} & self.wanted_blobs)

    def _blob_note(self, key: Key) -> str:
        if self.folder is not None:
            return f"saved to {self.folder}"
        return "BLOBs are requested: b stops them" if self.blobs_wanted(*key) else "BLOBs are not requested: press b"

    async def want_blobs(self, device: str, vector: str | None, wanted: bool) -> None:
        """Request BLOBs, or stop requesting them.

        Args:
            device: The device.
            vector: A vector of it, or None for all of them.
            wanted: Whether BLOBs are wanted.

        Raises:
            ConnectionError: There is no connection.
        """
        await self._connected().send_enableBLOB("Also" if wanted else "Never", device, vector)
        if vector is None:
            self.wanted_blobs = {key for key in self.wanted_blobs if key[0] != device}
        elif not wanted and (device, None) in self.wanted_blobs:  # the others of the device stay requested
            others = {shown.key for shown in self.board.of(device) if shown.vector.vectortype == "BLOBVector"}
            self.wanted_blobs = (self.wanted_blobs | others) - {(device, None)}
        if wanted:
            self.wanted_blobs.add((device, vector))
        else:
            self.wanted_blobs.discard((device, vector))
        for shown in self.board.of(device):
            self.board.touch(shown.key)

    def save_to(self, folder: Path | None) -> None:
        """Save BLOBs to a folder, which requests those of all devices; None saves them no longer.

        Raises:
            KeyError: There is no such folder.
        """
        if folder is not None and not folder.is_dir():
            raise KeyError(f"the folder {str(folder)!r} does not exist")
        if self.client is not None:
            self.client.BLOBfolder = folder
        self.folder = folder
        self.wanted_blobs.clear()
        for shown in self.board:
            self.board.touch(shown.key)
