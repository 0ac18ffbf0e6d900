"""Units of work: what is read and written together, and what the database refuses."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import intake, steps
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, CallId, Choice, Listener, Status
from approval.core.demand import Holdings
from approval.core.lifecycle import Change, Event
from approval.errors import Conflict, NotFound, Refused
from approval.ports import Credential
from approval.store import sql
from approval.store.store import SqlStore
from tests.factories import (
    NOTHING,
    NOW,
    Clock,
    make_asked,
    make_call,
    make_directory,
    make_lease,
    make_verdict,
)
from tests.store.conftest import Database, cancel, decide, hold


async def claim(store: SqlStore, call: Call) -> Call:
    def step(call: Call, now: datetime) -> Change:
        return steps.claim(
            call,
            NOTHING,
            lease=make_lease(),
            directory=make_directory(),
            verdict=make_verdict(),
            now=now,
        )

    return (await store.advance(call.id, step)).call


async def answer(store: SqlStore, call: Call, found: Answer) -> Call:
    def step(call: Call, now: datetime) -> Change:
        return steps.answer(call, found, owner="me", now=now)

    return (await store.advance(call.id, step)).call


FOUND = Answer(status=Status.EXECUTED, body=b'{"result":{"sid":"PN1"}}')


async def executed(store: SqlStore, number: int = 1) -> Call:
    held = await hold(store, number=number)
    return await answer(store, await claim(store, await decide(store, held)), FOUND)


# --- a call's life ---


async def test_a_call_is_kept_at_every_stage_exactly_as_the_step_made_it(
    store: SqlStore,
) -> None:
    stages = [await hold(store)]
    assert await store.get(stages[-1].id) == stages[-1]
    for stage in (decide, claim):
        stages.append(await stage(store, stages[-1]))
        assert await store.get(stages[-1].id) == stages[-1]
    stages.append(await answer(store, stages[-1], FOUND))
    assert await store.get(stages[-1].id) == stages[-1]
    assert [str(call.status) for call in stages] == [
        "pending",
        "approved",
        "executing",
        "executed",
    ]
    assert await store.answer(stages[-1].id) == FOUND


async def test_an_answer_is_kept_only_when_there_is_one(store: SqlStore) -> None:
    call = await hold(store)
    assert await store.answer(call.id) is None
    assert await store.answer(CallId("apr_nobody")) is None


@pytest.mark.parametrize("arguments", [{}, {"a": "\x00"}, {"a": "\U0001f4de"}, ["x"] * 9])
async def test_arguments_are_kept_byte_by_byte(
    store: SqlStore, arguments: dict[str, str] | list[str]
) -> None:
    asked = make_asked(arguments)  # type: ignore[arg-type]
    held = await hold(store, asked)
    assert (await store.get(held.id)).asked == asked


async def test_a_call_that_is_not_there_is_not_found(store: SqlStore) -> None:
    nobody = CallId("apr_nobody")
    with pytest.raises(NotFound):
        await store.get(nobody)
    with pytest.raises(NotFound):
        await cancel(store, nobody)
    assert await store.trail() == ()


async def test_a_step_that_finds_nothing_to_do_writes_nothing(store: SqlStore) -> None:
    call = await hold(store)
    before = await store.trail()
    change = await store.advance(call.id, lambda call, now: steps.expire(call, now=now))
    assert change == Change(call=call)
    assert (await store.get(call.id), await store.trail()) == (call, before)


async def test_a_step_that_refuses_leaves_no_trace(store: SqlStore) -> None:
    call = await cancel(store, (await hold(store)).id)
    before, mark = await store.trail(), (await store.changes(-1))[1]
    with pytest.raises(Conflict, match="takes no decision"):
        await decide(store, call)
    assert (await store.get(call.id), await store.trail()) == (call, before)
    assert await store.changes(mark) == ((), mark)


async def test_a_change_of_another_version_is_refused(store: SqlStore) -> None:
    held = await hold(store)

    def step(call: Call, now: datetime) -> Change:
        moved = replace(call, id=CallId("apr_other"), version=2)
        return Change(call=moved, event=Event.CANCEL, previous=Status.PENDING, actor="x")

    with pytest.raises(Conflict, match="changed at the same moment"):
        await store.advance(held.id, step)
    assert await store.get(held.id) == held


async def test_a_change_of_an_older_version_is_refused(store: SqlStore) -> None:
    read_before = await hold(store)
    await decide(store, read_before)
    late = steps.cancel(read_before, actor="agent:x", reason="", now=NOW)
    with pytest.raises(Conflict, match="changed at the same moment"):
        await store._engine.write(lambda work: sql._save(work, read_before, late))
    assert (await store.get(read_before.id)).status is Status.APPROVED
    assert len(await store.trail()) == 2


async def test_a_change_of_a_call_that_was_not_there_is_a_mistake(store: SqlStore) -> None:
    change = Change(call=make_call(), event=Event.JOIN, previous=Status.PENDING, actor="x")
    with pytest.raises(ValueError, match="was not there"):
        await store.admit(make_asked(), None, lambda existing, holdings, now: change)


async def test_two_live_calls_for_one_request_are_refused_whatever_the_step_says(
    store: SqlStore,
) -> None:
    await hold(store)

    def twice(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        return intake.begin(
            make_asked(),
            make_verdict(),
            holdings,
            call_id=CallId("apr_2"),
            lease=make_lease(),
            now=now,
        )

    with pytest.raises(Conflict, match="an equal call was admitted"):
        await store.admit(make_asked(), None, twice)
    assert len((await store.find()).calls) == 1


# --- equal calls ---


async def test_an_equal_request_joins_the_live_call(store: SqlStore) -> None:
    first = await hold(store)
    second = await hold(store, number=2)
    assert (second.id, second.version) == (first.id, 2)
    assert await store.get(first.id) == second


@pytest.mark.parametrize(
    "different",
    [
        make_asked({"phone_number": "+14155550101"}),
        make_asked(tool="other"),
        make_asked(upstream="other"),
        make_asked(agent="other-agent"),
        make_asked(key="2"),
    ],
)
async def test_whatever_is_asked_differently_is_another_call(
    store: SqlStore, different: object
) -> None:
    assert isinstance(different, type(make_asked()))
    first, second = await hold(store), await hold(store, different, number=2)
    assert first.id != second.id


async def test_the_live_call_is_found_even_while_the_clock_stands_still(store: SqlStore) -> None:
    # Ids sort by time; set back, the store's clock stands still, and they sort by chance.
    ended = await hold(store, number=2**70)
    await cancel(store, ended.id)
    await store.deliver(ended.id)
    live = await hold(store, number=1)
    assert live.id < ended.id
    assert (await hold(store, number=3)).id == live.id


async def test_of_ended_calls_the_latest_answers(store: SqlStore, clock: Clock) -> None:
    first = await executed(store)
    await store.deliver(first.id)
    clock.advance(seconds=1)
    second = await executed(store, 2)
    assert (await hold(store, number=3)).id == second.id
    await store.deliver(second.id)
    assert (await hold(store, number=4)).id not in {first.id, second.id}


async def test_a_key_that_stands_for_another_call_is_refused_for_a_day(
    store: SqlStore, clock: Clock
) -> None:
    await hold(store, make_asked(key="k"))
    others = [
        make_asked({"other": True}, key="k"),
        make_asked(key="k", tool="other"),
        make_asked(key="k", upstream="other"),
    ]
    for other in others:
        with pytest.raises(Refused) as refused:
            await hold(store, other)
        assert (refused.value.code, refused.value.retryable) == ("key_reused", False)
    assert (await hold(store, make_asked({"other": True}, key="k", agent="other-agent"), 2)).id
    clock.advance(hours=24)
    assert (await hold(store, others[0], 3)).version == 1


# --- what the agent knows, and what it was handed ---


async def test_what_the_agent_knows_is_noted_without_a_new_version(store: SqlStore) -> None:
    call = await hold(store)
    mark = (await store.changes(-1))[1]
    await store.listen(call.id, Listener.TOLD, "other")
    expected = replace(call, listener=Listener.TOLD, listener_owner="other")
    assert await store.get(call.id) == expected
    assert (await store.changes(mark))[0] == ((call.id, 0),)


async def test_what_the_agent_knows_of_an_ended_call_no_longer_matters(store: SqlStore) -> None:
    call = await cancel(store, (await hold(store)).id)
    mark = (await store.changes(-1))[1]
    await store.listen(call.id, Listener.GONE, "other")
    assert await store.get(call.id) == call
    assert await store.changes(mark) == ((), mark)


async def test_only_who_held_the_line_says_that_the_agent_has_gone(store: SqlStore) -> None:
    call = await hold(store)
    await store.listen(call.id, Listener.GONE, "somebody else")
    assert await store.get(call.id) == call
    await store.listen(call.id, Listener.GONE, call.listener_owner)
    assert (await store.get(call.id)).listener is Listener.GONE
    await store.listen(call.id, Listener.TOLD, call.listener_owner)
    await store.listen(call.id, Listener.GONE, call.listener_owner)
    assert (await store.get(call.id)).listener is Listener.TOLD


async def test_only_the_first_delivery_stands(store: SqlStore, clock: Clock) -> None:
    call = await executed(store)
    await store.deliver(call.id)
    clock.advance(minutes=1)
    await store.deliver(call.id)
    assert await store.get(call.id) == replace(call, delivered_at=NOW)
    lines = await store.trail(subject=call.id)
    assert [b'"tag":"call:deliver"' in line.body for line in lines].count(True) == 1


async def test_what_has_no_outcome_is_not_delivered(store: SqlStore) -> None:
    held = await hold(store)
    await store.deliver(held.id)
    assert await store.get(held.id) == held
    claimed = await claim(store, await decide(store, held))
    doubtful = await store.advance(
        claimed.id, lambda call, now: steps.lose(call, why="reset", actor="service:me")
    )
    await store.deliver(held.id)
    late = await answer(store, doubtful.call, FOUND)
    # The repeat still collects what the late answer brought.
    assert (await hold(store, number=2)).id == late.id


# --- lists ---


async def test_pages_hold_every_call_once_newest_first(store: SqlStore, clock: Clock) -> None:
    held = []
    for number in range(5):
        held.append(await hold(store, make_asked({"number": number}), number))
        clock.advance(seconds=1)
    seen: list[Call] = []
    after = None
    while True:
        page = await store.find(limit=2, after=after)
        seen += page.calls
        after = page.next
        if after is None:
            break
    assert seen == held[::-1]


async def test_only_calls_in_the_wanted_states_are_listed(store: SqlStore) -> None:
    ended = await cancel(store, (await hold(store)).id)
    live = await hold(store, make_asked({"number": 1}), 2)
    assert (await store.find(states={Status.PENDING})).calls == (live,)
    assert (await store.find(states=[Status.CANCELLED, Status.EXPIRED])).calls == (ended,)
    assert (await store.find(states={Status.EXECUTED})).calls == ()


async def test_a_call_is_due_after_its_deadline_and_not_at_it(
    store: SqlStore, clock: Clock
) -> None:
    call = await hold(store)
    clock.now = call.decide_before
    assert await store.due() == ()
    clock.advance(microseconds=1)
    assert await store.due() == (call.id,)
    await store.advance(call.id, lambda call, now: steps.expire(call, now=now))
    assert await store.due() == ()


async def test_every_change_is_told_once_and_in_order(store: SqlStore, other: SqlStore) -> None:
    _, mark = await other.changes(-1)
    call = await hold(store)
    await cancel(store, call.id)
    told, later = await other.changes(mark)
    assert told == ((call.id, 1), (call.id, 2))
    assert await other.changes(later) == ((), later)


async def test_notices_but_the_newest_are_forgotten_after_an_hour_and_marks_stay_good(
    store: SqlStore, clock: Clock
) -> None:
    call, other = await hold(store), await hold(store, make_asked({"n": 2}), number=2)
    _, mark = await store.changes(-1)
    clock.advance(hours=1, microseconds=1)
    await store.heartbeat("me")
    assert (await store.changes(0))[0] == ((other.id, 1),)
    assert (await store.changes(-1))[1] == mark
    await cancel(store, call.id)
    assert (await store.changes(mark))[0] == ((call.id, 2),)


async def test_notices_of_the_last_hour_are_kept_for_those_who_have_not_read_them(
    store: SqlStore, clock: Clock
) -> None:
    _, mark = await store.changes(-1)
    call = await hold(store)
    await cancel(store, call.id)
    clock.advance(hours=1)
    await store.heartbeat("me")
    assert (await store.changes(mark))[0] == ((call.id, 1), (call.id, 2))


# --- processes ---


async def test_a_process_lives_for_fifteen_seconds_after_its_last_sign(
    store: SqlStore, other: SqlStore, clock: Clock
) -> None:
    await store.heartbeat("a")
    clock.advance(seconds=1)
    await other.heartbeat("b")
    assert await other.living() == {"a", "b"}
    clock.advance(seconds=14)
    assert await store.living() == {"a", "b"}
    clock.advance(microseconds=1)
    assert await store.living() == {"b"}
    await store.heartbeat("a")
    assert await store.living() == {"a", "b"}


async def test_the_dead_are_forgotten(store: SqlStore, clock: Clock, database: Database) -> None:
    await store.heartbeat("a")
    clock.advance(minutes=1, microseconds=1)
    await store.heartbeat("b")
    assert await database.execute("SELECT instance FROM process") == [("b",)]


# --- credentials ---

ISSUE = Entry(tag=Tag.TOKEN_ISSUE, subject="ann", actor="cli")
SPEND = Entry(tag=Tag.LOGIN_OPEN, subject="login", actor="web", facts={"from": "::1"})


def credential(digest: str = "d1", **changes: object) -> Credential:
    kept = Credential(digest=digest, kind="login", subject="ann", created_at=NOW)
    return replace(kept, **changes)  # type: ignore[arg-type]


async def test_a_credential_is_spent_once(store: SqlStore) -> None:
    await store.keep_credential(credential(), ISSUE)
    assert await store.credentials("login") == (credential(),)
    assert await store.credentials("session") == ()
    assert await store.spend_credential("session", "d1", SPEND) is None
    assert await store.spend_credential("login", "d2", SPEND) is None
    assert await store.spend_credential("login", "d1", SPEND) == credential()
    assert await store.spend_credential("login", "d1", SPEND) is None
    assert await store.credentials("login") == ()
    lines = [line.body for line in await store.trail()]
    assert len(lines) == 2
    assert b'"facts":{"bearer":"ann","from":"::1"}' in lines[1]


async def test_a_credential_ends_at_its_time(store: SqlStore, clock: Clock) -> None:
    timed = credential(expires_at=NOW + timedelta(minutes=5))
    await store.keep_credential(timed, ISSUE)
    clock.advance(minutes=5, microseconds=-1)
    assert await store.credentials("login") == (timed,)
    other = replace(timed, digest="d2")
    await store.keep_credential(other, ISSUE)
    assert await store.spend_credential("login", "d2", SPEND) == other
    clock.advance(microseconds=1)
    assert await store.credentials("login") == ()
    assert await store.spend_credential("login", "d1", SPEND) is None


async def test_expired_credentials_are_forgotten_when_the_next_is_issued(
    store: SqlStore, clock: Clock, database: Database
) -> None:
    await store.keep_credential(credential(expires_at=NOW + timedelta(minutes=5)), ISSUE)
    await store.keep_credential(credential("d2"), ISSUE)
    clock.advance(minutes=5)
    await store.keep_credential(credential("d3"), ISSUE)
    kept = await database.execute("SELECT digest FROM credential ORDER BY digest")
    assert kept == [("d2",), ("d3",)]


async def test_one_secret_is_not_kept_twice(store: SqlStore) -> None:
    await store.keep_credential(credential(), ISSUE)
    with pytest.raises(Conflict, match=r"does not take this: .*(UNIQUE|Unique)"):
        await store.keep_credential(credential(subject="bob"), ISSUE)
    assert await store.credentials("login") == (credential(),)
    assert len(await store.trail()) == 1


# --- the trail ---


async def test_the_trail_is_read_in_order_in_parts_and_by_subject(store: SqlStore) -> None:
    call = await hold(store)
    await store.journal(ISSUE)
    await decide(store, call, Choice.REJECT)
    lines = await store.trail()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert await store.trail(after=1, limit=1) == lines[1:2]
    assert await store.trail(subject=call.id) == (lines[0], lines[2])
