"""The sections' own values: addresses, hosts, networks, databases."""

import ipaddress
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from approval.config.sections import Database, Listen, Rights, Server, Tls


@pytest.mark.parametrize(
    ("text", "listen", "loopback"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080), True),
        ("[::1]:0", Listen("::1", 0), True),
        ("localhost:80", Listen("localhost", 80), True),
        ("0.0.0.0:8080", Listen("0.0.0.0", 8080), False),
        ("[::]:8080", Listen("::", 8080), False),
        ("gateway.internal:8080", Listen("gateway.internal", 8080), False),
    ],
)
def test_an_address_to_listen_on(text: str, listen: Listen, loopback: bool) -> None:
    found = Server.model_validate({"listen": text}).listen
    assert found == listen
    assert found.is_loopback is loopback
    assert found.netloc == text


@pytest.mark.parametrize(
    "text", ["8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "a b:1", "h:+1", "[::1:80", 8080]
)
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(ValidationError, match=r"127\.0\.0\.1:8080"):
        Server.model_validate({"listen": text})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Approval.Example.com/", "https://approval.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_public_url_is_scheme_and_host(text: str, url: str) -> None:
    assert Server.model_validate({"public_url": text}).public_url == url


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://x", "https://", "//x", "https://x/path", "https://x?q", "https://u@x"),
        *("https://x:0", "https://x:99999", "https://x#f", "https://a..b", "https://[::1"),
    ],
)
def test_what_is_no_public_url_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Server.model_validate({"public_url": text})


def test_hosts_origins_and_networks_are_read_strictly() -> None:
    server = Server.model_validate(
        {
            "allowed_hosts": ["Approval.Example.com:8443", "[::1]"],
            "allowed_origins": ["https://tool.example.com"],
            "trusted_proxies": ["10.0.0.0/24", "::1"],
        }
    )
    assert server.allowed_hosts == ("approval.example.com:8443", "[::1]")
    assert server.allowed_origins == ("https://tool.example.com",)
    assert server.trusted_proxies == (
        ipaddress.ip_network("10.0.0.0/24"),
        ipaddress.ip_network("::1"),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("allowed_hosts", text) for text in ("", "*", "a/b", "u@h", "h:x", "h:0", "[::1")],
        *[("allowed_origins", text) for text in ("null", "*", "tool.example.com")],
        *[("trusted_proxies", text) for text in ("0.0.0.0/0", "::/0", "10.0.0.1/24", "proxy", 5)],
    ],
)
def test_what_would_let_anybody_in_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Server.model_validate({key: [value]})


@pytest.mark.parametrize(
    ("url", "opened", "shown"),
    [
        ("sqlite:///a.db", "sqlite:////etc/approval/a.db", "/etc/approval/a.db"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db", "/var/a.db"),
        *(
            (url, url, "postgresql://me@host:5433/approval")
            for url in (
                "postgresql://me@host:5433/approval",
                "postgres://me:hunter2@host:5433/approval?sslmode=require",
                "postgresql://me@host:5433/approval?password=hunter2",
            )
        ),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg", "postgresql:///d"),
        ("postgresql://u:p%40@[::1]/d", "postgresql://u:p%40@[::1]/d", "postgresql://u@[::1]/d"),
    ],
)
def test_a_database_is_a_file_or_a_server_and_shown_without_a_password(
    url: str, opened: str, shown: str
) -> None:
    location = Database.model_validate({"url": url}).location(Path("/etc/approval"))
    assert (location.url, str(location)) == (opened, shown)
    assert "hunter2" not in repr(location)
    assert location.is_file is url.startswith("sqlite")


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a.db?mode=ro", "a.db"),
        *("sqlite:/a.db", "mysql:///x", "postgresql+asyncpg://u@h/d", "postgresql:u@h/d"),
        *("postgresql://", "postgresql://u@h", "postgresql://u@h/", "postgresql://u@h:0/d"),
        *("postgresql://u@h:x/d", "postgresql://u@h/d#x", "postgresql://u@[h/d", "postgres://h/\n"),
    ],
)
def test_any_other_database_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Database.model_validate({"url": url})


def test_a_right_is_held_by_one_or_by_several() -> None:
    rights = Rights.model_validate({"admin": "ann", "settle": ["bob", "finance"]})
    assert rights == Rights(admin=("ann",), settle=("bob", "finance"))


def test_a_certificate_with_its_key_is_loaded(tmp_path: Path) -> None:
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
        " -days 2 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert Tls(cert="cert.pem", key="key.pem").context(tmp_path).get_ca_certs() == []
