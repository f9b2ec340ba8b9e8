"""Lets in only what may be asked: everything here happens before anything else looks at a request."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from indifast.protocol import jsonform
from indifast.protocol.complaints import Complaints
from indifast.transport.hostnames import OwnNames, is_loopback
from indifast.web.access import Access, Asker, Session
from indifast.web.attempts import TooManyAttempts
from indifast.web.bounds import ANSWER_TIME, BODY
from indifast.web.endpoints import BASE, BYTES, ENDPOINTS, SHARED, name_in
from indifast.web.rights import EVERYTHING, NOTHING, RIGHTS, Rights, Role

logger = logging.getLogger(__name__)

_READING = ("GET", "HEAD")
_OPEN = {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS if endpoint.open}
_OPEN_IN_PUBLIC = {(method, path) for method, path in _OPEN if method not in _READING}
"""Without these, nobody could log in."""
_UPLOADS = [(each, re.compile(re.sub(r"{\w+}", "[^/]*", each.path))) for each in ENDPOINTS if each.body == BYTES]
_API = BASE.partition("/v1")[0]
_DEVICE = re.compile(f"{re.escape(BASE)}/devices/([^/]*)")
_PASSED_ON = re.compile(r"forwarded|via|x-forwarded.*|(x-real|x-client|true-client)-ip|cf-connecting-ip")
"""Headers by which web servers say that they pass a request on."""
LOGIN_ENDED, WHY_ENDED = 4401, "the login has ended"
"""Why a WebSocket was closed: its login has ended. Like the status of a request."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Headers of all answers."""


class Refused(Exception):
    """A request is not answered; status, code and sentence say why."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> Response:
        """Return what is answered instead."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return json_response(jsonform.of_failure(self.code, self.message), self.status, headers | self.headers)


