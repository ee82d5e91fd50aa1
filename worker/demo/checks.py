"""Whether the books agree with what was sent, worked out apart from the program being checked.

The expected figures are plain Decimal arithmetic over the events that were sent; nothing of
`models.rules` is used for them.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from models import database
from models.rules.states import DeliveryState
from models.store import aggregate, charted, credit_audit, health, invoice
from tasks import invoices
from webhooks import retry
from worker.demo import play, prices, scenario
from worker.demo.report import Outcome, Total

MINOR_UNITS = {"USD": 2, "EUR": 2, "JPY": 0}


def totals(story: scenario.Scenario) -> list[Total]:
    """Compare each tenant's and metric's month, and every day of it, with what was sent."""
    return [
        _total(story, tenant, metric) for tenant in scenario.TENANTS for metric in scenario.METRICS
    ]


def invoices_of(story: scenario.Scenario) -> list[Any]:
    """Return the invoices of the month with their lines, as `billing.get_invoice` answers them."""
    with database.transaction() as session:
        found = invoice.ending_between(
            session, [tenant.tenant_id for tenant in scenario.TENANTS], start=story.start
        )
    return [invoices.get_invoice(invoice_id=header.id) for header in found]


def deliveries() -> dict[DeliveryState, int]:
    """Return how many deliveries are in each state."""
    with database.transaction() as session:
        return health.deliveries(session)


def retried() -> int:
    """Return how many attempts failed, so that the delivery was tried again."""
    with database.transaction() as session:
        tried = charted.attempts(session)
    return sum(one.outcome != retry.Outcome.DELIVERED for one in tried)


def is_everything_sent() -> bool:
    """Tell whether no event waits to be fanned out and no delivery to arrive."""
    with database.transaction() as session:
        if health.backlog(session, now=dt.datetime.max.replace(tzinfo=dt.UTC)).outbox_pending:
            return False
    return not {DeliveryState.pending, DeliveryState.sending} & deliveries().keys()


def faults(story: scenario.Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield a sentence for each thing that does not agree."""
    for verdict in sorted({*story.expected, *outcome.verdicts}):
        sent, found = story.expected[verdict], outcome.verdicts.get(verdict, 0)
        if sent != found:
            yield f"{verdict} events: expected {sent}, found {found}"
    for total in outcome.totals:
        if not total.matches:
            yield f"{total.tenant_id} {total.metric}: sent {total.sent}, in the books {total.found}"
    yield from _invoice_faults(story, outcome)
    yield from _credit_faults(outcome)
    yield from _delivery_faults(outcome)


def _total(story: scenario.Scenario, tenant: scenario.Tenant, metric: str) -> Total:
    length = (scenario.next_month(story.month) - story.month).days
    days = [story.month + dt.timedelta(days=number) for number in range(length)]
    wanted = [
        aggregate.Wanted(
            tenant.tenant_id,
            metric,
            tenant.midnight(day),
            tenant.midnight(day + dt.timedelta(days=1)),
        )
        for day in days
    ]
    with database.transaction() as session:
        found = aggregate.totals(session, wanted)
    expected = [story.daily[tenant.tenant_id, metric, day] for day in days]
    return Total(
        tenant_id=tenant.tenant_id,
        metric=metric,
        sent=story.totals[tenant.tenant_id, metric],
        found=sum(found, Decimal(0)),
        days=length,
        days_agreeing=sum(a == b for a, b in zip(found, expected, strict=True)),
    )


def _invoice_faults(story: scenario.Scenario, outcome: Outcome) -> Iterator[str]:
    invoices_by_tenant = {one["tenant_id"]: one for one in outcome.invoices}
    if len(outcome.invoices) != len(scenario.TENANTS):
        yield f"expected {len(scenario.TENANTS)} invoices, found {len(outcome.invoices)}"
    numbers = sorted(one["number"] or "" for one in outcome.invoices)
    if numbers != [f"INV-{number:06d}" for number in range(1, len(numbers) + 1)]:
        yield f"invoice numbers have gaps: {', '.join(numbers)}"
    for tenant in scenario.TENANTS:
        found = invoices_by_tenant.get(tenant.tenant_id)
        if found is None:
            continue
        lines = {line["description"]: line["amount_minor"] for line in found["lines"]}
        expected = _expected_lines(story, tenant)
        if lines != expected:
            yield f"invoice {found['number']}: expected {expected}, found {lines}"
        steps = _expected_steps(tenant, sum(expected.values()))
        said = {name: found[name] for name in steps}
        if said != steps:
            yield f"invoice {found['number']}: expected {steps}, found {said}"
        if found["state"] != "finalized":
            yield f"invoice {found['number']} of {tenant.tenant_id} is {found['state']}"


def _expected_lines(story: scenario.Scenario, tenant: scenario.Tenant) -> dict[str, int]:
    """What each price must come to on a tenant's invoice, in minor units, by its description."""
    lines = {}
    for price in prices.prices():
        quantity = story.totals[tenant.tenant_id, price.metric] if price.metric else Decimal(1)
        amount = quantity * Decimal(price.unit_amounts[tenant.currency])
        lines[price.description] = _to_minor(amount, MINOR_UNITS[tenant.currency])
    return lines


def _expected_steps(tenant: scenario.Tenant, subtotal: int) -> dict[str, int]:
    """What must lie between a tenant's lines and what it owes, in minor units."""
    discount = tax = 0
    if tenant.coupon_key:
        discount = _part(subtotal, prices.percent_of("coupon", tenant.coupon_key))
    if tenant.tax_key:
        tax = _part(subtotal - discount, prices.percent_of("tax", tenant.tax_key))
    total = subtotal - discount + tax
    prepaid = _to_minor(Decimal(tenant.prepaid or "0"), MINOR_UNITS[tenant.currency])
    return {
        "subtotal_minor": subtotal,
        "discount_minor": discount,
        "tax_minor": tax,
        "total_minor": total,
        "credit_minor": min(total, prepaid),
        "amount_due_minor": total - min(total, prepaid),
    }


def _part(amount_minor: int, percent: Decimal) -> int:
    return _to_minor(amount_minor * percent / 100, 0)


def _credit_faults(outcome: Outcome) -> Iterator[str]:
    batches = len(scenario.TENANTS) * len(play.PROMOTIONS)
    if outcome.expired != batches:
        yield f"expected {batches} batches to expire, {outcome.expired} did"
    for tenant_id, balance in outcome.credit.items():
        if balance != "0":
            yield f"{tenant_id} has {balance} free calls left, all should have expired"
    with database.transaction() as session:
        for finding in credit_audit.audit(session):
            yield f"ledger: {finding}"


def _delivery_faults(outcome: Outcome) -> Iterator[str]:
    seen = outcome.subscriber
    if seen["deliveries"] != outcome.deliveries:
        yield f"{outcome.deliveries} deliveries were sent, {seen['deliveries']} arrived"
    if seen["verified"] != seen["requests"] or seen["refused"]:
        yield f"of {seen['requests']} requests {seen['verified']} were verified"
    # More may have failed: on a busy machine an answer can come too late.
    if seen["turned_away"] > outcome.retried:
        yield f"{seen['turned_away']} were turned away, {outcome.retried} were tried again"
    if seen["strangers"]:
        yield f"{seen['strangers']} events came to another tenant's endpoint"


def _to_minor(amount: Decimal, decimals: int) -> int:
    return int((amount * 10**decimals).quantize(Decimal(1), rounding=ROUND_HALF_UP))
