"""Each law of a run under fire notices the run that breaks it; a run without fault breaks none."""

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from tests.faults.laws import LAWS, Run, broken, envelope
from tests.faults.witness import Arrival, arrival_of, result_of

SENT = json.dumps({"n": 1, "note": "€"}, separators=(",", ":"), ensure_ascii=False).encode()
RESULT = {"content": [{"type": "text", "text": "1"}]}
AT = "2026-11-25T12:00:0{}.000000+00:00"
MS = "2026-11-25T12:0{}:00.000Z"


def call(number: int, state: str) -> dict[str, Any]:
    return {
        "id": f"apr_{number}",
        "state": state,
        "tool": "count",
        "arguments": {"n": number},
        "decide_before": MS.format(5),
        "run_before": MS.format(6) if state in {"executed", "in_doubt"} else None,
        "requirement": {"timeout_seconds": 300},
        "result": {"result": RESULT} if state == "executed" else None,
    }


def entry(number: int, tag: str, source: str | None, to: str, **facts: str) -> dict[str, Any]:
    second = {"hold": 0, "approve": 1, "reject": 1, "claim": 2}.get(tag, 3)
    told = {"from": source, "to": to, "digest": "d", **facts}
    return {
        "subject": f"apr_{number}",
        "tag": f"call:{tag}",
        "at": AT.format(second),
        "facts": told,
    }


def begun(number: int) -> dict[str, Any]:
    return entry(number, "hold", None, "pending", agent="bot", policy="p", upstream="fixture")


def ran(number: int, digest: str, event: str, to: str) -> list[dict[str, Any]]:
    return [
        begun(number),
        entry(number, "approve", "pending", "approved", digest=digest),
        entry(number, "claim", "approved", "executing", digest=digest),
        entry(number, event, "executing", to),
    ]


def arrival(number: int) -> Arrival:
    return Arrival(
        at=datetime(2026, 11, 25, 12, 0, 2, tzinfo=UTC).timestamp(),
        tool="count",
        arguments=SENT.replace(b"1", str(number).encode()),
        committed=("call:hold", "call:approve", "call:claim"),
        result=RESULT,
    )


def faultless() -> Run:
    """One call that ran, one in doubt, one that was rejected."""
    calls = [call(1, "executed"), call(2, "in_doubt"), call(3, "rejected")]
    digests = [envelope(calls[n], begun(n + 1), arrival(n + 1)) for n in (0, 1)]
    reject = entry(3, "reject", "pending", "rejected", digest="c")
    return Run(
        asked=frozenset({1, 2, 3}),
        calls=calls,
        read_at=datetime(2026, 11, 25, 13, tzinfo=UTC),
        trail=[
            *ran(1, digests[0], "succeed", "executed"),
            *ran(2, digests[1], "lose", "in_doubt"),
            *[begun(3), reject],
        ],
        arrivals=[arrival(1), arrival(2)],
        effects=Counter({1: 1, 2: 1}),
        acknowledged={1: "apr_1", 2: "apr_2", 3: "apr_3"},
        final={1: "executed", 2: "in_doubt", 3: "rejected"},
        results={1: RESULT},
        doubts={2: [("apr_2", "in_doubt")] * 3},
        answered={"apr_1": ("approve", digests[0]), "apr_3": ("reject", "c")},
        undone=set(),
    )


def sees(law: str, spoil: Callable[[Run], object]) -> tuple[str, Callable[[Run], object]]:
    return law, spoil


def facts(run: Run, number: int, tag: str) -> dict[str, Any]:
    named = f"call:{tag}"
    found = [e for e in run.trail if (e["subject"], e["tag"]) == (f"apr_{number}", named)]
    told: dict[str, Any] = found[0]["facts"]
    return told


FAULTS = [
    sees("1 ", lambda run: run.effects.update({1: 1})),
    sees("1 ", lambda run: run.arrivals.append(arrival(2))),
    sees("2 ", lambda run: run.effects.update({3: 1})),
    sees("2 ", lambda run: run.arrivals.append(arrival(3))),
    sees("3 ", lambda run: run.effects.pop(1)),
    sees("4 ", lambda run: setattr(run.arrivals[0], "arguments", SENT.replace(b":1,", b": 1,"))),
    sees("4 ", lambda run: setattr(run.arrivals[0], "tool", "wipe")),
    sees("5 ", lambda run: setattr(run.arrivals[0], "committed", ("call:hold", "call:approve"))),
    sees("5 ", lambda run: setattr(run.arrivals[0], "committed", ())),
    sees("6 ", lambda run: facts(run, 1, "claim").update(digest="another")),
    sees("7 ", lambda run: setattr(run.arrivals[0], "at", run.arrivals[0].at + 361)),
    sees("7 ", lambda run: run.calls[0].update(decide_before=MS.format(0))),
    sees("8 ", lambda run: run.calls.append(call(1, "executed"))),
    sees("9 ", lambda run: run.doubts[2].append(("apr_4", "pending"))),
    sees("12 ", lambda run: run.trail.append(entry(3, "claim", "rejected", "executing"))),
    sees("14 ", lambda run: run.trail.append(entry(3, "expire", "pending", "expired"))),
    sees("15 ", lambda run: run.trail.append(entry(3, "claim", "rejected", "executing"))),
    sees("16, 17 ", lambda run: run.calls[1].update(state="executing")),
    sees("16, 17 ", lambda run: run.calls[1].update(state="approved")),
    sees("16, 17 ", lambda run: run.calls[1].update(state="pending")),
    sees("18 ", lambda run: run.trail.append(entry(2, "fail", "in_doubt", "failed"))),
    sees("19 ", lambda run: run.trail.append(entry(1, "claim", "approved", "executing"))),
    sees("nothing is lost", lambda run: run.calls.pop()),
    sees("nothing is lost", lambda run: run.acknowledged.update({3: "apr_5"})),
    sees("nothing is lost", lambda run: run.calls[2].update(state="pending")),
    sees("what a person", lambda run: run.trail.pop()),
    sees("what a person", lambda run: facts(run, 1, "approve").update(digest="another")),
    sees("what a person", lambda run: run.undone.add("apr_1")),
    sees("what an agent", lambda run: run.final.update({3: "executed"})),
    sees("results", lambda run: run.results.update({1: {"content": []}})),
    sees("results", lambda run: run.results.update({3: RESULT})),
    sees("results", lambda run: run.calls[0].update(result=None)),
]


def test_a_run_without_fault_breaks_no_law() -> None:
    assert broken(faultless()) == []


@pytest.mark.parametrize(("law", "spoil"), FAULTS)
def test_a_law_notices_what_breaks_it(law: str, spoil: Callable[[Run], object]) -> None:
    run = deepcopy(faultless())
    spoil(run)
    assert any(told.startswith(law) for told in broken(run))


def test_every_law_has_its_fault() -> None:
    assert all(any(name.startswith(law) for law, _ in FAULTS) for name in LAWS)


def test_the_witness_keeps_the_bytes_that_came_and_the_result_that_went() -> None:
    came = b'{"method":"tools/call","params":{"name":"count","arguments":' + SENT + b"}}"
    assert arrival_of(came, 1.0).arguments == SENT
    assert sha256(arrival_of(came, 1.0).arguments).digest() == sha256(SENT).digest()
    told = json.dumps({"id": 1, "result": RESULT}).encode()
    for body in (told, b"event: message\ndata: " + told + b"\n\n"):
        assert result_of(body) == RESULT
    assert result_of(b'{"id":1,"error":{}}') is None
