"""The interface for programs: what answers the requests that `endpoints` lists."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from http.cookies import SimpleCookie
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from indifast.client import INDIAlert, INDICheckError, INDIDeleted
from indifast.client.commandchecks import INDIUnknown
from indifast.client.formats import dotted
from indifast.picture import NoPreview
from indifast.protocol import jsonform
from indifast.protocol.complaints import Complaints
from indifast.protocol.escape import for_log
from indifast.protocol.jsonform import Plain
from indifast.web.access import Access, Asker
from indifast.web.attempts import TooManyAttempts
from indifast.web.bounds import (
    COMMAND_TIME,
    DOWNLOAD_SHARE,
    DOWNLOADS,
    LONGEST_COMMAND,
    LONGEST_FORMAT,
    SESSION_TIME,
    UPLOAD_SHARE,
    UPLOADS,
)
from indifast.web.contents import until, whole, whole_or_part
from indifast.web.drivers import Driver, DriverFailed, Drivers, UnknownDriver
from indifast.web.endpoints import BASE, BYTES, ENDPOINTS, Endpoint, Parameter, name_in
from indifast.web.frames import Frames, Kept, Shown
from indifast.web.guard import Refused, asker_of, cookie_of, json_response, limited, session_of
from indifast.web.hub import Blob, Busy, Hub
from indifast.web.openapi import description
from indifast.web.rights import RIGHTS
from indifast.web.shares import Shares, share_of
from indifast.web.shelf import Lapsed, Shelf, UnknownURL
from indifast.web.users import LONGEST_NAME
from indifast.web.views import JPEG, WEBP, NoView, View, view_of

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Api:
    """Answers requests about one server.

    Args:
        hub: The server.
        frames: The frames of its cameras.
        shelf: Those that have URLs.
        access: Who may do what.
        version: The version of the program.
        drivers: Drivers that may be started and stopped; None if there are none.
    """

    def __init__(
        self, hub: Hub, frames: Frames, shelf: Shelf, access: Access, version: str, drivers: Drivers | None = None
    ) -> None:
        self._version = version
        self._hub = hub
        self._frames = frames
        self._shelf = shelf
        self._sending = Shares(DOWNLOADS, DOWNLOAD_SHARE, "frames that are being sent")
        self._access = access
        self._drivers = drivers
        self._complaints = Complaints(logger)
        self._uploading = Shares(UPLOADS, UPLOAD_SHARE, "BLOBs under way")

    def routes(self) -> list[Route]:
        """Return what is to be routed here."""
        return [
            Route(each.path, self._answering(getattr(self, f"_{each.handler}"), each), methods=[each.method])
            for each in ENDPOINTS
        ]

    def _answering(
        self, handler: Callable[..., Awaitable[Response]], endpoint: Endpoint
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler, which answers failures, too, and is given its parameters."""

        async def answer(request: Request) -> Response:
            try:
                given = {each.name: _parameter(request, each) for each in endpoint.parameters}
                return await handler(request, **given)
            except Refused as refused:
                return refused.response()
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                return self._failure(request, error)

        return answer

    def _failure(self, request: Request, error: Exception) -> Response:
        names = [name_in(name) for name in request.path_params.values()]
        similar: list[str] = []
        match error:
            case INDIUnknown():
                status, code = 404, "unknown"
                device, name, *others = [*names, None]
                similar = self._hub.near(str(device), name, getattr(request.state, "members", filter(None, others)))
            case UnknownURL():
                status, code = 404, "unknown"
            case Lapsed():
                status, code = 410, "lapsed"
            case UnknownDriver():
                status, code, similar = 404, "unknown", error.similar
            case DriverFailed():
                status, code = 409, "failed"
            case INDICheckError() | NoView():
                status, code = 400, "invalid"
            case INDIAlert():
                status, code = 409, "alert"
            case INDIDeleted():
                status, code = 410, "deleted"
            case TimeoutError():
                status, code = 504, "timeout"
            case Busy() | ConnectionError():
                status, code = 503, "unavailable"
            case NoPreview():
                status, code = 415, "unreadable"
            case _:
                logger.exception("a request was not answered", exc_info=error)
                return json_response(jsonform.of_failure("fault", "a fault of this program; its log says more"), 500)
        plain = jsonform.of_failure(code, error.message if isinstance(error, INDIAlert) else str(error), similar)
        if code in ("alert", "timeout") and len(names) >= 2:
            plain["property"] = self._hub.plain(self._hub.client[names[0]][names[1]])
        return json_response(plain, status)

    # -- What is known

    async def _description(self, request: Request) -> Response:
        return Response(json.dumps(description(self._version)), media_type="application/json")

    async def _site(self, request: Request) -> Response:
        return json_response(self._about(asker_of(request)))

    def _about(self, asker: Asker | None) -> Plain:
        rights = RIGHTS.get()
        return {
            "program": f"indifast {self._version}",
            "server": str(self._hub.server),
            "connected": self._hub.connected,
            "connection": self._hub.connection,
            "read_only": self._access.read_only,
            "user": None if asker is None else asker.user,
            "role": rights.role.value,
            "operates": None if rights.operated is None else sorted(rights.operated),
            "device_count": len(self._hub.names()),
            "drivers": self._drivers is not None and not rights.limited,
        }

    async def _devices(self, request: Request) -> Response:
        return json_response(
            {"devices": {name: jsonform.of_device(self._hub.device(name)) for name in self._hub.names()}}
        )

    async def _device(self, request: Request) -> Response:
        (device,) = _names(request)
        return json_response(self._hub.plain_device(device))

    async def _messages(self, request: Request) -> Response:
        return json_response(self._hub.messages())

    async def _property(self, request: Request) -> Response:
        return json_response({"property": self._hub.plain(self._hub.vector(*_names(request)))})

    # -- Commands

    async def _command(self, request: Request) -> Response:
        device, name = _names(request)
        body = await _body(request)
        members, wait, complete = body.pop("members", None), body.pop("wait", True), body.pop("complete", True)
        timeout = body.pop("timeout", COMMAND_TIME)
        if not isinstance(members, dict) or not members:
            raise INDICheckError(
                '`members` must be an object of at least one member and its value, as in {"CONNECT": true}'
            )
        for member, value in members.items():
            if not isinstance(value, str | int | float):
                raise INDICheckError(f"{member!r} must be a text, a number, true or false")
        if not isinstance(wait, bool) or not isinstance(complete, bool):
            raise INDICheckError("`wait` and `complete` are true or false")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_COMMAND:
            raise INDICheckError(f"`timeout` must be a number of seconds up to {LONGEST_COMMAND:g}")
        if body:
            raise INDICheckError(f"unknown: {', '.join(sorted(body))}; use members, wait, timeout and complete")
        request.state.members = list(members)
        sending = self._hub.command(
            device, name, members, wait=wait, seconds=timeout, complete=complete, whose=share_of(request.scope)
        )
        return self._done(device, name, wait, await _unless_gone(request, sending))

    async def _send_blob(self, request: Request, format: str, size: float, **waiting: Any) -> Response:
        device, name, member = _names(request)
        wait, seconds = waiting["wait"], waiting["timeout"]
        self._hub.check_blob(device, name, member)
        if not 0 < len(format) <= LONGEST_FORMAT:
            raise INDICheckError("say what it is, as in `?format=.fits`")
        whose = share_of(request.scope)
        with self._uploading.taking(whose):
            content = await request.body()
            if not content:
                raise INDICheckError("a BLOB has at least one byte")
            blob = Blob(content, int(size), format)
            sending = self._hub.send_blob(device, name, member, blob, wait=wait, seconds=seconds, whose=whose)
            message = await _unless_gone(request, sending)
        return self._done(device, name, wait, message)

    def _done(self, device: str, name: str, wait: bool, message: str | None) -> Response:
        vector = self._hub.vector(device, name)
        return json_response({"done": wait, "message": message, "property": self._hub.plain(vector)})

    # -- What was

    async def _curves(self, request: Request, seconds: float) -> Response:
        vector = self._hub.vector(*_names(request))
        if vector.vectortype != "NumberVector":
            raise INDICheckError(f"{vector.devicename}.{vector.name} has no numbers")
        return json_response(self._hub.curves.plain(vector, seconds))

    # -- Drivers

    def _listed(self) -> Drivers:
        """Return the drivers that may be started and stopped, for somebody who may know of them.

        Raises:
            Refused: There are none, or they may not.
        """
        if self._drivers is None:
            raise Refused(
                404, "unknown", "no drivers can be started here: `indifast serve --web-drivers FILE` lists some"
            )
        if RIGHTS.get().limited:
            raise Refused(403, "refused", "drivers are for those who may see all devices")
        return self._drivers

    async def _driver_list(self, request: Request) -> Response:
        return json_response({"drivers": [self._plain_driver(each) for each in await self._listed().listed()]})

    async def _driver_start(self, request: Request) -> Response:
        return await self._driver_work(request, self._listed().start)

    async def _driver_stop(self, request: Request) -> Response:
        return await self._driver_work(request, self._listed().stop)

    async def _driver_work(self, request: Request, work: Callable[[str], Awaitable[Driver]]) -> Response:
        if await _body(request):
            raise INDICheckError("the body must be {}: the list alone says how a driver is started")
        (name,) = _names(request)
        return json_response({"driver": self._plain_driver(await work(name))})

    @staticmethod
    def _plain_driver(driver: Driver) -> Plain:
        return driver.plain(lines=RIGHTS.get().operates_everything)

    # -- Frames

    async def _kept(self, request: Request, after: float, wait: float) -> Kept | None:
        device, name, member = _names(request)
        self._hub.blob(device, name, member)
        source = self._frames.of(device, name)
        return await _unless_gone(request, source.newer(member, int(after), wait))

    async def _frame(self, request: Request, after: float, wait: float) -> Response:
        kept = await self._kept(request, after, wait)
        if kept is None:
            return Response(status_code=204)
        sending = self._sending.taking(share_of(request.scope))
        return whole(request, kept.frame.data, BYTES, _number_of(kept) | _to_save(kept), sending)

    async def _measures(self, request: Request, after: float, wait: float) -> Response:
        kept = await self._kept(request, after, wait)
        if kept is None:
            return Response(status_code=204)
        return json_response({"frame": kept.about, **await kept.measures()}, headers=_number_of(kept))

    async def _preview(
        self, request: Request, after: float, wait: float, size: float, region: str, stretch: str, bayer: str
    ) -> Response:
        view = _view(request, size, region, stretch, bayer)
        kept = await self._kept(request, after, wait)
        if kept is None:
            return Response(status_code=204)
        picture = await self._picture(request, kept, view)
        return Response(picture.image, 200, _number_of(kept), view.type)

    async def _picture(self, request: Request, kept: Kept, view: View) -> Shown:
        picture = await _unless_gone(request, kept.picture(view))
        self._shelf.weigh(kept)
        return picture

    async def _url(
        self, request: Request, after: float, wait: float, size: float, region: str, stretch: str, bayer: str
    ) -> Response:
        view = _view(request, size, region, stretch, bayer)
        kept = await self._kept(request, after, wait)
        if kept is None:
            return Response(status_code=204)
        return json_response(self._shelf.plain(kept, view), headers=_number_of(kept))

    async def _shared(self, request: Request) -> Response:
        if request.scope["query_string"]:  # others could have caches keep the same thing under many names
            raise UnknownURL("the URL of a frame has no parameters")
        digest, word = request.path_params.values()
        kept, view, left = self._shelf.find(digest, word)
        about = _number_of(kept)
        if view is None:
            sending = self._sending.taking(share_of(request.scope))
            headers = about | until(digest, left) | _to_save(kept)
            return whole_or_part(request, kept.frame.data, BYTES, headers, sending)
        began = asyncio.get_running_loop().time()
        picture = await self._picture(request, kept, view)
        left -= asyncio.get_running_loop().time() - began  # making it takes a while, at times
        return whole_or_part(request, memoryview(picture.image), view.type, about | until(digest, left))

    # -- Logins

    async def _login(self, request: Request) -> Response:
        body = await _body(request)
        name: str | None = None
        match body:
            case {"token": str(given)} if len(body) == 1:
                pass
            case {"user": str(user), "password": str(given)} if len(body) == 2:
                name = user
                if len(name) > LONGEST_NAME:
                    raise INDICheckError(f"a name may have {LONGEST_NAME} characters")
            case _:
                raise INDICheckError("send an object with the text `token`, or the texts `user` and `password`")
        if not self._access.needs_login:
            raise Refused(401, "token", "no login is needed")
        address = request.client.host if request.client else ""
        try:
            if name is None:
                session = self._access.login(given, address)
            else:
                session = await self._access.login_user(name, given, address)
        except TooManyAttempts as error:
            raise limited(error) from None
        if session is None:
            now = asyncio.get_running_loop().time()
            # People type their password where their name belongs: what is no name is not logged.
            known = name is not None and self._access.knows(name)
            who = "a token" if name is None else f"the user {for_log(name)!r}" if known else "an unknown user"
            self._complaints.say(logging.WARNING, now, "a login with %s from %s was refused", who, address)
            raise Refused(401, "token", "there is no such token" if name is None else "the name or password is wrong")
        self._access.logout(session_of(request.headers) or "")  # the one that this browser had until now
        begun = self._access.session(session)
        assert begun is not None
        RIGHTS.set(begun.rights)
        answer = json_response(self._about(Asker(begun.rights, begun)))
        answer.headers.append("Set-Cookie", _cookie(request, session, int(SESSION_TIME)))
        return answer

    async def _logout(self, request: Request) -> Response:
        self._access.logout(session_of(request.headers) or "")
        return Response(status_code=204, headers={"Set-Cookie": _cookie(request, "", 0)})