def json_response(content: jsonform.Plain, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(jsonform.text(content, indent=None), status, headers, "application/json")


class Guard:
    """Middleware around the application.

    * Requests must name this machine, so that no web page whose name leads here can have a browser ask for it.
    * What a browser sends for a page of another origin is refused, WebSockets included.
    * What changes something must be JSON or bytes, which no page can send elsewhere without asking before.
    * With tokens or users, only those who show one or are logged in are let in, and only operators may change anything.
      What a URL of a frame stands for, however, is sent to whoever has the URL.
    * What another web server passes on is refused unless that was permitted: it comes from this machine, but that says
      nothing about who asks.
    * A device that somebody may not see does not exist for them.
    * A request or a WebSocket ends with the login with which it was sent or opened, unless it is being answered.
    * Bodies are limited.

    Args:
        app: The application.
        names: The names of this machine.
        access: Who may do what.
        local: Whether it is for programs of this machine, which need no token.
        ends: What `stop` calls.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: OwnNames,
        access: Access,
        local: bool = False,
        ends: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._app = app
        self._ends = ends
        self._local = local
        self._names = names
        self._access = access
        self._complaints = Complaints(logger)
        self._stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["path"] = scope["raw_path"].decode("ascii", "replace")  # %2F in a name does not end it

        async def answer(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                kept = headers.get("Cache-Control")  # said only of what never changes
                headers.update(HEADERS | ({} if kept is None else {"Cache-Control": kept}))
                if scope["path"].startswith(SHARED):  # pages that were told the URL may show the picture
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        try:
            asker = self._check(scope, Headers(scope=scope))
            scope.setdefault("state", {})["asker"] = asker
            RIGHTS.set(NOTHING if asker is None else asker.rights)  # of this task, and of those that it starts
            if scope["type"] == "http":
                await self._serve_request(scope, _limited(receive, _body_of(scope)[1]), answer, asker)
            else:
                await self._serve_socket(scope, receive, answer, asker)
        except Refused as refused:
            if scope["type"] == "http":
                await refused.response()(scope, receive, answer)
            else:
                await WebSocket(scope, receive, answer).send_denial_response(refused.response())

    def stop(self) -> None:
        """End all requests. What serves the application ends the WebSockets."""
        self._stopping.set()
        for each in self._ends:
            each()

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send, asker: Asker | None) -> None:
        """Answer a request, unless the login with which it was sent ends before.

        What is being answered by then may be finished: whoever asked has been told how long it is.

        Raises:
            Refused: It has ended, or the program ends, and nothing has been answered yet.
        """
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        opens = (scope["method"], scope["path"]) in _OPEN  # which end logins themselves
        login = None if opens or asker is None else asker.session
        ended = await self._until_it_ends(self._app(scope, receive, noting), login, lambda: begun, stops=True)
        if ended is not None and not begun:
            raise ended

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send, asker: Asker | None) -> None:
        """Serve a WebSocket until it ends, or the login with which it was opened."""
        login = None if asker is None else asker.session
        ended = await self._until_it_ends(self._app(scope, receive, send), login, lambda: False, stops=False)
        if ended is not None:
            await send({"type": "websocket.close", "code": LOGIN_ENDED, "reason": ended.message})

    async def _until_it_ends(
        self, work: Awaitable[None], login: Session | None, begun: Callable[[], bool], *, stops: bool
    ) -> Refused | None:
        """Do some work, but only until the login ends, or the program if `stops`; return why if it is not done.

        What was `begun` when the login ends has some more time.
        """
        ends: dict[asyncio.Future[Any], Refused] = {}
        if stops:
            ends[asyncio.ensure_future(self._stopping.wait())] = Refused(503, "unavailable", "the page ends")
        if login is not None:
            ends[asyncio.ensure_future(login.ended())] = Refused(401, "token", WHY_ENDED)
        serving = asyncio.ensure_future(work)
        try:
            await asyncio.wait((serving, *ends), return_when=asyncio.FIRST_COMPLETED)
            if begun() and not serving.done() and not self._stopping.is_set():
                others = [end for end in ends if not end.done()]
                await asyncio.wait((serving, *others), timeout=ANSWER_TIME, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                return None
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return next(why for end, why in ends.items() if end.done())
        finally:
            for each in (serving, *ends):
                each.cancel()

    def _check(self, scope: Scope, headers: Headers) -> Asker | None:
        """Return whoever asks, None if that is not known and does not matter.

        Raises:
            Refused: The request is not answered.
        """
        socket = scope["type"] == "websocket"
        method, path = "GET" if socket else scope["method"], scope["path"]
        api = path.startswith(_API)
        if self._access.public is None and not self._local and _is_passed_on(scope, headers):
            raise Refused(403, "refused", "a web server has passed this on: start this with --web-public HOSTNAME")
        host = self._host(headers)
        self._check_origin(headers, host, strict=api or self._local)
        if self._local:
            return self._local_asker(scope, headers, method, host)
        if method in _READING and path.startswith(SHARED):
            return None
        if method not in _READING:
            self._check_body(scope, headers)
        asker = self._asker(headers, (scope.get("client") or ("",))[0])
        if (method, path) in (_OPEN if self._access.public is None else _OPEN_IN_PUBLIC):
            return asker
        if asker is None and api:
            raise Refused(401, "token", "log in on the page, or show a token: `Authorization: Bearer TOKEN`")
        rights = NOTHING if asker is None else asker.rights
        named = _DEVICE.match(path)
        device = None if named is None else name_in(named[1])
        if api and device is not None and not rights.sees(device):
            raise Refused(404, "unknown", f"no device {device!r} on this server")
        if method not in _READING and not (rights.operates_everything if device is None else rights.operates(device)):
            raise Refused(403, "refused", self._why_refused(rights))
        return asker

    def _local_asker(self, scope: Scope, headers: Headers, method: str, host: str) -> Asker:
        """Return somebody of this machine, who may do everything.

        Raises:
            Refused: It is not certain that they are: a web server in front of this one would ask from here, too.
        """
        client = scope.get("client") or ("",)
        passed_on = _is_passed_on(scope, headers)
        if passed_on or not is_loopback(client[0]) or not is_loopback(re.sub(r":\d*$", "", host).strip("[]")):
            raise Refused(403, "refused", "this is for programs on this machine, by the name localhost")
        if method not in _READING and self._access.read_only:
            raise Refused(403, "refused", "everything here is read-only")
        return Asker(EVERYTHING.looking() if self._access.read_only else EVERYTHING)

    def _why_refused(self, rights: Rights) -> str:
        if self._access.read_only:
            return "everything here is read-only"
        return "viewers may only look" if rights.role is Role.VIEWER else "you may only look at this"

    def _host(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._names.has(hosts[0]):
            raise Refused(403, "refused", "ask by an address of this machine, or by a name that was given: --name NAME")
        return hosts[0].lower()

    def _check_origin(self, headers: Headers, host: str, strict: bool) -> None:
        for origin in headers.getlist("origin"):
            if re.sub(r"^https?://", "", origin.lower()) != host:
                raise Refused(403, "refused", "this is not for other web pages")
        site = headers.get("sec-fetch-site", "none")
        if strict and site not in ("same-origin", "none"):
            raise Refused(403, "refused", "this is not for other web pages")

    @staticmethod
    def _check_body(scope: Scope, headers: Headers) -> None:
        needed, largest = _body_of(scope)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != needed:
            raise Refused(415, "type", f"{scope['method']} needs `Content-Type: {needed}`")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > largest:
            raise _too_large(largest)

    def _asker(self, headers: Headers, address: str) -> Asker | None:
        rights = self._access.anybody()
        if rights is not None:
            return Asker(rights)
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            try:
                rights = self._access.of_bearer(token.strip(), address)
            except TooManyAttempts as error:
                raise limited(error) from None
            if rights is None:
                now = asyncio.get_running_loop().time()
                self._complaints.say(logging.WARNING, now, "a request with a wrong token was refused")
                return None
            return Asker(rights)
        session = self._access.session(session_of(headers) or "")
        return None if session is None else Asker(session.rights, session)


def _is_passed_on(scope: Scope, headers: Headers) -> bool:
    """Whether a web server passes a request on.

    nginx says nothing of it unless it is told to, but asks by HTTP/1.0, which browsers have long ceased to do.
    """
    return scope["http_version"] == "1.0" or any(_PASSED_ON.fullmatch(name) for name in headers)


def session_of(headers: Headers) -> str | None:
    """Return the name of the session that a browser's cookie gives.

    Other programs on this machine set cookies, too, and browsers send all of them. `http.cookies` gives up at the first
    one that it cannot read.
    """
    wanted = cookie_of(headers)
    for cookie in headers.get("cookie", "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == wanted:
            return value
    return None


def cookie_of(headers: Headers) -> str:
    """Return the name of the cookie of a login: one for each port, because browsers do not tell ports apart."""
    port = re.search(r":(\d+)$", headers.get("host", ""))
    return f"indifast-{port[1]}" if port else "indifast"


def limited(error: TooManyAttempts) -> Refused:
    """Return what somebody is answered who was wrong too often."""
    return Refused(429, "limited", str(error), Retry_After=str(math.ceil(error.seconds)))


def _body_of(scope: Scope) -> tuple[str, int]:
    """Return the type that the body of a request must have, and how many bytes it may have."""
    for endpoint, path in _UPLOADS:
        if scope.get("method") == endpoint.method and path.fullmatch(scope["path"]):
            return BYTES, endpoint.largest
    return "application/json", BODY


def _limited(receive: Receive, largest: int) -> Receive:
    """Return the same, which refuses a body that is too long, whatever was announced."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > largest:
            raise _too_large(largest)
        return message

    return limited


def _too_large(largest: int) -> Refused:
    return Refused(413, "large", f"a body may have {largest} bytes")


def asker_of(request: Request | WebSocket) -> Asker | None:
    """Return whoever asks, if that is known."""
    asker: Any = request.scope["state"]["asker"]
    return asker if isinstance(asker, Asker) else None
