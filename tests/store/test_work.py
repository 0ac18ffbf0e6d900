"""A unit of work, and what it leaves."""

from datetime import timedelta

from sqlalchemy import create_engine

from approval.store.work import Work
from tests.factories import Clock
from tests.store.conftest import prepared_of


def test_the_time_is_read_when_it_is_first_asked_for_and_stays() -> None:
    clock = Clock()
    with create_engine("sqlite://").connect() as connection:
        work = Work(prepared_of(connection), clock)
        clock.now += timedelta(seconds=1)
        read = work.now
        clock.now += timedelta(seconds=1)
        assert work.now == read == clock.now - timedelta(seconds=1)
