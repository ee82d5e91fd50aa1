"""What something would cost."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, TypedDict

from models.rules import money, pricing
from models.rules.decimals import of_fraction, plain
from models.rules.refusal import Refusal
from tasks import contract, fields, quoting
from tasks.queues import Queue


class CanNotBeQuoted(Refusal):
    """A quote's currency is unknown, or its amounts are out of range."""

    code: ClassVar[str] = "quote.impossible"


class QuotedLine(TypedDict):
    """One priced row. `steps` are its addends, such as tiers; they add up to it."""

    name: str | None
    quantity: str
    unit_amount: str | None
    amount: str
    exact_amount: str
    amount_minor: int
    steps: list[dict[str, Any]]


class QuoteAnswer(TypedDict):
    """What it costs: `amount` is the sum of the lines, each rounded once to the minor unit.

    `exact_amount` is the sum before rounding, to 24 decimals.
    """

    model: str
    currency: str
    amount: str
    exact_amount: str
    amount_minor: int
    lines: list[QuotedLine]


@contract.job("billing.quote", queue=Queue.billing)
def quote(
    *,
    model: str,
    params: dict[str, Any],
    currency: fields.Currency,
    input: dict[str, Any],  # noqa: A002 (what the published cases call it)
) -> QuoteAnswer:
    """Answer with what usage costs at a price, line by line, as an invoice would have it.

    Runs when someone asks. It touches no data: twice is harmless, and so is dying half way.

    Args:
        model: fixed, per_unit, graduated, volume, package, percentage, graduated_percentage,
            block, capacity or dynamic (docs/prices.md).
        params: the price's, as `billing.set_plan` takes them; `unit_price` for fixed and per_unit.
        currency: ISO 4217.
        input: what was used: `units`; or `events`, each with amount, at and metadata; or
            `event_amounts`, `bucket_max`, `groups`.
    """
    return answer(model, params, currency, input)


def answer(model: str, params: dict[str, Any], currency: str, used: Any) -> QuoteAnswer:
    """Return a quote.

    Raises:
        Refusal: it can not be made; the message says what is wrong and what would be right.
    """
    try:
        asked = quoting.read(model, params, currency, used)
        lines = [one.line(currency) for one in asked]
    except (money.AmountOutOfRange, money.UnknownCurrency) as error:
        raise CanNotBeQuoted(str(error)) from None
    except ArithmeticError:
        raise CanNotBeQuoted(
            f"an amount has more than {money.MAX_DIGITS} digits on a side of its point",
            field="input",
        ) from None
    names = [one.name for one in asked]
    minor = sum(line.amount_minor for line in lines)
    return {
        "model": model,
        "currency": currency,
        "amount": str(money.from_minor(minor, currency)),
        "exact_amount": _exact(lines),
        "amount_minor": minor,
        "lines": [_line(line, name, currency) for line, name in zip(lines, names, strict=True)],
    }


def _line(line: pricing.Line, name: str | None, currency: str) -> QuotedLine:
    return {
        "name": name,
        "quantity": plain(line.quantity),
        "unit_amount": None if line.unit_amount is None else plain(line.unit_amount),
        "amount": str(money.from_minor(line.amount_minor, currency)),
        "exact_amount": _exact([line]),
        "amount_minor": line.amount_minor,
        "steps": pricing.as_json(line.steps),
    }


def _exact(lines: Sequence[pricing.Line]) -> str:
    total = sum((line.amount for line in lines), Fraction(0))
    exact: Decimal = of_fraction(total)
    return plain(exact)
