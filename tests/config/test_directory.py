"""Who is who: names that nobody bears, tokens that two bear."""

from pathlib import Path

import pytest

from tests.config.files import PEOPLE, SHOP, TOKEN, VALID, problems, read


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("[agents.a]\n", ["agents.a.upstreams: is missing; add it"]),
        ('[agents.a]\nupstreams = "shop"\n', ["agents.a.upstreams: is not a list; put it in [ ]"]),
        (
            '[agents.a]\nupstreams = ["shop"]\ntokens = { env = "A" }\n',
            ["agents.a.tokens: is not a list; put it in [ ]"],
        ),
        (
            "[people.zoe]\ntokens = []\n",
            ["people.zoe.tokens: is not a key of this section; known: email, name, slack"],
        ),
        (
            '[rights]\nsettle = "fnance"\nadmin = ["ann", "nobody"]\n',
            [
                "rights.admin[1]: nobody is not a person or group; known: ann, bob, finance",
                "rights.settle[0]: fnance is not a person or group; did you mean finance?",
            ],
        ),
    ],
)
def test_a_fault_is_named_by_its_key(tmp_path: Path, entry: str, told: list[str]) -> None:
    assert problems(tmp_path, SHOP + PEOPLE + entry) == [f"config.toml: {text}" for text in told]


@pytest.mark.parametrize(
    ("everybody", "own", "bound"),
    [
        ("", "", None),
        ("max_pending = 100", "", 100),
        ("", "max_pending = 20", 20),
        ("max_pending = 100", "max_pending = 20", 20),
        ("max_pending = 1", "max_pending = 200", 200),
    ],
)
def test_an_agents_own_bound_stands_for_the_common_one(
    tmp_path: Path, everybody: str, own: str, bound: int | None
) -> None:
    text = f'{VALID}{own}\n[agents.other]\nupstreams = ["shop"]\n[approvals]\n{everybody}\n'
    directory = read(tmp_path, text).rulebook().directory
    assert directory.max_pending("ops-agent") == bound
    assert directory.max_pending("other") == (int(everybody[14:]) if everybody else None)
    assert directory.max_pending("nobody") is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("0", "is less than 1; write how many calls may wait for people at once, or remove the ke"),
        ("-1", "is less than 1; write how many calls may wait for people at once, or remove the k"),
        ('"5"', "is not a whole number; write one, without quotes"),
        ("5.0", "is not a whole number; write one, without quotes"),
        ("true", "is not a whole number; write one, without quotes"),
        ("[5]", "is not a whole number; write one, without quotes"),
    ],
)
def test_a_bound_is_a_whole_number_of_calls(tmp_path: Path, value: str, told: str) -> None:
    text = f"{VALID}max_pending = {value}\n[approvals]\nmax_pending = {value}\n"
    agents, everybody = sorted(problems(tmp_path, text))
    assert agents.startswith(f"config.toml: agents.ops-agent.max_pending: {told}")
    assert everybody.startswith(f"config.toml: approvals.max_pending: {told}")


def test_a_bound_in_the_wrong_section_is_told_where_it_belongs(tmp_path: Path) -> None:
    assert problems(tmp_path, VALID + "[gateway]\nmax_pending = 5\n") == [
        (
            "config.toml: gateway.max_pending: stands in another section; write [approvals]"
            " max_pending"
        )
    ]


def test_a_group_holds_people_only(tmp_path: Path) -> None:
    text = SHOP + PEOPLE + 'all = ["ann", "finance"]\n'
    assert problems(tmp_path, text) == [
        (
            "config.toml: groups.all[1]: finance is not a person, and groups hold people only;"
            " known: ann, bob"
        )
    ]


def test_two_who_bear_one_token_could_not_be_told_apart(tmp_path: Path) -> None:
    text = VALID + '[agents.two]\nupstreams = ["shop"]\ntoken = { env = "T" }\n'
    text = text.replace("[people.ann]", '[people.ann]\ntoken = { env = "T" }')
    assert problems(tmp_path, text, T=TOKEN) == [
        "config.toml: people.ann bears the same token as agents.two; issue one for each"
    ]


def test_a_person_without_a_token_is_no_problem(tmp_path: Path) -> None:
    directory = read(tmp_path).rulebook().directory
    assert directory.people["ann"].token_digests == frozenset()
    assert directory.members(["finance"]) == {"ann", "bob"}