def _cookie(request: Request, session: str, seconds: int) -> str:
    """Return a cookie that no script can read and that no request for another page carries."""
    name = cookie_of(request.headers)
    cookie: SimpleCookie = SimpleCookie({name: session})
    morsel = cookie[name]
    morsel["path"], morsel["httponly"], morsel["samesite"], morsel["max-age"] = BASE, True, "Strict", seconds
    morsel["secure"] = request.headers.get("origin", "").lower().startswith("https:")
    return cookie.output(header="").strip()


def _number_of(kept: Kept) -> dict[str, str]:
    return {"Indifast-Frame": str(kept.number)}


def _to_save(kept: Kept) -> dict[str, str]:
    """Return the header by which browsers save a frame, under a name that says what it is."""
    name = f"{kept.frame.devicename}_{kept.frame.membername}_{kept.number}{dotted(kept.frame.format)}"
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}


def _view(request: Request, size: float, region: str, stretch: str, bayer: str) -> View:
    """Return the view that parameters describe."""
    return view_of({"size": size, "region": _list(region), "stretch": _list(stretch), "bayer": bayer,
                    "types": [_type_for(request)]})  # fmt: skip


def _names(request: Request) -> list[str]:
    """Return the names in the path."""
    return [name_in(name) for name in request.path_params.values()]


