"""Requests that tell the server which BLOBs are wanted."""

from __future__ import annotations

import time
from typing import Any

from indifast.client.alarm import Alarm
from indifast.client.blobchoices import BlobChoices
from indifast.client.events import defBLOBVector
from indifast.client.hooks import Hooks
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.settings import Settings
from indifast.protocol import wire
from indifast.protocol.vocabulary import BLOB_POLICIES

BURST_AFTER = 0.1
"""Seconds from a definition until the policies of all devices are sent, if that had to be postponed."""


class BlobRequests:
    """Sends enableBLOB: for programs, after definitions, for streams of frames, and after a change for all devices."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        link: Link,
        hooks: Hooks,
        model: Model,
        choices: BlobChoices,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._link = link
        self._hooks = hooks
        self._model = model
        self._choices = choices
        self._alarm = Alarm(self._send_all)
        self._postponed = False
        """Whether the policies of all devices have changed but could not be sent yet."""

    async def send(self, value: str, devicename: str, vectorname: str | None) -> None:
        """Choose and send a BLOB policy. See `IPyClient.send_enableBLOB`."""
        if not self._link.can_send or value not in BLOB_POLICIES:
            return
        target = self._target(devicename, vectorname)
        if target is not None:
            self._choices.choose(target, value)
            await self._hooks.transmit(wire.enable_blob(devicename, vectorname or None, value))

    async def resend(self, devicename: str, vectorname: str | None) -> None:
        """Send the current BLOB policy again. See `IPyClient.resend_enableBLOB`."""
        target = self._target(devicename, vectorname) if self._link.can_send else None
        if target is not None:
            await self._hooks.transmit(wire.enable_blob(devicename, vectorname or None, target._enableBLOB))

    def _target(self, devicename: str, vectorname: str | None) -> Any:
        target = self._model.defined(devicename, vectorname or None)
        return target if target is None or not vectorname or target.vectortype == "BLOBVector" else None

    def defined(self, event: defBLOBVector) -> None:
        """Send the policy of a BLOB vector that was just defined, if the server should be told."""
        vector = event.vector
        if self._settings.resend_enableBLOB_on_def or self._choices.chosen(vector.devicename, vector.name):
            self._hooks.resend([(vector.devicename, vector.name, vector._enableBLOB)])

    def send_postponed(self) -> None:
        """Send the postponed policies of all devices soon, if there are any: something was defined."""
        if self._postponed:
            self._alarm.set_for(time.monotonic() + BURST_AFTER)

    def want_all(self, value: str) -> None:
        """Choose and send the policy of all devices, as the BLOB folder was changed. May be called from any thread."""
        self._choices.choose_for_all(list(self._model.devices.values()), value)
        self._postponed = True
        self._lifecycle.call_soon(self._send_all)

    def clear(self) -> None:
        """Cancel the alarm, because the connection is gone."""
        self._alarm.cancel()

    def _send_all(self) -> None:
        devices = [device for device in self._model.devices.values() if device.enable]
        if not devices or not self._link.can_send:
            return
        self._postponed = False
        policies: list[tuple[str, str | None, str]] = []
        for device in devices:
            policies.append((device.devicename, None, device._enableBLOB))
            for vector in device.data.values():
                if vector.enable and vector.vectortype == "BLOBVector":
                    policies.append((device.devicename, vector.name, vector._enableBLOB))
        self._hooks.resend(policies)

    # -- Streams of frames

    def want(self, vector: Any) -> None:
        """Ask for the BLOBs of a vector, unless they are wanted already."""
        if self._choices.want(vector):
            self._hooks.send_now(wire.enable_blob(vector.devicename, vector.name, "Also"))

    def known(self, devicename: str) -> list[Any]:
        """Return the BLOB vectors of a device that are defined."""
        device = self._model.devices.get(devicename)
        vectors = [] if device is None else device.data.values()
        return [vector for vector in vectors if vector.enable and vector.vectortype == "BLOBVector"]

    def unkeep(self, devicename: str, vectorname: str | None) -> None:
        """Stop keeping the content of a vector or device. See `BlobChoices.unkeep`."""
        self._choices.unkeep(devicename, vectorname)

    def keep(self, devicename: str, vectorname: str | None) -> None:
        """Undo one call of `unkeep`."""
        self._choices.keep(devicename, vectorname)
