"""What is sold: the products that credit is counted in."""

from typing import Any, TypedDict

from models import database
from models.catalog import ProductType
from models.rules.burndown import Policy
from models.store import product
from tasks import contract, fields
from tasks.queues import Queue


class ProductAnswer(TypedDict):
    """What is known of a product."""

    product_key: str
    name: str
    type: str
    is_currency: bool
    burn_policy: str
    active: bool
    metadata: dict[str, Any]


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

    Refused with code `catalog.key_taken` if the key is an offer's, and `product.type_fixed` if
    the product exists with another type.

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
    return {
        "product_key": changed.product_key,
        "name": changed.name,
        "type": changed.type,
        "is_currency": changed.is_currency,
        "burn_policy": changed.burn_policy,
        "active": changed.active,
        "metadata": changed.details,
    }
