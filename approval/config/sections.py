"""The sections of a configuration file that belong to no other room, read strictly."""

import enum
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictInt, StrictStr
from pydantic.functional_validators import AfterValidator
from typing_extensions import override

from approval.gateway.settings import Duration

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What agents, people, groups and upstreams may be called: it goes into addresses and the trail."""

_STRICT = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. Port 0 takes any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.host)

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listen(text: object) -> Listen:
    if isinstance(text, Listen):
        return text
    if not isinstance(text, str):
        raise ValueError('is not a text; write "127.0.0.1:8080"')  # noqa: TRY004  # pydantic's way
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_host(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError('is not an address and a port; write "127.0.0.1:8080" or "[::1]:8080"')
    return Listen(host, int(port))


def _public_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ValueError("is not a URL; write https://approval.example.com") from error
    if url.scheme not in {"http", "https"} or not _is_host(url.hostname or "") or port == 0:
        raise ValueError("is not a URL with a host; write https://approval.example.com")
    if url.path.strip("/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("is more than scheme, host and port; leave the rest out")
    return f"{url.scheme}://{url.netloc.lower()}"


def _host(text: str) -> str:
    try:
        url = urlsplit(f"//{text}")
        good = url.netloc == text and _is_host(url.hostname or "") and url.port != 0
    except ValueError:
        good = False
    if not good or "@" in text:
        raise ValueError("is not a host, with or without a port; write approval.example.com:8443")
    return text.lower()


def _origin(text: str) -> str:
    try:
        return _public_url(text)
    except ValueError as error:
        raise ValueError("is not an origin; write https://tool.example.com") from error


def _network(text: object) -> Network:
    if not isinstance(text, str):
        raise ValueError("is not a text; put the address in quotes")  # noqa: TRY004  # as above
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError("is no IP address or network; write 10.0.0.5 or 10.0.0.0/24") from error
    if network.prefixlen == 0:
        raise ValueError("trusts every address there is; name the proxy's own")
    return network


Hosts = tuple[Annotated[StrictStr, AfterValidator(_host)], ...]
Origins = tuple[Annotated[StrictStr, AfterValidator(_origin)], ...]
Networks = tuple[Annotated[Network, BeforeValidator(_network)], ...]


class Tls(BaseModel):
    """Certificate and key files in PEM form; paths relative to the configuration."""

    model_config = _STRICT

    cert: StrictStr
    key: StrictStr

    def context(self, folder: Path) -> ssl.SSLContext:
        """Load both.

        Raises:
            ValueError: If they cannot be read or do not belong together.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # An empty password: a prompt in the middle of a start would wait for ever.
            context.load_cert_chain(folder / self.cert, folder / self.key, password="")
        except ssl.SSLError as error:
            text = "cannot be used: cert and key are not PEM files that belong together"
            raise ValueError(text) from error
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            raise ValueError(f"cannot be read: {reason}") from error
        return context


class Server(BaseModel):
    """`[server]`: where agents, people and scripts reach the service."""

    model_config = _STRICT

    listen: Annotated[Listen, BeforeValidator(_listen)] = Listen("127.0.0.1", 8080)
    public_url: Annotated[StrictStr, AfterValidator(_public_url)] | None = None
    tls: Tls | None = None
    trusted_proxies: Networks = ()
    allowed_hosts: Hosts = ()
    allowed_origins: Origins = ()
    head_timeout: Duration = timedelta(seconds=10)
    """How long a new connection may take until the head of its first request is whole."""


def _database(text: str) -> str:
    scheme, _, rest = text.partition("://")
    match scheme:
        case "sqlite":
            path = rest.removeprefix("/")
            if path in {"", rest, ":memory:"} or any(character in path for character in "?#\0"):
                raise ValueError("names no file; write sqlite:///approval.db")
        case "postgresql" | "postgres":
            if not _names_a_database(text):
                raise ValueError("names no database; write postgresql://user@host/approval")
        case _:
            forms = "sqlite:///approval.db or postgresql://user@host/approval"
            raise ValueError(f"is no database this release knows; write {forms}")
    return text


