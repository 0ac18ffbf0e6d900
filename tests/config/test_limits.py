"""The shared meters and the standing grants of a configuration."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from approval.core.grants import Origin
from approval.core.meters import SHARED
from approval.core.money import Money
from tests.config.files import VALID, problems, read

METERS = """
[meters.pot]
limit = "100.00 USD"
window = { calendar = "day" }
soft = { override_by = "finance", up_to = "10.00 USD" }
"""
BUYS = """
[upstreams.shop.policy.tools.order]
spend = { amount = { fixed = "1.00 USD" }, meters = ["pot"] }
"""
GRANT = """
[[grants]]
agent = "ops-agent"
upstream = "shop"
tools = ["buy"]
uses = 10
total = "20.00 USD"
expires = "2026-12-31T00:00:00Z"
reason = "the move to Berlin"
"""


def test_all_upstreams_draw_on_one_shared_meter(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/other.toml").write_text(
        'dialect = "approval-1"\nversion = "1"\ndefault = "deny"\n'
        '[tools.buy]\nspend = { amount = { fixed = "1.00 USD" }, meters = ["pot", "own"] }\n'
        '[meters.own]\nlimit = "5.00 USD"\nwindow = { all_time = true }\n'
    )
    other = '[upstreams.other]\nurl = "https://other.example/mcp"\npolicy = "policies/other.toml"\n'
    rules = read(tmp_path, VALID + BUYS + METERS + other).rulebook()

    [mine], [its] = rules.policies["shop"].charges, rules.policies["other"].charges
    assert mine.meters == its.meters[:1]
    assert [meter.origin for meter in its.meters] == [SHARED, "policies/other.toml"]
    assert str(tmp_path) not in {meter.origin for meter in its.meters}


def test_a_policy_that_stands_in_the_file_is_known_by_its_key(tmp_path: Path) -> None:
    own = '[upstreams.shop.policy.meters.own]\nlimit = "5.00 USD"\nwindow = {all_time = true}\n'
    policy = read(tmp_path, VALID + own).rulebook().policies["shop"]
    assert policy.meters["own"].origin == "upstreams.shop.policy"


def test_a_grant_is_read_with_all_its_bounds(tmp_path: Path) -> None:
    [grant] = read(tmp_path, VALID + GRANT).rulebook().grants
    assert (grant.agent, grant.upstream, grant.tools[0].text) == ("ops-agent", "shop", "buy")
    assert (grant.uses, grant.total) == (10, Money(2000, "USD"))
    assert grant.expires == datetime(2026, 12, 31, tzinfo=UTC)
    assert (grant.origin, grant.reason) == (Origin.FILE, "the move to Berlin")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (METERS.replace('"finance"', '"finanec"'), "/meters/pot/soft/override_by: finanec is not"),
        (METERS.replace("100.00 USD", "100.00"), "/meters/pot/limit: "),
        ("[meters]\npot = 5\n", "/meters/pot: this is a number"),
        (GRANT.replace("ops-agent", "ops-agnet"), "/grants/0/agent: ops-agnet is not an agent;"),
        (GRANT.replace('"shop"', '"shpo"'), "/grants/0/upstream: shpo is not an upstream;"),
        (GRANT.replace("uses", "usse"), "usse"),
        (GRANT.replace('"2026-12-31T00:00:00Z"', "2026-12-31T00:00:00Z"), "/grants/0/expires: "),
        (GRANT + GRANT, "/grants/1: there is such a grant already"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    [problem] = problems(tmp_path, VALID + text)
    assert problem.startswith("config.toml: ")
    assert told in problem


def test_grants_are_a_list(tmp_path: Path) -> None:
    text = VALID + '[grants.mine]\nagent = "ops-agent"\n'
    told = "config.toml: grants: is not a list of tables; write [[grants]]"
    assert problems(tmp_path, text) == [told]


def test_a_policy_has_no_meter_of_a_shared_name(tmp_path: Path) -> None:
    own = '[upstreams.shop.policy.meters.pot]\nlimit = "5.00 USD"\nwindow = {all_time = true}\n'
    [problem] = problems(tmp_path, VALID + METERS + own)
    assert "which all upstreams share" in problem
