"""A document that is read again forgives nothing, whatever in it moved and however calls look (42).

What was counted and spent is of the limit in the document, not of the value that was read from it:
the numbers, the order and the words around them may change, and so may all that an agent chooses.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest

from approval.core import canonical, intake
from approval.core.call import Call, ToolCall, new_call_id
from approval.core.demand import Holdings
from approval.core.lifecycle import Change, Event
from approval.core.rulebook import Rulebook
from approval.store.store import SqlStore
from tests.factories import Clock, make_asked, make_lease, make_rulebook
from tests.store.spending import BUY, ask

RATE: Mapping[str, object] = {"max": 3, "window": "1h"}
POT: Mapping[str, object] = {"limit": "3.00 USD", "window": {"calendar": "day"}, "scope": ["agent"]}
SPEND: Mapping[str, object] = {"amount": {"fixed": "1.00 USD"}, "meters": ["pot"]}
LIMITS = {"rate": {"rate_limit": RATE}, "pot": {}}


def document(limit: str, **changed: object) -> dict[str, object]:
    roomy = {**POT, "limit": "100.00 USD"}
    tool: dict[str, object] = {"spend": SPEND, **LIMITS[limit], **changed}
    return {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {BUY: tool},
        "meters": {"pot": POT if limit == "pot" else roomy},
    }


def turned(value: object) -> object:
    """Write all members in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return value


def among_others(limit: str) -> Rulebook:
    one = document(limit)
    other = {"spend": {"amount": {"fixed": "9.00 USD"}}, "rate_limit": {"max": 1, "window": "5s"}}
    tools = {"another": other, **dict(one["tools"] if isinstance(one["tools"], dict) else {})}
    meters = {"another": {**POT, "limit": "1.00 USD"}}
    known = one["meters"] if isinstance(one["meters"], dict) else {}
    return make_rulebook({**one, "tools": tools, "meters": {**meters, **known}})


AGAIN: Mapping[str, Callable[[str], Rulebook]] = {
    "as it was": lambda limit: make_rulebook(document(limit)),
    "the other way round": lambda limit: make_rulebook(
        {key: turned(value) for key, value in reversed(document(limit).items())}
    ),
    "among others": among_others,
    "with another title": lambda limit: make_rulebook(document(limit, title="buy something")),
    "with a rule more": lambda limit: make_rulebook(
        document(
            limit, deny_if=[{"conditions": [{"path": "args.number", "op": "eq", "value": 99}]}]
        )
    ),
    "with the window in seconds": lambda limit: make_rulebook(
        document(limit, **({"rate_limit": {"max": 3, "window": 3600}} if limit == "rate" else {}))
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
async def test_reading_the_same_numbers_again_forgives_nothing(
    store: SqlStore, other: SqlStore, limit: str, again: Callable[[str], Rulebook]
) -> None:
    first = make_rulebook(document(limit))
    events = [(await ask(store, 1, first)).event]
    # Read anew before each call, through either process.
    events += [(await ask((store, other)[n % 2], n, again(limit))).event for n in range(2, 7)]
    assert events == [Event.ALLOW] * 3 + [Event.DENY] * 3
    assert (await ask(store, 7, first)).event is Event.DENY


@pytest.mark.parametrize("limit", LIMITS)
async def test_lacking_the_limit_for_a_while_forgives_nothing(
    store: SqlStore, clock: Clock, limit: str
) -> None:
    full = make_rulebook(document(limit))
    free = make_rulebook({**document("pot"), "tools": {BUY: {"spend": {**SPEND, "meters": []}}}})
    assert [(await ask(store, n, full)).event for n in range(4)][2:] == [Event.ALLOW, Event.DENY]
    clock.advance(minutes=30)
    assert (await ask(store, 5, free)).event is Event.ALLOW
    assert (await ask(store, 6, full)).event is Event.DENY


CHOSEN: Mapping[str, Callable[[ToolCall, int], ToolCall]] = {
    "arguments": lambda asked, n: replace(asked, arguments=canonical.canonical({"n": n})),
    "key": lambda asked, n: replace(asked, key=f"key-{n}"),
    "protocol_version": lambda asked, n: replace(
        asked, protocol_version=f"v{n}", arguments=canonical.canonical({"n": n})
    ),
}


def test_an_agent_chooses_no_more_of_a_call_than_is_tried_here() -> None:
    known = {each.name for each in fields(ToolCall)} - {"agent", "upstream", "tool"}
    assert known == CHOSEN.keys()


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
async def test_nothing_that_an_agent_chooses_of_a_call_raises_its_total(
    store: SqlStore, limit: str, chosen: Callable[[ToolCall, int], ToolCall]
) -> None:
    rules, events = make_rulebook(document(limit)), []
    for number in range(6):
        asked = chosen(make_asked({}), number)
        events.append((await begin(store, rules, asked, number)).event)
    assert events == [Event.ALLOW] * 3 + [Event.DENY] * 3


async def begin(store: SqlStore, rules: Rulebook, asked: ToolCall, number: int) -> Change:
    verdict = rules.judge(asked.agent, asked.upstream, asked.tool, {})

    def step(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id, lease = new_call_id(now, number.to_bytes(10)), make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return await store.admit(asked, verdict.demand, step)


async def test_a_window_that_is_written_otherwise_is_the_same_length() -> None:
    """What the table above takes for the same numbers is the same."""
    rates = [
        make_rulebook(document("rate", rate_limit={"max": 3, "window": window}))
        for window in ("1h", 3600, "60m")
    ]
    spans = {
        count.rate.window
        for rules in rates
        if (demand := rules.judge("ops-agent", "shop", BUY, {}).demand) is not None
        for count in demand.counts
    }
    assert spans == {timedelta(hours=1)}
