import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.audit import Tag
from approval.core.call import Status
from approval.web.auth import ADDRESSES, ATTEMPTS, Throttle, csrf_token, safe_path
from approval.web.settings import WebSettings
from tests.factories import AGENT_TOKEN, ANN_TOKEN, Clock
from tests.web.serving import FORM, Browser, Page, Site, serve, tags, trail


async def sign_in(browser: Browser, token: str, **fields: str) -> Page:
    return await browser.post("/login", {"token": token, **fields})


# --- signing in ---


async def test_a_link_only_shows_a_button_however_often_it_is_fetched(
    site: Site, stranger: Browser
) -> None:
    token = await site.login("ann")
    before = await trail(site)
    for _ in range(3):
        page = await stranger.get(f"/login?token={token}")
        assert page.status == 200
        assert page.form("/login") == {"next": "/", "token": token}
        assert "Set-Cookie" not in page.headers
    assert await trail(site) == before
    assert (await sign_in(stranger, token)).status == 303


async def test_a_login_signs_in_once_and_goes_where_it_was_wanted(
    site: Site, stranger: Browser
) -> None:
    token = await site.login("ann")
    page = await sign_in(stranger, token, next="/history?state=pending")
    assert (page.status, page.headers["Location"]) == (303, "/history?state=pending")
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith(f"{site.settings.cookie}=apv_")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie
    assert "Ann" in (await stranger.get("/")).words
    again = await sign_in(stranger, token)
    assert (again.status, "used already" in again.words) == (403, True)
    written = await trail(site)
    assert [entry["tag"] for entry in written].count(Tag.LOGIN_OPEN) == 1
    assert written[-1]["tag"] == Tag.LOGIN_REFUSE


async def test_under_https_the_cookie_is_secure_and_the_browser_told_to_stay(
    tmp_path: Path,
) -> None:
    settings = WebSettings(public_url="https://approval.example.com")
    async with serve(tmp_path, settings=settings) as site, site.browser() as browser:
        fields = {"token": await site.login("ann")}
        headers = {"Host": "approval.example.com", "Origin": "https://approval.example.com"}
        page = await browser.post("/login", fields, **headers)
        assert page.headers["Set-Cookie"].startswith("__Host-approval=apv_")
        assert "; Secure" in page.headers["Set-Cookie"]
        assert "Domain" not in page.headers["Set-Cookie"]
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_a_session_planted_before_is_worthless_after(site: Site) -> None:
    planted = await site.session("bob")
    async with site.browser() as browser:
        browser.client.cookie_jar.update_cookies({site.settings.cookie: planted})
        assert (await sign_in(browser, await site.login("ann"))).status == 303
        assert "Ann" in (await browser.get("/")).words
    assert await site.service.keyring.session(planted) is None


@pytest.mark.parametrize("token", ["", "apv_unknown", "x" * 600, "\u202e"])
async def test_what_is_no_login_is_refused_and_recorded(
    site: Site, stranger: Browser, token: str
) -> None:
    page = await sign_in(stranger, token, next="/trail")
    assert page.status == 403
    assert page.form("/login")["next"] == "/trail"
    assert (await tags(site))[-1] == Tag.LOGIN_REFUSE


async def test_a_login_ends_with_its_time(site: Site, stranger: Browser, clock: Clock) -> None:
    token = await site.login("ann", timedelta(minutes=10))
    clock.advance(minutes=11)
    assert (await sign_in(stranger, token)).status == 403


async def test_a_login_of_somebody_the_configuration_forgot_is_refused(
    site: Site, stranger: Browser
) -> None:
    assert (await sign_in(stranger, await site.login("zoe"))).status == 403


async def test_attempts_from_one_address_are_throttled(site: Site, stranger: Browser) -> None:
    for _ in range(ATTEMPTS):
        assert (await sign_in(stranger, "apv_guess")).status == 403
    token = await site.login("ann")
    page = await sign_in(stranger, token)
    assert (page.status, page.headers.get("Set-Cookie")) == (429, None)
    assert "Too many attempts" in page.words


async def test_the_throttle_counts_by_address_and_keeps_no_endless_list() -> None:
    throttle = Throttle()
    for _ in range(ATTEMPTS):
        throttle.count("first")
    assert not throttle.admits("first")
    assert throttle.admits("second")
    for number in range(ADDRESSES):
        throttle.count(str(number))
    assert throttle.admits("first")


