"""Open the store and a service on it without agents or web: what the command line shares."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from approval.config import Config
from approval.core.identity import Directory, Right
from approval.core.policy import Policy, RequireApproval
from approval.core.rulebook import Rulebook
from approval.sending import Settings
from approval.service import Service
from approval.store.store import SqlStore
from approval.web.settings import login_url

ACTOR: Final = "service"
LOGIN_LIFETIME: Final = timedelta(minutes=15)
"""How long a login link works: it stays in a terminal's history."""


async def login_link(service: Service, url: str, person: str, *, actor: str) -> str:
    """Make a one-time link that signs a person in."""
    token = await service.keyring.issue("login", person, actor=actor, lifetime=LOGIN_LIFETIME)
    return login_url(url, token)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[SqlStore, Service]]:
    """Open the store and a service on it, without agents or web: what the command line needs."""
    timeouts = {name: upstream.timeout for name, upstream in config.upstreams.items()}
    store = await SqlStore.open(config.database.url)
    try:
        yield store, Service(store, config.rulebook(), Settings(timeouts=timeouts))
    finally:
        await store.close()


def approvers(rules: Rulebook) -> tuple[str, ...]:
    """Name everybody whom a rule or a price asks to decide, and those who administer."""
    named: set[str] = set()
    for policy in (*rules.policies.values(), *rules.narrowing.values()):
        named |= _asked(policy, rules.directory)
    return tuple(sorted(named | rules.directory.rights.get(Right.ADMIN, frozenset())))


def _asked(policy: Policy, directory: Directory) -> frozenset[str]:
    demands = [r.if_true.requirement for r in policy.rules if isinstance(r, RequireApproval)]
    demands += [charge.asks for charge in policy.charges]
    return directory.members(
        name for demand in demands if demand for f in demand.factors for name in f.approvers
    )
