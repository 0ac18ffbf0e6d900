"""Who is at the door: people by session or token, agents never; and whether a form is ours.

Credentials are kept apart by kind. An agent's token on any address of this room is an alarm, not a
key: it is refused and written into the trail.
"""

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from approval.core.audit import Entry, Tag
from approval.core.identity import Person, token_digest
from approval.service import Service
from approval.web.problems import Problem, SignIn
from approval.web.settings import WebSettings

MAX_FORM: Final = 64 * 1024
MAX_TOKEN: Final = 512
ATTEMPTS: Final = 10
ATTEMPTS_SECONDS: Final = 60.0
ADDRESSES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A person in a signed-in browser. `csrf` is what forms of this session carry."""

    person: Person
    session: str
    csrf: str

    @property
    def key(self) -> str:
        """Name the session without being it."""
        return token_digest(self.session)


class Door:
    """Lets people in."""

    def __init__(self, service: Service, settings: WebSettings) -> None:
        self._service = service
        self._settings = settings
        self._throttle = Throttle()

    async def visitor(self, request: web.Request) -> Visitor:
        """Find who is signed in.

        Raises:
            SignIn: If nobody is.
        """
        session = request.cookies.get(self._settings.cookie, "")
        person = None
        if 0 < len(session) <= MAX_TOKEN:
            person = await self._service.keyring.session(session)
            if person is None:
                await self._alarm(session, request)
        if person is None:
            raise SignIn(back_from(request))
        return Visitor(person=person, session=session, csrf=csrf_token(session))

    async def bearer(self, request: web.Request) -> Person:
        """Find whose token a script bears.

        Raises:
            Problem: If it bears none, or none that is a person's.
        """
        token = bearer_token(request)
        person = self._service.keyring.person(token) if token else None
        if person is None:
            detail = "Send a person's token: Authorization: Bearer …"
            raise Problem(401, "no_person", detail, headers={"WWW-Authenticate": "Bearer"})
        return person

    async def refuse_agents(self, request: web.Request) -> None:
        """Sound the alarm if the request bears an agent's token, wherever in this room it knocks.

        Raises:
            Problem: If it does.
        """
        token = bearer_token(request)
        if token:
            await self._alarm(token, request)

    async def _alarm(self, token: str, request: web.Request) -> None:
        agent = self._service.keyring.agent(token)
        if agent is None:
            return
        await self._refused(agent.actor, request, "an agent's token")
        detail = "This is an agent's token. People decide here; agents ask at /mcp/."
        raise Problem(403, "agents_token", detail)

    async def _refused(self, actor: str, request: web.Request, why: str) -> None:
        facts = {"address": request.remote or "", "path": request.path[:200], "why": why}
        entry = Entry(tag=Tag.LOGIN_REFUSE, subject="web", actor=actor, facts=facts)
        await self._service.note(entry)

    # --- signing in and out ---

    async def sign_in(self, request: web.Request, token: str) -> tuple[Person, str]:
        """Spend a one-time login and answer whose session begins, and its secret.

        Raises:
            Problem: If the login is spent, expired or never was, or there were too many attempts.
        """
        address = request.remote or ""
        if not self._throttle.admits(address):
            detail = "Too many attempts to sign in from this address. Wait a minute."
            raise Problem(429, "too_many_attempts", detail, headers={"Retry-After": "60"})
        name = await self._spend(token)
        person = self._service.rules.directory.people.get(name) if name else None
        if person is None:
            self._throttle.count(address)
            await self._alarm(token, request)
            await self._refused("web", request, "no such login")
            detail = (
                "This login was used already, has expired, or never was. Make a new one where the"
                " service runs: approval token login NAME"
            )
            raise Problem(403, "login_refused", detail)
        # A new secret at every sign-in, and the old one ends: a planted session stays worthless.
        await self._drop(request, person)
        session = await self._service.keyring.issue(
            "session", person.name, actor=person.actor, lifetime=self._settings.session_lifetime
        )
        return person, session

    async def _spend(self, token: str) -> str | None:
        if not 0 < len(token) <= MAX_TOKEN:
            return None
        return await self._service.keyring.spend("login", token, tag=Tag.LOGIN_OPEN, actor="web")

    async def _drop(self, request: web.Request, person: Person) -> None:
        session = request.cookies.get(self._settings.cookie, "")
        if 0 < len(session) <= MAX_TOKEN:
            await self._service.keyring.spend(
                "session", session, tag=Tag.TOKEN_REVOKE, actor=person.actor
            )

    async def sign_out(self, visitor: Visitor) -> None:
        await self._service.keyring.spend(
            "session", visitor.session, tag=Tag.TOKEN_REVOKE, actor=visitor.person.actor
        )

    def give_cookie(self, response: web.StreamResponse, session: str) -> None:
        response.set_cookie(
            self._settings.cookie,
            session,
            max_age=int(self._settings.session_lifetime.total_seconds()),
            path="/",
            secure=self._settings.secure,
            httponly=True,
            samesite="Lax",  # Strict would sign people out who come from a message's link
        )

    def take_cookie(self, response: web.StreamResponse) -> None:
        response.del_cookie(
            self._settings.cookie,
            path="/",
            secure=self._settings.secure,
            httponly=True,
            samesite="Lax",
        )

    # --- forms ---

    def check_origin(self, request: web.Request) -> None:
        """Refuse what another site's page sends.

        `Sec-Fetch-Site` is the browser's own word and no script can set it; browsers that do not
        send it (or not to plain http) send `Origin` with every POST.

        Raises:
            Problem: If the request comes from elsewhere, or does not say where from.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            ours = site == "same-origin"
        else:
            scheme, _, host = request.headers.get("Origin", "").lower().partition("://")
            ours = host in self._settings.hosts and scheme == self._settings.scheme
        if not ours:
            detail = "This came from another site, so nothing was done. Open the page here instead."
            raise Problem(403, "cross_site", detail)

    async def form(self, request: web.Request, visitor: Visitor | None) -> dict[str, str]:
        """Read a form that this session's own page sent; without a visitor, the login form.

        Raises:
            Problem: If it came from elsewhere or is not such a form.
        """
        self.check_origin(request)
        fields = await read_form(request)
        given = fields.get("csrf", "")
        if visitor is not None and not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
            detail = (
                "This form belongs to another session, so nothing was done. Reload the page it"
                " came from and decide anew."
            )
            raise Problem(403, "csrf", detail)
        return fields


