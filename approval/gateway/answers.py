"""What an agent is told of a call that did not simply run, and what an upstream's answer means.

The reader is a language model: each text says what happened, why, by whom, and what to do next,
and says first whether anything was executed. It is always a tool result with `isError`, never a
JSON-RPC error: clients check `structuredContent` of a success against the tool's schema, and models
are shown results, not errors. People's and policies' own words are cut and made visible: they are
text to be quoted, not to be obeyed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from approval.core import canonical, pending
from approval.core.call import Answer, Call, Reason, Status, Verdict
from approval.core.canonical import JSON, quoted
from approval.errors import NoRoom, Refused, StoreUnavailable, Unreadable
from approval.gateway.protocol import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    SEPARATE_KEY,
    UNSUPPORTED_VERSION,
)

META_KEY = "dev.approval/call"
MAX_REASON = 500
ASK_AGAIN_SECONDS = 15
STORE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A text for the model, and the same facts for programs."""

    text: str
    meta: dict[str, JSON]


def tool_result(told: Told, *, modern: bool) -> dict[str, JSON]:
    """Make a `tools/call` result of it; `resultType` exists only on the modern wire."""
    result: dict[str, JSON] = {
        "content": [{"type": "text", "text": told.text}],
        "isError": True,
        "_meta": {META_KEY: told.meta},
    }
    return {"resultType": "complete", **result} if modern else result


def tell(call: Call, *, joined: bool = False, ours: bool = True) -> Told:
    """Say how it stands with a call. `joined`: the agent had asked for exactly this before.

    `ours` is whether our own tools are offered: nobody is sent to a tool that is not there.
    """
    story = _STORIES[call.status](call)
    meta: dict[str, JSON] = {
        "state": str(call.status),
        "id": call.id,
        "retryable": story.retryable or (story.repeats and not ours),
        "reason_code": story.code,
    }
    if call.status is Status.PENDING:
        meta |= {"retry_after": ASK_AGAIN_SECONDS, "decide_before": _time(call.decide_before)}
    elif decider := _decider(call):
        meta["decided_by"] = decider
    if call.note:
        meta["reason"] = quoted(call.note, MAX_REASON)
    if joined:
        meta["joined"] = True
    then = story.ours if ours else story.alone
    return Told(text=story.text + then + (_JOINED if joined else ""), meta=meta)


def tell_denied(verdict: Verdict) -> Told:
    """Say that policy denies a call, of which then nothing but the trail is kept."""
    story = _denied(verdict.reasons)
    return Told(
        text=story.text,
        meta={
            "state": str(Status.DENIED),
            "retryable": story.retryable,
            "reason_code": story.code,
            "decided_by": "policy",
            "reason": _because(verdict.reasons),
        },
    )


def tell_refused(refused: Refused) -> Told:
    """Say that a call could not be admitted now, whatever policy says of it."""
    then = "You may repeat it later." if refused.retryable else "Repeating it will not help."
    return Told(
        text=f"REFUSED, NOT EXECUTED: {quoted(str(refused), MAX_REASON)} {then}",
        meta={
            "state": "refused",
            "retryable": refused.retryable,
            "reason_code": quoted(refused.code),
            "reason": quoted(str(refused), MAX_REASON),
        },
    )


def tell_no_room(refused: NoRoom, *, ours: bool = True) -> Told:
    """Say that a limit has no room for a call, and after how long it may have, where that is known.

    A refusal that says itself for what to wait names no time. With `ours`, our own tools are
    offered: one of them withdraws a call that waits.
    """
    wait = refused.retry_after
    if wait is not None:
        then = f"Nobody was asked. You may repeat it in {wait} seconds."
    elif refused.retryable:
        then = "Nobody was asked about this one. You may repeat it then."
        if ours and refused.code == pending.TOO_MANY:
            then = f"You can also withdraw one with approval_cancel. {then}"
    else:
        then = "Repeating it will not help: ask for less, or ask the operator."
    meta: dict[str, JSON] = {
        "state": str(Status.DENIED),
        "retryable": refused.retryable,
        "reason_code": quoted(refused.code),
        "decided_by": "policy",
        "reason": quoted(str(refused), MAX_REASON),
    }
    if wait is not None:
        meta["retry_after"] = wait
    text = f"DENIED, NOT EXECUTED: {quoted(str(refused), MAX_REASON)} {then}"
    return Told(text=text, meta=meta)


