import pytest

from approval.errors import Refused
from approval.gateway.session import EVICT_AFTER_SECONDS, Session, Sessions
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream_http import HttpConversation, HttpUpstream


def added(sessions: Sessions, agent: str = "a", now: float = 0) -> Session:
    far = HttpUpstream("shop", UpstreamSettings(url="http://127.0.0.1:9/mcp")).begin()
    return sessions.add(agent=agent, upstream="shop", far=far, client_name="c", now=now)


def test_a_session_exists_for_its_own_agent_and_upstream_alone() -> None:
    sessions = Sessions()
    session = added(sessions)
    assert sessions.find(session.id, agent="a", upstream="shop") is session
    assert sessions.find(session.id, agent="b", upstream="shop") is None
    assert sessions.find(session.id, agent="a", upstream="other") is None
    assert sessions.find("guess", agent="a", upstream="shop") is None
    sessions.remove(session)
    assert sessions.find(session.id, agent="a", upstream="shop") is None


def test_ids_are_long_and_all_different() -> None:
    sessions = Sessions()
    ids = {added(sessions).id for _ in range(100)}
    assert len(ids) == 100
    assert min(map(len, ids)) >= 43


def test_the_session_idle_for_longest_makes_room() -> None:
    sessions = Sessions()
    older, busy = added(sessions, now=1), added(sessions, now=0)
    busy.busy = 1
    added(sessions, agent="b", now=0)
    assert sessions.make_room("a", limit=3, now=100) is None
    assert sessions.make_room("a", limit=2, now=100) is older


def test_sessions_in_use_make_no_room() -> None:
    sessions = Sessions()
    added(sessions, now=90)
    with pytest.raises(Refused, match="has 1 sessions open, the most it may") as caught:
        sessions.make_room("a", limit=1, now=100)
    assert caught.value.retryable


def test_a_busy_session_is_never_idle() -> None:
    sessions = Sessions()
    idle, busy, fresh = added(sessions), added(sessions), added(sessions, now=9)
    busy.busy = 1
    assert sessions.idle(5, now=10) == [idle]
    assert set(map(id, sessions)) == {id(idle), id(busy), id(fresh)}


def test_a_session_counts_as_idle_only_after_its_time_unless_it_is_over() -> None:
    sessions = Sessions()
    session = added(sessions, now=40)
    with pytest.raises(Refused):
        sessions.make_room("a", limit=1, now=40 + EVICT_AFTER_SECONDS)
    assert sessions.idle(60, now=100) == []
    assert isinstance(session.far, HttpConversation)
    session.far._over = True
    session.busy = 1
    assert sessions.idle(60, now=100) == [session]
