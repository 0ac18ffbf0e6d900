"""Every document in `documents` imports to the one beside it, or is refused for what stands there.

`NAME.toml` is what NAME becomes; `NAME.refused` holds a line for each problem, in order.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from approval.catalogue.importing import Imported, Origin, import_text, promotable
from approval.catalogue.writing import to_json, to_toml
from approval.core import canonical
from approval.core.call import Outcome
from approval.core.dialects import MAX_TEXT, read_policy
from approval.core.policy import Policy, evaluate
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured

DOCUMENTS = Path(__file__).parent / "documents"
FOREIGN = sorted(path for path in DOCUMENTS.iterdir() if path.suffix in {".json", ".yaml"})
GOOD = [path for path in FOREIGN if path.with_name(f"{path.name}.toml").exists()]
BAD = [path for path in FOREIGN if path.with_name(f"{path.name}.refused").exists()]
SEEDS = DOCUMENTS / "seeds.json"
ASKS = "Requires human approval."


def take(path: Path, **choices: Any) -> Imported:
    return import_text(path.read_bytes(), suffix=path.suffix, source=path.name, **choices)


def take_text(text: str, suffix: str = ".yaml", **choices: Any) -> Imported:
    return import_text(text.encode(), suffix=suffix, source="p", **choices)


def problems(text: str, suffix: str = ".yaml", **choices: Any) -> list[str]:
    with pytest.raises(Misconfigured) as failure:
        take_text(text, suffix, **choices)
    return list(failure.value.problems)


def loaded(document: Mapping[str, Any]) -> Policy:
    """Load a document without its limits on how often, which are read elsewhere."""
    tools = document.get("tools", {})
    calm = {name: without_rates(block) for name, block in tools.items()}
    everything = without_rates(document.get("all_tools", {}))
    whole = {**document, "tools": calm, "all_tools": everything}
    return read_policy(whole, source="p", defaults=RequirementDefaults(approvers=("finance",)))


def without_rates(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key not in {"rate_limit", "limits"}}


def outcome(document: Mapping[str, Any], tool: str, **arguments: Any) -> Outcome:
    subject = Subject(agent="a", upstream="u", tool=tool, arguments=arguments)
    return evaluate(loaded(document), subject).outcome


# --- the documents ---


def test_every_document_has_exactly_one_end() -> None:
    assert sorted([*GOOD, *BAD]) == FOREIGN
    ends = [path for path in DOCUMENTS.iterdir() if path not in FOREIGN]
    assert {path.suffix for path in ends} == {".toml", ".refused"}
    assert len(ends) == len(FOREIGN)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_a_document_becomes_the_one_beside_it_and_loads(path: Path) -> None:
    found = take(path)
    assert to_toml(found.document) == path.with_name(f"{path.name}.toml").read_text()
    assert loaded(found.document).source == "p"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_document_that_cannot_be_carried_over_is_refused_for_every_reason(path: Path) -> None:
    with pytest.raises(Misconfigured) as failure:
        take(path)
    expected = path.with_name(f"{path.name}.refused").read_text().splitlines()
    assert len(failure.value.problems) == len(expected)
    for problem, said in zip(failure.value.problems, expected, strict=True):
        assert problem.startswith(f"{path.name}: ")
        assert said in problem


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_what_is_accounted_for_points_to_both_documents(path: Path) -> None:
    found = take(path)
    text = path.read_bytes()
    foreign = canonical.read(text) if path.suffix == ".json" else None
    for change in found.changes:
        assert change.what
        assert not change.after or there(found.document, change.after) is not None
        if foreign is not None:
            assert there(foreign, change.before) is not None


def there(document: object, pointer: str) -> object:
    value: Any = document
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/")]
    return value


# --- whose policy it is ---


@pytest.mark.parametrize(
    ("text", "suffix", "origin"),
    [
        ('version: "1"\ntools: {a: {rules: []}}\n', ".yaml", Origin.INTERCEPT),
        ('version: "1"\ndefault: deny\n', ".YML", Origin.INTERCEPT),
        ('version: "1"\ndefault: deny\ntools: {a: {limits: []}}\n', ".yml", Origin.POLICYLAYER),
        ('{"version": "1", "default": "deny"}', ".json", Origin.POLICYLAYER),
        ('{"version": "1", "default": "deny", "all_tools": {}}', ".json", Origin.POLICYLAYER),
        ('{"version": "1", "tools": {"a": {"rules": []}}}', "json", Origin.INTERCEPT),
    ],
)
def test_the_dialect_is_told_by_its_keys(text: str, suffix: str, origin: Origin) -> None:
    assert take_text(text, suffix).origin is origin


def test_a_dialect_that_is_named_is_not_guessed() -> None:
    text = '{"version": "1", "default": "deny", "tools": {"a": {"deny_if": []}}}'
    assert "not known in a tool" in problems(text, ".json", origin=Origin.INTERCEPT)[0]
    [told] = problems(
        'version: "1"\ndefault: deny\ntools: {a: {rules: []}}', origin=Origin.POLICYLAYER
    )
    assert "import it as intercept" in told


@pytest.mark.parametrize("suffix", [".toml", ".txt", ""])
def test_a_file_of_another_kind_is_refused(suffix: str) -> None:
    assert "none of json, yaml and yml" in problems("version = 1", suffix)[0]


def test_a_file_beyond_all_measure_is_refused() -> None:
    assert "exceeds" in problems(" " * (MAX_TEXT + 1), ".json")[0]


# --- promotion ---


def test_without_promotion_the_seeds_document_goes_on_denying() -> None:
    found = take(SEEDS)
    assert found.document == {"dialect": "approval-1", **canonical.read(SEEDS.read_bytes())}  # type: ignore[dict-item]
    assert found.before == canonical.read(SEEDS.read_bytes())
    assert found.changes == ()
    assert outcome(found.document, "create_incoming_phone_number") is Outcome.DENY
    assert promotable(found.document) == (ASKS,)


def test_promotion_gates_what_was_denied_with_these_words() -> None:
    found = take(SEEDS, promote=ASKS)
    promoted = (
        '{"dialect":"approval-1","version":"1","default":"deny","tools":'
        '{"create_incoming_phone_number":{"require_approval":[{}]}}}'
    )
    assert found.document == canonical.read(promoted.encode())
    assert outcome(found.document, "create_incoming_phone_number") is Outcome.GATE
    assert [(each.before, each.after) for each in found.changes] == [
        (
            "/tools/create_incoming_phone_number/deny_if/0",
            "/tools/create_incoming_phone_number/require_approval",
        )
    ]
    assert promotable(found.document) == ()


MANY = """
{"version": "1", "default": "deny", "tools": {
  "a/b": {"deny_if": [
    {"conditions": [], "on_deny": "Ask."},
    {"conditions": [{"path": "args.x", "op": "gt", "value": 5}], "on_deny": "Ask."},
    {"on_deny": "Ask."},
    {"conditions": [], "on_deny": "Ask. "},
    {"conditions": []}]},
  "c": {"deny_if": [{"conditions": [], "on_deny": "ask."}]},
  "d": {}}}
