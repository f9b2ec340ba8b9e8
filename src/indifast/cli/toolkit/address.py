"""Addresses of servers as people write them, and the options of every command that connects to one."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indifast.protocol.drivernames import LOCAL_SOCKET, PORT, peer_port

if TYPE_CHECKING:
    from ssl import SSLContext

    from indifast.client import IPyClient

_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?")
_LOCAL = ("unix:", "localhost:")


class AddressError(ValueError):
    """Raised for an address or options that make no sense; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server: TCP, with or without TLS, or a Unix socket.

    `unix` is a path, or `@NAME` for an abstract name. A path where there is no file is used as an abstract name, too,
    because libindi's servers listen there. Certificate files are PEM files.
    """

    host: str = "localhost"
    port: int = PORT
    unix: str | None = None
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __str__(self) -> str:
        if self.unix is not None:
            return f"the local socket {self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def context(self) -> SSLContext | None:
        """Return the TLS context, or None without TLS.

        Raises:
            AddressError: A TLS file cannot be used.
        """
        if not self.tls:
            return None
        from indifast.transport.tlsfaults import TLSFileError, client_context

        try:
            return client_context(self.tls_ca, self.tls_cert, self.tls_key)
        except TLSFileError as error:
            raise AddressError(str(error)) from error

    def client(self, kind: type[IPyClient] | None = None, **clientdata: Any) -> IPyClient:
        """Return a client of this server that is not running yet.

        Args:
            kind: The class of the client, IPyClient by default.
            **clientdata: Passed to the client.

        Raises:
            AddressError: A TLS file cannot be used.
        """
        from indifast.client import IPyClient

        context = self.context()
        host = self.host if self.unix is None else f"unix:{self.unix}"
        return (kind or IPyClient)(host, self.port, ssl=context, **clientdata)


def parse_address(text: str, port: int | None = None) -> Address:
    """Parse HOST, HOST:PORT, :PORT, ::1, [::1]:7624, unix:PATH, /PATH or @NAME.

    `localhost:/PATH` is how libindi writes a Unix socket.

    Args:
        text: The address.
        port: The port to use if `text` has none, 7624 by default.

    Raises:
        AddressError: `text` has none of these forms.
    """
    if text.startswith(("/", "@")):
        return Address(unix=text)
    for scheme in _LOCAL:
        rest = text[len(scheme) :]
        if text.startswith(scheme) and not rest.isdigit():
            if rest and not rest.startswith(("/", "@")):
                break
            return Address(unix=rest or LOCAL_SOCKET)
    if _IPV6.fullmatch(text):
        return Address(text, port or PORT)
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(.*))?", text)
    host, colon, written = (bracketed[1], bracketed[2] is not None, bracketed[2]) if bracketed else text.partition(":")
    if not bracketed and re.search(r"[\s\[\]/]", host):
        raise AddressError(f"{text!r} is not a server: write HOST, HOST:PORT, [IPV6]:PORT, or unix:PATH")
    if not text or (colon and not written):
        raise AddressError(f"{text!r} is not a server: write HOST or HOST:PORT")
    return Address(host or "localhost", parse_port(written) if colon else port or PORT)


def parse_port(text: str) -> int:
    """Return the TCP port that `text` gives.

    Raises:
        AddressError: It is not a port.
    """
    try:
        return peer_port(text)
    except ValueError as error:
        raise AddressError(f"{error} ({PORT} is usual)") from None


def add_server_options(parser: argparse.ArgumentParser, *, word: bool = False) -> None:
    """Add the server to a command's arguments: host and port, --unix, --tls and its files, and --debug.

    `address_of` reads what was given.

    Args:
        parser: A parser without `-h` for help.
        word: Whether a word, `HOST[:PORT]`, may name the server, too; for commands that take no other words.
    """
    group = parser.add_argument_group("server")
    if word:
        parser.add_argument(
            "server", nargs="?", metavar="HOST[:PORT]", help="the server, as with -h (default: localhost)"
        )
    group.add_argument("-h", "--host", metavar="HOST[:PORT]", help="also [IPV6]:PORT or unix:PATH (default: localhost)")
    group.add_argument("-p", "--port", metavar="PORT", help=f"(default: {PORT})")
    group.add_argument(
        "--unix", metavar="PATH", help="a Unix socket instead of TCP: a path, or @NAME for an abstract name"
    )
    group.add_argument("--tls", action="store_true", help="connect with TLS")
    group.add_argument("--tls-ca", metavar="FILE", help="trust this authority instead of the system's")
    group.add_argument("--tls-cert", metavar="FILE", help="present this certificate to the server")
    group.add_argument("--tls-key", metavar="FILE", help="its key, if not in the same file")
    parser.add_argument("--debug", action="store_true", help="log the traffic, and show tracebacks")


def address_of(options: argparse.Namespace) -> Address:
    """Return the address that the options of `add_server_options` give.

    Raises:
        AddressError: The options are wrong or contradict each other.
    """
    word = getattr(options, "server", None)
    if word is not None and options.host is not None:
        raise AddressError(f"two servers are given, {word} and {options.host}")
    host = options.host if word is None else word
    number = None if options.port is None else parse_port(options.port)
    for name in ("tls-ca", "tls-cert", "tls-key"):
        if getattr(options, name.replace("-", "_")) == "":  # as "--tls-ca=$CA" does where CA is not set
            raise AddressError(f"--{name} requires a file, and was given an empty name")
    tls = bool(options.tls or options.tls_ca or options.tls_cert)
    if options.tls_key and not options.tls_cert:
        raise AddressError("--tls-key needs --tls-cert")
    if options.unix is not None:
        if host is not None or number is not None or tls:
            raise AddressError("--unix names the whole server: leave out host, port and TLS")
        if not options.unix or "\0" in options.unix or len(options.unix.encode()) > 107:
            raise AddressError("--unix takes a path, or @NAME, of 1 to 107 bytes")
        return Address(unix=options.unix)
    address = parse_address(host, number) if host is not None else Address(port=number or PORT)
    if address.unix is not None:
        if number is not None or tls:
            raise AddressError(f"{address} takes no port and no TLS")
        return address
    if number is not None and address.port != number:
        raise AddressError(f"two ports are given, {address.port} and {number}")
    return Address(address.host, address.port, None, tls, options.tls_ca, options.tls_cert, options.tls_key)
