"""An account at a provider, invoices on their way to it, and what became of both."""

import dataclasses
import datetime as dt
from typing import Any

from tasks import config
from tasks.invoices import finalize_invoice, generate_monthly_invoice
from tasks.syncs import sync_invoices
from tests.integration.billing_world import fee, make_plan, query, subscribe, usage_price, use
from tests.stripe_server import SECRET_KEY, Stripe

LATER = dt.datetime(2026, 12, 31, tzinfo=dt.UTC)


def use_provider(account: Stripe, **chosen: Any) -> None:
    """Let this process tell an account of invoices."""
    wanted: dict[str, Any] = {"secret_key": SECRET_KEY, "timeout": dt.timedelta(seconds=2)}
    told = config.Provider(name="stripe", base_url=account.url, **{**wanted, **chosen})
    config.use(dataclasses.replace(config.current(), provider=told))


def make_offer() -> None:
    make_plan(fee("31", description="Team plan"), usage_price("calls", "0.01"))


def finalized(tenant_id: str = "acme", calls: str = "1234") -> Any:
    """31.00 of a plan and 12.34 of usage, numbered."""
    subscribe(tenant_id, "2026-01-01")
    use(tenant_id, "calls", "2026-01-05", calls)
    draft = generate_monthly_invoice(
        tenant_id=tenant_id, period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )
    return finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)


def run(**after: float) -> Any:
    """One run, as if so much later."""
    return sync_invoices(as_of=LATER + dt.timedelta(**after))


def syncs() -> list[tuple[str, int, str | None]]:
    """State, failed attempts in a row and last fault of each invoice, by number."""
    return query("""
        SELECT s.state, s.attempts, s.code FROM invoice_syncs s
        JOIN invoices ON invoices.id = s.invoice_id ORDER BY number
    """)


def tries() -> list[tuple[str, str, int | None]]:
    """Every try: step, outcome, status."""
    return query("SELECT step, outcome, status FROM invoice_sync_attempts ORDER BY id")
