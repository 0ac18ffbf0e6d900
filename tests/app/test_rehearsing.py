"""Cases played against the real service: what they expect of it, they get, or are told."""

from pathlib import Path

import pytest

from approval.app.rehearsing import Report, rehearse
from approval.config import load
from approval.config.suites import read_suite

ROOT = Path(__file__).parents[2]
CONFIG = """
[server]
listen = "127.0.0.1:0"
[database]
url = "sqlite:///approval.db"
[upstreams.shop]
command = ["true"]
[upstreams.shop.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[upstreams.shop.policy.tools.buy]
deny_if = [{ conditions = [{ path = "args.n", op = "gt", value = 100 }] }]
spend = { amount = { fixed = "10.00 USD" }, meters = ["pot"] }
[upstreams.shop.policy.tools.look]
rate_limit = { max = 2, window = 60 }
[upstreams.shop.policy.tools.ask]
require_approval = [{ approvers = "ann" }]
[upstreams.shop.policy.tools.pay]
spend = { amount = { ask = true, up_to = "20.00 USD" }, meters = ["pot"] }
[upstreams.shop.policy.tools.metered]
spend.amount = { at_most = "20.00 USD" }
spend.actual = { result = "/structuredContent/cost", unit = "major" }
spend.meters = ["pot"]
[upstreams.shop.policy.meters.pot]
limit = "25.00 USD"
window = { calendar = "day" }
[approvals]
approvers = "ann"
[agents.bot]
upstreams = ["shop"]
[people.ann]
name = "Ann"
[people.bob]
name = "Bob"
"""


async def played(folder: Path, steps: str) -> Report:
    config = folder / "config.toml"
    config.write_text(CONFIG)
    suite = folder / "policy.tests.toml"
    suite.write_text(f'[[case]]\nname = "a"\nagent = "bot"\nsteps = [{steps}]\n')
    return await rehearse(load(config, {}).rules, read_suite(suite))


