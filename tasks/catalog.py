"""What is sold: the products that credit is counted in."""

from typing import Annotated, Any, TypedDict

from pydantic import Field

from models import database
from models.catalog import Product, ProductType
from models.rules.burndown import Policy
from models.store import product
from tasks import contract, fields, paging
from tasks.queues import Queue

LONGEST_PAGE = 1_000
"""Products in one answer."""


class ProductAnswer(TypedDict):
    """What is known of a product."""

    product_key: str
    name: str
    type: str
    is_currency: bool
    burn_policy: str
    active: bool
    metadata: dict[str, Any]


class ProductList(TypedDict):
    """One page of products, by key. `next_cursor` leads to the next page, None on the last one."""

    products: list[ProductAnswer]
    next_cursor: str | None


@contract.command("billing.set_product", queue=Queue.billing)
def set_product(
    session: database.Session,
    *,
    product_key: fields.ProductKey,
    name: fields.Name,
    type: ProductType,  # noqa: A002 (the message calls it so)
    is_currency: bool | None = None,
    burn_policy: Policy | None = None,
    active: bool | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> ProductAnswer:
    """Make a product or change what is given; what is not given stays.

    Runs when an operator or a catalogue import sends it. Twice is harmless: the same values again
    change nothing. If it dies half way nothing has changed, and the message comes back.

    Refused with code `catalog.key_taken` if the key is an offer's, `product.type_fixed` if the
    product exists with another type, and `product.not_a_currency` if it would be a currency and is
    of another type than quantity, or has the name of an ISO 4217 one.

    Args:
        product_key: 1 to 64 characters, made upper-case; shares its namespace with offers.
        name: what people read, 1 to 200 characters.
        type: quantity is used up; period and unlimited are not, their use is only recorded.
        is_currency: whether offers can be priced in it. A new product is none.
        burn_policy: which credit of equal priority is spent first, from now on: fifo is the oldest,
            soonest_expiry_first what expires next, with what never does last. A new product's is
            fifo.
        active: whether it can be granted. A new product is.
        metadata: merged over what is stored, key by key.
    """
    changed = product.change(
        session,
        product_key,
        now=as_of,
        name=name,
        type_=type,
        is_currency=is_currency,
        burn_policy=burn_policy,
        active=active,
        details=metadata,
    )
    return answer(changed)


@contract.command("billing.get_product", queue=Queue.billing)
def get_product(session: database.Session, *, product_key: fields.ProductKey) -> ProductAnswer:
    """Tell what is known of a product.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `product.unknown`.

    Args:
        product_key: which one.
    """
    return answer(product.get(session, product_key))


@contract.command("billing.list_products", queue=Queue.billing)
def list_products(
    session: database.Session,
    *,
    active: bool | None = None,
    type: ProductType | None = None,  # noqa: A002 (the message calls it so)
    is_currency: bool | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
) -> ProductList:
    """List products by key.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. A product that
    is made between two pages is neither seen twice nor moves another one out of sight.

    Args:
        active: only those that can be granted, or only those that can not; absent, both.
        type: only those of this type.
        is_currency: only those that offers can be priced in, or only the others; absent, both.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: products on one page, 1 to 1,000.
    """
    query = {"active": active, "type": type, "is_currency": is_currency}
    found = product.list_page(
        session,
        product.Filter(active=active, type_=type, is_currency=is_currency),
        after=paging.read(cursor, query, str),
        most=limit + 1,
    )
    page = found[:limit]
    return {
        "products": [answer(one) for one in page],
        "next_cursor": paging.write(query, page[-1].product_key) if len(found) > limit else None,
    }


def answer(found: Product) -> ProductAnswer:
    """Return a stored product as tasks answer it."""
    return {
        "product_key": found.product_key,
        "name": found.name,
        "type": found.type,
        "is_currency": found.is_currency,
        "burn_policy": found.burn_policy,
        "active": found.active,
        "metadata": found.details,
    }
