"""Statements that SQLAlchemy writes and the driver runs: the writers' way to their connections.

SQLAlchemy takes 15 µs to run a short statement that takes the driver 2, and an admission has twenty
(measured alone; under load, with cold caches, an admission went from 1.0 to 0.6 ms). So a statement
that is kept (a module's constant) is compiled once, and from then on only its values are bound and
its rows read, with SQLAlchemy's own converters and its adapter of the driver (PEP 249): 4 µs. One
that is made for the occasion is left to SQLAlchemy, and so is all reading.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from weakref import ref

from sqlalchemy import ColumnElement, Connection, Dialect, Executable, Select, TypeDecorator
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPIModule
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

MOST_JOINED: Final = 24
"""How many statements are joined at most."""

_PLACE: Final = re.compile(r"\$(\d+)")

Values = dict[str, Any]
Convert = Callable[[Any], Any]
Make = Callable[..., tuple[Any, ...]]


class Columns(Protocol):
    """A row by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Found(Protocol[R_co]):
    """The rows that a statement found, read as SQLAlchemy's results are."""

    def first(self) -> R_co | None: ...

    def one(self) -> R_co: ...

    def one_or_none(self) -> R_co | None: ...

    def all(self) -> Sequence[R_co]: ...

    def __iter__(self) -> Iterator[R_co]: ...


class Result(Found[Any], Protocol):
    """What a statement found or did. Rows have their columns as attributes."""

    @property
    def rowcount(self) -> int: ...

    def scalar(self) -> Any: ...

    def mappings(self) -> Found[Columns]: ...


class Executor(Protocol):
    """What runs statements: SQLAlchemy's connection, or one of ours."""

    def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None, /
    ) -> Result: ...


class Write(NamedTuple):
    """A statement that changes rows, and its values, once or many times."""

    statement: Executable
    values: Values | Sequence[Values]


class Transaction(Executor, Protocol):
    """What a unit works with: an executor in a transaction that has begun."""

    def together(self, writes: Sequence[Write]) -> list[int]:
        """Make changes of which no two meet the same row; say how many rows each has met.

        Of a write that is run many times no driver has to know the number.
        """
        ...


class Statements:
    """What has been prepared for one database. All connections to it share this.

    `joins` says that writes may be joined into one statement, as PostgreSQL takes them.
    """

    def __init__(self, dialect: Dialect, *, joins: bool = False) -> None:
        self.dialect = dialect
        self.joins = joins
        self._known: dict[int, _Known] = {}
        """By identity, which is all that tells statements apart, for as long as they live."""

    def prepared(self, statement: Executable) -> "_Statement | None":
        """Give a statement as prepared, if it is one that is kept and has been seen before."""
        known = self._known.get(id(statement))
        return known.prepared if known is not None else None

    def see(self, statement: Executable, parameters: Values | Sequence[Values] | None) -> None:
        """Prepare what is seen a second time: that it is still there shows that it is kept."""
        known = self._known.get(id(statement))
        if known is None:
            key, forget = id(statement), self._known.pop
            self._known[key] = _Known(ref(statement, lambda _: forget(key)))
        elif not known.is_seen_again:
            known.is_seen_again = True
            known.prepared = _prepare(statement, parameters, self.dialect)


@dataclass(slots=True)
class _Known:
    """A statement that has been seen. Nothing else here keeps it alive."""

    statement: ref[Executable]
    prepared: "_Statement | None" = None
    is_seen_again: bool = False


