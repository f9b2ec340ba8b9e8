"""Failures of commands, each as one sentence and an exit status."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from indifast.cli import PIPE
from indifast.protocol import similar
from indifast.protocol.drivernames import LOCAL_SOCKET, PORT

if TYPE_CHECKING:
    from indifast.cli.toolkit.address import Address
    from indifast.client import IPyClient


_SERVER = re.compile(r"([\w.-]+|\[[\w:.%]+\]):\d+")
"""What people mean as a server."""


class Status(IntEnum):
    """Exit statuses of the commands that talk to a server; the first three match those of libindi's tools."""

    DONE = 0
    NOTHING = 1
    """Nothing found for a query, a setting refused before it was sent, or an expression that is false."""
    TROUBLE = 2
    """Invalid arguments, no server, no permission, a lost connection, or a file that cannot be written."""
    TIMEOUT = 3
    """What the command waited for did not happen in time."""
    ALERT = 4
    """The driver answered with Alert."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = PIPE
    """The reader of the output has gone away, as in `… | head -1`."""


class ToolError(Exception):
    """Ends a command, with a sentence for standard error and an exit status."""

    def __init__(self, sentence: str, status: Status = Status.TROUBLE) -> None:
        super().__init__(sentence)
        self.status = status


def unknown(kind: str, name: str, known: Iterable[str], place: str) -> ToolError:
    """Return the error for a name that does not exist. See `similar.unknown`."""
    sentence = similar.unknown(kind, name, known, place)
    if kind == "device" and "did you mean" not in sentence and _SERVER.fullmatch(name):
        sentence += f"; -h {name} names a server"
    return ToolError(sentence, Status.NOTHING)


def unusable(client: IPyClient, device: str, name: str) -> ToolError | None:
    """Return why a property cannot be used although the server defined it; None if that is not the case."""
    from indifast.client.commandchecks import why_unusable

    why = why_unusable(client, device, name)
    return ToolError(why, Status.NOTHING) if why else None


def unknown_property(client: IPyClient, device: str, name: str) -> ToolError:
    """Return the error for an unknown property: similar names, or why the property can't be used."""
    from indifast.client.commandchecks import why_unknown

    devices = [each for each, known in client.items() if known.enable]
    if device not in devices and not unusable(client, device, name):
        return unknown("device", device, devices, "on this server")
    return ToolError(why_unknown(client, device, name), Status.NOTHING)


def failure(error: Exception, address: Address, client: IPyClient | None = None) -> ToolError | None:
    """Return the sentence for an error that connecting, sending or waiting raised.

    Args:
        error: The error.
        address: The server.
        client: The client that raised the error, if any; its counters reveal a server that does not speak INDI.

    Returns:
        None if the error is a fault of the program.
    """
    from indifast.cli.toolkit.address import AddressError
    from indifast.client import INDIAlert, INDICheckError

    match error:
        case ToolError():
            return error
        case INDIAlert():
            return ToolError(str(error), Status.ALERT)
        case INDICheckError():
            return ToolError(str(error), Status.NOTHING)
        case AddressError():
            return ToolError(str(error))
        case TimeoutError() if client is not None and client.stats()["connections"]:
            if not client.stats()["received_bytes"]:
                return ToolError(f"{address} sends nothing: not an INDI server, or one without drivers", Status.TIMEOUT)
            return _no_indi(address, client) or ToolError(str(error), Status.TIMEOUT)
        case ConnectionError() if client is not None and client.stats()["connections"]:
            return _no_indi(address, client) or ToolError(_lost(error, address, client))
        case OSError() if client is not None and client.stats()["connections"]:
            return ToolError(str(error))
        case OSError():
            return ToolError(_not_connected(error, address))
    return None


def _not_connected(error: OSError, address: Address) -> str:
    """Return why there is no connection, and what to do about it."""
    from indifast.transport.tlsfaults import OPTIONS, TLSError

    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reason = (os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)).lower()
    if isinstance(cause, socket.gaierror) or "cannot resolve" in str(error):
        return f"unknown host {address.host!r}: {_because(error)}"
    if isinstance(error, TLSError):
        return f"no TLS with {address}: {error.why(OPTIONS)}"
    if isinstance(error, TimeoutError):
        hint = "; does it speak TLS?" if address.tls else "; is the address right, and does a firewall block it?"
        return f"no answer from {address}{hint}"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"no INDI server at {address}: {reason}; start one with `{_start(address)}`"
    if isinstance(error, PermissionError):
        return f"no permission to use {address}: {reason}; ask the owner of the server"
    return f"no connection to {address}: {reason}"


def _start(address: Address) -> str:
    if address.port == PORT and address.unix in (None, LOCAL_SOCKET, f"@{LOCAL_SOCKET}"):
        return "indifast serve DRIVER"
    if address.unix is None:
        where = f"-p {address.port}"
    elif address.unix.startswith("@"):
        where = f"-u {address.unix[1:]}"
    else:
        where = f"--socket {address.unix}"
    return f"indifast serve {where} DRIVER"


def _because(error: OSError) -> str:
    return str(error).rpartition(": ")[2].rstrip(".").lower()


def _no_indi(address: Address, client: IPyClient) -> ToolError | None:
    """Return the error for a server that sent something other than INDI; None for others."""
    if client.stats()["received_bytes"] and not _speaks_indi(client):
        return ToolError(f"what answers at {address} is not an INDI server")
    return None


def _speaks_indi(client: IPyClient) -> bool:
    """Return whether the server has sent a message, or accepted an offer: without drivers, it has no other to send."""
    stats = client.stats()
    return bool(stats["received"] or stats["agreed"])


def _lost(error: OSError, address: Address, client: IPyClient) -> str:
    """Return why an established connection has ended."""
    from indifast.client.connection import SPEAKS_TLS
    from indifast.transport.tlsfaults import OPTIONS, TLSError

    text = str(error)
    reason = text.partition("has ended: ")[2] or text
    if isinstance(error.__cause__, TLSError):
        return f"no TLS with {address}: {error.__cause__.why(OPTIONS)}"
    if reason == SPEAKS_TLS:
        return f"{address} speaks TLS: connect with --tls"
    if not _speaks_indi(client):
        hint = "does it require a certificate (--tls-cert FILE)?" if address.tls else "does it require TLS (--tls)?"
        return f"{address} closed the connection without sending anything: is it an INDI server, and {hint}"
    return f"lost the connection to {address}: {reason}"


def file_failure(error: OSError, what: str) -> ToolError:
    """Return the error for a file, described by `what`, that cannot be read or written."""
    if not what:
        return ToolError("the name of the file is empty")
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    hint = "; use --force to replace it" if error.errno == errno.EEXIST else ""
    return ToolError(f"{what}: {reason}{hint}")
