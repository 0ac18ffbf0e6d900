"""Limits as agents meet them on the wire: whatever an agent calls itself, it is the same agent."""

from pathlib import Path

import pytest

from tests.fakes.launch import fixture_command
from tests.gateway.wire import ERAS, LEGACY, RawAgent, command, serve

LIMITED = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {"count": {"rate_limit": {"max": 3, "window": "1h"}}},
}


@pytest.mark.parametrize("eras", [ERAS[:1], ERAS[1:], ERAS], ids=str)
async def test_a_new_session_for_each_call_raises_no_total(
    eras: tuple[str, ...], tmp_path: Path
) -> None:
    """42: a rate counts by who proved to be who, not by what a client can choose anew."""
    async with serve(tmp_path, command(fixture_command("--stdio")), LIMITED) as wire:
        answers, sessions = [], []
        for number in range(6):
            era = eras[number % len(eras)]
            agent = await RawAgent.connected(wire, era, name=f"client {number}")
            sessions += [agent.session] if era == LEGACY else []
            answers.append((await agent.call("count", {"number": number})).result)
        assert len(set(sessions)) == len(sessions)
        refused = [bool(answer.get("isError")) for answer in answers]
        assert refused == [False] * 3 + [True] * 3