class PreparedConnection:
    """Runs kept statements by the driver, and others by SQLAlchemy, in one transaction.

    The transaction must have begun: SQLAlchemy would not notice that the driver needs one.
    """

    def __init__(self, connection: Connection, statements: Statements) -> None:
        driver = connection.connection.dbapi_connection
        if driver is None:
            raise ValueError("the connection is closed")
        self._connection = connection
        self._statements = statements
        self._driver = driver
        self._error = statements.dialect.loaded_dbapi.Error

    def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None, /
    ) -> Result:
        """Run a statement.

        Raises:
            DBAPIError: As SQLAlchemy raises it, without the values.
        """
        prepared = self._statements.prepared(statement)
        bound = prepared.bound(parameters) if prepared is not None else None
        if prepared is None or bound is None:
            self._statements.see(statement, parameters)
            return self._connection.execute(statement, parameters)
        try:
            return prepared.run(self._driver, bound)
        except self._error as error:
            raise self._wrapped(error, prepared.text) from error

    def together(self, writes: Sequence[Write]) -> list[int]:
        """Make changes of which no two meet the same row; say how many rows each has met.

        A server sits behind a wire, and whoever waits for a row that is held here waits for every
        way there and back. So where statements can be joined they go in one.
        """
        several = len(writes) > 1 and self._statements.joins
        joined = self._joined(writes) if several else None
        if joined is None:
            return [self.execute(each.statement, each.values).rowcount for each in writes]
        text, values, sizes = joined
        cursor = self._driver.cursor()
        try:
            cursor.execute(text, values)
        except self._error as error:
            raise self._wrapped(error, text) from error
        [found] = cursor.fetchall()
        counts = iter(found)
        return [sum(islice(counts, size)) for size in sizes]

    def _joined(self, writes: Sequence[Write]) -> tuple[str, list[object], list[int]] | None:
        """Join writes, with all their values and how often each is run; None if they do not fit."""
        texts, values, sizes = list[str](), list[object](), list[int]()
        for write in writes:
            prepared = self._statements.prepared(write.statement)
            bound = prepared.bound(write.values) if prepared is not None else None
            if prepared is None or bound is None:
                return None
            runs = bound.values if bound.are_many else (bound.values,)
            sizes.append(len(runs))
            for each in runs:
                texts.append(prepared.text)
                values += each
        if len(texts) > MOST_JOINED:
            return None
        return _join(tuple(texts)), values, sizes

    def _wrapped(self, error: DBAPIModule.Error, statement: str) -> BaseException:
        """Word a driver's error as SQLAlchemy would, and give up a connection that is lost."""
        dialect = self._statements.dialect
        lost = dialect.is_disconnect(error, self._connection.connection, None)
        if lost:
            self._connection.invalidate(error)
        return DBAPIError.instance(
            statement,
            None,
            error,
            self._error,
            connection_invalidated=lost,
            dialect=dialect,
        )


@dataclass(slots=True, kw_only=True)
class _Statement:
    """A compiled statement: the values it takes, in order, and what it makes of its rows."""

    text: str
    size: int
    """How many values it was compiled for. Each of them has its place in the text."""
    constants: Values
    """Values that stand in the statement itself."""
    take: Callable[[Values], tuple[Any, ...]]
    """Puts values in the order of the text."""
    converters: tuple[tuple[int, Convert], ...]
    """What some of them have to become first, by place."""
    reads: tuple[Convert | None, ...]
    """The converter of each column, or nothing where no column needs one."""
    columns: tuple[str, ...] = ()
    make: Make = tuple
    """Both are known once it has found a row."""

    def bound(self, parameters: Values | Sequence[Values] | None) -> "_Bound | None":
        """Put values in their places; None if they are not those it was compiled for."""
        try:
            if parameters is None or isinstance(parameters, dict):
                return _Bound(self._placed(parameters or {}), are_many=False)
            return _Bound([self._placed(each) for each in parameters], are_many=True)
        except KeyError:
            return None

    def _placed(self, values: Values) -> Sequence[object]:
        if len(values) != self.size:
            raise KeyError
        placed = self.take({**self.constants, **values} if self.constants else values)
        if not self.converters:
            return placed
        converted = list(placed)
        for place, convert in self.converters:
            converted[place] = convert(converted[place])
        return converted

    def run(self, driver: DBAPIConnection, bound: "_Bound") -> "_Rows[Any]":
        cursor = driver.cursor()
        if bound.are_many:
            cursor.executemany(self.text, bound.values)
        else:
            cursor.execute(self.text, bound.values)
        found = cursor.fetchall() if cursor.description else ()
        if not found:
            return _Rows((), (), cursor.rowcount)
        if not self.columns:
            self.columns = tuple([each[0] for each in cursor.description])
            self.make = _record(self.columns)
        make = self.make
        if self.reads:
            return _Rows([make(*self._read(each)) for each in found], self.columns, cursor.rowcount)
        return _Rows([make(*each) for each in found], self.columns, cursor.rowcount)

    def _read(self, row: Sequence[Any]) -> Iterator[Any]:
        for value, convert in zip(row, self.reads, strict=True):
            yield value if convert is None else convert(value)


