"""What a client does when nothing happens: time-outs of vectors and of the connection, asking again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from indifast.client import events
from indifast.client.alarm import Alarm
from indifast.client.base import Base
from indifast.protocol import wire

if TYPE_CHECKING:
    from indifast.client.propertyvectors import PropertyVector

ASK_AGAIN = 5.0
"""Seconds between two getProperties while the server has shown no device."""


TIMEOUT_TICK = 0.1
"""Seconds between two looks at all vectors that have not answered: so late a time-out may be told."""


class Timers(Base):
    """The part of a client that has timers. Each is armed only while something can become due."""

    def __init__(self) -> None:
        super().__init__()
        self.vector_timeout_min: float = 2
        self.vector_timeout_max: float = 10
        self._timeout_enable = True
        self._idle_timeout: float = 20
        self._respond_timeout: float = 40
        self._alive_alarm = Alarm(self._check_alive)
        self._timeout_alarm = Alarm(self._check_timeouts)
        self._definitions_alarm = Alarm(self._check_definitions)
        self._pending: dict[tuple[str, str], PropertyVector] = {}

    @property
    def timeout_enable(self) -> bool:
        """Whether vectors time out, a silent connection is probed, and a dead one is given up."""
        return self._timeout_enable

    @timeout_enable.setter
    def timeout_enable(self, value: bool) -> None:
        self._timeout_enable = value
        self._call_soon(self._arm)

    @property
    def idle_timeout(self) -> float:
        """Seconds without traffic after which the server is asked for its definitions again."""
        return self._idle_timeout

    @idle_timeout.setter
    def idle_timeout(self, value: float) -> None:
        self._idle_timeout = value
        self._call_soon(self._arm)

    @property
    def respond_timeout(self) -> float:
        """Seconds without any answer to what was sent after which the connection is given up."""
        return self._respond_timeout

    @respond_timeout.setter
    def respond_timeout(self, value: float) -> None:
        self._respond_timeout = value
        self._call_soon(self._arm)

    def set_vector_timeouts(
        self,
        timeout_enable: bool | None = None,
        timeout_min: float | None = None,
        timeout_max: float | None = None,
    ) -> None:
        """Change the bounds of the vectors' time-outs, in seconds; the others follow the largest."""
        if timeout_min is not None:
            self.vector_timeout_min = timeout_min
        if timeout_max is not None:
            self.vector_timeout_max = timeout_max
            self.idle_timeout = 2 * timeout_max
            self.respond_timeout = 4 * timeout_max
        if timeout_enable is not None:
            self.timeout_enable = timeout_enable

    def _on_receive(self) -> None:
        self.tx_timer = None
        self.idle_timer = time.monotonic()

    def _arm(self) -> None:
        """See that the timers are set for what may become due."""
        if not (self._timeout_enable and self._connection is not None and self._loop is not None):
            return
        due = self.idle_timer + self._idle_timeout
        if self.tx_timer is not None:
            due = min(due, self.tx_timer + self._respond_timeout)
        self._alive_alarm.set_for(due)
        if self._pending and not self._timeout_alarm.armed:
            earliest = min(vector._deadline or 0.0 for vector in self._pending.values())
            self._timeout_alarm.set_for(max(earliest, time.monotonic() + TIMEOUT_TICK))

    def _expect_answer(self) -> None:
        if self._timeout_enable and self.data:
            self._alive_alarm.set_for(time.monotonic() + self._respond_timeout)

    def _check_alive(self) -> None:
        connection = self._connection
        if connection is None or not self._timeout_enable or not self._any_enabled():
            return
        now = time.monotonic()
        if self.tx_timer is not None and now >= self.tx_timer + self._respond_timeout:
            connection.fail(f"no answer for {self._respond_timeout:g} s")
            return
        if now >= self.idle_timer + self._idle_timeout:
            self._send_now(wire.get_properties())
        self._arm()

    def _check_definitions(self) -> None:
        if self._connection is not None and not self._any_enabled():
            self._spawn(self._ask_definitions())

    async def _ask_definitions(self) -> None:
        self._send_now(wire.get_properties())
        self._definitions_alarm.set_for(time.monotonic() + ASK_AGAIN)
        await self.report("Asked the server for its devices")

    def _expect(self, vector: PropertyVector) -> None:
        """A command was sent to a vector: it times out unless the server says something of it."""
        timeout = vector._timeout or 0.0
        wait = min(max(timeout, self.vector_timeout_min), self.vector_timeout_max)
        vector._deadline = time.monotonic() + wait
        self._pending[vector.devicename, vector.name] = vector
        if self._timeout_enable:
            self._timeout_alarm.set_for(vector._deadline)

    def _answered(self, vector: PropertyVector) -> None:
        if vector._deadline is not None:
            vector._deadline = None
            self._pending.pop((vector.devicename, vector.name), None)

    def _check_timeouts(self) -> None:
        if not self._timeout_enable:
            return
        now = time.monotonic()
        overdue = [vector for vector in self._pending.values() if vector.checktimedout(now)]
        for vector in overdue:
            self._answered(vector)
            self._counts["timeouts"] += 1
            self._spawn(self._tell(events.VectorTimeOut(vector.device, vector)))
        self._arm()
