"""Commands on calls: list them, show one, and decide it with a person's own proof."""

from datetime import datetime, timedelta
from pathlib import Path

import orjson
import typer

from approval.budgets import Line
from approval.cli.orders import Order, Proof, Word
from approval.cli.session import Decider, Session, decider, find, run, session, waiting
from approval.cli.terminal import Declined, facts, say, table, write_json
from approval.core import canonical, giving, identity, parking
from approval.core.call import Call, Choice, Listener, Status, Vote, requirement_facts
from approval.core.grantable import Wish, parse_wish
from approval.core.identity import Right
from approval.core.money import Money
from approval.core.steps import Ballot
from approval.errors import Forbidden


def pending(config: Path, states: tuple[str, ...], limit: int, *, as_json: bool) -> None:
    """List calls that wait, or those in the states that were asked for."""
    run(_pending(config, states, limit, as_json=as_json))


async def _pending(config: Path, states: tuple[str, ...], limit: int, *, as_json: bool) -> None:
    wanted = frozenset(_status(state) for state in states) or frozenset({Status.PENDING})
    async with session(config) as here:
        calls = await waiting(here.store, wanted, limit)
        now = await here.store.now()
    if as_json:
        write_json({"calls": [document(call) for call in calls]})
    elif not calls:
        say("Nothing waits for a person.")
    else:
        table(
            ("ID", "STATE", "AGENT", "TOOL", "COSTS", "ARGUMENTS", "TIME LEFT"),
            [_row(call, now) for call in calls],
        )


def _status(state: str) -> Status:
    try:
        return Status(state)
    except ValueError as error:
        known = ", ".join(Status)
        raise typer.BadParameter(f"{state!r} is no state; known: {known}") from error


def _row(call: Call, now: datetime) -> tuple[str, ...]:
    asked = call.asked
    arguments = canonical.quoted(asked.arguments.decode(), 60)
    tool = f"{asked.upstream} / {canonical.quoted(asked.tool)}"
    return (
        call.id,
        str(call.status),
        asked.agent,
        tool,
        call.price or "-",
        arguments,
        _left(call, now),
    )