@dataclass(frozen=True, slots=True)
class _Bound:
    """Values in their places: of one run of a statement, or of many."""

    values: Sequence[Any]
    are_many: bool


class _Rows(Generic[R]):
    """A `Result` that has been read to its end."""

    __slots__ = ("_columns", "_rows", "rowcount")

    def __init__(self, rows: Sequence[R], columns: tuple[str, ...], rowcount: int) -> None:
        self._rows = rows
        self._columns = columns
        self.rowcount = rowcount

    def first(self) -> R | None:
        return self._rows[0] if self._rows else None

    def one(self) -> R:
        [row] = self._rows
        return row

    def one_or_none(self) -> R | None:
        return self.one() if self._rows else None

    def all(self) -> Sequence[R]:
        return self._rows

    def scalar(self) -> Any:
        row: Any = self.first()
        return None if row is None else row[0]

    def mappings(self) -> "_Rows[Columns]":
        rows: Any = self._rows
        made: list[Columns] = [dict(zip(self._columns, row, strict=True)) for row in rows]
        return _Rows(made, self._columns, self.rowcount)

    def __iter__(self) -> Iterator[R]:
        return iter(self._rows)


@lru_cache(maxsize=256)
def _join(texts: tuple[str, ...]) -> str:
    """Write statements as one, which counts for each the rows it met.

    They are parts of one `WITH`: all see the rows as they were before, and run in no order; keys to
    other rows are checked at the end (PostgreSQL, "Data-Modifying Statements in WITH").
    """
    parts, counts, places = list[str](), list[str](), 0
    for number, text in enumerate(texts):

        def moved(place: re.Match[str], by: int = places) -> str:
            return f"${int(place[1]) + by}"

        answer = "" if " RETURNING " in text else " RETURNING 1"
        parts.append(f"w{number} AS ({_PLACE.sub(moved, text)}{answer})")
        counts.append(f"(SELECT count(*) FROM w{number})")  # noqa: S608 - a number
        places += max((int(place) for place in _PLACE.findall(text)), default=0)
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


def _prepare(
    statement: Executable, parameters: Values | Sequence[Values] | None, dialect: Dialect
) -> _Statement | None:
    """Compile a statement for values like these; None if its text depends on the values."""
    sample = parameters if parameters is None or isinstance(parameters, dict) else parameters[0]
    if not isinstance(statement, ClauseElement):
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(sample) if sample else None)
    if not isinstance(compiled, SQLCompiler) or compiled.post_compile_params:
        return None
    given = sample or {}
    places = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
    converters = (
        (place, _native(bind.type, dialect).bind_processor(dialect))
        for place, (_, bind) in enumerate(places)
    )
    kinds = [_native(each.type, dialect) for each in _columns(statement)]
    reads = tuple(kind.result_processor(dialect, None) for kind in kinds)
    return _Statement(
        text=str(compiled),
        size=len(given),
        constants={name: bind.value for name, bind in places if name not in given},
        take=_taker([name for name, _ in places]),
        converters=tuple((place, convert) for place, convert in converters if convert is not None),
        reads=reads if any(reads) else (),
    )


def _taker(names: list[str]) -> Callable[[Values], tuple[Any, ...]]:
    """Make what takes values by their names, as a tuple however few they are."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple([values[name] for name in names])


def _record(columns: tuple[str, ...]) -> Make:
    # `typing.NamedTuple` would want to know the columns' types.
    return namedtuple("Record", columns, rename=True)  # noqa: PYI024


def _columns(statement: object) -> Sequence[ColumnElement[Any]]:
    return list(statement.selected_columns) if isinstance(statement, Select) else ()


def _native(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind if isinstance(kind, TypeDecorator) else kind.dialect_impl(dialect)
