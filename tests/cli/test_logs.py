"""The log: one event a line, and nothing in it that moves the cursor or forges a line."""

import logging

from approval.cli.logs import LineFormatter, set_up


def line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord(
        {"name": "approval.x", "levelname": "WARNING", "msg": message, **extra}
    )
    return LineFormatter().format(record)


def test_facts_stand_behind_the_message() -> None:
    text = line("a thing happened", call="apr_1", agent="ops")
    assert text.endswith("WARNING approval.x: a thing happened agent=ops call=apr_1")


def test_hostile_facts_forge_no_line() -> None:
    text = line("x", tool="a\n2026 ERROR approval: forged\x1b[2J")
    assert "\n2026" not in text.replace("\n    2026", "")
    assert "\x1b" not in text
    assert r"\n2026 ERROR" in text


def test_a_traceback_keeps_its_lines_indented() -> None:
    error = ValueError("bad\x1b")
    text = line("failed", exc_info=(ValueError, error, None), call="apr_1")
    first, *rest = text.split("\n")
    assert first.endswith("failed call=apr_1")
    assert all(each.startswith("    ") for each in rest)
    assert rest[-1] == r"    ValueError: bad\x1b"


def test_the_log_goes_to_standard_error_without_others_bodies() -> None:
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.root.level
    try:
        root.handlers.clear()
        set_up(verbose=True)
        (handler,) = root.handlers
        assert isinstance(handler.formatter, LineFormatter)
        assert logging.getLogger("approval").getEffectiveLevel() == logging.DEBUG
        assert logging.getLogger("aiohttp.client").getEffectiveLevel() == logging.WARNING
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("aiohttp", "asyncio", "sqlalchemy", "alembic"):
            logging.getLogger(name).setLevel(logging.NOTSET)
