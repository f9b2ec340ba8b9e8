"""Which BLOBs a client wants, and where it saves them."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from indifast.client.alarm import Alarm
from indifast.client.timers import Timers
from indifast.protocol import wire
from indifast.protocol.vocabulary import BLOB_POLICIES

if TYPE_CHECKING:
    from indifast.client.propertyvectors import PropertyVector


class BlobChoices(Timers):
    """The part of a client that says enableBLOB, and remembers what was said over a reconnection."""

    device_limit: int

    def __init__(self) -> None:
        super().__init__()
        self.resend_enableBLOB_on_def = True
        self._enableBLOBdefault = "Never"
        self._BLOBfolder: pathlib.Path | None = None
        self._blobfolderchanged = False
        self._burst_alarm = Alarm(self._burst)
        self._choices: dict[str, dict[str | None, str]] = {}  # by device and vector, None being the device itself
        self._not_kept: dict[tuple[str, str | None], int] = {}

    @property
    def enableBLOBdefault(self) -> str:
        """Never, Also or Only: what devices that are new to the client are told. Other values are ignored."""
        return self._enableBLOBdefault

    @enableBLOBdefault.setter
    def enableBLOBdefault(self, value: str) -> None:
        if value in BLOB_POLICIES:
            self._enableBLOBdefault = value

    @property
    def BLOBfolder(self) -> pathlib.Path | None:
        """The folder that received BLOBs are saved to, or None.

        Setting a folder asks for the BLOBs of all devices, setting None goes back to `enableBLOBdefault`. KeyError for
        what is not an existing folder.
        """
        return self._BLOBfolder

    @BLOBfolder.setter
    def BLOBfolder(self, value: str | pathlib.Path | None) -> None:
        if not value:
            if self._BLOBfolder is None:
                return
            folder, choice = None, self._enableBLOBdefault
        else:
            folder = pathlib.Path(value).expanduser().resolve() if isinstance(value, str) else value
            if not folder.is_dir():
                raise KeyError(f"the BLOB folder {str(folder)!r} is not an existing folder")
            choice = "Also"
        self._BLOBfolder = folder
        self._choices.clear()
        for device in self.data.values():
            _choose(device, choice)
        self._blobfolderchanged = True
        self._call_soon(self._burst)

    async def send_enableBLOB(self, value: str, devicename: str, vectorname: str | None = None) -> None:
        """Say whether BLOBs of a device, or of one vector, are wanted: Never, Also or Only.

        The choice is kept, also over a reconnection. Nothing happens for what is unknown, disabled or has no BLOBs.
        """
        if not self._can_send or value not in BLOB_POLICIES:
            return
        target = self._blob_target(devicename, vectorname)
        if target is None:
            return
        if vectorname:
            target._enableBLOB = value
            self._choices.setdefault(devicename, {})[vectorname] = value
        else:
            _choose(target, value)
            self._choices[devicename] = {None: value}
        await self._transmit(wire.enable_blob(devicename, vectorname or None, value))

    async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
        """Say again what was last said of a device's BLOBs, or of one vector's."""
        target = self._blob_target(devicename, vectorname) if self._can_send else None
        if target is not None:
            await self._transmit(wire.enable_blob(devicename, vectorname or None, target._enableBLOB))

    def _blob_target(self, devicename: str, vectorname: str | None) -> Any:
        device = self.data.get(devicename)
        if device is None or not device.enable:
            return None
        if not vectorname:
            return device
        vector = device.data.get(vectorname)
        return vector if vector is not None and vector.enable and vector.vectortype == "BLOBVector" else None

    def _initial_blob_choice(self, devicename: str, vectorname: str | None = None, inherited: str | None = None) -> str:
        """What is said of a device or vector that is new to the model: what was chosen before, or the default."""
        choice = self._choices.get(devicename, {}).get(vectorname)
        return choice or inherited or ("Also" if self._BLOBfolder is not None else self._enableBLOBdefault)

    def _want_blobs(self, vector: Any) -> None:
        """Ask for the BLOBs of a vector on behalf of somebody who takes its frames, unless that was done."""
        if vector._enableBLOB == "Never":
            vector._enableBLOB = "Also"
            choices = self._choices.setdefault(vector.devicename, {})
            if len(choices) <= self.device_limit:  # a server may invent other vectors after each reconnection
                choices[vector.name] = "Also"
            self._send_now(wire.enable_blob(vector.devicename, vector.name, "Also"))

    def _keeps(self, vector: PropertyVector) -> bool:
        """Whether the model keeps the content of a BLOB vector."""
        if not self._not_kept:
            return True
        return not {(vector.devicename, vector.name), (vector.devicename, None)} & self._not_kept.keys()

    def _burst(self) -> None:
        """Say what is wanted of all BLOBs, after the BLOB folder was changed."""
        devices = [device for device in self.data.values() if device.enable]
        if not devices or not self._can_send:
            return
        self._blobfolderchanged = False
        for device in devices:
            self._send_now(wire.enable_blob(device.devicename, None, device._enableBLOB))
            for vector in device.data.values():
                if vector.enable and vector.vectortype == "BLOBVector":
                    self._send_now(wire.enable_blob(device.devicename, vector.name, vector._enableBLOB))


def _choose(device: Any, value: str) -> None:
    """Store an enableBLOB choice on a device and all its BLOB vectors."""
    device._enableBLOB = value
    for vector in device.data.values():
        if vector.vectortype == "BLOBVector":
            vector._enableBLOB = value
