"""Commands on calls: what is shown is what is decided, by a person who proved who they are."""

import asyncio
import json
from pathlib import Path

import pytest

from approval.app.opening import opened
from approval.cli import calls
from approval.cli.terminal import Exit
from approval.config import load
from approval.core import steps
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Factor, Run, Status
from approval.core.canonical import Number
from approval.errors import AnswerLost
from approval.store.store import SqlStore
from tests.cli.desk import AGENT, ANN, BOB, CARL, Desk, desk
from tests.factories import make_asked, make_call, make_requirement


def test_nothing_waits_in_a_new_house(tmp_path: Path) -> None:
    ended = desk(tmp_path).run("pending")
    assert (ended.code, ended.out) == (0, "Nothing waits for a person.\n")


def test_what_waits_is_listed_oldest_first_with_its_whole_id(tmp_path: Path) -> None:
    at = desk(tmp_path)
    first, second = at.hold({"phone_number": "+1"}), at.hold({"phone_number": "+2"})

    told = at.run("pending").out
    assert told.index(first.id) < told.index(second.id)
    assert "shop / create_incoming_phone_number" in told
    assert "14:5" in told
    document = at.run("pending", "--json").document
    assert isinstance(document["calls"], list)
    assert [call["id"] for call in document["calls"]] == [first.id, second.id]
    assert document["calls"][0]["arguments"] == {"phone_number": "+1"}


