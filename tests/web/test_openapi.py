import re
from typing import Any

from aiohttp import web
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from approval.core.call import Choice
from approval.web import openapi
from approval.web.api import NOT_BUILT_PATHS
from approval.web.schemas import SCHEMAS
from tests.factories import ANN_TOKEN, Clock
from tests.web.scripting import Reply, script
from tests.web.serving import Site


def check(document: Any, schema: str, value: Any) -> None:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    Draft202012Validator.check_schema(whole)
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def check_reply(document: Any, operation: Any, reply: Reply) -> None:
    """Hold an answer against what the document promises for it."""
    content = operation["responses"][str(reply.status)]["content"]
    kind = reply.headers["Content-Type"].partition(";")[0]
    schema = content[kind]["schema"]["$ref"].rpartition("/")[2]
    check(document, schema, reply.json)


async def test_every_route_of_the_api_is_described_and_nothing_else_is(site: Site) -> None:
    served = {
        (route.method, route.path)
        for route in site.web._api.routes()
        if isinstance(route, web.RouteDef) and route.path not in NOT_BUILT_PATHS
    }
    async with script(site, None) as anybody:
        document = (await anybody.get("/v1/openapi.json")).json
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert served == described == {(each.method, each.path) for each in openapi.OPERATIONS}
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": site.url}]


async def test_answers_are_as_described(site: Site, clock: Clock) -> None:
    call = await site.hold({"phone_number": "+1", "quantity": 2})
    doubtful = await site.hold({"phone_number": "+2"})
    await site.decide(doubtful, "bob", Choice.APPROVE, "fine")
    await site.lose(doubtful)
    async with script(site, ANN_TOKEN) as ann:
        document = (await ann.get("/v1/openapi.json")).json
        paths = document["paths"]
        one, decision = paths["/v1/calls/{id}"], paths["/v1/calls/{id}/decision"]["post"]
        check_reply(document, paths["/v1/calls"]["get"], await ann.get("/v1/calls"))
        check_reply(document, paths["/v1/calls"]["get"], await ann.get("/v1/calls?limit=x"))
        check_reply(document, paths["/v1/audit"]["get"], await ann.get("/v1/audit"))
        check_reply(document, one["get"], await ann.get(f"/v1/calls/{call.id}"))
        check_reply(document, one["get"], await ann.get(f"/v1/calls/{doubtful.id}"))
        check_reply(document, one["get"], await ann.get("/v1/calls/x"))
        body = {"decision": "approve", "digest": call.digest, "reason": "fine"}
        check(document, "Decision", body)
        path = f"/v1/calls/{call.id}/decision"
        for sent in (body, {**body, "digest": "0" * 64}, {"amount": 1}, b"{"):
            check_reply(document, decision, await ann.post(path, sent))
        await site.run(call)
        check_reply(document, one["get"], await ann.get(f"/v1/calls/{call.id}"))
        settle = paths["/v1/calls/{id}/settle"]["post"]
        sent = {"outcome": "executed", "evidence": "x"}
        check(document, "Settlement", sent)
        reply = await ann.post(f"/v1/calls/{doubtful.id}/settle", sent)
        assert reply.status == 403
        check_reply(document, settle, reply)
        check(document, "Settlement", {**sent, "amount": "1.15 USD"})
        correct = paths["/v1/calls/{id}/correct"]["post"]
        amount = {"amount": "1.15", "currency": "USD"}
        for said in ("1.15 USD", amount):
            check(document, "Correction", {"amount": said, "evidence": "x"})
        reply = await ann.post(f"/v1/calls/{call.id}/correct", {"amount": amount, "evidence": "x"})
        assert reply.status == 403
        check_reply(document, correct, reply)
        cancel = paths["/v1/calls/{id}/cancel"]["post"]
        check_reply(document, cancel, await ann.post(f"/v1/calls/{call.id}/cancel", {}))


async def test_the_document_itself_holds_only_known_schemas(site: Site) -> None:
    async with script(site, None) as anybody:
        document = (await anybody.get("/v1/openapi.json")).json
    used = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert used == set(SCHEMAS) == set(document["components"]["schemas"])
    for schema in SCHEMAS:
        Draft202012Validator.check_schema(document["components"]["schemas"][schema])