def _list(text: str) -> list[Any] | None:
    """Return the numbers in a parameter; what is none stays a text, which nobody takes for a number."""
    return [_read(each) for each in text.split(",")] if text else None


def _read(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _type_for(request: Request) -> str:
    """Return the type of a picture that whoever asks accepts: `*/*`, which all browsers send, stands for a JPEG."""
    accepted = request.headers.get("accept", "*/*")
    return WEBP if WEBP in accepted and JPEG not in accepted and "*" not in accepted else JPEG


def _parameter(request: Request, parameter: Parameter) -> Any:
    name, default, most = parameter.name, parameter.default, parameter.most
    text = request.query_params.get(name)
    if text is None:
        return default if default is not None else 0
    if parameter.kind == "string":
        return text
    if parameter.kind == "boolean":
        if text not in ("true", "false"):
            raise INDICheckError(f"`{name}` is true or false, not {text[:40]!r}")
        return text == "true"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e15:
        raise INDICheckError(f"`{name}` must be a number, not {text[:40]!r}")
    return min(value, most) if most is not None else value


async def _body(request: Request) -> dict[str, Any]:
    """Return the body, a JSON object.

    Raises:
        INDICheckError: It is something else.
    """

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        body = json.loads(await request.body(), parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise INDICheckError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise INDICheckError("the body must be a JSON object")
    return body


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of `work`, which is cancelled if whoever asked has gone.

    Raises:
        ClientDisconnect: They have.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            gone.result()  # perhaps the body is too long
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