@pytest.mark.parametrize(
    "steps",
    [
        (
            '{ call = "buy", args = { n = 1 }, repeat = 2, expect = "allow" },'
            '{ meter = "pot", posted = "20.00 USD", held = "0.00 USD" },'
            '{ call = "buy", args = { n = 1 }, expect = "deny", reason = "limit" },'
            '{ advance = "1d" }, { call = "buy", args = { n = 1 }, expect = "allow" }'
        ),
        (
            '{ call = "buy", args = { n = 1 }, ends = "lost", expect = "allow" },'
            '{ meter = "pot", held = "10.00 USD" }'
        ),
        (
            '{ call = "buy", args = { n = 1 }, ends = "errored", expect = "allow" },'
            '{ meter = "pot", posted = "10.00 USD" }'
        ),
        (
            '{ call = "buy", args = { n = 1 }, ends = "failed", expect = "allow" },'
            '{ meter = "pot", posted = "0.00 USD", held = "0.00 USD" }'
        ),
        '{ call = "buy", args = { n = 101 }, expect = "deny", reason = "deny_if:true" }',
        '{ call = "buy", args = { n = "101" }, expect = "deny", reason = "deny_if:unknown" }',
        (
            '{ call = "look", repeat = 2, expect = "allow" },'
            '{ call = "look", expect = "deny", reason = "rate" },'
            '{ advance = "60s" }, { call = "look", expect = "allow" }'
        ),
        '{ call = "ask", expect = "gate", approvers = ["ann"] }, { decide = "reject", by = "ann" }',
        (
            '{ call = "pay", expect = "gate", reason = "amount:ask", approvers = ["ann"] },'
            '{ meter = "pot", held = "20.00 USD" },'
            '{ decide = "approve", by = "ann", amount = "12.34 USD" },'
            '{ meter = "pot", held = "0.00 USD", posted = "12.34 USD" }'
        ),
        # what the upstream does not take is free again
        (
            '{ call = "metered", took = "1.50 USD", repeat = 3, expect = "allow" },'
            '{ meter = "pot", held = "0.00 USD", posted = "4.50 USD" },'
            '{ call = "metered", expect = "allow" },'
            '{ meter = "pot", posted = "24.50 USD" },'
            '{ call = "metered", expect = "deny", reason = "limit" }'
        ),
        # what it takes beyond is booked, and freezes the tool
        (
            '{ call = "metered", took = "500.00 USD", expect = "allow" },'
            '{ meter = "pot", posted = "500.00 USD" },'
            '{ advance = "1d" },'
            '{ call = "metered", expect = "deny", reason = "frozen" }'
        ),
        (
            '{ call = "metered", took = "2.00 USD", ends = "errored", expect = "allow" },'
            '{ meter = "pot", posted = "20.00 USD" }'
        ),
    ],
)
async def test_a_case_that_tells_the_truth_passes(tmp_path: Path, steps: str) -> None:
    assert (await played(tmp_path, steps)).failures == ()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ('{ call = "buy", args = { n = 1 }, expect = "deny" }', "buy is allowed (listed: "),
        ('{ call = "none", expect = "deny", reason = "x" }', "expected the reason x"),
        ('{ call = "ask", expect = "gate", approvers = ["bob"] }', "ask asks ann; expected bob"),
        (
            '{ call = "pay", expect = "gate" }, { decide = "approve", by = "ann" }',
            "ann cannot approve it: type what this call costs, up to 20.00 USD",
        ),
        ('{ decide = "approve", by = "ann" }', "no call is held"),
        (
            '{ call = "ask", expect = "gate" }, { decide = "approve", by = "bob" }',
            "bob cannot approve it: ",
        ),
        ('{ meter = "pot", held = "1.00 USD" }', "has 0.00 USD held; expected 1.00 USD"),
        (
            '{ call = "buy", args = { n = 1 }, took = "5.00 USD", expect = "allow" }',
            "nothing can say that the call took 5.00 USD: its price has no spend.actual",
        ),
        (
            '{ call = "metered", took = "5.00 EUR", expect = "allow" }',
            "nothing can say that the call took 5.00 EUR: spend.actual does not read that there",
        ),
        (
            '{ call = "look", took = "5.00 USD", expect = "allow" }',
            "nothing can say that the call took 5.00 USD: it spends nothing",
        ),
        (
            (
                '{ call = "pay", expect = "gate" },'
                '{ decide = "approve", by = "ann", amount = "5.00 USD", took = "6.00 USD" }'
            ),
            "nothing can say that the call took 6.00 USD: its price has no spend.actual",
        ),
        ('{ meter = "pit", held = "1.00 USD" }', "no policy has a meter pit"),
    ],
)
async def test_a_case_that_does_not_is_told_what_happened(
    tmp_path: Path, steps: str, told: str
) -> None:
    [failure] = (await played(tmp_path, steps)).failures
    assert told in failure.text


async def test_rules_that_no_case_meets_are_named(tmp_path: Path) -> None:
    report = await played(tmp_path, '{ call = "ask", expect = "gate" }')
    assert (report.rules, report.coverage) == (4, 25)
    assert [each.rpartition(": ")[2] for each in report.unused] == [
        "/tools/buy/deny_if/0",
        "/tools/look/rate_limit",
        "/meters/pot",
    ]
    assert report.codes == {"require_approval:true": 1}


@pytest.mark.parametrize(
    ("steps", "unmet"),
    [
        ('{ call = "look", repeat = 2, expect = "allow" }', {"rate_limit", "pot"}),
        (
            '{ call = "look", repeat = 2, expect = "allow" }, { call = "look", expect = "deny" }',
            {"pot"},
        ),
        ('{ call = "metered", expect = "allow" }', {"rate_limit", "pot"}),
        (
            '{ call = "metered", expect = "allow" }, { call = "metered", expect = "deny" }',
            {"rate_limit"},
        ),
        ('{ meter = "pot", held = "0.00 USD" }', {"rate_limit"}),
    ],
)
async def test_a_limit_is_met_where_it_refuses_or_is_looked_at(
    tmp_path: Path, steps: str, unmet: set[str]
) -> None:
    report = await played(tmp_path, steps)
    assert report.failures == ()
    limits = {each.rpartition("/")[2] for each in report.unused}
    assert limits & {"rate_limit", "pot"} == unmet


async def test_the_example_configuration_passes_its_own_tests() -> None:
    suite = read_suite(ROOT / "docs" / "config.example.tests.toml")
    report = await rehearse(load(ROOT / "config.example.toml", {}).rules, suite)
    assert (report.failures, report.unused) == ((), ())
