"""The routes of INDI Web Manager, for programs that start and stop drivers by them and know no others.

There is one profile: all drivers of the list. The server always runs; what these routes call so is whether any driver
of the list does. Requests carry no token, so these routes have a socket of their own, for this machine.
"""

from __future__ import annotations

import json
import logging
import platform
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from indifast.web.drivers import Driver, DriverFailed, Drivers, State, UnknownDriver
from indifast.web.hub import Hub

logger = logging.getLogger(__name__)

PROFILE = "indifast"
"""The name of the profile."""

_FAMILY = "indifast"
_RUNNING = (State.RUNNING, State.WAITING, State.STOPPING)


class Manager:
    """Answers these requests.

    Args:
        hub: The server.
        drivers: The drivers.
        version: The version of the program.
        port: The port of the server.
    """

    def __init__(self, hub: Hub, drivers: Drivers, version: str, port: int) -> None:
        self._hub = hub
        self._drivers = drivers
        self._version = version
        self._port = port

    def routes(self) -> list[Route]:
        """Return what is to be routed here."""
        answers: dict[tuple[str, str], Callable[..., Awaitable[Any]]] = {
            ("GET", "/api/server/status"): self._status,
            ("GET", "/api/server/drivers"): self._running,
            ("POST", "/api/server/start/{profile}"): self._start_all,
            ("POST", "/api/server/stop"): self._stop_all,
            ("GET", "/api/profiles"): self._profiles,
            ("GET", "/api/profiles/{profile}"): self._profile,
            ("GET", "/api/profiles/{profile}/labels"): self._labels,
            ("GET", "/api/profiles/{profile}/remote"): self._remote,
            ("GET", "/api/drivers"): self._all,
            ("GET", "/api/drivers/groups"): self._groups,
            ("POST", "/api/drivers/start/{label}"): self._start,
            ("POST", "/api/drivers/stop/{label}"): self._stop,
            ("POST", "/api/drivers/restart/{label}"): self._restart,
            ("GET", "/api/devices"): self._devices,
            ("GET", "/api/info/version"): self._info_version,
            ("GET", "/api/info/arch"): self._arch,
            ("GET", "/api/info/hostname"): self._hostname,
        }
        return [Route(path, _answering(answer), methods=[method]) for (method, path), answer in answers.items()]

    # -- Drivers

    async def _status(self) -> Any:
        runs = any(each.state in _RUNNING for each in await self._drivers.listed())
        return [{"status": str(runs), "active_profile": PROFILE if runs else ""}]

    async def _running(self) -> Any:
        return [_plain(each) for each in await self._drivers.listed() if each.state in _RUNNING]

    async def _all(self) -> Any:
        return [_plain(each) for each in await self._drivers.listed()]

    async def _groups(self) -> Any:
        return [_FAMILY]

    async def _start_all(self, profile: str) -> Any:
        _check(profile, f"Profile '{profile}' not found")
        for each in await self._drivers.listed():
            await self._start_one(each.name)
        return {"message": f"INDI server started for profile {profile}"}

    async def _stop_all(self) -> Any:
        for each in await self._drivers.listed():
            await self._drivers.stop(each.name)
        return {"message": "INDI server stopped"}

    async def _start(self, label: str) -> Any:
        await self._start_one(label)
        return {"message": f"Driver {label} started"}

    async def _stop(self, label: str) -> Any:
        await self._drivers.stop(label)
        return {"message": f"Driver {label} stopped"}

    async def _restart(self, label: str) -> Any:
        await self._drivers.stop(label)
        await self._start_one(label)
        return {"message": f"Driver {label} restarted"}

    async def _start_one(self, name: str) -> None:
        """Start a driver. That it cannot be started is not told by these routes: the log says it."""
        try:
            await self._drivers.start(name)
        except DriverFailed as error:
            logger.warning("%s", error)

    # -- The profile

    async def _profiles(self) -> Any:
        return [{"id": 1, "name": PROFILE, "port": self._port, "autostart": 0, "autoconnect": 0, "scripts": None}]

    async def _profile(self, profile: str) -> Any:
        _check(profile, "Profile not found")
        return (await self._profiles())[0]

    async def _labels(self, profile: str) -> Any:
        return [{"label": each.name} for each in await self._drivers.listed()] if profile == PROFILE else []

    async def _remote(self, profile: str) -> Any:
        return {}

    # -- Devices, and this machine

    async def _devices(self) -> Any:
        found = {name: self._hub.device(name).get("CONNECTION") for name in self._hub.names()}
        return [
            {"device": name, "connected": vector.get("CONNECT") == "On"}
            for name, vector in found.items()
            if vector is not None and vector.enable
        ]

    async def _info_version(self) -> Any:
        return {"version": self._version}

    async def _arch(self) -> Any:
        return {"aarch64": "arm64", "armv7l": "armhf"}.get(platform.machine(), platform.machine())

    async def _hostname(self) -> Any:
        return {"hostname": socket.gethostname()}


class _NotFound(Exception):
    """There is nothing of that name; the message says it."""


def _check(profile: str, otherwise: str) -> None:
    if profile != PROFILE:
        raise _NotFound(otherwise)


def _answering(answer: Callable[..., Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            content, status = await answer(**{key: unquote(name) for key, name in request.path_params.items()}), 200
        except UnknownDriver:
            content, status = {"detail": "Driver not found"}, 404
        except _NotFound as error:
            content, status = {"detail": str(error)}, 404
        return Response(json.dumps(content), status, media_type=JSONResponse.media_type)

    return respond


def _plain(driver: Driver) -> dict[str, Any]:
    return {
        "name": driver.name,
        "label": driver.name,
        "skeleton": None,
        "version": "1.0",
        "binary": driver.program,
        "family": _FAMILY,
        "mdpd": False,
        "custom": False,
        "rule": None,
        "role": "",
    }
