import asyncio
import io
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from approval.web.pages import HARDENING
from approval.web.settings import WebSettings
from tests.factories import ANN_TOKEN
from tests.web.serving import Browser, Site, serve

ADDRESSES = [
    "/",
    "/login",
    "/nowhere",
    "/v1/calls",
    "/v1/openapi.json",
    "/v1/nowhere",
    "/healthz",
    "/calls/x",
    "/events",
    "/static/x/nowhere.js",
    "/static/x/../../../pyproject.toml",
]


@pytest.mark.parametrize("path", ADDRESSES)
async def test_every_answer_is_hardened(stranger: Browser, path: str) -> None:
    page = await stranger.get(path)
    assert {name: page.headers[name] for name in HARDENING} == dict(HARDENING)
    assert "Strict-Transport-Security" not in page.headers


async def test_the_content_policy_allows_no_inline_no_frame_and_no_other_site() -> None:
    policy = HARDENING["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    for rule in ("script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert f"{rule};" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert HARDENING["X-Frame-Options"] == "DENY"


async def test_pages_have_no_inline_script_and_no_inline_style(site: Site, ann: Browser) -> None:
    call = await site.hold()
    for path in ("/", f"/calls/{call.id}", "/history", "/trail", "/login", "/nowhere"):
        text = (await ann.get(path)).text
        assert " style=" not in text
        assert "<style" not in text
        assert text.count("<script") == text.count('<script src="/static/') == 1
        assert "onclick" not in text


HOSTS = ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""]


@pytest.mark.parametrize("host", HOSTS)
async def test_other_host_names_are_not_ours(stranger: Browser, host: str) -> None:
    for path in ("/", "/v1/calls", "/login", "/static/x/app.js", "/events"):
        page = await stranger.get(path, Host=host)
        assert page.status == 421
        assert "allowed_hosts" in page.text


async def test_the_loopbacks_names_are_ours(site: Site, stranger: Browser) -> None:
    port = site.url.rpartition(":")[2]
    assert (await stranger.get("/login", Host=f"LOCALHOST:{port}")).status == 200
    assert (await stranger.get("/login", Host=f"[::1]:{port}")).status == 200


async def test_probes_answer_under_any_name(stranger: Browser) -> None:
    assert (await stranger.get("/healthz", Host="10.0.0.7")).text == "ok\n"
    assert (await stranger.get("/readyz", Host="10.0.0.7")).text == "ready\n"


async def test_unknown_addresses_are_pages_for_people_and_problems_for_scripts(
    stranger: Browser,
) -> None:
    page = await stranger.get("/nowhere")
    assert (page.status, "There is nothing here" in page.words) == (404, True)
    problem = await stranger.get("/v1/nowhere")
    assert problem.status == 404
    assert problem.headers["Content-Type"].startswith("application/problem+json")


async def test_wrong_methods_name_the_right_ones(stranger: Browser) -> None:
    page = await stranger.ask("DELETE", "/login", headers={})
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD, POST")
    page = await stranger.ask("PUT", "/v1/calls", headers={})
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_store_that_is_away_is_told_and_nothing_is_claimed(
    site: Site, ann: Browser
) -> None:
    call = await site.hold()
    fields = (await ann.get("/")).form(f"/calls/{call.id}/decision")
    await site.take_store_away()
    for page in (
        await ann.get("/"),
        await ann.post(f"/calls/{call.id}/decision", {**fields, "decision": "approve"}),
    ):
        assert (page.status, page.headers["Retry-After"]) == (503, "5")
        assert "The store is away and nothing was changed" in page.words
    problem = await ann.get("/v1/calls", Authorization=f"Bearer {ANN_TOKEN}")
    assert (problem.status, '"/problems/store_unavailable"' in problem.text) == (503, True)
    assert (await ann.get("/healthz")).status == 200
    ready = await ann.get("/readyz")
    assert (ready.status, ready.text) == (503, "the store is away\n")


async def test_a_stopping_service_is_not_ready(site: Site, ann: Browser) -> None:
    site.web.close()
    ready = await ann.get("/readyz")
    assert (ready.status, ready.text) == (503, "stopping\n")
    assert (await ann.get("/events")).status == 503


async def test_a_fault_of_ours_is_logged_and_not_shown(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def faulty(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("the secret inside")

    app = web.Application(middlewares=[site.web.middleware])
    app.router.add_get("/faulty", faulty)
    app.router.add_get("/mcp/shop", faulty)
    runner = web.AppRunner(app)
    await runner.setup()
    here = web.TCPSite(runner, "127.0.0.1", 0)
    await here.start()
    port = runner.addresses[0][1]
    host = {"Host": site.url.removeprefix("http://")}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=host) as client:
        async with client.get("/faulty") as response:
            text = await response.text()
            assert response.status == 500
        async with client.get("/mcp/shop") as response:
            # Agents' addresses are the gateway's: nothing of ours is added or hidden there.
            assert "Content-Security-Policy" not in response.headers
    await runner.cleanup()
    assert "the secret inside" not in text
    assert "Its log says why." in text
    ours = [record.message for record in caplog.records if record.name == "approval.web.server"]
    assert ours == ["a request failed"]


async def test_shutting_down_ends_fifty_open_streams_at_once(tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        async with serve(tmp_path) as site:
            readers = []
            for _ in range(50):
                started = asyncio.Event()
                readers.append(tasks.create_task(read_to_end(site, started)))
                await started.wait()
        ended = [await reader for reader in readers]
    assert all(text.startswith("retry: 2000\n\n") for text in ended)


async def read_to_end(site: Site, started: asyncio.Event) -> str:
    session = await site.session("ann")
    cookies = {site.settings.cookie: session}
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        aiohttp.ClientSession(site.url, cookies=cookies, cookie_jar=jar) as client,
        client.get("/events") as response,
    ):
        first = await response.content.readuntil(b"\n\n")
        started.set()
        return (first + await response.content.read()).decode()


async def test_a_large_request_is_refused(site: Site, ann: Browser) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    body = io.BytesIO(b"x" * (2 * 1024 * 1024))
    headers["Authorization"] = f"Bearer {ANN_TOKEN}"
    page = await ann.ask("POST", "/v1/calls/x/decision", headers=headers, data=body)
    assert page.status == 413


async def test_an_allowed_host_of_the_settings_is_ours(tmp_path: Path) -> None:
    settings = WebSettings(
        public_url="https://approval.example.com", allowed_hosts=("inner.example:8443",)
    )
    async with serve(tmp_path, settings=settings) as site, site.browser() as browser:
        assert (await browser.get("/login", Host="inner.example:8443")).status == 200
        assert (await browser.get("/login")).status == 421
