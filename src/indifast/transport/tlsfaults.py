"""What goes wrong with TLS, in sentences that say what to do. Everything that people read about it is written here."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress

OPTIONS = {"ca": "--tls-ca FILE", "cert": "--tls-cert FILE", "key": "--tls-key FILE"}
"""The names of files for those who gave them as options of a command."""

KEYS = {"ca": "tls_ca", "cert": "tls_cert", "key": "tls_key"}
"""Their names for those who gave them in a configuration file."""

CLIENT = {"ca": "--tls-ca FILE (cafile in Python)", "cert": "--tls-cert FILE (load_cert_chain in Python)"}
"""Their names for those who gave them to the terminal client, or in a program with a client."""

LINK = {"ca": "tls_ca (cafile in Python)", "cert": "tls_cert (load_cert_chain in Python)"}
"""Their names for those who gave them in a configuration file, or in a program with a server."""


class TLSError(ConnectionError):
    """Raised if a connection with TLS fails because of TLS.

    Args:
        where: What failed, which the text begins with, such as "TLS with dome:7624 failed".
        why: A clause about the peer. Braces stand for names of files.
    """

    def __init__(self, where: str, why: str) -> None:
        self._where = where
        self._why = why
        super().__init__(f"{where}: {self.why(CLIENT)}")

    def why(self, names: Mapping[str, str]) -> str:
        """Return the reason and what to do about it, a clause about the peer, with these names of files."""
        return named(self._why, names)


class TLSFileError(OSError):
    """Raised if a certificate, key or authority can't be used. The text is a sentence."""


def named(text: str, names: Mapping[str, str]) -> str:
    """Return the text with the names of files in place of their kinds, such as `{ca}`."""
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], text)


def why_refused(error: BaseException, *, serving: bool) -> str:
    """Return why a handshake failed, or an established connection ended, as a clause about the peer for `named`.

    Args:
        error: What the ssl module or the event loop raised.
        serving: Whether the peer is the client.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, serving)
    reason = str(getattr(error, "reason", None) or "")
    for words, to_client, to_server in _FAULTS:
        if any(word in reason for word in words):
            return to_server if serving else to_client
    if isinstance(error, ConnectionAbortedError):  # asyncio's time limit
        return "it has sent no handshake in time" if serving else "it does not answer: does it speak TLS?"
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        if serving:
            return "it closed the connection during the handshake: does it trust our authority (its {ca})?"
        return "it closed the connection during the handshake: does it speak TLS, and require a certificate ({cert})?"
    return words_of(error)


_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH", "UNEXPECTED_MESSAGE")

# Words in the names that OpenSSL gives to faults; what that means if the peer is a server; the same for a client.
_FAULTS = (
    (
        _NO_TLS,
        "it does not speak TLS: connect without TLS",
        "it does not speak TLS, which this port requires: connect it with TLS (--tls)",
    ),
    (
        ("DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_REQUIRED"),
        "it requires a certificate: name ours with {cert}",
        "it has shown no certificate: it needs one of the authority that this server trusts (its {cert})",
    ),
    (
        ("ALERT_UNKNOWN_CA",),
        "it does not trust the authority of our certificate: use one of an authority that it trusts ({cert})",
        "it does not trust our certificate: it has to name our authority (its {ca})",
    ),
    (
        ("ALERT_CERTIFICATE_EXPIRED",),
        "our certificate has expired: renew it ({cert}), or correct the clock of the server",
        "our certificate has expired: renew it, or correct the clock of the client",
    ),
    (
        ("ALERT_UNSUPPORTED_CERTIFICATE",),
        "our certificate is not meant for clients: use one with extendedKeyUsage = clientAuth ({cert})",
        "our certificate is not meant for servers: use one with extendedKeyUsage = serverAuth",
    ),
    (
        ("ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_CERTIFICATE_REVOKED", "ALERT_ACCESS_DENIED"),
        "it rejects our certificate: is it valid already, by the clock of the server? ({cert})",
        "it rejects our certificate: does it hold the name by which the client connects, and is it valid already?",
    ),
    (
        ("HANDSHAKE_FAILURE",),
        "it refuses us: does it require a certificate ({cert})?",
        "it refuses us: there may be no cipher or kind of key that both sides allow",
    ),
    (
        ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"),
        "there is no version of TLS that both sides allow: update the older side",
        "there is no version of TLS that both sides allow: update the older side",
    ),
    (
        ("NO_SHARED_CIPHER", "NO_CIPHERS", "NO_SUITABLE"),
        "there is no cipher that both sides allow: update the older side",
        "there is no cipher that both sides allow: update the older side",
    ),
)

_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _PURPOSE = 9, 10, 18, 26  # X509_V_ERR_… of OpenSSL
_UNKNOWN_ISSUER = frozenset({2, 19, 20, 21})
_OTHER_NAME = frozenset({62, 63, 64})


def _untrusted(error: ssl.SSLCertVerificationError, serving: bool) -> str:
    """Return why the peer's certificate was refused."""
    code = error.verify_code
    if code in _OTHER_NAME:
        name = re.search(r"not valid for (.*?)\.?$", error.verify_message)
        return (
            f"its certificate is not for {_plain(name[1]) if name else 'this name'}: connect by a name in the "
            "certificate, or make one with this name in subjectAltName"
        )
    if code == _EXPIRED:
        return "its certificate has expired: renew it there, or correct the clock of this machine"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: compare the clocks of both machines"
    if code == _PURPOSE:
        kind, usage = ("clients", "clientAuth") if serving else ("servers", "serverAuth")
        return f"its certificate is not meant for {kind}: it needs one with extendedKeyUsage = {usage}"
    if code == _SELF_SIGNED:
        if serving:
            return "its certificate is self-signed: it needs one of the authority that this server trusts"
        return "its certificate is self-signed: if it is the right one, name a copy of it as authority with {ca}"
    if code in _UNKNOWN_ISSUER:
        if serving:
            return "its certificate is not of the authority that this server trusts: it needs one of that authority"
        return "its certificate is of an authority that is not trusted here: name its authority with {ca}"
    return f"its certificate is not valid: {_plain(error.verify_message).rstrip('.')}"


