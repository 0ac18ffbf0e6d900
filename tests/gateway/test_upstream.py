import orjson
import pytest

from approval.gateway import protocol
from approval.gateway.upstream import Reply, Sent


def call(params: str) -> protocol.Message:
    head = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    return protocol.parse((head + params + "}").encode())


def test_a_message_is_written_as_it_was_read() -> None:
    message = call('{"name":"x","arguments":{"n":1.10,"big":123456789012345678901},"more":null}')
    assert Sent(message=message).write() == (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
        b'{"name":"x","arguments":{"n":1.10,"big":123456789012345678901},"more":null}}'
    )


@pytest.mark.parametrize("params", ['{"name":"x","arguments":{"a":2},"more":3}', '{"name":"x"}'])
def test_the_arguments_that_were_recorded_are_the_bytes_that_are_sent(params: str) -> None:
    sent = Sent(message=call(params), arguments=b'{"b":1.50}')
    written = sent.write()
    assert b'"arguments":{"b":1.50}' in written
    expected = orjson.loads(params) | {"arguments": {"b": 1.5}}
    assert orjson.loads(written) == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": expected,
    }


def test_a_shared_line_gets_another_id_and_other_params() -> None:
    message = call('{"name":"x","arguments":{}}')
    plain = orjson.loads(Sent(message=message).write(request_id="o", params={"name": "y"}))
    assert plain == {"jsonrpc": "2.0", "id": "o", "method": "tools/call", "params": {"name": "y"}}
    with_arguments = Sent(message=message, arguments=b"{}")
    assert orjson.loads(with_arguments.write(request_id="o", params={"name": "y"})) == {
        **plain,
        "params": {"name": "y", "arguments": {}},
    }


async def test_leaving_a_reply_closes_it() -> None:
    closed = []

    async def close() -> None:
        closed.append(True)

    async with Reply(status=200, close=close) as reply:
        assert reply.status == 200
    async with Reply(status=202):
        pass
    assert closed == [True]
