"""Wake-ups are hints: everybody who watches hears once, and nobody is kept after leaving."""

import asyncio

from approval.core.call import CallId
from approval.wakeups import BACKLOG, Wakeups
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
