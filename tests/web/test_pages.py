import re

from approval.web.pages import HERE
from tests.factories import NOW
from tests.web.serving import Browser, Site


async def test_files_are_served_under_their_digest_for_ever(stranger: Browser) -> None:
    page = await stranger.get("/login")
    addresses = re.findall(r'"(/static/[0-9a-f]{12}/[a-z.]+)"', page.text)
    kinds = {}
    for address in addresses:
        found = await stranger.get(address)
        assert found.status == 200
        assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        kinds[address.rpartition("/")[2]] = found.headers["Content-Type"]
    assert kinds == {
        "favicon.svg": "image/svg+xml; charset=utf-8",
        "style.css": "text/css; charset=utf-8",
        "app.js": "text/javascript; charset=utf-8",
    }


async def test_only_the_rooms_own_files_are_served(stranger: Browser) -> None:
    for name in ("nowhere.css", "..%2Fpages.py", "%2e%2e%2fpages.py"):
        assert (await stranger.get(f"/static/x/{name}")).status == 404


def test_the_pages_need_little() -> None:
    static = HERE / "static"
    assert len((static / "style.css").read_bytes()) < 7000
    assert len((static / "app.js").read_text().splitlines()) < 300


def test_the_script_never_turns_text_into_markup() -> None:
    script = (HERE / "static" / "app.js").read_text()
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert sink not in script


def test_no_template_switches_escaping_off() -> None:
    for path in (HERE / "templates").iterdir():
        text = path.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text


async def test_the_page_carries_the_servers_time(site: Site, ann: Browser) -> None:
    assert f'data-now="{int(NOW.timestamp() * 1000)}"' in (await ann.get("/")).text
