"""Policies of a configuration: files and tables, the terms beneath them, and their faults."""

from datetime import timedelta
from pathlib import Path

import pytest

from approval.config.sections import Local
from approval.core.call import Factor, Outcome
from tests.config.files import AGENT, PEOPLE, SHOP, VALID, problems, read

GATE = (
    '{"dialect":"approval-1","version":"1","default":"deny",'
    '"tools":{"buy":{"require_approval":[{}]}}}'
)
SEEDS = (
    '{"version":"1","default":"deny","tools":{"create_incoming_phone_number":{"deny_if":'
    '[{"conditions":[],"on_deny":"Requires human approval."}]}}}'
)
FILE = '[upstreams.shop]\ncommand = ["shop"]\npolicy = "policy.json"\n' + PEOPLE + AGENT


def test_a_rule_falls_back_on_the_configurations_terms(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(GATE)
    text = FILE + '[approvals]\napprovers = ["ann"]\ntimeout = "5m"\nlocal = "trust"\n'
    config = read(tmp_path, text)

    verdict = config.rulebook().judge("ops-agent", "shop", "buy", {})
    assert verdict.outcome is Outcome.GATE
    assert verdict.requirement is not None
    assert verdict.requirement.factors == (Factor(approvers=("ann",)),)
    assert verdict.requirement.timeout == timedelta(minutes=5)
    assert config.local is Local.TRUST


def test_the_document_of_policylayer_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(SEEDS)
    verdict = (
        read(tmp_path, FILE)
        .rulebook()
        .judge("ops-agent", "shop", "create_incoming_phone_number", {})
    )
    assert verdict.outcome is Outcome.DENY
    assert verdict.reasons[0].text == "Requires human approval."


def test_a_policys_problems_keep_its_own_file_and_pointer(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(GATE.replace('"deny"', '"maybe"'))
    found = problems(tmp_path, FILE + '[approvals]\napprovers = "ann"\n')
    assert len(found) == 1
    assert found[0].startswith("policy.json: /default: ")


def test_a_gate_that_asks_nobody_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(GATE)
    found = problems(tmp_path, FILE)
    assert len(found) == 1
    assert found[0].startswith("policy.json: /tools/buy/require_approval/0")


def test_terms_that_cannot_be_read_are_the_problem_not_the_gates_below(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(GATE)
    found = problems(tmp_path, FILE + '[approvals]\ntimeout = "soon"\n')
    assert len(found) == 1
    assert found[0].startswith("config.toml: /approvals/timeout: ")


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (
            'approvers = "fin"',
            "approvals.approvers: fin is not a person or group; did you mean finance?",
        ),
        (
            'factors = [{ approvers = "ane", approvals = 1 }]',
            "approvals.factors: ane is not a person or group; did you mean ann?",
        ),
        ('local = "yes"', "approvals.local: cannot be used: input should be 'token' or 'trust'"),
    ],
)
def test_terms_that_name_nobody_are_refused(tmp_path: Path, terms: str, told: str) -> None:
    found = problems(tmp_path, VALID + f"[approvals]\n{terms}\n")
    assert found[0].startswith(f"config.toml: {told}")


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ('{ approvers = "finance", max_pending = 5 }', "/tools/buy/require_approval/0/max_pending"),
        ('{ approvers = "finance" }], max_pending = 5, deny_if = [', "/tools/buy/max_pending"),
    ],
)
def test_a_bound_on_what_waits_is_no_rule(tmp_path: Path, rule: str, place: str) -> None:
    shop = SHOP.replace(
        'require_approval = [{ approvers = "finance" }]',
        "",
    ).replace("[upstreams.shop.policy.tools.buy]", "[upstreams.shop.policy.tools]")
    [problem] = problems(
        tmp_path, f"{shop}buy = {{ require_approval = [{rule}] }}\n{PEOPLE}{AGENT}"
    )
    assert f"{place}: max_pending has no place in " in problem
    assert problem.endswith(
        "it bounds an agent, not a rule; write it under [approvals], or under [agents.NAME] for"
        " one of them, in the configuration"
    )


def test_names_and_places_in_a_policy_are_checked(tmp_path: Path) -> None:
    shop = SHOP.replace('"finance" }', '["finace"], notify = ["slack:#pay"] }')
    assert problems(tmp_path, shop + PEOPLE + AGENT) == [
        (
            "config.toml: upstreams.shop.policy: /tools/buy/require_approval/0/approvers/0: finace"
            " is not a person or group; did you mean finance?"
        ),
        (
            "config.toml: upstreams.shop.policy: /tools/buy/require_approval/0/notify/0: no channel"
            " can be told yet; Slack and email come with a later release. Remove it"
        ),
    ]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("policy = 5", "upstreams.shop.policy: is neither a file's name nor a table"),
        ('policy = "absent.json"', "upstreams.shop.policy: names "),
        ("", "upstreams.shop.policy: is missing, and nothing is served without one"),
    ],
)
def test_an_upstream_without_a_readable_policy_is_refused(
    tmp_path: Path, policy: str, told: str
) -> None:
    text = f'[upstreams.shop]\ncommand = ["shop"]\n{policy}\n' + PEOPLE + AGENT
    assert problems(tmp_path, text)[0].startswith(f"config.toml: {told}")


def test_a_narrowing_policy_names_its_upstream(tmp_path: Path) -> None:
    assert problems(tmp_path, VALID + 'policy = "x.json"\n') == [
        (
            "config.toml: agents.ops-agent.policy: is not a table; write policy = { upstream ="
            ' "policies/agent.json" }'
        )
    ]
    assert problems(tmp_path, VALID + 'policy = { shp = "x.json" }\n') == [
        "config.toml: agents.ops-agent.policy.shp: is not an upstream; did you mean shop?"
    ]
