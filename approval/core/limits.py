"""Read what limits calls from a document: meters, rates, PolicyLayer's limits, and grants.

What is wrong is complained of at its place; whoever opened the document settles it, so nothing
that was read beside a complaint is ever served.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeVar

from approval.core.clauses import read_conditions
from approval.core.document import Place, kind, shown
from approval.core.grantable import MOST_USES, Bounds
from approval.core.grants import Grant
from approval.core.meters import Meter, Over, Soft
from approval.core.money import Money
from approval.core.policy import Mention, ToolPattern, tool_pattern
from approval.core.rates import MOST_SLOTS, Algorithm, Rate
from approval.core.scopes import Scope, stable_id
from approval.core.spans import LONGEST
from approval.core.vocabulary import check_keys
from approval.core.windows import AllTime, Calendar, Rolling, Unit, Weekday, Window, is_zone

METER = frozenset({"limit", "window", "scope", "hard", "soft", "over"})
SOFT = frozenset({"override_by", "up_to"})
RATE = frozenset({"max", "window"})
OUR_RATE = RATE | {"scope", "cost", "algorithm"}
LIMIT = frozenset({"counter", "window", "max", "scope"})
OUR_LIMIT = LIMIT | {"algorithm"}
GRANT = frozenset(
    {
        *("name", "agent", "upstream", "tools", "conditions", "max_per_call", "total", "uses"),
        *("not_before", "expires", "reason"),
    }
)
GRANTABLE = frozenset({"uses", "within", "total", "vary"})
WINDOWS: Mapping[str, frozenset[str]] = {
    "calendar": frozenset({"calendar", "zone", "week_start"}),
    "rolling": frozenset({"rolling"}),
    "all_time": frozenset({"all_time"}),
}

MOST_COUNTED: Final = 10**9
DAY: Final = timedelta(days=1)
LIMIT_WINDOWS: Mapping[str, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": DAY,
}
LIMIT_SCOPES: Mapping[str, Scope] = {"grant": Scope.AGENT}
"""PolicyLayer's grants are what agents have tokens for here."""

RATE_SCOPES = tuple(scope for scope in Scope if scope is not Scope.GRANT)

Value = TypeVar("Value")

_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def read_meters(place: Place, *, origin: str, people: list[Mention]) -> Mapping[str, Meter]:
    """Read a table of meters; who may override them is added to `people`."""
    return {
        name: meter
        for name, at in place.members()
        if (meter := _meter(name, at, origin, people)) is not None
    }


def read_rate(place: Place, *, origin: str, ours: bool) -> Rate | None:
    """Read a `rate_limit`; `ours` is whether the document may hold more than PolicyLayer's keys.

    What says nothing of a scope counts each agent for itself: PolicyLayer's counts each session,
    and an agent may have many.
    """
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{max = 10, window = 60}}")
        return None
    check_keys(place, OUR_RATE if ours else RATE, "a rate_limit")
    algorithm = _said(place, "algorithm", lambda at: at.word(Algorithm)) or Algorithm.RING
    most, window = _most(place.at("max"), algorithm), _seconds(place.at("window"))
    cost = _cost(place.at("cost"), most) if place.has("cost") else 1
    scope = _scope(place.at("scope"), RATE_SCOPES) if place.has("scope") else (Scope.AGENT,)
    if most is None or window is None or cost is None or scope is None:
        return None
    if algorithm is Algorithm.CALENDAR and DAY % window:
        place.at("window").complain("a calendar counter takes windows that divide a day evenly")
        return None
    return Rate(
        origin=origin,
        name=place.pointer,
        path=place.pointer,
        max=most,
        window=window,
        scope=scope,
        cost=cost,
        algorithm=algorithm,
    )


