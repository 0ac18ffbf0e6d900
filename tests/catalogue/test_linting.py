"""What is remarked on, and what is left in peace."""

from collections.abc import Mapping
from typing import Any

import pytest

from approval.catalogue.linting import lint
from approval.catalogue.scenes import Remark, Severity
from approval.core.dialects import read_policy
from approval.core.identity import Agent, Directory, Person
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook
from approval.core.terms import RequirementDefaults

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
X5 = {"path": "args.x", "op": "gt", "value": 5}
Y1 = {"path": "args.y", "op": "eq", "value": 1}
X9 = {"path": "args.x", "op": "gt", "value": 9}
DEAR = {"path": "spend.amount", "op": "gt", "value": "5.00 USD"}
TYPED = {"amount": {"ask": True, "up_to": "50.00 USD"}}
PEOPLE = Directory(
    agents={
        "ops": Agent(name="ops", upstreams=frozenset({"shop"}), owner="carl", groups=("buyers",)),
        "idle": Agent(name="idle", upstreams=frozenset()),
    },
    people={name: Person(name=name, title=name) for name in ("ann", "bob", "carl")},
    groups={"finance": ("ann", "bob"), "owners": ("ann", "carl")},
)


def policy(document: Mapping[str, Any], source: str = "shop.toml") -> Policy:
    whole = {"dialect": "approval-1", "version": "1", "default": "deny", **document}
    return read_policy(whole, source=source, defaults=RequirementDefaults(approvers=("finance",)))


def remarks(document: Mapping[str, Any], narrower: Mapping[str, Any] | None = None) -> list[Remark]:
    narrowing = {} if narrower is None else {("ops", "shop"): policy(narrower, "ops.toml")}
    rules = Rulebook(directory=PEOPLE, policies={"shop": policy(document)}, narrowing=narrowing)
    return list(lint(rules))


def found(document: Mapping[str, Any], **more: Any) -> list[tuple[str, str, str]]:
    return [(str(r.severity), r.code, r.path) for r in remarks(document, **more)]


def buying(**block: object) -> dict[str, Any]:
    return {"tools": {"buy": block}}


def of(*conditions: object, **terms: object) -> dict[str, object]:
    return {"conditions": list(conditions), **terms}


def test_a_sound_policy_is_left_in_peace() -> None:
    sound = {
        "hide": ["delete_*"],
        "tools": {
            "search": {},
            "buy": {
                "deny_if": [of(X9)],
                "require": [of({"path": "args.currency", "op": "in", "value": ["usd"]})],
                "require_approval": [of(X5, quorum=2), {}],
            },
            "*": {"deny_if": [of({"path": "args.force", "op": "eq", "value": True})]},
        },
    }
    remarked = [each for each in found(sound) if each[0] != "note"]
    assert remarked == []


GATE = "/tools/buy/require_approval/0"
SECOND_GATE = "/tools/buy/require_approval/1"


