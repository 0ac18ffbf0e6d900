"""Opening the store with a service on it, and who is to be told of the console."""

from datetime import timedelta
from pathlib import Path

from approval.app.opening import approvers, login_link, opened
from tests.config.files import VALID, read

SLOW = VALID.replace('command = ["python"', 'timeout = "3m"\ncommand = ["python"')


async def test_the_service_gives_each_upstream_its_own_time(tmp_path: Path) -> None:
    config = read(tmp_path, SLOW)
    async with opened(config) as (store, service):
        assert service.settings.timeout("shop") == timedelta(minutes=3)
        assert service.settings.timeout("another") == timedelta(seconds=60)
        assert (await store.find()).calls == ()
    assert (tmp_path / "approval.db").exists()


async def test_a_link_signs_in_whoever_it_was_made_for(tmp_path: Path) -> None:
    async with opened(read(tmp_path)) as (store, service), service:
        link = await login_link(service, "http://127.0.0.1:1", "ann", actor="test")
        (credential,) = await store.credentials("login")
    assert link.startswith("http://127.0.0.1:1/login?token=apv_")
    assert credential.subject == "ann"
    assert credential.expires_at == credential.created_at + timedelta(minutes=15)


def test_approvers_are_those_whom_a_rule_names_and_admins(tmp_path: Path) -> None:
    text = VALID + '[people.carl]\n[people.dora]\n[rights]\nadmin = "carl"\n'
    assert approvers(read(tmp_path, text).rulebook()) == ("ann", "bob", "carl")


def test_whoever_types_a_price_is_an_approver_too(tmp_path: Path) -> None:
    typed = 'spend = { amount = { ask = true, up_to = "5.00 USD" } }'
    text = VALID.replace('require_approval = [{ approvers = "finance" }]', typed)
    text += '[people.dora]\n[approvals]\napprovers = "dora"\n'
    assert approvers(read(tmp_path, text).rulebook()) == ("dora",)
