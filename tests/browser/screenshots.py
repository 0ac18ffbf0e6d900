"""Takes the pictures of `docs/images`: `python -m tests.browser.screenshots [--every] [FOLDER]`."""

import argparse
import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

from playwright.async_api import Browser

from approval.core.call import Call, Choice
from approval.core.canonical import JSON
from approval.core.identity import Agent, Right
from approval.core.rulebook import Rulebook
from tests.browser.driving import Scheme, launched, signed_in
from tests.factories import make_directory, make_rulebook
from tests.web.serving import Site, serve

POLICY = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "create_incoming_phone_number": {
            "title": "buy a phone number",
            "spend": {
                "amount": {"fixed": "1.15 USD", "per": "month"},
                "meters": ["numbers-day", "numbers-month"],
            },
            "require_approval": [{"approvers": "finance", "timeout": "15m"}],
        },
        "create_refund": {
            "title": "refund a customer",
            "spend": {
                "amount": {
                    "argument": "/amount",
                    "unit": "major",
                    "text": True,
                    "currency_argument": "/currency",
                },
                "meters": ["refunds"],
            },
            "require_approval": [{"approvers": "finance", "quorum": 2, "timeout": "2h"}],
        },
        "delete_recording": {
            "title": "delete a call recording",
            "require_approval": [{"approvers": "finance", "timeout": "6h"}],
        },
    },
    "meters": {
        "numbers-day": {
            "limit": "5.00 USD",
            "window": {"calendar": "day"},
            "scope": ["agent"],
        },
        "numbers-month": {
            "limit": "50.00 USD",
            "window": {"calendar": "month"},
            "scope": ["agent"],
        },
        "refunds": {"limit": "100.00 USD", "window": {"rolling": "24h"}, "scope": []},
    },
}
CALLS: tuple[tuple[str, str, JSON], ...] = (
    (
        "ops-agent",
        "create_incoming_phone_number",
        {"phone_number": "+14155550100", "friendly_name": "Support line, San Francisco"},
    ),
    (
        "billing-agent",
        "create_refund",
        {"order": "A-20418", "amount": "38.50", "currency": "USD", "note": "Arrived broken"},
    ),
    ("ops-agent", "delete_recording", {"recording": "RE557ce644e5ab84fa21cc21112e22c485"}),
)
NASTY: JSON = {
    "phone_number": "+1415555\u202e0010",
    "friendly_name": "Suppo\u0301rt\u200b line ",
    "api_key": "sk-live-0123456789",
    "count": 3,
    "notes": "first line\nsecond line",
    "routing": {"region": "us-west", "weights": [1, 2], "password": "hunter2"},
    "script": "<script>alert(1)</script>",
    "body": "All work and no play. " * 150,
}
EARLIER: tuple[tuple[str, JSON, Choice, str], ...] = (
    (
        "create_incoming_phone_number",
        {"phone_number": "+14155550199", "friendly_name": "Sales"},
        Choice.APPROVE,
        "",
    ),
    (
        "create_incoming_phone_number",
        {"phone_number": "+19005550123"},
        Choice.REJECT,
        "No premium numbers, please.",
    ),
)


def make_rules() -> Rulebook:
    directory = make_directory(rights={Right.READ_ALL: frozenset({"ann"})})
    billing = Agent(name="billing-agent", upstreams=frozenset({"shop"}))
    named = {"ann": "Ann Example", "bob": "Bob Ortiz"}
    people = {
        name: replace(person, title=named.get(name, person.title))
        for name, person in directory.people.items()
    }
    return make_rulebook(
        POLICY,
        directory=replace(
            directory, people=people, agents={**directory.agents, billing.name: billing}
        ),
    )


async def fill(site: Site) -> list[Call]:
    """Let two calls be decided and three wait, one of them half approved."""
    for tool, arguments, choice, reason in EARLIER:
        call = await site.hold(arguments, tool=tool)
        await site.decide(call, "bob", choice, reason)
        if choice is Choice.APPROVE:
            await site.run(call, b'{"result":{"content":[{"type":"text","text":"Bought."}]}}')
    held = [await site.hold(given, agent=agent, tool=tool) for agent, tool, given in CALLS]
    await site.decide(held[1], "bob", Choice.APPROVE)
    await site.service.told(held[2])
    return held


async def shoot(
    browser: Browser, site: Site, path: str, file: Path, *, phone: bool, scheme: Scheme
) -> None:
    context = await signed_in(browser, site, phone=phone, scheme=scheme)
    page = await context.new_page()
    await page.goto(path)
    await page.wait_for_load_state("load")
    await page.screenshot(path=file, full_page=True)
    await context.close()


async def main(folder: Path, *, every: bool) -> None:
    with tempfile.TemporaryDirectory() as data:
        async with serve(Path(data), rules=make_rules()) as site, launched() as browser:
            held = await fill(site)
            call = f"/calls/{held[0].id}"
            await shoot(browser, site, "/", folder / "inbox.png", phone=False, scheme="light")
            await shoot(browser, site, call, folder / "call.png", phone=False, scheme="light")
            budgets = folder / "budgets.png"
            await shoot(browser, site, "/budgets", budgets, phone=False, scheme="light")
            await shoot(browser, site, "/", folder / "phone.png", phone=True, scheme="light")
            if every:
                await shoot_every(browser, site, folder)


async def shoot_every(browser: Browser, site: Site, folder: Path) -> None:
    """Take every page in both widths and both schemes, to look at while working on them."""
    nasty = await site.hold(NASTY)
    token = await site.login("ann")
    paths = {
        "nasty": f"/calls/{nasty.id}",
        "inbox": "/",
        "history": "/history",
        "budgets": "/budgets",
        "grants": "/grants",
        "trail": "/trail",
        "login": f"/login?token={token}",
        "missing": "/nowhere",
    }
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for name, path in paths.items():
        for phone in (False, True):
            for scheme in schemes:
                file = folder / f"{name}-{'phone' if phone else 'desk'}-{scheme}.png"
                await shoot(browser, site, path, file, phone=phone, scheme=scheme)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    parser.add_argument("--every", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.folder, every=given.every))
