"""Arguments that a tool wants repeated in headers: found in its schema, written from a call. Pure.

From revision 2026-07-28 on a tool's input schema may mark arguments with `x-mcp-header`, so that
machines which read no bodies can route by them, and a server refuses a call that leaves the header
out. An agent writes them for its own calls; these are for a call that runs without its agent.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from multidict import CIMultiDict

from approval.core.canonical import JSON, Number
from approval.errors import NeverSent
from approval.gateway.headers import encode_value

MARK: Final = "x-mcp-header"
PREFIX: Final = "Mcp-Param-"

MAX_BYTES: Final = 8000
"""What all of them may take together: servers close the connection on much longer heads, and
nobody could tell then whether the call had been taken."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


def mirrored(schema: JSON, arguments: JSON) -> CIMultiDict[str]:
    """Write the headers in which this schema wants these arguments repeated.

    Marks that the specification forbids (no token, one name for two arguments) are passed over, as
    servers pass over them. An argument that is left out, null or no plain value has no header.

    Raises:
        NeverSent: If they are too long for any server to take.
    """
    marks = list(_marked(schema, arguments))
    named = Counter(name.lower() for name, _ in marks)
    built: CIMultiDict[str] = CIMultiDict()
    for name, value in marks:
        if value is not None and named[name.lower()] == 1 and _TOKEN.fullmatch(name):
            built[PREFIX + name] = encode_value(value)
    if sum(len(name) + len(value) for name, value in built.items()) > MAX_BYTES:
        raise NeverSent("the tool wants more of the arguments in headers than a server would read")
    return built


def _marked(schema: JSON, value: JSON) -> Iterator[tuple[str, str | None]]:
    """Give the marks at this place of the schema and below, and the arguments they stand on.

    Only `properties` lead from one place to the next: nothing else says for sure where a value is.
    """
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return
    for name, each in properties.items():
        inner = value.get(name) if isinstance(value, dict) else None
        mark = each.get(MARK) if isinstance(each, dict) else None
        if isinstance(mark, str):
            yield mark, _plain(inner)
        yield from _marked(each, inner)


def _plain(value: JSON) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case Number():
            return value.token
        case str():
            return value
        case int():
            return str(value)
        case _:
            return None
