"""What a command line asks for, by default: nothing claimed, confirmed or promoted."""

from approval.cli.orders import Dialect, Foreign, Order, Proof
from approval.core.call import Choice


def test_an_order_claims_nothing_of_its_own() -> None:
    assert Proof() == Proof(claimed=None, token_file=None)
    order = Order(call="apr_1", choice=Choice.REJECT)
    assert (order.reason, order.digest, order.ask, order.amount) == ("", None, False, None)


def test_an_import_guesses_the_dialect_and_promotes_nothing_by_default() -> None:
    assert Foreign() == Foreign(dialect=Dialect.AUTO, promote="")
