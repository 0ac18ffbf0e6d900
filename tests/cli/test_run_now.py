"""`approval run`: an approver's own proof, and exactly the call that was shown."""

import asyncio
from pathlib import Path

from approval.app.opening import opened
from approval.cli.terminal import Exit
from approval.config import load
from approval.core.call import Call, Listener, Status
from tests.cli.desk import AGENT, ANN, BOB, CARL, Desk, desk


def park(at: Desk) -> Call:
    """Put a call on file whose agent hung up, and which ann has approved."""
    call = at.hold()

    async def hang_up() -> None:
        async with opened(load(at.config)) as (store, _):
            await store.listen(call.id, Listener.GONE, call.listener_owner)

    asyncio.run(hang_up())
    assert at.run("approve", call.id, token=ANN).code == 0
    return at.call(call.id)


def test_an_approver_lets_a_parked_call_run(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = park(at)
    assert f"with `approval run {call.id}`" in at.run("show", call.id).out
    ended = at.run("run", call.id, token=BOB)
    assert ended.code == 0
    assert call.digest in ended.out
    assert f"{call.id} runs now: the service sends it, until 20" in ended.out
    released = at.call(call.id)
    assert (released.status, released.released_by) == (Status.APPROVED, "bob")
    assert "approval run" not in at.run("show", call.id).out
    # Another one who says the same changes nothing.
    again = at.run("run", call.id, "--json", token=ANN)
    assert (again.code, again.document["released_by"], again.document["version"]) == (0, "bob", 3)


def test_nobody_else_does(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = park(at)
    for token, why in ((CARL, "carl is not among those"), (AGENT, "agents do not decide")):
        ended = at.run("run", call.id, token=token)
        assert (ended.code, why in ended.err) == (Exit.REFUSED, True)
    assert at.run("run", call.id).code == Exit.REFUSED
    assert at.run("run", call.id, "--as", "ann").code == Exit.REFUSED
    stale = at.run("run", call.id, "--digest", "0" * 16, token=ANN)
    assert "another than was given" in stale.err
    assert at.call(call.id).released_by is None


def test_what_is_not_parked_is_refused(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    pending = at.run("run", call.id, token=ANN)
    assert pending.code == Exit.REFUSED
    assert "the call is pending; only an approved call can be run now" in pending.err
