"""A `tools/call` from its verdict to its answer: let through, refused, or held for people."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import MultiMapping

from approval.core import canonical
from approval.core.call import Answer, Call, CallId, Outcome, ToolCall, Verdict
from approval.core.canonical import JSON, Number
from approval.core.identity import Agent
from approval.errors import (
    AnswerLost,
    Conflict,
    NeverSent,
    NoRoom,
    NotFound,
    Refused,
    StoreUnavailable,
    Unreadable,
)
from approval.gateway import answers, headers, protocol, release, tools
from approval.gateway.answers import Told
from approval.gateway.protocol import Message
from approval.gateway.relay import failure, plain, relay
from approval.gateway.session import Session
from approval.gateway.settings import GatewaySettings
from approval.gateway.tools import Listing
from approval.gateway.upstream import Conversation, Sent
from approval.gateway.waiting import HELD, Line, Waiting
from approval.ports import Send
from approval.service import Service, Submission

log = logging.getLogger(__name__)

_JUDGED = frozenset({"name", "arguments", "_meta"})
"""The params of a gated call: those that a person is shown, and those that change no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of an agent, and all that belongs to it. `said` is the version it named."""

    request: web.Request
    agent: Agent
    upstream: str
    message: Message
    said: str
    far: Conversation
    listing: Listing
    session: Session | None = None

    @property
    def version(self) -> str:
        return self.said or (self.session.version if self.session else "")

    @property
    def request_id(self) -> str | int:
        # Only requests get here; a message without an id would have been refused as one.
        return self.message.id if self.message.id is not None else 0

    @property
    def client_name(self) -> str:
        return self.session.client_name if self.session else self.message.client_name

    def sent(self) -> Sent:
        return Sent(message=self.message, version=self.said, received=self.request.headers)


class Calls:
    """What happens to tool calls. `settings` gives those in force."""

    def __init__(
        self,
        service: Service,
        waiting: Waiting,
        *,
        settings: Callable[[], GatewaySettings],
        detached: Send,
    ) -> None:
        self._service = service
        self._waiting = waiting
        self._settings = settings
        self._detached = detached

    async def answer(self, turn: Turn) -> web.StreamResponse:
        """Answer a call to a tool of ours; judge any other, and do what the verdict says."""
        message = turn.message
        if message.tool in turn.listing.ours and (own := await self._own(turn)) is not None:
            return own
        verdict = self._service.rules.judge(
            turn.agent.name, turn.upstream, message.tool, message.arguments
        )
        match verdict.outcome:
            case Outcome.ALLOW if verdict.demand is None or not verdict.demand.spends:
                return await self._allow(turn, verdict)
            case Outcome.DENY:
                return await self._deny(turn, verdict)
            case Outcome.ALLOW | Outcome.GATE:
                return await self._submit(turn, verdict)

    # --- allowed ---

    async def _allow(self, turn: Turn, verdict: Verdict) -> web.StreamResponse:
        arguments = canonical.write(turn.message.arguments)
        call_id = None
        try:
            call_id = await self._service.allow(_asked(turn, arguments), verdict)
        except NoRoom as error:
            return _told(turn, answers.tell_no_room(error, ours=turn.listing.complete))
        except StoreUnavailable as error:
            # A count that cannot be raised is a limit that is not kept: that call never goes on.
            counted = verdict.demand is not None
            if counted or self._settings().audit_on_store_down == "refuse":
                return _told(turn, answers.tell_store_unavailable(error))
            log.warning("an allowed call goes on unrecorded", extra={"agent": turn.agent.name})
        sent = Sent(
            message=turn.message,
            version=turn.said,
            arguments=arguments if "arguments" in turn.message.params else None,
            received=turn.request.headers,
        )
        return await self._forward(turn, sent, call_id)

    async def _forward(self, turn: Turn, sent: Sent, call_id: CallId | None) -> web.StreamResponse:
        outcome = "left"  # unless something better is known when the agent has gone

        def watch(answer: dict[str, object]) -> None:
            nonlocal outcome
            outcome = _outcome(answer)

        try:
            reply = await turn.far.post(sent)
            response = await relay(turn.request, turn.message, reply, watch=watch)
        except NeverSent as error:
            outcome = "unsent"
            return failure(turn.message, str(error))
        except AnswerLost as error:
            outcome = "lost"
            return failure(turn.message, f"{error}; what it did is not known")
        else:
            if outcome == "left":
                outcome = "lost" if reply.status == 200 else f"http {reply.status}"
            return response
        finally:
            if call_id is not None:
                self._service.answered(call_id, turn.upstream, outcome)

    # --- denied ---

    async def _deny(self, turn: Turn, verdict: Verdict) -> web.StreamResponse:
        try:
            arguments = canonical.write(turn.message.arguments)
            await self._service.deny(_asked(turn, arguments), verdict)
        except StoreUnavailable:
            # It does not run either way.
            log.exception("a denied call could not be recorded")
        return _told(turn, answers.tell_denied(verdict))

    # --- held, or run for money ---

    async def _submit(self, turn: Turn, verdict: Verdict) -> web.StreamResponse:
        try:
            _check_shown(turn)
            arguments = canonical.canonical_arguments(turn.message.arguments)
            submission = await self._service.submit(_asked(turn, arguments), verdict)
        except Unreadable as error:
            return _told(turn, answers.tell_refused(Refused(error.reason, str(error))))
        except NoRoom as error:
            return _told(turn, answers.tell_no_room(error, ours=turn.listing.complete))
        except Refused as refused:
            return _told(turn, answers.tell_refused(refused))
        except StoreUnavailable as error:
            return _told(turn, answers.tell_store_unavailable(error))
        return await self._hold(turn, submission)

    async def _hold(self, turn: Turn, submission: Submission) -> web.StreamResponse:
        call, joined = submission.call, submission.joined
        if call.status not in HELD:
            return await self._hand_over(turn, call, joined=joined)
        message = turn.message
        line = Line(
            turn.request,
            request_id=turn.request_id,
            token=message.progress_token,
            modern=message.modern,
            lasts=self._budget(turn),
            ours=turn.listing.complete,
        )
        lines = turn.session.lines if turn.session else {}
        lines[line.request_id] = line
        try:
            send = self._bound(turn, line)
            self._service.carry_out(submission, send)
            await self._waiting.hold(line, call, joined=joined, send=send)
        finally:
            if lines.get(line.request_id) is line:
                del lines[line.request_id]
        return line.response

    async def _hand_over(self, turn: Turn, call: Call, *, joined: bool) -> web.StreamResponse:
        """Answer at once about a call that there is nothing to wait for."""
        modern, ours = turn.message.modern, turn.listing.complete
        body = await self._waiting.outcome(
            call, turn.request_id, modern=modern, joined=joined, ours=ours
        )
        response = plain(body)
        await response.prepare(turn.request)
        await response.write_eof()
        await self._waiting.delivered(call)
        return response

    def _bound(self, turn: Turn, line: Line) -> Send:
        """Make what sends the approved call in the session of the agent that waits for it."""

        async def send(call: Call) -> Answer:
            if turn.far.over:
                return await self._detached(call)
            own = turn.message.tool == call.asked.tool
            # Those of a call to approval_wait are about that call.
            received = turn.request.headers if own else await self._repeated(turn, call)
            sent = Sent(
                message=release.as_approved(call, turn.message, turn.request_id),
                version=turn.said,
                arguments=call.asked.arguments,
                received=received,
                careful=True,
            )
            return await release.send(turn.far, sent, line.pass_on, modern=turn.message.modern)

        return send

    async def _repeated(self, turn: Turn, call: Call) -> MultiMapping[str] | None:
        within = self._service.settings.timeout(turn.upstream)
        return await release.repeated(turn.far, call, turn.said, within=within)

    def _budget(self, turn: Turn) -> float:
        """Say how long this client keeps a request open, by all that is known of it.

        The name is the client's own word: nothing but the length of a wait hangs on it.
        """
        settings = self._settings()
        default = settings.wait
        if turn.message.progress_token is not None:
            default = settings.wait_with_progress
        return settings.wait_budgets.get(turn.client_name, default).total_seconds()

    # --- our own tools ---

    async def _own(self, turn: Turn) -> web.StreamResponse | None:
        """Answer about a call of this agent's; None where the name may mean another's tool.

        What was held stays ours to answer for, whatever the rules have become since.
        """
        arguments = turn.message.arguments
        try:
            call = await self._find(turn, arguments.get("id"))
            if call is not None:
                return await self._answer_about(turn, call)
        except NotFound:
            return _told(turn, tools.tell_unknown(arguments))
        except StoreUnavailable as error:
            return _told(turn, answers.tell_store_unavailable(error))
        if tools.can_hold(self._service.rules, turn.agent, turn.upstream):
            return _told(turn, tools.tell_unknown(arguments))
        return None

    async def _answer_about(self, turn: Turn, call: Call) -> web.StreamResponse:
        ours = turn.listing.complete
        match turn.message.tool:
            case tools.WAIT:
                return await self._hold(turn, Submission(call=call, joined=False))
            case tools.CANCEL:
                call = await self._cancelled(turn, call)
                return _told(turn, answers.tell(call, ours=ours))
            case _:
                return _told(turn, answers.tell(call, ours=ours), is_error=False)

    async def _find(self, turn: Turn, call_id: JSON) -> Call | None:
        """Find a call of this agent to this upstream: others' do not exist for it."""
        if not isinstance(call_id, str):
            return None
        try:
            call = await self._service.get(CallId(call_id))
        except NotFound:
            return None
        asked = call.asked
        return call if (asked.agent, asked.upstream) == (turn.agent.name, turn.upstream) else None

    async def _cancelled(self, turn: Turn, call: Call) -> Call:
        try:
            return await self._service.cancel(
                call.id, actor=turn.agent.actor, reason="withdrawn with approval_cancel"
            )
        except Conflict:
            return await self._service.get(call.id)

    async def cancel_held(self, turn: Turn) -> bool:
        """Take a `notifications/cancelled`; False if it is not about a held call of its session.

        Clients send it for a time-out as well as for a change of mind. Only the latter withdraws
        the call: a client that gave up waiting must not undo what a person is looking at.
        """
        request_id = turn.message.params.get("requestId")
        if turn.session is None or not isinstance(request_id, str | int):
            return False
        line = turn.session.lines.get(request_id)
        if line is None:
            return False
        reason = turn.message.params.get("reason")
        told = reason if isinstance(reason, str) else ""
        if line.call_id is not None and not _is_time_out(told):
            await self._withdraw(turn, line.call_id, told)
        line.leave("cancelled")
        return True

    async def _withdraw(self, turn: Turn, call_id: CallId, reason: str) -> None:
        said = canonical.quoted(reason, 200) or "the request was cancelled"
        try:
            await self._service.cancel(call_id, actor=turn.agent.actor, reason=said)
        except (Conflict, NotFound):
            log.debug("a cancelled request's call was claimed already")
        except StoreUnavailable:
            log.exception("a cancellation could not be recorded", extra={"call": call_id})


