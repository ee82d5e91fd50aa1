"""Reservations: looked up and listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.credit import Reservation, ReservationSlice
from models.rules.refusal import Refusal
from models.rules.states import ReservationState


class UnknownReservation(Refusal):
    """There is no reservation by this id."""

    code: ClassVar[str] = "reservation.unknown"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reservations are meant; None is any."""

    tenant_id: str | None = None
    product_key: str | None = None
    state: ReservationState | None = None


def get(session: Session, reservation_id: UUID) -> Reservation:
    """Return a reservation as it is now.

    Raises:
        UnknownReservation: there is none by that id.
    """
    found = session.scalars(
        select(Reservation)
        .where(Reservation.id == reservation_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise UnknownReservation(
            f"reservation_id {reservation_id} is unknown; it is the one that "
            "billing.reserve_credits answered with",
            field="reservation_id",
        )
    return found


def get_of(session: Session, reservation_id: UUID, *, tenant_id: str) -> Reservation:
    """Return a reservation of a tenant.

    Raises:
        UnknownReservation: there is none by that id, or it is another tenant's.
    """
    found = get(session, reservation_id)
    if found.tenant_id != tenant_id:
        raise UnknownReservation(
            f"reservation_id {reservation_id} is none of tenant {tenant_id!r}",
            field="reservation_id",
        )
    return found


def list_slices(session: Session, reservation_id: UUID) -> Sequence[ReservationSlice]:
    """Return what a reservation set aside of which batch, in the order they are charged."""
    return session.scalars(
        select(ReservationSlice)
        .where(ReservationSlice.reservation_id == reservation_id)
        .order_by(ReservationSlice.nth)
    ).all()


def list_page(
    session: Session, wanted: Filter, *, before: UUID | None, most: int
) -> Sequence[Reservation]:
    """Return reservations, the newest first, at most `most` of those made before `before`."""
    statement = select(Reservation).order_by(Reservation.id.desc()).limit(most)
    if before is not None:
        statement = statement.where(Reservation.id < before)
    if wanted.tenant_id is not None:
        statement = statement.where(Reservation.tenant_id == wanted.tenant_id)
    if wanted.product_key is not None:
        statement = statement.where(Reservation.product_key == wanted.product_key)
    if wanted.state is not None:
        statement = statement.where(Reservation.state == wanted.state.value)
    return session.scalars(statement).all()
