"""One source of each kind, and what they are made of."""

from approval.core.money import Money, Unit
from approval.core.pointers import Pointer, read_pointer
from approval.core.price import Argument, Ask, AtMost, Fixed, Notation, Per, Sum, Table


def usd(cents: int) -> Money:
    return Money(cents, "USD")


def at(text: str, inside: str | None = None) -> Pointer:
    return read_pointer(text, inside=None if inside is None else read_pointer(inside))


CENTS = Notation(unit=Unit.MINOR, currency="USD")
DOLLARS = Notation(unit=Unit.MAJOR, currency="USD")
FIXED = Fixed(price=usd(115), per=Per.MONTH)
ROWS = {"local": usd(115), "toll-free": usd(215)}
TABLE = Table(rows=ROWS, key=at("/type"))
ARGUMENT = Argument(at=at("/amount"), notation=CENTS)
NAMED = Argument(at=at("/amount"), notation=Notation(unit=Unit.MAJOR, currency=at("/currency")))
DEEP = Argument(at=at("/order/total"), notation=CENTS)
SUM = Sum(each=at("/items"), price=at("/price"), times=at("/quantity"), notation=CENTS)
INSIDE = Argument(
    at=at("/amount/value", "/data"),
    notation=Notation(unit=Unit.MAJOR, currency=at("/amount/currency", "/data"), text=True),
)
ASK = Ask(up_to=usd(500))
AT_MOST = AtMost(bound=usd(2000))