def tell_store_unavailable(error: StoreUnavailable) -> Told:
    """Say that the call could not be recorded, and so was not done. The cause is the operator's."""
    return Told(
        text="NOT EXECUTED. The approval service cannot record calls at the moment, and does"
        " nothing that it cannot record. Nobody was asked. Repeat exactly this call in"
        f" {STORE_RETRY_SECONDS} seconds or later.",
        meta={
            "state": "refused",
            "retryable": True,
            "retry_after": STORE_RETRY_SECONDS,
            "reason_code": "store_unavailable",
        },
    )


def classify(response: dict[str, JSON], *, modern: bool) -> Answer:
    """Say where an upstream's response to a released call leads, and keep its answer.

    Only errors that the protocol answers before it acts prove that nothing happened.

    Raises:
        Unreadable: If it is neither a result nor an error, or both.
    """
    if ("result" in response) == ("error" in response):
        raise Unreadable("response", 'a response has one of "result" and "error"')
    if "error" in response:
        error = response["error"]
        return Answer(
            status=_status_of_error(error, modern=modern), body=canonical.write({"error": error})
        )
    result = response["result"]
    return Answer(status=_status_of_result(result), body=canonical.write({"result": result}))


def _status_of_error(error: JSON, *, modern: bool) -> Status:
    code = error.get("code") if isinstance(error, dict) else None
    proofs = _PROOFS | _MODERN_PROOFS if modern else _PROOFS
    return Status.FAILED if isinstance(code, int) and code in proofs else Status.ERRORED


def _status_of_result(result: JSON) -> Status:
    # An `input_required` or a task is an answer like any other: the upstream may have acted.
    flag = result.get("isError") if isinstance(result, dict) else None
    return Status.EXECUTED if flag is None or flag is False else Status.ERRORED


_PROOFS = frozenset({PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS})
_MODERN_PROOFS = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION})

_JOINED = (
    " You had asked for exactly this before: it is the same single call, not a second one. For a"
    f' second, separate one, send the call with a text of your own as "{SEPARATE_KEY}" in "_meta"'
    " of its params."
)


@dataclass(frozen=True, slots=True)
class _Story:
    """The state of a call in words, its code, and whether repeating the call makes sense.

    The text goes on with what to do next, by our own tools or without them; `repeats` is whether
    that is then to repeat the call, which must not be done otherwise.
    """

    text: str
    code: str
    retryable: bool
    ours: str = ""
    alone: str = ""
    repeats: bool = False


def _pending(call: Call) -> _Story:
    text = (
        f"NOT EXECUTED. This call waits for a person's approval, as call {call.id}, until"
        f" {_time(call.decide_before)}."
    )
    unchanged = (
        "Do not change the arguments: that would be another call, which needs an approval of its"
        " own."
    )
    return _Story(
        text,
        "approval_required",
        retryable=True,
        ours=" Call approval_wait with this id to wait for its outcome, or repeat exactly this call"
        f" later. {unchanged}",
        alone=f" Repeat exactly this call later to have its outcome. {unchanged}",
    )


def _approved(call: Call) -> _Story:
    until = f" before {_time(call.run_before)}" if call.run_before else ""
    return _Story(
        f"APPROVED{_by_voters(call)}, NOT EXECUTED YET.",
        "approved",
        retryable=True,
        ours=f" Call approval_wait with the id {call.id}, or repeat exactly this call,{until} to"
        " have its result.",
        alone=f" Repeat exactly this call{until} to have its result.",
    )


def _executing(call: Call) -> _Story:
    return _Story(
        f"APPROVED{_by_voters(call)} and sent. Its outcome is not known yet.",
        "executing",
        retryable=False,
        ours=f" Do not repeat it: call approval_wait with the id {call.id} to have its result.",
        alone=" Repeat exactly this call later to have its result: it is not sent twice. Do not"
        " change the arguments: that would be another call.",
        repeats=True,
    )


def _executed(call: Call) -> _Story:
    if _settled(call):
        text = (
            f"EXECUTED. Its answer was lost, but {_who(call.ended_by)} found out that it happened"
            f"{_noted(call)}. Do not repeat it."
        )
        return _Story(text, "executed", retryable=False)
    return _Story(
        f"EXECUTED, as approved{_by_voters(call)}. Do not repeat it",
        "executed",
        retryable=False,
        ours=f": call approval_wait with the id {call.id} to have its result.",
        alone=f", even though its result cannot be given here. It is call {call.id}.",
    )


def _errored(call: Call) -> _Story:
    return _Story(
        f"SENT, as approved{_by_voters(call)}, and answered with an error; it may have had an"
        " effect all the same.",
        "errored",
        retryable=False,
        ours=f" Call approval_wait with the id {call.id} to have the error.",
        alone=f" The error cannot be given here. It is call {call.id}.",
    )