def read_limits(place: Place, *, origin: str, ours: bool) -> tuple[Rate, ...]:
    """Read PolicyLayer's `limits`: so many in a minute, an hour or a day.

    They count in a ring, which never admits more than the calendar's count would. What says
    nothing of a scope is one count for all.
    """
    rates: dict[str, Rate] = {}
    for entry in place.elements():
        rate = _limit(entry, place.pointer, origin, ours=ours)
        if rate is not None and rate.name in rates:
            entry.complain("this counter has this window already; keep one of the two")
        elif rate is not None:
            rates[rate.name] = rate
    return tuple(rates.values())


def read_grants(place: Place) -> tuple[Grant, ...]:
    """Read a list of grants.

    A grant is known by its name, or else by whom it lets do what, so that its uses stay counted
    when the list is rearranged or its limits change.
    """
    grants: dict[str, Grant] = {}
    for entry in place.elements():
        grant = _grant(entry)
        if grant is not None and grant.id in grants:
            entry.complain("there is such a grant already; give both different names")
        elif grant is not None:
            grants[grant.id] = grant
    return tuple(grants.values())


def read_grantable(place: Place) -> Bounds | None:
    """Read how far a rule lets a grant reach that comes of a decision."""
    if not isinstance(place.value, dict):
        place.complain(f'this is {kind(place.value)}; write {{uses = 10, within = "24h"}}')
        return None
    check_keys(place, GRANTABLE, "grantable")
    uses, within = _whole(place.at("uses"), MOST_USES), place.at("within").duration()
    total = _said(place, "total", _money)
    vary = place.at("vary").names() if place.has("vary") else ()
    if uses is None or within is None:
        return None
    return Bounds(uses=uses, within=within, total=total, vary=tuple(str(at.value) for at in vary))


# --- meters ---


def _meter(name: str, place: Place, origin: str, people: list[Mention]) -> Meter | None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{limit, window, scope}}")
        return None
    if not name.strip():
        place.complain("the meter has no name; give it one")
    check_keys(place, METER, "a meter")
    limit, window = _money(place.at("limit")), _window(place.at("window"))
    scope = _scope(place.at("scope"), tuple(Scope)) if place.has("scope") else ()
    soft = _said(place, "soft", lambda at: _soft(at, limit, people))
    over = _over(place)
    _check_hard(place)
    if limit is None or window is None or scope is None or (over is Over.ASK and soft is None):
        return None
    return Meter(
        name=name, origin=origin, limit=limit, window=window, scope=scope, soft=soft, over=over
    )


def _window(place: Place) -> Window | None:
    if not isinstance(place.value, dict):
        place.complain(
            f'this is {shown(place.value)}; write {{calendar = "day"}}, {{rolling = "24h"}} or'
            " {all_time = true}"
        )
        return None
    kinds = [each for each in WINDOWS if place.has(each)]
    if len(kinds) != 1:
        place.complain("a window has one of calendar, rolling and all_time; write exactly one")
        return None
    check_keys(place, WINDOWS[kinds[0]], f"a window of kind {kinds[0]}")
    match kinds[0]:
        case "calendar":
            return _calendar(place)
        case "rolling":
            span = place.at("rolling").duration()
            return None if span is None else Rolling(span=span)
        case _:
            if place.at("all_time").value is not True:
                place.at("all_time").complain("write true, or another kind of window")
            return AllTime()


def _calendar(place: Place) -> Calendar | None:
    unit = place.at("calendar").word(Unit)
    zone = place.at("zone").text() if place.has("zone") else "UTC"
    first = _said(place, "week_start", lambda at: at.word(Weekday)) or Weekday.MONDAY
    if zone and not is_zone(zone):
        place.at("zone").complain(
            f'there is no time zone {shown(zone)}; write one as "Europe/Berlin", or "UTC"'
        )
    if place.has("week_start") and unit is not Unit.WEEK:
        place.at("week_start").complain('only a week has such a start; write calendar = "week"')
    return None if unit is None else Calendar(unit=unit, zone=zone, week_start=first)


