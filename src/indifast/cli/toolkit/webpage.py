"""The page in the browser, as `indifast web` and `indifast serve` run it."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indifast.protocol.complaints import BURST, PER_SECOND, RateLimits
from indifast.transport.hostnames import is_loopback

if TYPE_CHECKING:
    from indifast.client.display import Server
    from indifast.web.access import Access
    from indifast.web.drivers import Drivers

PORT = 8625
"""The port of the page, unless another one is given."""

LOGGERS = ("indifast.web", "uvicorn.error", "asyncio")
"""Where the application says what has gone wrong."""

_HOST = r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?"

_NEEDED = ("starlette", "uvicorn", "websockets", "h11", "anyio", "PIL", "click")


class WebpageError(ValueError):
    """The page cannot be served; the message is one sentence."""


@dataclass(frozen=True)
class Rules:
    """Who may do what, as the options of a command say it.

    Attributes:
        token_file: A file with tokens.
        users: A file with users.
        read_only: Whether nobody may send commands.
        public: The name by which a web server in front is asked, which passes requests on.
        prefix: What the options of the command begin with.
    """

    token_file: str | None = None
    users: str | None = None
    read_only: bool = False
    public: str | None = None
    prefix: str = "--"

    def access(self, addresses: Iterable[str]) -> Access:
        """Return who may do what, for those who can connect to these addresses.

        Raises:
            WebpageError: Others could connect, and need nothing for it; or a file or name cannot be used.
        """
        require()
        from indifast.web.access import Access, read_tokens
        from indifast.web.users import SecretFileError, read_users

        if self.public is not None and not re.fullmatch(_HOST, self.public):
            raise WebpageError(f"{self.public!r} is not a name: --web-public takes one, as in observatory.example")
        if self.token_file is None and self.users is None:
            others = next((host for host in addresses if not is_loopback(host)), None)
            if self.public is not None or others is not None:
                raise WebpageError(
                    f"others could use the devices by {self.public or others}: give {self.prefix}token-file FILE, with "
                    f"lines of a role (viewer, operator) and a token, or {self.prefix}users FILE"
                    f"{'' if self.public else ', or leave out the host'}"
                )
        try:
            tokens = None if self.token_file is None else read_tokens(Path(self.token_file).expanduser())
            users = None if self.users is None else read_users(Path(self.users).expanduser())
        except SecretFileError as error:
            raise WebpageError(str(error)) from None
        return Access(tokens, users, self.read_only, self.public)


class Webpage:
    """The application, and the client behind it.

    Args:
        server: The server that is shown.
        access: Who may do what.
        names: Names by which the page is asked, besides those of this machine.
        drivers: Drivers that may be started and stopped.
        manages: The port of the server, to answer the requests of INDI Web Manager, too.
        viewers: How many may look at live frames at once; None: as many as are usual.
        connections: How many other connections there may be; None: as many as are usual.

    Attributes:
        hub: What is known of the server.
        lack: Why there is room for fewer; None if there is room for all.
    """

    def __init__(
        self,
        server: Server,
        access: Access,
        names: Iterable[str] = (),
        drivers: Drivers | None = None,
        manages: int | None = None,
        viewers: int | None = None,
        connections: int | None = None,
    ) -> None:
        from indifast import version
        from indifast.web.capacity import Capacity, made_room
        from indifast.web.frames import Frames
        from indifast.web.hub import Hub
        from indifast.web.serving import Serving
        from indifast.web.site import application, managing

        usual = Capacity()
        room, self.lack = made_room(
            Capacity(
                usual.viewers if viewers is None else viewers, usual.connections if connections is None else connections
            )
        )
        self.hub = Hub(server, max(1, room.connections // 2))
        self._frames = Frames(self.hub.client)
        self._guards = [application(self.hub, self._frames, access, version, names, drivers, room.viewers)]
        if manages is not None and drivers is not None:
            self._guards.append(managing(self.hub, drivers, access, version, manages))
        self._servings = [Serving(guard, room.connections) for guard in self._guards]

    async def run(self, sockets: Sequence[socket.socket], manager: Sequence[socket.socket] = ()) -> None:
        """Serve on these sockets, which are closed in the end, until `stop` is called.

        Args:
            sockets: Those of the page.
            manager: Those for the requests of INDI Web Manager.
        """
        client = asyncio.create_task(self.hub.client.asyncrun())
        places = (sockets, manager) if len(self._servings) > 1 else (sockets,)
        try:
            await asyncio.gather(*(each.run_on(place) for each, place in zip(self._servings, places, strict=True)))
        finally:
            self._frames.close()
            self.hub.client.shutdown()
            await asyncio.wait((client,))

    async def started(self) -> None:
        """Wait until browsers can connect, or the page ends."""
        for serving in self._servings:
            await serving.answering.wait()

    def stop(self) -> None:
        """Let `run` end."""
        for guard in self._guards:
            guard.stop()
        for serving in self._servings:
            serving.stop()


def require() -> None:
    """Import what the page needs.

    Raises:
        WebpageError: It is not installed.
    """
    try:
        import indifast.web.serving
        import indifast.web.site  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise WebpageError("Starlette, which serves the page, is not installed: pip install 'indifast[web]'") from None


def address_of(sockets: Sequence[socket.socket]) -> str:
    """Return the address of the page, for browsers."""
    host, port = sockets[0].getsockname()[:2]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def limit_warnings(handlers: Iterable[logging.Handler]) -> None:
    """Have these handlers show what the application has to say, at a limited rate: whoever connects can cause it."""
    limits = RateLimits(BURST, PER_SECOND)

    def permits(record: logging.LogRecord) -> bool:
        ours = any(record.name == name or record.name.startswith(f"{name}.") for name in LOGGERS)
        return not ours or limits.permit(record.msg, time.monotonic()) is not None

    for handler in handlers:
        handler.addFilter(permits)
