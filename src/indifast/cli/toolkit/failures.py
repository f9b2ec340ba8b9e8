"""What goes wrong, as one sentence and an exit status."""

from __future__ import annotations

import difflib
import errno
import os
import socket
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from indifast.cli import PIPE

if TYPE_CHECKING:
    from indifast.cli.toolkit.address import Address
    from indifast.client import IPyClient


class Status(IntEnum):
    """Exit statuses of the commands that talk to a server; the first three are those of libindi's tools."""

    DONE = 0
    NOTHING = 1
    """Nothing found for a query, a setting that was refused before it was sent, an expression that is false."""
    TROUBLE = 2
    """Arguments that make no sense, no server, no permission, a lost connection, a file that cannot be written."""
    TIMEOUT = 3
    """What was waited for did not come in time."""
    ALERT = 4
    """The driver answered with Alert."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = PIPE
    """The reader of the output has gone, as in `… | head -1`."""


class ToolError(Exception):
    """Ends a command: a sentence for standard error, and the exit status."""

    def __init__(self, sentence: str, status: Status = Status.TROUBLE) -> None:
        super().__init__(sentence)
        self.status = status


def unknown(kind: str, name: str, known: Iterable[str], place: str) -> ToolError:
    """There is no such device, property or member: names what it may have meant, or what there is if that is little."""
    names = list(dict.fromkeys(known))
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), folded, 3, 0.6)
    if near:
        more = f"did you mean {' or '.join(repr(folded[each]) for each in near)}?"
    elif 0 < len(names) <= 12:
        more = f"there is {', '.join(map(repr, names))}"
    else:
        more = f"there are {len(names)} others" if names else f"there is no {kind} at all"
    return ToolError(f"no {kind} {name!r} {place}: {more}", Status.NOTHING)


def unusable(client: IPyClient, device: str, name: str) -> ToolError | None:
    """Why nothing can be made of a property that the server did define; None if that is not so."""
    problem = client.problems.get((device, name))
    if problem is None or (device in client and name in client[device]):
        return None
    return ToolError(f"{device}.{name} can't be used: {problem}", Status.NOTHING)


def unknown_property(client: IPyClient, device: str, name: str) -> ToolError:
    """There is no such property: what the names may have meant, or why it can't be used."""
    if error := unusable(client, device, name):
        return error
    devices = [each for each, known in client.items() if known.enable]
    if device not in devices:
        return unknown("device", device, devices, "on this server")
    return unknown("property", name, [each.name for each in client[device].values() if each.enable], f"of {device}")


def failure(error: Exception, address: Address, client: IPyClient | None = None) -> ToolError | None:
    """The sentence for what connecting, sending and waiting raise; None for what is a fault of the program.

    `client` is the one the error came from: its counters tell a server that speaks no INDI.
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
                return ToolError(f"{address} says nothing: no INDI server, or one without drivers", Status.TIMEOUT)
            return _no_indi(address, client) or ToolError(str(error), Status.TIMEOUT)
        case ConnectionError() if client is not None and client.stats()["connections"]:
            return _no_indi(address, client) or ToolError(_lost(error, address, client))
        case OSError() if client is not None and client.stats()["connections"]:
            return ToolError(str(error))
        case OSError():
            return ToolError(_not_connected(error, address))
    return None


def _not_connected(error: OSError, address: Address) -> str:
    """Why there is no connection, and what to do."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reason = (os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)).lower()
    if isinstance(cause, socket.gaierror) or "cannot resolve" in str(error):
        return f"unknown host {address.host!r}: {_because(error)}"
    if type(cause).__module__ == "ssl":
        return _no_tls(str(cause), address)
    if isinstance(error, TimeoutError):
        hint = "; does it speak TLS?" if address.tls else "; is the address right, and no firewall in between?"
        return f"no answer from {address}{hint}"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        start = "indifast serve DRIVER" if address.unix is None and address.port == 7624 else _start(address)
        return f"no INDI server at {address}: {reason}; start one with `{start}`"
    if isinstance(error, PermissionError):
        return f"no permission to use {address}: {reason}; ask the owner of the server"
    if isinstance(error, ConnectionError) and address.tls:
        return f"{address} ended the TLS handshake: it speaks no TLS; try without --tls"
    return f"no connection to {address}: {reason}"


def _start(address: Address) -> str:
    where = f"-u {address.unix}" if address.unix is not None else f"-p {address.port}"
    return f"indifast serve {where} DRIVER"


def _because(error: OSError) -> str:
    return str(error).rpartition(": ")[2].rstrip(".").lower()


def _no_tls(reason: str, address: Address) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        why = reason.partition("certificate verify failed: ")[2].rpartition(" (_ssl")[0] or reason
        return f"the certificate of {address} is not trusted: {why}; name its authority with --tls-ca FILE"
    if any(word in reason for word in ("WRONG_VERSION", "UNEXPECTED_EOF", "RECORD_LAYER", "HTTP_REQUEST")):
        return f"{address} speaks no TLS; try without --tls"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "UNKNOWN_CA" in reason:
        return f"{address} refuses our certificate, or wants one: --tls-cert FILE ({reason})"
    return f"no TLS with {address}: {reason}"


def _no_indi(address: Address, client: IPyClient) -> ToolError | None:
    """Something was said, but no INDI."""
    stats = client.stats()
    if stats["received_bytes"] and not stats["received"]:
        return ToolError(f"what answers at {address} is no INDI server")
    return None


def _lost(error: OSError, address: Address, client: IPyClient) -> str:
    """Why the connection that there was has ended."""
    text = str(error)
    reason = text.partition("has ended: ")[2] or text
    if "CERTIFICATE" in reason or "ALERT" in reason:
        return _no_tls(reason, address)
    if not client.stats()["received"]:
        hint = "does it want a certificate (--tls-cert FILE)?" if address.tls else "does it want TLS (--tls)?"
        return f"{address} ended the connection without a word: is it an INDI server, and {hint}"
    return f"lost the connection to {address}: {reason}"


def file_failure(error: OSError, what: str) -> ToolError:
    """A file that cannot be read or written."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    hint = "; use --force to replace it" if error.errno == errno.EEXIST else ""
    return ToolError(f"{what}: {reason}{hint}")
