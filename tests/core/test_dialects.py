"""Documents of both dialects: what loads, what it comes to, and everything that is refused."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta

import pytest

from approval.core.call import Factor, Outcome, Requirement, Verdict
from approval.core.dialects import load_text, read_policy
from approval.core.policy import Mention, Policy, evaluate
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured

NOBODY = RequirementDefaults()
FINANCE = RequirementDefaults(approvers=("finance",))

SEEDS = (
    '{"version":"1","default":"deny","tools":{"create_incoming_phone_number":{"deny_if":'
    '[{"conditions":[],"on_deny":"Requires human approval."}]}}}'
)
PROMOTED = (
    '{"dialect":"approval-1","version":"1","default":"deny","tools":'
    '{"create_incoming_phone_number":{"require_approval":[{}]}}}'
)
FIXED = {"amount": {"fixed": "1.15 USD"}}
SPENDING = """
dialect = "approval-1"
version = "1"
default = "deny"
[tools.create_incoming_phone_number]
title = "buy a phone number"
spend = { amount = { fixed = "1.15 USD", per = "month" }, meters = ["numbers-day"] }
require_approval = [{ approvers = "finance", timeout = "15m" }]
[tools.transfer]
spend = { amount = { argument = "/amount" }, per_call = "100.00 USD", meters = ["transfer-day"] }
require_approval = [{ conditions = [{ path = "spend.amount", op = "gt", value = "20.00 USD" }] }]
[meters]
numbers-day = { limit = "5.00 USD", window = { calendar = "day" }, scope = ["agent"] }
"""
BUYING = """
dialect = "approval-1"
version = "1"
default = "deny"
hide = ["delete_*"]

[defaults.require_approval]
approvers = "finance"
timeout = "30m"
not_owner = false

[tools.create_incoming_phone_number]
title = "buy a phone number"
require = [{ conditions = [{ path = "args.country", op = "in", value = ["US", "CA"] }] }]
deny_if = [{ conditions = [{ path = "/price", op = "gt", value = 1.5 }], on_deny = "Too dear." }]

[[tools.create_incoming_phone_number.require_approval]]
quorum = 2
notify = ["slack:#payments", "email:finance"]