@pytest.mark.parametrize(
    ("document", "remark"),
    [
        (buying(deny_if=[{}], require_approval=[{}]), ("error", "never_asked", GATE)),
        (
            {"tools": {"b*": {"deny_if": [{}]}, "buy": {"require_approval": [of(X5)]}}},
            ("error", "never_asked", GATE),
        ),
        (
            buying(deny_if=[of(X5)], require_approval=[of(X5, X9)]),
            ("error", "never_asked", GATE),
        ),
        (
            buying(require_approval=[of(X5, quorum=2), of(X5, quorum=1)]),
            ("warning", "shadowed", SECOND_GATE),
        ),
        (buying(deny_if=[of(X5), of(X5)]), ("warning", "duplicate", "/tools/buy/deny_if/1")),
        (buying(deny_if=[of(X5, X9), of(X5)]), ("warning", "shadowed", "/tools/buy/deny_if/0")),
        (
            buying(deny_if=[{}], require=[of(X5)]),
            ("warning", "shadowed", "/tools/buy/require/0"),
        ),
        (
            {**buying(deny_if=[of(X5)]), "all_tools": {"deny_if": [of(X5)]}},
            ("warning", "shadowed", "/tools/buy/deny_if/0"),
        ),
        (
            {"hide": ["b*"], **buying(require_approval=[{"quorum": 1}])},
            ("warning", "hidden", GATE),
        ),
        (
            buying(deny_if=[of(X9, {"path": "args.x", "op": "lt", "value": 3})]),
            ("error", "never_fires", "/tools/buy/deny_if/0"),
        ),
        (
            buying(require=[of(X9, {"path": "args.x", "op": "lt", "value": 3})]),
            ("warning", "always_denies", "/tools/buy/require/0"),
        ),
        (
            buying(spend=TYPED, deny_if=[of(DEAR)]),
            ("warning", "always_denies", "/tools/buy/deny_if/0"),
        ),
        (
            buying(spend=TYPED, require=[of(DEAR)]),
            ("warning", "always_denies", "/tools/buy/require/0"),
        ),
        (
            buying(spend=TYPED, require_approval=[of(approvers="carl", not_owner=False)])
            | {"defaults": {"require_approval": {"approvers": "ann", "not_owner": True}}},
            ("error", "never_met", "/tools/buy/spend"),
        ),
        (
            buying(spend=TYPED) | {"defaults": {"require_approval": {"approvers": "ann"}}},
            ("note", "no_spare", "/tools/buy/spend"),
        ),
        (
            buying(deny_if=[of({"path": "agent.name", "op": "eq", "value": "opps"})]),
            ("error", "never_fires", "/tools/buy/deny_if/0"),
        ),
        (
            buying(require_approval=[of({"path": "tool.name", "op": "eq", "value": "sell"})]),
            ("error", "never_fires", GATE),
        ),
        (
            buying(require=[of({"path": "server.name", "op": "neq", "value": "shop"})]),
            ("warning", "always_denies", "/tools/buy/require/0"),
        ),
        (
            buying(deny_if=[of({"path": "args.x", "op": "regex", "value": ".*"})]),
            ("warning", "matches_everything", "/tools/buy/deny_if/0"),
        ),
        ({"tools": {"?*": {}}}, ("error", "lists_everything", "/tools/?*")),
        ({"hide": "*", "tools": {"x": {}}}, ("note", "hides_everything", "/hide")),
        ({"hide": ["**"], "tools": {"x": {}}}, ("note", "hides_everything", "/hide/0")),
        ({}, ("warning", "lists_nothing", "/default")),
        ({"tools": {"*": {}}}, ("warning", "lists_nothing", "/default")),
        (
            {"default": "allow", **buying(require_approval=[{}])},
            ("warning", "open_default", "/default"),
        ),
        (
            {
                "tools": {
                    "buy": {
                        "require_approval": [
                            of(X9, approvers="ann"),
                            of(Y1, approvers="owners", distinct=True),
                        ]
                    }
                }
            },
            ("warning", "never_met", SECOND_GATE),
        ),
        (
            {
                "tools": {
                    "buy": {
                        "require_approval": [
                            {"approvers": "ann"},
                            {"approvers": "owners", "distinct": True},
                        ]
                    }
                }
            },
            ("error", "never_met", GATE),
        ),
        (buying(require_approval=[{"approvers": "owners"}]), ("note", "no_spare", GATE)),
    ],
)
def test_what_was_hardly_meant_is_remarked(
    document: Mapping[str, Any], remark: tuple[str, str, str]
) -> None:
    assert remark in found(document)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (buying(deny_if=[of(X5)], require_approval=[{}]), "never_asked"),
        (buying(require_approval=[of(X5), {"quorum": 2}]), "duplicate"),
        (buying(require_approval=[of(X5, quorum=2), {}]), "shadowed"),
        ({"hide": ["sell"], **buying(require_approval=[{}])}, "hidden"),
        ({"hide": ["buy"], "tools": {"b*": {"require_approval": [{}]}}}, "hidden"),
        (buying(deny_if=[of({"path": "agent.name", "op": "eq", "value": "ops"})]), "never_fires"),
        (buying(deny_if=[of({"path": "agent.name", "op": "gt", "value": 5})]), "never_fires"),
        (
            {"tools": {"b*": {"deny_if": [of({"path": "tool.name", "op": "eq", "value": "buy"})]}}},
            "never_fires",
        ),
        ({"default": "allow", "tools": {"?*": {}}}, "lists_everything"),
        ({"default": "allow"}, "lists_nothing"),
        ({"default": "allow", "tools": {"buy*": {"require_approval": [{}]}}}, "open_default"),
        (
            {
                "default": "allow",
                "tools": {"*": {"require_approval": [{}]}, "buy": {"require_approval": [{}]}},
            },
            "open_default",
        ),
        (buying(require_approval=[{}]), "open_default"),
        (buying(require_approval=[{}]), "closed_narrowing"),
        (buying(require_approval=[{}]), "no_spare"),
        (
            buying(require_approval=[{"approvers": "ann"}, {"approvers": "finance"}]),
            "never_met",
        ),
    ],
)
def test_what_may_well_be_meant_is_not(document: Mapping[str, Any], code: str) -> None:
    assert code not in [each[1] for each in found(document)]


