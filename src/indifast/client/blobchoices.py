"""Which BLOBs a client wants."""

from __future__ import annotations

from typing import Any

from indifast.client.settings import Settings


class BlobChoices:
    """Remembers what was said of BLOBs, also over a reconnection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._said: dict[str, dict[str | None, str]] = {}  # by device and vector, None being the device itself
        self._unkept: dict[tuple[str, str | None], int] = {}

    def initial(self, devicename: str, vectorname: str | None = None, inherited: str | None = None) -> str:
        """What is said of a device or vector that is new to the model: what was chosen before, or the default."""
        said = self._said.get(devicename, {}).get(vectorname)
        settings = self._settings
        return said or inherited or ("Also" if settings.BLOBfolder is not None else settings.enableBLOBdefault)

    def chosen(self, devicename: str, vectorname: str) -> bool:
        """Whether something was said of a vector, or of its device."""
        return not self._said.get(devicename, {}).keys().isdisjoint((vectorname, None))

    def choose(self, target: Any, value: str) -> None:
        """Say what is wanted of a device and all its BLOB vectors, or of one vector."""
        if hasattr(target, "vectortype"):
            target._enableBLOB = value
            self._said.setdefault(target.devicename, {})[target.name] = value
        else:
            _choose_all(target, value)
            self._said[target.devicename] = {None: value}

    def choose_for_all(self, devices: list[Any], value: str) -> None:
        """Say it of all devices, whatever was said before."""
        self._said.clear()
        for device in devices:
            _choose_all(device, value)

    def want(self, vector: Any) -> bool:
        """Ask for the BLOBs of a vector on behalf of somebody who takes its frames; False if that was done."""
        if vector._enableBLOB != "Never":
            return False
        vector._enableBLOB = "Also"
        said = self._said.setdefault(vector.devicename, {})
        if len(said) <= self._settings.device_limit:  # a server may invent other vectors after each reconnection
            said[vector.name] = "Also"
        return True

    # -- whether the model keeps the content

    def unkeep(self, devicename: str, vectorname: str | None) -> None:
        """Keep no content of a vector, or of a whole device, until `keep` was called as often."""
        self._unkept[devicename, vectorname] = self._unkept.get((devicename, vectorname), 0) + 1

    def keep(self, devicename: str, vectorname: str | None) -> None:
        """Takes one `unkeep` back."""
        key = devicename, vectorname
        self._unkept[key] -= 1
        if not self._unkept[key]:
            del self._unkept[key]

    def kept(self, devicename: str, vectorname: str) -> bool:
        """Whether the content of a vector is kept."""
        if not self._unkept:
            return True
        return not {(devicename, vectorname), (devicename, None)} & self._unkept.keys()


def _choose_all(device: Any, value: str) -> None:
    device._enableBLOB = value
    for vector in device.data.values():
        if vector.vectortype == "BLOBVector":
            vector._enableBLOB = value
