import pytest

from approval.web.text import Piece, is_hidden, is_suspicious, pieces, plain


def drawn(text: str) -> str:
    return "".join(f"[{piece.text}]" if piece.boxed else piece.text for piece in pieces(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+1 415 555 0100", "+1 415 555 0100"),
        ("", ""),
        ("café, naïve, Łódź, 東京, שלום", "café, naïve, Łódź, 東京, שלום"),
        ("user\u202egnp.exe", "user[U+202E]gnp.exe"),
        ("pay\u200bpal", "pay[U+200B]pal"),
        ("a\u00a0b", "a[U+00A0]b"),
        ("a\u2028b", "a[U+2028]b"),
        ("cafe\u0301", "cafe[U+0301]"),
        ("\u212bngstrom", "[U+212B]ngstrom"),
        ("\u1112\u1161\u11ab", "\u1112[U+1161][U+11AB]"),
        (" padded ", "[␣]padded[␣]"),
        ("one\ntwo\tthree", "one[↵]two[⇥]three"),
        ("\x1b[31mred\x00\r", "[ESC][31mred[NUL][CR]"),
        ("x\u3164y\u2800z\u115f", "x[U+3164]y[U+2800]z[U+115F]"),
        ("A\ufe0f\U000e0101\U000e0041", "A[U+FE0F][U+E0101][U+E0041]"),
        ("\ue000", "[U+E000]"),
        ("\ufdd0", "[U+FDD0]"),
    ],
)
def test_what_cannot_be_seen_is_drawn_as_a_box(text: str, shown: str) -> None:
    assert drawn(text) == shown == plain(text)


def test_nothing_of_a_text_is_lost_in_drawing() -> None:
    cut = pieces("ab\u202ecd")
    assert cut == (
        Piece("ab"),
        Piece("U+202E", boxed=True, name="U+202E right-to-left override", suspicious=True),
        Piece("cd"),
    )


def test_line_breaks_and_edge_spaces_are_drawn_but_raise_no_suspicion() -> None:
    assert not is_suspicious(pieces(" first\nsecond\tthird "))
    assert is_suspicious(pieces("first\r\nsecond"))
    assert [piece.breaks for piece in pieces("a\nb")] == [False, True, False]


def test_in_indented_json_line_breaks_are_the_writers_own() -> None:
    assert pieces("{\n  1\n}", lines=True) == (Piece("{\n  1\n}"),)


def test_a_character_without_a_name_is_still_named_by_its_number() -> None:
    assert pieces("\x85")[0].name == "U+0085 a character without a name"


def test_only_the_common_space_is_not_hidden_among_the_spaces() -> None:
    assert not is_hidden(" ")
    assert is_hidden("\u3000")
