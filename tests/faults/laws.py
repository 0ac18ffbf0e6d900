"""The laws of the design, by number, as far as a run under fire shows them from outside.

A `Run` is what witnesses saw: the upstream's side, the agents', the person's, the API's and the
trail's. Each law answers with what broke it, in words; a run that holds has nothing to say.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tests.faults.witness import Arrival

SEND_WINDOW = timedelta(seconds=2)
UNRUN = frozenset({"rejected", "expired", "cancelled", "invalidated", "pending", "approved"})
LIVE = frozenset({"pending", "approved", "executing"})
LEAVING = frozenset({"rejected", "expired", "cancelled", "invalidated", "approved"})

Entries = list[dict[str, Any]]
Law = Callable[["Run"], Iterator[str]]


@dataclass(slots=True, kw_only=True)
class Run:
    """What was seen of one run, by the number in each call's arguments where that tells it."""

    asked: frozenset[int]
    calls: list[dict[str, Any]]
    """As the API tells of them at the end, each with its result."""
    read_at: datetime
    trail: Entries
    arrivals: list[Arrival]
    effects: Counter[int]
    """What the MCP server itself says that it did."""
    acknowledged: dict[int, str]
    """The call's id, as its agent was told it."""
    final: dict[int, str]
    results: dict[int, dict[str, Any]]
    """The result that an agent was handed."""
    doubts: dict[int, list[tuple[str, str]]]
    """What an agent was told, id and state, that asked again while its call was in doubt."""
    answered: dict[str, tuple[str, str]]
    """The choice and the digest, by call, that a person sent and that were answered with 200."""
    undone: set[str]
    """Calls that a person saw pending after that answer."""

    @property
    def states(self) -> dict[int, str]:
        return {number_of(call): call["state"] for call in self.calls}

    def story(self, call: dict[str, Any]) -> Entries:
        return [entry for entry in self.trail if entry["subject"] == call["id"]]

    def arrived(self, call: dict[str, Any]) -> list[Arrival]:
        return [each for each in self.arrivals if each.number == number_of(call)]


def number_of(call: dict[str, Any]) -> int:
    return int(call["arguments"]["n"])


def tags(story: Entries) -> list[str]:
    return [str(entry["tag"]).removeprefix("call:") for entry in story]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def nothing_runs_twice(run: Run) -> Iterator[str]:
    sent = Counter(arrival.number for arrival in run.arrivals)
    for name, counted in (("arrived", sent), ("ran", run.effects)):
        yield from (f"{n} {name} {times} times" for n, times in counted.items() if times > 1)


def what_did_not_run_had_no_effect(run: Run) -> Iterator[str]:
    for number, state in run.states.items():
        if run.effects[number] and state in UNRUN | {"failed"}:
            yield f"{number} is {state} and ran"
    for call in run.calls:
        if call["state"] in UNRUN and run.arrived(call):
            yield f"{number_of(call)} is {call['state']} and arrived"


def what_is_executed_ran(run: Run) -> Iterator[str]:
    for number, state in run.states.items():
        if state == "executed" and run.effects[number] != 1:
            yield f"{number} is executed and ran {run.effects[number]} times"


def what_arrives_is_what_was_approved(run: Run) -> Iterator[str]:
    """Count the envelope again, from the bytes that arrived, and find it in the approval."""
    for call in run.calls:
        for arrival in run.arrived(call):
            story = run.story(call)
            told = [e["facts"]["digest"] for e in story if e["tag"] == "call:approve"]
            if arrival.tool != call["tool"] or told != [envelope(call, story[0], arrival)]:
                yield f"{number_of(call)} arrived as {arrival.arguments!r}, approved was {told}"


