"""Read what limits and frees calls across upstreams: the shared `[meters]`, and `[[grants]]`."""

from collections.abc import Iterator, Mapping

from approval.config.checks import Names
from approval.config.document import Document
from approval.config.problems import unknown
from approval.core.canonical import quoted
from approval.core.document import open_document
from approval.core.grants import Grant
from approval.core.limits import read_grants, read_meters
from approval.core.meters import SHARED, Meter
from approval.core.policy import Mention
from approval.errors import Misconfigured


def shared_meters(document: Document, names: Names) -> Mapping[str, Meter]:
    """Read `[meters]`, on which the policies of all upstreams may draw."""
    people: list[Mention] = []
    try:
        root = open_document(
            document.table("meters"), source=str(document.path), pointer="/meters"
        ).root
        meters = read_meters(root, origin=SHARED, people=people)
        root.settle()
    except Misconfigured as error:
        document.problems.take(error.problems)
        return {}
    for mention in people:
        if mention.text not in names.approvers:
            found = unknown(mention.text, names.approvers, "a person or group")
            told = f"{mention.path}: {quoted(mention.text)} {found}"
            document.problems.take((f"{document.path}: {told}",))
    return meters


def read_standing(document: Document, names: Names) -> tuple[Grant, ...]:
    """Read `[[grants]]`: what agents may do without asking, by the word of whoever wrote it."""
    table = {"grants": document.listed("grants")}
    try:
        root = open_document(table, source=str(document.path)).root
        grants = read_grants(root.at("grants"))
        root.settle()
    except Misconfigured as error:
        document.problems.take(error.problems)
        return ()
    document.problems.take(
        f"{document.path}: {problem}" for grant in grants for problem in _strangers(grant, names)
    )
    return grants


def _strangers(grant: Grant, names: Names) -> Iterator[str]:
    """Name the agent and the upstream of a grant where nobody bears that name."""
    if grant.agent not in names.agents:
        found = unknown(grant.agent, names.agents, "an agent")
        yield f"{grant.path}/agent: {quoted(grant.agent)} {found}"
    if grant.upstream is not None and grant.upstream not in names.upstreams:
        found = unknown(grant.upstream, names.upstreams, "an upstream")
        yield f"{grant.path}/upstream: {quoted(grant.upstream)} {found}"
