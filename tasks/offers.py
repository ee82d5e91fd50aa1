"""Offers: what is sold, at what price, and granting it."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from models import database
from models.rules import decimals, money
from models.rules import offer as rules
from models.rules.expiry import ExpiryUnit
from models.rules.refusal import Refusal
from models.store import offer, product
from tasks import contract, fields, paging
from tasks.queues import Queue

MOST_ITEMS = 100
"""Items of one offer."""

LONGEST_PAGE = 1_000
"""Offers in one answer."""


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


class UnknownPriceCurrency(Refusal):
    """A price is neither in money nor in a currency product."""

    code: ClassVar[str] = "offer.unknown_currency"


class OfferItem(BaseModel):
    """What an offer grants of one product.

    Args:
        product_key: of what.
        quantity: how much of it, above 0, at most 12 decimals.
        period: what its validity is counted in: hours, days, months, years or forever.
        value: how many of them, from the grant on; none with forever.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_key: fields.ProductKey
    quantity: fields.Amount
    period: Annotated[ExpiryUnit, BeforeValidator(_lower)] = ExpiryUnit.forever
    value: Annotated[int, Field(ge=1)] | None = None


class ItemAnswer(TypedDict):
    """What an offer grants of one product."""

    product_key: str
    quantity: str
    period: str
    value: int | None


class OfferAnswer(TypedDict):
    """An offer. `price` is in major units of money, or in units of the currency product."""

    sku: str
    name: str
    price: str
    currency: str
    currency_kind: Literal["money", "product"]
    active: bool
    items: list[ItemAnswer]
    metadata: dict[str, Any]
    version: int


class OfferList(TypedDict):
    """One page of offers, by sku. `next_cursor` leads to the next page, None on the last one."""

    offers: list[OfferAnswer]
    next_cursor: str | None


@contract.command("billing.set_offer", queue=Queue.billing)
def set_offer(
    session: database.Session,
    *,
    sku: fields.Sku,
    name: fields.Name | None = None,
    price: fields.UnitAmount | None = None,
    currency: fields.PriceCurrency | None = None,
    items: Annotated[list[OfferItem], Field(min_length=1, max_length=MOST_ITEMS)] | None = None,
    active: bool | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> OfferAnswer:
    """Make an offer or change what is given; what is not given stays.

    Runs when an operator or a catalogue import sends it. Twice is harmless: the same values again
    change nothing. If it dies half way nothing has changed, and the message comes back. What was
    granted before stays as it was granted.

    Refused with code `catalog.key_taken` if the sku is a product's key, `offer.incomplete` if the
    offer is new and lacks something, `offer.unknown_currency`, `offer.invalid_price`,
    `offer.invalid_item` or `product.unknown`.

    Args:
        sku: 1 to 64 characters, made upper-case; shares its namespace with product keys.
        name: what people read, 1 to 200 characters.
        price: 0 or more; money in major units with no more decimals than its currency.
        currency: an ISO 4217 code, or the product_key of a product that is a currency.
        items: what one of it grants, 1 to 100; given, they replace all that were there.
        active: whether it is sold. A new offer is.
        metadata: merged over what is stored, key by key.
    """
    change = offer.Change(
        name=name,
        amount=price,
        currency=None if currency is None else _currency(session, currency),
        items=None if items is None else _items(items),
        active=active,
        details=metadata,
    )
    return answer(offer.change(session, sku, change, now=as_of))


@contract.command("billing.get_offer", queue=Queue.billing)
def get_offer(session: database.Session, *, sku: fields.Sku) -> OfferAnswer:
    """Tell what an offer costs and grants.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `offer.unknown`.

    Args:
        sku: which one.
    """
    return answer(offer.get(session, sku))


@contract.command("billing.list_offers", queue=Queue.billing)
def list_offers(
    session: database.Session,
    *,
    active: bool | None = None,
    currency: fields.PriceCurrency | None = None,
    product_key: fields.ProductKey | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
) -> OfferList:
    """List offers by sku.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. An offer that
    is made between two pages is neither seen twice nor moves another one out of sight.

    Args:
        active: only those that are sold, or only those that are not; absent, both.
        currency: only those priced in it.
        product_key: only those that grant it.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: offers on one page, 1 to 1,000.
    """
    query = {"active": active, "currency": currency, "product_key": product_key}
    found = offer.list_page(
        session,
        offer.Filter(active=active, currency=currency, product_key=product_key),
        after=paging.read(cursor, query, str),
        most=limit + 1,
    )
    page = found[:limit]
    return {
        "offers": [answer(one) for one in page],
        "next_cursor": paging.write(query, page[-1].sku) if len(found) > limit else None,
    }


def _currency(session: database.Session, code: str) -> rules.Currency:
    if code in money.MINOR_UNITS:
        return rules.Currency(code, is_product=False)
    if product.is_currency(session, code):
        return rules.Currency(code, is_product=True)
    raise UnknownPriceCurrency(
        f"currency {code!r} is neither an active ISO 4217 code, as EUR, nor the product_key of a "
        "product with is_currency, which billing.set_product makes",
        field="currency",
    )


def _items(items: Sequence[OfferItem]) -> tuple[rules.Item, ...]:
    return tuple(
        rules.Item(item.product_key, item.quantity, item.period, item.value) for item in items
    )


def answer(found: rules.Offer) -> OfferAnswer:
    """Return an offer as tasks answer it."""
    return {
        "sku": found.sku,
        "name": found.name,
        "price": found.price.text,
        "currency": found.price.currency.code,
        "currency_kind": "product" if found.price.currency.is_product else "money",
        "active": found.active,
        "items": [
            {
                "product_key": item.product_key,
                "quantity": decimals.plain(item.quantity),
                "period": item.period.value,
                "value": item.value,
            }
            for item in found.items
        ],
        "metadata": found.details,
        "version": found.version,
    }
