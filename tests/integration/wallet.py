"""Words for stories about credit: short calls, and a look at what the tables hold."""

import datetime as dt
from typing import Any

import orjson
from sqlalchemy import Engine, text

from tasks.catalog import set_product
from tasks.credit_upkeep import audit, expire_batches, expire_reservations
from tasks.credits import add_credits, consume_quota, deduct_after_service, get_balance
from tasks.refunds import refund_use
from tasks.reservations import (
    commit_reserved_credits,
    release_reserved_credits,
    reserve_credits,
)

SOUND = {"ok": True, "findings": [], "next_after": None}
"""What an audit says when all is well."""

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def at(days: float) -> dt.datetime:
    """The instant so many days into the story."""
    return START + dt.timedelta(days=days)


def product(key: str = "CALLS", type_: str = "quantity", **rest: Any) -> None:
    set_product(product_key=key, name=key.title(), type=type_, **rest)


def grant(amount: Any, key: str, *, day: float = 0, **rest: Any) -> Any:
    """Grant with an idempotency key; times are given in days of the story."""
    for name in ("valid_from", "expires_at"):
        if rest.get(name) is not None:
            rest[name] = at(rest[name])
    arguments = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount)}
    return add_credits(**{**arguments, **rest}, idempotency_key=key, as_of=at(day))


def consume(amount: Any, key: str, *, day: float = 0, **rest: Any) -> Any:
    arguments = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount)}
    return consume_quota(**{**arguments, **rest}, idempotency_key=key, as_of=at(day))


def deduct(amount: Any, key: str, *, day: float = 0, **rest: Any) -> Any:
    arguments = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount)}
    return deduct_after_service(**{**arguments, **rest}, idempotency_key=key, as_of=at(day))


def reserve(amount: Any, key: str, *, day: float = 0, days: float = 1, **rest: Any) -> Any:
    """Reserve for so many days of the story."""
    arguments = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount)}
    return reserve_credits(
        **{**arguments, **rest},
        idempotency_key=key,
        ttl_seconds=round(days * 86_400),
        as_of=at(day),
    )


def hold(amount: Any, key: str = "h", **rest: Any) -> str:
    """Reserve, and return the id of the hold."""
    reservation_id: str = reserve(amount, key, **rest)["reservation_id"]
    return reservation_id


def commit(
    reservation_id: str, actual: Any = None, *, key: str = "commit", day: float = 0, **rest: Any
) -> Any:
    return commit_reserved_credits(
        reservation_id=reservation_id,
        actual_amount=None if actual is None else str(actual),
        idempotency_key=key,
        as_of=at(day),
        **rest,
    )


def release(reservation_id: str, *, key: str = "release", day: float = 0, **rest: Any) -> Any:
    return release_reserved_credits(
        reservation_id=reservation_id, idempotency_key=key, as_of=at(day), **rest
    )


def refund(amount: Any = None, *, key: str = "refund", day: float = 0, **use: Any) -> Any:
    """Refund a use of acme's: `consume_key`, `deduct_key` or `reservation_id`."""
    return refund_use(
        **{"tenant_id": "acme", **use},
        amount=None if amount is None else str(amount),
        idempotency_key=key,
        as_of=at(day),
    )


def sweep(day: float) -> Any:
    return expire_batches(as_of=at(day))


def sweep_holds(day: float) -> Any:
    return expire_reservations(as_of=at(day))


def balance(day: float = 0, *, tenant_id: str = "acme", product_key: str = "CALLS") -> Any:
    return get_balance(tenant_id=tenant_id, product_key=product_key, as_of=at(day))


def assert_sound() -> None:
    assert audit() == SOUND


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def events(engine: Engine, topic: str | None = None) -> list[dict[str, Any]]:
    """The bodies of the events in the outbox, in the order they were written."""
    bodies = rows(engine, "SELECT body FROM outbox_messages ORDER BY created_at, sequence, type")
    decoded = [orjson.loads(body) for (body,) in bodies]
    return [event for event in decoded if topic in (None, event["type"])]


def ledger(engine: Engine) -> list[tuple[Any, ...]]:
    """Direction, action, amount and balance_after of each entry, as plain numbers."""
    found = rows(
        engine, "SELECT direction, action, amount, balance_after FROM ledger_entries ORDER BY id"
    )
    return [(direction, action, int(a), int(b)) for direction, action, a, b in found]
