"""Tokens find their bearers, are kept only as digests, and are spent once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from approval.core.audit import Tag
from approval.core.identity import Agent, token_digest
from approval.keyring import Keyring, Randomness
from approval.store.store import SqlStore
from tests.factories import AGENT_TOKEN, ANN_TOKEN, NOW, Clock, make_directory

DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open("sqlite:///approval.db", base=tmp_path, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def keyring(store: SqlStore) -> Keyring:
    return Keyring(store, make_directory())


def name(bearer: object) -> str | None:
    return getattr(bearer, "name", None)


async def trail(store: SqlStore) -> list[dict[str, object]]:
    bodies = [orjson.loads(line.body) for line in await store.trail()]
    return [{key: body[key] for key in ("tag", "subject", "actor", "facts")} for body in bodies]


async def test_configured_tokens_are_known_at_once(keyring: Keyring, store: SqlStore) -> None:
    assert name(keyring.agent(AGENT_TOKEN)) == "ops-agent"
    assert name(keyring.person(ANN_TOKEN)) == "ann"
    assert keyring.agent(ANN_TOKEN) is None
    assert keyring.person(AGENT_TOKEN) is None
    assert await store.trail() == ()


@pytest.mark.parametrize("token", ["", "apv_wrong", "\ud800", "x" * 100_000])
async def test_what_was_never_issued_finds_nobody(keyring: Keyring, token: str) -> None:
    assert keyring.agent(token) is None
    assert keyring.person(token) is None
    assert await keyring.session(token) is None
    assert await keyring.spend("login", token, tag=Tag.LOGIN_OPEN, actor="web") is None


@pytest.mark.parametrize(
    ("kind", "subject"), [("agent", "ops-agent"), ("person", "ann"), ("session", "ann")]
)
async def test_an_issued_token_finds_its_bearer_in_its_own_kind_alone(
    keyring: Keyring, kind: str, subject: str
) -> None:
    token = await keyring.issue(kind, subject, actor="cli")
    found = {
        "agent": name(keyring.agent(token)),
        "person": name(keyring.person(token)),
        "session": name(await keyring.session(token)),
    }
    assert found == {k: subject if k == kind else None for k in found}


async def test_an_agent_and_a_person_of_one_name_do_not_share_tokens(store: SqlStore) -> None:
    ann = Agent(name="ann", upstreams=frozenset({"shop"}))
    keyring = Keyring(store, make_directory(agents={"ann": ann}))
    tokens = {kind: await keyring.issue(kind, "ann", actor="cli") for kind in ("agent", "person")}
    assert keyring.agent(tokens["agent"]) is ann
    assert keyring.person(tokens["agent"]) is None
    assert keyring.agent(tokens["person"]) is None
    assert name(keyring.person(tokens["person"])) == "ann"


async def test_tokens_are_long_recognisable_and_never_the_same(keyring: Keyring) -> None:
    tokens = {await keyring.issue("agent", "ops-agent", actor="cli") for _ in range(5)}
    assert len(tokens) == 5
    assert all(token.startswith("apv_") and len(token) == 47 for token in tokens)


async def test_a_secret_is_nowhere_on_disk(
    keyring: Keyring, store: SqlStore, tmp_path: Path
) -> None:
    token = await keyring.issue("person", "ann", actor="cli")
    for file in tmp_path.iterdir():  # noqa: ASYNC240
        assert token.encode() not in file.read_bytes()
    (kept,) = await store.credentials("person")
    assert (kept.digest, kept.created_at) == (token_digest(token), NOW)
    assert await trail(store) == [
        {"tag": "token:issue", "subject": "ann", "actor": "cli", "facts": {"kind": "person"}}
    ]


async def test_a_token_of_somebody_who_was_removed_finds_nobody(keyring: Keyring) -> None:
    tokens = {k: await keyring.issue(k, s, actor="cli") for k, s in SUBJECTS.items()}
    keyring.adopt(make_directory(agents={}, people={}))
    assert keyring.agent(tokens["agent"]) is None
    assert keyring.person(tokens["person"]) is None
    assert await keyring.session(tokens["session"]) is None


SUBJECTS = {"agent": "ops-agent", "person": "ann", "session": "ann"}


async def test_a_login_link_is_spent_by_its_first_use(keyring: Keyring, store: SqlStore) -> None:
    token = await keyring.issue("login", "ann", actor="service", lifetime=DAY)
    used = [await keyring.spend("login", token, tag=Tag.LOGIN_OPEN, actor="web") for _ in "ab"]
    assert used == ["ann", None]
    assert (await trail(store))[1:] == [
        {
            "tag": "login:open",
            "subject": "login",
            "actor": "web",
            "facts": {"bearer": "ann", "credential": token_digest(token)[:16]},
        }
    ]


async def test_a_secret_is_spent_only_as_what_it_is(keyring: Keyring) -> None:
    token = await keyring.issue("login", "ann", actor="service")
    assert await keyring.spend("session", token, tag=Tag.TOKEN_REVOKE, actor="web") is None
    assert await keyring.session(token) is None
    assert await keyring.spend("login", token, tag=Tag.LOGIN_OPEN, actor="web") == "ann"


async def test_sessions_and_links_end_at_their_time(keyring: Keyring, clock: Clock) -> None:
    session = await keyring.issue("session", "ann", actor="web", lifetime=DAY)
    login = await keyring.issue("login", "ann", actor="web", lifetime=DAY)
    clock.advance(hours=24, microseconds=-1)
    assert name(await keyring.session(session)) == "ann"
    clock.advance(microseconds=1)
    assert await keyring.session(session) is None
    assert await keyring.spend("login", login, tag=Tag.LOGIN_OPEN, actor="web") is None


async def test_an_expired_session_does_not_come_back_when_the_clock_is_set_back(
    keyring: Keyring, clock: Clock, tmp_path: Path
) -> None:
    session = await keyring.issue("session", "ann", actor="web", lifetime=DAY)
    clock.advance(hours=25)
    await keyring.issue("session", "bob", actor="web", lifetime=DAY)
    clock.advance(hours=-2)
    assert await keyring.session(session) is None
    restarted = await SqlStore.open("sqlite:///approval.db", base=tmp_path, clock=clock)
    assert await Keyring(restarted, make_directory()).session(session) is None
    await restarted.close()


@pytest.mark.parametrize("kind", ["agent", "person"])
async def test_tokens_that_nobody_times_are_not_issued_with_a_lifetime(
    keyring: Keyring, store: SqlStore, kind: str
) -> None:
    with pytest.raises(ValueError, match=f"a token of kind {kind} lasts until it is revoked"):
        await keyring.issue(kind, "ann", actor="cli", lifetime=DAY)
    assert await store.credentials(kind) == ()


async def test_revoking_takes_every_secret_of_that_kind_from_that_bearer(
    keyring: Keyring, store: SqlStore
) -> None:
    first, second = [await keyring.issue("person", "ann", actor="cli") for _ in "ab"]
    bobs = await keyring.issue("person", "bob", actor="cli")
    session = await keyring.issue("session", "ann", actor="web")
    assert await keyring.revoke("person", "ann", actor="cli") == 2
    assert [keyring.person(token) for token in (first, second)] == [None, None]
    assert name(keyring.person(bobs)) == "bob"
    assert name(await keyring.session(session)) == "ann"
    assert name(keyring.person(ANN_TOKEN)) == "ann"
    assert await keyring.revoke("person", "ann", actor="cli") == 0
    revoked = [line for line in await trail(store) if line["tag"] == "token:revoke"]
    assert [line["subject"] for line in revoked] == ["ann", "ann"]


async def test_a_spent_token_is_forgotten_at_once(keyring: Keyring) -> None:
    token = await keyring.issue("agent", "ops-agent", actor="cli")
    assert await keyring.spend("agent", token, tag=Tag.TOKEN_REVOKE, actor="cli") == "ops-agent"
    assert keyring.agent(token) is None


async def test_what_another_process_issued_or_revoked_is_known_after_a_refresh(
    keyring: Keyring, store: SqlStore, tmp_path: Path, clock: Clock
) -> None:
    other = await SqlStore.open("sqlite:///approval.db", base=tmp_path, clock=clock)
    elsewhere = Keyring(other, make_directory())
    token = await elsewhere.issue("agent", "ops-agent", actor="cli")
    assert keyring.agent(token) is None
    await keyring.refresh()
    assert name(keyring.agent(token)) == "ops-agent"
    await elsewhere.revoke("agent", "ops-agent", actor="cli")
    await keyring.refresh()
    assert keyring.agent(token) is None
    await other.close()


def test_no_piece_of_randomness_is_given_twice() -> None:
    randomness = Randomness(10)
    pieces = [randomness() for _ in range(1000)]
    assert len(set(pieces)) == 1000
    assert {len(piece) for piece in pieces} == {10}
