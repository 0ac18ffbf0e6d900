"""Pending calls in the database: how many of one agent's wait for people, under its lock."""

from typing import Final

from sqlalchemy import bindparam, func, select, text

from approval.core.pending import Pending
from approval.store.tables import PENDING, calls
from approval.store.work import Work

# In these words the count is found in the partial index on them, and touches no call.
_COUNT: Final = (
    select(func.count())
    .select_from(calls)
    .where(calls.c.agent == bindparam("agent"), text(PENDING))
)


def met(work: Work, agent: str, most: int | None) -> Pending | None:
    """Count an agent's pending calls where they are bounded, and keep its others from adding to it.

    Only an admission adds to them, and the next one of the same agent waits until this work ends.
    An agent without a bound waits for nobody, and nothing is counted.
    """
    if most is None:
        return None
    # No request goes by such a name: theirs begin with the agent's.
    work.alone(f"\0pending\0{agent}")
    counted = work.connection.execute(_COUNT, {"agent": agent}).scalar()
    return Pending(count=int(counted), most=most)
