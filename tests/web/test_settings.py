import pytest
from pydantic import ValidationError

from approval.web.settings import WebSettings, login_url


def test_on_loopback_the_cookie_is_plain_and_named_with_the_port() -> None:
    settings = WebSettings(public_url="http://127.0.0.1:8080")
    assert (settings.cookie, settings.secure, settings.port) == ("approval-8080", False, 8080)
    assert settings.hosts == {"127.0.0.1:8080", "localhost:8080", "[::1]:8080"}


def test_under_https_the_cookie_is_bound_to_the_host() -> None:
    settings = WebSettings(public_url="https://Approval.example.com", allowed_hosts=("INNER:8443",))
    assert (settings.cookie, settings.secure, settings.port) == ("__Host-approval", True, 443)
    assert settings.hosts == {"approval.example.com", "inner:8443"}


def test_a_default_port_may_be_left_out_or_written() -> None:
    assert WebSettings(public_url="https://a.example:443").hosts == {"a.example", "a.example:443"}
    hosts = WebSettings(public_url="http://localhost").hosts
    assert {"localhost", "localhost:80", "127.0.0.1", "127.0.0.1:80"} <= hosts


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        WebSettings.model_validate({"idle": "1h"})


def test_a_login_link_carries_its_token() -> None:
    assert login_url("https://a.example/", "a b") == "https://a.example/login?token=a+b"