"""


def test_only_unconditional_denials_with_exactly_these_words_are_promoted() -> None:
    found = take_text(MANY, ".json", promote="Ask.")
    tools: Any = found.document["tools"]
    assert tools["a/b"]["require_approval"] == [{}]
    assert [each.get("on_deny") for each in tools["a/b"]["deny_if"]] == ["Ask.", "Ask. ", None]
    assert tools["c"] == {"deny_if": [{"conditions": [], "on_deny": "ask."}]}
    assert tools["d"] == {}
    assert [each.before for each in found.changes] == [
        "/tools/a~1b/deny_if/0",
        "/tools/a~1b/deny_if/2",
    ]
    assert promotable(take_text(MANY, ".json").document) == ("Ask.", "Ask. ", "", "ask.")


def test_promoting_what_is_not_there_is_refused_and_says_what_is() -> None:
    [told] = problems(MANY, ".json", promote="Asks.")
    assert told.endswith('texts of such denials: "Ask.", "Ask. ", "", "ask."')
    [none] = problems('{"version": "1", "default": "deny"}', ".json", promote="x")
    assert none.endswith("none")


def test_promotion_of_an_intercept_file_keeps_its_gates_and_shows_the_rest() -> None:
    text = """
version: "1"
default: deny
tools:
  buy:
    rules:
      - { name: a, action: deny, on_deny: Ask. }
      - { name: b, action: require_approval, approval_timeout: 5m }
"""
    found = take_text(text, promote="Ask.")
    assert found.document["tools"] == {
        "buy": {"require_approval": [{"conditions": [], "timeout": "5m"}, {}]}
    }
    assert found.before == take_text(text).document
    assert take_text(text).before is None


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_what_is_written_as_json_and_as_toml_is_one_document(path: Path) -> None:
    document = take(path).document
    assert tomllib.loads(to_toml(document)) == document
    again: Any = canonical.read(to_json(document).encode())
    assert loaded(again).digest == loaded(document).digest
