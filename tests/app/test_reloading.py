"""New rules while the service runs: all or none, and no gate is loosened after the fact."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from approval.app.opening import opened
from approval.app.reloading import Reloader
from approval.config import load
from approval.core.call import Call, Outcome, Status
from approval.core.policy import Policy
from approval.errors import NoRoom
from approval.service import Service
from approval.store.store import SqlStore
from tests.config.files import AGENT, PEOPLE, VALID, write
from tests.factories import make_asked

FILES = '[upstreams.shop]\ncommand = ["shop"]\npolicy = "policy.json"\n' + PEOPLE + AGENT
GATE: dict[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {"buy": {"require_approval": [{"approvers": "finance"}]}},
}
ALLOW: dict[str, object] = {"dialect": "approval-1", "version": "1", "default": "allow"}
DENY: dict[str, object] = {"dialect": "approval-1", "version": "1", "default": "deny"}


def put(folder: Path, policy: object, config: str = FILES) -> None:
    write(folder, config)
    (folder / "policy.json").write_text(json.dumps(policy))


@asynccontextmanager
async def reloader(folder: Path) -> AsyncIterator[tuple[Reloader, Service, SqlStore]]:
    config = load(folder / "config.toml", {})
    async with opened(config) as (store, service), service:
        yield Reloader(service, config, {}), service, store


def outcome(service: Service) -> Outcome:
    return service.rules.judge("ops-agent", "shop", "buy", {}).outcome


def policy_of(service: Service) -> Policy:
    return service.rules.policies["shop"]


async def test_a_good_file_is_put_in_force_and_in_the_trail(tmp_path: Path) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, service, store):
        assert not found.changed()
        put(tmp_path, ALLOW)
        assert found.changed()
        assert await found.reload()
        assert not found.changed()
        assert outcome(service) is Outcome.ALLOW
        (entry,) = await store.trail()
        assert json.loads(entry.body)["tag"] == "policy:load"
        assert json.loads(entry.body)["facts"]["policies"] == {"shop": policy_of(service).digest}


async def test_a_bad_file_changes_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, service, store):
        put(tmp_path, {"version": "1"})
        assert not await found.reload()
        assert not found.changed()
        assert outcome(service) is Outcome.GATE
        (entry,) = await store.trail()
    body = json.loads(entry.body)
    assert body["tag"] == "policy:refuse"
    assert body["facts"]["count"] == 1
    assert "/default" in body["facts"]["problems"][0]
    assert "the old rules stay in force" in caplog.text


async def test_a_new_bound_on_what_waits_is_in_force_at_once(tmp_path: Path) -> None:
    async def ask(service: Service, number: int) -> Call:
        asked = make_asked({"n": number}, tool="buy")
        verdict = service.rules.judge("ops-agent", "shop", "buy", {"n": number})
        return (await service.submit(asked, verdict)).call

    put(tmp_path, GATE, FILES + "[approvals]\nmax_pending = 1\n")
    async with reloader(tmp_path) as (found, service, _):
        await ask(service, 1)
        with pytest.raises(NoRoom):
            await ask(service, 2)
        put(tmp_path, GATE, FILES + "max_pending = 2\n[approvals]\nmax_pending = 1\n")
        assert await found.reload()
        await ask(service, 2)
        with pytest.raises(NoRoom):
            await ask(service, 3)
        put(tmp_path, GATE)
        assert await found.reload()
        await ask(service, 3)


async def test_people_and_agents_come_and_go(tmp_path: Path) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, service, _):
        token = await service.keyring.issue("agent", "ops-agent", actor="test")
        put(tmp_path, GATE, FILES.replace("agents.ops-agent", "agents.new-agent"))
        assert await found.reload()
        assert service.keyring.agent(token) is None
        assert set(service.rules.directory.agents) == {"new-agent"}
        assert outcome(service) is Outcome.DENY


async def test_what_waits_is_held_against_the_new_rules(tmp_path: Path) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, service, _):
        asked = make_asked(tool="buy")
        verdict = service.rules.judge("ops-agent", "shop", "buy", {})
        call = (await service.submit(asked, verdict)).call
        put(tmp_path, ALLOW)
        assert await found.reload()
        assert (await service.get(call.id)).status is Status.PENDING
        put(tmp_path, DENY)
        assert await found.reload()
        assert (await service.get(call.id)).status is Status.INVALIDATED


async def test_a_file_that_vanishes_is_a_bad_file_and_one_that_returns_is_read(
    tmp_path: Path,
) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, service, _):
        (tmp_path / "policy.json").unlink()
        assert found.changed()
        assert not await found.reload()
        assert outcome(service) is Outcome.GATE
        put(tmp_path, ALLOW)
        assert found.changed()
        assert await found.reload()
        assert outcome(service) is Outcome.ALLOW


async def test_a_new_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, GATE)
    async with reloader(tmp_path) as (found, _, _):
        replacement = tmp_path / "new.json"
        replacement.write_text((tmp_path / "policy.json").read_text())
        facts = (tmp_path / "policy.json").stat()
        os.utime(replacement, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        replacement.rename(tmp_path / "policy.json")
        assert found.changed()


async def test_what_only_a_restart_changes_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, GATE)
    caplog.set_level(logging.WARNING)
    async with reloader(tmp_path) as (found, _, _):
        changed = FILES.replace('["shop"]\npolicy', '["other"]\npolicy')
        extra = '[server]\nlisten = "127.0.0.1:9"\n[people.zoe]\nnam = 1\n'
        put(tmp_path, GATE, changed + extra.replace("nam = 1", "token = { file = 'zoe' }"))
        (tmp_path / "zoe").write_text("z0e-tok3n-with-thirty-two-letters!")
        (tmp_path / "zoe").chmod(0o644)
        assert await found.reload()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "[server] has changed; restart the service to put it in force",
        "[upstreams] has changed; restart the service to put it in force",
        "zoe: others may read this secret (mode 0644); run: chmod 600 zoe",
    ]


async def test_rules_that_cannot_be_recorded_are_not_in_force_and_tried_again(
    tmp_path: Path,
) -> None:
    put(tmp_path, GATE)
    config = load(tmp_path / "config.toml", {})
    store = await SqlStore.open("sqlite:///approval.db", base=tmp_path)
    async with Service(store, config.rulebook()) as service:
        found = Reloader(service, config, {})
        await store.close()
        put(tmp_path, ALLOW)
        assert not await found.reload()
        assert outcome(service) is Outcome.GATE
        assert found.changed()
        put(tmp_path, {"version": "2"})
        assert not await found.reload()
        assert outcome(service) is Outcome.GATE


def test_the_files_used_here_are_valid(tmp_path: Path) -> None:
    assert load(write(tmp_path, VALID), {}).warnings == ()
