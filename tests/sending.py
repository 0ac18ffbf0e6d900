"""An upstream that counts what reaches it, and calls on their way to it."""

import asyncio

from approval.core.call import (
    Answer,
    Call,
    Choice,
    Status,
)
from approval.core.steps import Ballot
from approval.errors import NeverSent
from approval.service import Service
from tests.factories import (
    make_asked,
    make_requirement,
    make_verdict,
)

OK = Answer(status=Status.EXECUTED, body=b'{"result":{"content":[]}}')


class Upstream:
    """Counts what reaches it, and answers as told."""

    def __init__(self, answer: Answer | Exception = OK) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def send(self, call: Call) -> Answer:
        if not isinstance(self.answer, NeverSent):
            self.received.append(call.asked.arguments)
        self.reached.set()
        await self.go_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def held(service: Service, **changes: object) -> Call:
    verdict = make_verdict(requirement=make_requirement(**changes))
    return (await service.submit(make_asked(), verdict)).call


async def approved(service: Service, **changes: object) -> Call:
    call = await held(service, **changes)
    return await service.decide(call.id, ballot(call))


def ballot(call: Call, person: str = "ann", choice: Choice = Choice.APPROVE) -> Ballot:
    return Ballot(person=person, choice=choice, digest=call.digest, via="test", reason="because")


async def tags(service: Service, call: Call) -> list[str]:
    written = await service.trail(subject=call.id)
    return [entry.body.split(b'"tag":"')[1].split(b'"')[0].decode() for entry in written]