def _names_a_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        good = parts.port != 0
    except ValueError:
        return False
    return good and len(parts.path) > 1 and not parts.fragment and url.isprintable()


class Database(BaseModel):
    """`[database]`: where everything is kept. A file's path is relative to the configuration."""

    model_config = _STRICT

    url: Annotated[StrictStr, AfterValidator(_database)] = "sqlite:///approval.db"

    def location(self, folder: Path) -> "Location":
        """Say where that is, for a configuration in this folder."""
        scheme, _, path = self.url.partition(":///")
        return Location(f"sqlite:///{folder / path}" if scheme == "sqlite" else self.url)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is. Its text is for people; in `url` there may be a password."""

    url: str = field(repr=False)

    @property
    def is_file(self) -> bool:
        return self.url.startswith("sqlite:///")

    @override
    def __str__(self) -> str:
        if self.is_file:
            return self.url.removeprefix("sqlite:///")
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        return f"postgresql://{user.partition(':')[0]}{at}{host}{parts.path}"


def _bound(number: int) -> int:
    if number < 1:
        text = "is less than 1; write how many calls may wait for people at once, or remove the key"
        raise ValueError(f"{text} to let any number wait")
    return number


Bound = Annotated[StrictInt, AfterValidator(_bound)]


class AgentEntry(BaseModel):
    """`[agents.NAME]`, without its secrets and policies: somebody who asks."""

    model_config = _STRICT

    upstreams: tuple[StrictStr, ...]
    owner: StrictStr | None = None
    groups: tuple[StrictStr, ...] = ()
    max_pending: Bound | None = None


class PersonEntry(BaseModel):
    """`[people.NAME]`, without secrets: somebody who decides."""

    model_config = _STRICT

    name: StrictStr | None = None
    email: StrictStr | None = None
    slack: StrictStr | None = None


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[StrictStr, ...], BeforeValidator(_names)]


class Rights(BaseModel):
    """`[rights]`: people or groups who may do more than decide where a rule names them."""

    model_config = _STRICT

    admin: Names = ()
    settle: Names = ()
    read_all: Names = ()


class Local(enum.StrEnum):
    """What the command line takes as proof of a person."""

    TOKEN = "token"
    TRUST = "trust"


class Approvals(BaseModel):
    """The part of `[approvals]` that is no default of a rule."""

    model_config = _STRICT

    local: Local = Local.TOKEN
    max_pending: Bound | None = None


class OnStoreDown(enum.StrEnum):
    REFUSE = "refuse"
    ALLOW = "allow"


class Audit(BaseModel):
    """`[audit]`: what becomes of plainly allowed calls while nothing can be written."""

    model_config = _STRICT

    on_store_down: OnStoreDown = OnStoreDown.REFUSE


UNBUILT: Final[Mapping[tuple[str, ...], str]] = {
    ("slack",): "Slack comes with a later release; people decide in the console, on the command"
    " line and through the API. Remove the section until then",
    ("email",): "email comes with a later release; people decide in the console, on the command"
    " line and through the API. Remove the section until then",
    ("approvals", "notify"): "no channel can be told yet; Slack and email come with a later"
    " release. Remove the key until then",
    ("rights", "amend"): "amending a call comes with a later release; remove the key until then",
    ("rights", "override"): "each limit names its own: soft = { override_by = …, up_to = … } in"
    " the meter. Remove the key",
    ("audit", "arguments"): "keeping the arguments of allowed calls comes with a later release;"
    " remove the key until then",
    ("audit", "allowed"): "every call is on disk before it leaves; batching comes with a later"
    " release. Remove the key until then",
    ("audit", "anchor"): "anchoring the trail comes with a later release; remove the key until"
    " then",
}
"""Keys that will mean something one day. Ignoring them would promise what nobody does."""


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_HOST.fullmatch(text)) and ".." not in text
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
