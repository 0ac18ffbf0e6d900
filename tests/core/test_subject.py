"""What rules can read of a call."""

from approval.core.subject import Subject, facts_of


def test_the_facts_are_who_asks_whom_for_what_and_with_what() -> None:
    subject = Subject(
        agent="bot",
        owner="ann",
        groups=("buyers",),
        upstream="shop",
        tool="buy",
        arguments={"n": 1},
    )
    assert facts_of(subject) == {
        "args": {"n": 1},
        "agent": {"name": "bot", "groups": ["buyers"], "owner": "ann"},
        "tool": {"name": "buy"},
        "server": {"name": "shop"},
    }


def test_nobody_owns_an_agent_without_an_owner() -> None:
    subject = Subject(agent="bot", upstream="shop", tool="buy", arguments=None)
    assert facts_of(subject)["agent"] == {"name": "bot", "groups": []}
