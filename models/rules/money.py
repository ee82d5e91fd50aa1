"""Money: exact decimals inside, integer minor units outside, rounded once in between."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from fractions import Fraction
from typing import Final

MAX_DIGITS: Final = 1_000
"""Digits an amount may have on either side of its point: beyond any money, yet cheap to compute."""

_EXACT: Final = Context(
    prec=4 * MAX_DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact]
)

_DECIMALS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
        "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
        "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO "
        "NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
        "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST "
        "XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

MINOR_UNITS: Final[Mapping[str, int]] = {
    code: decimals for decimals, codes in _DECIMALS.items() for code in codes.split()
}
"""Decimals of each active currency: ISO 4217 list one as published on 2026-01-01. Codes without a
minor unit there (metals, XDR, XXX and the like) can not be billed in and are absent."""


class UnknownCurrency(ValueError):
    """The code is no active ISO 4217 currency with a minor unit."""

    def __init__(self, currency: str) -> None:
        super().__init__(
            f"unknown currency {currency!r}: it must be an active ISO 4217 code in capitals, as EUR"
        )
        self.currency = currency


def minor_unit(currency: str) -> int:
    """Decimals of `currency`: 2 for EUR, 0 for JPY, 3 for BHD. Raises UnknownCurrency."""
    try:
        return MINOR_UNITS[currency]
    except KeyError:
        raise UnknownCurrency(currency) from None


class AmountOutOfRange(ValueError):
    """The amount is not finite, or too long: MAX_DIGITS on either side of its point."""

    def __init__(self, amount: Decimal) -> None:
        super().__init__(
            f"amount {str(amount)[:40]} is out of range: it must be a finite number of at most "
            f"{MAX_DIGITS} digits on either side of its point"
        )


def to_minor(amount: Decimal, currency: str) -> int:
    """`amount` in minor units of `currency`, rounded once, half up on the magnitude.

    A half goes away from zero: 10.125 EUR is 1013, -10.125 EUR is -1013.
    Raises UnknownCurrency, AmountOutOfRange.
    """
    return round_half_up(exact_fraction(amount) * 10 ** minor_unit(currency))


def from_minor(minor: int, currency: str) -> Decimal:
    """`minor` units as an amount with all decimals of `currency`: 1230 of EUR is Decimal("12.30").

    Raises UnknownCurrency.
    """
    digits = tuple(int(digit) for digit in str(abs(minor)))
    return Decimal((int(minor < 0), digits, -minor_unit(currency)))


def format_minor(minor: int, currency: str) -> str:
    """`minor` units for people: "1,234.50 EUR", "1,235 JPY". Raises UnknownCurrency."""
    return f"{from_minor(minor, currency):,f} {currency}"


class NothingToAllocateOver(ValueError):
    """The weights are missing, negative, not finite or all zero."""

    def __init__(self, weights: Sequence[Decimal]) -> None:
        super().__init__(
            f"can not allocate over weights {[str(weight) for weight in weights[:10]]}: "
            "each must be zero or more, and at least one more than zero"
        )


def allocate(total_minor: int, weights: Sequence[Decimal]) -> list[int]:
    """Split `total_minor` in proportion to `weights` by largest remainder; the parts sum exactly.

    Units left over go to the largest remainders, ties to the earlier index. A negative total is
    split as its magnitude. A total of zero splits into zeros whatever the weights.
    Raises NothingToAllocateOver for weights that are negative, absent or all zero.
    """
    if any(not weight.is_finite() or weight < 0 for weight in weights):
        raise NothingToAllocateOver(weights)
    if total_minor == 0:
        return [0] * len(weights)
    if not any(weights):
        raise NothingToAllocateOver(weights)
    sign = -1 if total_minor < 0 else 1
    return [sign * part for part in _largest_remainder(abs(total_minor), weights)]


def apportion(total_minor: int, shares: Sequence[Fraction]) -> list[int]:
    """Round exact `shares`, of either sign, to whole units that sum to `total_minor`.

    Each is its share rounded down or up: units left over go to the largest fractions, ties to the
    earlier index. `total_minor` is the rounded sum of the shares, so that there is a unit for each
    that gets one. Raises NotTheirSum if it is not.
    """
    parts = [share.numerator // share.denominator for share in shares]
    left = total_minor - sum(parts)
    if not 0 <= left <= len(parts):
        raise NotTheirSum(total_minor, shares)
    by_fraction = sorted(range(len(parts)), key=lambda i: parts[i] - shares[i])
    for index in by_fraction[:left]:
        parts[index] += 1
    return parts


class NotTheirSum(ValueError):
    """A total that no rounding of the shares adds up to."""

    def __init__(self, total_minor: int, shares: Sequence[Fraction]) -> None:
        super().__init__(
            f"{total_minor} is no rounded sum of {[str(share) for share in shares[:10]]}"
        )


def exact() -> AbstractContextManager[Context]:
    """A decimal context in which sums and products are exact, or raise; nothing rounds silently.

    The default context keeps 28 digits and drops the rest without a word.
    """
    return localcontext(_EXACT)


def exact_fraction(amount: Decimal) -> Fraction:
    """`amount` as a fraction, without rounding. Raises AmountOutOfRange."""
    # Of two integers: to tell what kind of number it is given takes a fraction longer than that.
    return Fraction(*exact_ratio(amount))


def exact_ratio(amount: Decimal) -> tuple[int, int]:
    """`amount` as a numerator and a denominator above zero. Raises AmountOutOfRange."""
    # Nearly all are told in range by their length, in half the time that taking them apart takes.
    if amount.is_finite() and 0 <= amount.adjusted() < MAX_DIGITS and len(str(amount)) < MAX_DIGITS:
        return amount.as_integer_ratio()
    _, digits, exponent = amount.as_tuple()
    if (
        not isinstance(exponent, int)  # it is infinite, or no number
        or abs(exponent + len(digits) - 1) > MAX_DIGITS
        or -exponent > MAX_DIGITS
    ):
        raise AmountOutOfRange(amount)
    return amount.as_integer_ratio()


def round_half_up(value: Fraction) -> int:
    """The nearest integer; a half goes away from zero, on both sides of it."""
    return divided_half_up(value.numerator, value.denominator)


def divided_half_up(dividend: int, divisor: int) -> int:
    """The integer nearest to a quotient, in the same way. `divisor` must be more than zero."""
    magnitude = (2 * abs(dividend) + divisor) // (2 * divisor)
    return -magnitude if dividend < 0 else magnitude


def _largest_remainder(total: int, weights: Sequence[Decimal]) -> list[int]:
    shares = [exact_fraction(weight) for weight in weights]
    whole = sum(shares, Fraction(0))
    quotas = [total * share / whole for share in shares]
    parts = [quota.numerator // quota.denominator for quota in quotas]
    # sorted() is stable, so equal remainders keep their order: the earlier index wins.
    by_remainder = sorted(range(len(quotas)), key=lambda i: parts[i] - quotas[i])
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts
