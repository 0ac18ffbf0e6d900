"""Conditions of a rule: a path, an operator and a value, judged to true, false or unknown.

Unknown is not false. A value that is missing, null, or of a type the operator cannot judge leaves
the condition unknown, and the rule around it decides what that means: a denial where it would
deny, a gate where it would gate. Were unknown taken for false, an amount sent as text would pass
under `deny_if amount gt 10000`.

Regular expressions run on RE2 alone: arguments are chosen by whoever attacks, and an engine that
backtracks can be made to run for hours.
"""

import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Protocol

import re2  # type: ignore[import-untyped]

from approval.core.canonical import Number
from approval.core.paths import MISSING, Path, unfit

Truth = bool | None
"""What a condition comes to; None is *unknown*."""

Test = Callable[[object], Truth]
"""An operator with its value, ready to judge what stands at the path (or `MISSING`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One line of a rule: what the operator makes of the value at the path.

    `operator` and `literal` are what the document says; only `test` judges.
    """

    path: Path
    test: Test
    operator: str = field(default="", compare=False)
    literal: object = field(default=None, compare=False)

    def judge(self, facts: Mapping[str, object]) -> Truth:
        return self.test(self.path.find(facts))


def holds(conditions: Iterable[Condition], facts: Mapping[str, object]) -> Truth:
    """Join conditions by Kleene's *and*: one that is false settles it, whatever is unknown.

    No conditions at all hold always.
    """
    truth: Truth = True
    for condition in conditions:
        found = condition.judge(facts)
        if found is False:
            return False
        if found is None:
            truth = None
    return truth


def compile_test(operator: str, value: object) -> Test:
    """Make an operator and the value from the policy into a test.

    Raises:
        Unreadable: If there is no such operator, or it cannot work with that value.
    """
    if operator == "matches_schema":
        raise unfit("the operator matches_schema is not built yet; compare the parts one by one")
    make = OPERATORS.get(operator)
    if make is None:
        raise unfit(f"there is no operator {operator!r}; use one of {', '.join(OPERATORS)}")
    return make(value)


def compile_glob(text: str) -> Callable[[str], bool]:
    """Make a pattern in which `*` is any text and `?` one code point; all else is literal.

    Case counts, no Unicode normal form is applied, and brackets are brackets.
    """
    wild = {"*": "(?s:.*)", "?": "(?s:.)"}
    pattern = _compiled("".join(wild.get(letter) or re2.escape(letter) for letter in text))

    def matches(value: str) -> bool:
        return pattern.fullmatch(value) is not None

    return matches


# --- operators: each makes a test out of the policy's value ---


def equals(literal: object) -> Test:
    """Compare exactly, and only like with like: bool, text (code points), number (decimals)."""
    if isinstance(literal, bool):
        return lambda value: value is literal if isinstance(value, bool) else None
    if isinstance(literal, str):
        return lambda value: value == literal if isinstance(value, str) else None
    wanted = number(literal)
    if wanted is None:
        raise unfit(
            "the value must be text, a number or a bool; for null use exists, for lists and"
            " objects compare their parts by pointer"
        )
    return _on_numbers(lambda found: found == wanted)


def is_in(literal: object) -> Test:
    if not isinstance(literal, list) or not literal:
        raise unfit("the value must be a list that is not empty")
    tests = tuple(equals(item) for item in literal)
    return lambda value: any_of(test(value) for test in tests)


def negated(make: Callable[[object], Test]) -> Callable[[object], Test]:
    def make_negated(literal: object) -> Test:
        test = make(literal)

        def judge(value: object) -> Truth:
            truth = test(value)
            return None if truth is None else not truth

        return judge

    return make_negated


def ordered(
    compare: Callable[[int | Decimal, int | Decimal], bool],
) -> Callable[[object], Test]:
    def make_ordered(literal: object) -> Test:
        bound = number(literal)
        if bound is None:
            raise unfit("the value must be a number")
        return _on_numbers(lambda found: compare(found, bound))

    return make_ordered


def regex(literal: object) -> Test:
    """Search anywhere in the text; write `^…$` to match all of it."""
    pattern = _compiled(_text(literal))
    return lambda value: pattern.search(value) is not None if isinstance(value, str) else None


def contains(literal: object) -> Test:
    """Find a piece of a text, or an element of a list."""
    equal = equals(literal)

    def judge(value: object) -> Truth:
        if isinstance(value, str):
            return literal in value if isinstance(literal, str) else None
        if isinstance(value, list):
            return any_of(equal(item) for item in value)
        return None

    return judge


def exists(literal: object) -> Test:
    """Say whether something stands there that is not null: the one test that always knows."""
    if not isinstance(literal, bool):
        raise unfit("the value must be true or false")
    return lambda value: (value is not MISSING and value is not None) is literal


def glob(literal: object) -> Test:
    matches = compile_glob(_text(literal))
    return lambda value: matches(value) if isinstance(value, str) else None


def cidr(literal: object) -> Test:
    """Find an address, or a whole network, inside the given networks.

    Unknown when it lies partly outside, is not written canonically, or is of a family for which
    no network is given: the same host can have an address in both.
    """
    ranges = tuple(_network(text) for text in _texts(literal))

    def judge(value: object) -> Truth:
        asked = _addresses(value) if isinstance(value, str) else None
        kin = () if asked is None else tuple(r for r in ranges if r.version == asked.version)
        if asked is None or not kin:
            return None
        return any_of(asked.within(known) for known in kin)

    return judge


def host_in(literal: object) -> Test:
    """Find the host of a URL, or a bare host, among names; `*.a.org` is whatever is below a.org."""
    names = tuple(_host_name(text) for text in _texts(literal))

    def judge(value: object) -> Truth:
        host = host_of(value) if isinstance(value, str) else None
        if host is None:
            return None
        return any(host == name or (name[0] == "*" and host.endswith(name[1:])) for name in names)

    return judge


