"""Who bills: what invoices say of it, how they are numbered, which credit pays them."""

from typing import Annotated, ClassVar, TypedDict

from pydantic import Field, StringConstraints

from models import database
from models.catalog import ProductType
from models.rules import numbering
from models.rules.refusal import Refusal
from models.store import issuer, prepaid, product
from tasks import contract, fields
from tasks.queues import Queue

Series = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9._/-]{0,31}$")]
"""Capitals, digits and . _ / -, at most 32."""


class SameSeries(Refusal):
    """Invoices and credit notes have series of their own."""

    code: ClassVar[str] = "issuer.same_series"


class IssuerAnswer(TypedDict):
    """Who bills."""

    name: str | None
    payment_days: int
    invoice_series: str
    credit_note_series: str
    number_format: str
    printed: dict[str, str]


class PrepaidProductAnswer(TypedDict):
    """Which product's credit pays the invoices of a currency."""

    currency: str
    product_key: str


@contract.command("billing.set_issuer", queue=Queue.billing)
def set_issuer(
    session: database.Session,
    *,
    name: fields.Name,
    address: fields.Lines | None = None,
    tax_number: fields.Name | None = None,
    email: fields.Name | None = None,
    payment_instructions: fields.Lines | None = None,
    footer: fields.Lines | None = None,
    payment_days: Annotated[int, Field(ge=0, le=365)] = 14,
    invoice_series: Series = numbering.SERIES,
    credit_note_series: Series = numbering.CREDIT_NOTE_SERIES,
    number_format: Annotated[str, Field(min_length=1, max_length=80)] = numbering.FORMAT,
    as_of: fields.Instant = contract.NOW,
) -> IssuerAnswer:
    """Make the issuer be what is given; what is left out has its default.

    Runs when an operator or a deployment sends it. Invoices that are finalized keep what they say.
    Twice is harmless: the same again changes nothing. If it dies half way nothing has changed.

    Refused with code `issuer.number_format_invalid` or `issuer.same_series`.

    Args:
        name: who bills.
        address, tax_number, email, payment_instructions, footer: printed on every invoice.
        payment_days: how long after its finalization an invoice is due.
        invoice_series, credit_note_series: each is numbered without gaps; another series begins
            at 1.
        number_format: how a number is written: {series} and {sequence} ({sequence:6} has six
            digits or more), perhaps {year} and {month} of its day of issue.
    """
    numbering.check(number_format)
    numbering.check_series(number_format, "invoice_series", invoice_series)
    numbering.check_series(number_format, "credit_note_series", credit_note_series)
    if invoice_series == credit_note_series:
        raise SameSeries(
            f"invoice_series and credit_note_series are both {invoice_series!r}; give each its own",
            field="credit_note_series",
        )
    printed = {
        "address": address,
        "tax_number": tax_number,
        "email": email,
        "payment_instructions": payment_instructions,
        "footer": footer,
    }
    wanted = issuer.Issuer(
        name=name,
        printed={key: text for key, text in printed.items() if text is not None},
        payment_days=payment_days,
        invoice_series=invoice_series,
        credit_note_series=credit_note_series,
        number_format=number_format,
    )
    issuer.change(session, wanted, now=as_of)
    return {
        "name": name,
        "payment_days": payment_days,
        "invoice_series": invoice_series,
        "credit_note_series": credit_note_series,
        "number_format": number_format,
        "printed": dict(wanted.printed),
    }


@contract.command("billing.set_prepaid_product", queue=Queue.billing)
def set_prepaid_product(
    session: database.Session,
    *,
    currency: fields.Currency,
    product_key: fields.ProductKey,
    as_of: fields.Instant = contract.NOW,
) -> PrepaidProductAnswer:
    """Let prepaid credit of a product pay the invoices of a currency: one unit is one major unit.

    Runs when an operator or a deployment sends it. From then on, finalization takes what is usable
    of it, oldest batch first. Twice is harmless: the same again changes nothing. If it dies half
    way nothing has changed.

    Refused with code `product.unknown`, `prepaid.not_a_currency` or `prepaid.taken`.

    Args:
        currency: ISO 4217.
        product_key: a product of type quantity that is a currency.
    """
    found = product.get(session, product_key)
    if not found.is_currency or found.type != ProductType.quantity:
        raise prepaid.NotACurrencyProduct(
            f"product {product_key!r} is of type {found.type!r} and is_currency is "
            f"{found.is_currency}; it must be of type 'quantity' and a currency",
            field="product_key",
        )
    prepaid.set_product(session, currency=currency, product_key=product_key, now=as_of)
    return {"currency": currency, "product_key": product_key}
