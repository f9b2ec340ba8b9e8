"""Where a server is, as people write it, and the options of every command that connects to one."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

    from indifast.client import IPyClient

PORT = 7624
"""The port of INDI servers."""

_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?")
_LOCAL = ("unix:", "localhost:")


class AddressError(ValueError):
    """An address, or the options around it, that make no sense: one sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server: TCP, with or without TLS, or a Unix socket.

    `unix` is a path, or `@NAME` for an abstract name; a path where there is no file is an abstract name, too, as
    libindi's servers listen there. Files of certificates are PEM.
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
        """What TLS needs, or None without; OSError (ssl.SSLError is one) where a file is missing or is no PEM."""
        if not self.tls:
            return None
        import ssl

        context = ssl.create_default_context(cafile=self.tls_ca)
        if self.tls_cert is not None:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        return context

    def client(self, kind: type[IPyClient] | None = None, **clientdata: Any) -> IPyClient:
        """A client of this server that does not run yet; of a class of yours if you give one.

        AddressError when a file of TLS cannot be used.
        """
        from indifast.client import IPyClient

        try:
            context = self.context()
        except OSError as error:
            files = ", ".join(name for name in (self.tls_ca, self.tls_cert, self.tls_key) if name)
            raise AddressError(f"these TLS files cannot be used: {files}: {error.strerror or error}") from error
        host = self.host if self.unix is None else f"unix:{self.unix}"
        return (kind or IPyClient)(host, self.port, ssl=context, **clientdata)


def parse_address(text: str, port: int | None = None) -> Address:
    """The server that HOST, HOST:PORT, :PORT, ::1, [::1]:7624, unix:PATH, /PATH or @NAME stands for.

    `localhost:/PATH` is libindi's way to write a Unix socket. `port` is taken where `text` has none. AddressError.
    """
    if text.startswith(("/", "@")):
        return Address(unix=text)
    for scheme in _LOCAL:
        rest = text[len(scheme) :]
        if text.startswith(scheme) and not rest.isdigit():
            if rest and not rest.startswith(("/", "@")):
                break
            return Address(unix=rest or "/tmp/indiserver")
    if _IPV6.fullmatch(text):
        return Address(text, port or PORT)
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(.*))?", text)
    host, colon, written = (bracketed[1], bracketed[2] is not None, bracketed[2]) if bracketed else text.partition(":")
    if not bracketed and re.search(r"[\s\[\]/]", host):
        raise AddressError(f"{text!r} is no server: write HOST, HOST:PORT, [IPV6]:PORT, or unix:PATH")
    if not text or (colon and not written):
        raise AddressError(f"{text!r} is no server: write HOST or HOST:PORT")
    return Address(host or "localhost", parse_port(written) if colon else port or PORT)


def parse_port(text: str) -> int:
    """A TCP port; AddressError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise AddressError(f"{text!r} is no port: a number from 1 to 65535 ({PORT} is usual)")
    return int(text)


def add_server_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add the server to a command's arguments: `HOST[:PORT]` as a word, or `-h HOST -p PORT`; and --unix, --tls….

    A parser for the second form is made with `add_help=False`, as -h is the host there; it gets --help here.
    `address_of` reads what was given.
    """
    group = parser.add_argument_group("server")
    if positional:
        parser.add_argument(
            "server",
            nargs="?",
            metavar="HOST[:PORT]",
            help=f"the server, also [IPV6]:PORT or unix:PATH (default: localhost:{PORT})",
        )
    else:
        group.add_argument("-h", "--host", metavar="HOST[:PORT]", help="(default: localhost)")
        group.add_argument("-p", "--port", metavar="PORT", help=f"(default: {PORT})")
    group.add_argument(
        "--unix", metavar="PATH", help="a Unix socket in place of TCP: a path, or @NAME for an abstract name"
    )
    group.add_argument("--tls", action="store_true", help="connect with TLS")
    group.add_argument("--tls-ca", metavar="FILE", help="trust this authority, and not the system's")
    group.add_argument("--tls-cert", metavar="FILE", help="show this certificate to the server")
    group.add_argument("--tls-key", metavar="FILE", help="its key, if that is not in the same file")
    parser.add_argument("--debug", action="store_true", help="log the traffic, and show tracebacks")
    if not parser.add_help:
        parser.add_argument("--help", action="help", help="show this help and exit")


def address_of(options: argparse.Namespace) -> Address:
    """The server that the options of `add_server_options` name; AddressError if they contradict each other."""
    host = getattr(options, "server", None) or getattr(options, "host", None)
    port = getattr(options, "port", None)
    number = None if port is None else parse_port(port)
    tls = bool(options.tls or options.tls_ca or options.tls_cert)
    if options.tls_key and not options.tls_cert:
        raise AddressError("--tls-key goes with --tls-cert")
    if options.unix is not None:
        if host is not None or number is not None or tls:
            raise AddressError("--unix names the whole server: leave host, port and TLS out")
        if not options.unix or "\0" in options.unix or len(options.unix.encode()) > 107:
            raise AddressError("--unix takes a path, or @NAME, of 1 to 107 bytes")
        return Address(unix=options.unix)
    address = parse_address(host, number) if host is not None else Address(port=number or PORT)
    if address.unix is not None:
        if number is not None or tls:
            raise AddressError(f"{address} has no port and no TLS")
        return address
    if number is not None and address.port != number:
        raise AddressError(f"there are two ports, {address.port} and {number}")
    return Address(address.host, address.port, None, tls, options.tls_ca, options.tls_cert, options.tls_key)
