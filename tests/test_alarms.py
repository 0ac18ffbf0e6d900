"""Whoever reads the log of a service sees that a meter fills up."""

import logging
from pathlib import Path

import pytest

from approval.alarms import log, sound
from approval.cli.logs import LineFormatter
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Status
from approval.core.lifecycle import Change
from approval.core.money import Money
from tests.factories import make_asked, make_call, make_rulebook, make_service

TOOL = "create_incoming_phone_number"
SECRET = "+14155550100"


def test_a_mark_is_one_warning_that_says_which_meter_whose_and_how_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts = {
        "key": {"agent": "ops-agent"},
        "limit": "2.00 USD",
        "meter": "pot",
        "origin": "p",
        "percent": 80,
        "used": "1.65 USD",
    }
    told = Entry(tag=Tag.METER_ALERT, subject="apr_1", actor="agent:ops-agent", facts=facts)
    sound(Change(call=make_call(), alerts=(told,)))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    line = LineFormatter().format(record)
    assert line.count("\n") == 0
    assert line.endswith(
        "approval.alarms: meter pot has reached 80 % of its limit call=apr_1"
        " key={'agent': 'ops-agent'} limit=2.00 USD meter=pot origin=p percent=80 used=1.65 USD"
    )


def test_without_a_mark_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    sound(Change(call=make_call()))
    assert caplog.records == []


def test_where_no_log_is_set_up_nothing_is_printed() -> None:
    """A rehearsal of thousands of calls fills many meters, of which nobody needs to hear."""
    assert [type(handler) for handler in log.handlers] == [logging.NullHandler]


async def test_every_way_to_a_mark_is_logged_by_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spend = {
        "amount": {"fixed": "1.00 USD"},
        "meters": ["pot"],
        "actual": {"result": "/took", "unit": "minor"},
    }
    rules = make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {TOOL: {"spend": spend}},
            "meters": {"pot": {"limit": "2.00 USD", "window": {"calendar": "day"}}},
        }
    )
    asked = make_asked({"phone_number": SECRET})

    async def send(call: Call) -> Answer:
        return Answer(status=Status.EXECUTED, body=b'{"result":{"took":170}}')

    async with make_service(tmp_path, rules=rules) as service:
        verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {})
        submission = await service.submit(asked, verdict)
        service.carry_out(submission, send)
        call = await service.changed(submission.call)
        await service.settling.correct(
            call.id, person="dora", evidence="invoice 7", actual=Money(210, "USD")
        )
        trail = [entry.body for entry in await service.trail() if b'"meter:alert"' in entry.body]
    logged = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert logged == [
        f"meter pot has reached {percent} % of its limit" for percent in (50, 80, 100)
    ]
    assert len(trail) == 3
    assert SECRET not in caplog.text
