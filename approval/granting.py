"""Grants that people give: whether they may, how they are issued, listed and taken back.

An admin may give any grant but one to an agent of their own: whoever answers for an agent does not
free it from being asked about, as they do not decide its calls.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from approval.core import issued
from approval.core.audit import Entry, Tag
from approval.core.canonical import quoted
from approval.core.grants import Grant
from approval.core.identity import Right
from approval.core.issued import GrantPage, Issued
from approval.core.rulebook import Rulebook
from approval.core.scopes import stable_id
from approval.errors import Conflict, Forbidden, NotFound
from approval.ports import Store

READ_AT_ONCE: Final = 200

_ISSUED = re.compile(r"grt_[0-9a-v]{1,40}")


class Granting:
    """Issues, lists and revokes grants; `rules` gives the rules in force."""

    def __init__(self, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._store = store
        self._rules = rules

    async def issue(
        self, grant: Grant, *, person: str, via: str, once: str | None = None
    ) -> Issued:
        """Give a grant on an admin's word; of all that are asked for under one `once` the first.

        Raises:
            Forbidden: If this person may not give it.
            NotFound: If nobody bears the name of its agent or its upstream.
            Conflict: If one was given under that `once`.
        """
        self.check(person)
        agent = self._rules().directory.agents.get(grant.agent)
        if agent is None:
            raise NotFound(f"there is no agent {quoted(grant.agent)}")
        if grant.upstream is not None and grant.upstream not in self._rules().policies:
            raise NotFound(f"there is no upstream {quoted(grant.upstream)}")
        if agent.owner == person:
            raise Forbidden(f"{person} owns {agent.name}, and does not free it; ask another admin")
        return await self.keep(grant, person=person, via=via, once=once)

    def check(self, person: str) -> None:
        """Look whether this person may give grants at all.

        Raises:
            Forbidden: If not.
        """
        if not self._rules().directory.has_right(person, Right.ADMIN):
            raise Forbidden(f"{person} has no right to give grants; [rights] admin gives it")

    async def keep(self, grant: Grant, *, person: str, via: str, once: str | None = None) -> Issued:
        """Keep a grant that this person may give, under a name of its own.

        Raises:
            Conflict: If one was given under that `once`.
        """
        lot = secrets.token_hex(10) if once is None else stable_id("once", person, once)[:20]
        named = replace(grant, id=f"grt_{lot}", granted_by=f"person:{person}")
        kept = issued.issue(named, via=via)
        try:
            return await self._store.keep_grant(kept.grant, kept.entry)
        except Conflict as conflict:
            if once is None:
                raise
            raise Conflict(f"{named.id} was given by this very order") from conflict

    async def revoke(self, grant_id: str, *, person: str, via: str) -> Issued:
        """Take a grant back: nothing is admitted under it once this returns.

        An admin may, whoever gave it, and the agent's owner: less freedom needs no second person.

        Raises:
            NotFound: If no such grant was issued, or this person may not see it.
            Forbidden: If this person may not take it back.
            Conflict: If it was revoked before, or has ended by itself.
        """
        if any(each.id == grant_id for each in self._rules().grants):
            raise Forbidden("the configuration gives this grant; remove it there")
        found = await self.see(grant_id, person=person)
        if not self.may_revoke(person, found.grant):
            raise Forbidden(f"{person} may not take this grant back; an admin may")
        entry = Entry(
            tag=Tag.GRANT_REVOKE,
            subject=grant_id,
            actor=f"person:{person}",
            facts={"agent": found.grant.agent, "via": via},
        )
        return await self._store.revoke_grant(grant_id, entry)

    async def now(self) -> datetime:
        """Tell the time by which grants begin and end."""
        return await self._store.now()

    async def see(self, grant_id: str, *, person: str) -> Issued:
        """Read a grant that was issued.

        Raises:
            NotFound: If there is none, or none that this person may see.
        """
        found = await self._store.grant(_issued(grant_id))
        if not self.may_see(person, found.grant):
            raise NotFound("there is no such grant")
        return found

    async def page(self, person: str, *, after: str | None = None, limit: int = 50) -> GrantPage:
        """Read a page of the grants that this person may see.

        The configuration's come first, then those that were issued, the newest first.

        Raises:
            NotFound: If there is no grant `after`, or no longer.
        """
        found: list[Issued] = []
        async for each in self._every(after):
            if self.may_see(person, each.grant):
                found.append(each)
            if len(found) > limit:
                return GrantPage(grants=tuple(found[:limit]), next=found[limit - 1].grant.id)
        return GrantPage(grants=tuple(found), next=None)

    async def listed(self) -> tuple[Issued, ...]:
        """Read every grant there is, in the same order."""
        return tuple([each async for each in self._every(None)])

    async def _every(self, after: str | None) -> AsyncIterator[Issued]:
        own = self._rules().grants
        begin = next((at + 1 for at, grant in enumerate(own) if grant.id == after), None)
        if after is None or begin is not None:
            for grant in own[begin:]:
                yield Issued(grant=grant, issued_at=None)
            after = None
        else:
            after = _issued(after)
        while True:
            page = await self._store.grants(after=after, limit=READ_AT_ONCE)
            for each in page.grants:
                yield each
            after = page.next
            if after is None:
                return

    def may_see(self, person: str, grant: Grant) -> bool:
        """Say whether this person may look at a grant."""
        read_all = self._rules().directory.has_right(person, Right.READ_ALL)
        return read_all or self.may_revoke(person, grant)

    def may_revoke(self, person: str, grant: Grant) -> bool:
        """Say whether this person may take a grant back, were it one that was issued."""
        agent = self._rules().directory.agents.get(grant.agent)
        decided = grant.decided
        return (
            self._rules().directory.has_right(person, Right.ADMIN)
            or grant.granted_by == f"person:{person}"
            or (decided is not None and person in decided.people)
            or (agent is not None and agent.owner == person)
        )


def _issued(grant_id: str) -> str:
    """Refuse what no issued grant is called before a database is asked for it."""
    if not _ISSUED.fullmatch(grant_id):
        raise NotFound("there is no such grant")
    return grant_id