def len_lte(literal: object) -> Test:
    """Bound the code points of a text, or the elements of a list."""
    if isinstance(literal, bool) or not isinstance(literal, int) or literal < 0:
        raise unfit("the value must be a whole number from 0")
    return lambda value: len(value) <= literal if isinstance(value, str | list) else None


OPERATORS: Mapping[str, Callable[[object], Test]] = {
    "eq": equals,
    "neq": negated(equals),
    "in": is_in,
    "not_in": negated(is_in),
    "lt": ordered(lambda found, bound: found < bound),
    "lte": ordered(lambda found, bound: found <= bound),
    "gt": ordered(lambda found, bound: found > bound),
    "gte": ordered(lambda found, bound: found >= bound),
    "regex": regex,
    "contains": contains,
    "exists": exists,
    "glob": glob,
    "cidr": cidr,
    "host_in": host_in,
    "len_lte": len_lte,
}


# --- values ---


def any_of(truths: Iterable[Truth]) -> Truth:
    """Join by Kleene's *or*: one that is true settles it, whatever is unknown."""
    unknown = False
    for truth in truths:
        if truth:
            return True
        unknown = unknown or truth is None
    return None if unknown else False


def number(value: object) -> int | Decimal | None:
    """Give the exact value of a finite number, and None for anything else; a bool is no number."""
    if type(value) is int:
        return value
    if isinstance(value, Number):
        return _decimal(value.token)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        return value
    return None


def sent_number(value: object) -> int | Decimal | None:
    """Give the value of a number that every reader takes for the same one, and None for another.

    In plainly allowed calls a number goes on as it came. 99.99999999999999999 is less than 100 to
    us and is 100 to an upstream that reads doubles: it must not slip past `gte 100`, so nobody can
    tell what it is.
    """
    exact = number(value)
    if exact is None:
        return None
    try:
        return exact if Decimal(repr(float(exact))) == exact else None
    except OverflowError:
        return None


def host_of(text: str) -> str | None:
    """Give the host of `scheme://host…` or of a bare `host:port`, or None where readers differ.

    User names, backslashes, blanks, escapes, other scripts and the short forms of IPv4 addresses
    (`http://2130706433/` is the loopback) are read differently by different clients.
    """
    found = _URL.fullmatch(text)
    host = None if found is None else str(found[1] or found[2]).lower().removesuffix(".")
    if host is None or not all(host.split(".")):
        return None
    last = host.rpartition(".")[2]
    if (last.isdecimal() or last.startswith("0x")) and _addresses(host) is None:
        return None
    return host


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """A run of addresses of one family, both ends included."""

    version: int
    first: int
    last: int

    def within(self, known: "Addresses") -> Truth:
        if known.first <= self.first and self.last <= known.last:
            return True
        apart = self.last < known.first or known.last < self.first
        return False if apart else None


def _addresses(text: str) -> Addresses | None:
    _, slash, mask = text.partition("/")
    # A mask written as an address has two readings; a scope (`%eth0`) names an interface.
    if "%" in text or (slash and not mask.isdecimal()):
        return None
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.version == 6 and first >> 32 == last >> 32 == 0xFFFF:
        # `::ffff:10.0.0.1` reaches the same host as 10.0.0.1.
        return Addresses(version=4, first=first & 0xFFFFFFFF, last=last & 0xFFFFFFFF)
    return Addresses(version=network.version, first=first, last=last)


def _network(text: str) -> Addresses:
    network = _addresses(text)
    if network is None:
        raise unfit(f"{text!r} is not a network such as 10.0.0.0/8, nor an address")
    return network


def _host_name(text: str) -> str:
    bare = text.removeprefix("*.")
    if "/" in bare or ":" in bare or host_of(bare) is None:
        raise unfit(f"{text!r} is not a host name such as example.com or *.example.com")
    return text.lower().removesuffix(".")


def _decimal(token: str) -> Decimal | None:
    try:
        value = Decimal(token)
    except InvalidOperation:
        # An exponent of twenty digits is JSON all the same.
        return None
    return value if value.is_finite() else None


def _on_numbers(judge: Callable[[int | Decimal], bool]) -> Test:
    def test(value: object) -> Truth:
        found = sent_number(value)
        return None if found is None else judge(found)

    return test


def _text(literal: object) -> str:
    if not isinstance(literal, str):
        raise unfit("the value must be text")
    return literal


def _texts(literal: object) -> tuple[str, ...]:
    if isinstance(literal, str):
        return (literal,)
    if not isinstance(literal, list) or not literal:
        raise unfit("the value must be text, or a list of texts that is not empty")
    return tuple(_text(item) for item in literal)


# --- RE2, with the types its library lacks ---


class Match(Protocol):
    def __getitem__(self, group: int) -> str | None: ...


class Pattern(Protocol):
    def search(self, text: str) -> Match | None: ...

    def fullmatch(self, text: str) -> Match | None: ...


def _compiled(pattern: str) -> Pattern:
    options = re2.Options()
    # A pattern that fails is told to the operator, not to standard error.
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        raise unfit(
            f"{pattern!r} is no RE2 pattern ({_told(error)}); RE2 has neither look-around nor"
            " back-references"
        ) from None
    return compiled


def _told(error: Exception) -> str:
    told = error.args[0] if error.args else b""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


_URL = _compiled(
    r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9_.-]+)(?::[0-9]{1,5})?(?:[/?#][^\x00-\x20\x7f\\]*)?"
    r"|([A-Za-z0-9_.-]+)(?::[0-9]{1,5})?"
)
