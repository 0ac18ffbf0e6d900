"""Paths of conditions; `test_conditions` and `test_clauses` follow many more of them."""

import pytest

from approval.core.paths import MISSING, compile_path
from approval.errors import Unreadable


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("args.a.b", 1),
        ("/a/b", 1),
        ("/l/0", "x"),
        ("/l/1", MISSING),
        ("/l/00", MISSING),
        ("args.l.0", MISSING),
        ("/x~1y", 2),
        ("args.none", MISSING),
        ("spend.amount", MISSING),
    ],
)
def test_a_path_leads_to_what_stands_there_or_nowhere(path: str, found: object) -> None:
    facts = {"args": {"a": {"b": 1}, "l": ["x"], "x/y": 2}}
    assert compile_path(path).find(facts) == found


@pytest.mark.parametrize("path", ["", "args", "args.", "spend.price", "time.hour", "/a~2"])
def test_a_path_that_can_lead_nowhere_does_not_load(path: str) -> None:
    with pytest.raises(Unreadable):
        compile_path(path)
