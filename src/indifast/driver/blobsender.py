"""Sender of a driver's BLOBs: reads, compresses and encodes them in order, and only if a client wants them."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from indifast.driver.propertymembers import BLOBMember, buffer_of, read_content
from indifast.protocol import wire
from indifast.protocol.message import FORMS, Form

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.port import Port
    from indifast.routing.link import Link
    from indifast.transport.blobs import BlobContent, BlobMessage

logger = logging.getLogger("indifast.driver.propertyvectors")

COMPRESSION_LEVEL = 4
"""zlib level for `.z` content. libindi uses it for streams; higher levels cost far more time than they save."""

_T = TypeVar("_T")


class BLOBSender:
    """Sends the contents of one vector, one message after another."""

    def __init__(self, where: Callable[[], str]) -> None:
        """Use `where` to name the vector in log messages."""
        self._where = where
        self._clear()

    def _clear(self) -> None:
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the vector needs: another copy of this takes turns of its own."""
        return {"_where": self._where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    async def send(
        self,
        port: Port,
        attributes: Mapping[str, str | None],
        contents: Sequence[tuple[BLOBMember, Any]],
        compress: bool | None,
    ) -> None:
        """Send one setBLOBVector; return when the values are no longer read and the fastest reader keeps up.

        Nothing is read or encoded if nobody wants it. If no member can be read, the message is sent without members.
        """
        device, name = attributes["device"], attributes["name"]
        assert device is not None
        assert name is not None
        if port.sending_link() is None:  # without a run, this may be any event loop, so take no turn
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # another run; a lock belongs to one event loop
            self._turn, self._loop = asyncio.Lock(), loop
        async with self._turn:
            link = port.sending_link()
            if link is None or not any(link.demand(device, name)):
                if link is not None:
                    port.count("blobs_not_wanted")
                await asyncio.sleep(0)  # a loop that does nothing but send must not shut out clients that may want it
                return
            loaded = [await self._load(member, value, compress) for member, value in contents]
            present = [content for content in loaded if content is not None]
            if not present:
                await port.transmit(wire.vector("setBLOBVector", attributes, ""))
                return
            from indifast.transport.blobs import BlobMessage

            message = BlobMessage.from_members("setBLOBVector", attributes, present)
            port.send(message)  # its beginning may be written while the rest is being encoded
            try:
                await _make_wanted_forms(message, link, device, name)
            finally:
                message.release()
            await link.paced(device, name)

    async def tree(
        self,
        attributes: Mapping[str, str | None],
        contents: Sequence[tuple[BLOBMember, Any]],
        compress: bool | None,
    ) -> TreeElement:
        """Return a setBLOBVector as an element, for programs that override what makes or sends it."""
        from xml.etree.ElementTree import Element as TreeElement

        from indifast._base64 import encode

        root = TreeElement("setBLOBVector", {name: value for name, value in attributes.items() if value is not None})
        for member, value in contents:
            content = await self._load(member, value, compress)
            if content is None:
                continue
            if member.overrides:
                root.append(member.oneblob(bytes(content.data)))
                continue
            named = {"name": member.name, "size": str(content.size), "format": content.format or ""}
            element = TreeElement("oneBLOB", named)
            element.text = encode(content.data).decode("ascii")
            root.append(element)
        return root

    async def _load(self, member: BLOBMember, value: Any, compress: bool | None) -> BlobContent | None:
        """Return the content to send for a member; None if it can't be read."""
        from indifast.transport.blobs import BlobContent

        try:
            data = buffer_of(value)
            if data is None:
                data = await _in_thread(partial(read_content, value))
            elif not len(data):
                raise ValueError("the BLOB value is empty")
        except ValueError as error:
            logger.error("%s.%s left out: %s", self._where(), member.name, error)
            return None
        size = member.blobsize or len(data)
        form = member.format_of(value)
        if member.compress if compress is None else compress:
            data = memoryview(await _in_thread(partial(zlib.compress, data, COMPRESSION_LEVEL)))
            form += ".z"
        return BlobContent(member.name, form, data, size)


async def _make_wanted_forms(message: BlobMessage, link: Link, device: str, name: str) -> None:
    """Make every form that a client wants, so that the user's buffers are no longer needed.

    The demand may change while a form is being made, hence the loop.
    """
    while True:
        demand = link.demand(device, name)
        missing = [form for form in FORMS if demand[form] and not message.whole(form)]
        if not missing:
            return
        await _make_form(message, missing[0])


async def _make_form(message: BlobMessage, form: Form) -> None:
    made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    message.when_ready(form, partial(_resolve, made))
    await _until_done(made)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _in_thread(function: Callable[[], _T]) -> _T:
    return await _until_done(asyncio.get_running_loop().run_in_executor(None, function))


async def _until_done(job: asyncio.Future[_T]) -> _T:
    """Wait for the work of a thread, even when cancelled: until it is done, the thread reads the user's buffer."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait((job,))
        raise
