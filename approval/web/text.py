"""Hostile text, drawn so that a trick looks like a trick.

Agents choose the words an approver reads. Characters that are invisible, that reorder or hide what
stands beside them, or that only look like what they are not yet (Unicode TR 36 and 39, "Trojan
Source" CVE-2021-42574) become boxed escapes: seen, never obeyed. Nothing is removed.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

MARKED: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
"""Categories without a glyph of their own: control, format, unassigned, private, separators."""

BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that draw nothing: fillers, the blank Braille cell, selectors of Mongolian."""

SELECTORS: Final = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
"""Variation selectors: they change the glyph before them, or carry hidden bytes."""

JAMO: Final = range(0x1160, 0x1200)
"""Vowels and tails of Hangul, which join the letter before them."""

SHORT_NAMES: Final = {"\n": "↵", "\t": "⇥", " ": "␣", "\r": "CR", "\0": "NUL", "\x1b": "ESC"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text: shown as it is, or one character drawn as a box that names it."""

    text: str
    boxed: bool = False
    name: str = ""
    suspicious: bool = False
    breaks: bool = False


def pieces(text: str, *, lines: bool = False) -> tuple[Piece, ...]:
    """Cut text into what can be shown as it is and what has to be drawn.

    With `lines` its line breaks are the writer's own (indented JSON has no others), and stay.
    """
    composed = unicodedata.is_normalized("NFC", text)
    start, end = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))

    def drawn(item: tuple[int, str]) -> bool:
        index, character = item
        if lines and character == "\n":
            return False
        # A space at an edge is what "trimmed before display" hides.
        at_edge = character == " " and not start <= index < end
        return at_edge or is_hidden(character) or (not composed and _is_loose(character))

    cut: list[Piece] = []
    for boxed, run in groupby(enumerate(text), drawn):
        characters = [character for _, character in run]
        if boxed:
            cut += map(_box, characters)
        else:
            cut.append(Piece("".join(characters)))
    return tuple(cut)


def is_hidden(character: str) -> bool:
    """Say whether this character draws nothing, or something else than itself."""
    if character == " ":
        return False
    unseen = unicodedata.category(character) in MARKED or character in BLANK
    return unseen or any(ord(character) in selectors for selectors in SELECTORS)


def _is_loose(character: str) -> bool:
    """Find what makes a text differ from its NFC form: loose accents, compatibility twins."""
    return (
        unicodedata.combining(character) != 0
        or ord(character) in JAMO
        or not unicodedata.is_normalized("NFC", character)
    )


def _box(character: str) -> Piece:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "a character without a name").lower()
    plain = character in " \n\t"
    return Piece(
        SHORT_NAMES.get(character, code),
        boxed=True,
        name=f"{code} {name}",
        suspicious=not plain,
        breaks=character == "\n",
    )


def is_suspicious(cut: Iterable[Piece]) -> bool:
    """Say whether the text held anything beyond line breaks, tabs and edge spaces."""
    return any(piece.suspicious for piece in cut)


def plain(text: str) -> str:
    """Word the same for a place without markup, such as a page's title."""
    return "".join(f"[{piece.text}]" if piece.boxed else piece.text for piece in pieces(text))
