"""Read the policies that a configuration names or holds, and the terms they fall back on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from approval.config import checks
from approval.config.checks import Names
from approval.config.document import Document
from approval.config.limits import shared_meters
from approval.config.problems import Key, dotted, unknown
from approval.config.sections import Approvals
from approval.core.canonical import quoted
from approval.core.dialects import Shared, load_text, read_defaults, read_policy
from approval.core.meters import Meter
from approval.core.policy import Policy
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Policies by upstream, those of one agent by agent and upstream, and `[approvals]`."""

    policies: dict[str, Policy]
    narrowing: dict[tuple[str, str], Policy]
    approvals: Approvals


def read_policies(document: Document, names: Names) -> Policies:
    """Read every policy; what is wrong with them goes to the document's problems."""
    table = dict(document.table("approvals"))
    own = {key: table.pop(key) for key in Approvals.model_fields if key in table}
    approvals = document.problems.read(Approvals, own, ("approvals",))
    terms = _terms(document, names, table)
    reader = _Reader(document, names, terms, shared_meters(document, names))
    return Policies(
        policies=dict(reader.of_upstreams()),
        narrowing=dict(reader.of_agents()),
        approvals=approvals or Approvals(),
    )


def _terms(document: Document, names: Names, table: dict[str, object]) -> RequirementDefaults:
    try:
        terms = read_defaults(table, source=str(document.path), path="/approvals")
    except Misconfigured as error:
        document.problems.take(error.problems)
        # That is the problem to tell, not every gate that counts on somebody being named here.
        return RequirementDefaults(approvers=("",))
    factors = terms.factors or ()
    key = ("approvals", "approvers" if terms.approvers else "factors")
    for name in (*(terms.approvers or ()), *(name for f in factors for name in f.approvers)):
        if name not in names.approvers:
            text = unknown(name, names.approvers, "a person or group")
            document.problems.add(key, f"{quoted(name)} {text}")
    return terms


@dataclass(frozen=True, slots=True)
class _Reader:
    document: Document
    names: Names
    terms: RequirementDefaults
    meters: Mapping[str, Meter]

    def of_upstreams(self) -> Iterator[tuple[str, Policy]]:
        for name, entry in self.document.table("upstreams").items():
            if isinstance(entry, dict):
                policy = self._policy(("upstreams", name, "policy"), entry.get("policy"))
                if policy is not None:
                    yield name, policy

    def of_agents(self) -> Iterator[tuple[tuple[str, str], Policy]]:
        for agent, entry in self.document.table("agents").items():
            table = entry.get("policy") if isinstance(entry, dict) else None
            for upstream, value in self._narrowing(("agents", agent, "policy"), table):
                policy = self._policy(("agents", agent, "policy", upstream), value)
                if policy is not None:
                    yield (agent, upstream), policy

    def _narrowing(self, key: Key, table: object) -> Iterator[tuple[str, object]]:
        if table is None:
            return
        if not isinstance(table, dict):
            text = 'is not a table; write policy = { upstream = "policies/agent.json" }'
            self.document.problems.add(key, text)
            return
        for upstream, value in table.items():
            if upstream in self.names.upstreams:
                yield upstream, value
            else:
                text = unknown(upstream, self.names.upstreams, "an upstream")
                self.document.problems.add((*key, upstream), text)

    def _policy(self, key: Key, value: object) -> Policy | None:
        try:
            policy = self._read(key, value)
        except Misconfigured as error:
            self.document.problems.take(error.problems)
            return None
        if policy is not None:
            checks.check_policy_names(self.document.problems, policy, self.names)
        return policy

    def _read(self, key: Key, value: object) -> Policy | None:
        match value:
            case None:
                text = "is missing, and nothing is served without one; name a policy file, or write"
                self.document.problems.add(key, f"{text} the policy as a table")
                return None
            case str():
                path = self.document.folder / value
                content = self.document.content(key, path)
                if content is None:
                    return None
                # Its name as written: the sums of its meters outlive a folder that moves.
                return load_text(
                    content,
                    suffix=path.suffix,
                    source=str(path),
                    defaults=self.terms,
                    shared=Shared(origin=value, meters=self.meters),
                )
            case dict():
                where = dotted(key)
                return read_policy(
                    value,
                    source=f"{self.document.path}: {where}",
                    defaults=self.terms,
                    shared=Shared(origin=where, meters=self.meters),
                )
            case _:
                text = "is neither a file's name nor a table; write one of them"
                self.document.problems.add(key, text)
                return None
