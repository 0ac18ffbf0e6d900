"""What a command line asks for, by default: nothing claimed, nothing confirmed."""

from approval.cli.orders import Order, Proof
from approval.core.call import Choice


def test_an_order_claims_nothing_of_its_own() -> None:
    assert Proof() == Proof(claimed=None, token_file=None)
    order = Order(call="apr_1", choice=Choice.REJECT)
    assert (order.reason, order.digest, order.ask) == ("", None, False)
