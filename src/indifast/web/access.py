"""Who may do what: tokens, and the logins of browsers that have shown one."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import takewhile
from pathlib import Path

from indifast.protocol import similar
from indifast.web.bounds import SESSION_TIME, SESSIONS

SHORTEST = 16
"""Least characters of a token: nobody guesses one of that length if it is random."""


class Role(Enum):
    """What somebody may do."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Look, and send commands."""


class TokenFileError(ValueError):
    """A file with tokens cannot be used; the message is one sentence."""


class Access:
    """Decides what whoever asks may do.

    Args:
        tokens: Roles by token. None: whoever can connect is an operator.
        read_only: Nobody is more than a viewer.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        tokens: Iterable[tuple[str, Role]] | None = None,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roles = None if tokens is None else [(_digest(token), role) for token, role in tokens]
        self.read_only = read_only
        self._clock = clock
        self._sessions: dict[bytes, tuple[Role, float]] = {}
        self._named: dict[bytes, deque[bytes]] = {}  # sessions by token, so that no holder of one ends those of others

    @property
    def needs_token(self) -> bool:
        """Whether only those may look who have a token."""
        return self._roles is not None

    def anybody(self) -> Role | None:
        """Return the role of those who show nothing; None if that is not enough."""
        return None if self.needs_token else self._bounded(Role.OPERATOR)

    def of_token(self, token: str) -> Role | None:
        """Return the role of the holder of a token; None if there is no such token."""
        given, found = _digest(token), None
        for digest, role in self._roles or ():  # all of them, so that the time taken says nothing
            if hmac.compare_digest(digest, given):
                found = role
        return None if found is None else self._bounded(found)

    def login(self, token: str) -> str | None:
        """Return a name for a session of the holder of a token, for a cookie; None if there is no such token."""
        role = self.of_token(token)
        if role is None:
            return None
        session = secrets.token_urlsafe(24)
        named = self._named.setdefault(_digest(token), deque())
        if len(named) >= SESSIONS:
            self._sessions.pop(named.popleft(), None)
        named.append(_digest(session))
        self._sessions[named[-1]] = role, self._clock() + SESSION_TIME
        return session

    def logout(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(session), None)

    def of_session(self, session: str) -> Role | None:
        """Return the role in a session; None if there is none of that name, or if it has ended."""
        role, until = self._sessions.get(_digest(session), (None, 0.0))
        return role if self._clock() < until else None

    def _bounded(self, role: Role) -> Role:
        return Role.VIEWER if self.read_only else role


def read_tokens(path: Path) -> list[tuple[str, Role]]:
    """Return the tokens in a file, with their roles.

    Each line is a role and a token; from a word that begins with `#`, it is a comment.

    Raises:
        TokenFileError: The file can't be read, others may read it, or it contains something else or nothing.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not text"
        raise TokenFileError(f"{path}: {reason}") from None
    if mode & 0o077:
        raise TokenFileError(f"{path} holds secrets, but others may use it: chmod 600 {path}")
    found = []
    for number, line in enumerate(lines, 1):
        words = list(takewhile(lambda word: not word.startswith("#"), line.split()))
        if not words:
            continue
        if len(words) != 2:
            raise TokenFileError(f"{path}, line {number}: write a role and a token, as in `operator {'x' * SHORTEST}`")
        known = [role.value for role in Role]
        if words[0] not in known:
            why = similar.not_a("role", words[0], known)
            if len(words[0]) >= SHORTEST:  # perhaps the token, which must not be shown
                why = f"the first word is not a role: use {' or '.join(known)}"
            raise TokenFileError(f"{path}, line {number}: {why}")
        if len(words[1]) < SHORTEST:
            raise TokenFileError(f"{path}, line {number}: a token has at least {SHORTEST} characters")
        found.append((words[1], Role(words[0])))
    if not found:
        raise TokenFileError(f"{path} has no token: write lines of a role (viewer, operator) and a token")
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
