"""Amounts that people type: over the API, and in the console's forms."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Call, Choice, Status
from approval.core.grants import Grant
from approval.core.identity import Right
from approval.core.money import Money
from approval.core.policy import tool_pattern
from approval.core.rulebook import Rulebook
from tests.factories import ANN_TOKEN, BOB_TOKEN, CARL_TOKEN, Clock, make_directory, make_rulebook
from tests.web.scripting import Reply, Script, script
from tests.web.serving import Browser, Page, Site, serve, tags, trail

TOOL = "create_incoming_phone_number"


def typing(up_to: str = "500.00 USD", approvals: int = 1) -> Rulebook:
    rights = {Right.SETTLE: frozenset({"dora"}), Right.READ_ALL: frozenset({"dora", "ann"})}
    document = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "defaults": {"require_approval": {"approvers": "finance", "quorum": approvals}},
        "tools": {
            TOOL: {
                "title": "buy a phone number",
                "spend": {"amount": {"ask": True, "up_to": up_to}, "meters": ["pot"]},
            }
        },
        "meters": {"pot": {"limit": "5000.00 USD", "window": {"calendar": "day"}}},
    }
    return make_rulebook(document, directory=make_directory(rights=rights))


@pytest.fixture
async def priced(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with serve(tmp_path, rules=typing(), clock=clock) as served:
        yield served


async def held(site: Site) -> tuple[int, int]:
    [pot] = await site.service.budgets.pots()
    return pot.held.minor, pot.spent.minor


async def approve(given: Script, call: Call, **body: object) -> Reply:
    sent = {"decision": "approve", "digest": call.digest, **body}
    return await given.post(f"/v1/calls/{call.id}/decision", sent)


# --- the API ---


async def test_an_approval_says_what_it_costs_and_the_rest_is_free_at_once(priced: Site) -> None:
    call = await priced.hold()
    async with script(priced, ANN_TOKEN) as ann:
        shown = (await ann.get(f"/v1/calls/{call.id}")).json
        assert (shown["amount"], shown["up_to"]) == (None, usd("500.00"))
        assert await held(priced) == (50000, 0)
        reply = await approve(ann, call, amount="12.34 USD")
        assert (reply.status, reply.json["state"]) == (200, "approved")
        assert (reply.json["amount"], reply.json["up_to"]) == (usd("12.34"), usd("500.00"))
        assert [vote["amount"] for vote in reply.json["votes"]] == [usd("12.34")]
        again = await approve(ann, call, amount={"amount": "12.34", "currency": "USD"})
        assert (again.status, again.json["version"]) == (200, reply.json["version"])
        assert (await approve(ann, call, amount="12.35 USD")).code == "conflict"
    assert await held(priced) == (1234, 0)
    [entry] = [each for each in await trail(priced) if each["tag"] == Tag.CALL_APPROVE]
    assert entry["facts"]["amount"] == "12.34 USD"
    await priced.run(call)
    assert await held(priced) == (0, 1234)


def loaded() -> Entry:
    return Entry(tag=Tag.POLICY_LOAD, subject="", actor="operator", facts={})


def usd(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "USD"}


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ({}, "amount:missing"),
        ({"amount": "-1.00 USD"}, "amount:negative"),
        ({"amount": "500.01 USD"}, "amount:above_bound"),
        ({"amount": "12.5 USD"}, "amount:decimals"),
        ({"amount": "12.345 USD"}, "amount:inexact"),
        ({"amount": "12.34 EUR"}, "amount:currency"),
        ({"amount": "1e1 USD"}, "amount:exponent_text"),
        ({"amount": {"amount": "0.00", "currency": "USD"}}, "amount:zero"),
        ({"amount": 12}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": {"amount": "1.00", "currency": "USD", "x": 1}}, "amount"),
    ],
)
async def test_what_cannot_be_typed_is_refused_with_its_reason_and_nothing_moves(
    priced: Site, amount: dict[str, object], code: str
) -> None:
    call = await priced.hold()
    async with script(priced, ANN_TOKEN) as ann:
        reply = await approve(ann, call, **amount)
        assert (reply.status, reply.code) == (422, code)
    assert await priced.service.get(call.id) == call
    assert await held(priced) == (50000, 0)
    # What reached the service is in the trail; a body that is no decision at all did not.
    last = (await trail(priced))[-1]
    if code == "amount":
        assert last["tag"] == Tag.CALL_HOLD
        return
    assert (last["tag"], last["subject"]) == (Tag.DECISION_REFUSE, call.id)
    assert last["facts"]["why"] == reply.json["detail"].removesuffix(".")


async def test_whoever_may_not_decide_types_nothing(priced: Site) -> None:
    call = await priced.hold()
    async with script(priced, CARL_TOKEN) as carl:  # answers for the agent, and sees the call
        assert (await approve(carl, call, amount="1.00 USD")).status == 403
        assert (await approve(carl, call, amount="-1.00 USD")).status == 403
    assert await priced.service.get(call.id) == call
    assert await held(priced) == (50000, 0)


async def test_of_two_approvers_the_second_is_told_what_the_first_typed(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, rules=typing(approvals=2)) as site,
        script(site, ANN_TOKEN) as ann,
        script(site, BOB_TOKEN) as bob,
    ):
        call = await site.hold()
        assert (await approve(ann, call, amount="12.34 USD")).json["amount"] is None
        other = await approve(bob, call, amount="12.00 USD")
        assert (other.status, other.code) == (409, "conflict")
        assert "ann typed 12.34 USD" in other.json["detail"]
        assert await held(site) == (50000, 0)
        assert (await approve(bob, call, amount="12.34 USD")).json["amount"] == usd("12.34")
        assert await held(site) == (1234, 0)


async def test_a_reload_lowers_what_may_be_typed(priced: Site) -> None:
    waits, typed = await priced.hold(), await priced.hold({"n": 2}, agent="other-agent")
    async with script(priced, ANN_TOKEN) as ann:
        assert (await approve(ann, typed, amount="250.00 USD")).status == 200
        await priced.service.adopt(typing("200.00 USD"), loaded())
        stale = await approve(ann, waits, amount="100.00 USD")
        assert (stale.status, stale.json["call"]["up_to"]) == (409, usd("200.00"))
        fresh = await priced.service.get(waits.id)
        assert (await approve(ann, fresh, amount="250.00 USD")).code == "amount:above_bound"
        assert (await approve(ann, fresh, amount="200.00 USD")).status == 200
    ran = await priced.run(typed)
    assert (ran.status, ran.note) == (Status.INVALIDATED, "price_changed")


async def test_an_equal_call_joins_and_its_bound_is_held_once(priced: Site) -> None:
    first, second = await priced.hold(), await priced.hold()
    assert (first.id, second.status) == (second.id, Status.PENDING)
    assert await held(priced) == (50000, 0)
    async with script(priced, ANN_TOKEN) as ann:
        assert (await approve(ann, first, amount="12.34 USD")).status == 200
    third = await priced.hold()
    assert (third.id, third.status, third.cost) == (first.id, Status.APPROVED, Money(1234, "USD"))
    assert await held(priced) == (1234, 0)


async def test_under_a_grant_for_everything_somebody_is_asked_all_the_same(tmp_path: Path) -> None:
    wide = Grant(id="g", agent="ops-agent", tools=(tool_pattern("*", ""),))
    rules = replace(typing(), grants=(wide,))
    async with serve(tmp_path, rules=rules) as site:
        call = await site.hold()
        assert (call.status, call.grant) == (Status.PENDING, None)


# --- the console ---


async def test_the_form_asks_for_an_amount_and_says_up_to_what(priced: Site) -> None:
    call = await priced.hold()
    path = f"/calls/{call.id}"
    async with priced.browser("ann") as ann:
        card = await ann.get(f"{path}/card")
        assert "Costs up to $500.00" in card.words
        assert "$5000.00 of $5000.00 left today, at least $4500.00 after this" in card.words
        assert "What it costs, in USD: at most $500.00" in card.words
        assert ("Review" in card.words, 'value="approve"' in card.text) == (False, True)
        page = await ann.get(path)
        assert "What it costs, in USD: at most $500.00" in page.words
        assert "types what it costs, up to 500.00 USD" in page.words
        assert "asked; the call is held for people to decide (up to 500.00 USD)" in page.words
        wrong = await ann.decide(call, "approve", amount="600", reason="fine")
        assert (wrong.status, 'value="600"' in wrong.text) == (422, True)
        assert "Nothing was changed." in wrong.words
        assert "600.00 USD is above 500.00 USD" in wrong.words
        assert (await ann.decide(call, "approve", amount=" ")).status == 422
        assert await held(priced) == (50000, 0)
        assert (await ann.decide(call, "approve", amount=" 12.34 ")).status == 303
        done = await ann.get(path)
    for words in (
        "You approved just now and typed $12.34",
        "Costs $12.34",
        "You approved (12.34 USD)",
    ):
        assert words in done.words
    assert await held(priced) == (1234, 0)
    assert (await tags(priced)).count(Tag.DECISION_REFUSE) == 2


async def from_the_inbox(browser: Browser, call: Call, decision: str, **fields: str) -> Page:
    path = f"/calls/{call.id}/decision"
    hidden = (await browser.get("/")).form(path)
    assert (hidden["currency"], hidden["back"]) == ("USD", "/")
    return await browser.post(path, {**hidden, "decision": decision, **fields})


async def test_an_amount_is_typed_in_the_inbox_under_the_same_checks(priced: Site) -> None:
    call, other = await priced.hold({"n": 1}), await priced.hold({"n": 2})
    async with priced.browser("ann") as ann:
        inbox = await ann.get("/")
        assert inbox.text.count('name="amount"') == inbox.text.count(" required ") == 2
        for typed, told in (
            ("600", "600.00 USD is above 500.00 USD"),
            ("", "type what this call costs"),
            ("12.5", "could be two sums"),
            ("-1.00", "amount"),
            ("12.34 EUR", "EUR"),
        ):
            wrong = await from_the_inbox(ann, call, "approve", amount=typed)
            assert (wrong.status, told in wrong.words) == (422, True)
            assert "Nothing was changed." in wrong.words
            assert f'value="{typed}">' in wrong.text
        assert await held(priced) == (100000, 0)
        done = await from_the_inbox(ann, call, "approve", amount="12.34")
        assert (done.status, done.headers["Location"]) == (303, f"/#{call.id}")
        assert "You approved this" in (await ann.get("/")).words
    assert (await priced.service.get(call.id)).cost == Money(1234, "USD")
    assert (await priced.service.get(other.id)).status is Status.PENDING
    assert await held(priced) == (51234, 0)


@pytest.mark.parametrize("typed", ["", "12.34", "nonsense"])
async def test_the_inbox_denies_without_an_amount(priced: Site, typed: str) -> None:
    call = await priced.hold()
    async with priced.browser("ann") as ann:
        assert 'value="reject" formnovalidate' in (await ann.get("/")).text
        assert (await from_the_inbox(ann, call, "reject", amount=typed)).status == 303
    assert (await priced.service.get(call.id)).status is Status.REJECTED
    assert await held(priced) == (0, 0)


async def test_the_inbox_asks_only_who_may_approve_what_they_see_whole(priced: Site) -> None:
    call = await priced.hold({"body": "x" * 601})
    for person in ("ann", "dora", "carl"):
        async with priced.browser(person) as browser:
            card = await browser.get(f"/calls/{call.id}/card")
        assert 'name="amount"' not in card.text
        assert ("Review" in card.words) is (person == "ann")


async def test_the_inbox_says_what_was_typed_before(tmp_path: Path) -> None:
    async with serve(tmp_path, rules=typing(approvals=2)) as site:
        call = await site.hold()
        await site.decide(call, "bob", Choice.APPROVE, typed="12.34 USD")
        async with site.browser("ann") as ann, site.browser("bob") as bob:
            assert (
                "$12.34 was typed before, and all must type the same" in (await ann.get("/")).words
            )
            assert 'name="amount"' not in (await bob.get("/")).text
            late = await from_the_inbox(ann, call, "approve", amount="12.00")
            assert (late.status, "bob typed 12.34 USD" in late.words) == (409, True)
            assert (await from_the_inbox(ann, call, "approve", amount="12.34")).status == 303


async def test_denying_needs_no_amount_whatever_stands_in_the_field(priced: Site) -> None:
    for number, typed in enumerate(("", "12.34", "nonsense")):
        call = await priced.hold({"n": number})
        async with priced.browser("ann") as ann:
            assert (await ann.decide(call, "reject", amount=typed)).status == 303
        assert (await priced.service.get(call.id)).status is Status.REJECTED
    assert await held(priced) == (0, 0)


async def test_hostile_text_in_the_field_is_only_text(priced: Site) -> None:
    call = await priced.hold()
    async with priced.browser("ann") as ann:
        page = await ann.decide(call, "approve", amount='"><script>alert(1)</script>')
    assert page.status == 422
    assert "<script>alert" not in page.text


async def test_the_pages_script_is_told_why(priced: Site) -> None:
    call = await priced.hold()
    async with priced.browser("ann") as ann:
        path = f"/calls/{call.id}/decision"
        fields = (await ann.get(f"/calls/{call.id}")).form(path)
        sent = {**fields, "decision": "approve", "amount": "600.00"}
        told = await ann.post(path, sent, Accept="application/problem+json")
        assert (told.status, "above 500.00 USD" in told.text) == (422, True)
        assert told.headers["Content-Type"].startswith("application/problem+json")
        await priced.decide(call, "bob", Choice.REJECT)
        late = await ann.post(path, sent, Accept="application/problem+json")
        assert (late.status, "the call is rejected" in late.text) == (409, True)


async def test_a_known_price_has_no_field(site: Site) -> None:
    call = await site.hold()
    async with site.browser("ann") as ann:
        for path in (f"/calls/{call.id}", "/"):
            assert 'name="amount"' not in (await ann.get(path)).text


@pytest.mark.parametrize(
    ("typed", "booked"), [("", 1234), ("12.00", 1200), ("15.00 USD", 1500), ("0", 0)]
)
async def test_a_doubt_is_settled_in_the_form_at_what_it_took(
    priced: Site, clock: Clock, typed: str, booked: int
) -> None:
    call = await doubtful(priced, clock)
    path = f"/calls/{call.id}/settle"
    async with priced.browser("dora") as dora:
        page = await dora.get(f"/calls/{call.id}")
        assert "What it took, in USD (if you know; $12.34 is held)" in page.words
        sent = {**page.form(path), "outcome": "executed", "evidence": "line 7"}
        assert (await dora.post(path, {**sent, "amount": "12.5"})).status == 422
        failed = await dora.post(path, {**sent, "outcome": "failed", "amount": "1.00"})
        assert (failed.status, "took nothing" in failed.words) == (409, True)
        assert await held(priced) == (1234, 0)
        assert (await dora.post(path, {**sent, "amount": typed})).status == 303
    assert await held(priced) == (0, booked)


async def doubtful(site: Site, clock: Clock) -> Call:
    call = await site.hold()
    async with script(site, ANN_TOKEN) as ann:
        await approve(ann, call, amount="12.34 USD")
    lost = await site.lose(call)
    assert lost.amount == Money(1234, "USD")
    clock.advance(minutes=10)
    return lost


async def test_a_doubt_about_what_costs_nothing_asks_for_no_amount(
    site: Site, clock: Clock
) -> None:
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.lose(call)
    async with site.browser("dora") as dora:
        assert 'name="amount"' not in (await dora.get(f"/calls/{call.id}")).text