def test_conditions_on_agents_are_left_alone_where_no_agent_comes() -> None:
    nobody = Directory(people=PEOPLE.people, groups=PEOPLE.groups)
    document = buying(deny_if=[of({"path": "agent.name", "op": "eq", "value": "opps"})])
    assert lint(Rulebook(directory=nobody, policies={"shop": policy(document)})) == ()


def test_a_gate_is_held_against_the_narrowing_policys_too() -> None:
    document = buying(require_approval=[{"approvers": "ann"}])
    narrower = {
        "default": "allow",
        **buying(require_approval=[{"approvers": "owners", "distinct": True}]),
    }
    told = [(r.source, r.code) for r in remarks(document, narrower) if r.severity is ERROR]
    assert told == [("ops.toml", "never_met")]


def test_a_narrowing_policy_is_not_asked_to_close_itself() -> None:
    open_one = {"default": "allow", **buying(require_approval=[{}])}
    sound: Mapping[str, Any] = {"tools": {"buy": {}, "search": {}}}
    assert [(r.source, r.code) for r in remarks(sound, open_one)] == []
    closed = remarks(sound, buying(require_approval=[{}]))
    assert [(r.severity, r.source, r.code, r.path) for r in closed] == [
        (WARNING, "ops.toml", "closed_narrowing", "/default")
    ]


def test_a_narrowing_policy_of_nobody_is_passed_over() -> None:
    rules = Rulebook(
        directory=PEOPLE, policies={}, narrowing={("gone", "shop"): policy({"default": "deny"})}
    )
    assert lint(rules) == ()


def test_of_two_equal_rules_the_later_is_told_and_only_once() -> None:
    told = found(buying(deny_if=[of(X5), of(X5), of(X5)]))
    assert told == [
        ("warning", "duplicate", "/tools/buy/deny_if/1"),
        ("warning", "duplicate", "/tools/buy/deny_if/2"),
    ]


def test_remarks_say_what_and_what_to_do_the_worst_first() -> None:
    document = {
        "hide": ["gone*"],
        "tools": {
            "gone": {"deny_if": [of(X5)]},
            "buy": {"deny_if": [{}], "require_approval": [{"approvers": "ann"}]},
        },
    }
    told = remarks(document)
    assert [(r.severity, r.code) for r in told] == [
        (ERROR, "never_asked"),
        (WARNING, "hidden"),
        (NOTE, "no_spare"),
    ]
    assert told[0] == Remark(
        severity=ERROR,
        code="never_asked",
        source="shop.toml",
        path=GATE,
        what="nobody is ever asked: /tools/buy/deny_if/0 denies every call that this would hold",
        remedy="remove one of the two; a denial does not wait for approval",
    )
    assert told[2].what == "calls of ops expire whenever ann is away: nobody can stand in"


def test_a_condition_that_is_true_of_one_agent_fires() -> None:
    agents = {**PEOPLE.agents, "two": Agent(name="two", upstreams=frozenset({"shop"}))}
    two = Directory(agents=agents, people=PEOPLE.people, groups=PEOPLE.groups)
    document = buying(deny_if=[of({"path": "agent.name", "op": "eq", "value": "two"})])
    assert lint(Rulebook(directory=two, policies={"shop": policy(document)})) == ()
    [told] = lint(Rulebook(directory=PEOPLE, policies={"shop": policy(document)}))
    assert told.code == "never_fires"
