"""Read who is who: people, groups, agents, their tokens and their rights."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from approval.config import checks
from approval.config.checks import Names
from approval.config.document import Document, Table
from approval.config.problems import Key, unknown
from approval.config.sections import AgentEntry, PersonEntry, Rights
from approval.core.canonical import quoted
from approval.core.identity import Agent, Directory, Person, Right

Bearers = dict[str, frozenset[str]]


def read_directory(
    document: Document, names: Names, *, max_pending: int | None = None
) -> Directory:
    """Read everybody; what is wrong with them goes to the document's problems.

    `max_pending` bounds the pending calls of every agent that does not say otherwise.
    """
    bearers: Bearers = {}
    directory = Directory(
        agents=dict(_agents(document, names, bearers, max_pending)),
        people=dict(_people(document, bearers)),
        groups=dict(_groups(document, names)),
    )
    for text in checks.shared_tokens(bearers):
        document.problems.add((), text)
    # Rights are written as people and groups, and kept as people.
    rights = {right: directory.members(held) for right, held in _rights(document, names)}
    return replace(directory, rights=rights)


def _groups(document: Document, names: Names) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, value in document.table("groups").items():
        key = ("groups", name)
        members = document.texts(key, value)
        what = "a person, and groups hold people only"
        checks.check_names(document.problems, key, members, names.people, what)
        yield name, members


def _people(document: Document, bearers: Bearers) -> Iterator[tuple[str, Person]]:
    for name, entry in document.entries("people"):
        tokens = bearers[f"people.{name}"] = _tokens(document, ("people", name), entry)
        found = document.problems.read(PersonEntry, entry, ("people", name))
        if found is not None:
            yield (
                name,
                Person(
                    name=name,
                    title=found.name or name,
                    email=found.email,
                    slack=found.slack,
                    token_digests=tokens,
                ),
            )


def _agents(
    document: Document, names: Names, bearers: Bearers, max_pending: int | None
) -> Iterator[tuple[str, Agent]]:
    for name, entry in document.entries("agents"):
        key = ("agents", name)
        tokens = bearers[f"agents.{name}"] = _tokens(document, key, entry)
        entry.pop("policy", None)
        found = document.problems.read(AgentEntry, entry, key)
        if found is None:
            continue
        _check_agent(document, names, found, key)
        yield (
            name,
            Agent(
                name=name,
                upstreams=frozenset(found.upstreams),
                owner=found.owner,
                groups=found.groups,
                token_digests=tokens,
                max_pending=max_pending if found.max_pending is None else found.max_pending,
            ),
        )


def _check_agent(document: Document, names: Names, found: AgentEntry, key: Key) -> None:
    at = (*key, "upstreams")
    checks.check_names(document.problems, at, found.upstreams, names.upstreams, "an upstream")
    if found.owner is not None and found.owner not in names.people:
        text = f"{quoted(found.owner)} {unknown(found.owner, names.people, 'a person')}"
        document.problems.add((*key, "owner"), text)


def _tokens(document: Document, key: Key, entry: dict[str, object]) -> frozenset[str]:
    """Take the tokens out of an entry, and answer their hashes."""
    values: list[tuple[Key, object]] = []
    if "token" in entry:
        values.append(((*key, "token"), entry.pop("token")))
    if key[0] == "agents" and "tokens" in entry:
        values += _listed(document, (*key, "tokens"), entry.pop("tokens"))
    digests = (
        document.attempt(at, partial(document.sources.token_digest, value)) for at, value in values
    )
    return frozenset(digest for digest in digests if digest is not None)


def _listed(document: Document, key: Key, value: object) -> list[tuple[Key, object]]:
    if not isinstance(value, list):
        document.problems.add(key, "is not a list; put it in [ ]")
        return []
    return [((*key, place), item) for place, item in enumerate(value)]


def _rights(document: Document, names: Names) -> Iterator[tuple[Right, tuple[str, ...]]]:
    found = document.section(Rights, "rights")
    if found is None:
        return
    held = {Right.ADMIN: found.admin, Right.SETTLE: found.settle, Right.READ_ALL: found.read_all}
    for right, holders in held.items():
        key = ("rights", str(right))
        what = "a person or group"
        checks.check_names(document.problems, key, holders, names.approvers, what)
        yield right, holders


def names_in(document: Document) -> Names:
    """Collect every name the file gives, before anything else of it is judged."""

    def named(section: str) -> tuple[str, ...]:
        table: Table = document.table(section)
        return tuple(table)

    return Names(
        upstreams=named("upstreams"),
        agents=named("agents"),
        people=named("people"),
        groups=named("groups"),
    )
