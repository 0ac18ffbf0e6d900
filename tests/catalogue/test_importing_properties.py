"""Importing never loosens, on generated documents of both dialects and generated arguments."""

import json
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from approval.catalogue.importing import Origin, import_text, promotable
from approval.core.call import Outcome, Verdict
from approval.core.dialects import read_policy
from approval.core.policy import evaluate
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults
from tests.core.test_policy_properties import (
    NAMES,
    TOOLS,
    Document,
    holds_there,
    judge,
    load,
    their_condition,
    their_documents,
    their_values,
)

their_arguments = st.dictionaries(st.sampled_from(NAMES), their_values, max_size=2)
texts = st.sampled_from(["Ask.", "ask.", "No."])


def taken(document: Document, origin: Origin, promote: str = "") -> Document:
    text = json.dumps(document).encode()
    found = import_text(text, suffix="json", source="p", origin=origin, promote=promote)
    return dict(found.document)


def verbatim(document: Document, tool: str, arguments: object) -> Verdict:
    """Judge as the loader reads the foreign document, without any import."""
    policy = read_policy(document, source="p", defaults=RequirementDefaults())
    return evaluate(policy, Subject(agent="a", upstream="u", tool=tool, arguments=arguments))


# --- PolicyLayer's ---


def with_texts(document: Document, text: str) -> Document:
    blocks = {
        name: {
            key: [{**entry, "on_deny": text} for entry in entries] for key, entries in block.items()
        }
        for name, block in document["tools"].items()
    }
    return {**document, "tools": blocks}


@settings(max_examples=300, deadline=None)
@given(their_documents, their_arguments, st.sampled_from([*TOOLS, "other"]))
def test_an_imported_policylayer_document_judges_as_the_original(
    document: Document, arguments: Document, tool: str
) -> None:
    there = verbatim(document, tool, arguments)
    here = judge(load(taken(document, Origin.POLICYLAYER)), arguments, tool)
    event(there.outcome)
    assert (here.outcome, here.reasons) == (there.outcome, there.reasons)


@settings(max_examples=300, deadline=None)
@given(their_documents, their_arguments, st.sampled_from(TOOLS), texts, texts)
def test_promotion_turns_denials_with_its_words_into_gates_and_nothing_else(
    document: Document, arguments: Document, tool: str, said: str, promoted: str
) -> None:
    document = with_texts(document, said)
    if promoted not in promotable(document):
        return
    there = verbatim(document, tool, arguments)
    here = judge(load(taken(document, Origin.POLICYLAYER, promoted)), arguments, tool)
    event(f"{there.outcome} to {here.outcome}")
    if here.outcome is not there.outcome:
        assert (there.outcome, here.outcome) == (Outcome.DENY, Outcome.GATE)
        assert {each.code for each in there.reasons} == {"deny_if:true"}
        assert {each.text for each in there.reasons} == {promoted}


# --- Intercept's ---

evaluates = st.lists(their_condition, min_size=1, max_size=2).map(
    lambda conditions: {"name": "r", "conditions": conditions}
)
approvals = st.lists(their_condition, max_size=2).map(
    lambda conditions: {"name": "r", "action": "require_approval", "conditions": conditions}
)
denials = st.just({"name": "r", "action": "deny"})
blocks = st.fixed_dictionaries(
    {"rules": st.lists(st.one_of(evaluates, evaluates, approvals, denials), max_size=2)}
)
intercepts = st.fixed_dictionaries(
    {
        "version": st.just("1"),
        "hide": st.one_of(st.just([]), st.just(["sell"]), st.just("*")),
        "tools": st.dictionaries(st.sampled_from([*TOOLS, "*"]), blocks, max_size=3),
    },
    optional={"default": st.sampled_from(["allow", "deny"])},
)


def says_there(document: Document, tool: str, arguments: Any) -> Outcome:
    """Judge as Intercept does, in a few lines that share nothing with the importer."""
    if document["hide"] == "*" or tool in document["hide"]:
        return Outcome.DENY
    if document.get("default") == "deny" and tool not in document["tools"]:
        return Outcome.DENY
    gated = False
    for name in (tool, "*"):
        for rule in document["tools"].get(name, {"rules": []})["rules"]:
            held = all(holds_there(each, arguments) for each in rule.get("conditions", []))
            action = rule.get("action", "evaluate")
            if action == "deny" or (action == "evaluate" and not held):
                return Outcome.DENY
            gated = gated or (action == "require_approval" and held)
    return Outcome.GATE if gated else Outcome.ALLOW


STRICTNESS = [Outcome.ALLOW, Outcome.GATE, Outcome.DENY]


@settings(max_examples=600, deadline=None)
@given(intercepts, their_arguments, st.sampled_from([*TOOLS, "other"]))
def test_an_imported_intercept_document_is_at_least_as_strict(
    document: Document, arguments: Document, tool: str
) -> None:
    there = says_there(document, tool, arguments)
    here = judge(load(taken(document, Origin.INTERCEPT)), arguments, tool).outcome
    event(f"{there} to {here}")
    assert STRICTNESS.index(here) >= STRICTNESS.index(there)


numbers_only = st.fixed_dictionaries({"x": st.integers(0, 5), "y": st.integers(0, 5)})
on_numbers = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["args.x", "args.y"]),
        "op": st.sampled_from(["eq", "neq", "lt", "lte", "gt", "gte"]),
        "value": st.integers(0, 5),
    }
)
numeric = st.fixed_dictionaries(
    {
        "name": st.just("r"),
        "action": st.sampled_from(["evaluate", "require_approval"]),
        "conditions": st.lists(on_numbers, min_size=1, max_size=2),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(numeric, max_size=3), numbers_only)
def test_where_types_agree_an_imported_intercept_document_judges_as_the_original(
    rules: list[Document], arguments: Document
) -> None:
    document = {"version": "1", "default": "deny", "hide": [], "tools": {"buy": {"rules": rules}}}
    there = says_there(document, "buy", arguments)
    event(there)
    assert judge(load(taken(document, Origin.INTERCEPT)), arguments).outcome is there
