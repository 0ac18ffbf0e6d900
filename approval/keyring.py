"""Secrets that prove who somebody is: tokens from the configuration, and those issued here.

Only digests are kept. Tokens issued by another process are known after the next `refresh`.
"""

import secrets
from datetime import timedelta
from typing import Final

from approval.core.audit import Entry, Tag
from approval.core.identity import Agent, Directory, Person, token_digest
from approval.ports import Credential, Store

_LASTING: Final = ("agent", "person")
"""The kinds that are looked up in memory, for they come with every request."""


class Randomness:
    """Random bytes in pieces of one size, many drawn at once: a draw is a call into the kernel."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pieces: list[bytes] = []

    def __call__(self) -> bytes:
        """Give a piece that nobody was given before."""
        if not self._pieces:
            drawn = secrets.token_bytes(self._size * 256)
            self._pieces = [drawn[at : at + self._size] for at in range(0, len(drawn), self._size)]
        return self._pieces.pop()


class Keyring:
    """Finds the bearer of a token, and issues tokens, login links and sessions."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._issued: dict[str, Credential] = {}
        self.adopt(directory)

    def adopt(self, directory: Directory) -> None:
        """Take another configuration's agents and people for the ones that exist."""
        self._directory = directory
        self._agents = directory.agents_by_digest()
        self._people = directory.people_by_digest()

    def agent(self, token: str) -> Agent | None:
        """Find the agent that bears this token."""
        digest = token_digest(token)
        configured = self._agents.get(digest)
        if configured is not None:
            return configured
        name = self._subject("agent", digest)
        return self._directory.agents.get(name) if name else None

    def person(self, token: str) -> Person | None:
        """Find the person who bears this token for the API and the command line."""
        digest = token_digest(token)
        configured = self._people.get(digest)
        if configured is not None:
            return configured
        name = self._subject("person", digest)
        return self._directory.people.get(name) if name else None

    async def session(self, token: str) -> Person | None:
        """Find the person whose browser session this is."""
        digest = token_digest(token)
        sessions = await self._store.credentials("session")
        name = next((c.subject for c in sessions if c.digest == digest), None)
        return self._directory.people.get(name) if name else None

    async def issue(
        self, kind: str, subject: str, *, actor: str, lifetime: timedelta | None = None
    ) -> str:
        """Make a secret, keep its digest, and answer it: shown once and never again.

        Raises:
            ValueError: If a lifetime is given to an agent's or a person's token. Nobody looks at
                the clock when one is presented; it lasts until it is revoked.
        """
        if lifetime is not None and kind in _LASTING:
            raise ValueError(f"a token of kind {kind} lasts until it is revoked")
        token = "apv_" + secrets.token_urlsafe(32)
        now = await self._store.now()
        credential = Credential(
            digest=token_digest(token),
            kind=kind,
            subject=subject,
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
        )
        entry = Entry(tag=Tag.TOKEN_ISSUE, subject=subject, actor=actor, facts={"kind": kind})
        await self._store.keep_credential(credential, entry)
        if kind in _LASTING:
            self._issued[credential.digest] = credential
        return token

    async def spend(self, kind: str, token: str, *, tag: Tag, actor: str) -> str | None:
        """Take a secret out of use and answer whose it was; of two who present it one has it."""
        digest = token_digest(token)
        entry = Entry(tag=tag, subject=kind, actor=actor, facts={"credential": digest[:16]})
        spent = await self._store.spend_credential(kind, digest, entry)
        self._issued.pop(digest, None)
        return spent.subject if spent is not None else None

    async def revoke(self, kind: str, subject: str, *, actor: str) -> int:
        """Take every secret of one kind from this agent or person. Returns how many."""
        entry = Entry(tag=Tag.TOKEN_REVOKE, subject=subject, actor=actor, facts={"kind": kind})
        held = [c for c in await self._store.credentials(kind) if c.subject == subject]
        spent = [await self._store.spend_credential(kind, c.digest, entry) for c in held]
        await self.refresh()
        return sum(credential is not None for credential in spent)

    async def refresh(self) -> None:
        """Learn of tokens that other processes issued or revoked."""
        issued = [c for kind in _LASTING for c in await self._store.credentials(kind)]
        self._issued = {c.digest: c for c in issued if c.expires_at is None}

    def _subject(self, kind: str, digest: str) -> str | None:
        found = self._issued.get(digest)
        return found.subject if found is not None and found.kind == kind else None
