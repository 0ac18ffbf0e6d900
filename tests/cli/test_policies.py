"""Importing, explaining and linting from the command line: what is printed, and how it ends."""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from approval.catalogue.importing import Origin
from approval.cli.main import app
from approval.cli.orders import Dialect
from approval.cli.terminal import Exit
from approval.core.dialects import load_text
from approval.core.terms import RequirementDefaults
from tests.cli.desk import Ended, desk

SEEDS = (
    '{"version":"1","default":"deny","tools":{"create_incoming_phone_number":{"deny_if":'
    '[{"conditions":[],"on_deny":"Requires human approval."}]}}}'
)
INTERCEPT = """
version: "1"
default: deny
tools:
  create_charge:
    rules:
      - name: cap
        conditions: [{ path: args.amount, op: lte, value: 5000 }]
        on_deny: Too much.
      - { name: often, rate_limit: 5/minute }
"""
ASKS = "Requires human approval."


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def bring(*words: str) -> Ended:
    ended = CliRunner().invoke(app, ["import", *words], env={"COLUMNS": "200"})
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Ended(code=ended.exit_code, out=ended.stdout, err=ended.stderr)


# --- import ---


def test_the_document_alone_goes_to_the_output(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yaml", INTERCEPT)
    ended = bring(file)
    assert ended.code == 0
    assert ended.out == (
        'dialect = "approval-1"\n'
        'version = "1"\n'
        'default = "deny"\n'
        "\n"
        "[tools.create_charge]\n"
        "require = [\n"
        '    { conditions = [{ path = "args.amount", op = "lte", value = 5000 }],'
        ' on_deny = "Too much." },\n'
        "]\n"
        "rate_limit = { max = 5, window = 60, scope = [] }\n"
    )
    assert ended.err.splitlines() == [
        (
            "/tools/create_charge/rules/0 → /tools/create_charge/require/0: rule cap: its"
            " conditions say when a call is allowed, so they are required"
        ),
        (
            "/tools/create_charge/rules/1 → /tools/create_charge/rate_limit: rule often: 5 per"
            " minute; never more calls than there, for the window slides and a call that fails"
            " still counts; one count for all agents, as there [stricter]"
        ),
    ]


def test_a_denial_that_reads_like_a_gate_is_pointed_out(tmp_path: Path) -> None:
    ended = bring(written(tmp_path, "b.json", SEEDS))
    assert "deny_if" in ended.out
    assert f'--promote "{ASKS}"' in ended.err


def test_a_promotion_is_shown_as_a_difference_and_written(tmp_path: Path) -> None:
    file, out = written(tmp_path, "b.json", SEEDS), tmp_path / "ours.toml"
    ended = bring(file, "--promote", ASKS, "--out", str(out))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[:3] == [f"--- {file}", f"+++ {out}", "@@ -1,5 +1,6 @@"]
    assert lines[3:9] == [
        '+dialect = "approval-1"',
        ' version = "1"',
        ' default = "deny"',
        " ",
        " [tools.create_incoming_phone_number]",
        '-deny_if = [{ conditions = [], on_deny = "Requires human approval." }]',
    ]
    assert lines[9] == "+require_approval = [{}]"
    assert lines[-1] == f"{out} is written."
    assert "--promote" not in ended.err
    loaded = load_text(
        out.read_bytes(),
        suffix=out.suffix,
        source="p",
        defaults=RequirementDefaults(approvers=("ann",)),
    )
    assert [rule.path for rule in loaded.rules] == [
        "/tools/create_incoming_phone_number/require_approval/0"
    ]


def test_a_json_file_is_written_as_json(tmp_path: Path) -> None:
    out = tmp_path / "ours.json"
    ended = bring(written(tmp_path, "b.json", SEEDS), "--out", str(out))
    assert json.loads(out.read_text()) == {"dialect": "approval-1", **json.loads(SEEDS)}
    assert '+  "dialect": "approval-1",' in ended.out


def test_scripts_get_the_document_and_the_account(tmp_path: Path) -> None:
    document = bring(written(tmp_path, "a.yml", INTERCEPT), "--json").document
    assert document["dialect"] == "intercept"
    assert document["document"] == tomllib.loads(bring(str(tmp_path / "a.yml")).out)
    assert document["difference"] == []
    changes = document["changes"]
    assert isinstance(changes, list)
    assert [(each["before"], each["stricter"]) for each in changes] == [
        ("/tools/create_charge/rules/0", False),
        ("/tools/create_charge/rules/1", True),
    ]


def test_what_cannot_be_carried_over_writes_nothing(tmp_path: Path) -> None:
    spending = INTERCEPT + "      - { name: x, action: warn }\n      - { name: y, spend: {} }\n"
    file, out = written(tmp_path, "a.yaml", spending), tmp_path / "ours.toml"
    ended = bring(file, "--out", str(out))
    assert (ended.code, ended.out, out.exists()) == (Exit.REFUSED, "", False)
    told = ended.err.splitlines()
    assert told[0].startswith(f"error: {file}: /tools/create_charge/rules/2/action: this is 'warn'")
    assert told[-1] == "error: Nothing is imported: what is said above cannot be carried over."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no.json",), "cannot be read: No such file"),
        (("b.json", "--out", "b.json"), "exists, and is not overwritten"),
        (("b.json", "--out", "ours.yaml"), "name it .toml or .json"),
        (("b.json", "--out", "no/where.toml"), "cannot be written: No such file"),
        (("b.json", "--promote", "nothing"), 'texts of such denials: "Requires human approval."'),
        (("b.json", "--dialect", "intercept"), "not known in a tool"),
    ],
)
def test_an_import_that_cannot_be_done_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "b.json", SEEDS)
    ended = bring(*words)
    assert ended.code == Exit.REFUSED
    assert told in ended.err
    assert (tmp_path / "b.json").read_text() == SEEDS


