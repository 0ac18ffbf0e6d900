"""Who is who, who may decide, and when enough of them have."""

import hashlib
from dataclasses import replace

import pytest

from approval.core.call import Choice, Factor, Requirement, Vote
from approval.core.identity import (
    Agent,
    Directory,
    Person,
    Right,
    attainable,
    barred,
    deciders,
    same_digest,
    satisfied,
    token_digest,
)
from tests.factories import (
    AGENT_TOKEN,
    ANN_TOKEN,
    NOW,
    OTHER_AGENT_TOKEN,
    make_asked,
    make_call,
    make_directory,
    make_requirement,
)

EVERYBODY = (Factor(approvers=("everybody",)),)


def approvals(*people: str) -> tuple[Vote, ...]:
    return tuple(
        Vote(person=person, choice=Choice.APPROVE, digest="d", at=NOW, via="web")
        for person in people
    )


def test_actors_are_named_by_kind() -> None:
    directory = make_directory()
    assert directory.agents["ops-agent"].actor == "agent:ops-agent"
    assert directory.people["ann"].actor == "person:ann"


@pytest.mark.parametrize(
    ("names", "people"),
    [
        ((), set()),
        (("ann",), {"ann"}),
        (("finance",), {"ann", "bob"}),
        (("finance", "carl", "ann"), {"ann", "bob", "carl"}),
        (("nobody",), set()),
        (("ops-agent",), set()),
    ],
)
def test_names_expand_into_people_alone(names: tuple[str, ...], people: set[str]) -> None:
    assert make_directory().members(names) == people


def test_a_group_that_names_a_stranger_or_a_group_adds_nobody() -> None:
    directory = make_directory(groups={"odd": ("ann", "stranger", "finance"), "finance": ("bob",)})
    assert directory.members(["odd"]) == {"ann"}


def test_rights_are_given_by_name_and_an_admin_has_them_all() -> None:
    directory = make_directory(
        rights={Right.SETTLE: frozenset({"dora"}), Right.ADMIN: frozenset({"ann"})}
    )
    held = {(p, r) for p in directory.people for r in Right if directory.has_right(p, r)}
    assert held == {
        ("dora", Right.SETTLE),
        ("ann", Right.ADMIN),
        ("ann", Right.SETTLE),
        ("ann", Right.READ_ALL),
    }


def test_a_tokens_digest_names_its_bearer_and_nobody_else() -> None:
    directory = make_directory()
    agents, people = directory.agents_by_digest(), directory.people_by_digest()
    assert agents == {
        token_digest(AGENT_TOKEN): directory.agents["ops-agent"],
        token_digest(OTHER_AGENT_TOKEN): directory.agents["other-agent"],
    }
    assert people[token_digest(ANN_TOKEN)] == directory.people["ann"]
    assert not agents.keys() & people.keys()


def test_a_token_is_kept_as_its_hash_whatever_text_it_is() -> None:
    assert token_digest("abc") == hashlib.sha256(b"abc").hexdigest()
    assert len(token_digest("\ud800")) == 64


def test_digests_are_the_same_or_not_even_when_they_are_not_ascii() -> None:
    assert same_digest("aé", "aé")
    assert not same_digest("a", "b")
    assert not same_digest("a", "aa")


@pytest.mark.parametrize(
    ("factors", "not_owner", "people"),
    [
        ((Factor(approvers=("finance",)),), True, {"ann", "bob"}),
        (EVERYBODY, True, {"ann", "bob"}),
        (EVERYBODY, False, {"ann", "bob", "carl"}),
        ((Factor(approvers=("carl",)),), True, set()),
        ((Factor(approvers=("ann",)), Factor(approvers=("dora",))), True, {"ann", "dora"}),
        ((), False, set()),
        ((Factor(approvers=()),), False, set()),
    ],
)
def test_deciders_are_those_a_factor_names_without_those_four_eyes_bar(
    factors: tuple[Factor, ...], not_owner: bool, people: set[str]
) -> None:
    call = make_call(requirement=make_requirement(factors=factors, not_owner=not_owner))
    assert deciders(make_directory(), call) == people


def test_an_agent_never_decides_even_under_a_persons_name() -> None:
    directory = make_directory()
    directory = replace(directory, agents={"ann": Agent(name="ann", upstreams=frozenset())})
    call = make_call(asked=make_asked(agent="ann"), requirement=make_requirement(not_owner=False))
    assert deciders(directory, call) == {"bob"}
    assert not satisfied(directory, call, call.requirement, approvals("ann"))


def test_who_is_barred_depends_on_the_rule_and_on_the_agent() -> None:
    directory, call = make_directory(), make_call()
    lenient = make_call(requirement=make_requirement(not_owner=False))
    assert barred(directory, call) == {"ops-agent", "carl"}
    assert barred(directory, lenient) == {"ops-agent"}
    assert barred(directory, make_call(asked=make_asked(agent="other-agent"))) == {"other-agent"}
    assert barred(Directory(), call) == {"ops-agent"}