def envelope(call: dict[str, Any], held: dict[str, Any], arrival: Arrival) -> str:
    """Write what an approval depends on as the design says it is hashed."""
    timeout = timedelta(seconds=call["requirement"]["timeout_seconds"])
    facts = {name: held["facts"][name] for name in ("agent", "policy", "upstream")}
    text = {
        **facts,
        "arguments": sha256(arrival.arguments).hexdigest(),
        "decide_before": (moment(held["at"]) + timeout).isoformat(),
        "id": call["id"],
        "key": "",
        "requirement": call["requirement"],
        "tool": arrival.tool,
    }
    written = json.dumps(text, sort_keys=True, separators=(",", ":"))
    return sha256(b"approval/call/1\n" + written.encode()).hexdigest()


def what_is_claimed_is_what_was_approved(run: Run) -> Iterator[str]:
    for call in run.calls:
        digests = {
            entry["facts"]["digest"]
            for entry in run.story(call)
            if entry["tag"] in {"call:approve", "call:claim"}
        }
        if len(digests) > 1:
            yield f"{number_of(call)} was approved as one thing and claimed as another"


def the_claim_is_committed_before_the_call_arrives(run: Run) -> Iterator[str]:
    for arrival in run.arrivals:
        committed = [tag.removeprefix("call:") for tag in arrival.committed]
        found = [tag for tag in committed if tag in {"approve", "claim"}]
        if found != ["approve", "claim"]:
            yield f"{arrival.number} arrived when its trail was {committed}"


def nothing_is_late(run: Run) -> Iterator[str]:
    for call in run.calls:
        number = number_of(call)
        for arrival in run.arrived(call):
            if call["run_before"] is None:
                yield f"{number} arrived and had no time to run"
            elif arrival.at > (moment(call["run_before"]) + SEND_WINDOW).timestamp():
                yield f"{number} arrived after its time to run"
        approved = next((e for e in run.story(call) if e["tag"] == "call:approve"), None)
        if approved is not None and approved["at"] > later_by_a_tick(call["decide_before"]):
            yield f"{number} was approved after its time to decide"


def later_by_a_tick(written: str) -> str:
    """The API rounds down to milliseconds; the trail does not."""
    return (moment(written) + timedelta(milliseconds=1)).isoformat(timespec="microseconds")


def equal_requests_are_one_call(run: Run) -> Iterator[str]:
    counted = Counter(number_of(call) for call in run.calls)
    yield from (f"{n} is {times} calls" for n, times in counted.items() if times > 1)


def a_doubt_is_asked_for_in_vain(run: Run) -> Iterator[str]:
    for number, told in run.doubts.items():
        if set(told) - {(run.acknowledged[number], "in_doubt")}:
            yield f"{number} was in doubt, and asking again was answered {told}"


def what_has_ended_stays(run: Run) -> Iterator[str]:
    for call in run.calls:
        ends = [e["facts"]["to"] for e in run.story(call) if "to" in e["facts"]]
        ended = [to not in LIVE | {"in_doubt"} for to in ends]
        if any(ended[:-1]) or ends[-1:] != [call["state"]]:
            yield f"{number_of(call)} is {call['state']} after {ends}"


def pending_is_left_once(run: Run) -> Iterator[str]:
    for call in run.calls:
        moves = [(e["facts"].get("from"), e["facts"].get("to")) for e in run.story(call)]
        left = sum(source == "pending" and to in LEAVING for source, to in moves)
        if left != 1:
            yield f"{number_of(call)} left pending {left} times"


def what_was_rejected_is_not_claimed(run: Run) -> Iterator[str]:
    for call in run.calls:
        told = set(tags(run.story(call)))
        if {"reject", "revoke"} & told and "claim" in told:
            yield f"{number_of(call)} was rejected and claimed"


def nothing_waits_for_ever(run: Run) -> Iterator[str]:
    """Hold the end, a lease after the last kill, against deadlines: 16 and 17."""
    for call in run.calls:
        deadline = {"pending": call["decide_before"], "approved": call["run_before"]}
        due = deadline.get(call["state"])
        if call["state"] == "executing" or (due is not None and moment(due) < run.read_at):
            yield f"{number_of(call)} is still {call['state']}"