[tools."search_*"]
"""


def load(text: str, defaults: RequirementDefaults = FINANCE) -> Policy:
    suffix = ".json" if text.startswith("{") else ".toml"
    return load_text(text.encode(), suffix=suffix, source="p", defaults=defaults)


def read(document: Mapping[str, object], defaults: RequirementDefaults = FINANCE) -> Policy:
    return read_policy(document, source="p", defaults=defaults)


def ours(**top: object) -> dict[str, object]:
    return {"dialect": "approval-1", "version": "1", "default": "deny", **top}


def theirs(**top: object) -> dict[str, object]:
    return {"version": "1", "default": "deny", **top}


def gated(entry: object) -> dict[str, object]:
    return ours(tools={"x": {"require_approval": entry}})


def judge(policy: Policy, tool: str, **arguments: object) -> Verdict:
    return evaluate(policy, Subject(agent="a", upstream="u", tool=tool, arguments=arguments))


def problems(document: Mapping[str, object], defaults: RequirementDefaults = FINANCE) -> list[str]:
    with pytest.raises(Misconfigured) as failure:
        read(document, defaults)
    return list(failure.value.problems)


def demanded(entry: object, defaults: RequirementDefaults = FINANCE) -> Requirement | None:
    return judge(read(gated(entry), defaults), "x").requirement


# --- the documents of the specification ---


def test_the_seeds_document_loads_as_it_stands_and_denies() -> None:
    verdict = judge(load(SEEDS), "create_incoming_phone_number", areaCode="415")
    assert verdict.outcome is Outcome.DENY
    assert [(each.code, each.path, each.text) for each in verdict.reasons] == [
        (
            "deny_if:true",
            "/tools/create_incoming_phone_number/deny_if/0",
            "Requires human approval.",
        )
    ]
    assert judge(load(SEEDS), "send_message").outcome is Outcome.DENY


def test_the_promoted_form_of_the_seeds_document_gates() -> None:
    verdict = judge(load(PROMOTED), "create_incoming_phone_number", areaCode="415")
    assert verdict.outcome is Outcome.GATE
    assert verdict.requirement == Requirement(factors=(Factor(approvers=("finance",)),))
    assert judge(load(PROMOTED), "send_message").outcome is Outcome.DENY


def test_a_document_that_spends_says_what_is_wrong_with_its_money() -> None:
    with pytest.raises(Misconfigured) as failure:
        load(SPENDING)
    told = [problem.split(": ")[1] for problem in failure.value.problems]
    assert told == ["/tools/transfer/spend/amount", "/tools/transfer/spend/amount"]


def test_a_document_of_our_own_means_what_it_says() -> None:
    policy = load(BUYING, NOBODY)
    good = judge(policy, "create_incoming_phone_number", country="US", price=1)
    assert good.outcome is Outcome.GATE
    assert good.title == "buy a phone number"
    assert good.requirement == Requirement(
        factors=(Factor(approvers=("finance",), approvals=2),),
        timeout=timedelta(minutes=30),
        not_owner=False,
        notify=("slack:#payments", "email:finance"),
    )
    dear = judge(policy, "create_incoming_phone_number", country="US", price=2)
    assert [reason.text for reason in dear.reasons] == ["Too dear."]
    assert judge(policy, "create_incoming_phone_number", country="DE", price=1).outcome == "deny"
    assert judge(policy, "search_numbers").outcome is Outcome.ALLOW
    assert judge(policy, "delete_numbers").reasons[0].code == "hide"
    assert policy.names_used() == (
        Mention(text="finance", path="/defaults/require_approval/approvers"),
    )
    assert policy.notify_used() == (
        Mention(
            text="slack:#payments",
            path="/tools/create_incoming_phone_number/require_approval/0/notify/0",
        ),
        Mention(
            text="email:finance",
            path="/tools/create_incoming_phone_number/require_approval/0/notify/1",
        ),
    )
    assert policy.tool_patterns() == (
        Mention(text="create_incoming_phone_number", path="/tools/create_incoming_phone_number"),
        Mention(text="search_*", path="/tools/search_*"),
        Mention(text="delete_*", path="/hide/0"),
    )


def test_the_same_document_has_one_digest_in_either_format() -> None:
    toml = 'version = "1"\ndefault = "deny"\n[[tools.x.deny_if]]\nconditions = [{ path = "args.a", '
    toml += 'op = "gt", value = 1.50 }]\n'
    text = (
        '{"tools": {"x": {"deny_if": [{"conditions": [{"value": 1.5, "op": "gt", "path": "args.a"'
    )
    text += '}]}]}}, "default": "deny", "version": "1"}'
    assert load(toml).digest == load(text).digest
    assert load(toml).digest != load(text.replace("1.5", "1.6")).digest
    assert len(load(toml).digest) == 64


def test_the_digest_is_that_of_the_canonical_document() -> None:
    canonical = b'{"default":"deny","version":"1"}'
    expected = hashlib.sha256(b"approval/policy/1\n" + canonical).hexdigest()
    assert read({"version": "1", "default": "deny"}).digest == expected


# --- files ---


@pytest.mark.parametrize(
    ("text", "suffix", "told"),
    [
        (b'{"version":"1","version":"1","default":"deny"}', ".json", "p: cannot be read: "),
        (b"\xef\xbb\xbf{}", ".json", "byte order mark"),
        (b"", ".json", "cannot be read"),
        (b"[]", ".json", "a policy is one object"),
        (b'"deny"', "json", "a policy is one object"),
        (b"NaN", "JSON", "cannot be read"),
        (b"default = ", ".toml", "cannot be read"),
        (b"a = 1\na = 2", ".toml", "cannot be read"),
        (b"\xff", ".toml", "cannot be read"),
        (b"a = " + b"[" * 100_000, ".toml", "cannot be read"),
        (b"a = " + b"9" * 5000, ".toml", "cannot be read"),
        (b"a = 2026-01-01", ".toml", "/a: datetime.date(2026, 1, 1) is no JSON value"),
        (b"a = nan", ".toml", "is no JSON value"),
        (b"{}", ".yaml", "'yaml' is neither json nor toml"),
        (b"{}", "", "is neither json nor toml"),
        (b" " * (1024 * 1024 + 1), ".json", "exceeds 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(text: bytes, suffix: str, told: str) -> None:
    with pytest.raises(Misconfigured) as failure:
        load_text(text, suffix=suffix, source="p", defaults=FINANCE)
    assert told in str(failure.value)
    assert len(failure.value.problems) == 1
    assert failure.value.problems[0].startswith("p: ")


# --- what a document must say, and may not ---


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"version": "1"}, 'p: /default: this is missing; write "deny" (or "allow")'),
        (theirs(default="maybe"), "p: /default: this is 'maybe'; write"),
        (theirs(default=None), "p: /default: this is None"),
        ({"default": "deny"}, 'p: /version: this must be the text "1"'),
        (theirs(version=1), "p: /version: this must be the text"),
        (theirs(version="2"), "p: /version: this must be the text"),
        (ours(version="2"), "p: /version: this must be the text"),
        (ours(dialect="approval-2"), "p: /dialect: there is no dialect 'approval-2'"),
        (ours(dialect=None), "p: /dialect: there is no dialect None"),
        (theirs(description="x"), "p: /description: there is no key description in a policy"),
        (theirs(defaults={}), 'more with "dialect": "approval-1"'),
        (theirs(tools=[]), "p: /tools: this is a list; write an object"),
        (theirs(tools={"x": None}), "p: /tools/x: this is nothing; write an object"),
        (theirs(tools={"x": {"rules": []}}), "Intercept file"),
        (theirs(tools={"x": {"limits": [{}]}}), "p: /tools/x/limits/0"),
        (theirs(tools={"x": {"rate_limit": {"max": 1}}}), "p: /tools/x/rate_limit/window"),
        (theirs(all_tools={"limits": []}), "p: /all_tools/limits: limits has no place"),
        (theirs(all_tools={"deny_if": []}), "all_tools of dialect PolicyLayer; it takes no keys"),
        (theirs(all_tools=[]), "p: /all_tools: this is a list"),
        (theirs(tools={"x": {"title": "y"}}), "p: /tools/x/title: title has no place"),
        (theirs(tools={"create_*": {}}), "p: /tools/create_*: PolicyLayer's files name tools"),
        (theirs(tools={"creat?": {}}), "name tools exactly"),
        (theirs(hide=["*"]), "p: /hide/0: PolicyLayer's files name tools exactly"),
        (theirs(hide="delete"), 'p: /hide: this is text; write a list of tools, or "*"'),
        (theirs(hide=["a", "a"]), "p: /hide: a name stands here twice"),
        (theirs(hide=[""]), "p: /hide/0: this is blank"),
        (theirs(hide={}), "p: /hide: this is an object; write a list"),
        (theirs(tools={"": {}}), "the tool has no name"),
        (theirs(tools={"a/b": {"zzz": 1}}), "p: /tools/a~1b/zzz: there is no key zzz"),
        (ours(tools={"*": {"title": "y"}}), "p: /tools/*/title: title has no place"),
        (ours(tools={"x": {"title": ""}}), "p: /tools/x/title: this is blank"),
        (ours(tools={"x": {"spend": {}}}), "p: /tools/x/spend/amount: "),
        (ours(tools={"x": {"on_error": "void"}}), "without spend there is no money"),
        (ours(tools={"x": {"spend": FIXED | {"meters": ["a"]}}}), 'there is no meter "a"'),
        (ours(grants=[]), "they are given in the configuration, or"),
        (ours(grantable={}), "each rule of require_approval says it for itself"),
        (ours(defaults={"require_approval": {"grantable": {}}}), "says it for itself"),
        (ours(dedupe={}), "dedupe is not built yet"),
        (ours(defaults={"deny_if": []}), "deny_if has no place in the defaults"),
        (ours(defaults=[]), "p: /defaults: this is a list"),
        (ours(defaults={"require_approval": {"conditions": []}}), "conditions has no place"),
        (ours(tools={"x": {"deny_if": {}}}), "p: /tools/x/deny_if: this is an object; write a"),
        (ours(tools={"x": {"deny_if": [5]}}), "p: /tools/x/deny_if/0: this is a number"),
        (ours(tools={"x": {"deny_if": [{"notify": "a"}]}}), "notify has no place in a rule of d"),
        (ours(tools={"x": {"deny_if": [{"on_deny": 5}]}}), "/deny_if/0/on_deny: this is a number"),
        (ours(tools={"x": {"deny_if": [{"conditions": {}}]}}), "conditions: this is an object"),
        (ours(tools={"x": {"deny_if": [{"conditions": None}]}}), "conditions: this is nothing"),
        (ours(tools={"x": {"deny_if": [{"conditions": [5]}]}}), "conditions/0: this is a number"),
        (ours(tools={"x": {"require": [{}]}}), "without conditions this requires nothing"),
        (ours(tools={"x": {"require": {}}}), "p: /tools/x/require: this is an object"),
        (ours(all_tools={"title": "x"}), "p: /all_tools/title: title has no place"),
    ],
)
def test_a_document_that_is_wrong_does_not_load(document: dict[str, object], told: str) -> None:
    assert told in "\n".join(problems(document))


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"path": "args.a", "op": "eq"}, "/conditions/0: the value is missing"),
        ({"path": "args.a", "value": 1}, "/conditions/0/op: this is nothing; write text"),
        ({"op": "eq", "value": 1}, "/conditions/0/path: this is nothing; write text"),
        ({"path": "args.a", "op": "eq", "value": None}, "/value: eq: the value must be text"),
        ({"path": "args.a", "op": "is", "value": 1}, "there is no operator 'is'"),
        ({"path": "args.a", "op": "regex", "value": "("}, "/value: regex: '(' is no RE2 pattern"),
        ({"path": "amount", "op": "eq", "value": 1}, "/path: the path 'amount' starts with none"),
        ({"path": "state.x.y", "op": "eq", "value": 1}, "'state' is not built yet"),
        ({"path": "args.a", "op": "eq", "value": 1, "not": 1}, "there is no key not in a cond"),
        ({"path": "args.a", "op": 5, "value": 1}, "/conditions/0/op: this is a number"),
    ],
)
def test_a_condition_that_is_wrong_does_not_load(condition: object, told: str) -> None:
    for rule in ("deny_if", "require", "require_approval"):
        found = problems(ours(tools={"x": {rule: [{"conditions": [condition]}]}}))
        assert told in "\n".join(found)
        assert len(found) == 1
        assert f"p: /tools/x/{rule}/0/conditions/0" in found[0]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ([], "/require_approval: an empty list asks nobody; write [{}]"),
        ("finance", "/require_approval: this is text; write a list"),
        (None, "/require_approval: this is nothing; write a list"),
        ([5], "/require_approval/0: this is a number"),
        ([{"approvers": []}], "/0/approvers: this list is empty, so nobody could ever approve"),
        ([{"approvers": ""}], "/0/approvers: this is blank"),
        ([{"approvers": ["ann", "ann"]}], "/0/approvers: a name stands here twice"),
        ([{"approvers": [5]}], "/0/approvers/0: this is a number"),
        ([{"factors": []}], "/0/factors: this list is empty"),
        ([{"factors": {}}], "/0/factors: this is an object"),
        ([{"factors": [{}]}], "a factor names either a group or approvers"),
        ([{"factors": [{"group": "a", "approvers": "b"}]}], "either a group or approvers"),
        ([{"factors": [{"group": ["a"]}]}], "/factors/0/group: this is a list; write text"),
        ([{"factors": [{"approvers": []}]}], "/factors/0/approvers: this list is empty"),
        ([{"factors": [{"group": "a", "approvals": 0}]}], "/approvals: this is 0; write a whole"),
        ([{"factors": [{"group": "a", "quorum": 1}]}], "quorum has no place in a factor"),
        (
            [{"factors": [{"group": "a"}, {"approvers": ["a"], "approvals": 2}]}],
            "/0/factors: the same approvers stand in two factors",
        ),
        ([{"approvers": "a", "factors": [{"group": "a"}]}], "say the same thing twice"),
        ([{"quorum": True}], "/quorum: this is True"),
        ([{"quorum": 2, "factors": [{"group": "a"}]}], "the approvers come from factors"),
        ([{"timeout": 900}], "/timeout: this is 900"),
        ([{"timeout": "soon"}], "/timeout: this is 'soon'"),
        ([{"run_within": "0m"}], "/run_within: this is '0m'"),
        ([{"distinct": "yes"}], "/distinct: this is 'yes'"),
        ([{"not_owner": 1}], "/not_owner: this is 1"),
        ([{"run": "never"}], "/run: this is 'never'; write one of auto"),
        ([{"on_disconnect": "deny"}], "/on_disconnect: this is 'deny'; write one of detach"),
        ([{"notify": 5}], "/notify: this is a number"),
        ([{"on_timeout": "allow"}], '/on_timeout: silence is never consent; write "deny"'),
        ([{"on_timeout": "escalate"}], "/on_timeout: escalation is not built yet"),
        ([{"on_timeout": None}], "/on_timeout: this is None"),
        ([{"channels": ["web"]}], "/channels: channels has no place"),
        ([{"escalation": []}], "escalation is not built yet"),
        ([{"require_console": True}], "require_console is not built yet"),
        ([{"show": "full"}], "show is not built yet"),
        ([{"when": "true"}], "when is not built yet"),
    ],
)
def test_a_gate_that_is_wrong_does_not_load(entry: object, told: str) -> None:
    assert told in "\n".join(problems(gated(entry)))


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        {
            "dialect": "approval-1",
            "default": "perhaps",
            "hide": 5,
            "tools": {"x": {"deny_iff": [], "require_approval": [{"timeout": 1, "quorum": 0}]}},
            "grants": {},
        }
    )
    assert [problem.split(": ")[1] for problem in found] == [
        "/grants",
        "/version",
        "/tools/x/deny_iff",
        "/default",
        "/hide",
        "/tools/x/require_approval/0/quorum",
        "/tools/x/require_approval/0/timeout",
    ]


def test_a_key_with_hostile_text_stays_on_its_line() -> None:
    [problem] = problems(theirs(tools={"x": {"a\n\x1b[31m" + "b" * 5000: 1}}))
    assert len(problem.splitlines()) == 1
    assert "\x1b" not in problem
    assert len(problem) < 700


# --- what PolicyLayer's documents come to ---


def test_a_document_without_dialect_is_read_as_policylayers() -> None:
    policy = read(
        theirs(
            hide=["secret"],
            all_tools={},
            tools={
                "open": {},
                "secret": {},
                "*": {
                    "deny_if": [{"conditions": [{"path": "args.force", "op": "eq", "value": True}]}]
                },
                "closed": {
                    "require": [
                        {"conditions": [{"path": "args.why", "op": "exists", "value": True}]}
                    ]
                },
            },
        ),
        NOBODY,
    )
    assert judge(policy, "open", force=False).outcome is Outcome.ALLOW
    assert judge(policy, "open", force=True).reasons[0].path == "/tools/*/deny_if/0"
    assert judge(policy, "open").reasons[0].code == "deny_if:unknown"
    assert judge(policy, "closed", force=False, why="so").outcome is Outcome.ALLOW
    assert judge(policy, "closed", force=False, why=None).reasons[0].code == "require:false"
    assert judge(policy, "secret", force=False).reasons[0].code == "hide"
    assert judge(policy, "other", force=False).reasons[0].code == "unlisted"


def test_hiding_everything_hides_everything() -> None:
    for document in (theirs(hide="*", default="allow"), ours(hide=["*"], default="allow")):
        verdict = judge(read(document), "anything")
        assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.DENY, "hide")


def test_json_of_the_wild_is_read_from_bytes() -> None:
    text = json.dumps(theirs(tools={"x": {"deny_if": [{"on_deny": ""}]}}))
    [reason] = judge(load(text), "x").reasons
    assert (reason.code, reason.text) == ("deny_if:true", "The policy denies this call.")
