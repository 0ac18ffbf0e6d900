"""Which currencies can be counted, and into how many decimals each is divided.

The table is ISO 4217's list of active codes as of 2026-01-01, funds included. Codes that have no
minor unit (gold `XAU`, drawing rights `XDR`, …) are left out: nobody could say what one of their
smallest pieces is. Libraries are no source here, because some answer "two decimals" for a code
they have never heard of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MAX_EXPONENT = 15
"""A declared unit is divided this far at most: one whole unit is then the largest amount."""

_CODES_BY_EXPONENT: Mapping[int, str] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD"
    " CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL"
    " GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR"
    " LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD"
    " PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC"
    " SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR"
    " ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


@dataclass(frozen=True, slots=True)
class Currencies:
    """The units that count here; an operator's own (a token by its asset id) join them."""

    exponents: Mapping[str, int] = field(repr=False)

    def exponent(self, code: str) -> int | None:
        """Give the decimals of a unit; None when it does not count here, which is never zero."""
        return self.exponents.get(code)

    def code(self, text: str) -> str | None:
        """Find the unit that a text means: exactly as listed, or in small ASCII letters."""
        if text in self.exponents:
            return text
        # Other scripts have letters whose capitals are ASCII: a long s, U+017F, becomes S.
        capitals = text.upper() if text.isascii() else text
        return capitals if capitals in self.exponents else None

    def with_units(self, exponents: Mapping[str, int]) -> "Currencies":
        """Add units that ISO does not know.

        Raises:
            ValueError: If one is listed already, or cannot be counted or written in a line.
        """
        for code, exponent in exponents.items():
            if code in self.exponents:
                raise ValueError(f"{code} is listed already; its decimals cannot be changed")
            if not code.isascii() or not code.isprintable() or not code or " " in code:
                raise ValueError("a unit is named in visible ASCII, without spaces")
            if not 0 <= exponent <= MAX_EXPONENT:
                raise ValueError(f"{code} has decimals from 0 to {MAX_EXPONENT}, not {exponent}")
        return Currencies(MappingProxyType({**self.exponents, **exponents}))


ISO = Currencies(
    MappingProxyType(
        {code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}
    )
)
