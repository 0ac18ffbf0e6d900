"""What the web room is told: where people reach it, and how long a sign-in holds."""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


class WebSettings(BaseModel):
    """Where people reach the console and the API.

    `allowed_hosts` are `Host` header values besides that of `public_url`, with or without a port.
    `session_lifetime` is absolute: nobody stays signed in longer, however busy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_url: str = "http://127.0.0.1:8080"
    allowed_hosts: tuple[str, ...] = ()
    session_lifetime: timedelta = timedelta(hours=12)

    @property
    def scheme(self) -> str:
        return urlsplit(self.public_url).scheme

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def port(self) -> int:
        return urlsplit(self.public_url).port or (443 if self.secure else 80)

    @property
    def cookie(self) -> str:
        # Cookies know no ports: on loopback another service's would overwrite ours.
        return "__Host-approval" if self.secure else f"approval-{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """Every `Host` header that is ours. Anything else may be a rebound name (DNS rebinding)."""
        public = urlsplit(self.public_url).netloc.lower()
        named = {public, *(host.lower() for host in self.allowed_hosts)}
        if (urlsplit(self.public_url).hostname or "") in {"localhost", "127.0.0.1", "::1"}:
            named |= {f"{host}:{self.port}" for host in LOOPBACK}
        default = ":443" if self.secure else ":80"
        return frozenset(named | {host.removesuffix(default) for host in named})


def login_url(public_url: str, token: str) -> str:
    """Word the one-time link that signs its bearer in."""
    return f"{public_url.rstrip('/')}/login?{urlencode({'token': token})}"
