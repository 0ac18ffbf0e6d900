"""Wake-ups are hints: everybody who watches hears once, and nobody is kept after leaving."""

import asyncio
from dataclasses import replace

from approval.core.call import CallId
from approval.wakeups import BACKLOG, REMEMBERED, Wakeups
from tests.factories import make_call

ONE, TWO = CallId("apr_1"), CallId("apr_2")


async def test_everybody_who_watches_a_call_hears_of_its_change_and_of_no_other() -> None:
    wakeups, call = Wakeups(), make_call()
    with (
        wakeups.watching(ONE) as first,
        wakeups.watching(ONE) as second,
        wakeups.watching(TWO) as other,
    ):
        wakeups.wake(ONE, call)
        wakeups.wake(ONE, None)  # the first word stands
        assert (first.result(), second.result(), other.done()) == (call, call, False)


async def test_a_change_that_nobody_watches_is_forgotten() -> None:
    wakeups = Wakeups()
    with wakeups.watching(ONE):
        pass
    wakeups.wake(ONE, None)
    with wakeups.watching(ONE) as later:
        assert not later.done()


async def test_a_subscriber_hears_of_every_change_in_order_and_stops_when_it_leaves() -> None:
    wakeups = Wakeups()
    with wakeups.subscribed() as heard:
        wakeups.wake(ONE, None)
        wakeups.wake(TWO, make_call())
        assert [heard.get_nowait(), heard.get_nowait()] == [ONE, TWO]
    wakeups.wake(ONE, None)
    assert heard.empty()


async def test_a_subscriber_that_falls_behind_blocks_nobody() -> None:
    wakeups = Wakeups()
    with wakeups.subscribed() as slow:
        for _ in range(BACKLOG + 5):
            wakeups.wake(ONE, None)
        assert slow.qsize() == BACKLOG
        with wakeups.watching(TWO) as other:
            wakeups.wake(TWO, None)
            async with asyncio.timeout(5):
                assert await other is None


async def test_our_own_change_is_no_news_when_it_comes_back_from_the_store() -> None:
    wakeups, call = Wakeups(), make_call(version=2)
    wakeups.wake(ONE, call)
    with wakeups.watching(ONE) as watching, wakeups.subscribed() as heard:
        assert [wakeups.hint(ONE, version) for version in (1, 2)] == [False] * 2
        assert not watching.done()
        assert heard.empty()
        assert wakeups.latest(ONE) is call
        assert wakeups.hint(ONE, 3)
        assert watching.result() is None
        # How it is now is for the store to say.
        assert wakeups.latest(ONE) is None


async def test_what_an_agent_knows_of_its_call_is_news_to_those_who_look_on_alone() -> None:
    wakeups = Wakeups()
    with wakeups.watching(ONE) as watching, wakeups.subscribed() as heard:
        assert not wakeups.hint(ONE, 0)
        assert not watching.done()
        assert heard.get_nowait() == ONE


async def test_the_newest_of_a_calls_versions_is_known_whatever_came_last() -> None:
    wakeups, newer = Wakeups(), make_call(version=3)
    wakeups.wake(ONE, newer)
    wakeups.wake(ONE, replace(newer, version=2))
    assert wakeups.latest(ONE) is newer


async def test_only_so_many_calls_are_remembered() -> None:
    wakeups, call = Wakeups(), make_call()
    names = [CallId(f"apr_{number}") for number in range(REMEMBERED + 2)]
    for name in names:
        wakeups.wake(name, call)
    assert [wakeups.latest(name) for name in names[:2]] == [None, None]
    assert wakeups.latest(names[2]) is call
