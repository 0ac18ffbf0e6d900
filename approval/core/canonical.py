"""The one strict reader of JSON, its exact writer, and the canonical bytes of what is approved.

What two readers could read differently is refused here, before anything is judged. The decoder of
the standard library does the work, with hooks that see every member name and number token; what
hooks cannot see (depth, number of values, half surrogates) is bounded by counting bytes, and only
a body that exceeds such a bound is looked at more closely. Numbers that an `int` cannot reproduce
are kept as they were written, so that reading and writing changes no token.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Never, TypeAlias

import orjson
import rfc8785

from approval.errors import Unreadable

MAX_BODY = 4 * 1024 * 1024
MAX_ARGUMENTS = 256 * 1024
MAX_DEPTH = 64
MAX_VALUES = 100_000
MAX_MEMBERS = 10_000
MAX_NUMBER = 40
MAX_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Number:
    """A number that no `int` writes back as it came: a fraction, exponent, -0, or beyond 64 bits.

    Two are equal when their tokens are; compare `decimal` to compare values.
    """

    token: str

    @property
    def decimal(self) -> Decimal:
        return Decimal(self.token)


JSON: TypeAlias = bool | int | str | Number | list["JSON"] | dict[str, "JSON"] | None


def read(body: bytes, *, limit: int = MAX_BODY) -> JSON:
    """Read one JSON document that every other reader reads the same way.

    Raises:
        Unreadable: If the body is not JSON, exceeds a bound, or holds a trap.
    """
    _check_bytes(body, limit)
    _check_shape(body)
    escapes = b"\\u" in body
    try:
        text = body.decode()
        value: JSON = (_WARY if escapes else _PLAIN).decode(text)
        if escapes:
            # The standard decoder lets half a surrogate pair through; this one does not.
            orjson.loads(body)
    except UnicodeDecodeError as error:
        raise Unreadable("encoding", f"the body is not UTF-8: byte {error.start}") from error
    except orjson.JSONDecodeError as error:
        raise Unreadable("surrogate", f"a string holds half a surrogate pair: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("syntax", f"the body is not JSON: {error}") from error
    return value


def write(value: JSON) -> bytes:
    """Write `value` compactly, every number token as it was read."""
    return orjson.dumps(value, default=_fragment, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def canonical(value: JSON) -> bytes:
    """Write `value` in its one RFC 8785 form, which is what is judged, shown, hashed and sent.

    Raises:
        Unreadable: If a number would change its value on the way through a double.
    """
    try:
        return rfc8785.dumps(_plain(value, ""))
    except ValueError as error:
        raise Unreadable("not_canonical", f"no canonical form: {error}") from error


def canonical_arguments(arguments: JSON) -> bytes:
    """Write the arguments of a gated call, which may be `MAX_ARGUMENTS` bytes long at most.

    Raises:
        Unreadable: If they are longer, or have no canonical form.
    """
    # Measured before too: the canonical writer takes about 0.1 µs a byte and would hold up others.
    if len(write(arguments)) > MAX_ARGUMENTS or len(body := canonical(arguments)) > MAX_ARGUMENTS:
        raise Unreadable(
            "arguments_too_large",
            f"the arguments exceed {MAX_ARGUMENTS} bytes, the most a call that needs approval may"
            " carry: pass large data by reference",
        )
    return body


def quoted(text: str, limit: int = 80) -> str:
    """Make hostile text fit for one line of a message: cut, and nothing invisible in it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(each if each.isprintable() else _escaped(each) for each in cut)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


