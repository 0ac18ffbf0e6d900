"""What people do to a call, the same from a form and from the API: decide, run now, cancel, settle.

Whoever may not see a call gets the answer that an unknown one gets; the attempt is in the trail all
the same.
"""

import re
from typing import Final

from approval.core.call import Call, CallId, Choice, Status
from approval.core.identity import Person
from approval.core.money import Money
from approval.core.parking import Word
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, NotFound, Unreadable
from approval.service import Service
from approval.web import present
from approval.web.problems import Problem

MAX_REASON: Final = 1000
CALL_ID: Final = re.compile(r"apr_[0-9a-v]{26}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST: Final = "The digest is 64 hexadecimal digits, as the call shows it."


class Conflicted(Conflict):
    """The call takes this no longer. `call` is how it is now."""

    def __init__(self, text: str, call: Call) -> None:
        super().__init__(text)
        self.call = call


class Mistyped(Unreadable):
    """The amount that an approval names cannot be typed for the call. `call` is how it is."""

    def __init__(self, error: Unreadable, call: Call) -> None:
        super().__init__(error.reason, str(error))
        self.call = call


class Deciding:
    """Acts for one person at a time, with what they sent already read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def see(self, person: Person, call_id: str) -> Call:
        """Read a call.

        Raises:
            NotFound: If there is none, or none this person may see.
        """
        if not CALL_ID.fullmatch(call_id):
            raise NotFound("no such call")
        call = await self._service.get(CallId(call_id))
        if not self._service.may_see(person.name, call):
            raise NotFound("no such call")
        return call

    async def decide(self, call_id: str, ballot: Ballot) -> Call:
        """Cast a ballot.

        Raises:
            NotFound: As `see`.
            Forbidden: If this person may see the call but not decide it; the text says who may.
            Conflicted: If the call is not open to this decision (any more).
            Mistyped: If the amount is not what may be typed for it.
        """
        if not CALL_ID.fullmatch(call_id):
            raise NotFound("no such call")
        known = CallId(call_id)
        try:
            return await self._service.decide(known, ballot)
        except Forbidden as refusal:
            raise await self._forbidden(known, ballot.person) from refusal
        except Conflict as conflict:
            raise Conflicted(str(conflict), await self._service.get(known)) from conflict
        except Unreadable as error:
            raise Mistyped(error, await self._service.get(known)) from error

    async def run(self, call_id: str, word: Word) -> Call:
        """Let an approved call run whose agent has gone.

        Raises:
            NotFound: As `see`.
            Forbidden: If this person may see the call but not decide it; the text says who may.
            Conflicted: If it does not wait for its agent, or may run for its agent alone.
        """
        if not CALL_ID.fullmatch(call_id):
            raise NotFound("no such call")
        known = CallId(call_id)
        try:
            return await self._service.releasing.release(known, word)
        except Forbidden as refusal:
            raise await self._forbidden(known, word.person) from refusal
        except Conflict as conflict:
            raise Conflicted(str(conflict), await self._service.get(known)) from conflict

    async def _forbidden(self, call_id: CallId, person: str) -> NotFound | Forbidden:
        call = await self._service.get(call_id)
        if not self._service.may_see(person, call):
            return NotFound("no such call")
        return Forbidden(self._who_may(call))

    def _who_may(self, call: Call) -> str:
        seats = present.seats(call, self._service.rules.directory)
        people = sorted({name for seat in seats for name in seat.people})
        return f"You may not decide this call. Those who may: {', '.join(people) or 'nobody'}"

    async def cancel(self, person: Person, call_id: str, reason: str) -> Call:
        """Withdraw a call for the agent.

        Raises:
            NotFound: As `see`.
            Forbidden: If this person neither answers for the agent nor is an admin.
            Conflicted: If it is too late.
        """
        call = await self.see(person, call_id)
        directory = self._service.rules.directory
        open_ = call.status in {Status.PENDING, Status.APPROVED}
        if open_ and not present.may_cancel(call, person.name, directory):
            raise Forbidden("Only the agent's owner and admins cancel a call")
        try:
            return await self._service.cancel(call.id, actor=person.actor, reason=reason)
        except Conflict as conflict:
            raise Conflicted(str(conflict), await self._service.get(call.id)) from conflict

    async def settle(
        self,
        person: Person,
        call_id: str,
        *,
        executed: bool,
        evidence: str,
        actual: Money | None = None,
    ) -> Call:
        """Say what became of a call in doubt, and what it took if that is known.

        Raises:
            NotFound: As `see`.
            Forbidden: Without the right to settle.
            Conflicted: If it is not in doubt, its sender may still be at work, or it cannot have
                taken that.
        """
        call = await self.see(person, call_id)
        try:
            return await self._service.settling.settle(
                call.id, executed=executed, person=person.name, evidence=evidence, actual=actual
            )
        except Conflict as conflict:
            raise Conflicted(str(conflict), await self._service.get(call.id)) from conflict

    async def correct(self, person: Person, call_id: str, *, evidence: str, actual: Money) -> Call:
        """Correct what was booked for a call.

        Raises:
            NotFound: As `see`.
            Forbidden: Without the right to settle.
            Conflicted: If it was never sent or draws on no meter, or in another currency.
        """
        call = await self.see(person, call_id)
        try:
            return await self._service.settling.correct(
                call.id, person=person.name, evidence=evidence, actual=actual
            )
        except Conflict as conflict:
            raise Conflicted(str(conflict), await self._service.get(call.id)) from conflict


def ballot(person: Person, choice: str, digest: str | None, reason: str, *, via: str) -> Ballot:
    """Make a ballot out of what was sent.

    Raises:
        Problem: Naming the member that is not as it should be.
    """
    if choice not in set(Choice):
        raise Problem(422, "decision", 'The decision is "approve" or "reject".')
    if digest is not None and not DIGEST.fullmatch(digest):
        raise Problem(422, "digest", _DIGEST)
    if digest is None and choice == Choice.APPROVE:
        detail = "An approval names the digest of the call that was looked at."
        raise Problem(422, "digest_required", detail)
    return Ballot(
        person=person.name,
        choice=Choice(choice),
        digest=digest,
        via=via,
        reason=words("reason", reason),
    )


def word(person: Person, digest: str | None, *, via: str) -> Word:
    """Make a person's word that a call is to run now.

    Raises:
        Problem: If it does not say which call was looked at.
    """
    if digest is None:
        detail = "Say which call was looked at: its digest."
        raise Problem(422, "digest_required", detail)
    if not DIGEST.fullmatch(digest):
        raise Problem(422, "digest", _DIGEST)
    return Word(person=person.name, digest=digest, via=via)


def words(name: str, text: str) -> str:
    """Check what a person wrote, which the agent and others will read.

    Raises:
        Problem: If it is too long, or holds characters that no keyboard types.
    """
    tidy = text.replace("\r\n", "\n").strip()
    if len(tidy) > MAX_REASON:
        detail = f"The {name} has {len(tidy)} characters; the most is {MAX_REASON}."
        raise Problem(422, f"{name}_too_long", detail)
    if any(not (each.isprintable() or each in "\n\t\u200d") for each in tidy):
        raise Problem(422, name, f"The {name} holds control or invisible characters; retype it.")
    return tidy
