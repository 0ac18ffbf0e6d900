"""Valid values by default, one keyword from what a test needs."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from approval.core.call import (
    Call,
    CallId,
    Factor,
    Outcome,
    Reason,
    Requirement,
    Status,
    ToolCall,
    Verdict,
)
from approval.core.canonical import JSON, canonical
from approval.core.demand import Holdings
from approval.core.dialects import read_policy
from approval.core.identity import Agent, Directory, Person, Right, token_digest
from approval.core.intake import Lease
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook
from approval.core.terms import RequirementDefaults
from approval.sending import Settings
from approval.service import Service
from approval.store.store import SqlStore

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
AGENT_TOKEN = "apv_test_agent_token_0000000000000000001"
OTHER_AGENT_TOKEN = "apv_test_agent_token_0000000000000000002"
ANN_TOKEN = "apv_test_person_token_000000000000000ann"
BOB_TOKEN = "apv_test_person_token_000000000000000bob"
CARL_TOKEN = "apv_test_person_token_00000000000000carl"

GATE_PURCHASES: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "search_available_numbers": {},
        "create_incoming_phone_number": {
            "title": "buy a phone number",
            "require_approval": [{"approvers": "finance", "timeout": "15m"}],
        },
    },
}
PRICED_PURCHASES: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "create_incoming_phone_number": {
            "spend": {"amount": {"fixed": "3.00 USD"}, "meters": ["pot"]},
            "require_approval": [{"approvers": "finance"}],
        }
    },
    "meters": {"pot": {"limit": "1000.00 USD", "window": {"calendar": "day"}}},
}
ALLOW_EVERYTHING: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "allow",
}

PRICE_PURCHASES: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "create_incoming_phone_number": {
            "title": "buy a phone number",
            "spend": {
                "amount": {"fixed": "1.15 USD", "per": "month"},
                "meters": ["numbers-month", "numbers-rolling"],
            },
            "require_approval": [{"approvers": "finance", "timeout": "15m"}],
        },
    },
    "meters": {
        "numbers-month": {
            "limit": "50.00 USD",
            "window": {"calendar": "month"},
            "scope": ["agent"],
        },
        "numbers-rolling": {"limit": "4.00 USD", "window": {"rolling": "24h"}, "scope": []},
    },
}
"""Purchases that cost money, from a pot of each agent's and from one for all."""


class Clock:
    """A clock that tests set: the store's time, never earlier than what is written."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


NOTHING = Holdings()
"""What a demand meets where nobody has taken anything."""


def make_lease(owner: str = "me", span: timedelta = timedelta(seconds=75)) -> Lease:
    return Lease(owner=owner, span=span)


def make_policy(document: Mapping[str, object] = GATE_PURCHASES) -> Policy:
    return read_policy(document, source="test.json", defaults=RequirementDefaults())


def make_directory(**changes: object) -> Directory:
    """Two agents (one owned by carl), ann and bob in finance, carl outside it, dora settling."""
    people = {
        name: Person(name=name, title=name.title(), token_digests=frozenset({token_digest(token)}))
        for name, token in {"ann": ANN_TOKEN, "bob": BOB_TOKEN, "carl": CARL_TOKEN}.items()
    }
    people["dora"] = Person(name="dora", title="Dora")
    agents = {
        "ops-agent": Agent(
            name="ops-agent",
            upstreams=frozenset({"shop"}),
            owner="carl",
            token_digests=frozenset({token_digest(AGENT_TOKEN)}),
        ),
        "other-agent": Agent(
            name="other-agent",
            upstreams=frozenset({"shop"}),
            token_digests=frozenset({token_digest(OTHER_AGENT_TOKEN)}),
        ),
    }
    directory = Directory(
        agents=agents,
        people=people,
        groups={"finance": ("ann", "bob"), "everybody": ("ann", "bob", "carl")},
        rights={Right.SETTLE: frozenset({"dora"}), Right.READ_ALL: frozenset({"dora"})},
    )
    return replace(directory, **changes)  # type: ignore[arg-type]


def make_rulebook(
    document: Mapping[str, object] = GATE_PURCHASES,
    *,
    upstream: str = "shop",
    directory: Directory | None = None,
) -> Rulebook:
    return Rulebook(
        directory=directory or make_directory(), policies={upstream: make_policy(document)}
    )


def make_requirement(**changes: object) -> Requirement:
    requirement = Requirement(factors=(Factor(approvers=("finance",)),))
    return replace(requirement, **changes)  # type: ignore[arg-type]


def make_verdict(outcome: Outcome = Outcome.GATE, **changes: object) -> Verdict:
    verdict = Verdict(
        outcome=outcome,
        reasons=(Reason(code="require_approval:true", path="/tools/x", text="It spends money."),),
        policy_digest="p" * 64,
        requirement=make_requirement() if outcome is Outcome.GATE else None,
        title="buy a phone number",
    )
    return replace(verdict, **changes)  # type: ignore[arg-type]


def make_asked(arguments: JSON = None, **changes: object) -> ToolCall:
    given: JSON = {"phone_number": "+14155550100"} if arguments is None else arguments
    asked = ToolCall(
        agent="ops-agent",
        upstream="shop",
        tool="create_incoming_phone_number",
        arguments=canonical(given),
        protocol_version="2025-11-25",
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def make_call(**changes: object) -> Call:
    call = Call(
        id=CallId("apr_00000000000000000000000000"),
        asked=make_asked(),
        status=Status.PENDING,
        version=1,
        requirement=make_requirement(),
        reasons=make_verdict().reasons,
        policy_digest="p" * 64,
        created_at=NOW,
        decide_before=NOW + timedelta(minutes=15),
        title="buy a phone number",
    )
    return replace(call, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def make_service(
    folder: Path,
    *,
    rules: Rulebook | None = None,
    clock: Clock | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Service]:
    """Run a real service on a real SQLite file in `folder`."""
    store = (
        await SqlStore.open("sqlite:///approval.db", base=folder, clock=clock)
        if clock
        else await SqlStore.open("sqlite:///approval.db", base=folder)
    )
    try:
        async with Service(store, rules or make_rulebook(), settings) as service:
            yield service
    finally:
        await store.close()
