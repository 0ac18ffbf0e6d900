"""Grants that people give: whether they may, how they are issued, listed and taken back.

An admin may give any grant but one to an agent of their own: whoever answers for an agent does not
free it from being asked about, as they do not decide its calls.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from approval.core import issued
from approval.core.audit import Entry, Tag
from approval.core.canonical import quoted
from approval.core.grants import Grant
from approval.core.identity import Right
from approval.core.issued import Issued
from approval.core.rulebook import Rulebook
from approval.errors import Forbidden, NotFound
from approval.ports import Store


class Granting:
    """Issues, lists and revokes grants; `rules` gives the rules in force."""

    def __init__(self, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._store = store
        self._rules = rules

    async def issue(self, grant: Grant, *, person: str, via: str) -> Issued:
        """Give a grant on an admin's word.

        Raises:
            Forbidden: If this person may not give it.
            NotFound: If nobody bears the name of its agent or its upstream.
        """
        directory = self._rules().directory
        if not directory.has_right(person, Right.ADMIN):
            raise Forbidden(f"{person} has no right to give grants; [rights] admin gives it")
        agent = directory.agents.get(grant.agent)
        if agent is None:
            raise NotFound(f"there is no agent {quoted(grant.agent)}")
        if grant.upstream is not None and grant.upstream not in self._rules().policies:
            raise NotFound(f"there is no upstream {quoted(grant.upstream)}")
        if agent.owner == person:
            raise Forbidden(f"{person} owns {agent.name}, and does not free it; ask another admin")
        return await self.keep(grant, person=person, via=via)

    async def keep(self, grant: Grant, *, person: str, via: str) -> Issued:
        """Keep a grant that this person may give, under a name of its own."""
        named = replace(grant, id=f"grt_{secrets.token_hex(10)}", granted_by=f"person:{person}")
        kept = issued.issue(named, via=via)
        return await self._store.keep_grant(kept.grant, kept.entry)

    async def revoke(self, grant_id: str, *, person: str, via: str) -> Issued:
        """Take a grant back: nothing is admitted under it once this returns.

        An admin may, whoever gave it, and the agent's owner: less freedom needs no second person.

        Raises:
            NotFound: If no such grant was issued, or this person may not see it.
            Forbidden: If this person may not take it back.
            Conflict: If it was revoked before.
        """
        if any(each.id == grant_id for each in self._rules().grants):
            raise Forbidden("the configuration gives this grant; remove it there")
        found = await self._store.grant(grant_id)
        if not self.may_see(person, found.grant):
            raise NotFound("there is no such grant")
        if not self._may_revoke(person, found.grant):
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

    async def listed(self, person: str | None = None) -> tuple[Issued, ...]:
        """Read the issued grants that this person may see, the newest first; all without one."""
        found = await self._store.grants()
        return tuple(each for each in found if person is None or self.may_see(person, each.grant))

    def may_see(self, person: str, grant: Grant) -> bool:
        """Say whether this person may look at a grant."""
        read_all = self._rules().directory.has_right(person, Right.READ_ALL)
        return read_all or self._may_revoke(person, grant)

    def _may_revoke(self, person: str, grant: Grant) -> bool:
        agent = self._rules().directory.agents.get(grant.agent)
        decided = grant.decided
        return (
            self._rules().directory.has_right(person, Right.ADMIN)
            or grant.granted_by == f"person:{person}"
            or (decided is not None and person in decided.people)
            or (agent is not None and agent.owner == person)
        )
