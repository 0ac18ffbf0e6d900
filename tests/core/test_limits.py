"""Meters, rates, limits and grants as documents write them, and everything wrong with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from approval.core.document import Place, open_document
from approval.core.grants import Grant, Origin, covers
from approval.core.limits import read_grants, read_limits, read_meters, read_rate
from approval.core.meters import Meter, Over, Soft
from approval.core.money import Money
from approval.core.policy import Mention
from approval.core.rates import MOST_SLOTS, Algorithm, Rate, rate_keys
from approval.core.scopes import Scope
from approval.core.subject import Subject
from approval.core.windows import AllTime, Calendar, Rolling, Unit, Weekday, Window

DAY = {"calendar": "day"}


def place(key: str, value: object) -> Place:
    return open_document({key: value}, source="p").root.at(key)


def problem(at: Place) -> str:
    [found] = at.problems
    return found


def usd(minor: int) -> Money:
    return Money(minor, "USD")


# --- meters ---


def meters(table: object) -> tuple[dict[str, Meter], list[Mention], Place]:
    at, people = place("meters", table), list[Mention]()
    return dict(read_meters(at, origin="o", people=people)), people, at


def meter(changes: dict[str, object]) -> tuple[Meter | None, Place]:
    found, _, at = meters({"m": {"limit": "5.00 USD", "window": DAY} | changes})
    return found.get("m"), at


def test_the_meters_of_the_documents_are_read() -> None:
    found, people, at = meters(
        {
            "numbers-day": {"limit": "5.00 USD", "window": DAY, "scope": ["agent"]},
            "team-day": {
                "limit": "5000.00 USD",
                "window": {"calendar": "day", "zone": "Europe/Berlin"},
                "scope": ["group"],
                "hard": True,
            },
            "agent-month": {
                "limit": "20000.00 USD",
                "window": {"rolling": "30d"},
                "scope": ["agent", "tool"],
                "soft": {"override_by": "cfo", "up_to": "5000.00 USD"},
                "over": "ask",
            },
        }
    )
    assert at.problems == []
    assert found == {
        "numbers-day": Meter(
            name="numbers-day",
            origin="o",
            limit=usd(500),
            window=Calendar(unit=Unit.DAY),
            scope=(Scope.AGENT,),
        ),
        "team-day": Meter(
            name="team-day",
            origin="o",
            limit=usd(500000),
            window=Calendar(unit=Unit.DAY, zone="Europe/Berlin"),
            scope=(Scope.GROUP,),
        ),
        "agent-month": Meter(
            name="agent-month",
            origin="o",
            limit=usd(2000000),
            window=Rolling(span=timedelta(days=30)),
            scope=(Scope.AGENT, Scope.TOOL),
            soft=Soft(override_by=("cfo",), up_to=usd(500000)),
            over=Over.ASK,
        ),
    }
    assert people == [Mention(text="cfo", path="/meters/agent-month/soft/override_by")]


@pytest.mark.parametrize(
    ("window", "found"),
    [
        (DAY, Calendar(unit=Unit.DAY)),
        ({"calendar": "month", "zone": "UTC"}, Calendar(unit=Unit.MONTH)),
        ({"calendar": "year"}, Calendar(unit=Unit.YEAR)),
        (
            {"calendar": "week", "week_start": "sunday"},
            Calendar(unit=Unit.WEEK, week_start=Weekday.SUNDAY),
        ),
        ({"rolling": "24h"}, Rolling(span=timedelta(hours=24))),
        ({"all_time": True}, AllTime()),
    ],
)
def test_windows_are_read(window: object, found: Window) -> None:
    read, at = meter({"window": window})
    assert at.problems == []
    assert read is not None
    assert read.window == found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scope": []}, ()),
        ({"scope": "agent"}, (Scope.AGENT,)),
        ({"scope": ["grant", "upstream"]}, (Scope.GRANT, Scope.UPSTREAM)),
        ({}, ()),
    ],
)
def test_scopes_are_read(changes: dict[str, object], told: tuple[Scope, ...]) -> None:
    read, at = meter(changes)
    assert at.problems == []
    assert read is not None
    assert (read.scope, read.soft, read.over) == (told, None, Over.DENY)


SOFT = {"override_by": "cfo", "up_to": "1.00 USD"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"limt": 1}, "/meters/m/limt: there is no key limt in a meter; did you mean limit?"),
        ({"limit": None}, "/m/limit: this is nothing; write text"),
        ({"limit": 5}, "/m/limit: this is a number; write text"),
        ({"limit": "5 dollars"}, '/m/limit: there is no currency in "5 dollars"; write it like'),
        ({"limit": "-5.00 USD"}, '/m/limit: "-5.00 USD" is no amount'),
        ({"limit": "5.001 USD"}, "is no amount"),
        ({"limit": "0.00 USD"}, "/m/limit: a limit of zero lets nothing pass; write an amount"),
        ({"window": None}, '/m/window: this is None; write {calendar = "day"}'),
        ({"window": "day"}, "/m/window: this is 'day'; write {calendar"),
        ({"window": {}}, "/m/window: a window has one of calendar, rolling and all_time"),
        ({"window": {"calendar": "day", "rolling": "1d"}}, "write exactly one"),
        ({"window": {"rolling": "1d", "zone": "UTC"}}, "/m/window/zone: there is no key zone"),
        ({"window": {"calendar": "hour"}}, "/calendar: this is 'hour'; write one of day, week"),
        (
            {"window": {"calendar": "day", "zone": "Berlin"}},
            "/zone: there is no time zone 'Berlin'",
        ),
        ({"window": {"calendar": "day", "zone": 1}}, "/zone: this is a number; write text"),
        ({"window": {"calendar": "day", "week_start": "sunday"}}, "only a week has such a start"),
        ({"window": {"calendar": "week", "week_start": "sun"}}, "write one of monday, tuesday"),
        ({"window": {"rolling": "1 day"}}, "/rolling: this is '1 day'; write \"90s\""),
        ({"window": {"rolling": 60}}, '/rolling: this is 60; write "90s"'),
        ({"window": {"all_time": False}}, "/all_time: write true, or another kind of window"),
        (
            {"scope": ["agent", "server"]},
            "/scope/1: there is no scope 'server'; write agent, grant",
        ),
        ({"scope": ["agent", "agent"]}, "/scope: a name stands here twice"),
        ({"scope": None}, "/scope: this is nothing; write a list"),
        ({"scope": 5}, "/scope: this is a number; write a list"),
        ({"scope": [5]}, "/scope/0: this is a number; write text"),
        ({"hard": False}, "/hard: say with soft who may exceed the limit"),
        ({"hard": True, "soft": SOFT}, "/hard: a hard meter has nobody who may exceed it"),
        ({"hard": "yes"}, "/hard: this is 'yes'; write true or false"),
        ({"over": "ask"}, "/over: nobody may exceed this meter, so there is nobody to ask"),
        ({"over": "allow"}, "/over: this is 'allow'; write one of deny, ask"),
        ({"soft": "cfo"}, "/soft: this is text; write {override_by, up_to}"),
        ({"soft": SOFT | {"by": 1}}, "/soft/by: there is no key by in a soft limit"),
        ({"soft": SOFT | {"override_by": []}}, "/override_by: nobody may override; name somebody"),
        ({"soft": {"override_by": "cfo"}}, "/soft/up_to: this is nothing; write text"),
        (
            {"soft": SOFT | {"up_to": "1.00 EUR"}},
            "/up_to: a meter has one currency; write it in USD",
        ),
    ],
)
def test_a_mistake_in_a_meter_is_told(changes: dict[str, object], told: str) -> None:
    _, at = meter(changes)
    assert told in problem(at)


def test_mistakes_in_the_table_itself_are_told() -> None:
    assert "write an object" in problem(meters([])[2])
    assert "/meters/m: this is text; write {limit, window, scope}" in problem(meters({"m": "x"})[2])
    unnamed = {" ": {"limit": "5.00 USD", "window": DAY}}
    assert "/meters/ : the meter has no name; give it one" in problem(meters(unnamed)[2])


def test_everything_wrong_is_told_at_once() -> None:
    _, _, at = meters({"a": {"limit": 1, "window": 1}, "b": {"limit": 1, "window": DAY, "x": 1}})
    assert len(at.problems) == 4


# --- rates ---


def rate(value: object, *, ours: bool = True) -> tuple[Rate | None, Place]:
    at = place("rate_limit", value)
    return read_rate(at, origin="o", ours=ours), at


def test_the_rate_limit_of_policylayer_is_read_verbatim() -> None:
    read, at = rate({"max": 10, "window": 60}, ours=False)
    assert at.problems == []
    assert read == Rate(
        origin="o",
        name="/rate_limit",
        path="/rate_limit",
        max=10,
        window=timedelta(seconds=60),
        scope=(Scope.AGENT,),
    )


def test_our_rate_limit_says_more() -> None:
    read, at = rate(
        {"max": 10, "window": "2h", "scope": ["tool", "group"], "cost": 10, "algorithm": "calendar"}
    )
    assert at.problems == []
    assert read is not None
    assert (read.window, read.scope) == (timedelta(hours=2), (Scope.TOOL, Scope.GROUP))
    assert (read.cost, read.algorithm) == (10, Algorithm.CALENDAR)
    shared, _ = rate({"max": 1, "window": 1, "scope": []})
    assert shared is not None
    assert shared.scope == ()


@pytest.mark.parametrize(
    ("value", "ours", "told"),
    [
        ("10/minute", True, "/rate_limit: this is text; write {max = 10, window = 60}"),
        ([], True, "/rate_limit: this is a list; write {max"),
        ({"window": 60}, True, "/max: this is None; write a whole number from 1 to 1000000000"),
        ({"max": 0, "window": 60}, True, "/max: this is 0; write a whole number from 1"),
        ({"max": -1, "window": 60}, True, "/max: this is -1;"),
        ({"max": True, "window": 60}, True, "/max: this is True;"),
        ({"max": 1.5, "window": 60}, True, "/max: this is 1.5;"),
        ({"max": "10", "window": 60}, True, "/max: this is '10';"),
        ({"max": 10}, True, "/window: this is None; write a whole number of seconds from 1"),
        ({"max": 10, "window": 0}, True, "/window: this is 0;"),
        ({"max": 10, "window": 0.5}, True, "/window: this is 0.5; write a whole number of seconds"),
        ({"max": 10, "window": 31536001}, True, "/window: this is 31536001;"),
        ({"max": 10, "window": "minute"}, True, "/window: this is 'minute'; write \"90s\""),
        ({"max": 10001, "window": 60}, True, 'write less, or algorithm = "calendar" beside it'),
        ({"max": 10001, "window": 60}, False, "more than 10000 calls are not counted exactly"),
        ({"max": 9, "window": 60, "scope": "agent"}, False, "/scope: there is no key scope"),
        ({"max": 9, "window": 60, "scope": "grant"}, True, "/scope: there is no scope 'grant'"),
        ({"max": 9, "window": 60, "scope": "session"}, True, "there is no scope 'session'"),
        ({"max": 9, "window": 60, "cost": 0}, True, "/cost: this is 0;"),
        (
            {"max": 9, "window": 60, "cost": 10},
            True,
            "/cost: no call would ever pass; write at most",
        ),
        ({"max": 9, "window": 60, "algorithm": "gcra"}, True, "write one of ring, calendar"),
        (
            {"max": 9, "window": 50000, "algorithm": "calendar"},
            True,
            "/window: a calendar counter takes windows that divide a day evenly",
        ),
        ({"max": 9, "window": 60, "per": "x"}, True, "/per: there is no key per in a rate_limit"),
    ],
)
def test_a_mistake_in_a_rate_is_told(value: object, ours: bool, told: str) -> None:
    _, at = rate(value, ours=ours)
    assert told in problem(at)


# --- PolicyLayer's limits ---


def limits(value: object, *, ours: bool = False) -> tuple[tuple[Rate, ...], Place]:
    at = place("limits", value)
    return read_limits(at, origin="o", ours=ours), at


def limit(**changes: object) -> dict[str, object]:
    return {"counter": "calls", "window": "minute", "max": 5} | changes


def test_limits_of_policylayer_are_read_verbatim() -> None:
    read, at = limits([limit(scope="grant"), limit(window="day", max=MOST_SLOTS + 1)])
    assert at.problems == []
    by_grant, by_all = read
    assert (by_grant.max, by_grant.window) == (5, timedelta(minutes=1))
    assert (by_grant.scope, by_grant.algorithm) == ((Scope.AGENT,), Algorithm.RING)
    assert (by_grant.name, by_grant.path) == ("/limits/calls/minute", "/limits/0")
    # One count for all; and what no ring can hold is counted as PolicyLayer itself does.
    assert (by_all.scope, by_all.algorithm) == ((), Algorithm.CALENDAR)
    assert (by_all.window, by_all.path) == (timedelta(days=1), "/limits/1")


def test_rearranging_limits_mixes_up_no_counts() -> None:
    subject = Subject(agent="ops", upstream="shop", tool="buy", arguments={})
    entries = [limit(), limit(window="hour"), limit(counter="other")]
    first, _ = limits(entries)
    again, _ = limits(entries[::-1])
    ids = [rate_keys(each, subject)[0].id for each in first]
    assert ids == [rate_keys(each, subject)[0].id for each in again][::-1]
    assert len(set(ids)) == 3


def test_our_limits_may_name_scopes_and_an_algorithm() -> None:
    entry = limit(scope=["agent", "tool"], algorithm="calendar", window="hour")
    [read], at = limits([entry], ours=True)
    assert at.problems == []
    assert (read.scope, read.algorithm) == ((Scope.AGENT, Scope.TOOL), Algorithm.CALENDAR)


@pytest.mark.parametrize(
    ("value", "ours", "told"),
    [
        ({}, False, "/limits: this is an object; write a list"),
        (["x"], False, "/limits/0: this is text; write {counter, window, max, scope}"),
        ([limit(counter="")], False, "/limits/0/counter: this is blank; write text"),
        ([limit(window=60)], False, "/window: this is 60; write one of minute, hour, day"),
        ([limit(window="week")], False, "/window: this is 'week'; write one of minute, hour, day"),
        ([limit(max=0)], False, "/max: this is 0; write a whole number"),
        ([limit(max=None)], False, "/max: this is None; write a whole number"),
        ([limit(scope="everyone")], False, "/scope: there is no scope 'everyone'"),
        ([limit(algorithm="ring")], False, "/algorithm: there is no key algorithm in a limit"),
        ([limit(increment=5)], False, "/increment: there is no key increment in a limit"),
        ([limit(max=MOST_SLOTS + 1)], True, 'algorithm = "calendar" beside it'),
        ([limit(), limit(max=6)], False, "/limits/1: this counter has this window already"),
    ],
)
def test_a_mistake_in_a_limit_is_told(value: object, ours: bool, told: str) -> None:
    _, at = limits(value, ours=ours)
    assert told in problem(at)


# --- grants ---


def grants(*entries: object) -> tuple[tuple[Grant, ...], Place]:
    at = place("grants", list(entries))
    return read_grants(at), at


def grant(**changes: object) -> dict[str, object]:
    least = {"agent": "billing", "tools": ["create_refund"], "expires": "2026-12-31T00:00:00Z"}
    return least | changes


def test_the_grant_of_the_documents_is_read() -> None:
    condition = {"path": "args.reason", "op": "exists", "value": True}
    [read], at = grants(
        grant(
            conditions=[condition],
            max_per_call="20.00 USD",
            total="200.00 USD",
            uses=20,
            not_before="2026-12-01T00:00:00+01:00",
            upstream="bank",
            reason="the backlog",
        )
    )
    assert at.problems == []
    assert (read.agent, read.upstream, read.reason) == ("billing", "bank", "the backlog")
    assert [tool.text for tool in read.tools] == ["create_refund"]
    assert (read.max_per_call, read.total, read.uses) == (usd(2000), usd(20000), 20)
    assert read.not_before == datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert read.expires == datetime(2026, 12, 31, tzinfo=UTC)
    assert (read.origin, read.path) == (Origin.FILE, "/grants/0")
    subject = Subject(
        agent="billing", upstream="bank", tool="create_refund", arguments={"reason": "x"}
    )
    then = datetime(2026, 12, 1, tzinfo=UTC)
    assert covers(read, subject, usd(2000), then) is None
    refusal = covers(read, replace(subject, arguments={}), usd(2000), then)
    assert refusal is not None
    assert refusal.code == "grant:conditions"


def ids(*entries: object) -> list[str]:
    read, at = grants(*entries)
    assert at.problems == []
    return [each.id for each in read]


def test_a_grant_stays_the_same_when_its_limits_or_its_place_change() -> None:
    [known] = ids(grant())
    changed = grant(uses=5, total="9.00 USD", max_per_call="9.00 USD", reason="x")
    assert ids(changed) == [known]
    assert ids(grant(agent="other"), changed)[1] == known
    assert ids(grant(tools="create_refund")) == [known]
    assert ids(grant(tools=["b", "a"])) == ids(grant(tools=["a", "b"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": "other"},
        {"upstream": "bank"},
        {"tools": ["create_*"]},
        {"conditions": [{"path": "args.x", "op": "eq", "value": 1}]},
        {"name": "backlog"},
    ],
)
def test_a_grant_of_something_else_is_another(changes: dict[str, object]) -> None:
    assert ids(grant(**changes)) != ids(grant())


def test_a_name_is_the_identity_of_a_grant() -> None:
    one, other = grant(name="backlog"), grant(name="backlog", agent="other", tools=["x"])
    assert ids(one) == ids(other) == ["file:backlog"]
    _, at = grants(one, other)
    assert "/grants/1: there is such a grant already" in problem(at)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("x", "/grants/0: this is text; write {agent, tools, expires}"),
        (grant(agent=None), "/agent: this is nothing; write text"),
        (grant(agents=["x"]), "/agents: there is no key agents in a grant; did you mean agent?"),
        (grant(tools=None), "/tools: this is nothing; write a list"),
        (grant(tools=[]), "/tools: this list is empty, so nothing would be granted"),
        (grant(tools=["a", "a"]), "/tools: a name stands here twice"),
        (grant(tools=[""]), "/tools/0: this is blank"),
        (grant(uses=0), "/uses: this is 0; write a whole number from 1"),
        (grant(uses="5"), "/uses: this is '5'; write a whole number from 1"),
        (grant(total="5"), "/total: there is no currency"),
        (grant(max_per_call="0.00 USD"), "/max_per_call: a limit of zero lets nothing pass"),
        (grant(max_per_call="1.00 USD", total="1.00 EUR"), "/total: a grant has one currency"),
        (grant(expires="2026-12-31"), "/expires: this is '2026-12-31'; write \"2026-12-31T00"),
        (grant(expires="2026-12-31T00:00:00"), "with its zone"),
        (grant(expires="2026-02-30T00:00:00Z"), "/expires: this is '2026-02-30T00:00:00Z'"),
        (grant(expires="2026-12-31T00:00:00+99:00"), "/expires: this is"),
        (grant(expires="2026-W01-1T00:00:00Z"), "/expires: this is"),
        (grant(expires="\u0662026-12-31T00:00:00Z"), "/expires: this is"),
        (grant(expires=1), "/expires: this is 1; write"),
        (grant(not_before="2026-12-31T00:00:00Z"), "/expires: it ends before it begins"),
        (grant(upstream=""), "/upstream: this is blank"),
        (grant(conditions={}), "/conditions: this is an object; write a list"),
        (grant(conditions=[{"path": "x"}]), "/conditions/0: the value is missing"),
        (grant(granted_by="ann"), "/granted_by: there is no key granted_by in a grant"),
        ({"agent": "a", "tools": ["x"]}, "/grants/0: this grant would never end; write expires"),
    ],
)
def test_a_mistake_in_a_grant_is_told(entry: object, told: str) -> None:
    _, at = grants(entry)
    assert any(told in found for found in at.problems), at.problems
