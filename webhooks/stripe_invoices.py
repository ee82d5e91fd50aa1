"""Stripe's API of invoices, as a provider: https://docs.stripe.com/api/invoices.

What we reckoned stands: items carry final amounts, taxes and discounts among them, so that nothing
is reckoned there. Stripe knows a key for 24 hours; after that it is asked first what it has.
"""

from collections.abc import Callable
from typing import Final

from webhooks import stripe_objects, stripe_wire
from webhooks.caller import Caller, Reply
from webhooks.provider import (
    Answer,
    Customer,
    Invoice,
    Note,
    Remote,
    RemoteState,
    Try,
    Verdict,
)
from webhooks.stripe_wire import AmountRefused, Form, Json, Wire

URL: Final = "https://api.stripe.com"

NAME_CHARACTERS: Final = 256
NUMBER_CHARACTERS: Final = 26


class StripeInvoices:
    """One Stripe account. `collects`: it may charge customers for what is final."""

    def __init__(
        self,
        caller: Caller,
        *,
        secret_key: str,
        base_url: str = URL,
        collects: bool = False,
    ) -> None:
        self._wire = Wire(caller, base_url=base_url, secret_key=secret_key)
        self._collects = collects

    def put_customer(
        self, one: Try, who: Customer, *, known: str | None, key_to_make: str
    ) -> Answer:
        """Make the customer, unless its id is known, and bring what is said of it up to date.

        It is made with nothing but what never changes, since a key stands for one form.
        """
        if known is None and one.look_first:
            known, failed = self._find("/v1/customers/search", {"tenant_id": who.tenant_id}, one)
            if failed is not None:
                return failed
        if known is None:
            made = self._post(
                "/v1/customers",
                {"metadata": {"tenant_id": who.tenant_id}},
                one,
                key=key_to_make,
            )
            if made.remote is None:
                return made
            known = made.remote.id
        line, *more = [*who.address, ""]
        return self._post(
            f"/v1/customers/{known}",
            {
                "name": who.name[:NAME_CHARACTERS],
                "description": who.tenant_id,
                "email": who.email,
                "address": {"line1": line, "line2": ", ".join(filter(None, more))}
                if line
                else None,
            },
            one,
        )

    def make_invoice(self, one: Try, what: Invoice, *, customer: str) -> Answer:
        """Make a draft without items, which nobody is charged for and no other items come on to."""
        if one.look_first:
            found, failed = self._find(
                "/v1/invoices/search", {"billing_invoice_id": what.invoice_id}, one
            )
            if failed is not None:
                return failed
            if found is not None:
                return self._get(found, one)
        fits = len(what.number) <= NUMBER_CHARACTERS
        form = {
            "customer": customer,
            "currency": what.currency.lower(),
            "auto_advance": False,
            "collection_method": "charge_automatically",
            "pending_invoice_items_behavior": "exclude",
            "automatic_tax": {"enabled": False},
            "number": what.number if fits else None,
            "description": what.number,
            "metadata": {
                "billing_invoice_id": what.invoice_id,
                "number": what.number,
                "tenant_id": what.tenant_id,
            },
        }
        return self._post("/v1/invoices", form, one, currency=what.currency)

    def add_items(self, one: Try, what: Invoice, *, invoice: str) -> Answer:
        """Put the items on the draft, all at once; refused if its total is not what is due."""
        if one.look_first:
            reply = self._wire.get(f"/v1/invoices/{invoice}/lines", {"limit": 1})
            found = stripe_objects.listed(reply)
            if found is None:
                return self._wire.fault(reply, one)
            if found:
                return stripe_objects.compared(
                    self._get(invoice, one, currency=what.currency), what
                )
        try:
            lines = [
                stripe_objects.line(item, what.currency)
                for item in stripe_objects.folded(what.items)
            ]
        except AmountRefused as error:
            return stripe_objects.refused("provider.amount", str(error))
        answer = self._post(
            f"/v1/invoices/{invoice}/add_lines", {"lines": lines}, one, currency=what.currency
        )
        return stripe_objects.compared(answer, what)

    def finalize(self, one: Try, what: Invoice, *, invoice: str) -> Answer:
        """Make the draft final. One that is final already is what was wanted."""
        answer = self._reach(
            one,
            f"/v1/invoices/{invoice}/finalize",
            {"auto_advance": self._collects},
            invoice=invoice,
            wanted=frozenset(RemoteState) - {RemoteState.draft},
            currency=what.currency,
        )
        return stripe_objects.compared(answer, what)

    def void(self, one: Try, *, invoice: str) -> Answer:
        """Withdraw the invoice."""
        return self._reach(
            one,
            f"/v1/invoices/{invoice}/void",
            {},
            invoice=invoice,
            wanted=frozenset({RemoteState.void}),
        )

    def write_off(self, one: Try, *, invoice: str) -> Answer:
        """Say that nobody will pay the invoice."""
        return self._reach(
            one,
            f"/v1/invoices/{invoice}/mark_uncollectible",
            {},
            invoice=invoice,
            wanted=frozenset({RemoteState.uncollectible}),
        )

    def mark_paid(self, one: Try, *, invoice: str) -> Answer:
        """Say that the invoice was paid elsewhere; nothing is charged.

        It is asked first: where Stripe collects it may know before we do.
        """
        there = self._get(invoice, one)
        if there.remote is None or there.remote.state is RemoteState.paid:
            return there
        return self._reach(
            one,
            f"/v1/invoices/{invoice}/pay",
            {"paid_out_of_band": True},
            invoice=invoice,
            wanted=frozenset({RemoteState.paid}),
        )

    def credit(self, one: Try, note: Note, *, invoice: str) -> Answer:
        """Take back part of what is open, or of what was paid: paid back outside of Stripe."""
        if one.look_first:
            found = self._note_there(note, invoice, one)
            if found is not None:
                return found
        try:
            amount = stripe_wire.to_remote(note.amount_minor, note.currency)
        except AmountRefused as error:
            return stripe_objects.refused("provider.amount", str(error))
        form = {
            "invoice": invoice,
            "amount": amount,
            "out_of_band_amount": amount if note.of_paid else None,
            "memo": f"{note.number}: {note.reason}"[: stripe_objects.TEXT_CHARACTERS],
            "metadata": stripe_objects.note_metadata(note),
        }
        return self._post("/v1/credit_notes", form, one)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def _reach(
        self,
        one: Try,
        path: str,
        form: Form,
        *,
        invoice: str,
        wanted: frozenset[RemoteState],
        currency: str | None = None,
    ) -> Answer:
        """Bring an invoice to a state. If that is refused it may be there, by whosever hand."""
        answer = self._post(path, form, one, currency=currency)
        if answer.verdict is not Verdict.refused:
            return answer
        there = self._get(invoice, one, currency=currency)
        is_there = there.remote is not None and there.remote.state in wanted
        return there if is_there else answer

    def _get(self, invoice: str, one: Try, *, currency: str | None = None) -> Answer:
        reply = self._wire.get(f"/v1/invoices/{invoice}")
        return self._answered(reply, one, stripe_objects.remote_in(currency))

    def _post(
        self,
        path: str,
        form: Form,
        one: Try,
        *,
        currency: str | None = None,
        key: str | None = None,
    ) -> Answer:
        reply = self._wire.post(path, form, key=key or one.key)
        return self._answered(reply, one, stripe_objects.remote_in(currency))

    def _answered(
        self, reply: Reply, one: Try, remote_of: Callable[[Json], Remote | None]
    ) -> Answer:
        is_success = reply.status is not None and 200 <= reply.status <= 299
        read = stripe_wire.read(reply) if is_success else None
        if read is not None and read.get("deleted") is True:
            return stripe_objects.refused(
                "provider.deleted", f"{read.get('id')} was deleted there", reply
            )
        remote = None if read is None else remote_of(read)
        if remote is None:
            return self._wire.fault(reply, one)
        return Answer(Verdict.done, reply.status, reply.latency_ms, remote=remote)

    def _find(
        self, path: str, metadata: dict[str, str], one: Try
    ) -> tuple[str | None, Answer | None]:
        """Look for what carries our name; return its id, or why that can not be told."""
        ((name, value),) = metadata.items()
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        reply = self._wire.get(path, {"query": f"metadata['{name}']:'{quoted}'", "limit": 1})
        found = stripe_objects.listed(reply)
        if found is None:
            return None, self._wire.fault(reply, one)
        return next((each["id"] for each in found if isinstance(each.get("id"), str)), None), None

    def _note_there(self, note: Note, invoice: str, one: Try) -> Answer | None:
        reply = self._wire.get("/v1/credit_notes", {"invoice": invoice, "limit": 100})
        found = stripe_objects.listed(reply)
        if found is None:
            return self._wire.fault(reply, one)
        for each in found:
            if each.get("metadata") == stripe_objects.note_metadata(note) and isinstance(
                each.get("id"), str
            ):
                remote = Remote(each["id"])
                return Answer(Verdict.done, reply.status, reply.latency_ms, remote=remote)
        return None