def test_an_unknown_dialect_is_a_usage_error() -> None:
    assert bring("x.json", "--dialect", "rego").code == Exit.USAGE


def test_the_command_line_knows_the_dialects_there_are() -> None:
    assert [str(each) for each in Dialect] == [str(each) for each in Origin]


def test_hostile_names_move_no_cursor(tmp_path: Path) -> None:
    nasty = '{"version": "1", "default": "deny", "tools": {"\\u001b[2J": {"action": "deny"}}}'
    ended = bring(written(tmp_path, "n.json", nasty))
    assert ended.code == 0
    assert "\x1b" not in ended.out + ended.err
    assert tomllib.loads(ended.out)["tools"].keys() == {"\x1b[2J"}


# --- explain ---

LIMITS = """
[agents.ops-agent.policy.shop]
dialect = "approval-1"
version = "1"
default = "allow"
hide = ["secret"]
[agents.ops-agent.policy.shop.tools.create_incoming_phone_number]
deny_if = [{ conditions = [{ path = "args.price", op = "gt", value = 5 }], on_deny = "Too dear." }]
"""
BUY = "create_incoming_phone_number"


def explained(folder: Path, call: object, *words: str) -> Ended:
    at = desk(folder)
    text = call if isinstance(call, str) else json.dumps(call)
    return at.run("explain", written(folder, "call.json", text), *words, extra=LIMITS)


def asking(tool: str = BUY, **arguments: object) -> dict[str, object]:
    return {"agent": "ops-agent", "upstream": "shop", "tool": tool, "arguments": arguments}


def test_every_step_of_a_gate_is_shown(tmp_path: Path) -> None:
    ended = explained(tmp_path, asking(price=2))
    assert ended.code == 3
    config = tmp_path / "config.toml"
    assert ended.out.splitlines() == [
        "read         strictly: every reader reads it so",
        "access       ops-agent may use shop",
        f"policy       {config}: upstreams.shop.policy",
        "  hide       not hidden",
        f"  default    /tools/{BUY} lists the tool",
        f"  rule       /tools/{BUY}/require_approval/0: true → gate",
        f"  verdict    gate: require_approval:true /tools/{BUY}/require_approval/0",
        f"policy       {config}: agents.ops-agent.policy.shop",
        "  hide       not hidden",
        f"  default    /tools/{BUY} lists the tool",
        f"  rule       /tools/{BUY}/deny_if/0: false → no objection",
        "               args.price gt 5: false, saw 2",
        f"  verdict    allow: listed /tools/{BUY}",
        "left out     grants that were issued (approval grants)",
        "verdict      gate",
        "approve      1 of ann, bob (may decide: ann, bob)",
        "approve      within 0:15:00; then it expires",
        (
            "agent told   NOT EXECUTED: it waits for approval. The policy requires that a person"
            " approves this call."
        ),
    ]


