"""Problems: said once, by key, with a remedy."""

import pytest
from pydantic import BaseModel, ConfigDict

from approval.config.problems import Key, Problems, dotted, unknown
from approval.errors import Misconfigured


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    flag: bool = False
    many: tuple[str, ...] = ()
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("agents", "ops", "tokens", 0), "agents.ops.tokens[0]"),
        (("agents", "my agent"), 'agents."my agent"'),
        (("a.b",), '"a.b"'),
        (("x\x1b[2J",), '"x\\x1b[2J"'),
    ],
)
def test_a_place_reads_as_in_the_file(key: Key, text: str) -> None:
    assert dotted(key) == text


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({}, ["f: s.name: is missing; add it"]),
        ({"name": 1}, ["f: s.name: is not a text; put it in quotes"]),
        ({"name": "a", "flag": []}, [("f: s.flag: is neither true nor false; write one of them,"
         " without quotes")]),
        ({"name": "a", "many": "b"}, ["f: s.many: is not a list; put it in [ ]"]),
        ({"name": "a", "nam": 1}, ["f: s.nam: is not a key of this section; did you mean name?"]),
        ({"name": "a", "inner": {"cont": 1}}, [("f: s.inner.cont: is not a key of this section;"
         " did you mean count?")]),
        ({"name": "a", "inner": 3}, [("f: s.inner: is not a table; put it in { } or under a heading"
         " of its own")]),
        ({"name": "a", "inner": {"count": 1.5}}, [("f: s.inner.count: cannot be used: input should"
         " be a valid integer, got a number with a fractional part")]),
        (5, ["f: s: is not a table; put it in { } or under a heading of its own"]),
    ],
)  # fmt: skip
def test_a_table_is_read_or_all_its_faults_are_noted(table: object, found: list[str]) -> None:
    problems = Problems("f")
    assert problems.read(Outer, table, ("s",)) is None
    assert list(problems.found()) == found


def test_a_good_table_leaves_no_problem() -> None:
    problems = Problems("f")
    assert problems.read(Outer, {"name": "a"}, ("s",)) == Outer(name="a")
    problems.raise_any()
    assert problems.found() == ()


def test_a_problem_is_told_once() -> None:
    problems = Problems("f")
    problems.take(["a", "b"])
    problems.take(["a"])
    problems.add((), "c")
    with pytest.raises(Misconfigured) as caught:
        problems.raise_any()
    assert caught.value.problems == ("a", "b", "f: c")


def test_an_unknown_name_is_told_what_there_is() -> None:
    assert unknown("x", [], "a person") == (
        "is not a person; there are none yet, so add it or remove this"
    )
    assert unknown("x", ["bob", "ann"]) == "is not a key of this section; known: ann, bob"
    many = [f"{n:02}" for n in range(13)]
    assert unknown("x", many).endswith("11, …")
