"""Word what a call would take, for `approval explain`: its price, rates, meters and grants."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from approval.core import meters, rates
from approval.core.admission import Admitted
from approval.core.call import Outcome
from approval.core.canonical import quoted
from approval.core.demand import Count
from approval.core.explaining import Opinion, Priced, Trace
from approval.core.foreseeing import Considered, Foresight
from approval.core.meters import Draw, Usage
from approval.core.price import Quote

LEFT_OUT: Final = {
    "spent": "what is spent and held now (approval budgets)",
    "counted": "what is counted now",
    "frozen": "what is frozen (approval freezes)",
    "issued_grants": "grants that were issued (approval grants)",
}
"""What `explain` does not look at, for it opens no database."""


def steps(opinion: Opinion) -> Iterator[str]:
    """Word what one policy says of the call's price and limits, a line for each step."""
    for priced in opinion.prices:
        objects = priced.finding.outcome if priced.finding is not None else "no objection"
        yield f"price      {priced.path}: {_price(priced.quote)} → {objects}"
    for count in opinion.counts:
        limit = rates.limit_words(count.rate)
        yield f"rate       {count.rate.path}: takes {count.rate.cost} of {limit}"
    for draw in _draws(opinion):
        took = f"takes {draw.amount} of {meters.limit_words(draw.meter)}"
        yield f"meter      {draw.meter.name}, {_whose(draw)}: {took} → {_fit(draw)[1]}"


def end(found: Trace, foresight: Foresight | None) -> Iterator[str]:
    """Word which grants cover the call, what admission comes to, and what was not looked at."""
    for each in foresight.grants if foresight is not None else ():
        why = "covers it" if each.why is None else each.why.text
        yield f"grant        {quoted(each.grant.id)}: {why}"
    out = _left_out(found, foresight)
    if foresight is not None and (foresight.grants or found.verdict.demand is not None):
        yield f"admission    with nothing spent or counted: {_told(foresight)}"
    if out:
        yield f"left out     {'; '.join(out.values())}"


def step_facts(opinion: Opinion) -> dict[str, object]:
    """Write the same for scripts."""
    return {
        "prices": [_price_facts(each) for each in opinion.prices],
        "rates": [_rate_facts(each) for each in opinion.counts],
        "meters": [_meter_facts(each) for each in _draws(opinion)],
    }


def end_facts(found: Trace | None, foresight: Foresight | None) -> dict[str, object]:
    """Write the same for scripts; `admission` is null where policy or reading denies the call."""
    return {
        "grants": [_grant_facts(each) for each in foresight.grants] if foresight else [],
        "admission": None if foresight is None else _admission_facts(foresight),
        "left_out": [] if found is None else list(_left_out(found, foresight)),
    }


def _draws(opinion: Opinion) -> Iterable[Draw]:
    return {draw.meter_id: draw for each in opinion.prices for draw in each.draws}.values()


def _left_out(found: Trace, foresight: Foresight | None) -> dict[str, str]:
    """Say what could still change the verdict and is not looked at."""
    if foresight is None or foresight.outcome is Outcome.DENY:
        return {}
    demand = found.verdict.demand
    parts = {
        "spent": demand is not None and bool(demand.draws),
        "counted": demand is not None and bool(demand.counts),
        "frozen": demand is not None and demand.spends,
        "issued_grants": found.verdict.outcome is Outcome.GATE,
    }
    return {name: LEFT_OUT[name] for name, counts in parts.items() if counts}


def _price(quote: Quote) -> str:
    source = f", from {quote.origin}" if quote.origin is not None else ""
    why = f": {quote.why.text} ({quote.why.reason})" if quote.why is not None else ""
    if quote.reserve is None:
        return f"none{source}{why}"
    if quote.must_type:
        return f"up to {quote.reserve}{source}{why}, which an approver types"
    if quote.needs_actual:
        return f"at most {quote.reserve}{source}; the upstream says what it took"
    return f"{quote.reserve}{source}{why}"


def _whose(draw: Draw) -> str:
    named = (
        f"{scope} {value}" if value is not None else f"no {scope}" for scope, value in draw.key
    )
    return quoted(", ".join(named)) or "all together"


def _fit(draw: Draw) -> tuple[str, str]:
    """Hold one call against a meter from which nothing is taken yet: a code, and words."""
    limit, soft = draw.meter.limit, draw.meter.soft
    if draw.amount.currency != limit.currency:
        return "currency", f"deny: the meter counts {limit.currency}"
    if meters.admits(draw, Usage()):
        return "fits", "fits"
    if soft is not None and meters.admits(draw, Usage(), override=True):
        who = ", ".join(soft.override_by)
        return "beyond", f"more than all of it; where it is held, {who} may let it pass"
    return "above", "deny: more than all of it"


def _told(foresight: Foresight) -> str:
    admitted = foresight.admitted
    if not isinstance(admitted, Admitted):
        return f"{foresight.outcome}: {admitted.code}: {admitted.text}"
    if admitted.grant is not None:
        return f"{foresight.outcome}: {admitted.verdict.reasons[0].text}"
    return str(foresight.outcome)


# --- for scripts ---


def _price_facts(priced: Priced) -> dict[str, object]:
    quote, why = priced.quote, priced.quote.why
    return {
        "path": priced.path,
        "source": None if quote.origin is None else str(quote.origin),
        "amount": None if quote.reserve is None else dict(quote.reserve.plain()),
        "typed_by_approver": quote.must_type,
        "told_by_upstream": quote.needs_actual,
        "unknown": None if why is None else {"code": why.reason, "text": why.text},
        "outcome": None if priced.finding is None else str(priced.finding.outcome),
    }


def _rate_facts(count: Count) -> dict[str, object]:
    rate = count.rate
    return {
        "path": rate.path,
        "max": rate.max,
        "window_seconds": rate.window // timedelta(seconds=1),
        "scope": [str(each) for each in rate.scope],
        "cost": rate.cost,
    }


def _meter_facts(draw: Draw) -> dict[str, object]:
    return {
        "meter": draw.meter.name,
        "origin": draw.meter.origin,
        "scope": {str(scope): value for scope, value in draw.key},
        "window": draw.meter.window.kind,
        "limit": dict(draw.meter.limit.plain()),
        "amount": dict(draw.amount.plain()),
        "fit": _fit(draw)[0],
    }


def _grant_facts(considered: Considered) -> dict[str, object]:
    why = considered.why
    return {
        "grant": considered.grant.id,
        "covers": why is None,
        "why": None if why is None else {"code": why.code, "text": why.text},
    }


def _admission_facts(foresight: Foresight) -> dict[str, object]:
    admitted = foresight.admitted
    refused = None if isinstance(admitted, Admitted) else admitted
    return {
        "outcome": str(foresight.outcome),
        "grant": admitted.grant if isinstance(admitted, Admitted) else None,
        "refused": None if refused is None else {"code": refused.code, "text": refused.text},
    }