def _soft(place: Place, limit: Money | None, people: list[Mention]) -> Soft | None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{override_by, up_to}}")
        return None
    check_keys(place, SOFT, "a soft limit")
    who, up_to = place.at("override_by").names(), _money(place.at("up_to"))
    if not who:
        place.at("override_by").complain("nobody may override; name somebody, or remove soft")
    people.extend(Mention(text=str(at.value), path=at.pointer) for at in who)
    if up_to is None or limit is None:
        return None
    if up_to.currency != limit.currency:
        place.at("up_to").complain(f"a meter has one currency; write it in {limit.currency}")
        return None
    return Soft(override_by=tuple(str(at.value) for at in who), up_to=up_to)


def _over(place: Place) -> Over:
    over = _said(place, "over", lambda at: at.word(Over)) or Over.DENY
    if over is Over.ASK and not place.has("soft"):
        place.at("over").complain(
            "nobody may exceed this meter, so there is nobody to ask; say with soft who may"
        )
    return over


def _check_hard(place: Place) -> None:
    hard = _said(place, "hard", Place.flag)
    if hard is True and place.has("soft"):
        place.at("hard").complain("a hard meter has nobody who may exceed it; remove hard or soft")
    if hard is False and not place.has("soft"):
        place.at("hard").complain("say with soft who may exceed the limit, and by how much")


# --- rates ---


def _limit(entry: Place, pointer: str, origin: str, *, ours: bool) -> Rate | None:
    if not isinstance(entry.value, dict):
        entry.complain(f"this is {kind(entry.value)}; write {{counter, window, max, scope}}")
        return None
    check_keys(entry, OUR_LIMIT if ours else LIMIT, "a limit")
    counter, window = entry.at("counter").text(), entry.at("window")
    algorithm = _said(entry, "algorithm", lambda at: at.word(Algorithm)) or Algorithm.RING
    if not ours and _beyond_a_ring(entry.at("max").value):
        # PolicyLayer itself counts by the calendar, so its file loses nothing.
        algorithm = Algorithm.CALENDAR
    most = _most(entry.at("max"), algorithm)
    scope = _limit_scope(entry.at("scope")) if entry.has("scope") else ()
    if not isinstance(window.value, str) or window.value not in LIMIT_WINDOWS:
        window.complain(f"this is {shown(window.value)}; write one of {', '.join(LIMIT_WINDOWS)}")
        return None
    if not counter or most is None or scope is None:
        return None
    return Rate(
        origin=origin,
        # Not by its place in the list: rearranging must not mix up what was counted.
        name=f"{pointer}/{counter}/{window.value}",
        path=entry.pointer,
        max=most,
        window=LIMIT_WINDOWS[window.value],
        scope=scope,
        algorithm=algorithm,
    )


def _limit_scope(place: Place) -> tuple[Scope, ...] | None:
    if isinstance(place.value, str) and place.value in LIMIT_SCOPES:
        return (LIMIT_SCOPES[place.value],)
    return _scope(place, RATE_SCOPES)


def _most(place: Place, algorithm: Algorithm) -> int | None:
    most = _whole(place, MOST_COUNTED)
    if algorithm is Algorithm.CALENDAR or not _beyond_a_ring(most):
        return most
    place.complain(
        f"more than {MOST_SLOTS} calls are not counted exactly; write less, or"
        ' algorithm = "calendar" beside it (in dialect "approval-1")'
    )
    return None


def _beyond_a_ring(most: object) -> bool:
    return isinstance(most, int) and most > MOST_SLOTS


def _cost(place: Place, most: int | None) -> int | None:
    cost = _whole(place, MOST_COUNTED)
    if cost is not None and most is not None and cost > most:
        place.complain(f"no call would ever pass; write at most max, which is {most}")
        return None
    return cost