def test_other_states_are_listed_when_asked_for(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    assert at.run("reject", call.id, token=ANN).code == 0

    assert "Nothing waits" in at.run("pending").out
    assert call.id in at.run("pending", "--state", "rejected").out
    wrong = at.run("pending", "--state", "waiting")
    assert wrong.code == Exit.USAGE
    assert "no state; known: pending" in wrong.err


def test_a_call_is_shown_with_its_exact_arguments_and_digest(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold({"n": Number("1.5"), "phone_number": "+1", "nested": {"b": [1, None]}})

    told = at.run("show", call.id[:20]).out
    assert "ops-agent wants to buy a phone number" in told
    assert call.digest in told
    assert '{"b":[1,null]}' in told
    assert "1.5" in told
    assert "May decide: ann, bob" in told
    assert at.run("show", call.id, "--json").document["digest"] == call.digest


def test_hostile_text_reaches_the_terminal_spelt_out(tmp_path: Path) -> None:
    at = desk(tmp_path)
    hostile = "\x1b[2J[bold]x[/bold]\u202e\x9bA\nerror: fake"
    call = at.hold({"phone_number": hostile, hostile: 1})

    for words in (
        ("pending",),
        ("show", call.id),
        ("show", call.id, "--json"),
        ("pending", "--json"),
    ):
        told = at.run(*words).out
        assert not set("\x1b\x9b\u202e") & set(told), words
        assert "\nerror: fake" not in told
    assert "[bold]x[/bold]" in at.run("show", call.id).out


def test_approving_shows_the_call_and_approves_what_was_shown(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    ended = at.run("approve", call.id, "--reason", "fine", token=ANN)

    assert ended.code == 0
    assert ended.out.index(call.digest) < ended.out.index("is approved by person:ann: fine")
    (vote,) = at.call(call.id).votes
    assert (vote.person, vote.via, vote.digest, vote.reason) == ("ann", "cli", call.digest, "fine")
    again = at.run("approve", call.id, "--json", token=ANN)
    assert (again.code, again.document["state"]) == (0, "approved")
    assert isinstance(again.document["votes"], list)
    assert len(again.document["votes"]) == 1


def test_rejecting_ends_the_call_and_a_later_approval_is_too_late(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    assert at.run("reject", call.id, "--reason", "no", token=ANN).code == 0

    late = at.run("approve", call.id, token=BOB)
    assert late.code == Exit.REFUSED
    assert "rejected" in late.err
    assert at.call(call.id).status is Status.REJECTED


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (None, "Deciding needs your own token: set APPROVAL_TOKEN"),
        ("x" * 40, "That token belongs to nobody here"),
        (AGENT, "That token is an agent's, and agents do not decide"),
        (CARL, "carl is not among those who may decide this call"),
    ],
)
def test_nobody_decides_without_being_one_who_may(
    tmp_path: Path, token: str | None, told: str
) -> None:
    at = desk(tmp_path)
    call = at.hold()
    ended = at.run("approve", call.id, token=token)
    assert ended.code == Exit.REFUSED
    assert told in ended.err
    assert at.call(call.id).status is Status.PENDING


def test_a_mere_claim_counts_only_where_it_is_trusted_and_is_recorded_as_one(
    tmp_path: Path,
) -> None:
    at = desk(tmp_path)
    call = at.hold()
    refused = at.run("approve", call.id, "--as", "ann")
    assert refused.code == Exit.REFUSED
    assert "--as proves nothing" in refused.err

    unknown = at.run("approve", call.id, "--as", "zoe", extra='[approvals]\nlocal = "trust"\n')
    assert "There is no person zoe" in unknown.err
    assert at.run("approve", call.id, "--as", "ann").code == 0
    assert at.call(call.id).votes[0].via == "cli-claimed"


def test_a_token_may_come_from_a_file(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    (tmp_path / "token").write_text(ANN + "\n")
    (tmp_path / "empty").write_text("\n")

    empty = at.run("approve", call.id, "--token-file", str(tmp_path / "empty"), token=BOB)
    assert "is empty" in empty.err
    absent = at.run("approve", call.id, "--token-file", str(tmp_path / "no"), token=BOB)
    assert "cannot be read" in absent.err
    assert at.run("approve", call.id, "--token-file", str(tmp_path / "token"), token=BOB).code == 0
    assert at.call(call.id).votes[0].person == "ann"


def test_a_digest_that_was_noted_must_still_be_the_calls(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    ended = at.run("approve", call.id, "--digest", "0" * 16, token=ANN)
    assert ended.code == Exit.REFUSED
    assert f"The call's digest is {call.digest}" in ended.err
    assert at.run("approve", call.id, "--digest", call.digest[:12], token=ANN).code == 0


def doubtful(at: Desk) -> Call:
    """Put a call on file that was sent and never answered, long ago."""
    call = at.hold()
    assert at.run("approve", call.id, token=ANN).code == 0

    async def lose(sent: Call) -> Answer:
        raise AnswerLost("the line went dead")

    async def execute() -> None:
        async with opened(load(at.config)) as (_, service), service:
            await service.execute(call.id, lose)

    asyncio.run(execute())
    return at.call(call.id)


def test_only_somebody_with_the_right_settles_and_not_too_early(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = doubtful(at)
    assert call.status is Status.IN_DOUBT

    words = ("settle", call.id, "--executed", "--evidence", "it is on the bill")
    assert "ann has no right to settle" in at.run(*words, token=ANN).err
    early = at.run(*words, token=BOB)
    assert early.code == Exit.REFUSED
    assert "a minute after its lease ended" in early.err


def test_a_call_in_doubt_is_settled_with_evidence(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = doubtful(at)
    long_ago(at, call)
    ended = at.run("settle", call.id, "--failed", "--evidence", "no bill", "--json", token=BOB)
    assert (ended.code, ended.document["state"]) == (0, "failed")
    assert ended.document["reason"] == "no bill"


def test_an_amount_is_read_strictly_and_taken_only_where_something_was_spent(
    tmp_path: Path,
) -> None:
    at = desk(tmp_path)
    call = doubtful(at)
    long_ago(at, call)
    words = ("settle", call.id, "--executed", "--evidence", "the bill", "--amount")
    assert "is no amount" in at.run(*words, "1.5 USD", token=BOB).err
    assert "the call has no amount" in at.run(*words, "1.15 USD", token=BOB).err
    correct = ("correct", call.id, "--evidence", "the bill", "--amount")
    assert "is no amount" in at.run(*correct, "1.5 USD", token=BOB).err
    assert "ann has no right to settle" in at.run(*correct, "1.15 USD", token=ANN).err
    assert "the call is in_doubt" in at.run(*correct, "1.15 USD", token=BOB).err
    assert at.call(call.id).version == call.version


def long_ago(at: Desk, call: Call) -> None:
    """Open the store with a clock ahead: time never runs backwards, so it stays ahead."""
    assert call.attempt is not None
    later = call.attempt.lease_until + steps.SETTLE_PAUSE * 2

    async def touch() -> None:
        store = await SqlStore.open(load(at.config).database.url, clock=lambda: later)
        await store.journal(Entry(tag=Tag.SERVICE_START, subject="service", actor="test"))
        await store.close()

    asyncio.run(touch())


def test_the_owner_and_an_admin_cancel_and_nobody_else(tmp_path: Path) -> None:
    at = desk(tmp_path)
    first, second = at.hold({"phone_number": "+1"}), at.hold({"phone_number": "+2"})

    refused = at.run("cancel", first.id, token=ANN)
    assert (refused.code, "neither owns ops-agent nor has the admin" in refused.err) == (1, True)
    assert at.run("cancel", first.id, "--reason", "not needed", token=CARL).code == 0
    assert at.run("cancel", second.id, token=BOB).code == 0
    ended = at.call(first.id)
    assert (ended.status, ended.ended_by, ended.note) == (
        Status.CANCELLED,
        "person:carl",
        "not needed",
    )


def test_an_answer_is_shown_while_it_is_kept(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    assert at.run("approve", call.id, token=ANN).code == 0

    async def send(sent: Call) -> Answer:
        return Answer(status=Status.EXECUTED, body=b'{"result":{"sid":"PN1"}}')

    async def execute() -> None:
        async with opened(load(at.config)) as (_, service), service:
            await service.execute(call.id, send)

    asyncio.run(execute())
    assert 'Answer: {"result":{"sid":"PN1"}}' in at.run("show", call.id).out
    shown = at.run("show", call.id, "--json").document
    assert shown["result"] == {"result": {"sid": "PN1"}}


def test_arguments_that_are_no_object_or_none_are_shown_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls.describe(make_call(asked=make_asked([1, 2]), title=None))
    calls.describe(make_call(asked=make_asked({})))
    told = capsys.readouterr().out
    assert "ops-agent calls a tool" in told
    assert "(all)" in told
    assert "[1,2]" in told
    assert "(none)" in told


def test_a_call_is_written_for_scripts_as_the_api_writes_it() -> None:
    requirement = make_requirement(factors=(Factor(approvers=("ann",)),), run=Run.ON_APPROVAL)
    document = calls.document(make_call(requirement=requirement))
    assert json.loads(json.dumps(document)) == document
    assert document["state"] == "pending"
    assert document["created_at"] == "2026-11-21T12:00:00Z"
    assert document["run_before"] is None


def test_what_a_call_costs_and_would_leave_is_shown_before_it_is_decided(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.config.write_text(
        at.config.read_text().replace(
            "[agents.ops-agent]",
            """spend = { amount = { fixed = "1.15 USD", per = "month" }, meters = ["numbers"] }
[upstreams.shop.policy.meters]
numbers = { limit = "50.00 USD", window = { calendar = "month" }, scope = ["agent"] }
[agents.ops-agent]""",
        )
    )
    call = at.hold()
    assert "$1.15/month" in at.run("pending").out
    for words in (("show", call.id), ("approve", call.id, "--yes")):
        told = at.run(*words, token=ANN).out
        assert "$1.15/month" in told
        assert "$50.00 of $50.00 left this month, $48.85 after this" in told
    shown = at.run("show", call.id, "--json").document
    assert shown["amount"] == {"amount": "1.15", "currency": "USD"}


def test_an_approver_types_what_a_call_costs(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.price('{ ask = true, up_to = "500.00 USD" }')
    call = at.hold()
    assert "up to $500.00" in at.run("pending").out
    assert "at least $4500.00 after this" in at.run("show", call.id).out
    shown = at.run("show", call.id, "--json").document
    assert (shown["amount"], shown["up_to"]) == (None, {"amount": "500.00", "currency": "USD"})

    for words, told in [
        ((), 'Say what it costs, up to 500.00 USD: --amount "12.34 USD".'),
        (("--amount", "500.01 USD"), "500.01 USD is above 500.00 USD"),
        (("--amount", "-1.00 USD"), "is negative"),
        (("--amount", "12.34"), "names no currency"),
    ]:
        refused = at.run("approve", call.id, *words, "--yes", token=ANN)
        assert (refused.code, told in refused.err) == (Exit.REFUSED, True), refused.err
        assert at.call(call.id) == call

    ended = at.run("approve", call.id, "--amount", "12.34 USD", "--json", token=ANN)
    assert ended.document["amount"] == {"amount": "12.34", "currency": "USD"}
    [vote] = at.call(call.id).votes
    assert str(vote.amount) == "12.34 USD"
    told = at.run("show", call.id).out
    assert "$12.34" in told
    assert "approved at 12.34 USD by person:ann" in told
    assert "typed 12.34 USD" in told


def test_rejecting_needs_no_amount(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.price('{ ask = true, up_to = "500.00 USD" }')
    assert at.run("reject", at.hold().id, token=ANN).code == 0


def test_an_approver_gives_a_grant_along_with_the_approval(tmp_path: Path) -> None:
    at = desk(tmp_path)
    rule = 'approvers = ["ann", "bob"]'
    text = at.config.read_text()
    assert rule in text
    bounds = 'grantable = { uses = 10, within = "24h", vary = ["phone_number"] }'
    at.config.write_text(text.replace(rule, f"{rule}, {bounds}"))
    call = at.hold()
    assert "10 uses within 24h; may differ: phone_number" in at.run("show", call.id).out
    for wish, told in [
        ("ten times", 'write it like "10 uses within 24h up to 20.00 USD"'),
        ("11 uses within 24h", "used 10 times at most"),
    ]:
        refused = at.run("approve", call.id, "--grant", wish, "--yes", token=ANN)
        assert (refused.code, told in refused.err) == (Exit.REFUSED, True), refused.err
        assert at.call(call.id) == call
    at.run("approve", call.id, "--grant", "3 uses within 12h", "--yes", token=ANN)
    assert "with a grant of 3 uses within 12h" in at.run("show", call.id).out
    assert "uses 3, until" in at.run("grants").out
