"""One step of an invoice at a provider: what it is told, and by which key."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from models.rules import syncing
from models.rules.decimals import plain
from models.rules.syncing import Step, Todo
from models.store.sync_claim import Leased
from models.store.sync_facts import Facts
from webhooks.provider import Answer, Customer, Invoice, Item, Note, Provider, Try

KEYS_KNOWN: Final = dt.timedelta(hours=20)
"""How long a provider surely knows a key; what was begun before is looked for first. Stripe forgets
them after 24 hours."""


@dataclass(frozen=True, slots=True)
class Work:
    """A step that is to be done of a leased invoice."""

    leased: Leased
    facts: Facts
    todo: Todo


def tell(provider: Provider, work: Work, *, now: dt.datetime) -> Answer:
    """Try the step once, over the network. Nothing the provider does is raised."""
    leased, todo = work.leased, work.todo
    one = Try(
        key=syncing.key(todo.name, str(leased.invoice_id), leased.series),
        now=now,
        look_first=_may_be_forgotten(leased, leased.begun_at, now),
    )
    if todo.step is Step.customer:
        return _tell_customer(provider, work, one)
    if todo.step is Step.invoice:
        customer = leased.done[Step.customer]
        return provider.make_invoice(one, invoice_of(work.facts), customer=customer)
    return _go_on(provider, work, one, invoice=leased.done[Step.invoice])


def invoice_of(facts: Facts) -> Invoice:
    """Return an invoice as a provider is told it: its items sum to what is due."""
    header = facts.header
    return Invoice(
        invoice_id=str(header.id),
        number=header.number or str(header.id),
        tenant_id=header.tenant_id,
        currency=header.currency,
        due_minor=header.amount_due_minor,
        items=_items(facts),
    )


def _go_on(provider: Provider, work: Work, one: Try, *, invoice: str) -> Answer:
    """Tell the next of an invoice that is there."""
    told: dict[Step, Callable[[], Answer]] = {
        Step.items: lambda: provider.add_items(one, invoice_of(work.facts), invoice=invoice),
        Step.finalize: lambda: provider.finalize(one, invoice_of(work.facts), invoice=invoice),
        Step.void: lambda: provider.void(one, invoice=invoice),
        Step.write_off: lambda: provider.write_off(one, invoice=invoice),
        Step.pay: lambda: provider.mark_paid(one, invoice=invoice),
        Step.credit_note: lambda: provider.credit(one, _note(work), invoice=invoice),
        Step.refund_note: lambda: provider.credit(one, _note(work), invoice=invoice),
    }
    return told[work.todo.step]()


def _tell_customer(provider: Provider, work: Work, one: Try) -> Answer:
    leased, facts = work.leased, work.facts
    begun_at = facts.customer_begun_at or leased.begun_at
    look_first = _may_be_forgotten(leased, begun_at, one.now)
    name, address = facts.billed_to.get("name"), facts.billed_to.get("address")
    who = Customer(
        tenant_id=leased.tenant_id,
        name=name or leased.tenant_id,
        address=(address or "").splitlines(),
        email=facts.email,
    )
    return provider.put_customer(
        Try(one.key, one.now, look_first),
        who,
        known=facts.customer,
        key_to_make=syncing.key("make_customer", leased.tenant_id, leased.series),
    )


def _may_be_forgotten(leased: Leased, begun_at: dt.datetime, now: dt.datetime) -> bool:
    return leased.series > 1 or now - begun_at > KEYS_KNOWN


def _items(facts: Facts) -> list[Item]:
    lines = [
        Item(line.description, line.amount_minor, line.period.start, line.period.end)
        for line in facts.lines
    ]
    discounts = [Item(one.name, -one.amount_minor) for one in facts.bill.discounts]
    taxes = [
        Item(f"{one.name} {plain(one.percent)} %", one.amount_minor)
        for one in facts.bill.taxes
        if not one.inclusive
    ]
    credit = facts.header.credit_minor
    said = "Paid from prepaid credit" if credit > 0 else "Kept as prepaid credit"
    return [*lines, *discounts, *taxes, *([Item(said, -credit)] if credit else [])]


def _note(work: Work) -> Note:
    facts, todo = work.facts, work.todo
    if todo.note_id is None:
        raise ValueError(f"{todo.name} names no credit note")
    number, reason = facts.notes[todo.note_id]
    return Note(
        credit_note_id=str(todo.note_id),
        number=number,
        currency=facts.header.currency,
        amount_minor=todo.amount_minor,
        reason=reason,
        of_paid=todo.step is Step.refund_note,
    )
