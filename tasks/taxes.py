"""Taxes: the rates there are, and how each tenant is taxed from when on."""

import datetime as dt
from collections import Counter
from typing import Annotated, ClassVar, TypedDict

from pydantic import Field

from models import database
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.store import subscription, tax, tenant
from tasks import contract, fields, line_scope
from tasks.queues import Queue


class InvalidTaxes(Refusal):
    """A tenant pays each rate once, or is exempt and pays none."""

    code: ClassVar[str] = "tax.invalid"


class TaxRateAnswer(TypedDict):
    """A tax of `percent`, on top of prices, or inside them if `inclusive`."""

    tax_key: str
    name: str
    percent: str
    inclusive: bool


class TenantTaxesAnswer(TypedDict):
    """How a tenant is taxed from `effective_at` on."""

    tenant_id: str
    effective_at: dt.datetime
    tax_keys: list[str]
    exempt_note: str | None


@contract.command("billing.set_tax_rate", queue=Queue.billing)
def set_tax_rate(
    session: database.Session,
    *,
    tax_key: fields.Key64,
    name: fields.Name,
    percent: fields.Percent,
    inclusive: bool = False,
    scope: line_scope.LineScope | None = None,
    as_of: fields.Instant = contract.NOW,
) -> TaxRateAnswer:
    """Make a tax rate; what it comes to stays as it was first said.

    Runs when an operator or a deployment sends it. Twice is harmless: the same again changes
    nothing. If it dies half way nothing has changed. A new percentage is a new rate, given to
    tenants from the day on which it holds: what was owed before is taxed as it was.

    Refused with code `tax.rate_fixed`.

    Args:
        tax_key: the rate's name for programs, such as "de-vat-19".
        name: what the invoice says, such as "VAT".
        percent: of the price without the taxes inside it; at most 6 decimals.
        inclusive: whether prices have it inside; else it is put on top.
        scope: the lines it is on; all, if absent.
    """
    tax.set_rate(
        session,
        tax_key,
        name=name,
        percent=percent,
        inclusive=inclusive,
        covers=line_scope.read(scope),
        now=as_of,
    )
    return {"tax_key": tax_key, "name": name, "percent": plain(percent), "inclusive": inclusive}


@contract.command("billing.set_tenant_taxes", queue=Queue.billing)
def set_tenant_taxes(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    tax_keys: Annotated[list[fields.Key64], Field(max_length=10)] | None = None,
    exempt_note: fields.Reason | None = None,
    effective_at: fields.Instant | None = None,
    as_of: fields.Instant = contract.NOW,
) -> TenantTaxesAnswer:
    """Say which taxes a tenant pays from an instant on, or that it is exempt and why.

    Runs when an operator or a sign-up sends it. It holds for the periods that end after
    `effective_at`, until the next one; drafts follow it. Twice is harmless: the same again changes
    nothing. If it dies half way nothing has changed.

    Refused with code `tax.unknown` or `tax.invalid`.

    Args:
        tenant_id: who is taxed; created if nobody has introduced it.
        tax_keys: the rates, in the order the invoice lists them; none, if absent.
        exempt_note: why nothing is taxed, as the invoice says it: "Reverse charge".
        effective_at: from when on; `as_of`, if absent.
    """
    keys = tax_keys or []
    _check(keys, exempt_note)
    tenant.ensure(session, tenant_id, now=as_of)
    subscription.hold_tenant(session, tenant_id)
    tax.set_profile(
        session,
        tenant_id,
        tax_keys=keys,
        exempt_note=exempt_note,
        effective_at=effective_at or as_of,
        now=as_of,
    )
    return {
        "tenant_id": tenant_id,
        "effective_at": effective_at or as_of,
        "tax_keys": keys,
        "exempt_note": exempt_note,
    }


def _check(tax_keys: list[str], exempt_note: str | None) -> None:
    twice = [key for key, count in Counter(tax_keys).items() if count > 1]
    if twice:
        raise InvalidTaxes(f"tax {twice[0]!r} is listed twice; list it once", field="tax_keys")
    if tax_keys and exempt_note is not None:
        raise InvalidTaxes(
            "a tenant with an exempt_note pays no tax; leave tax_keys out", field="tax_keys"
        )
