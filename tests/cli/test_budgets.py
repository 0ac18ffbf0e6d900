"""The command on budgets: what is left, for people and for scripts."""

from pathlib import Path

from tests.cli.desk import desk

SPEND = """spend = { amount = { fixed = "1.15 USD" }, meters = ["numbers"] }
[upstreams.shop.policy.meters]
numbers = { limit = "50.00 USD", window = { calendar = "month" }, scope = ["agent"] }
[agents.ops-agent]"""


def test_budgets_are_listed_with_what_is_left(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert at.run("budgets").out == "No policy has a meter.\n"
    at.config.write_text(at.config.read_text().replace("[agents.ops-agent]", SPEND))
    at.hold()
    told = at.run("budgets").out
    assert "agent ops-agent" in told
    assert "$48.85 of $50.00 left this month" in told
    budgets = at.run("budgets", "--json").document["budgets"]
    assert isinstance(budgets, list)
    assert [budget["held"] for budget in budgets] == [{"amount": "1.15", "currency": "USD"}]