@pytest.mark.parametrize(
    ("call", "code", "shown"),
    [
        (asking("search_available_numbers"), 0, "verdict      allow"),
        (asking(price=6), 4, "args.price gt 5: true, saw 6"),
        (asking(price="6\n\x1b[2J"), 4, 'args.price gt 5: unknown, saw "6\\n\\u001b[2J"'),
        (asking(), 4, "args.price gt 5: unknown, saw nothing there"),
        (asking(price=None), 4, "args.price gt 5: unknown, saw null"),
        (asking("secret"), 4, "  hide       /hide/0 hides the tool"),
        (asking("other"), 4, "  default    not listed; default = deny"),
        ({**asking(), "agent": "nobody"}, 4, "access       the configuration names no such agent"),
        ({**asking(), "upstream": "bank"}, 4, "access       the configuration names no such upst"),
        (
            '{"agent": "a", "agent": "b"}',
            4,
            'read         refused: the member name "agent"',
        ),
        ("{", 4, "read         refused: the body is not JSON"),
        (asking(price=2, id=2**60), 3, "exact form"),
    ],
)
def test_the_exit_code_is_the_verdict(tmp_path: Path, call: object, code: int, shown: str) -> None:
    ended = explained(tmp_path, call)
    if shown == "exact form":
        # Allowed calls may carry such a number; a call that people look at may not.
        assert ended.code == 4
        assert "exact form   refused: the number 1152921504606846976" in ended.out
        assert "agent told   REFUSED, NOT EXECUTED" in ended.out
        return
    assert ended.code == code
    assert shown in ended.out
    assert "\x1b" not in ended.out


def test_the_agents_sentence_is_the_gateways_own(tmp_path: Path) -> None:
    ended = explained(tmp_path, asking(price=6))
    assert "agent told   DENIED by policy, NOT EXECUTED: Too dear. " in ended.out
    assert "agent told" not in explained(tmp_path, asking("search_available_numbers")).out


def test_a_tool_of_the_gateways_own_is_said_to_be_one(tmp_path: Path) -> None:
    ended = explained(tmp_path, asking("approval_wait"))
    assert ended.code == 4
    assert "the gateway answers approval_wait itself" in ended.err
    assert explained(tmp_path, asking("other")).err == ""


def test_scripts_get_every_step(tmp_path: Path) -> None:
    ended = explained(tmp_path, asking(price="x"), "--json")
    assert ended.code == 4
    document = ended.document
    policies = document.pop("policies")
    assert isinstance(policies, list)
    assert [each["outcome"] for each in policies] == ["gate", "deny"]
    assert policies[1]["rules"] == [
        {
            "rule": "deny_if",
            "path": f"/tools/{BUY}/deny_if/0",
            "conditions": [
                {"path": "args.price", "op": "gt", "value": 5, "saw": '"x"', "truth": "unknown"}
            ],
            "truth": "unknown",
            "outcome": "deny",
        }
    ]
    told = str(document.pop("told"))
    assert told.startswith("DENIED by policy")
    reasons = document.pop("reasons")
    assert isinstance(reasons, list)
    assert reasons[0] == {
        "code": "deny_if:unknown",
        "path": f"/tools/{BUY}/deny_if/0",
        "text": "Too dear.",
    }
    assert document == {
        "agent": "ops-agent",
        "upstream": "shop",
        "tool": BUY,
        "outcome": "deny",
        "refused": None,
        "access": {"granted": True, "why": ""},
        "grants": [],
        "admission": None,
        "left_out": [],
        "requirement": None,
        "may_approve": [],
    }


