"""The file itself: what cannot be read says where."""

from pathlib import Path

import pytest

from approval.config.document import MAX_FILE_BYTES, Document
from approval.config.sections import UNBUILT
from approval.errors import Misconfigured
from tests.config.files import VALID, problems, write


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[server\n", "line 1, column 8: is not TOML"),
        (b"a = 1\na = 2\n", "line 2, column 6: is not TOML: cannot overwrite a value"),
        (b"a = ", "is not TOML: invalid value"),
        (b"\xff\xfe", "is not UTF-8 text; save it as UTF-8"),
        (b"a = " + b"[" * 5000, "is not TOML"),
        (b"#" * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_file_that_is_no_toml_says_where(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        Document(path, {})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: ")
    assert told in caught.value.problems[0]


def test_a_missing_file_names_the_example(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no such file or directory; copy config\.example"):
        Document(tmp_path / "config.toml", {})


def test_keys_that_are_not_built_are_refused_and_never_ignored(tmp_path: Path) -> None:
    tables: dict[str, list[str]] = {}
    for section, *keys in UNBUILT:
        tables.setdefault(section, []).extend(f"{key} = 1" for key in keys)
    text = "".join(f"[{name}]\n" + "\n".join(keys) + "\n" for name, keys in tables.items())

    found = problems(tmp_path, text + VALID)
    assert found == [f"config.toml: {'.'.join(key)}: {told}" for key, told in UNBUILT.items()]


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "config.toml: server: is not a section; write [server]" in problems(
        tmp_path, 'server = "x"\n' + VALID
    )


@pytest.mark.parametrize("name", ["a b", ".a", "a/b", "é", "x" * 64, "-a", ""])
def test_names_that_cannot_stand_in_an_address_are_refused(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path, VALID + f'[people."{name}"]\n')
    assert len(found) == 1
    assert "is no name; use letters, digits" in found[0]


def test_a_named_file_is_read_and_remembered(tmp_path: Path) -> None:
    document = Document(write(tmp_path, ""), {})
    (tmp_path / "policy.json").write_text("{}")

    assert document.content(("k",), tmp_path / "policy.json") == b"{}"
    assert document.content(("k",), tmp_path / "absent") is None
    assert document.files == {
        tmp_path / "config.toml",
        tmp_path / "policy.json",
        tmp_path / "absent",
    }
    assert document.problems.found() == (
        (
            f"{tmp_path}/config.toml: k: names {tmp_path}/absent, which cannot be read: no such"
            f" file or directory"
        ),
    )