def _left(call: Call, now: datetime) -> str:
    if call.status is not Status.PENDING:
        return "-"
    left = max(call.decide_before - now, timedelta(0))
    minutes, seconds = divmod(int(left.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def show(config: Path, call_id: str, *, as_json: bool) -> None:
    """Show one call with its exact arguments."""
    run(_show(config, call_id, as_json=as_json))


async def _show(config: Path, call_id: str, *, as_json: bool) -> None:
    async with session(config) as here:
        call = await find(here.store, call_id)
        answer = await here.store.answer(call.id)
        budgets = await lines(here, call)
        able = sorted(identity.deciders(here.service.rules.directory, call))
    if as_json:
        result = orjson.loads(answer.body) if answer is not None else None
        write_json({**document(call), "result": result})
        return
    describe(call, budgets)
    if call.status is Status.PENDING:
        say(f"May decide: {', '.join(able) or 'nobody'}")
    if parking.parked(call) and call.listener is Listener.GONE:
        say(f"Its agent has gone: it runs when that asks again, or with `approval run {call.id}`.")
    if answer is not None:
        say(f"Answer: {answer.body.decode(errors='replace')}")


async def lines(here: Session, call: Call) -> tuple[Line, ...]:
    """Word what a waiting call would leave in its meters."""
    return await here.service.budgets.lines(call) if call.status is Status.PENDING else ()


def describe(call: Call, budgets: tuple[Line, ...] = ()) -> None:
    """Print what is to be decided: cost, every argument, the digest that an approval names."""
    asked = call.asked
    title = f"{asked.agent} wants to {call.title}" if call.title else f"{asked.agent} calls a tool"
    say(title, style="bold")
    facts(
        [
            ("call", call.id),
            ("state", _state(call)),
            ("tool", f"{asked.upstream} / {asked.tool}"),
            ("asked", stamp(call.created_at) or ""),
            ("decide before", stamp(call.decide_before) or ""),
            *((("costs", call.price),) if call.price else ()),
            *((f"budget {line.meter}", line.words) for line in budgets),
            *(("because", f"{reason.text} ({reason.code})") for reason in call.reasons),
            *(("vote", _vote(vote)) for vote in call.votes),
            *_grantable(call),
            ("digest", call.digest),
        ]
    )
    say("arguments", style="bold")
    facts([(f"  {name}", value) for name, value in _arguments(call)])


def _grantable(call: Call) -> list[tuple[str, str]]:
    """Say how far a grant may reach that an approver gives with `--grant`."""
    bounds = giving.bounds_of(call, call.requirement)
    if bounds is None or call.status is not Status.PENDING:
        return []
    most = Wish(uses=bounds.uses, within=bounds.within, total=bounds.total)
    free = f"; may differ: {', '.join(bounds.vary)}" if bounds.vary else ""
    return [("may grant", f"{most}{free}")]


def _state(call: Call) -> str:
    typed = f" at {call.cost}" if call.asking and call.status is Status.APPROVED else ""
    by = f" by {call.ended_by}" if call.ended_by else ""
    return f"{call.status}{typed}{by}{': ' + call.note if call.note else ''}"


def _vote(vote: Vote) -> str:
    said = f": {vote.reason}" if vote.reason else ""
    typed = f", typed {vote.amount}" if vote.amount is not None else ""
    grant = f", with a grant of {vote.grant}" if vote.grant is not None else ""
    return f"{vote.choice} by {vote.person} at {stamp(vote.at)} via {vote.via}{typed}{grant}{said}"


def _arguments(call: Call) -> list[tuple[str, str]]:
    """Take the arguments apart by name; every value stands as the very bytes that would be sent."""
    read = canonical.read(call.asked.arguments)
    if not isinstance(read, dict):
        return [("(all)", call.asked.arguments.decode())]
    if not read:
        return [("(none)", "{}")]
    return [(name, canonical.write(value).decode()) for name, value in read.items()]


def decide(config: Path, order: Order, proof: Proof, *, as_json: bool) -> None:
    """Show a call, then approve or reject exactly what was shown."""
    run(_decide(config, order, proof, as_json=as_json))


async def _decide(config: Path, order: Order, proof: Proof, *, as_json: bool) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        call = await find(here.store, order.call)
        if not as_json:
            describe(call, await lines(here, call))
        _check_digest(call, order)
        amount = _typed(call, order)
        if order.ask:
            _confirm(order, who, amount)
        ballot = Ballot(
            person=who.person,
            choice=order.choice,
            digest=call.digest,
            via=who.via,
            reason=order.reason,
            amount=amount,
            grant=_wish(order.grant),
        )
        decided = await here.service.decide(call.id, ballot)
    _tell(decided, as_json=as_json)


def _wish(text: str) -> Wish | None:
    try:
        return parse_wish(text) if text else None
    except ValueError as error:
        raise Declined(f"The grant is not readable: {error}.") from error


def _check_digest(call: Call, order: Order) -> None:
    if order.digest is not None and not call.digest.startswith(order.digest.lower()):
        raise Declined(f"The call's digest is {call.digest}, another than was given. Look again.")


def _typed(call: Call, order: Order) -> str | None:
    """Take what the call costs from the command line, or from the person who sits there."""
    if call.asking is None or order.amount is not None or order.choice is Choice.REJECT:
        return order.amount
    if order.ask:
        return str(typer.prompt(f"What does it cost, up to {call.asking.up_to}?", err=True))
    raise Declined(f'Say what it costs, up to {call.asking.up_to}: --amount "12.34 USD".')


def _confirm(order: Order, who: Decider, amount: str | None) -> None:
    verb = "Approve" if order.choice is Choice.APPROVE else "Reject"
    price = f" at {amount}" if amount is not None else ""
    if not typer.confirm(f"{verb} this{price} as {who.person}?", err=True):
        raise Declined("Nothing was decided.")


def release(config: Path, order: Order, proof: Proof, *, as_json: bool) -> None:
    """Show an approved call whose agent has gone, then let exactly that one run."""
    run(_release(config, order, proof, as_json=as_json))


async def _release(config: Path, order: Order, proof: Proof, *, as_json: bool) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        call = await find(here.store, order.call)
        if not as_json:
            describe(call)
        _check_digest(call, order)
        if order.ask and not typer.confirm(f"Run this now as {who.person}?", err=True):
            raise Declined("Nothing was decided.")
        word = parking.Word(person=who.person, digest=call.digest, via=who.via)
        released = await here.service.releasing.release(call.id, word)
    if as_json:
        write_json(document(released))
    elif released.status is Status.APPROVED:
        until = stamp(released.run_before)
        say(f"{released.id} runs now: the service sends it, until {until}", style="bold green")
    else:
        say(f"{released.id} is {_state(released)}", style="bold")


def settle(config: Path, word: Word, proof: Proof, *, executed: bool, as_json: bool) -> None:
    """Say what became of a call in doubt."""
    run(_settle(config, word, proof, executed=executed, as_json=as_json))


async def _settle(config: Path, word: Word, proof: Proof, *, executed: bool, as_json: bool) -> None:
    actual = _money(word.amount) if word.amount else None
    async with session(config) as here:
        who = decider(here, proof)
        call = await find(here.store, word.call)
        settled = await here.service.settling.settle(
            call.id,
            executed=executed,
            person=who.person,
            evidence=word.evidence,
            actual=actual,
        )
    _tell(settled, as_json=as_json)


def correct(config: Path, word: Word, proof: Proof, *, as_json: bool) -> None:
    """Correct what was booked for a call."""
    run(_correct(config, word, proof, as_json=as_json))


async def _correct(config: Path, word: Word, proof: Proof, *, as_json: bool) -> None:
    actual = _money(word.amount)
    async with session(config) as here:
        who = decider(here, proof)
        call = await find(here.store, word.call)
        corrected = await here.service.settling.correct(
            call.id, person=who.person, evidence=word.evidence, actual=actual
        )
    if as_json:
        write_json(document(corrected))
    else:
        say(f"{corrected.id} is booked as {actual}", style="bold")


def _money(text: str) -> Money:
    try:
        return Money.parse(text)
    except ValueError as error:
        raise Declined(f"The amount is not readable: {error}.") from error


def cancel(config: Path, call_id: str, proof: Proof, reason: str, *, as_json: bool) -> None:
    """Withdraw a call that has not run."""
    run(_cancel(config, call_id, proof, reason, as_json=as_json))


async def _cancel(config: Path, call_id: str, proof: Proof, reason: str, *, as_json: bool) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        call = await find(here.store, call_id)
        _check_may_cancel(here, call, who)
        cancelled = await here.service.cancel(call.id, actor=who.actor, reason=reason)
    _tell(cancelled, as_json=as_json)


def _check_may_cancel(here: Session, call: Call, who: Decider) -> None:
    directory = here.service.rules.directory
    agent = directory.agents.get(call.asked.agent)
    owns = agent is not None and agent.owner == who.person
    if not owns and not directory.has_right(who.person, Right.ADMIN):
        raise Forbidden(f"{who.person} neither owns {call.asked.agent} nor has the admin right.")


def _tell(call: Call, *, as_json: bool) -> None:
    if as_json:
        write_json(document(call))
        return
    style = "bold green" if call.status is Status.APPROVED else "bold"
    say(f"{call.id} is {_state(call)}", style=style)


def document(call: Call) -> dict[str, object]:
    """Write a call for scripts, under the names that the API uses."""
    asked = call.asked
    return {
        "id": call.id,
        "state": str(call.status),
        "version": call.version,
        "agent": asked.agent,
        "upstream": asked.upstream,
        "tool": asked.tool,
        "title": call.title,
        "arguments": orjson.loads(asked.arguments),
        "digest": call.digest,
        "amount": dict(call.cost.plain()) if call.cost else None,
        "up_to": dict(call.asking.up_to.plain()) if call.asking else None,
        "created_at": stamp(call.created_at),
        "decide_before": stamp(call.decide_before),
        "run_before": stamp(call.run_before),
        "decided_at": stamp(call.decided_at),
        "ended_at": stamp(call.ended_at),
        "decided_by": call.ended_by or None,
        "released_by": call.released_by,
        "reason": call.note,
        "listener": str(call.listener),
        "requirement": requirement_facts(call.requirement),
        "votes": [
            {
                "person": vote.person,
                "decision": str(vote.choice),
                "at": stamp(vote.at),
                "via": vote.via,
                "reason": vote.reason,
                "amount": dict(vote.amount.plain()) if vote.amount else None,
                "grant": None if vote.grant is None else vote.grant.plain(),
            }
            for vote in call.votes
        ],
    }


def stamp(moment: datetime | None) -> str | None:
    """Write a time of the store's, which is UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None