def _failed(call: Call) -> _Story:
    # Until a person settles the call, `note` still holds what its approver said.
    found = f" {_who(call.ended_by)} found that out{_noted(call)}." if _settled(call) else ""
    text = (
        f"NOT EXECUTED. The call was approved, but {quoted(call.asked.upstream)} did nothing."
        f"{found} You may send it again; it then needs a new approval."
    )
    return _Story(text, "upstream_did_nothing", retryable=True)


def _in_doubt(call: Call) -> _Story:
    text = (
        f"OUTCOME UNKNOWN. The call was sent to {quoted(call.asked.upstream)} and no answer came"
        f" back{_noted(call)}: it may have happened or not. Do NOT repeat it, not in another form"
        " either. A person is asked to find out"
    )
    return _Story(
        text,
        "outcome_unknown",
        retryable=False,
        ours=f"; approval_status with the id {call.id} says what they found.",
        alone=f", as call {call.id}.",
    )


def _rejected(call: Call) -> _Story:
    text = (
        f"REJECTED by {_who(call.ended_by)}, NOT EXECUTED{_noted(call)}. A person looked at exactly"
        " this call and decided against it. Do not repeat it and do not look for another way to the"
        " same effect; tell your user, or do something else."
    )
    return _Story(text, "rejected", retryable=False)


def _denied(reasons: tuple[Reason, ...]) -> _Story:
    text = (
        f"DENIED by policy, NOT EXECUTED: {_because(reasons)} Nobody was asked, and the same call"
        " will be denied again. Do not look for another way to the same effect."
    )
    return _Story(text, reasons[0].code if reasons else "policy", retryable=False)


def _expired(call: Call) -> _Story:
    # `run_before` is set by the last approval: without it, nobody decided.
    if call.run_before is None:
        text = (
            f"EXPIRED, NOT EXECUTED. Nobody answered before {_time(call.decide_before)}; nobody"
            " refused it either. If it is still needed, send it again: people are then asked anew."
        )
        return _Story(text, "nobody_answered", retryable=True)
    text = (
        f"EXPIRED, NOT EXECUTED. It was approved{_by_voters(call)}, but nobody collected it before"
        f" {_time(call.run_before)}. If it is still needed, send it again: people are then asked"
        " anew."
    )
    return _Story(text, "not_collected", retryable=True)


def _cancelled(call: Call) -> _Story:
    text = (
        f"CANCELLED by {_who(call.ended_by)}, NOT EXECUTED{_noted(call)}. If it is needed after"
        " all, send it again: people are then asked anew."
    )
    return _Story(text, "cancelled", retryable=True)


def _invalidated(call: Call) -> _Story:
    text = (
        f"INVALIDATED, NOT EXECUTED. What the approval was about has changed since{_noted(call)}."
        " If it is still needed, send the call again: it is judged anew."
    )
    return _Story(text, "invalidated", retryable=True)


_STORIES: Mapping[Status, Callable[[Call], _Story]] = {
    Status.PENDING: _pending,
    Status.APPROVED: _approved,
    Status.EXECUTING: _executing,
    Status.EXECUTED: _executed,
    Status.ERRORED: _errored,
    Status.FAILED: _failed,
    Status.IN_DOUBT: _in_doubt,
    Status.REJECTED: _rejected,
    Status.DENIED: lambda call: _denied(call.reasons),
    Status.EXPIRED: _expired,
    Status.CANCELLED: _cancelled,
    Status.INVALIDATED: _invalidated,
}


def _because(reasons: tuple[Reason, ...]) -> str:
    return quoted(" ".join(reason.text for reason in reasons) or "no rule allows it.", MAX_REASON)


def _noted(call: Call) -> str:
    return f' ("{quoted(call.note, MAX_REASON)}")' if call.note else ""


def _who(actor: str) -> str:
    kind, _, name = actor.partition(":")
    return quoted(name) if kind == "person" and name else quoted(actor.replace(":", " ")) or "us"


def _decider(call: Call) -> str:
    if call.ended_by.startswith("upstream:"):  # it ended the call; people decided it
        return quoted(", ".join(f"person:{name}" for name in _voters(call)), 200)
    return quoted(call.ended_by)


def _settled(call: Call) -> bool:
    return call.ended_by.startswith("person:")


def _by_voters(call: Call) -> str:
    names = _voters(call)
    return f" by {quoted(', '.join(names), 200)}" if names else ""


def _voters(call: Call) -> list[str]:
    return list(dict.fromkeys(vote.person for vote in call.approvals))


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
