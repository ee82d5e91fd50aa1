"""One product of one tenant: locked, and the batches that can pay looked at."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import hot
from models.catalog import ProductType
from models.rules.burndown import Batch, Policy
from models.store import alias, ending
from models.store.ending import Part

FIRST_LOOK = 32
"""Batches read before all of an account's: spending seldom needs more than the first few."""

USABLE = (
    # Written out, not a parameter: only then does a prepared statement use the partial indexes.
    "batch.state = 'ACTIVE' AND batch.valid_from <= :now "
    "AND (batch.expires_at IS NULL OR batch.expires_at > :now)"
)
"""The predicate of batches that hold credit to spend at `:now`; every reader and writer uses it.

`models.rules.burndown.usable` says the same of the times in Python."""

_COLUMNS = """batch.id, batch.created_at, batch.remaining_amount, batch.held_amount,
           batch.valid_from, batch.expires_at, batch.priority"""

_ORDERS = {
    Policy.fifo: "batch.priority, batch.created_at, batch.id",
    Policy.soonest_expiry_first: "batch.priority, batch.expires_at, batch.created_at, batch.id",
}
"""What `models.rules.burndown.order` says, as the indexes have it: no expiry comes last."""


@dataclass(slots=True)
class Account:
    """A locked balance and its product, as they are now in this transaction.

    `version` counts the changes. `has_overdue`: a hold on it was over before the lock was had and
    nobody has ended it yet. `is_current`: what was read with the lock is as it was when it was had.
    `first` are its first usable batches in paying order, None when they have to be read again.
    """

    tenant_id: str
    product_key: str
    type: ProductType
    policy: Policy
    balance: Decimal
    held: Decimal
    debt: Decimal
    version: int
    depleted_at: dt.datetime | None
    has_overdue: bool
    is_current: bool
    first: Sequence[Batch] | None

    @property
    def is_counted(self) -> bool:
        """Whether use takes something away: of other types it is only recorded."""
        return self.type is ProductType.quantity


def lock(session: Session, *, tenant_id: str, product_key: str, now: dt.datetime) -> Account | None:
    """Lock an account until the transaction ends; None if it never had a balance.

    Of a tenant that became part of another one it is the other's: a merge leaves no balance behind.
    """
    first = [row for row in ending.found(session) if row[:_ACCOUNT] == (tenant_id, product_key)]
    rows = first or hot.execute(
        session,
        _LOCK,
        {
            "tenant_id": tenant_id,
            "product_key": product_key,
            "now": now,
            "at_most": FIRST_LOOK,
        },
    )
    if rows:
        return account_of(rows, looked=True)
    owner = alias.follow(session, tenant_id, hold=False)
    if owner == tenant_id:
        return None
    return lock(session, tenant_id=owner, product_key=product_key, now=now)


def at_first(sent: Mapping[str, Any]) -> Part:
    """Have a command that is new lock its tenant's account, if there is one, as it begins.

    `lock` with the instant of the command, which must come before anything else that is done with
    the account, then need not ask.

    Args:
        sent: the command's arguments: the account is that of `product_key`.
    """
    return Part(_AT_FIRST, {"product_key": sent["product_key"], "at_most": FIRST_LOOK})


def locking(owner: str, product: str, *, columns: str, beside: str) -> str:
    """Return a query that locks one account, whose rows `account_of` understands.

    Args:
        owner, product: expressions of whose account it is.
        columns: what follows the account's own in a row.
        beside: items of FROM with those columns, each behind its JOIN.
    """
    return _LOCKING.format(owner=owner, product=product, columns=columns, beside=beside)


def account_of(rows: Sequence[tuple[Any, ...]], *, looked: bool) -> Account:
    """Return the account that was locked.

    Args:
        looked: its first batches are in the rows, behind the account. If not, the first row alone
            is looked at.
    """
    tenant_id, product_key = rows[0][:_ACCOUNT]
    type_, policy, balance, held, debt, version, depleted_at, has_overdue, version_read = rows[0][
        _ACCOUNT:ACCOUNT_COLUMNS
    ]
    # The batches were read before the lock was had: they are of now only if nothing changed since.
    current = version == version_read
    first = (
        [Batch(*row[ACCOUNT_COLUMNS:]) for row in rows if row[ACCOUNT_COLUMNS] is not None]
        if looked and current
        else None
    )
    return Account(
        tenant_id=tenant_id,
        product_key=product_key,
        type=ProductType(type_),
        policy=Policy(policy),
        balance=balance,
        held=held,
        debt=debt,
        version=version,
        depleted_at=depleted_at,
        has_overdue=has_overdue,
        is_current=current,
        first=first,
    )


def lock_or_make(
    session: Session, *, tenant_id: str, product_key: str, now: dt.datetime
) -> Account:
    """Lock an account, made if need be. Tenant and product must exist."""
    session.execute(_MAKE, {"tenant_id": tenant_id, "product_key": product_key, "now": now})
    account = lock(session, tenant_id=tenant_id, product_key=product_key, now=now)
    if account is not None:
        return account
    owner = alias.follow(session, tenant_id, hold=True)
    if owner == tenant_id:
        raise LookupError(f"the balance of {tenant_id!r} was made and is gone")
    return lock_or_make(session, tenant_id=owner, product_key=product_key, now=now)


