"""Grants in the database: those in force while a call is admitted, and how one is taken back.

A call that is admitted under a grant holds its row against whoever revokes it: either the call is
committed first, or it finds the grant gone.
"""

import logging
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, and_, bindparam, insert, select, update

from approval.core import issued
from approval.core.audit import Entry
from approval.core.grants import Grant
from approval.core.issued import GrantPage, Issued
from approval.core.refusals import worded_instant
from approval.errors import Conflict, Misconfigured, NotFound
from approval.store.prepared import Executor
from approval.store.tables import grants
from approval.store.work import Work

log = logging.getLogger(__name__)

_IN_FORCE = (
    select(grants)
    .where(
        grants.c.agent == bindparam("agent"),
        grants.c.revoked_at.is_(None),
        grants.c.expires_at.is_(None) | (grants.c.expires_at > bindparam("now")),
    )
    .order_by(grants.c.id)
    # Shared: calls of one agent do not wait for each other here, only whoever revokes does.
    .with_for_update(read=True)
)
_KEEP = insert(grants)
_ONE = select(grants).where(grants.c.id == bindparam("id"))
_ONE_TO_CHANGE = _ONE.with_for_update()
_REVOKE = update(grants).where(grants.c.id == bindparam("b_id"), grants.c.revoked_at.is_(None))


def in_force(work: Work, agent: str) -> tuple[Grant, ...]:
    """Read an agent's grants, and keep them from being revoked until this work is committed."""
    # Not `work.now`, which is read once all is locked: one that ends meanwhile is left out later.
    key = {"agent": agent, "now": work.clock()}
    return tuple(_read(row) for row in work.connection.execute(_IN_FORCE, key))


def keep(work: Work, grant: Grant, entry: Entry) -> Issued:
    """Keep a grant that somebody issued."""
    row = {
        "id": grant.id,
        "agent": grant.agent,
        "spec": issued.write(grant),
        "issued_at": work.now,
        "expires_at": grant.expires,
        "revoked_at": None,
        "revoked_by": "",
    }
    work.connection.execute(_KEEP, row)
    work.entries.append(entry)
    return Issued(grant=grant, issued_at=work.now)


def revoke(work: Work, grant_id: str, entry: Entry) -> Issued:
    """Take a grant back: nothing is admitted under it once this is committed.

    Raises:
        NotFound: If no such grant was issued.
        Conflict: If it was revoked before, or has ended by itself.
    """
    row = work.connection.execute(_ONE_TO_CHANGE, {"id": grant_id}).one_or_none()
    if row is None:
        raise NotFound("there is no such grant")
    if row.revoked_at is not None:
        raise Conflict(f"the grant was revoked already, by {row.revoked_by}")
    if row.expires_at is not None and row.expires_at <= work.now:
        raise Conflict(f"the grant ended at {worded_instant(row.expires_at)}, by itself")
    row_now = {"revoked_at": work.now, "revoked_by": entry.actor, "b_id": grant_id}
    work.connection.execute(_REVOKE, row_now)
    work.entries.append(entry)
    return replace(_issued(row), revoked_at=work.now, revoked_by=entry.actor)


def get(connection: Executor, grant_id: str) -> Issued:
    """Read one grant; `NotFound` if no such grant was issued."""
    row = connection.execute(_ONE, {"id": grant_id}).one_or_none()
    if row is None:
        raise NotFound("there is no such grant")
    return _issued(row)


def find(connection: Executor, after: str | None, limit: int) -> GrantPage:
    """Read a page of the grants that were issued, the newest first; `after` is the last one's id.

    Raises:
        NotFound: If no such grant was issued.
    """
    query = select(grants).order_by(grants.c.issued_at.desc(), grants.c.id).limit(limit + 1)
    if after is not None:
        last = get(connection, after)
        # Ids are drawn by lot: they only part what was issued at one moment.
        together = and_(grants.c.issued_at == last.issued_at, grants.c.id > after)
        query = query.where((grants.c.issued_at < last.issued_at) | together)
    found = connection.execute(query).all()
    page = tuple(_issued(row) for row in found[:limit])
    return GrantPage(grants=page, next=page[-1].grant.id if len(found) > limit else None)


def _read(row: Row[Any]) -> Grant:
    """Read a grant; one that this release does not understand is listed, and covers nothing."""
    try:
        return issued.read(row.id, row.spec)
    except (Misconfigured, ValueError, KeyError):
        log.exception("a grant is not understood and covers nothing", extra={"grant": row.id})
        return Grant(id=row.id, agent=row.agent, tools=())


def _issued(row: Row[Any]) -> Issued:
    return Issued(
        grant=_read(row),
        issued_at=row.issued_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )
