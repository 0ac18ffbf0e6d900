"""Sending what was claimed; most stories of `test_service` send through it as well."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from approval.core.call import Call, CallId, Status
from approval.core.lifecycle import Change
from approval.errors import StoreUnavailable
from approval.ports import Claiming, Step
from approval.sending import SEND_WINDOW_SECONDS, SETTLE_RETRY_SECONDS, Sender, Settings
from approval.service import Service
from approval.store.store import SqlStore
from tests.factories import make_rulebook, make_service
from tests.sending import OK, Upstream, approved, tags


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with make_service(tmp_path) as running:
        yield running


class Losing:
    """Runs steps in the service's store, which is away the first times."""

    def __init__(self, service: Service, times: int = 0) -> None:
        self.service = service
        self.times = times

    async def advance(self, call_id: CallId, step: Step) -> Change:
        if self.times:
            self.times -= 1
            raise StoreUnavailable("away")
        return await self.service._advance(call_id, step)

    def sender(self) -> Sender:
        service = self.service
        return Sender(
            self.advance,
            service._store,
            owner=service.instance,
            timeout=service.settings.timeout,
        )

    async def claimed(self) -> Call:
        service, call = self.service, await approved(self.service)
        return (await service._store.claim(call.id, service._claiming)).call


def test_an_upstream_may_have_a_time_limit_of_its_own() -> None:
    settings = Settings(timeouts={"slow": timedelta(minutes=5)})
    assert settings.timeout("slow") == timedelta(minutes=5)
    assert settings.timeout("other") == settings.upstream_timeout


async def test_the_limit_is_that_of_the_calls_own_upstream(tmp_path: Path) -> None:
    brief = Settings(timeouts={"shop": timedelta(milliseconds=20)})
    async with make_service(tmp_path, settings=brief) as service:
        upstream = Upstream()
        upstream.go_on.clear()
        done = await service.execute((await approved(service)).id, upstream.send)
        assert (done.status, done.note) == (Status.IN_DOUBT, "the upstream did not answer in time")


@pytest.mark.parametrize(
    ("late", "status", "sent"),
    [(SEND_WINDOW_SECONDS - 1, Status.EXECUTED, 1), (SEND_WINDOW_SECONDS, Status.FAILED, 0)],
)
async def test_a_claim_that_was_taken_too_long_ago_is_not_sent(
    service: Service, late: float, status: Status, sent: int
) -> None:
    upstream, losing = Upstream(), Losing(service)
    claimed = await losing.claimed()
    done = await losing.sender().run(claimed, upstream.send, time.monotonic() - late)
    assert (done.status, len(upstream.received)) == (status, sent)
    answer = await service.answer(done)
    assert answer is not None
    assert (b"never left the gateway" in answer.body) is not bool(sent)


async def test_an_outcome_is_recorded_as_soon_as_the_store_is_back(service: Service) -> None:
    upstream, losing = Upstream(), Losing(service, times=2)
    claimed = await losing.claimed()
    began = time.monotonic()
    done = await losing.sender().run(claimed, upstream.send, began)
    assert time.monotonic() - began > 0.9 * sum(SETTLE_RETRY_SECONDS[:2])
    assert (done.status, await service.answer(done)) == (Status.EXECUTED, OK)
    assert (len(upstream.received), losing.times) == (1, 0)
    assert (await tags(service, done))[-2:] == ["call:claim", "call:succeed"]


class Frozen(SqlStore):
    """A store whose process stands still between a claim's commit and hearing of it."""

    @override
    async def claim(self, call_id: CallId, claiming: Claiming) -> Change:
        change = await super().claim(call_id, claiming)
        await asyncio.sleep(0.1)
        return change


async def test_what_was_claimed_too_long_ago_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approval.sending.SEND_WINDOW_SECONDS", 0.05)
    store, upstream = await Frozen.open("sqlite:///approval.db", base=tmp_path), Upstream()
    async with Service(store, make_rulebook()) as service:
        call = await approved(service)
        done = await service.execute(call.id, upstream.send)
    assert (done.status, upstream.received) == (Status.FAILED, [])
    await store.close()
