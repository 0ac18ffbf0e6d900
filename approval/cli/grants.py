"""Commands on grants: list them, issue one with a person's own proof, take one back."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from approval.cli.orders import GrantOrder, Proof
from approval.cli.session import decider, run, session
from approval.cli.terminal import Declined, say, table, write_json
from approval.core import canonical
from approval.core.grants import Grant, Origin
from approval.core.issued import Issued, read_issue, state, words
from approval.core.spans import read_duration
from approval.errors import Forbidden, NotFound, Unreadable

SOURCE = "the grant"


def show(config: Path, *, as_json: bool) -> None:
    """List every grant: the configuration's first, then those that were issued."""
    run(_show(config, as_json=as_json))


async def _show(config: Path, *, as_json: bool) -> None:
    async with session(config) as here:
        found = await here.service.granting.listed()
        now = await here.store.now()
    if as_json:
        write_json({"grants": [document(each, now) for each in found]})
    elif not found:
        say("No agent passes a gate without asking.")
    else:
        headings = ("ID", "STATE", "AGENT", "TOOLS", "WITHIN", "GIVEN BY")
        table(headings, [_row(each, now) for each in found])


def issue(config: Path, order: GrantOrder, proof: Proof, *, as_json: bool) -> None:
    """Issue a grant on an admin's proof."""
    run(_issue(config, order, proof, as_json=as_json))


async def _issue(config: Path, order: GrantOrder, proof: Proof, *, as_json: bool) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        now = await here.store.now()
        grant = _ordered(order, now)
        try:
            issued = await here.service.granting.issue(grant, person=who.person, via=who.via)
        except (Forbidden, NotFound) as refusal:
            raise Declined(f"Not granted: {refusal}.") from refusal
    _tell(issued, now, f"{issued.grant.id} is in force", as_json=as_json)


def _ordered(order: GrantOrder, now: datetime) -> Grant:
    said = {
        "agent": order.agent,
        "tools": list(order.tools),
        "upstream": order.upstream,
        "conditions": [_condition(text) for text in order.conditions] or None,
        "max_per_call": order.max_per_call,
        "total": order.total,
        "uses": order.uses,
        "expires": _end(order.lasts, now),
        "reason": order.reason or None,
    }
    stated = {key: value for key, value in said.items() if value is not None}
    return replace(read_issue(stated, source=SOURCE), origin=Origin.CLI, path="")


def _condition(text: str) -> object:
    try:
        return canonical.read(text.encode())
    except (Unreadable, UnicodeEncodeError) as error:
        raise Declined(f"A condition is not JSON: {error}.") from error


def _end(lasts: str | None, now: datetime) -> str | None:
    if lasts is None:
        return None
    span = read_duration(lasts)
    if span is None:
        raise Declined(f'--for {canonical.quoted(lasts)} is no time; write "90m", "24h" or "30d".')
    return (now + span).isoformat(timespec="seconds")


def revoke(config: Path, grant_id: str, proof: Proof, *, as_json: bool) -> None:
    """Take a grant back."""
    run(_revoke(config, grant_id, proof, as_json=as_json))


async def _revoke(config: Path, grant_id: str, proof: Proof, *, as_json: bool) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        try:
            issued = await here.service.granting.revoke(grant_id, person=who.person, via=who.via)
        except NotFound as error:
            named = canonical.quoted(grant_id)
            raise Declined(f"There is no grant {named}. See `approval grants`.") from error
        except Forbidden as refusal:
            raise Declined(f"Not revoked: {refusal}.") from refusal
        now = await here.store.now()
    _tell(issued, now, f"{grant_id} is revoked; nothing more passes under it", as_json=as_json)


def _tell(issued: Issued, now: datetime, text: str, *, as_json: bool) -> None:
    if as_json:
        write_json(document(issued, now))
    else:
        say(f"{text}.")


def _row(each: Issued, now: datetime) -> tuple[str, ...]:
    grant, said = each.grant, words(each.grant)
    within = [f"{key} {said[key]}" for key in ("uses", "total", "max_per_call") if key in said]
    within += [f"until {said['expires']}"] if "expires" in said else []
    tools = canonical.quoted(", ".join(tools.text for tools in grant.tools))
    by = grant.granted_by.removeprefix("person:") or "the configuration"
    return (grant.id, state(each, now), grant.agent, tools, ", ".join(within), by)


def document(each: Issued, now: datetime) -> dict[str, object]:
    """Write a grant for scripts."""
    grant = each.grant
    return {
        "id": grant.id,
        "state": state(each, now),
        "origin": grant.origin.value,
        "granted_by": grant.granted_by or None,
        "issued_at": None if each.issued_at is None else each.issued_at.isoformat(),
        "revoked_by": each.revoked_by or None,
        **words(grant),
    }
