"""Reservations looked up: one, or a page of them."""

import datetime as dt
from typing import Annotated, Any, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.credit import Reservation
from models.rules import decimals
from models.rules.states import ReservationState
from models.store import reservation
from tasks import contract, fields
from tasks.queues import Queue
from tasks.reservation_answers import BatchAmount

LONGEST_PAGE = 200
"""Reservations in one answer of billing.list_reservations."""


class ReservationAnswer(TypedDict):
    """A reservation: what it set aside of which batches, and what became of it."""

    reservation_id: UUID
    tenant_id: str
    product_key: str
    amount: str
    state: str
    committed_amount: str | None
    reason: str | None
    release_reason: str | None
    expires_at: dt.datetime
    created_at: dt.datetime
    closed_at: dt.datetime | None
    metadata: dict[str, Any]


class ReservationDetails(ReservationAnswer):
    """A reservation with the batches it set something aside of, in the order they are charged."""

    batches: list[BatchAmount]


class ReservationList(TypedDict):
    """Reservations, the newest first. `next_before` goes on behind them; None at the end."""

    reservations: list[ReservationAnswer]
    next_before: UUID | None


@contract.command("billing.get_reservation", queue=Queue.billing)
def get_reservation(session: database.Session, *, reservation_id: UUID) -> ReservationDetails:
    """Tell what a reservation set aside of which batches, and what became of it.

    Runs when somebody asks; it changes nothing, so twice or half way does no harm. A hold whose
    time is over is `held` until the sweep comes by, and can not be charged any more all the same.
    Refused with code `reservation.unknown`.
    """
    found = reservation.get(session, reservation_id)
    parts = reservation.list_slices(session, reservation_id)
    return {
        **_answer(found),
        "batches": [
            {"batch_id": part.batch_id, "amount": decimals.plain(part.amount)} for part in parts
        ],
    }


@contract.command("billing.list_reservations", queue=Queue.billing)
def list_reservations(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    product_key: fields.ProductKey | None = None,
    state: ReservationState | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 50,
) -> ReservationList:
    """List reservations, the newest first.

    Runs when somebody asks; it changes nothing, so twice or half way does no harm.

    Args:
        tenant_id: whose; absent is everybody's.
        product_key: of which product; absent is any.
        state: held, committed, released or expired; absent is any.
        before: `next_before` of the page before.
        limit: how many at most, 1 to 200.
    """
    wanted = reservation.Filter(tenant_id, product_key, state)
    page = reservation.list_page(session, wanted, before=before, most=limit)
    return {
        "reservations": [_answer(found) for found in page],
        "next_before": page[-1].id if len(page) == limit else None,
    }


def _answer(found: Reservation) -> ReservationAnswer:
    committed = found.committed_amount
    return {
        "reservation_id": found.id,
        "tenant_id": found.tenant_id,
        "product_key": found.product_key,
        "amount": decimals.plain(found.amount),
        "state": found.state,
        "committed_amount": None if committed is None else decimals.plain(committed),
        "reason": found.reason,
        "release_reason": found.release_reason,
        "expires_at": found.expires_at,
        "created_at": found.created_at,
        "closed_at": found.closed_at,
        "metadata": found.details,
    }
