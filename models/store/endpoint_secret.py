"""Signing keys of endpoints, sealed: the newest signs for good, older ones until they expire."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session

from models.outbox import EndpointSecret, SecretKind
from models.rules.refusal import Refusal


class UnknownSecret(Refusal):
    """The endpoint has no such key: it never had, or it was revoked or has expired."""

    code: ClassVar[str] = "endpoint.secret_unknown"


class LastSecret(Refusal):
    """It is the only key that signs for good: without it nothing could be sent."""

    code: ClassVar[str] = "endpoint.secret_last"


class TooManySecrets(Refusal):
    """The endpoint has as many live keys as may sign at one time."""

    code: ClassVar[str] = "endpoint.secrets_too_many"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A key as it is kept. Its repr does not show it."""

    id: UUID
    endpoint_id: UUID
    kind: SecretKind
    sealed: bytes = field(repr=False)


def add(session: Session, key: Sealed, *, now: dt.datetime) -> None:
    """Give an endpoint a key that signs until it is rotated or revoked."""
    session.execute(
        insert(EndpointSecret).values(
            id=key.id, endpoint_id=key.endpoint_id, kind=key.kind, sealed=key.sealed, created_at=now
        )
    )


def rotate(
    session: Session, key: Sealed, *, old_until: dt.datetime, most: int, now: dt.datetime
) -> None:
    """Give a locked endpoint a new key; those it has sign beside it until `old_until`.

    One that expires sooner still does.

    Args:
        most: live keys, the new one among them.

    Raises:
        TooManySecrets: it would have more.
    """
    session.execute(
        update(EndpointSecret)
        .where(
            EndpointSecret.endpoint_id == key.endpoint_id,
            or_(EndpointSecret.expires_at.is_(None), EndpointSecret.expires_at > old_until),
        )
        .values(expires_at=old_until)
    )
    live = list_live(session, key.endpoint_id, now=now)
    if len(live) >= most:
        raise TooManySecrets(
            f"endpoint {key.endpoint_id} has {len(live)} live keys and at most {most} sign at one "
            "time; revoke an old one with billing.revoke_endpoint_secret, or wait until "
            f"{min(_until(one) for one in live)}",
            field="endpoint_id",
        )
    add(session, key, now=now)


def revoke(session: Session, endpoint_id: UUID, secret_id: UUID, *, now: dt.datetime) -> None:
    """Destroy a key of a locked endpoint; nothing that is claimed from now on is signed with it.

    Raises:
        UnknownSecret: the endpoint has no such key.
        LastSecret: no other key would sign for good.
    """
    live = list_live(session, endpoint_id, now=now)
    if secret_id not in {one.id for one in live}:
        known = ", ".join(str(one.id) for one in live)
        raise UnknownSecret(
            f"secret_id {str(secret_id)!r} is no live key of endpoint {endpoint_id}, whose keys "
            f"are {known or 'none'}; it may have been revoked before",
            field="secret_id",
        )
    if not any(one.expires_at is None for one in live if one.id != secret_id):
        raise LastSecret(
            f"secret_id {str(secret_id)!r} is the only key of endpoint {endpoint_id} that does not "
            "expire; rotate first with billing.rotate_endpoint_secret, then revoke this one, or "
            "disable the endpoint",
            field="secret_id",
        )
    session.execute(delete(EndpointSecret).where(EndpointSecret.id == secret_id))


def list_live(session: Session, endpoint_id: UUID, *, now: dt.datetime) -> Sequence[EndpointSecret]:
    """Return an endpoint's keys that sign at `now`, the newest first."""
    return session.scalars(
        select(EndpointSecret)
        .where(
            EndpointSecret.endpoint_id == endpoint_id,
            or_(EndpointSecret.expires_at.is_(None), EndpointSecret.expires_at > now),
        )
        .order_by(EndpointSecret.created_at.desc(), EndpointSecret.id)
        .execution_options(populate_existing=True)
    ).all()


def find_sealed(session: Session, secret_id: UUID) -> EndpointSecret | None:
    """Return a key as it is kept, or None when it has been revoked."""
    return session.get(EndpointSecret, secret_id)


def newest(session: Session, *, limit: int) -> list[Sealed]:
    """Return the secrets that are kept, expired or not, the newest first."""
    found = session.scalars(select(EndpointSecret).order_by(EndpointSecret.id.desc()).limit(limit))
    return [Sealed(one.id, one.endpoint_id, SecretKind(one.kind), one.sealed) for one in found]


def forget_expired(session: Session, *, expired_by: dt.datetime) -> int:
    """Destroy keys that expired by then; return how many."""
    gone = session.scalars(
        delete(EndpointSecret)
        .where(EndpointSecret.expires_at <= expired_by)
        .returning(EndpointSecret.id)
    )
    return len(gone.all())


def _until(key: EndpointSecret) -> str:
    return "it does" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M:%SZ}"
