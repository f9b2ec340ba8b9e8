"""Telling the server which BLOBs are wanted."""

from __future__ import annotations

import time
from typing import Any

from indifast.client.alarm import Alarm
from indifast.client.blobchoices import BlobChoices
from indifast.client.events import defBLOBVector
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.settings import Settings
from indifast.protocol import wire
from indifast.protocol.vocabulary import BLOB_POLICIES

BURST_AFTER = 0.1
"""Seconds after a definition until what is wanted of all is said, if the folder was changed before."""


class BlobRequests:
    """Says enableBLOB: for programs, with definitions, for those who take frames, and for all after a change."""

    def __init__(
        self, settings: Settings, lifecycle: Lifecycle, link: Link, model: Model, choices: BlobChoices
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._link = link
        self._model = model
        self._choices = choices
        self._alarm = Alarm(self._say_all)
        self._unsaid = False
        """What is wanted of all has changed, and there was nobody to tell."""

    async def send(self, value: str, devicename: str, vectorname: str | None) -> None:
        """See `IPyClient.send_enableBLOB`."""
        if not self._link.can_send or value not in BLOB_POLICIES:
            return
        target = self._target(devicename, vectorname)
        if target is not None:
            self._choices.choose(target, value)
            await self._link.transmit(wire.enable_blob(devicename, vectorname or None, value))

    async def resend(self, devicename: str, vectorname: str | None) -> None:
        """See `IPyClient.resend_enableBLOB`."""
        target = self._target(devicename, vectorname) if self._link.can_send else None
        if target is not None:
            await self._link.transmit(wire.enable_blob(devicename, vectorname or None, target._enableBLOB))

    def _target(self, devicename: str, vectorname: str | None) -> Any:
        target = self._model.defined(devicename, vectorname or None)
        return target if target is None or not vectorname or target.vectortype == "BLOBVector" else None

    def defined(self, event: defBLOBVector) -> None:
        """A BLOB vector is defined."""
        vector = event.vector
        if self._settings.resend_enableBLOB_on_def or self._choices.chosen(vector.devicename, vector.name):
            self._link.send_now(wire.enable_blob(vector.devicename, vector.name, vector._enableBLOB))

    def say_rest(self) -> None:
        """Something is defined: if what is wanted of all could not be said before, say it soon."""
        if self._unsaid:
            self._alarm.set_for(time.monotonic() + BURST_AFTER)

    def want_all(self, value: str) -> None:
        """The BLOB folder was changed, and so what is wanted of all devices; from any thread."""
        self._choices.choose_for_all(list(self._model.devices.values()), value)
        self._unsaid = True
        self._lifecycle.call_soon(self._say_all)

    def clear(self) -> None:
        """The connection is gone."""
        self._alarm.cancel()

    def _say_all(self) -> None:
        devices = [device for device in self._model.devices.values() if device.enable]
        if not devices or not self._link.can_send:
            return
        self._unsaid = False
        for device in devices:
            self._link.send_now(wire.enable_blob(device.devicename, None, device._enableBLOB))
            for vector in device.data.values():
                if vector.enable and vector.vectortype == "BLOBVector":
                    self._link.send_now(wire.enable_blob(device.devicename, vector.name, vector._enableBLOB))

    # -- for those who take frames

    def want(self, vector: Any) -> None:
        """Ask for the BLOBs of a vector, unless that was done."""
        if self._choices.want(vector):
            self._link.send_now(wire.enable_blob(vector.devicename, vector.name, "Also"))

    def known(self, devicename: str) -> list[Any]:
        """The BLOB vectors of a device that are defined."""
        device = self._model.devices.get(devicename)
        vectors = [] if device is None else device.data.values()
        return [vector for vector in vectors if vector.enable and vector.vectortype == "BLOBVector"]

    def unkeep(self, devicename: str, vectorname: str | None) -> None:
        """See `BlobChoices.unkeep`."""
        self._choices.unkeep(devicename, vectorname)

    def keep(self, devicename: str, vectorname: str | None) -> None:
        """See `BlobChoices.keep`."""
        self._choices.keep(devicename, vectorname)
