"""Secrets of the configuration: where they may come from, and what is no secret at all.

A configuration is copied, shown and committed, so it never holds a secret itself: it names an
environment variable or a file, or gives a token's hash.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from approval.core.identity import token_digest

MIN_TOKEN_CHARACTERS: Final = 32
MAX_SECRET_BYTES: Final = 65_536

_FORMS = '{ env = "NAME" } or { file = "path" }'
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAMPLES: Final = frozenset(
    {
        "changeit", "changeme", "default", "dummy", "example", "fixme", "foobar", "insecure",
        "insertsecrethere", "inserttokenhere", "mysecret", "mytoken", "passw0rd", "password",
        "placeholder", "replaceme", "sample", "secret", "supersecret", "test", "token", "todo",
        "topsecret", "yoursecret", "yoursecrethere", "yourtoken", "yourtokenhere",
    }
)  # fmt: skip
_CREDENTIAL_NAME = re.compile(
    r"auth|cookie|credential|passw|passphrase|private|secret|signature|token|(^|[-_])key($|[-_\d])"
    r"|apikey|(^|[-_])(dsn|pat|pwd)($|[-_])",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


class Sources:
    """Reads secrets from the environment and from files, and remembers what it has read."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.files: set[Path] = set()
        self.warnings: list[str] = []
        self._folder = folder
        self._environment = environment

    def secret(self, value: object) -> str:
        """Read `{ env = … }` or `{ file = … }`.

        Raises:
            ValueError: In words for whoever wrote the configuration.
        """
        match value:
            case {"env": str(name), **rest} if not rest:
                text = self._from_environment(name)
            case {"file": str(name), **rest} if not rest:
                text = self._from_file(name)
            case {"env": _, "file": _}:
                raise ValueError("names both env and file; keep one of them")
            case str():
                raise ValueError(f"holds a secret in the file itself; write {_FORMS} instead")
            case _:
                raise ValueError(f"is not a secret; write {_FORMS}")
        return _plausible(text)

    def token_digest(self, value: object) -> str:
        """Read a token in any of its forms and answer its hash; the token itself is not kept.

        Raises:
            ValueError: In words for whoever wrote the configuration.
        """
        match value:
            case {"sha256": str(digest), **rest} if not rest:
                if not _SHA256.fullmatch(digest):
                    raise ValueError("has a sha256 that is not 64 lower-case hexadecimal digits")
                return digest
            case {"sha256": _}:
                raise ValueError("names sha256 and something else; keep one of them")
            case _:
                pass
        token = self.secret(value)
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise ValueError(
                f"is shorter than {MIN_TOKEN_CHARACTERS} characters and could be guessed; issue"
                " one with `approval token`"
            )
        if not token.isascii() or any(c.isspace() or not c.isprintable() for c in token):
            raise ValueError("holds characters that no Authorization header carries; issue another")
        return token_digest(token)

    def setting(self, name: str, value: object) -> str:
        """Read a value that is a secret only if its name or its text says so.

        Raises:
            ValueError: In words for whoever wrote the configuration.
        """
        if not isinstance(value, str):
            return self.secret(value)
        if _CREDENTIAL_NAME.search(name) or _URL_PASSWORD.search(value):
            raise ValueError(f"looks like a secret in the file itself; write {_FORMS} instead")
        return value

    def _from_environment(self, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise ValueError("names no environment variable; write letters, digits and _ only")
        text = self._environment.get(name)
        if text is None:
            raise ValueError(
                f"names the environment variable {name}, which is not set; set it, or write"
                ' { file = "path" }'
            )
        return _stripped(text, f"the environment variable {name}")

    def _from_file(self, name: str) -> str:
        path = self._folder / name
        self.files.add(path)
        try:
            text, mode = _read(path)
        except OSError as error:
            reason = error.strerror or "unreadable"
            raise ValueError(f"names the file {name}, which cannot be read: {reason}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"names the file {name}, which is not UTF-8 text") from error
        if mode & 0o077:
            self.warnings.append(
                f"{name}: others may read this secret (mode {mode:04o}); run: chmod 600 {name}"
            )
        return _stripped(text, f"the file {name}")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Without waiting: a named pipe in place of the file must not hold up the start.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(path: Path) -> tuple[str, int]:
    with _opened(path) as handle:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(0, "it is not a plain file")
        return os.read(handle, MAX_SECRET_BYTES).decode(), stat.S_IMODE(facts.st_mode)


def _stripped(text: str, where: str) -> str:
    # One newline only: that is what an editor adds. Anything more may be part of the secret.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError(f"is empty: {where} holds nothing")
    if any(character in text for character in "\0\r\n"):
        raise ValueError(f"has several lines: {where} must hold the secret alone")
    return text


def _plausible(text: str) -> str:
    """Refuse what was copied from documentation: everybody knows it."""
    word = re.sub(r"[^a-z0-9]", "", text.rsplit(" ", 1)[-1].lower())
    if any(word == sample * max(1, len(word) // len(sample)) for sample in _SAMPLES):
        raise ValueError("is a sample value that anybody may guess; put the real one there")
    repeated = len(word) > 3 and len(set(word)) == 1
    if repeated or (text.startswith("<") and text.endswith(">")):
        raise ValueError("is a placeholder; put the real one there")
    return text
