import pytest

from approval.core import audit
from approval.core.audit import GENESIS, Entry, Tag
from approval.web.text import pieces, plain
from approval.web.timeline import DID, Moment, moments
from tests.factories import NOW, make_directory


def words_of(entry: Entry, person: str = "") -> Moment:
    written = audit.write(entry, seq=1, at=NOW, previous=GENESIS)
    return moments([written], make_directory(), person)[0]


def test_every_tag_is_worded() -> None:
    assert set(DID) == set(Tag)


def test_an_entry_reads_as_a_sentence_with_the_persons_words() -> None:
    facts = {"reason": "No \u202epremium", "via": "web", "version": 2}
    entry = Entry(tag=Tag.CALL_REJECT, subject="apr_1", actor="person:ann", facts=facts)
    moment = words_of(entry)
    assert (moment.who, moment.did, moment.via) == (pieces("Ann"), "rejected", "web")
    assert moment.words == pieces("No \u202epremium")
    assert (moment.seq, moment.at, moment.tag) == (1, NOW, "call:reject")
    assert len(moment.hash) == 64
    assert moment.held
    assert words_of(entry, "ann").who == pieces("You")


def test_an_entry_without_facts_or_words_says_no_more() -> None:
    moment = words_of(Entry(tag=Tag.SERVICE_START, subject="service", actor="service"))
    assert (moment.words, moment.facts, moment.via, moment.held) == ((), (), "", False)


def test_of_a_credential_the_kind_is_told() -> None:
    entry = Entry(tag=Tag.TOKEN_ISSUE, subject="ann", actor="operator", facts={"kind": "login"})
    assert words_of(entry).did == "issued a credential (login)"


def test_of_an_alert_the_meter_and_its_share_are_told() -> None:
    facts = {"meter": "pot", "percent": 80, "limit": "50.00 USD"}
    entry = Entry(tag=Tag.METER_ALERT, subject="apr_1", actor="agent:ops-agent", facts=facts)
    assert words_of(entry).did == "filled a meter: pot is at 80 % of 50.00 USD"


def test_of_an_overrun_it_is_told_what_was_taken_and_what_follows() -> None:
    facts = {"overrun": "5.00 USD", "frozen": True}
    entry = Entry(tag=Tag.CALL_SUCCEED, subject="apr_1", actor="service:x", facts=facts)
    assert words_of(entry).did == (
        "recorded the answer: executed (it took 5.00 USD, more than was approved)"
        " (the tool is frozen for its agent)"
    )


def test_of_an_amount_that_was_not_taken_over_the_reason_is_told() -> None:
    facts = {"actual_refused": "above_cap"}
    entry = Entry(tag=Tag.CALL_SUCCEED, subject="apr_1", actor="service:x", facts=facts)
    assert words_of(entry).did == (
        "recorded the answer: executed (what it says it took is not taken over: above_cap)"
    )


@pytest.mark.parametrize("tag", [Tag.CALL_CORRECT, Tag.CALL_SETTLE_EXECUTED])
def test_of_what_a_person_says_of_the_money_the_amount_is_told(tag: Tag) -> None:
    facts = {"actual": "5.00 USD", "evidence": "invoice 7"}
    moment = words_of(Entry(tag=tag, subject="apr_1", actor="person:dora", facts=facts))
    assert moment.did == f"{DID[tag]} (it took 5.00 USD)"
    assert moment.words == pieces("invoice 7")


def test_calls_without_a_record_have_no_page_to_go_to() -> None:
    entry = Entry(tag=Tag.CALL_DENY, subject="apr_1", actor="policy", facts={"tool": "\x1b"})
    moment = words_of(entry)
    assert not moment.held
    assert moment.facts == pieces('{"tool":"\\u001b"}')


def test_a_hostile_subject_is_drawn() -> None:
    entry = Entry(tag=Tag.LOGIN_REFUSE, subject="x", actor="agent:\u202ex")
    assert plain("".join(piece.text for piece in words_of(entry).who)) == "The agent [U+202E]x"
