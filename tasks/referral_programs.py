"""Programmes of referrals: what who brings a tenant gets, and who is brought."""

from typing import Annotated, TypedDict

from pydantic import AfterValidator, Field, StringConstraints

from models import database
from models.referral import ReferralProgram
from models.store import offer, referral_program
from tasks import contract, fields
from tasks.queues import Queue

DEFAULT = "default"
"""The programme of those who name none."""


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have no control characters")
    return value


ProgramKey = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    Field(min_length=1, max_length=64),
    AfterValidator(_printable),
]
"""Which programme: 1 to 64 characters."""


class ProgramAnswer(TypedDict):
    """A programme: an offer for each side, null for a side that gets nothing."""

    program_key: str
    referrer_sku: str | None
    referee_sku: str | None
    active: bool
    version: int


class ProgramList(TypedDict):
    """Every programme, by key."""

    programs: list[ProgramAnswer]


@contract.command("billing.set_referral_program", queue=Queue.billing)
def set_referral_program(
    session: database.Session,
    *,
    program_key: ProgramKey = DEFAULT,
    referrer_sku: fields.Sku | None = None,
    referee_sku: fields.Sku | None = None,
    active: bool = True,
    as_of: fields.Instant = contract.NOW,
) -> ProgramAnswer:
    """Make a referral programme be what is given: its rewards, and whether it takes new referrals.

    Runs when an operator or a catalogue import sends it. Twice is harmless: the same values again
    change nothing. If it dies half way nothing has changed, and the message comes back. Bonuses are
    what the programme says when they are claimed. The offers need not be active: a reward that is
    for sale at no price could be had by anyone.

    Refused with code `offer.unknown` or `referral_program.no_reward`.

    Args:
        program_key: which programme; "default" is that of referrals that name none.
        referrer_sku: the offer that who brings a tenant gets; absent is nothing.
        referee_sku: the offer that who is brought gets; absent is nothing.
        active: whether tenants can still be attached; who was keeps the bonus.
    """
    for sku in filter(None, (referrer_sku, referee_sku)):
        offer.get(session, sku)
    return _answer(
        referral_program.set_(
            session,
            program_key,
            referrer_sku=referrer_sku,
            referee_sku=referee_sku,
            active=active,
            now=as_of,
        )
    )


@contract.command("billing.list_referral_programs", queue=Queue.billing)
def list_referral_programs(session: database.Session) -> ProgramList:
    """List every referral programme, by key.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm.
    """
    return {"programs": [_answer(one) for one in referral_program.list_all(session)]}


def _answer(found: ReferralProgram) -> ProgramAnswer:
    return {
        "program_key": found.program_key,
        "referrer_sku": found.referrer_sku,
        "referee_sku": found.referee_sku,
        "active": found.active,
        "version": found.version,
    }
