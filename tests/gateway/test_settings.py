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


CLIENT_TIMEOUT = timedelta(seconds=60)
"""After this the TypeScript SDK, claude.ai's connectors and Copilot CLI give a call up, and reverse
proxies a stream on which nothing comes; the JetBrains plugin's 30 s take a budget of its own."""
IDLE_TIMEOUT = timedelta(seconds=300)
"""After this Claude Code, whose token asks for progress, gives a silent call up, as do undici's
bodies; Claude Desktop does after 240 s, whatever comes."""


def test_a_held_call_is_told_to_be_pending_before_its_client_gives_up() -> None:
    settings = GatewaySettings()
    assert settings.wait == timedelta(seconds=50)
    assert settings.wait <= CLIENT_TIMEOUT - timedelta(seconds=10)  # and time to be read
    assert settings.wait_with_progress == timedelta(seconds=240)
    assert settings.wait_with_progress <= IDLE_TIMEOUT - timedelta(seconds=60)
    assert settings.wait_budgets == {}


def test_signs_of_life_come_often_enough_for_all_that_stands_between() -> None:
    # As often as the servers of both SDKs send one; two may be lost before a proxy cuts the line.
    settings = GatewaySettings()
    assert settings.keep_alive == timedelta(seconds=15)
    assert 4 * settings.keep_alive <= CLIENT_TIMEOUT
    assert settings.keep_alive < settings.wait < settings.wait_with_progress


def test_durations_are_read_from_text() -> None:
    given: dict[str, Any] = {"wait": "20s", "wait_budgets": {"claude-code": "2h"}}
    settings = GatewaySettings(**given)
    assert settings.wait == timedelta(seconds=20)
    assert settings.wait_budgets == {"claude-code": timedelta(hours=2)}
