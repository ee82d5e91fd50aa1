"""Trials: an offer to try, once for each identity, ever."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypedDict
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from models import database
from models.rules import trial as rules
from models.rules.offer import Offer
from models.rules.refusal import Refusal
from models.rules.trial import Identity, Peppers
from models.store import credit, credit_history, offer, product, tenant, trial
from tasks import config, contract, fields, granting, offer_grants
from tasks.announce import announce
from tasks.granting import BatchGiven
from tasks.queues import Queue
from webhooks import events

MOST_IDENTITIES = 20
"""Identities of one claim."""

CAUSE = "trial"
"""The kind of cause of what a trial grants; which one is its id. It is their source as well."""


class NoPepper(Refusal):
    """Identities can not be hashed: this process was given no pepper."""

    code: ClassVar[str] = "trial.no_pepper"


def _provider(value: str) -> str:
    if ":" in value:
        raise PydanticCustomError("provider", "must have no colon")
    return value


def _printable(value: str) -> str:
    if not value.strip() or not value.strip().isprintable():
        raise PydanticCustomError("printable", "must have letters, and no control characters")
    return value


class ClaimedIdentity(BaseModel):
    """Somebody, as a provider knows them. Letter case and spaces around it do not matter.

    Args:
        provider: such as "email", "google" or "card"; 1 to 64 characters, no colon.
        external_id: who they are there; 1 to 256 characters. It is never stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Annotated[
        str,
        Field(min_length=1, max_length=64),
        AfterValidator(_provider),
        AfterValidator(_printable),
    ]
    external_id: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]


Identities = Annotated[list[ClaimedIdentity], Field(min_length=1, max_length=MOST_IDENTITIES)]


class TrialGranted(TypedDict):
    """The trial began at `activated_at` and granted these batches."""

    granted: Literal[True]
    trial_id: UUID
    tenant_id: str
    sku: str
    activated_at: dt.datetime
    batches: list[BatchGiven]


class TrialNotGranted(TypedDict):
    """Nothing happened: one of the identities has had a trial."""

    granted: Literal[False]
    reason: Literal["already_used"]


class Eligibility(TypedDict):
    """Whether a trial would be granted to such identities."""

    eligible: bool
    reason: Literal["already_used"] | None


@contract.command("billing.grant_trial", queue=Queue.billing)
def grant_trial(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    sku: fields.Sku,
    identities: Identities,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> TrialGranted | TrialNotGranted:
    """Grant an offer to be tried, unless one of the identities has ever had a trial.

    Runs when somebody signs up. An identity has one trial, of whatever offer, by whatever tenant,
    and together with whichever others it is named. Of each only a keyed hash is kept, under the
    newest of the operator's peppers; what was kept under an older one still counts. The tenant is
    created if nobody has introduced it.

    Twice is harmless: the same identities for the same tenant and offer are the same trial, and are
    answered with it. If it dies half way nothing was granted and nobody has had a trial, and the
    message comes back. That one had a trial is an answer, not an error: `granted` false. Emits
    billing.credits_granted for each batch and billing.trial_activated.

    Refused with code `offer.unknown`, `offer.inactive`, `trial.not_a_trial`, `trial.no_pepper` or
    `product.inactive`.

    Args:
        tenant_id: who gets it.
        sku: an offer with `is_trial` in its metadata, or in that of all its products.
        identities: 1 to 20 of them, all of whom have had their trial then.
        metadata: kept with the trial, its batches and their ledger entries.
    """
    sold = _trial_offer(session, sku)
    who, peppers = _read(identities), _peppers()
    digests = peppers.digests(who)
    trial.lock(session, digests)
    known = trial.find(session, digests)
    if known:
        return _known(session, known, who, peppers, tenant_id=tenant_id, sku=sku)
    offer_grants.get_active(session, sku)
    tenant.ensure(session, tenant_id, now=as_of)
    trial_id = trial.new_id(as_of)
    done = granting.grant(
        session,
        granting.lots_of(
            sold,
            quantity=1,
            timezone=tenant.get(session, tenant_id).timezone,
            source=CAUSE,
            now=as_of,
        ),
        tenant_id=tenant_id,
        cause=credit.Cause(CAUSE, str(trial_id)),
        details=metadata or {},
        now=as_of,
    )
    trial.add(
        session,
        [peppers.mark(one) for one in who],
        trial_id=trial_id,
        tenant_id=tenant_id,
        sku=sku,
        batch_ids=[one.granted.batch_id for one in done],
        details=metadata or {},
        now=as_of,
    )
    event = events.TrialActivated(tenant_id=tenant_id, trial_id=trial_id, sku=sku)
    announce(session, event, tenant_id=tenant_id, sequence=1, now=as_of)
    return _answer(session, trial_id)


@contract.command("billing.check_trial", queue=Queue.billing)
def check_trial(
    session: database.Session, *, sku: fields.Sku, identities: Identities
) -> Eligibility:
    """Tell whether billing.grant_trial would grant an offer to such identities now.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Another claim
    may come first: only billing.grant_trial decides. Refused as that is.

    Args:
        sku: the offer to try.
        identities: 1 to 20 of them.
    """
    _trial_offer(session, sku)
    offer_grants.get_active(session, sku)
    is_known = bool(trial.find(session, _peppers().digests(_read(identities))))
    return {"eligible": not is_known, "reason": "already_used" if is_known else None}


def _trial_offer(session: database.Session, sku: str) -> Offer:
    found = offer.get(session, sku)
    details = (product.get(session, item.product_key).details for item in found.items)
    if not rules.is_trial(found, details):
        raise rules.NotATrial(
            f"offer {sku!r} is no trial; set is_trial to true in its metadata with "
            "billing.set_offer, or in that of all its products with billing.set_product",
            field="sku",
        )
    return found


def _peppers() -> Peppers:
    found = config.current().trial_peppers
    if found is None:
        raise NoPepper(
            "no pepper was given to this process; set BILLING_TRIAL_PEPPERS to what "
            "`billing keys new` prints, and keep it"
        )
    return found


def _read(identities: Sequence[ClaimedIdentity]) -> list[Identity]:
    """Each identity once, however often and however spelled it was given."""
    given = (Identity(one.provider, one.external_id) for one in identities)
    return list({one.text: one for one in given}.values())


def _known(
    session: database.Session,
    known: dict[bytes, UUID],
    who: Sequence[Identity],
    peppers: Peppers,
    *,
    tenant_id: str,
    sku: str,
) -> TrialGranted | TrialNotGranted:
    """The trial again, if this is the claim that began it; else a no."""
    of_each = [{known.get(digest) for digest in peppers.digests([one])} - {None} for one in who]
    (trial_id, *others) = set(known.values())
    had, number = trial.get(session, trial_id)
    if (
        not others
        and all(of_each)
        and (had.tenant_id, had.sku, number) == (tenant_id, sku, len(who))
    ):
        return _answer(session, trial_id)
    return {"granted": False, "reason": "already_used"}


def _answer(session: database.Session, trial_id: UUID) -> TrialGranted:
    had, _ = trial.get(session, trial_id)
    return {
        "granted": True,
        "trial_id": had.id,
        "tenant_id": had.tenant_id,
        "sku": had.sku,
        "activated_at": had.created_at,
        "batches": granting.given(credit_history.batches_of(session, had.batch_ids)),
    }