async def test_whoever_failed_just_now_is_not_the_first_to_be_forgotten() -> None:
    throttle = Throttle()
    throttle.count("earlier")
    for _ in range(ATTEMPTS - 1):
        throttle.count("first")
    for number in range(ADDRESSES - 2):
        throttle.count(str(number))
    throttle.count("first")
    for late in ("x", "y"):
        throttle.count(late)
    assert not throttle.admits("first")


# --- sessions ---


@pytest.mark.parametrize(
    "path", ["/", "/history", "/trail", "/snapshot", "/events", "/calls/apr_" + "0" * 26]
)
async def test_nobody_sees_a_page_without_signing_in(stranger: Browser, path: str) -> None:
    page = await stranger.get(path)
    assert page.status == 401
    assert page.form("/login")["next"] == path
    assert "wants to" not in page.words


async def test_a_session_ends_with_its_time(site: Site, ann: Browser, clock: Clock) -> None:
    assert (await ann.get("/")).status == 200
    clock.advance(hours=12)
    assert (await ann.get("/")).status == 401


async def test_signing_out_ends_the_session_on_the_server(site: Site, ann: Browser) -> None:
    cookie = next(iter(ann.client.cookie_jar)).value
    page = await ann.post("/logout", (await ann.get("/")).form("/logout"))
    assert (page.status, page.headers["Location"]) == (303, "/login")
    assert "Max-Age=0" in page.headers["Set-Cookie"]
    assert await site.service.keyring.session(cookie) is None
    assert (await tags(site))[-1] == Tag.TOKEN_REVOKE


async def test_an_expired_session_decides_nothing_and_leads_back_to_the_call(
    site: Site, ann: Browser, clock: Clock
) -> None:
    call = await site.hold()
    path = f"/calls/{call.id}/decision"
    fields = (await ann.get("/")).form(path)
    clock.advance(minutes=1)
    await site.service.keyring.revoke("session", "ann", actor="operator")
    page = await ann.post(path, {**fields, "decision": "approve"})
    assert (page.status, "nothing was decided" in page.words) == (401, True)
    going = page.form("/login")
    assert going["next"] == f"/calls/{call.id}"
    assert (await site.service.get(call.id)).status is Status.PENDING
    back = await sign_in(ann, await site.login("ann"), **going)
    assert back.headers["Location"] == f"/calls/{call.id}"
    assert (await site.service.get(call.id)).version == call.version


# --- agents ---

KNOCKS = [
    ("GET", "/"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/v1/calls"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/calls/x/decision"),
    ("GET", "/events"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), KNOCKS)
async def test_an_agents_token_opens_nothing_and_is_recorded(
    site: Site, stranger: Browser, method: str, path: str
) -> None:
    headers = {"Authorization": f"bearer {AGENT_TOKEN}", "Sec-Fetch-Site": "same-origin"}
    page = await stranger.ask(method, path, headers=headers)
    assert (page.status, "agent's token" in page.words) == (403, True)
    entry = (await trail(site))[-1]
    assert (entry["tag"], entry["actor"]) == (Tag.LOGIN_REFUSE, "agent:ops-agent")
    assert entry["facts"]["path"] == path
    assert AGENT_TOKEN not in str(entry)


async def test_an_agents_token_is_no_session_and_no_login(site: Site, stranger: Browser) -> None:
    assert (await sign_in(stranger, AGENT_TOKEN)).status == 403
    assert [entry["actor"] for entry in await trail(site)] == ["agent:ops-agent"]
    stranger.client.cookie_jar.update_cookies({site.settings.cookie: AGENT_TOKEN})
    assert (await stranger.get("/")).status == 403
    assert (await trail(site))[-1]["actor"] == "agent:ops-agent"


async def test_a_persons_token_is_no_session(site: Site, stranger: Browser) -> None:
    stranger.client.cookie_jar.update_cookies({site.settings.cookie: ANN_TOKEN})
    assert (await stranger.get("/")).status == 401
    assert (await stranger.get("/", Authorization=f"Bearer {ANN_TOKEN}")).status == 401


# --- forms ---