def factors_of(*wanted: tuple[str, int]) -> tuple[Factor, ...]:
    return tuple(Factor(approvers=tuple(who.split()), approvals=n) for who, n in wanted)


@pytest.mark.parametrize(
    ("wanted", "distinct", "voters", "enough"),
    [
        ([("finance", 1)], False, [], False),
        ([("finance", 1)], False, ["ann"], True),
        ([("finance", 1)], False, ["dora"], False),
        ([("finance", 2)], False, ["ann"], False),
        ([("finance", 2)], False, ["ann", "ann"], False),
        ([("finance", 2)], False, ["ann", "bob"], True),
        ([("finance", 1), ("ann", 1)], False, ["bob"], False),
        ([("finance", 1), ("ann", 1)], False, ["ann"], True),
        ([("finance", 1), ("ann", 1)], True, ["ann"], False),
        ([("finance", 1), ("ann", 1)], True, ["ann", "bob"], True),
        ([("finance", 1), ("ann", 1)], True, ["bob"], False),
        # The first seat must give way: ann is the only one for the second.
        ([("ann bob", 1), ("ann", 1)], True, ["ann", "bob"], True),
        ([("ann bob", 2), ("ann", 1)], True, ["ann", "bob"], False),
        ([("ann bob", 1), ("bob dora", 1), ("ann", 1)], True, ["ann", "bob", "dora"], True),
        ([("everybody", 1)], False, ["carl"], False),
        ([("everybody", 1)], True, ["carl"], False),
        ([], False, ["ann"], False),
        ([], True, ["ann"], False),
        ([("", 1)], False, ["ann"], False),
        ([("", 1)], True, ["ann"], False),
        ([("nobody", 1)], False, ["nobody"], False),
    ],
)
def test_approvals_are_enough_when_every_factor_has_its_people(
    wanted: list[tuple[str, int]], distinct: bool, voters: list[str], enough: bool
) -> None:
    requirement = make_requirement(factors=factors_of(*wanted), distinct=distinct)
    call = make_call(requirement=requirement)
    assert satisfied(make_directory(), call, requirement, approvals(*voters)) is enough


def test_four_eyes_count_by_the_stricter_requirement_and_not_by_the_calls_own() -> None:
    lenient = make_requirement(factors=EVERYBODY, not_owner=False)
    call = make_call(requirement=lenient)
    carl = approvals("carl")
    assert satisfied(make_directory(), call, lenient, carl)
    assert not satisfied(make_directory(), call, replace(lenient, not_owner=True), carl)


def test_a_voter_who_left_no_longer_counts() -> None:
    call = make_call()
    people = {"bob": Person(name="bob", title="Bob")}
    gone = make_directory(people=people)
    moved = make_directory(groups={"finance": ("bob",)})
    for directory in (gone, moved):
        assert not satisfied(directory, call, call.requirement, approvals("ann"))


# --- whether a gate could be met at all ---

TRIO = Directory(
    people={name: Person(name=name, title=name) for name in ("ann", "bob", "carl")},
    groups={"pair": ("ann", "bob")},
)
OWNED = Agent(name="ops", upstreams=frozenset(), owner="ann")


@pytest.mark.parametrize(
    ("factors", "distinct", "not_owner", "asker", "met"),
    [
        ([("pair", 1)], False, True, None, True),
        ([("pair", 2)], False, True, None, True),
        ([("pair", 3)], False, True, None, False),
        ([("pair", 2)], False, True, OWNED, False),
        ([("pair", 2)], False, False, OWNED, True),
        ([("ann", 1)], False, True, OWNED, False),
        ([("ann", 1), ("pair", 1)], True, True, None, True),
        ([("ann", 1), ("pair", 2)], True, True, None, False),
        ([("ann", 1), ("pair", 2)], False, True, None, True),
        ([("ann", 1), ("ann", 1), ("carl", 1)], True, True, None, False),
        ([("nobody", 1)], False, True, None, False),
        ([], False, True, None, False),
        ([("ann", 1)], False, False, Agent(name="ann", upstreams=frozenset()), False),
    ],
)
def test_a_gate_is_attainable_when_all_who_may_decide_would_do(
    factors: list[tuple[str, int]],
    distinct: bool,
    not_owner: bool,
    asker: Agent | None,
    met: bool,
) -> None:
    requirement = Requirement(
        factors=tuple(Factor(approvers=(name,), approvals=count) for name, count in factors),
        distinct=distinct,
        not_owner=not_owner,
    )
    assert attainable(TRIO, requirement, asker) is met