def _plain(text: str) -> str:
    """Return the text without braces, which would stand for names of files."""
    return re.sub(r"[{}]", "?", text)


def words_of(error: BaseException) -> str:
    """Return what an error says, without the punctuation of OpenSSL."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and reason:
        return _plain(str(reason).replace("_", " ").lower())
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _plain(re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", text))


def speaks_no_tls(error: BaseException) -> bool:
    """Return whether a handshake failed because what the peer sent is not TLS."""
    return any(word in str(getattr(error, "reason", None)) for word in _NO_TLS)


def is_tls(data: memoryview) -> bool:
    """Return whether the first bytes of a connection are those of TLS: a handshake, or an alert."""
    return bytes(data[:2]) in (b"\x16\x03", b"\x15\x03")


# -- Files


def server_context(cert: str, key: str | None, ca: str | None, names: Mapping[str, str] = OPTIONS) -> ssl.SSLContext:
    """Return the context of a server. With `ca`, clients need a certificate of that authority.

    Args:
        cert: The file with the certificate.
        key: The file with its key, if that is not in the same one.
        ca: The file with the certificate of an authority.
        names: How errors name these files.

    Raises:
        TLSFileError: A file can't be used.
    """
    context = _context(ssl.Purpose.CLIENT_AUTH, cert, key, ca, names)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca: str | None, cert: str | None, key: str | None, names: Mapping[str, str] = OPTIONS
) -> ssl.SSLContext:
    """Return the context of a client, with the same arguments as `server_context`.

    Raises:
        TLSFileError: A file can't be used.
    """
    return _context(ssl.Purpose.SERVER_AUTH, cert, key, ca, names)


class _EncryptedError(Exception):
    pass


def _refuse_to_ask() -> str:
    raise _EncryptedError


def _context(
    purpose: ssl.Purpose, cert: str | None, key: str | None, ca: str | None, names: Mapping[str, str]
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key, _refuse_to_ask)  # OpenSSL would wait for an answer from the terminal
    except (OSError, _EncryptedError) as exc:
        raise TLSFileError(_unusable(exc, cert, key, ca, names)) from exc
    return context


def _unusable(error: Exception, cert: str | None, key: str | None, ca: str | None, names: Mapping[str, str]) -> str:
    """Return why files can't be used. OpenSSL says little more than that it is so."""
    found: dict[str, bytes] = {}
    for kind, path in (("ca", ca), ("cert", cert), ("key", key)):
        if path is None:
            continue
        try:
            with open(path, "rb") as file:
                found[kind] = file.read(1 << 20)
        except OSError as exc:
            return f"{names[kind]}: {path}: {(exc.strerror or str(exc)).lower()}"
    for kind, path in (("ca", ca), ("cert", cert)):
        if path is not None and not re.search(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----", found[kind]):
            return f"{names[kind]}: {path} {_instead(found[kind], path, names)}"
    if cert is None:
        return f"{names['ca']}: {ca}: {words_of(error)}"
    holder = key or cert
    if isinstance(error, _EncryptedError):
        return (
            f"the key in {holder} is encrypted, and nobody is asked for its pass phrase: store it without one, "
            f"readable for its user only (openssl pkey -in {holder} -out NEW)"
        )
    if b"PRIVATE KEY-----" not in found["key" if key else "cert"]:
        if key is None:
            return f"{cert} holds a certificate without its key: name the key with {names['key']}"
        return f"{names['key']}: {key} holds no key"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"the key in {holder} is not that of the certificate in {cert}: name the one that was made with it"
    return f"the certificate in {cert} and the key in {holder} can't be used: {words_of(error)}"


def _instead(content: bytes, path: str, names: Mapping[str, str]) -> str:
    if b"PRIVATE KEY-----" in content:
        return f"holds a key and no certificate: keys are named with {names['key']}"
    if content.startswith(b"0\x82"):
        return f"is not in PEM form: convert it (openssl x509 -in {path} -out NEW)"
    return "holds no certificate in PEM form"


def why_clients_refuse(context: ssl.SSLContext, cert: str) -> str | None:
    """Return what is wrong with the certificate of a server, as clients will see it; None if it is in order.

    Only what the certificate itself says is examined: its dates and its purpose. There is no other way to ask OpenSSL
    for these than a handshake.

    Args:
        context: The context of the server.
        cert: The file with its certificate.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        trusting.load_verify_locations(cert)
        client = trusting.wrap_bio(to_client, to_server)
        server = context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(2):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            with suppress(ssl.SSLWantReadError):
                server.do_handshake()
    except ssl.SSLCertVerificationError as exc:
        what = {
            _EXPIRED: "has expired: renew it, or correct the clock of this machine",
            _NOT_YET_VALID: "is not valid yet: is the clock of this machine right?",
            _PURPOSE: "is not meant for servers: use one with extendedKeyUsage = serverAuth",
        }.get(exc.verify_code)
        return None if what is None else f"the certificate in {cert} {what}. Until then clients refuse it"
    except OSError:
        return None
    return None
