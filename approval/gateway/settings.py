"""What an operator sets for the gateway and for each upstream."""

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from approval.core.spans import read_duration

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_OURS = re.compile(
    r"host|connection|content-.*|transfer-encoding|accept(?:-encoding)?|mcp-.*|last-event-id|cookie",
    re.IGNORECASE,
)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    duration = read_duration(value)
    if duration is None:
        raise ValueError('write a duration such as "50s", "15m" or "2h"')
    return duration


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class UpstreamSettings(_Settings):
    """One server behind the gateway: a command to run, or an address. Secrets stay out of reprs."""

    command: tuple[str, ...] = ()
    """The program and its literal arguments; no shell reads them."""
    url: str = ""
    env: dict[str, SecretStr] = {}
    """What the command's environment has besides PATH, HOME, LANG, TZ and TMPDIR."""
    cwd: str | None = None
    headers: dict[str, SecretStr] = {}
    """What every request to the address carries, such as its Authorization."""
    methods: tuple[str, ...] = ()
    """Methods outside the specification that may pass."""
    timeout: Duration = timedelta(seconds=60)
    """How long an approved call may take before its outcome counts as unknown."""
    transport: str | None = None
    approval_tools: bool = True
    """Whether agents are offered approval_wait, approval_status and approval_cancel."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?", value):
            raise ValueError("write an http:// or https:// address without user name or fragment")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if _OURS.fullmatch(name):
                raise ValueError(f"the gateway itself writes {name}; leave it out")
            if not secret.get_secret_value().isprintable():
                raise ValueError(f"the value of {name} holds a character no header may hold")
        return value

    @field_validator("transport")
    @classmethod
    def _is_built(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError(
                'the transport follows from "command" or "url"; "sse" is not built yet: use the'
                " server's Streamable HTTP address"
            )
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError('give either "command" or "url"')
        if self.url and (self.env or self.cwd):
            raise ValueError('"env" and "cwd" belong to a "command"; an address takes "headers"')
        if self.command and self.headers:
            raise ValueError('"headers" belong to a "url"; a command takes "env"')
        return self


class GatewaySettings(_Settings):
    """How agents are let in, how long their held calls keep the line, and how much they may use."""

    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """What `Host` may say: a name means every port of it, `name:port` that one alone."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages that may ask, besides those of an allowed host: `https://name[:port]`."""
    wait: Duration = timedelta(seconds=50)
    """How long a held call keeps the line before its agent is told that it is pending: less than
    the shortest time-out that is common among clients."""
    wait_with_progress: Duration = timedelta(seconds=240)
    """The same for a client that asked for progress; remote ones give up after five idle minutes
    at most."""
    wait_budgets: dict[str, Duration] = {}
    """The same by the name a client gives itself: `"claude-code" = "2h"`."""
    keep_alive: Duration = timedelta(seconds=15)
    """How often a silent stream gets a comment, or progress where it was asked for."""
    audit_on_store_down: Literal["refuse", "allow"] = "refuse"
    """What becomes of plainly allowed calls while nothing can be recorded."""
    body_timeout: Duration = timedelta(seconds=30)
    probe_timeout: Duration = timedelta(seconds=10)
    """How long a command may be silent when asked whether it speaks the newer protocol."""
    session_idle: Duration = timedelta(minutes=30)
    stop_grace: Duration = timedelta(seconds=2)
    """How long a command is given to end before it is killed."""
    max_body: int = Field(default=4 * 1024 * 1024, gt=0, le=4 * 1024 * 1024)
    max_sessions: int = Field(default=50, gt=0)
    """Open sessions of one agent."""
    max_streams: int = Field(default=10, gt=0)
    """Listening streams of one agent."""