def _asked(turn: Turn, arguments: bytes) -> ToolCall:
    return ToolCall(
        agent=turn.agent.name,
        upstream=turn.upstream,
        tool=turn.message.tool,
        arguments=arguments,
        key=turn.message.key,
        protocol_version=turn.version,
    )


def _told(turn: Turn, told: Told, *, is_error: bool = True) -> web.Response:
    result = answers.tool_result(told, modern=turn.message.modern) | {"isError": is_error}
    return plain(protocol.result_body(turn.request_id, result))


def _outcome(answer: Mapping[str, object]) -> str:
    if "error" in answer:
        return "error"
    result = answer.get("result")
    failed = isinstance(result, dict) and result.get("isError") not in {None, False}
    return "errored" if failed else "executed"


def _is_time_out(reason: str) -> bool:
    folded = reason.lower().replace(" ", "").replace("-", "")
    return "timedout" in folded or "timeout" in folded


def _check_shown(turn: Turn) -> None:
    """Refuse what could change the effect of a gated call and is shown to nobody.

    Raises:
        Refused: If there is such a thing.
    """
    unshown = sorted(turn.message.params.keys() - _JUDGED)
    if unshown:
        name = canonical.quoted(unshown[0])
        text = f'a call that needs approval cannot carry "{name}" in its params: that is not built'
        raise Refused("params_not_shown", f"{text} yet. Send it without.")
    shown: set[str] | None = None
    for name, value in turn.request.headers.items():
        if not name.lower().startswith(headers.PARAM_PREFIX):
            continue
        shown = set(_texts(turn.message.arguments)) if shown is None else shown
        if headers.decode_value(value) not in shown:
            text = f'the header "{canonical.quoted(name)}" repeats none of the arguments'
            raise Refused("header_not_shown", f"{text}: it could change what the call does")


def _texts(value: JSON) -> Iterator[str]:
    """Give every plain value in the arguments as a header would write it."""
    match value:
        case dict() | list():
            for each in value.values() if isinstance(value, dict) else value:
                yield from _texts(each)
        case bool():
            yield "true" if value else "false"
        case Number():
            yield value.token
        case _:
            yield "null" if value is None else str(value)
