"""Where secrets may come from, and what is refused as one."""

import os
from pathlib import Path

import pytest

from approval.config.credentials import Sources
from approval.core.identity import token_digest

GOOD = "q9fJ2mX7bT4kZ8vN1wR6yL3cH5sD0gPa"


def sources(folder: Path, **environment: str) -> Sources:
    return Sources(folder, environment)


@pytest.mark.parametrize(
    ("written", "read"),
    [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" abc ", " abc ")],
)
def test_one_line_ending_is_stripped_and_nothing_else(
    tmp_path: Path, written: str, read: str
) -> None:
    (tmp_path / "secret").write_bytes(written.encode())
    assert sources(tmp_path).secret({"file": "secret"}) == read
    assert sources(tmp_path, SECRET=written).secret({"env": "SECRET"}) == read


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("literal", "holds a secret in the file itself"),
        (5, "is not a secret"),
        ({}, "is not a secret"),
        ({"env": "A", "file": "b"}, "names both env and file"),
        ({"env": "A", "fallback": "b"}, "is not a secret"),
        ({"env": 5}, "is not a secret"),
        ({"env": "NOT-A-NAME"}, "names no environment variable"),
        ({"env": "ABSENT"}, "names the environment variable ABSENT, which is not set"),
        ({"env": "EMPTY"}, "is empty: the environment variable EMPTY holds nothing"),
        ({"env": "BLANK"}, "is empty"),
        ({"env": "LINES"}, "has several lines"),
        ({"env": "SAMPLE"}, "is a sample value"),
        ({"env": "SAMPLES"}, "is a sample value"),
        ({"env": "BEARER"}, "is a sample value"),
        ({"env": "XXXX"}, "is a placeholder"),
        ({"env": "ANGLES"}, "is a placeholder"),
        ({"file": "absent"}, "names the file absent, which cannot be read: No such file"),
        ({"file": "."}, "names the file ., which cannot be read"),
        ({"file": "binary"}, "names the file binary, which is not UTF-8 text"),
    ],
)
def test_what_is_no_secret_is_refused_with_the_remedy(
    tmp_path: Path, value: object, told: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    environment = {
        "EMPTY": "",
        "BLANK": "  \n",
        "LINES": "one\ntwo",
        "SAMPLE": "Change-Me",
        "SAMPLES": "changemechangeme",
        "BEARER": "Bearer your_token",
        "XXXX": "xxxx",
        "ANGLES": "<put it here>",
    }
    with pytest.raises(ValueError, match=told) as caught:
        Sources(tmp_path, environment).secret(value)
    assert "one\ntwo" not in str(caught.value)


def test_a_pipe_in_place_of_a_secret_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="cannot be read: it is not a plain file"):
        sources(tmp_path).secret({"file": "pipe"})


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True)])
def test_a_secret_that_others_may_read_is_warned_of(
    tmp_path: Path, mode: int, warned: bool
) -> None:
    (tmp_path / "secret").write_text("abc")
    (tmp_path / "secret").chmod(mode)
    found = sources(tmp_path)
    found.secret({"file": "secret"})

    told = "secret: others may read this secret (mode 0640); run: chmod 600 secret"
    assert found.warnings == ([told] if warned else [])
    assert found.files == {tmp_path / "secret"}


@pytest.mark.parametrize("value", [{"env": "T"}, {"sha256": token_digest(GOOD)}])
def test_a_token_is_kept_as_its_hash(tmp_path: Path, value: object) -> None:
    assert sources(tmp_path, T=GOOD).token_digest(value) == token_digest(GOOD)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"sha256": "ABC"}, "64 lower-case hexadecimal digits"),
        ({"sha256": "0" * 64, "env": "T"}, "names sha256 and something else"),
        ({"env": "SHORT"}, "is shorter than 32 characters"),
        ({"env": "SPACED"}, "characters that no Authorization header carries"),
        ({"env": "FOREIGN"}, "characters that no Authorization header carries"),
        ("a" * 40, "holds a secret in the file itself"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, value: object, told: str) -> None:
    given = sources(tmp_path, SHORT=GOOD[:31], SPACED=GOOD + " x", FOREIGN=GOOD + "é")
    with pytest.raises(ValueError, match=told) as caught:
        given.token_digest(value)
    assert GOOD[:20] not in str(caught.value)


@pytest.mark.parametrize("name", ["LOG_LEVEL", "MONKEY", "X-Tenant", "KEYBOARD", "PATTERN"])
def test_a_plain_setting_may_stand_in_the_file(tmp_path: Path, name: str) -> None:
    assert sources(tmp_path).setting(name, "value") == "value"


@pytest.mark.parametrize(
    "name",
    ["API_KEY", "KEY", "Authorization", "X-Auth", "DB_PASSWORD", "GH_PAT", "apikey", "SENTRY_DSN"],
)
def test_a_setting_named_like_a_credential_may_not(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="looks like a secret in the file itself"):
        sources(tmp_path).setting(name, "value")


def test_a_password_in_an_address_may_not_stand_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looks like a secret"):
        sources(tmp_path).setting("DATABASE", "postgres://u:p@h/d")
    assert sources(tmp_path).setting("DATABASE", "postgres://u@h/d") == "postgres://u@h/d"
    assert sources(tmp_path, D="pg://u:p@h").setting("DATABASE", {"env": "D"}) == "pg://u:p@h"
