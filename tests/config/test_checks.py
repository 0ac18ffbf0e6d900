"""Gates that nobody could ever open are found before anybody waits at one."""

from pathlib import Path

import pytest

from tests.config.files import AGENT, PEOPLE, SHOP, problems, read

RULE = "upstreams.shop.policy: /tools/buy/require_approval/0: "
ALONE = '{ approvers = "bob" }'
REMEDY = "; name more approvers, or add people to the group"


def with_gate(gate: str, agent: str = AGENT) -> str:
    return SHOP.replace('{ approvers = "finance" }', gate) + PEOPLE + agent


def test_an_owner_who_alone_could_approve_leaves_nobody(tmp_path: Path) -> None:
    assert problems(tmp_path, with_gate(ALONE)) == [
        (
            f"config.toml: {RULE}nobody could ever approve a call of ops-agent: it needs 1 and only"
            f" 0 may (bob owns that agent, and not_owner bars the owner){REMEDY}"
        )
    ]


@pytest.mark.parametrize(
    "gate",
    [
        '{ approvers = "bob", not_owner = false }',
        '{ approvers = "finance" }',
        '{ factors = [{ approvers = "ann", approvals = 1 }] }',
    ],
)
def test_somebody_who_may_is_enough(tmp_path: Path, gate: str) -> None:
    assert read(tmp_path, with_gate(gate)).rulebook().policies.keys() == {"shop"}


@pytest.mark.parametrize(
    "gate",
    [
        '{ approvers = "finance", quorum = 2 }',
        (
            '{ distinct = true, factors = [{ approvers = "ann", approvals = 1 },'
            ' { approvers = ["ann", "bob"], approvals = 1 }] }'
        ),
    ],
)
def test_a_quorum_larger_than_those_who_may_is_found(tmp_path: Path, gate: str) -> None:
    found = problems(tmp_path, with_gate(gate))
    assert found == [
        (
            f"config.toml: {RULE}nobody could ever approve a call of ops-agent: it needs 2 and only"
            f" 1 may (bob owns that agent, and not_owner bars the owner){REMEDY}"
        )
    ]


def test_an_empty_group_is_found_without_any_agent(tmp_path: Path) -> None:
    text = with_gate('{ approvers = "nobody" }', "") + "[groups.x]\n"
    text = text.replace("[groups.x]\n", "").replace("[groups]\n", "[groups]\nnobody = []\n")
    assert problems(tmp_path, text) == [
        f"config.toml: {RULE}nobody could ever approve a call: it needs 1 and only 0 may{REMEDY}"
    ]


def test_an_agents_own_policy_is_checked_for_that_agent(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'dialect = "approval-1"\nversion = "1"\ndefault = "allow"\n'
        f"[tools.buy]\nrequire_approval = [{ALONE}]\n"
    )
    text = with_gate('{ approvers = "finance" }') + 'policy = { shop = "own.toml" }\n'
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith("own.toml: /tools/buy/require_approval/0: nobody could ever")


def test_a_price_that_nobody_could_type_is_a_gate_that_nobody_could_open(tmp_path: Path) -> None:
    typed = 'spend = { amount = { ask = true, up_to = "5.00 USD" } }'
    text = SHOP.replace('require_approval = [{ approvers = "finance" }]', typed) + PEOPLE + AGENT
    [problem] = problems(tmp_path, text + '[approvals]\napprovers = "bob"\n')
    assert "/tools/buy/spend: nobody could ever approve a call of ops-agent" in problem
    assert read(tmp_path, text + '[approvals]\napprovers = "ann"\n').rulebook().policies
