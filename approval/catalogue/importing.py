"""Import a foreign policy: which dialect it is, what it becomes, and what changed on the way.

Importing never loosens: the new document denies whatever the old one denied. Only `promote` turns a
denial into a gate, and only the one that whoever runs it names by its very words.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from approval.catalogue import intercept, policylayer
from approval.catalogue.carrying import Change, Tree
from approval.core import canonical
from approval.core.canonical import quoted
from approval.core.dialects import MAX_TEXT
from approval.core.document import Place, Plain, open_document
from approval.errors import Misconfigured, Unreadable


class Origin(enum.StrEnum):
    """Whose policy it is."""

    AUTO = "auto"
    INTERCEPT = "intercept"
    POLICYLAYER = "policylayer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A document of ours. `before` is what it was where both are the same tree, else None."""

    origin: Origin
    document: Mapping[str, Plain]
    before: Mapping[str, Plain] | None
    changes: tuple[Change, ...]


def import_text(
    text: bytes, *, suffix: str, source: str, origin: Origin = Origin.AUTO, promote: str = ""
) -> Imported:
    """Import a file; `promote` is the text of the unconditional denials that become gates.

    Raises:
        Misconfigured: With everything that cannot be carried over, and where it stands.
    """
    suffix = suffix.lower().removeprefix(".")
    root = _read(text, suffix, source)
    origin = _origin(root, suffix) if origin is Origin.AUTO else origin
    root.settle()
    draft = intercept.carry(root) if origin is Origin.INTERCEPT else policylayer.carry(root)
    root.settle()
    plain = _plain(draft.tree(), source)
    before = _plain(root.value, source) if origin is Origin.POLICYLAYER else None
    promoted, changes = _promoted(plain, promote, source) if promote else (plain, ())
    if promote and before is None:
        before = plain
    return Imported(
        origin=origin,
        document=promoted,
        before=before,
        changes=(*draft.changes, *changes),
    )


def promotable(document: Mapping[str, object]) -> tuple[str, ...]:
    """Give the different texts of all denials without conditions, in order."""
    return tuple(
        dict.fromkeys(
            str(rule.get("on_deny", ""))
            for _, block in _blocks(document)
            for rule in _entries(block)
            if not rule.get("conditions")
        )
    )


# --- the file ---


def _read(text: bytes, suffix: str, source: str) -> Place:
    if len(text) > MAX_TEXT:
        raise Misconfigured((f"{source}: the file exceeds {MAX_TEXT} bytes; split the policy",))
    try:
        document = _parsed(text, suffix)
    except Unreadable as error:
        raise Misconfigured((f"{source}: cannot be read: {error}; correct the file",)) from error
    if not isinstance(document, dict):
        raise Misconfigured((f"{source}: a policy is one object; write {{…}} around it",))
    return open_document(document, source=source).root


def _parsed(text: bytes, suffix: str) -> object:
    match suffix:
        case "json":
            return canonical.read(text)
        case "yaml" | "yml":
            from approval.catalogue.plain_yaml import read_yaml  # noqa: PLC0415 - rarely needed

            return read_yaml(text)
        case _:
            raise Unreadable("suffix", f"{quoted(suffix)!r} is none of json, yaml and yml")


def _origin(root: Place, suffix: str) -> Origin:
    """Tell whose policy it is from keys that only one of the dialects has."""
    if root.has("dialect"):
        root.at("dialect").complain("this is our own dialect already, and can be used as it is")
    tools = root.at("tools").value
    blocks = tools.values() if isinstance(tools, dict) else ()
    keys = {key for block in blocks if isinstance(block, dict) for key in block}
    hosted = bool(keys & policylayer.TOOL) or root.has("all_tools")
    if "rules" not in keys:
        # A file without a single rule says the same in both; only Intercept's is written in YAML.
        return Origin.POLICYLAYER if hosted or suffix == "json" else Origin.INTERCEPT
    if hosted:
        root.complain("some tools have Intercept's rules and some PolicyLayer's; split the file")
    return Origin.INTERCEPT


def _plain(tree: object, source: str) -> dict[str, Plain]:
    """Copy a document as plain JSON."""
    value = open_document(tree, source=source).root.value if isinstance(tree, dict) else None
    return value if isinstance(value, dict) else {}


# --- promotion ---


def _promoted(
    document: Mapping[str, Plain], text: str, source: str
) -> tuple[dict[str, Plain], tuple[Change, ...]]:
    """Turn unconditional denials with exactly this text into gates."""
    changes: list[Change] = []
    tree = _plain(document, source)  # a copy
    for pointer, block in _blocks(tree):
        changes += _promote(pointer, block, text)
    if changes:
        return tree, tuple(changes)
    there = ", ".join(f'"{quoted(each)}"' for each in promotable(document)) or "none"
    problem = f'{source}: no deny_if without conditions says "{quoted(text)}", so nothing can be'
    raise Misconfigured((f"{problem} promoted; texts of such denials: {there}",))


def _promote(pointer: str, block: Tree, text: str) -> list[Change]:
    changes: list[Change] = []
    kept: list[object] = []
    entries = block.get("deny_if")
    for index, rule in enumerate(entries if isinstance(entries, list) else []):
        if rule.get("conditions") or rule.get("on_deny") != text:
            kept.append(rule)
            continue
        what = "an unconditional denial with the promoted text: now held for a person"
        before = f"{pointer}/deny_if/{index}"
        changes.append(Change(before=before, after=f"{pointer}/require_approval", what=what))
    if changes:
        gates = block.get("require_approval")
        block["deny_if"] = kept
        others = [each for each in gates if each != {}] if isinstance(gates, list) else []
        block["require_approval"] = [*others, {}]
        if not kept:
            del block["deny_if"]
    return changes


def _blocks(document: Mapping[str, object]) -> list[tuple[str, Tree]]:
    tools = document.get("tools")
    found = tools.items() if isinstance(tools, dict) else ()
    return [
        (f"/tools/{name.replace('~', '~0').replace('/', '~1')}", block)
        for name, block in found
        if isinstance(block, dict)
    ]


def _entries(block: Tree) -> list[Tree]:
    entries = block.get("deny_if")
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