ELSEWHERE: list[tuple[str, dict[str, str]]] = [
    ("cross-site", {"Sec-Fetch-Site": "cross-site"}),
    ("same site, other origin", {"Sec-Fetch-Site": "same-site"}),
    ("typed", {"Sec-Fetch-Site": "none"}),
    ("other origin", {"Origin": "https://evil.example"}),
    ("other scheme", {"Origin": "https://127.0.0.1"}),
    ("null origin", {"Origin": "null"}),
    ("ours as a prefix", {"Origin": "http://127.0.0.1.evil.example"}),
    ("says nothing", {}),
]


@pytest.mark.parametrize(("name", "headers"), ELSEWHERE)
async def test_a_form_from_elsewhere_decides_nothing(
    site: Site, ann: Browser, name: str, headers: dict[str, str]
) -> None:
    call = await site.hold()
    path = f"/calls/{call.id}/decision"
    fields = (await ann.get("/")).form(path)
    before = await trail(site)
    page = await ann.ask("POST", path, headers=headers, data={**fields, "decision": "approve"})
    assert (page.status, "another site" in page.words) == (403, True)
    assert await trail(site) == before


async def test_a_form_without_fetch_metadata_counts_by_its_origin(site: Site, ann: Browser) -> None:
    call = await site.hold()
    path = f"/calls/{call.id}/decision"
    fields = (await ann.get("/")).form(path)
    page = await ann.ask(
        "POST", path, headers={"Origin": site.url}, data={**fields, "decision": "approve"}
    )
    assert page.status == 303


@pytest.mark.parametrize("action", ["decision", "cancel", "settle"])
@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "é"])
async def test_a_form_without_the_sessions_token_does_nothing(
    site: Site, ann: Browser, action: str, csrf: str | None
) -> None:
    call = await site.hold()
    fields = {"decision": "approve", "digest": call.digest, "outcome": "executed"}
    sent = fields if csrf is None else {**fields, "csrf": csrf}
    page = await ann.post(f"/calls/{call.id}/{action}", sent)
    assert (page.status, "another session" in page.words) == (403, True)
    assert (await site.service.get(call.id)).version == call.version


async def test_another_sessions_token_is_not_ours(site: Site, ann: Browser) -> None:
    call = await site.hold()
    other = csrf_token(await site.session("ann"))
    page = await ann.decide(call, "approve", csrf=other)
    assert page.status == 403


async def test_signing_out_from_elsewhere_is_refused(site: Site, ann: Browser) -> None:
    assert (await ann.post("/logout", {})).status == 403
    assert (await ann.get("/")).status == 200


BODIES = [
    (FORM, b"decision=approve&decision=reject", 400),
    (FORM, b"\xff", 400),
    (FORM, b"&".join(b"a%d=1" % number for number in range(30)), 400),
    (FORM, b"reason=" + b"x" * 70_000, 413),
    ("multipart/form-data; boundary=x", b"--x--", 415),
    ("application/json", b"{}", 415),
]


@pytest.mark.parametrize(("kind", "body", "status"), BODIES)
async def test_what_is_no_plain_form_is_refused(
    ann: Browser, site: Site, kind: str, body: bytes, status: int
) -> None:
    call = await site.hold()
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": kind}
    page = await ann.ask("POST", f"/calls/{call.id}/decision", headers=headers, data=body)
    assert page.status == status
    assert (await site.service.get(call.id)).version == call.version


# --- where to go on ---


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/", "/"),
        ("/calls/apr_1?reveal=1", "/calls/apr_1?reveal=1"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" /x", "/"),
        ("/é", "/"),
        ("/" + "x" * 600, "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
    ],
)
async def test_nobody_is_led_off_this_site(path: str, safe: str) -> None:
    assert safe_path(path) == safe


async def test_a_login_does_not_lead_to_another_site(site: Site, stranger: Browser) -> None:
    page = await sign_in(stranger, await site.login("ann"), next="//evil.example/")
    assert page.headers["Location"] == "/"
    assert (await stranger.get("/login?next=//evil.example")).form("/login")["next"] == "/"


async def test_of_two_who_spend_a_login_at_once_one_is_in(site: Site) -> None:
    token = await site.login("ann")
    async with site.browser() as one, site.browser() as two:
        pages = await asyncio.gather(sign_in(one, token), sign_in(two, token))
    assert sorted(page.status for page in pages) == [303, 403]


async def test_a_token_in_a_link_is_not_echoed_unless_it_could_be_one(stranger: Browser) -> None:
    page = await stranger.get('/login?token="><script>alert(1)</script>')
    assert "<script>alert" not in page.text
    assert "token" not in page.form("/login")
