"""Programmes of referrals: what each side gets."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.referral import ReferralProgram
from models.rules.refusal import Refusal


class UnknownProgram(Refusal):
    """There is no referral programme by this key."""

    code: ClassVar[str] = "referral_program.unknown"


class NoReward(Refusal):
    """A referral programme rewards one side at least."""

    code: ClassVar[str] = "referral_program.no_reward"


def get(session: Session, program_key: str) -> ReferralProgram:
    """Return a programme.

    Raises:
        UnknownProgram: there is none by that key.
    """
    found = session.get(ReferralProgram, program_key)
    if found is None:
        raise UnknownProgram(
            f"program_key {program_key!r} is unknown; make it with billing.set_referral_program",
            field="program_key",
        )
    return found


def list_all(session: Session) -> Sequence[ReferralProgram]:
    """Return every programme, by key."""
    return session.scalars(select(ReferralProgram).order_by(ReferralProgram.program_key)).all()


def set_(
    session: Session,
    program_key: str,
    *,
    referrer_sku: str | None,
    referee_sku: str | None,
    active: bool,
    now: dt.datetime,
) -> ReferralProgram:
    """Make a programme be what is given, and return it. The offers must exist.

    Raises:
        NoReward: neither side gets anything.
    """
    if referrer_sku is None and referee_sku is None:
        raise NoReward(
            f"programme {program_key!r} must have a referrer_sku or a referee_sku, or both",
            field="referrer_sku",
        )
    rewards = {"referrer_sku": referrer_sku, "referee_sku": referee_sku, "active": active}
    session.execute(
        insert(ReferralProgram)
        .values(program_key=program_key, created_at=now, updated_at=now, **rewards)
        .on_conflict_do_nothing()
    )
    program = session.scalars(
        select(ReferralProgram)
        .where(ReferralProgram.program_key == program_key)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    for name, value in rewards.items():
        setattr(program, name, value)
    if session.is_modified(program):
        program.version += 1
        program.updated_at = now
        session.flush()
    return program
