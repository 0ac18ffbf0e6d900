import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from approval.core.call import Status
from approval.core.canonical import JSON
from approval.core.money import Money
from approval.web import sent
from approval.web.problems import Problem


async def request(path: str) -> web.Request:
    """Receive a real request for this path."""
    received = []

    async def receive(request: web.Request) -> web.StreamResponse:
        received.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}{path}", encoded=True)
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200
    await runner.cleanup()
    return received[0]


async def test_parameters_are_read() -> None:
    asked = await request("/?state=pending&state=expired&limit=7&wait=30s&after=apr_" + "0" * 26)
    assert sent.states(asked) == (Status.PENDING, Status.EXPIRED)
    assert sent.integer(asked, "limit", 50, least=1, most=200) == 7
    assert sent.seconds(asked) == 30.0
    assert sent.after(asked) == "apr_" + "0" * 26


async def test_absent_parameters_have_defaults() -> None:
    asked = await request("/")
    assert sent.states(asked) == ()
    assert sent.integer(asked, "limit", 50) == 50
    assert sent.seconds(asked) is None
    assert sent.after(asked) is None
    sent.only_parameters(asked, set())


async def test_a_wait_is_cut_to_a_minute() -> None:
    assert sent.seconds(await request("/?wait=3600s")) == 60.0


async def test_a_strange_parameter_is_named_and_drawn() -> None:
    with pytest.raises(Problem) as refusal:
        sent.only_parameters(await request("/?li%1B[2Jmit=1"), {"limit"})
    assert (
        refusal.value.detail == 'The parameter "li\\x1b[2Jmit" is not known here; known are: limit.'
    )


def test_a_settlement_is_one_of_two_and_has_evidence() -> None:
    assert sent.settlement("executed", " line 7 ") == (True, "line 7")
    assert sent.settlement("failed", "none") == (False, "none")
    for outcome, evidence in (("Executed", "x"), ("", "x"), ("failed", "  ")):
        with pytest.raises(Problem):
            sent.settlement(outcome, evidence)


@pytest.mark.parametrize(
    "said",
    ["1.15 USD", {"amount": "1.15", "currency": "USD"}, {"currency": "USD", "amount": "1.15"}],
)
def test_an_amount_is_a_text_or_an_object(said: JSON) -> None:
    assert sent.amount({"amount": said}) == Money(115, "USD")
    assert sent.amount({}) is None


@pytest.mark.parametrize(
    "said",
    [
        *(
            None,
            115,
            True,
            [],
            {},
            "",
            "1.15",
            "USD",
            "1.5 USD",
            "-1.15 USD",
            "1,15 USD",
            "1.15 usd",
        ),
        *("1.15  USD", "1.15 USD ", "1e3 USD", "\u0661.15 USD", f"{'9' * 400} USD"),
        {"amount": "1.15"},
        {"amount": 1, "currency": "USD"},
        {"amount": "1.15 USD", "currency": "USD"},
        {"amount": "1.15", "currency": "USD", "unit": "minor"},
    ],
)
def test_what_is_no_amount_is_refused(said: JSON) -> None:
    with pytest.raises(Problem) as refusal:
        sent.amount({"amount": said})
    assert (refusal.value.status, refusal.value.code) == (422, "amount")
