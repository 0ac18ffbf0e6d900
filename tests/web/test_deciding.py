import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Choice, Status
from approval.core.identity import Person
from approval.errors import Forbidden, NotFound
from approval.web.deciding import MAX_REASON, Conflicted, Deciding, ballot, words
from approval.web.problems import Problem
from tests.factories import make_directory, make_rulebook
from tests.web.serving import Site

ANN = make_directory().people["ann"]
CARL = make_directory().people["carl"]
DIGEST = "a" * 64


def code_of(choice: str = "approve", digest: str | None = DIGEST, reason: str = "") -> str:
    with pytest.raises(Problem) as refusal:
        ballot(ANN, choice, digest, reason, via="test")
    return refusal.value.code


def test_a_ballot_says_who_what_and_through_which_door() -> None:
    cast = ballot(ANN, "reject", None, "  no\r\nthanks ", via="web")
    assert (cast.person, cast.choice, cast.digest, cast.via, cast.reason) == (
        "ann",
        Choice.REJECT,
        None,
        "web",
        "no\nthanks",
    )


def test_an_odd_ballot_is_named() -> None:
    assert code_of(choice="Approve") == "decision"
    assert code_of(digest=None) == "digest_required"
    assert code_of(digest="A" * 64) == "digest"
    assert code_of(reason="x" * (MAX_REASON + 1)) == "reason_too_long"


@pytest.mark.parametrize("text", ["\x00", "\x1b[2J", "a\u202eb", "a\u200bb", "\ud800", "\x7f"])
def test_words_hold_nothing_that_no_keyboard_types(text: str) -> None:
    with pytest.raises(Problem, match="control or invisible"):
        words("reason", text)


@pytest.mark.parametrize("text", ["", "line\nline\ttab", "naïve 東京 👩\u200d🚀", "x" * MAX_REASON])
def test_words_of_people_stay_as_they_are(text: str) -> None:
    assert words("reason", text) == text


async def test_nobody_sees_what_they_may_not(site: Site) -> None:
    deciding = Deciding(site.service)
    foreign = await site.hold(agent="other-agent")
    for call_id in (foreign.id, "apr_" + "0" * 26, "", "apr_../../x"):
        with pytest.raises(NotFound):
            await deciding.see(CARL, call_id)
        with pytest.raises(NotFound):
            await deciding.decide(call_id, ballot(CARL, "reject", None, "", via="test"))
    assert (await deciding.see(ANN, foreign.id)).id == foreign.id


async def test_where_nobody_may_decide_that_is_said(site: Site) -> None:
    deciding = Deciding(site.service)
    call = await site.hold()
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="operator")
    gone = make_rulebook(directory=make_directory(people={"carl": CARL}))
    await site.service.adopt(gone, entry)
    with pytest.raises(Forbidden, match="Those who may: nobody"):
        await deciding.decide(call.id, ballot(CARL, "reject", None, "", via="test"))


async def test_an_ended_call_conflicts_before_rights_are_told(site: Site) -> None:
    deciding = Deciding(site.service)
    call = await site.hold()
    await site.decide(call, "bob", Choice.REJECT)
    stranger = Person(name="ann", title="Ann")
    with pytest.raises(Conflicted) as conflict:
        await deciding.cancel(stranger, call.id, "")
    assert conflict.value.call.status is Status.REJECTED
    assert str(conflict.value) == "the call is rejected and takes no cancel"
