"""Users: names, passwords and rights, from a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indifast.web.rights import Rights

_KIND = "scrypt"
_COST = (14, 8, 5)
"""The logarithm of the number of blocks, their size in units of 128 bytes, and how often: 16 MiB."""
_MOST_MEMORY = 256 << 20
_MOST_WORK = 1 << 24
"""Blocks, times their size, times how often: 25 times as much as a password of ours takes."""
_LONGEST_FILE = 1 << 20  # characters
LONGEST_NAME = 200
"""Characters of the name of a user."""
_SALT = _KEY = 24  # bytes


class SecretFileError(ValueError):
    """A file with tokens or users cannot be used; the message is one sentence."""


def read_secrets(path: Path) -> str:
    """Return the text of a file that only its owner may read.

    Raises:
        SecretFileError: It can't be read, it is too long, or others may read or have written it.
    """
    try:
        # Whoever opens a FIFO waits for its writer, unless it says not to.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read(_LONGEST_FILE + 1) if stat.S_ISREG(status.st_mode) else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not text"
        raise SecretFileError(f"{path}: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise SecretFileError(f"{path} is not a file: it is read again, so it can be no pipe")
    if len(text) > _LONGEST_FILE:
        raise SecretFileError(f"{path} is too long: it may have {_LONGEST_FILE} characters")
    if status.st_uid not in (0, os.geteuid()):
        raise SecretFileError(f"{path} holds secrets, but belongs to somebody else: chown {os.geteuid()} {path}")
    if status.st_mode & 0o077:
        raise SecretFileError(f"{path} holds secrets, but others may use it: chmod 600 {path}")
    return text


@dataclass(frozen=True)
class Password:
    """What is known of a password: enough to recognize it, and to find it only by trying all that it could be."""

    cost: tuple[int, int, int]
    salt: bytes
    key: bytes

    @classmethod
    def of(cls, password: str, cost: tuple[int, int, int] = _COST) -> Password:
        """Return what recognizes this password. Takes a while, and lets other threads run."""
        salt = secrets.token_bytes(_SALT)
        return cls(cost, salt, _derived(password, cost, salt, _KEY))

    @classmethod
    def unknown(cls, cost: tuple[int, int, int] = _COST) -> Password:
        """Return one that nobody knows, and that takes as long to check as another of this cost."""
        return cls(cost, bytes(_SALT), bytes(_KEY))

    @classmethod
    def parse(cls, text: str) -> Password:
        """Return what `str` has written.

        Raises:
            ValueError: It is something else.
        """
        kind, *numbers, salt, key = text.split(":")
        blocks, size, times = map(int, numbers)
        cost = blocks, size, times
        if kind != _KIND or not (0 < blocks < min(25, 16 * size) and 0 < size < 1 << 20 and times > 0):
            raise ValueError
        if size << (blocks + 7) >= _MOST_MEMORY or (size << blocks) * times > _MOST_WORK:
            raise ValueError
        parsed = cls(cost, base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True))
        if not parsed.salt or len(parsed.key) < 16:
            raise ValueError
        return parsed

    def __str__(self) -> str:
        words = (base64.b64encode(each).decode() for each in (self.salt, self.key))
        return ":".join((_KIND, *map(str, self.cost), *words))

    def is_of(self, password: str) -> bool:
        """Return whether this is the password. Takes a while, and lets other threads run."""
        return hmac.compare_digest(_derived(password, self.cost, self.salt, len(self.key)), self.key)


@dataclass(frozen=True)
class User:
    """A user."""

    name: str
    password: Password
    rights: Rights


def read_users(path: Path) -> list[User]:
    """Return the users in a file: TOML, with a table for each.

    Raises:
        SecretFileError: The file can't be read, others may read it, or it contains something else or nobody.
    """
    try:
        tables = tomllib.loads(read_secrets(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SecretFileError(f"{path}: {error}") from None
    if not tables:
        raise SecretFileError(f"{path} has no users: write a table for each, as in [anna]")
    return [_user(path, name, table) for name, table in tables.items()]


def _user(path: Path, name: str, table: Any) -> User:
    if not isinstance(table, dict):
        raise SecretFileError(f"{path}: {name} is not a table: write [{name}], and below it `password = …`")
    if unknown := set(table) - {"password", "viewer", "operator"}:
        raise SecretFileError(f"{path}, user {name}: unknown key {min(unknown)}; known are password, viewer, operator")
    if len(name) > LONGEST_NAME:
        raise SecretFileError(f"{path}: the name of a user may have {LONGEST_NAME} characters, not {len(name)}")
    try:
        password = Password.parse(table["password"])
    except (KeyError, ValueError, AttributeError, binascii.Error):
        raise SecretFileError(
            f"{path}, user {name}: `password` must be what `indifast web --hash-password` has printed"
        ) from None
    operated = _devices(path, name, "operator", table)
    seen = _devices(path, name, "viewer", table)
    if not (operated or seen) and None not in (operated, seen):
        raise SecretFileError(f"{path}, user {name}: write `viewer` or `operator`, with true or a list of devices")
    return User(name, password, Rights(None if seen is None or operated is None else seen | operated, operated))


def _devices(path: Path, name: str, key: str, table: dict[str, Any]) -> frozenset[str] | None:
    found = table.get(key, [])
    if isinstance(found, bool):
        return None if found else frozenset()
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return frozenset(found)
    raise SecretFileError(f"{path}, user {name}: `{key}` must be true, or a list of names of devices")


def _derived(password: str, cost: tuple[int, int, int], salt: bytes, length: int) -> bytes:
    blocks, size, times = cost
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt, n=1 << blocks, r=size, p=times, maxmem=2 * _MOST_MEMORY, dklen=length,
    )  # fmt: skip
