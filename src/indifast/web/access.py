"""Who may do what: tokens, users, and the logins of browsers that have shown one or the other."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from indifast.protocol import similar
from indifast.transport.hostnames import is_loopback
from indifast.web.attempts import Attempts
from indifast.web.bounds import CHECK_SHARE, CHECKS, SESSION_TIME, SESSIONS
from indifast.web.rights import Rights, Role
from indifast.web.shares import Shares, origin
from indifast.web.users import Password, SecretFileError, User, read_secrets

SHORTEST = 16
"""Least characters of a token: nobody guesses one of that length if it is random."""


class Session:
    """A login."""

    def __init__(self, rights: Rights, user: str | None, until: float, clock: Callable[[], float]) -> None:
        self.rights = rights
        self.user = user
        """The name of the user; None for a token."""
        self._until = until
        self._clock = clock
        self._ended = asyncio.Event()
        self.endings: set[Callable[[], object]] = set()
        """What is called when somebody ends it; not when its time is over."""

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set() and self._clock() < self._until

    def end(self) -> None:
        """End it."""
        self._ended.set()
        for each in list(self.endings):
            each()

    async def ended(self) -> None:
        """Wait for its end."""
        while self.active:
            try:
                async with asyncio.timeout(self._until - self._clock()):
                    await self._ended.wait()
            except TimeoutError:
                pass


@dataclass(frozen=True)
class Asker:
    """Whoever asks: their rights, and their login if they have one."""

    rights: Rights
    session: Session | None = None

    @property
    def user(self) -> str | None:
        """The name of the user, if there is one."""
        return None if self.session is None else self.session.user


class Access:
    """Decides what whoever asks may do.

    Args:
        tokens: Roles by token. None without users, and not public: whoever can connect is an operator.
        users: Who may log in by name and password.
        read_only: Nobody is more than a viewer.
        public: The name by which a web server in front of this one is asked, which passes requests on from anywhere;
            None if there is none.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        tokens: Iterable[tuple[str, Role]] | None = None,
        users: Iterable[User] | None = None,
        read_only: bool = False,
        public: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.public = public
        self.needs_login = tokens is not None or users is not None or public is not None
        """Whether only those may look who have a token, or are a user."""
        self.read_only = read_only
        self._tokens = [(_digest(token), Rights.of(role)) for token, role in tokens or ()]
        self._users = {user.name: user for user in users or ()}
        self._clock = clock
        self._attempts = Attempts()
        self._checking = asyncio.Lock()
        self._waiting = Shares(CHECKS, CHECK_SHARE, "logins under way")
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[bytes, Session] = {}
        # By token or user, so that nobody ends the logins of others.
        self._named: dict[bytes | str, deque[bytes]] = {}

    def anybody(self) -> Rights | None:
        """Return the rights of those who show nothing; None if that is not enough."""
        return None if self.needs_login else self._bounded(Rights.of(Role.OPERATOR))

    def of_token(self, token: str) -> Rights | None:
        """Return the rights of the holder of a token; None if there is no such token."""
        given, found = _digest(token), None
        for digest, rights in self._tokens:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(digest, given):
                found = rights
        return None if found is None else self._bounded(found)

    def of_bearer(self, token: str, address: str) -> Rights | None:
        """Return the rights of the holder of a token who sends it with a request; None if there is no such token.

        Raises:
            TooManyAttempts: Whoever asks from this address was wrong too often. If it is one of this machine, right
                tokens are not refused: others ask from there, too, by a web server or a tunnel.
        """
        rights = self.of_token(token)
        if rights is None or not is_loopback(address):
            self._attempts.check(address, "", self._clock())
        if rights is None:
            self._attempts.failed(address, "", self._clock())
        return rights

    def knows(self, name: str) -> bool:
        """Return whether there is a user of this name."""
        return name in self._users

    # -- Logins

    def login(self, token: str, address: str) -> str | None:
        """Return a name for a session of the holder of a token, for a cookie; None if there is no such token.

        Raises:
            TooManyAttempts: Whoever asks from this address was wrong too often.
        """
        rights = self.of_bearer(token, address)
        if rights is None:
            return None
        return self._begin(_digest(token), Session(rights, None, self._clock() + SESSION_TIME, self._clock))

    async def login_user(self, name: str, password: str, address: str) -> str | None:
        """Return a name for a session of a user, for a cookie; None if there is no such user, or the password is wrong.

        Raises:
            TooManyAttempts: Whoever asks from this address was wrong too often.
            Busy: Too many log in at the moment.
        """
        self._attempts.check(address, name, self._clock())
        # One at a time: each takes memory, and a processor.
        with self._waiting.taking(origin(address) or name):
            async with self._checking:
                self._attempts.check(address, name, self._clock())  # those before may have failed
                user = self._users.get(name)
                known = self._nobody(name) if user is None else user.password
                if not await asyncio.to_thread(known.is_of, password) or user is None:
                    self._attempts.failed(address, name, self._clock())
                    return None
        self._attempts.succeeded(address, name)
        rights = self._bounded(user.rights)
        return self._begin(name, Session(rights, name, self._clock() + SESSION_TIME, self._clock))

    def _nobody(self, name: str) -> Password:
        """Return a password for somebody who is no user.

        It takes as long to check as that of a user, and for one name always as that of the same: the time tells nobody
        whether there is a user of that name.
        """
        if not self._users:
            return Password.unknown()
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=8).digest()
        users = list(self._users.values())
        return Password.unknown(users[int.from_bytes(digest) % len(users)].password.cost)

    def _begin(self, of: bytes | str, session: Session) -> str:
        name = secrets.token_urlsafe(24)
        named = self._named.setdefault(of, deque())
        if len(named) >= SESSIONS:
            self._end(named.popleft())
        named.append(_digest(name))
        self._sessions[named[-1]] = session
        return name

    def logout(self, name: str) -> None:
        """End a session."""
        self._end(_digest(name))

    def _end(self, digest: bytes) -> None:
        session = self._sessions.pop(digest, None)
        if session is not None:
            session.end()

    def session(self, name: str) -> Session | None:
        """Return the session of a name; None if there is none, or if it has ended."""
        session = self._sessions.get(_digest(name))
        return session if session is not None and session.active else None

    def _bounded(self, rights: Rights) -> Rights:
        return rights.looking() if self.read_only else rights


def read_tokens(path: Path) -> list[tuple[str, Role]]:
    """Return the tokens in a file, with their roles.

    Each line is a role and a token; from a word that begins with `#`, it is a comment.

    Raises:
        SecretFileError: The file can't be read, others may read it, or it contains something else or nothing.
    """
    found = []
    for number, line in enumerate(read_secrets(path).splitlines(), 1):
        words = list(takewhile(lambda word: not word.startswith("#"), line.split()))
        if not words:
            continue
        if len(words) != 2:
            raise SecretFileError(f"{path}, line {number}: write a role and a token, as in `operator {'x' * SHORTEST}`")
        known = [role.value for role in Role]
        if words[0] not in known:
            why = similar.not_a("role", words[0], known)
            if len(words[0]) >= SHORTEST:  # perhaps the token, which must not be shown
                why = f"the first word is not a role: use {' or '.join(known)}"
            raise SecretFileError(f"{path}, line {number}: {why}")
        if len(words[1]) < SHORTEST:
            raise SecretFileError(f"{path}, line {number}: a token has at least {SHORTEST} characters")
        found.append((words[1], Role(words[0])))
    if not found:
        raise SecretFileError(f"{path} has no token: write lines of a role (viewer, operator) and a token")
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
