"""Money and rates through every part: what a limit refuses never reaches the upstream."""

import asyncio
from pathlib import Path

from approval.core.call import Status
from approval.errors import NoRoom
from tests.factories import make_asked, make_rulebook, make_service

SPENDING = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "create_incoming_phone_number": {
            "spend": {"amount": {"fixed": "10.00 USD"}, "meters": ["pot"]},
        },
    },
    "meters": {"pot": {"limit": "100.00 USD", "window": {"calendar": "day"}}},
}


async def test_of_fifty_parallel_calls_of_ten_against_a_hundred_ten_are_admitted(
    tmp_path: Path,
) -> None:
    rules = make_rulebook(SPENDING)
    async with make_service(tmp_path, rules=rules) as service:

        async def ask(number: int) -> bool:
            asked = make_asked({"number": number})
            verdict = rules.judge(asked.agent, asked.upstream, asked.tool, {"number": number})
            try:
                submission = await service.submit(asked, verdict)
            except NoRoom:
                return False
            assert submission.call.status is Status.EXECUTING
            return True

        admitted = await asyncio.gather(*[ask(number) for number in range(50)])
        assert sum(admitted) == 10
