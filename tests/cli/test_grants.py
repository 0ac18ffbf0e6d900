"""Grants on the command line: listed by anybody here, given and taken back by whoever may."""

from pathlib import Path

import pytest

from approval.cli.terminal import Exit
from approval.core.call import Status
from tests.cli.desk import AGENT, ANN, BOB, CARL, desk

BUY = "create_incoming_phone_number"
ISSUE = ("grants", "issue", "ops-agent", "--tool", BUY, "--uses", "1", "--for", "24h")


def test_a_grant_lets_as_many_calls_through_as_it_says(tmp_path: Path) -> None:
    at = desk(tmp_path)
    given = at.run(*ISSUE, "--reason", "the move", "--json", token=BOB)
    assert given.code == 0
    assert (given.document["state"], given.document["granted_by"]) == ("in force", "person:bob")
    assert (given.document["uses"], given.document["reason"]) == (1, "the move")

    ran = at.call(at.hold({"phone_number": "+1"}).id)
    assert (ran.status, ran.grant) == (Status.EXECUTING, given.document["id"])
    assert at.hold({"phone_number": "+2"}).status is Status.PENDING


def test_a_revoked_grant_lets_nothing_through(tmp_path: Path) -> None:
    at = desk(tmp_path)
    grant_id = str(at.run(*ISSUE, "--json", token=BOB).document["id"])
    told = at.run("grants", "revoke", grant_id, token=CARL)
    assert (told.code, told.out) == (0, f"{grant_id} is revoked; nothing more passes under it.\n")

    assert at.hold().status is Status.PENDING
    assert "revoked" in at.run("grants").out
    again = at.run("grants", "revoke", grant_id, token=BOB)
    assert again.code == Exit.REFUSED
    assert "revoked already, by person:carl" in again.err


def test_grants_of_the_file_and_issued_ones_are_listed(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert "No agent passes a gate" in at.run("grants").out
    at.run(*ISSUE, "--total", "5.00 USD", token=BOB)
    own = '\n[[grants]]\nname = "nightly"\nagent = "ops-agent"\ntools = ["search_*"]\nuses = 7\n'

    told = at.run("grants", extra=own).out
    assert told.index("file:nightly") < told.index("grt_")
    assert "uses 7" in told
    assert "uses 1, total 5.00 USD, until 20" in told
    listed = at.run("grants", "--json").document["grants"]
    assert isinstance(listed, list)
    assert [each["origin"] for each in listed] == ["file", "cli"]
    refused = at.run("grants", "revoke", "file:nightly", token=BOB)
    assert "remove it there" in refused.err


def test_the_list_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("approval.granting.READ_AT_ONCE", 2)
    at = desk(tmp_path)
    issued = {str(at.run(*ISSUE, "--json", token=BOB).document["id"]) for _ in range(5)}
    listed = at.run("grants", "--json").document["grants"]
    assert isinstance(listed, list)
    assert len(listed) == 5
    assert {each["id"] for each in listed} == issued
    told = at.run("grants").out
    assert all(told.count(grant_id) == 1 for grant_id in issued)


@pytest.mark.parametrize(
    ("token", "words", "told"),
    [
        (None, (), "Deciding needs your own token"),
        (AGENT, (), "agents do not decide"),
        (ANN, (), "ann has no right to give grants"),
        (BOB, ("--upstream", "mall"), "no upstream mall"),
        (BOB, ("--condition", "{"), "A condition is not JSON"),
        (BOB, ("--condition", '{"path": "args.n", "op": "is", "value": 1}'), "is"),
        (BOB, ("--total", "5"), "total"),
        (BOB, ("--for", "tomorrow"), "is no time"),
    ],
)
def test_nothing_is_granted_that_may_not_be(
    tmp_path: Path, token: str | None, words: tuple[str, ...], told: str
) -> None:
    at = desk(tmp_path)
    ended = at.run(*ISSUE, *words, token=token)
    assert ended.code != 0
    assert told in ended.err
    assert at.run("grants", "--json").document == {"grants": []}


def test_a_grant_without_an_end_is_refused(tmp_path: Path) -> None:
    ended = desk(tmp_path).run("grants", "issue", "ops-agent", "--tool", BUY, token=BOB)
    assert "would never end" in ended.err


def test_conditions_are_kept(tmp_path: Path) -> None:
    at = desk(tmp_path)
    condition = '{"path": "args.phone_number", "op": "glob", "value": "+49*"}'
    at.run(*ISSUE, "--condition", condition, token=BOB)
    assert at.hold({"phone_number": "+1"}).status is Status.PENDING
    assert at.hold({"phone_number": "+491"}).status is Status.EXECUTING
