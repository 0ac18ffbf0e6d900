"""Amounts that approvers type: what a call asks of them, held against the policy in force.

Some calls cost what only the person who decides them can say. The most that person may say is set
aside when such a call is admitted, so what they type only ever gives money back, and no meter is
overrun whatever it is.
"""

from dataclasses import replace

from approval.core.call import Call, Vote
from approval.core.demand import Demand
from approval.core.money import Money, read_typed
from approval.errors import Conflict, Unreadable


def typed(call: Call, written: str | None, demand: Demand | None) -> Money | None:
    """Read what an approval says that the call costs; None where nobody is asked.

    `demand` is that of the policy in force, which may have lowered the bound meanwhile. Of several
    approvers all type the same: whose votes count may change until the call is claimed, and
    whichever count then, they have approved one amount.

    Raises:
        Unreadable: With the reason why this cannot be typed: `missing`, `not_asked`, or one of
            `read_typed` or `Asking.check`.
        Conflict: If somebody else has typed another amount.
    """
    if call.asking is None:
        if written is not None:
            told = "what this call costs is known, and nobody types it; leave the amount out"
            raise Unreadable("not_asked", told)
        return None
    if written is None:
        raise Unreadable("missing", f"type what this call costs, up to {call.asking.up_to}")
    amount = read_typed(written)
    call.asking.check(amount)
    if demand is not None and demand.terms.asking is not None:
        demand.terms.asking.check(amount)
    for vote in call.approvals:
        if vote.amount != amount:
            told = f"{vote.person} typed {vote.amount} for this call, and not {amount}"
            raise Conflict(f"{told}; type the same, or reject it")
    return amount


def says(vote: Vote, written: str | None) -> bool:
    """Say whether a vote names the amount that is written here, or neither names any."""
    if written is None or vote.amount is None:
        return written is None and vote.amount is None
    try:
        return read_typed(written) == vote.amount
    except Unreadable:
        return False


def stands(call: Call, demand: Demand | None) -> bool:
    """Say whether the policy in force leaves the price to approvers, if the call began so.

    What was typed already must still be allowed. A policy that counts no money any more loosens,
    and what a person was asked to say stays asked.
    """
    if call.asking is None or demand is None or not demand.spends:
        return True
    now = demand.terms.asking
    if now is None or now.up_to.currency != call.asking.up_to.currency:
        return False
    return call.typed is None or now.admits(call.typed)


def bounded(call: Call, demand: Demand | None) -> Call:
    """Lower what approvers may type for a waiting call to what the policy in force allows."""
    now = demand.terms.asking if demand is not None else None
    if call.asking is None or now is None:
        return call
    lower = call.asking.and_also(now)
    return replace(call, amount=lower.up_to, terms=replace(call.terms, asking=lower))


def price_stands(call: Call, demand: Demand | None) -> bool:
    """Say whether an approved call has the price that the policy in force gives it.

    Where that is left to approvers one has typed it, and may still type it today. Rules that name
    none any more have loosened. That releases nothing: the call runs at the price at which it was
    approved, and what it holds is booked where it was reserved.
    """
    if call.amount is not None and call.cost is None:
        return False
    if demand is None or not demand.spends:
        return True
    now = demand.terms.asking
    if now is None or call.amount is None:
        return demand.amount == call.amount
    return call.asking is not None and now.admits(call.amount)


def demanded(call: Call, demand: Demand | None) -> Demand:
    """Give what a call takes under the policy in force, at what was typed where that is asked."""
    if demand is None:
        return Demand()
    return demand.at(call.amount) if demand.asks and call.amount is not None else demand