class Throttle:
    """Counts failed attempts per address within a minute, in this process alone."""

    def __init__(self) -> None:
        self._failed: dict[str, list[float]] = {}

    def admits(self, address: str) -> bool:
        return len(self._recent(address)) < ATTEMPTS

    def count(self, address: str) -> None:
        recent = [*self._recent(address), asyncio.get_running_loop().time()]
        self._failed.pop(address, None)
        if len(self._failed) >= ADDRESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed[address] = recent

    def _recent(self, address: str) -> list[float]:
        since = asyncio.get_running_loop().time() - ATTEMPTS_SECONDS
        return [moment for moment in self._failed.get(address, []) if moment > since]


def csrf_token(session: str) -> str:
    """Derive what a session's forms carry: nothing to store, and not the session's secret."""
    return hmac.new(session.encode(), b"approval/csrf/1", hashlib.sha256).hexdigest()


def bearer_token(request: web.Request) -> str | None:
    """Take the one bearer token of the `Authorization` header, if there is exactly one."""
    given = request.headers.getall("Authorization", [])
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip()
    return token if scheme.lower() == "bearer" and 0 < len(token) <= MAX_TOKEN else None


async def read_form(request: web.Request) -> dict[str, str]:
    """Read a form of named texts, each at most once.

    Raises:
        Problem: If it is another kind of body, too large, or ambiguous.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "media_type", "Send a form (application/x-www-form-urlencoded).")
    body = await request.read()
    if len(body) > MAX_FORM:
        raise Problem(413, "too_large", f"A form has at most {MAX_FORM} bytes.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise Problem(400, "form", "This is not a form.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Problem(400, "form", "A field of this form appears twice.")
    return fields


def safe_path(path: str) -> str:
    r"""Answer a path of this site to go on to, or the inbox for whatever is not plainly one.

    Browsers read `//host`, `/\\host` and a tab or line break within as another site.
    """
    plain = path.isascii() and path.isprintable() and "\\" not in path and len(path) <= 500
    if not plain or not path.startswith("/") or path.startswith("//"):
        return "/"
    return "/" if path.startswith(("/login", "/logout")) else path


def back_from(request: web.Request) -> str:
    """Say which page to show after signing in: this one, or the one a refused form stands on."""
    if request.method in {"GET", "HEAD"}:
        return safe_path(request.path_qs)
    if request.path.startswith("/grants"):
        return "/grants"
    call_id = request.match_info.get("id")
    return safe_path(f"/calls/{call_id}") if call_id else "/"
