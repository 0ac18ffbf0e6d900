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
