"""Freezes on every database; `tests/test_freezing.py` tells how they come about."""

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import CallId
from approval.errors import NotFound
from approval.store.store import SqlStore


async def test_nothing_is_frozen_at_first_and_nothing_can_be_lifted(store: SqlStore) -> None:
    assert await store.freezes() == ()
    entry = Entry(tag=Tag.FREEZE_LIFT, subject="apr_1", actor="person:dora")
    with pytest.raises(NotFound, match="nothing is frozen"):
        await store.lift(CallId("apr_1"), entry)
    assert await store.trail() == ()
