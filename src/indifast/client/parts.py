"""The parts of a client, made and wired."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl as ssl_module
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from indifast.client.blobchoices import BlobChoices
from indifast.client.blobrequests import BlobRequests
from indifast.client.commandsender import CommandSender
from indifast.client.exposing import Exposing
from indifast.client.frames import FrameStream
from indifast.client.hooks import Hooks
from indifast.client.keepalive import KeepAlive
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.notifier import Notifier
from indifast.client.problems import Problems
from indifast.client.receiver import Receiver
from indifast.client.session import Session
from indifast.client.settings import Given, Program, Settings
from indifast.client.timeouts import Timeouts
from indifast.client.trace import Trace
from indifast.client.waiting import Waits
from indifast.client.watchers import Watchers

logger = logging.getLogger("indifast.client.ipyclient")


class Parts:
    """Everything of a client that is not for its program.

    Programs derive classes from `IPyClient` and give attributes and methods any name. A client therefore has all this
    in one attribute, whose name no program uses. Each part knows some of those made before it.

    Args:
        settings: The client.
        program: The client, too.
        command: Sends a command: to a device and vector, values by member name.
        ssl: How the client was told to use TLS.
    """

    def __init__(
        self,
        settings: Settings,
        program: Program,
        command: Callable[[str, str, Mapping[str, float]], Awaitable[object]],
        ssl: ssl_module.SSLContext | bool | None,
    ) -> None:
        self.given = given = Given(settings, ssl)
        self.itemids: Iterator[int] = itertools.count(1)
        self.run: asyncio.Task[None] | None = None
        """The run that `async with` has started."""

        # The values of properties of the client
        self.timeout_enable = Settings.timeout_enable
        self.idle_timeout = Settings.idle_timeout
        self.respond_timeout = Settings.respond_timeout
        self.enableBLOBdefault = Settings.enableBLOBdefault
        self.BLOBfolder: Path | None = None

        self.counts: Counter[str] = Counter()
        self.trace = Trace(logger)
        self.lifecycle = lifecycle = Lifecycle()
        self.link = link = Link(lifecycle, self.counts, self.trace)
        self.hooks = hooks = Hooks(program, lifecycle, link)
        self.watchers = watchers = Watchers(link.wake)
        lifecycle.on_end.append(lambda: watchers.notify(None))
        self.notifier = notifier = Notifier(program, settings, watchers, self._note, link.wake)
        self.problems = Problems(given, self.counts, notifier.complain_soon)
        self.timeouts = Timeouts(settings, lifecycle, notifier, self.counts)
        self.choices = BlobChoices(given)
        sender = CommandSender(lifecycle, link, hooks, self.timeouts, notifier)
        self.model = model = Model(given, program, sender, self.choices, self.problems, self.counts)
        self.keepalive = KeepAlive(settings, program, lifecycle, link, hooks, model)
        self.blob_requests = BlobRequests(settings, lifecycle, link, hooks, model, self.choices)
        self.receiver = Receiver(
            given, program, lifecycle, link, model, notifier, watchers, self.problems, self.keepalive,
            self.blob_requests, self.counts, self.trace,
        )  # fmt: skip
        self.session = Session(
            given, program, lifecycle, link, model, notifier, watchers, self.receiver, self.keepalive, self.timeouts,
            self.blob_requests, self.counts,
        )  # fmt: skip
        self.waits = Waits(settings, lifecycle, link, model, watchers)
        self.exposing = Exposing(model, watchers, self.waits, self.frames, command)

    def _note(self, timestamp: datetime, text: str) -> None:
        self.model.note(timestamp, text)

    def arm_soon(self) -> None:
        """Let everything that may become due look at the changed timeouts. May be called from any thread."""
        self.lifecycle.call_soon(self._arm)

    def _arm(self) -> None:
        self.keepalive.arm()
        self.timeouts.arm()

    def frames(
        self, device: str, vector: str | None, keep: bool = True, newest: bool = False, queue: int = 2
    ) -> FrameStream:
        """Return an iterator over the BLOBs of a device from now on. See `IPyClient.frames`."""
        return FrameStream(
            self.watchers, self.lifecycle, self.blob_requests, self.counts, device, vector,
            keep=keep, newest=newest, queue=queue,
        )  # fmt: skip