def _seconds(place: Place) -> timedelta | None:
    if isinstance(place.value, str):
        return place.duration()
    seconds = _whole(place, LONGEST // timedelta(seconds=1), "seconds")
    return None if seconds is None else timedelta(seconds=seconds)


# --- grants ---


def _grant(entry: Place) -> Grant | None:
    if not isinstance(entry.value, dict):
        entry.complain(f"this is {kind(entry.value)}; write {{agent, tools, expires}}")
        return None
    check_keys(entry, GRANT, "a grant")
    agent, tools = entry.at("agent").text(), tuple(_granted_tools(entry.at("tools")))
    if not any(entry.has(end) for end in ("expires", "uses", "total")):
        entry.complain("this grant would never end; write expires, uses or total")
    grant = Grant(
        id=_grant_id(entry, tools),
        agent=agent,
        tools=tools,
        upstream=_said(entry, "upstream", Place.text),
        conditions=read_conditions(entry),
        max_per_call=_said(entry, "max_per_call", _money),
        total=_said(entry, "total", _money),
        uses=_said(entry, "uses", lambda at: _whole(at, MOST_COUNTED)),
        not_before=_said(entry, "not_before", _instant),
        expires=_said(entry, "expires", _instant),
        reason=_said(entry, "reason", Place.text) or "",
        path=entry.pointer,
    )
    _check_bounds(entry, grant)
    return grant


def _granted_tools(place: Place) -> Iterator[ToolPattern]:
    if place.value == []:
        place.complain("this list is empty, so nothing would be granted; name a tool")
    for at in place.names():
        yield tool_pattern(str(at.value), at.pointer)


def _grant_id(entry: Place, tools: tuple[ToolPattern, ...]) -> str:
    if entry.has("name"):
        return f"file:{entry.at('name').text()}"
    known_by = [entry.at(key).value for key in ("agent", "upstream", "conditions")]
    return f"file:{stable_id('grant', known_by, sorted(tool.text for tool in tools))[:32]}"


def _check_bounds(entry: Place, grant: Grant) -> None:
    begins, ends = grant.not_before, grant.expires
    if begins is not None and ends is not None and begins >= ends:
        entry.at("expires").complain("it ends before it begins; write a later instant")
    each, total = grant.max_per_call, grant.total
    if each is not None and total is not None and each.currency != total.currency:
        entry.at("total").complain(f"a grant has one currency; write it in {each.currency}")


# --- what they share ---


def _said(place: Place, key: str, read: Callable[[Place], Value]) -> Value | None:
    return read(place.at(key)) if place.has(key) else None


def _scope(place: Place, known: tuple[Scope, ...]) -> tuple[Scope, ...] | None:
    places = place.names()
    strange = [at for at in places if at.value not in list(known)]
    for at in strange:
        at.complain(f"there is no scope {shown(at.value)}; write {', '.join(known)}, or [] for all")
    if strange or not isinstance(place.value, str | list):
        return None
    return tuple(Scope(str(at.value)) for at in places)


def _money(place: Place) -> Money | None:
    try:
        money = Money.parse(place.text())
    except ValueError as error:
        if isinstance(place.value, str) and place.value.strip():
            place.complain(str(error))
        return None
    if money.minor == 0:
        place.complain("a limit of zero lets nothing pass; write an amount, or a deny_if")
        return None
    return money


def _whole(place: Place, most: int, what: str = "") -> int | None:
    value = place.value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    of_what = f" of {what}" if what else ""
    place.complain(f"this is {shown(value)}; write a whole number{of_what} from 1 to {most}")
    return None


def _instant(place: Place) -> datetime | None:
    if isinstance(place.value, str) and _INSTANT.fullmatch(place.value):
        try:
            return datetime.fromisoformat(place.value)
        except ValueError:
            # A thirtieth of February is written well, and is no day.
            pass
    place.complain(f'this is {shown(place.value)}; write "2026-12-31T00:00:00Z", with its zone')
    return None
