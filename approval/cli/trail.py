"""Commands on the trail: check it, look at its end, write it out."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from approval.cli.session import run, session
from approval.cli.terminal import Declined, complain, facts, hint, say, table, write_json
from approval.core.audit import GENESIS, Written
from approval.core.canonical import quoted
from approval.store.store import SqlStore

PAGE: Final = 1000
MIN_DIGEST: Final = 16


def verify(config: Path, head: str | None, *, as_json: bool) -> None:
    """Check the whole trail against itself and against the calls."""
    run(_verify(config, head, as_json=as_json))


async def _verify(config: Path, head: str | None, *, as_json: bool) -> None:
    async with session(config) as here:
        report = await here.store.verify()
        problems = list(report.problems)
        if head is not None and not await _holds(here.store, head.lower()):
            problems.append(f"the trail does not hold {head}: its end is gone, or was replaced")
    figures = {"entries": report.entries, "calls": report.calls, "head": report.head}
    if as_json:
        write_json({**figures, "problems": problems})
    else:
        facts([(name, str(value)) for name, value in figures.items()])
        complain(problems)
    if problems:
        raise Declined(f"The trail does not hold: {len(problems)} problem(s). Do not rely on it.")
    if not as_json:
        say("The trail holds.", style="bold green")
        hint("Keep the head elsewhere: --head NUMBER:HASH then shows whether the end was cut off.")


async def _holds(store: SqlStore, head: str) -> bool:
    """Look for a head as `verify` prints it: an entry's number and the beginning of its hash."""
    number, _, digest = head.partition(":")
    if not number.isdecimal() or len(digest) < MIN_DIGEST:
        raise Declined(f"{quoted(head)} is not a head; give what `audit verify` printed.")
    if int(number) == 0:
        return GENESIS.hex().startswith(digest)
    page = await store.trail(after=int(number) - 1, limit=1)
    return bool(page) and page[0].seq == int(number) and page[0].hash.hex().startswith(digest)


def tail(config: Path, count: int, *, as_json: bool) -> None:
    """Show the trail's last entries."""
    run(_tail(config, count, as_json=as_json))


async def _tail(config: Path, count: int, *, as_json: bool) -> None:
    async with session(config) as here:
        after = max(0, await _last(here.store) - count)
        last = [entry async for entry in _entries(here.store, after)]
    if as_json:
        write_json({"entries": [_document(entry) for entry in last]})
    else:
        table(("SEQ", "TIME", "WHAT", "SUBJECT", "WHO"), [_row(entry) for entry in last])


async def _last(store: SqlStore) -> int:
    """Find the last number by halving: numbers have no gaps, and the trail may be long."""
    low, high = 0, 1
    while await store.trail(after=high, limit=1):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if await store.trail(after=middle, limit=1):
            low = middle + 1
        else:
            high = middle
    return low


def _row(entry: Written) -> tuple[str, ...]:
    body = orjson.loads(entry.body)
    at = str(body["at"])[:19] + "Z"
    return (str(entry.seq), at, str(body["tag"]), str(body["subject"]), str(body["actor"]))


def _document(entry: Written) -> dict[str, object]:
    return {"seq": entry.seq, "hash": entry.hash.hex(), "entry": orjson.loads(entry.body)}


def export(config: Path, target: Path | None) -> None:
    """Write the trail as lines of JSON, each with the very bytes that were hashed."""
    run(_export(config, target))


async def _export(config: Path, target: Path | None) -> None:
    async with session(config) as here:
        previous, written = GENESIS, 0
        with _out(target) as out:
            async for entry in _entries(here.store):
                out.write(_line(entry, previous))
                previous, written = entry.hash, written + 1
    hint(f"{written} entries, head {written}:{previous.hex()}")


@contextmanager
def _out(target: Path | None) -> Iterator[BinaryIO]:
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with target.open("xb") as file:
            yield file
    except FileExistsError as error:
        raise Declined(f"{target} exists, and is not overwritten. Name a new file.") from error
    except OSError as error:
        raise Declined(f"{target} cannot be written: {error.strerror}.") from error


def _line(entry: Written, previous: bytes) -> bytes:
    """Write an entry so that a stranger can check it: hash = SHA-256(01, previous, body)."""
    line = {
        "body": entry.body.decode(),
        "hash": entry.hash.hex(),
        "previous": previous.hex(),
        "seq": entry.seq,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


async def _entries(store: SqlStore, after: int = 0) -> AsyncIterator[Written]:
    while True:
        page = await store.trail(after=after, limit=PAGE)
        for entry in page:
            yield entry
        if len(page) < PAGE:
            return
        after = page[-1].seq
