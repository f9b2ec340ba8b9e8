"""Single exposures of a camera."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from indifast.client.frames import Frame, FrameStream, why_no_frames
from indifast.client.model import Model
from indifast.client.waiting import AlertWatch, Waits
from indifast.client.watchers import Watchers


class Exposing:
    """Takes exposures for a client."""

    def __init__(
        self,
        model: Model,
        watchers: Watchers,
        waits: Waits,
        frames: Callable[[str, str], FrameStream],
        command: Callable[[str, str, Mapping[str, float]], Awaitable[object]],
    ) -> None:
        self._model = model
        self._watchers = watchers
        self._waits = waits
        self._frames = frames
        self._command = command

    async def expose(self, device: str, seconds: float, vector: str, exposure: str, timeout: float) -> Frame:
        """Take one exposure and return its frame. See `IPyClient.expose`."""
        await self._waits.wait_for(device, exposure, None, timeout)
        await self._waits.wait_for(device, vector, None, timeout)
        numbers = self._model.devices[device].data[exposure]
        alerted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream = self._frames(device, vector)
        watch = AlertWatch(self._watchers, device, exposure, (vector,), alerted)
        began = time.monotonic()
        taken = asyncio.ensure_future(stream.__anext__())
        try:
            await self._command(device, exposure, {next(iter(numbers)): seconds})
            limit = seconds + timeout - (time.monotonic() - began)
            await asyncio.wait((taken, alerted), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if taken.done():
                return taken.result()
            if alerted.done():
                alerted.result()
            why = why_no_frames(self._model.devices.get(device))
            sentence = f"{device}: no frame {timeout:g} s after an exposure of {seconds:g} s"
            raise TimeoutError(f"{sentence}: {why}" if why else sentence)
        finally:
            taken.cancel()
            watch.close()
            alerted.cancel()
            stream.close()
