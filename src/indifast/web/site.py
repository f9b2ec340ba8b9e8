"""The application: the page, the interface for programs and the WebSocket, behind the guard."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from indifast.protocol import jsonform
from indifast.transport.hostnames import OwnNames
from indifast.web.access import Access
from indifast.web.api import Api
from indifast.web.bounds import LIVE_VIEWERS
from indifast.web.drivers import Drivers
from indifast.web.endpoints import BASE, EVENTS, LIVE
from indifast.web.events import Events
from indifast.web.frames import Frames
from indifast.web.guard import Guard, json_response
from indifast.web.hub import Hub
from indifast.web.live import Live
from indifast.web.manager import Manager
from indifast.web.shelf import Shelf
from indifast.web.viewing import Viewing

_PAGES = {"index.html": "/", "wall.html": "/wall"}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def application(
    hub: Hub,
    frames: Frames,
    access: Access,
    version: str,
    names: Iterable[str] = (),
    drivers: Drivers | None = None,
    viewers: int = LIVE_VIEWERS,
) -> Guard:
    """Return the ASGI application.

    Args:
        hub: The server that is shown.
        frames: The frames of its cameras.
        access: Who may do what.
        version: The version of the program.
        names: Names by which the application is asked, besides those of this machine and its addresses.
        drivers: Drivers that may be started and stopped.
        viewers: How many may look at live frames at once.
    """
    shelf = Shelf()
    viewing = Viewing(shelf, viewers)
    routes: list[BaseRoute] = [
        *_pages(),
        *Api(hub, frames, shelf, access, version, drivers).routes(),
        WebSocketRoute(EVENTS, Events(hub).answer),
        WebSocketRoute(LIVE, Live(hub, frames, viewing).answer),
    ]
    own = OwnNames((*names, *filter(None, (access.public,))))
    nothing = _nothing(f"{BASE}/openapi.json describes what there is")
    return Guard(Router(routes, redirect_slashes=False, default=nothing), own, access, ends=(viewing.close,))


def managing(hub: Hub, drivers: Drivers, access: Access, version: str, port: int) -> Guard:
    """Return the ASGI application that answers the requests of INDI Web Manager.

    Args:
        hub: The server.
        drivers: Drivers that may be started and stopped.
        access: Whether everything is read-only; everybody of this machine may do the rest.
        version: The version of the program.
        port: The port of the server.
    """
    routes = Manager(hub, drivers, version, port).routes()
    nothing = _nothing("this port answers requests of INDI Web Manager only, such as /api/server/status")
    return Guard(Router(routes, redirect_slashes=False, default=nothing), OwnNames(), access, local=True)


def _pages() -> list[Route]:
    """Return the routes of the page and its parts, which are read once."""
    routes = []
    for file in resources.files("indifast.web").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = _PAGES.get(file.name, f"/{file.name}")
            routes.append(Route(path, _page(file.read_bytes(), kind)))
    return routes


def _page(content: bytes, kind: str) -> ASGIApp:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer  # type: ignore[return-value] # a function of a request, which Route takes, too


def _nothing(hint: str) -> ASGIApp:
    """Return what answers requests for which there is no route."""
    plain = jsonform.of_failure("unknown", f"there is nothing here; {hint}")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(json_response(plain, 404))
        else:
            await json_response(plain, 404)(scope, receive, send)

    return answer
