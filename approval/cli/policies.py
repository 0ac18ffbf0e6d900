"""Commands on policies: import a foreign one, explain a verdict, find what is hardly meant."""

import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from approval.catalogue.carrying import Change
from approval.catalogue.importing import Imported, Origin, import_text, promotable
from approval.catalogue.linting import lint as remarks_on
from approval.catalogue.scenes import Remark, Severity
from approval.catalogue.writing import to_json, to_toml
from approval.cli import taking
from approval.cli.orders import Foreign
from approval.cli.terminal import Declined, complain, hint, say, write_json
from approval.config import load
from approval.core import admission, canonical
from approval.core.admission import Admitted
from approval.core.call import Outcome, Requirement, ToolCall, Verdict, requirement_facts
from approval.core.canonical import JSON, Number, quoted
from approval.core.conditions import Truth
from approval.core.explaining import Asked, Looked, Opinion, Trace, trace
from approval.core.foreseeing import Foresight, foresee
from approval.core.identity import barred_from
from approval.core.paths import MISSING
from approval.core.rulebook import Rulebook
from approval.errors import Misconfigured, Refused, Unreadable
from approval.gateway import answers, tools
from approval.store.store import wall_clock

MAX_FILE: Final = canonical.MAX_BODY + 1
VERDICTS: Final = {Outcome.ALLOW: 0, Outcome.GATE: 3, Outcome.DENY: 4}
"""How `explain` ends."""

# --- import ---


def import_policy(file: Path, foreign: Foreign, out: Path | None, *, as_json: bool) -> None:
    """Write a foreign policy as ours, and say what became of every rule."""
    if out is not None and out.suffix not in (".toml", ".json"):
        raise Declined(f"{out} says not how to write it; name it .toml or .json.")
    found = _imported(file, foreign)
    text = to_json(found.document) if out and out.suffix == ".json" else to_toml(found.document)
    if out is not None:
        _write_new(out, text)
    if as_json:
        write_json(
            {
                "dialect": str(found.origin),
                "document": found.document,
                "changes": [_change_facts(change) for change in found.changes],
                "difference": list(_difference(found, file, out)),
            }
        )
        return
    tell = hint if out is None else say
    for line in _difference(found, file, out):
        tell(line)
    for change in found.changes:
        tell(_told(change))
    for told in _promotable(found):
        hint(told)
    if out is None:
        sys.stdout.write(text)
    else:
        say(f"{out} is written.", style="bold green")


def _imported(file: Path, foreign: Foreign) -> Imported:
    try:
        return import_text(
            _content(file),
            suffix=file.suffix,
            source=str(file),
            origin=Origin(foreign.dialect),
            promote=foreign.promote,
        )
    except Misconfigured as error:
        complain(error.problems)
        raise Declined("Nothing is imported: what is said above cannot be carried over.") from error


def _difference(found: Imported, file: Path, out: Path | None) -> Iterator[str]:
    """Compare both documents line by line, where they are one tree."""
    if found.before is None:
        return
    write = to_json if out is not None and out.suffix == ".json" else to_toml
    old, new = (write(each).splitlines() for each in (found.before, found.document))
    name = str(out) if out is not None else "approval-1"
    yield from difflib.unified_diff(old, new, str(file), name, lineterm="")


def _told(change: Change) -> str:
    stricter = " [stricter]" if change.stricter else ""
    return f"{change.before} → {change.after or 'nothing'}: {change.what}{stricter}"


def _change_facts(change: Change) -> dict[str, object]:
    return {
        "before": change.before,
        "after": change.after or None,
        "what": change.what,
        "stricter": change.stricter,
    }


def _promotable(found: Imported) -> Iterator[str]:
    """Point out denials that read like gates."""
    for text in promotable(found.document):
        if "approv" in text.lower():
            yield (
                f'"{quoted(text)}" is what a denial says: it denies. To hold such calls for a'
                f' person instead: --promote "{quoted(text)}"'
            )


def _content(file: Path) -> bytes:
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(MAX_FILE)
        with file.open("rb") as opened:
            return opened.read(MAX_FILE)
    except OSError as error:
        raise Declined(f"{file} cannot be read: {error.strerror}. Name a file.") from error