def a_doubt_is_left_by_an_answer_alone(run: Run) -> Iterator[str]:
    """Nobody settles here, so the only ways out of a doubt are the two late answers."""
    for call in run.calls:
        told = tags(run.story(call))
        after = told[told.index("lose") + 1 :] if "lose" in told else []
        if set(after) - {"join", "deliver", "succeed_late", "err_late"}:
            yield f"{number_of(call)} was in doubt, and then {after}"


def there_is_one_attempt(run: Run) -> Iterator[str]:
    for call in run.calls:
        claims = tags(run.story(call)).count("claim")
        if claims > 1 or (run.arrived(call) and claims != 1):
            yield f"{number_of(call)} was claimed {claims} times"


def nothing_is_lost(run: Run) -> Iterator[str]:
    ids = {number_of(call): call["id"] for call in run.calls}
    yield from (f"{number} was asked for and is gone" for number in sorted(run.asked - ids.keys()))
    for number, told in run.acknowledged.items():
        if ids.get(number) != told:
            yield f"an agent was told that {number} is {told}, and it is {ids.get(number)}"
    yield from (
        f"{state} is what {n} is at the end" for n, state in run.states.items() if state in LIVE
    )


def what_a_person_was_told_stands(run: Run) -> Iterator[str]:
    stories = {call["id"]: run.story(call) for call in run.calls}
    for call_id, (choice, digest) in run.answered.items():
        entries = [e for e in stories.get(call_id, []) if e["tag"] == f"call:{choice}"]
        if [e["facts"]["digest"] for e in entries] != [digest]:
            yield f"{choice} of {call_id} was answered 200 and is not in the trail"
    yield from (f"{call_id} was decided and pending again" for call_id in sorted(run.undone))


def what_an_agent_was_told_stands(run: Run) -> Iterator[str]:
    for number, told in run.final.items():
        if told != "in_doubt" and run.states.get(number) != told:
            yield f"an agent was told that {number} is {told}, and it is {run.states.get(number)}"


def results_are_the_upstreams_own(run: Run) -> Iterator[str]:
    own = {arrival.number: content(arrival.result) for arrival in run.arrivals}
    kept = {number_of(call): call["result"] for call in run.calls if call["state"] == "executed"}
    handed = {f"{n} by its agent": (n, result) for n, result in run.results.items()}
    stored = {f"{n} by the API": (n, (told or {}).get("result")) for n, told in kept.items()}
    for whom, (number, result) in (handed | stored).items():
        if number not in own or content(result) is None or content(result) != own[number]:
            yield f"{whom} is {result}, and the upstream said {own.get(number)}"


def content(result: dict[str, Any] | None) -> Any:
    return None if result is None else result.get("content")


LAWS: Mapping[str, Law] = {
    "1 nothing runs twice": nothing_runs_twice,
    "2 what did not run had no effect": what_did_not_run_had_no_effect,
    "3 what is executed ran": what_is_executed_ran,
    "4 what arrives is what was approved": what_arrives_is_what_was_approved,
    "5 claimed before it arrives": the_claim_is_committed_before_the_call_arrives,
    "6 what is claimed is what was approved": what_is_claimed_is_what_was_approved,
    "7 nothing is late": nothing_is_late,
    "8 equal requests are one call": equal_requests_are_one_call,
    "9 a doubt is asked for in vain": a_doubt_is_asked_for_in_vain,
    "12 what has ended stays": what_has_ended_stays,
    "14 pending is left once": pending_is_left_once,
    "15 rejected is not claimed": what_was_rejected_is_not_claimed,
    "16, 17 nothing waits for ever": nothing_waits_for_ever,
    "18 a doubt is left by an answer alone": a_doubt_is_left_by_an_answer_alone,
    "19 there is one attempt": there_is_one_attempt,
    "nothing is lost": nothing_is_lost,
    "what a person was told stands": what_a_person_was_told_stands,
    "what an agent was told stands": what_an_agent_was_told_stands,
    "results are the upstream's own": results_are_the_upstreams_own,
}


def broken(run: Run) -> list[str]:
    """Say which laws the run broke, and by what."""
    return [f"{name}: {told}" for name, law in LAWS.items() for told in law(run)]
