"""Record of the BLOB policies that a client has chosen."""

from __future__ import annotations

from typing import Any

from indifast.client.settings import Given


class BlobChoices:
    """Remembers the chosen BLOB policies, even across reconnections."""

    def __init__(self, settings: Given) -> None:
        self._settings = settings
        self._chosen: dict[str, dict[str | None, str]] = {}  # by device and vector; None is the device itself
        self._unkept: dict[tuple[str, str | None], int] = {}

    def initial(self, devicename: str, vectorname: str | None = None, inherited: str | None = None) -> str:
        """Return the policy for a device or vector that is new to the model.

        This is what was chosen before, else `inherited` (the policy of the vector's device), else the default.
        """
        chosen = self._chosen.get(devicename, {}).get(vectorname)
        settings = self._settings
        return chosen or inherited or ("Also" if settings.BLOBfolder is not None else settings.enableBLOBdefault)

    def chosen(self, devicename: str, vectorname: str) -> bool:
        """Return whether a policy was chosen for a vector or for its device."""
        return not self._chosen.get(devicename, {}).keys().isdisjoint((vectorname, None))

    def choose(self, target: Any, value: str) -> None:
        """Choose the policy of a device and all its BLOB vectors, or of one vector."""
        if hasattr(target, "vectortype"):
            target._enableBLOB = value
            self._chosen.setdefault(target.devicename, {})[target.name] = value
        else:
            _choose_all(target, value)
            self._chosen[target.devicename] = {None: value}

    def choose_for_all(self, devices: list[Any], value: str) -> None:
        """Choose the policy of all devices, replacing all earlier choices."""
        self._chosen.clear()
        for device in devices:
            _choose_all(device, value)

    def want(self, vector: Any) -> bool:
        """Choose to receive the BLOBs of a vector for a stream of frames; return False if they are wanted already."""
        if vector._enableBLOB != "Never":
            return False
        vector._enableBLOB = "Also"
        chosen = self._chosen.setdefault(vector.devicename, {})
        if len(chosen) <= self._settings.device_limit:  # a server may invent new vectors after each reconnection
            chosen[vector.name] = "Also"
        return True

    # -- Whether the model keeps the content

    def unkeep(self, devicename: str, vectorname: str | None) -> None:
        """Stop keeping the content of a vector or of a whole device, until `keep` is called equally often."""
        self._unkept[devicename, vectorname] = self._unkept.get((devicename, vectorname), 0) + 1

    def keep(self, devicename: str, vectorname: str | None) -> None:
        """Undo one call of `unkeep`."""
        key = devicename, vectorname
        self._unkept[key] -= 1
        if not self._unkept[key]:
            del self._unkept[key]

    def kept(self, devicename: str, vectorname: str) -> bool:
        """Return whether the content of a vector is kept."""
        if not self._unkept:
            return True
        return not {(devicename, vectorname), (devicename, None)} & self._unkept.keys()


def _choose_all(device: Any, value: str) -> None:
    device._enableBLOB = value
    for vector in device.data.values():
        if vector.vectortype == "BLOBVector":
            vector._enableBLOB = value