def _write_new(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Declined(f"{out} exists, and is not overwritten. Name a new file.") from error
    except OSError as error:
        raise Declined(f"{out} cannot be written: {error.strerror}.") from error


# --- explain ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A verdict with the way to it. `refused` is why no such call could be read or held at all.

    `foresight` is what limits and grants make of a call that no policy denies.
    """

    refused: Unreadable | None = None
    trace: Trace | None = None
    foresight: Foresight | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What policy says and, where that is no denial, what limits and grants make of it."""
        if self.trace is None or self.foresight is None:
            return None if self.trace is None else self.trace.verdict
        admitted = self.foresight.admitted
        if isinstance(admitted, Admitted):
            return admitted.verdict
        return admission.denied(self.trace.verdict, admitted)

    @property
    def outcome(self) -> Outcome:
        if self.refused is not None or self.trace is None:
            return Outcome.DENY
        return self.trace.verdict.outcome if self.foresight is None else self.foresight.outcome

    @property
    def told(self) -> str:
        """Give what the agent would be told; nothing of a call that simply runs."""
        if self.refused is not None:
            refused = Refused(self.refused.reason, str(self.refused))
            return answers.tell_refused(refused).text
        if self.foresight is not None and not isinstance(self.foresight.admitted, Admitted):
            return answers.tell_no_room(admission.no_room(self.foresight.admitted)).text
        if self.trace is None or self.outcome is Outcome.ALLOW:
            return ""
        verdict = self.trace.verdict
        if self.outcome is Outcome.DENY:
            return answers.tell_denied(verdict).text
        holding = [o.verdict for o in self.trace.opinions if o.verdict.outcome is verdict.outcome]
        why = " ".join(reason.text for each in holding for reason in each.reasons)
        return "NOT EXECUTED: it waits for approval. " + quoted(why, answers.MAX_REASON)


def explain(config: Path, call: Path, *, as_json: bool) -> None:
    """Judge a call that is written in a file, and show every step."""
    content, rules = _content(call), load(config).rules
    asked: dict[str, str] = {}
    try:
        document = canonical.read(content)
    except Unreadable as error:
        found = Explained(refused=error)
    else:
        asked, arguments = _question(call, document)
        found = _explained(rules, asked, arguments)
    if asked.get("tool") in tools.NAMES:
        whose = "where the upstream has no such tool and offers ours"
        hint(f"{whose}, the gateway answers {asked['tool']} itself and asks no policy")
    if as_json:
        write_json(_explained_facts(rules, asked, found))
    else:
        _tell(rules, asked, found)
    raise typer.Exit(VERDICTS[found.outcome])


def _question(file: Path, document: JSON) -> tuple[dict[str, str], JSON]:
    known = {"agent", "upstream", "tool", "arguments"}
    if not isinstance(document, dict) or not document.keys() <= known:
        raise Declined(f"{file} is no call; write an object with {', '.join(sorted(known))}.")
    asked = {name: document.get(name) for name in ("agent", "upstream", "tool")}
    texts = {name: value for name, value in asked.items() if isinstance(value, str)}
    if len(texts) < len(asked):
        lacking = ", ".join(sorted(asked.keys() - texts.keys()))
        raise Declined(f"{file} says not as text: {lacking}. Add it.")
    return texts, document.get("arguments", {})


def _explained(rules: Rulebook, asked: Mapping[str, str], arguments: JSON) -> Explained:
    found = trace(rules, asked["agent"], asked["upstream"], asked["tool"], arguments)
    verdict = found.verdict
    if verdict.outcome is Outcome.DENY:
        return Explained(trace=found)
    spends = verdict.demand is not None and verdict.demand.spends
    kept = spends or verdict.outcome is Outcome.GATE
    try:
        exact = canonical.canonical_arguments if kept else canonical.write
        call = ToolCall(**asked, arguments=exact(arguments))
    except Unreadable as error:
        return Explained(refused=error, trace=found)
    return Explained(trace=found, foresight=foresee(rules, call, verdict, wall_clock()))


def _tell(rules: Rulebook, asked: Mapping[str, str], found: Explained) -> None:
    if found.trace is None:
        say(f"read         refused: {found.refused}")
    else:
        say("read         strictly: every reader reads it so")
        _tell_steps(asked, found.trace)
        for line in taking.end(found.trace, found.foresight):
            say(line)
        if found.refused is not None:
            say(f"exact form   refused: {found.refused}")
    style = {Outcome.ALLOW: "bold green", Outcome.GATE: "bold yellow", Outcome.DENY: "bold red"}
    say(f"verdict      {found.outcome}", style=style[found.outcome])
    demand = _demand(found)
    if demand is not None:
        for line in _who_approves(rules, asked["agent"], demand):
            say(f"approve      {line}")
    if found.told:
        say(f"agent told   {found.told}")


def _tell_steps(asked: Mapping[str, str], found: Trace) -> None:
    access = found.no_access or f"{asked['agent']} may use {asked['upstream']}"
    say(f"access       {access}")
    for opinion in found.opinions:
        say(f"policy       {opinion.source}")
        hiding, listing = opinion.hiding, opinion.listing
        say(f"  hide       {f'{hiding.path} hides the tool' if hiding else 'not hidden'}")
        if hiding is None:
            default = f"not listed; default = {opinion.default}"
            say(f"  default    {f'{listing.path} lists the tool' if listing else default}")
        for rule in opinion.rules:
            _tell_rule(rule)
        for line in taking.steps(opinion):
            say(f"  {line}")
        say(f"  verdict    {opinion.verdict.outcome}: {_codes(opinion.verdict)}")


def _tell_rule(rule: Asked) -> None:
    objects = rule.finding.outcome if rule.finding is not None else "no objection"
    say(f"  rule       {rule.path}: {_truth(rule.truth)} → {objects}")
    for each in rule.conditions:
        said = f"{each.path} {each.operator} {_shown(each.literal)}"
        say(f"               {said}: {_truth(each.truth)}, saw {_seen(each)}")


def _who_approves(rules: Rulebook, agent: str, demand: Requirement) -> Iterator[str]:
    for approvals, approvers, people in _factors(rules, agent, demand):
        able = ", ".join(people) or "nobody"
        yield f"{approvals} of {', '.join(approvers)} (may decide: {able})"
    yield f"within {demand.timeout}; then it expires"


def _factors(
    rules: Rulebook, agent: str, demand: Requirement
) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
    barred = barred_from(rules.directory.agents.get(agent), demand)
    for factor in demand.factors:
        able = sorted(rules.directory.members(factor.approvers) - barred)
        yield factor.approvals, factor.approvers, able


def _demand(found: Explained) -> Requirement | None:
    return None if found.verdict is None else found.verdict.requirement


def _explained_facts(
    rules: Rulebook, asked: Mapping[str, str], found: Explained
) -> dict[str, object]:
    demand, way = _demand(found), found.trace
    refused = found.refused
    return {
        **asked,
        "outcome": str(found.outcome),
        "refused": None if refused is None else {"code": refused.reason, "text": str(refused)},
        "access": None if way is None else {"granted": not way.no_access, "why": way.no_access},
        "policies": [] if way is None else [_opinion_facts(each) for each in way.opinions],
        "reasons": [] if found.verdict is None else _reasons(found.verdict),
        **taking.end_facts(way, found.foresight),
        "requirement": None if demand is None else requirement_facts(demand),
        "may_approve": []
        if demand is None
        else sorted(
            {name for _, _, able in _factors(rules, asked["agent"], demand) for name in able}
        ),
        "told": found.told,
    }


def _opinion_facts(opinion: Opinion) -> dict[str, object]:
    return {
        "source": opinion.source,
        "hidden_by": None if opinion.hiding is None else opinion.hiding.path,
        "listed_by": None if opinion.listing is None else opinion.listing.path,
        "default": opinion.default,
        "rules": [_rule_facts(rule) for rule in opinion.rules],
        **taking.step_facts(opinion),
        "outcome": str(opinion.verdict.outcome),
        "reasons": _reasons(opinion.verdict),
    }


def _rule_facts(rule: Asked) -> dict[str, object]:
    return {
        "rule": rule.kind,
        "path": rule.path,
        "conditions": [
            {
                "path": each.path,
                "op": each.operator,
                "value": each.literal,
                "saw": _seen(each),
                "truth": _truth(each.truth),
            }
            for each in rule.conditions
        ],
        "truth": _truth(rule.truth),
        "outcome": None if rule.finding is None else str(rule.finding.outcome),
    }


def _reasons(verdict: Verdict) -> list[dict[str, str]]:
    return [{"code": r.code, "path": r.path, "text": r.text} for r in verdict.reasons]


def _codes(verdict: Verdict) -> str:
    return ", ".join(f"{reason.code} {reason.path}".strip() for reason in verdict.reasons)


def _truth(truth: Truth) -> str:
    return {True: "true", False: "false", None: "unknown"}[truth]


def _seen(looked: Looked) -> str:
    return "nothing there" if looked.found is MISSING else _shown(looked.found)


def _shown(value: object) -> str:
    """Write a JSON value on one line, cut: it may be hostile and as large as a body."""
    match value:
        case None | bool() | int() | str() | list() | dict() | Number():
            return quoted(canonical.write(value).decode(), 80)
        case _:
            return quoted(repr(value), 80)


# --- lint ---


def lint(config: Path, *, strict: bool, as_json: bool) -> None:
    """Say what is in the policies and was hardly meant."""
    found = remarks_on(load(config).rules)
    if as_json:
        write_json({"remarks": [_remark_facts(remark) for remark in found]})
    else:
        for remark in found:
            said = f"{remark.source}: {remark.path}: {remark.what}; {remark.remedy}"
            say(f"{remark.severity}: {said} [{remark.code}]", style=_STYLES[remark.severity])
        if not found:
            say("Nothing to remark.", style="bold green")
    failing = {Severity.ERROR, *((Severity.WARNING,) if strict else ())}
    count = sum(remark.severity in failing for remark in found)
    if count:
        raise Declined(f"{count} of {len(found)} remark(s) must be dealt with.")


_STYLES: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: ""}


def _remark_facts(remark: Remark) -> dict[str, str]:
    return {
        "severity": str(remark.severity),
        "code": remark.code,
        "file": remark.source,
        "pointer": remark.path,
        "what": remark.what,
        "remedy": remark.remedy,
    }
