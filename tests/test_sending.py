"""Sending what was claimed; most stories of `test_service` send through it as well."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.call import Call, CallId, Status
from approval.core.lifecycle import Change
from approval.errors import StoreUnavailable
from approval.ports import Step
from approval.sending import SEND_WINDOW_SECONDS, SETTLE_RETRY_SECONDS, Sender, Settings
from approval.service import Service
from tests.factories import make_service
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
