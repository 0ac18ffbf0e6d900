"""The subject of a judgement: who asks for which tool with what, and the facts that rules read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is judged: who asks for which tool with what. `arguments` may be any JSON value."""

    agent: str
    upstream: str
    tool: str
    arguments: object
    owner: str | None = None
    groups: tuple[str, ...] = ()


def facts_of(subject: Subject) -> dict[str, object]:
    """Lay out what the dotted paths of conditions start from."""
    agent: dict[str, object] = {"name": subject.agent, "groups": list(subject.groups)}
    if subject.owner is not None:
        agent["owner"] = subject.owner
    return {
        "args": subject.arguments,
        "agent": agent,
        "tool": {"name": subject.tool},
        "server": {"name": subject.upstream},
    }
