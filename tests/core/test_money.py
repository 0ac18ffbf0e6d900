"""Money is exact or refused: every spelling of an amount, and what no spelling can bring about."""

import pytest

from approval.core.money import Money


@pytest.mark.parametrize("text", ["1.15 USD", "0.05 USD", "0.00 USD", "115 JPY", "1.150 KWD"])
def test_an_amount_is_written_as_it_was_read(text: str) -> None:
    assert str(Money.parse(text)) == text


def test_other_currencies_are_never_added_or_compared() -> None:
    with pytest.raises(ValueError, match="USD and EUR"):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(ValueError, match="USD and EUR"):
        assert Money(1, "USD") < Money(1, "EUR")