def usable_batches(session: Session, account: Account, *, now: dt.datetime) -> list[Batch]:
    """Return all usable batches of a locked account in the order they pay."""
    return _batches(session, account, now, at_most=None)


def first_batches(session: Session, account: Account, *, now: dt.datetime) -> Sequence[Batch]:
    """Return the first usable batches of a locked account in the order they pay."""
    if account.first is None:
        account.first = _batches(session, account, now, at_most=FIRST_LOOK)
    return account.first


def has_others(
    session: Session, account: Account, drained: Sequence[Any], *, now: dt.datetime
) -> bool:
    """Tell whether a locked account has usable batches besides those with the ids `drained`."""
    found: bool = session.scalars(
        _OTHERS,
        {
            "tenant_id": account.tenant_id,
            "product_key": account.product_key,
            "drained": list(drained),
            "now": now,
        },
    ).one()
    return found


def _batches(
    session: Session, account: Account, now: dt.datetime, *, at_most: int | None
) -> list[Batch]:
    rows = session.execute(
        _BATCHES[account.policy],
        {
            "tenant_id": account.tenant_id,
            "product_key": account.product_key,
            "now": now,
            "at_most": at_most,
        },
    )
    return [Batch(*row) for row in rows]


_MAKE = text("""
INSERT INTO credit_balances (tenant_id, product_key, updated_at)
SELECT tenant_id, :product_key, :now FROM tenants
-- Nobody who became part of another tenant gets a balance again; a merge under way is waited for.
WHERE tenant_id = :tenant_id AND merged_into IS NULL
FOR KEY SHARE
ON CONFLICT DO NOTHING
""")

_ACCOUNT: Final = 2
"""Columns of a lock that say whose it is: they come first."""

ACCOUNT_COLUMNS: Final = 11
"""Columns of a lock, behind which are those of what was read with it."""

# Lock and first look in one round trip. Only the locked row is of the instant when the lock was
# had; all else, `read` too, is of the statement's beginning. Whoever changes anything under this
# lock raises the version, so equal versions say that nobody changed anything in between.
_FIRST = " UNION ALL ".join(
    f"""(
        SELECT {_COLUMNS}
        FROM credit_batches AS batch
        WHERE product.burn_policy = '{policy.value}'
          AND batch.tenant_id = balance.tenant_id AND batch.product_key = balance.product_key
          AND {USABLE}
        ORDER BY {order} LIMIT :at_most)"""  # noqa: S608 (constants of this module)
    for policy, order in _ORDERS.items()
)

_LOCKING = """
SELECT balance.tenant_id AS owner_id, balance.product_key AS owned_key,
       product.type, product.burn_policy, balance.balance, balance.held, balance.debt,
       balance.version, balance.depleted_at, read.has_overdue, read.version AS version_read,
       {columns}
FROM credit_balances AS balance
JOIN products AS product USING (product_key)
CROSS JOIN LATERAL (
    SELECT before.version,
           before.held > 0 AND EXISTS (
               SELECT FROM reservations AS reservation
               WHERE reservation.tenant_id = before.tenant_id
                 AND reservation.product_key = before.product_key
                 AND reservation.state = 'held' AND reservation.expires_at <= :now) AS has_overdue
    FROM credit_balances AS before
    WHERE before.tenant_id = balance.tenant_id AND before.product_key = balance.product_key
) AS read
{beside}
WHERE balance.tenant_id = {owner} AND balance.product_key = {product}
-- Of the balance only, a product's row is everybody's.
FOR UPDATE OF balance
"""


def _looking(owner: str) -> str:
    beside = f"LEFT JOIN LATERAL ({_FIRST}) AS batch ON true"
    return locking(owner, ":product_key", columns="batch.*", beside=beside)


_LOCK = hot.statement(_looking(":tenant_id"))

# Behind the tenant and the key, as always: only of who is known to be the owner, and only if the
# key was claimed.
_AT_FIRST = _looking("(SELECT tenant_id FROM owner) AND EXISTS (SELECT FROM claimed)")

_BATCHES = {
    policy: text(f"""
    SELECT {_COLUMNS}
    FROM credit_batches AS batch
    WHERE batch.tenant_id = :tenant_id AND batch.product_key = :product_key AND {USABLE}
    ORDER BY {order}
    LIMIT :at_most
    """)  # noqa: S608 (constants of this module)
    for policy, order in _ORDERS.items()
}

_OTHERS = text(f"""
SELECT EXISTS (
    SELECT FROM credit_batches AS batch
    WHERE batch.tenant_id = :tenant_id AND batch.product_key = :product_key AND {USABLE}
      AND batch.id <> ALL(CAST(:drained AS uuid[])))
""")  # noqa: S608 (a constant of this module)