# What the body is made of, before anything is built from it.

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, or the start of one that never ends: matching that too keeps the search linear."""

_EMPTY = re.compile(rb"[\[{][ \t\r\n]*[\]}]")
_NOT_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _check_bytes(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise Unreadable("too_large", f"the body has {len(body)} bytes; the limit is {limit}")
    if not body.strip(b" \t\r\n"):
        raise Unreadable("empty", "the body is empty; one JSON object is expected")
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("bom", "the body starts with a byte order mark; send plain UTF-8")
    if b"\0" in body:
        raise Unreadable("encoding", "the body holds a NUL byte; send UTF-8, not UTF-16 or UTF-32")


def _check_shape(body: bytes) -> None:
    """Refuse too deep or too many values, cheaply where the bytes cannot hold that much."""
    opening = body.count(b"[") + body.count(b"{")
    if opening <= MAX_DEPTH and opening + body.count(b",") < MAX_VALUES:
        return
    skeleton = _STRING.sub(b'""', body)
    brackets = skeleton.translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_VALUES or _count_values(skeleton) > MAX_VALUES:
        raise Unreadable("too_many_values", f"the body holds more than {MAX_VALUES} values")
    if max(accumulate(_STEPS[each] for each in brackets), default=0) > MAX_DEPTH:
        raise Unreadable("too_deep", f"the body is nested deeper than {MAX_DEPTH} levels")


def _count_values(skeleton: bytes) -> int:
    """Count all values, the outermost included: a container holds one more than it has commas."""
    opening = skeleton.count(b"[") + skeleton.count(b"{")
    return 1 + skeleton.count(b",") + opening - len(_EMPTY.findall(skeleton))


# Hooks of the decoder.


def _members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(pairs) > MAX_MEMBERS:
        raise Unreadable("too_many_members", f"one object has more than {MAX_MEMBERS} members")
    if len(members) != len(pairs):
        raise _duplicate(pairs)
    return members


def _wary_members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    # Readers in C end a name at NUL. Only an escape can bring one in: a raw one is not JSON.
    for name, _ in pairs:
        if "\0" in name:
            raise Unreadable("nul_in_name", f'the member name "{quoted(name)}" holds a NUL')
    return _members(pairs)


def _duplicate(pairs: list[tuple[str, JSON]]) -> Unreadable:
    names = Counter(name for name, _ in pairs)
    twice = names.most_common(1)[0][0]
    return Unreadable(
        "duplicate_member", f'the member name "{quoted(twice)}" appears twice in one object'
    )


def _integer(token: str) -> int | Number:
    if len(token) < 19 and token != "-0":  # cannot exceed 64 bits
        return int(token)
    _check_length(token)
    value = int(token)
    return value if -(2**63) <= value < 2**64 and value else Number(token)


def _decimal(token: str) -> Number:
    _check_length(token)
    if float(token) in {float("inf"), float("-inf")}:
        raise Unreadable("number_not_finite", f"the number {token} is beyond what a double holds")
    # Such an exponent is zero to every double, and beyond what `Decimal` takes.
    if len(token.lower().partition("e")[2].lstrip("+-0")) > 4:
        raise Unreadable("number_exponent", f"the number {token} has an exponent out of range")
    return Number(token)


def _check_length(token: str) -> None:
    if len(token) > MAX_NUMBER:
        raise Unreadable(
            "number_too_long", f"the number {token[:MAX_NUMBER]}… has more than 40 characters"
        )


def _constant(token: str) -> Never:
    raise Unreadable("not_a_number", f"{token} is not JSON")


_PLAIN = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_constant,
)
_WARY = json.JSONDecoder(
    object_pairs_hook=_wary_members,
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_constant,
)


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.token)
    raise TypeError(f"{type(value).__name__} is not JSON")


# Towards RFC 8785.

_Plain: TypeAlias = bool | int | float | str | list["_Plain"] | dict[str, "_Plain"] | None


def _plain(value: JSON, pointer: str) -> _Plain:
    match value:
        case Number():
            return _double(value, pointer)
        case bool():
            return value
        case int() if abs(value) > MAX_SAFE_INTEGER:
            raise _unsafe_integer(str(value), pointer)
        case list():
            return [_plain(each, f"{pointer}/{index}") for index, each in enumerate(value)]
        case dict():
            return {name: _plain(each, _below(pointer, name)) for name, each in value.items()}
        case _:
            return value


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def _double(number: Number, pointer: str) -> float:
    exact = number.decimal
    # However it is written, its canonical form would be an integer token. `copy_abs` is exact.
    if exact.copy_abs() > MAX_SAFE_INTEGER and exact == exact.to_integral_value():
        raise _unsafe_integer(number.token, pointer)
    double = float(number.token)
    # Measured: other readers keep 16 or 17 digits of a longer number, each its own.
    if Decimal(repr(double)) != exact:
        raise Unreadable(
            "number_not_exact",
            f'the number {number.token} at "{quoted(pointer)}" does not survive a double; it would'
            f" become {double!r}: send it as text, or shorter",
        )
    return double


def _unsafe_integer(token: str, pointer: str) -> Unreadable:
    return Unreadable(
        "integer_not_safe",
        f'the number {token} at "{quoted(pointer)}" is beyond ±(2^53-1), where readers round'
        " differently: send it as text",
    )
