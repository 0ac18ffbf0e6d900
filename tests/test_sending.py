"""Sending what was claimed; the stories of `test_service` send through it."""

from datetime import timedelta

from approval.sending import Settings


def test_an_upstream_may_have_a_time_limit_of_its_own() -> None:
    settings = Settings(timeouts={"slow": timedelta(minutes=5)})
    assert settings.timeout("slow") == timedelta(minutes=5)
    assert settings.timeout("other") == settings.upstream_timeout