def test_scripts_learn_who_may_approve_and_why_not(tmp_path: Path) -> None:
    held = explained(tmp_path, asking(price=1), "--json").document
    assert (held["outcome"], held["may_approve"]) == ("gate", ["ann", "bob"])
    requirement = held["requirement"]
    assert isinstance(requirement, dict)
    assert requirement["factors"] == [{"approvals": 1, "approvers": ["ann", "bob"]}]
    refused = explained(tmp_path, "[1,]", "--json").document
    assert refused["outcome"] == "deny"
    assert isinstance(refused["refused"], dict)
    assert refused["refused"]["code"] == "syntax"
    assert (refused["access"], refused["policies"]) == (None, [])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("[]", "is no call; write an object with agent, arguments, tool, upstream"),
        ({**asking(), "extra": 1}, "is no call"),
        ({"agent": "ops-agent", "tool": 5}, "says not as text: tool, upstream"),
    ],
)
def test_what_is_no_call_is_misuse(tmp_path: Path, call: object, told: str) -> None:
    ended = explained(tmp_path, call)
    assert ended.code == Exit.USAGE
    assert told in ended.err


def test_a_verdict_is_never_mistaken_for_a_failure(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert at.run("explain", "no-such.json").code == Exit.USAGE
    call = written(tmp_path, "call.json", json.dumps(asking()))
    # 3 would say that the call waits for a person.
    assert at.run("explain", call, extra="[slack]\n").code == Exit.USAGE


def test_a_call_may_come_from_standard_input(tmp_path: Path) -> None:
    at = desk(tmp_path)
    ended = CliRunner().invoke(
        app, ["explain", "-", "--config", str(at.config)], input=json.dumps(asking())
    )
    assert ended.exit_code == 3
    call = {name: value for name, value in asking().items() if name != "arguments"}
    text = json.dumps(call).encode()
    ended = CliRunner().invoke(app, ["explain", "-", "--config", str(at.config)], input=text)
    assert ended.exit_code == 3


# --- lint ---

HARDLY_MEANT = """
[upstreams.shop.policy.tools.release_phone_number]
deny_if = [{}]
require_approval = [{ approvers = ["ann", "bob"] }]
"""
SHADOWED = """
[upstreams.shop.policy.tools.release_phone_number]
deny_if = [{}, {}]
"""


def test_nothing_is_remarked_where_all_is_well(tmp_path: Path) -> None:
    ended = desk(tmp_path).run("lint")
    assert (ended.code, ended.out) == (0, "Nothing to remark.\n")
    assert desk(tmp_path).run("lint", "--strict", "--json").document == {"remarks": []}


def test_errors_fail_a_lint(tmp_path: Path) -> None:
    at = desk(tmp_path)
    ended = at.run("lint", extra=HARDLY_MEANT)
    assert ended.code == Exit.REFUSED
    where = f"{at.config}: upstreams.shop.policy"
    assert ended.out == (
        f"error: {where}: /tools/release_phone_number/require_approval/0: nobody is ever asked:"
        " /tools/release_phone_number/deny_if/0 denies every call that this would hold; remove one"
        " of the two; a denial does not wait for approval [never_asked]\n"
    )
    assert "1 of 1 remark(s) must be dealt with" in ended.err
    ended = at.run("lint", "--json")
    assert ended.code == Exit.REFUSED
    [remark] = json.loads(ended.out)["remarks"]
    assert remark["severity"] == "error"
    assert remark["file"] == where
    assert remark["pointer"] == "/tools/release_phone_number/require_approval/0"
    assert remark["code"] == "never_asked"
    assert remark.keys() == {"severity", "code", "file", "pointer", "what", "remedy"}


def test_warnings_fail_only_a_strict_lint(tmp_path: Path) -> None:
    at = desk(tmp_path)
    ended = at.run("lint", extra=SHADOWED)
    assert ended.code == 0
    assert ended.out.startswith("warning: ")
    assert at.run("lint", "--strict").code == Exit.REFUSED


def test_what_cannot_be_loaded_cannot_be_linted(tmp_path: Path) -> None:
    assert desk(tmp_path).run("lint", extra="[slack]\n").code == Exit.MISCONFIGURED
