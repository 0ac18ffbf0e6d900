"""Read a configuration whole: file, policies and secrets in, one `Config` or every problem out."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from approval.config import checks
from approval.config.directory import names_in, read_directory
from approval.config.document import Document
from approval.config.limits import read_standing
from approval.config.policies import read_policies
from approval.config.problems import Key
from approval.config.sections import Audit, Database, Local, Location, Server
from approval.core.rulebook import Rulebook
from approval.gateway.settings import GatewaySettings, UpstreamSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything the files say. `files` are those whose change may change it."""

    path: Path
    server: Server
    database: Location
    upstreams: Mapping[str, UpstreamSettings]
    gateway: GatewaySettings
    audit: Audit
    local: Local
    rules: Rulebook
    files: frozenset[Path]
    warnings: tuple[str, ...] = ()

    def rulebook(self) -> Rulebook:
        """Give the people and policies: the part that may be replaced while the service runs."""
        return self.rules


def load(path: Path | str, environment: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file and all that it names.

    Raises:
        Misconfigured: With everything that is wrong, each with file, key and remedy.
    """
    document = Document(Path(path), os.environ if environment is None else environment)
    document.check_names()
    names = names_in(document)
    server = document.section(Server, "server") or Server()
    database = _database(document)
    gateway = _gateway(document)
    audit = document.section(Audit, "audit") or Audit()
    _check_server(document, server)
    upstreams = dict(_upstreams(document))
    found = read_policies(document, names)
    rules = Rulebook(
        directory=read_directory(document, names, max_pending=found.approvals.max_pending),
        policies=found.policies,
        narrowing=found.narrowing,
        grants=read_standing(document, names),
    )
    document.problems.raise_any()
    # Only now: a gate that nobody could open is judged by people who could all be read.
    checks.check_deciders(document.problems, rules)
    document.problems.raise_any()
    return Config(
        path=document.path,
        server=server,
        database=database.location(document.folder),
        upstreams=upstreams,
        gateway=gateway,
        audit=audit,
        local=found.approvals.local,
        rules=rules,
        files=frozenset(document.files | document.sources.files),
        warnings=(*document.sources.warnings, *_warnings(server)),
    )


def _database(document: Document) -> Database:
    """Read `[database]`. An address with a password in it must come from outside the file."""
    table = dict(document.table("database"))
    if "url" in table:
        url = table.pop("url")
        name = " ".join(("url", *_parameters(url)))
        found = document.attempt(("database", "url"), partial(document.sources.setting, name, url))
        table |= {"url": found} if found is not None else {}
    return document.problems.read(Database, table, ("database",)) or Database()


def _parameters(url: object) -> tuple[str, ...]:
    """Name what an address says after its question mark: `password` may be among it."""
    return (
        tuple(name for name, _ in parse_qsl(url.partition("?")[2])) if isinstance(url, str) else ()
    )


def _check_server(document: Document, server: Server) -> None:
    tls = server.tls
    if tls is not None:
        document.files |= {document.folder / tls.cert, document.folder / tls.key}
        document.attempt(("server", "tls"), lambda: tls.context(document.folder))
    elif not server.listen.is_loopback and not server.trusted_proxies:
        document.problems.add(
            ("server", "listen"),
            "reaches beyond this machine without encryption; give [server] tls, or name the proxy"
            " in front in trusted_proxies, or listen on 127.0.0.1",
        )
    if not server.listen.is_loopback and server.public_url is None:
        text = "is missing; say what links to the service start with, as others reach it"
        document.problems.add(("server", "public_url"), text)


def _gateway(document: Document) -> GatewaySettings:
    """Read `[gateway]`. What it shares with the console is said once, in another section."""
    table = dict(document.table("gateway"))
    for key, home in _ELSEWHERE.items():
        if key in table:
            del table[key]
            document.problems.add(("gateway", key), f"stands in another section; write {home}")
    return document.problems.read(GatewaySettings, table, ("gateway",)) or GatewaySettings()


_ELSEWHERE: Final = {
    "allowed_hosts": "[server] allowed_hosts",
    "allowed_origins": "[server] allowed_origins",
    "audit_on_store_down": "[audit] on_store_down",
    "max_pending": "[approvals] max_pending",
}


def _warnings(server: Server) -> Iterator[str]:
    url = server.public_url or ""
    if url.startswith("http://") and not server.listen.is_loopback:
        yield f"server.public_url: {url} is not https; sessions and tokens travel in the open"


def _upstreams(document: Document) -> Iterator[tuple[str, UpstreamSettings]]:
    if not document.table("upstreams"):
        text = "names no server to stand in front of; add [upstreams.NAME] with a command or a url"
        document.problems.add(("upstreams",), f"{text}, and its policy")
    for name, entry in document.entries("upstreams"):
        settings = _upstream(document, ("upstreams", name), entry)
        if settings is not None:
            yield name, settings


def _upstream(document: Document, key: Key, entry: dict[str, object]) -> UpstreamSettings | None:
    entry.pop("policy", None)
    for part in ("env", "headers"):
        table = entry.get(part)
        if isinstance(table, dict):
            entry[part] = dict(_settings(document, (*key, part), table))
    if isinstance(entry.get("cwd"), str):
        entry["cwd"] = str(document.folder / str(entry["cwd"]))
    if "command" in entry:
        entry["command"] = _command(entry["command"])
    return document.problems.read(UpstreamSettings, entry, key)


def _settings(
    document: Document, key: Key, table: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        at = (*key, name)
        found = document.attempt(at, partial(document.sources.setting, name, value))
        yield name, found or ""


def _command(command: object) -> object:
    """Let `python -m approval.…` mean this very installation, whatever `python` is on the PATH."""
    match command:
        case ["python" | "python3", "-m", str(module), *_] if module.startswith("approval."):
            return [sys.executable, *command[1:]]
        case _:
            return command
