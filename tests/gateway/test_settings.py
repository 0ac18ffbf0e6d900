from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from approval.gateway.settings import GatewaySettings, UpstreamSettings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, 'give either "command" or "url"'),
        ({"command": ["x"], "url": "http://a"}, 'give either "command" or "url"'),
        ({"url": "ftp://a"}, "write an http:// or https:// address"),
        ({"url": "http://ann:secret@a/mcp"}, "without user name"),
        ({"url": "http://a/mcp#part"}, "without user name or fragment"),
        ({"url": "http://a", "env": {"A": "b"}}, 'an address takes "headers"'),
        ({"url": "http://a", "cwd": "/"}, 'an address takes "headers"'),
        ({"command": ["x"], "headers": {"A": "b"}}, 'a command takes "env"'),
        ({"url": "http://a", "headers": {"Host": "b"}}, "the gateway itself writes Host"),
        ({"url": "http://a", "headers": {"mcp-name": "b"}}, "the gateway itself writes mcp-name"),
        ({"url": "http://a", "headers": {"A b": "c"}}, "'A b' is not the name of a header"),
        ({"url": "http://a", "headers": {"A": "b\r\nc"}}, "no header may hold"),
        ({"url": "http://a", "transport": "sse"}, '"sse" is not built yet'),
        ({"url": "http://a", "timeout": "soon"}, 'write a duration such as "50s"'),
        ({"url": "http://a", "timeout": timedelta(0)}, "should be greater than"),
        ({"url": "http://a", "retries": 3}, "Extra inputs are not permitted"),
    ],
)
def test_an_upstream_that_makes_no_sense_is_refused_with_the_remedy(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        UpstreamSettings(**given)


def test_secrets_are_in_no_repr_and_in_no_error() -> None:
    settings = UpstreamSettings(url="http://a", headers={"Authorization": SecretStr("hunter2")})
    assert "hunter2" not in repr(settings)
    given: dict[str, Any] = {"url": "http://a", "headers": {"Host": "hunter2"}}
    with pytest.raises(ValidationError) as caught:
        UpstreamSettings(**given)
    assert "hunter2" not in str(caught.value)


def test_durations_are_read_from_text() -> None:
    given: dict[str, Any] = {"wait": "20s", "wait_budgets": {"claude-code": "2h"}}
    settings = GatewaySettings(**given)
    assert settings.wait == timedelta(seconds=20)
    assert settings.wait_budgets == {"claude-code": timedelta(hours=2)}
    assert settings.keep_alive == timedelta(seconds=15)
