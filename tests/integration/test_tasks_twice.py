"""Each task run twice, and eight times at once, leaves the state of one run.

A broker delivers at least once and beat rings twice: every task of the register must stand in the
table below, with arguments that make it do something.
"""

import contextlib
import datetime as dt
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import Engine, select, text

from models import database
from models.base import Base
from models.parking import Stage
from models.rules.refusal import Refusal
from models.store import relay
from tasks import config, contract, parking
from tests.conftest import EMPTY_TABLES
from tests.integration.contents import tables_with_rows
from tests.integration.provider_world import use_provider
from tests.receiver import Receiver, receiver
from tests.roles import acting_as, of_task
from tests.stripe_server import Stripe, stripe
from worker import app

AT_ONCE = 8
OPENED = "2026-01-01T00:00:00+00:00"
A_SECOND_LATER = "2026-01-01T00:00:01+00:00"
CLOSED = "2026-02-01T00:00:00+00:00"
HELD_UNTIL = "2026-01-20T00:00:00+00:00"
LATER = "2026-02-03T00:00:00+00:00"

STREAM = "billing:usage"

MADE_UP = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|evt_[0-9a-f]{32}"
    r'|(?<="delivery_id": )[0-9]+|(?<=billing[.]replay_delivery )[0-9]+'
)
"""Ids with a random part, or that a database counts."""

CLOCK = frozenset(
    {
        "created_at",
        "updated_at",
        "due_at",
        "begun_at",
        "attempted_at",
        "completed_at",
        "latency_ms",
    }
)
"""When a row was written and something sent, and how long it took, by the real clock."""

NUMBERED = frozenset({"id", "delivery_id", "archive_id"})
"""Ids that a database counts; an attempt that was undone leaves a gap."""

LOG_OF_TOUCHED_DAYS = "usage_touched_days"
"""A log without a key, on purpose: the same span twice has the same days counted, once."""

STATISTICS = "endpoint_health"
"""Attempts by the half minute, of the real clock: of endpoints that are well, now and then."""

SEALED = frozenset({"sealed", "request_hash", "correlation_id", "fingerprint"})
"""Made of what is random: a secret, the ids of other rows, the id of a call."""


@dataclass(slots=True)
class World:
    """What the tasks work on, and the ids that only it knows."""

    peer: Receiver
    provider: Stripe
    broker_url: str
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    def do(self, name: str, /, **arguments: Any) -> Any:
        """Run a task in this process."""
        return app.tasks[f"billing.{name}"](**arguments)


Arguments = Callable[[World], dict[str, Any]]


def _event(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "tenant_id": "acme",
        "metric": "calls",
        "amount": str(number),
        "at": f"2026-01-{number:02d}T12:00:00+00:00",
        "idempotency_key": f"event-{number}",
        **changed,
    }


CHUNK = [*(_event(number) for number in range(10, 20)), _event(10), _event(11, amount="-1")]
CREDIT = {"tenant_id": "acme", "product_key": "CALLS"}
QUOTA = {"tenant_id": "acme", "metric": "calls"}
PRICE = {"price_key": "calls", "kind": "usage", "metric": "calls", "currency": "USD"}

MONTH_OF_CALLS = {"product_key": "CALLS", "quantity": "50", "period": "months", "value": 1}

ANN = [{"provider": "email", "external_id": "ann@acme.example"}]

ARGUMENTS: dict[str, Arguments] = {
    "billing.add_credits": lambda _: {**CREDIT, "amount": "7", "idempotency_key": "more"},
    "billing.adjust_credits": lambda _: {
        **CREDIT,
        "amount": "-25",
        "reason": "a test",
        "actor": "somebody",
        "idempotency_key": "correct",
    },
    "billing.aggregate_daily": lambda _: {
        "tenant_id": "acme",
        "metric": "calls",
        "day_start": "2026-01-05",
    },
    "billing.aggregate_usage": lambda _: {},
    "billing.allocate_subscription_credits": lambda world: {"subscription_id": world.ids["gold"]},
    "billing.archive_usage": lambda _: {},
    "billing.attach_referral": lambda _: {"tenant_id": "newcomer", "referrer_tenant_id": "acme"},
    "billing.audit": lambda _: {},
    "billing.bill_late_usage": lambda _: {},
    "billing.commit_reserved_credits": lambda world: {
        "reservation_id": world.ids["hold"],
        "actual_amount": "3",
        "idempotency_key": "commit",
        "as_of": HELD_UNTIL,
    },
    "billing.cancel_order": lambda world: {
        "order_id": world.ids["order"],
        "idempotency_key": "no",
    },
    "billing.check_trial": lambda _: {"sku": "TASTE", "identities": ANN},
    "billing.claim_referral_bonus": lambda _: {"tenant_id": "acme"},
    "billing.create_order": lambda _: {
        "tenant_id": "newcomer",
        "items": [{"sku": "STARTER", "quantity": 2}, {"sku": "STARTER"}],
        "idempotency_key": "order",
    },
    "billing.check_entitlement": lambda _: {**QUOTA, "amount": "5"},
    "billing.consume_entitlement": lambda _: {
        **QUOTA,
        "amount": "5",
        "idempotency_key": "use",
    },
    "billing.count_quotas": lambda _: {},
    "billing.consume_quota": lambda _: {**CREDIT, "amount": "30", "idempotency_key": "spend"},
    "billing.create_credit_note": lambda world: {
        "invoice_id": world.ids["invoice"],
        "reason": "a test",
        "amount": "0.10",
        "idempotency_key": "note",
    },
    "billing.create_endpoint": lambda world: {
        "url": world.peer.url,
        "topics": ["*"],
        "tenant_id": "acme",
        "idempotency_key": "another",
    },
    "billing.deduct_after_service": lambda _: {
        **CREDIT,
        "amount": "50",
        "idempotency_key": "after",
    },
    "billing.delete_endpoint": lambda world: {"endpoint_id": world.ids["endpoint"]},
    "billing.deliver_webhooks": lambda _: {},
    "billing.discard_rejected": lambda world: {
        "rejected_message_id": int(world.ids["rejected"]),
        "reason": "a test",
        "actor": "somebody",
    },
    "billing.drain_usage_stream": lambda _: {},
    "billing.disable_endpoint": lambda world: {"endpoint_id": world.ids["endpoint"]},
    "billing.enable_endpoint": lambda world: {"endpoint_id": world.ids["disabled"]},
    "billing.end_entitlement": lambda _: QUOTA,
    "billing.end_coupon": lambda _: {"tenant_id": "acme", "coupon_key": "HELLO"},
    "billing.end_subscription": lambda world: {
        "subscription_id": world.ids["subscription"],
        "ended_at": "2026-03-15T00:00:00+00:00",
        "idempotency_key": "end",
    },
    "billing.exchange": lambda _: {"tenant_id": "acme", "sku": "TREAT", "idempotency_key": "swap"},
    "billing.expire_batches": lambda _: {},
    "billing.expire_reservations": lambda _: {},
    "billing.finalize_invoice": lambda world: {"invoice_id": world.ids["invoice"]},
    "billing.finalize_invoices": lambda _: {},
    "billing.generate_invoices": lambda _: {},
    "billing.generate_monthly_invoice": lambda _: {
        "tenant_id": "acme",
        "period_start": "2026-01-01",
        "period_end": "2026-02-01",
    },
    "billing.cancel_subscription": lambda world: {
        "subscription_id": world.ids["subscription"],
        "idempotency_key": "cancel",
    },
    "billing.change_subscription": lambda world: {
        "subscription_id": world.ids["subscription"],
        "quantity": "3",
        "when": "period_end",
        "idempotency_key": "more seats",
    },
    "billing.reactivate_subscription": lambda world: {"subscription_id": world.ids["subscription"]},
    "billing.undo_change": lambda world: {"subscription_id": world.ids["subscription"]},
    "billing.check_quota": lambda _: CREDIT,
    "billing.get_balance": lambda _: CREDIT,
    "billing.get_entitlements": lambda _: {"tenant_id": "acme"},
    "billing.get_credit_note": lambda world: {"credit_note_id": world.ids["credit_note"]},
    "billing.export_catalog": lambda _: {},
    "billing.get_delivery": lambda world: {"delivery_id": int(world.ids["delivery"])},
    "billing.get_endpoint_stats": lambda world: {"endpoint_id": world.ids["endpoint"]},
    "billing.import_catalog": lambda _: {
        "catalog": {
            "products": [{"product_key": "MINUTES", "name": "Minutes"}],
            "plans": [
                {
                    "plan_key": "silver",
                    "name": "Silver",
                    "prices": [{**PRICE, "unit_amount": "2"}],
                    "credits": [{"product_key": "MINUTES", "credit_limit": "5"}],
                }
            ],
        }
    },
    "billing.list_deliveries": lambda _: {},
    "billing.get_endpoint": lambda world: {"endpoint_id": world.ids["endpoint"]},
    "billing.get_invoice": lambda world: {"invoice_id": world.ids["invoice"]},
    "billing.get_reservation": lambda world: {"reservation_id": world.ids["hold"]},
    "billing.get_order": lambda world: {"order_id": world.ids["order"]},
    "billing.get_referral_stats": lambda _: {"tenant_id": "acme"},
    "billing.grant_trial": lambda _: {"tenant_id": "acme", "sku": "TASTE", "identities": ANN},
    "billing.list_orders": lambda _: {},
    "billing.list_referral_programs": lambda _: {},
    "billing.list_referrals": lambda _: {},
    "billing.get_plan": lambda _: {"plan_key": "pro"},
    "billing.get_notices": lambda _: {"tenant_id": "acme"},
    "billing.list_endpoints": lambda _: {},
    "billing.list_entitlements": lambda _: {},
    "billing.list_invoices": lambda _: {},
    "billing.list_meters": lambda _: {},
    "billing.list_reservations": lambda _: {},
    "billing.get_batch": lambda world: {"tenant_id": "acme", "batch_id": world.ids["batch"]},
    "billing.get_offer": lambda _: {"sku": "STARTER"},
    "billing.get_product": lambda _: {"product_key": "CALLS"},
    "billing.grant_credits": lambda _: {
        **CREDIT,
        "amount": "5",
        "reason": "a test",
        "actor": "somebody",
        "idempotency_key": "sorry",
    },
    "billing.grant_offer": lambda _: {
        "tenant_id": "acme",
        "sku": "STARTER",
        "source": "shop",
        "idempotency_key": "buy",
    },
    "billing.get_wallet": lambda _: {"tenant_id": "acme"},
    "billing.list_batches": lambda _: {"tenant_id": "acme"},
    "billing.list_ledger": lambda _: {"tenant_id": "acme"},
    "billing.list_offers": lambda _: {},
    "billing.list_products": lambda _: {},
    "billing.list_parked": lambda _: {},
    "billing.list_syncs": lambda _: {},
    "billing.get_sync": lambda world: {"invoice_id": world.ids["invoice"]},
    "billing.retry_sync": lambda world: {"invoice_id": world.ids["invoice"]},
    "billing.set_provider_customer": lambda _: {"tenant_id": "acme", "remote_id": "cus_1"},
    "billing.sync_invoices": lambda _: {},
    "billing.get_subscription": lambda world: {"subscription_id": world.ids["subscription"]},
    "billing.list_subscriptions": lambda _: {"tenant_id": "acme"},
    "billing.list_plans": lambda _: {},
    "billing.retry_parked": lambda _: {"tenant_id": "acme"},
    "billing.list_prices": lambda _: {},
    "billing.list_usage": lambda _: {
        "tenant_id": "acme",
        "metric": "calls",
        "granularity": "day",
        "date_from": "2026-01-01",
        "date_to": "2026-02-01",
    },
    "billing.find_tenant": lambda _: {"provider": "google", "external_id": "4711"},
    "billing.get_tenant": lambda _: {"tenant_id": "acme"},
    "billing.list_tenants": lambda _: {},
    "billing.link_identity": lambda _: {
        "tenant_id": "acme",
        "provider": "github",
        "external_id": "Ada",
    },
    "billing.unlink_identity": lambda _: {
        "tenant_id": "acme",
        "provider": "google",
        "external_id": "4711",
    },
    "billing.identify": lambda _: {
        "provider": "google",
        "external_id": "4711",
        "profile": {"name": "Acme"},
    },
    "billing.erase_tenant": lambda _: {
        "tenant_id": "acme",
        "reason": "a test",
        "actor": "somebody",
        "force": True,
        "idempotency_key": "erase",
    },
    "billing.import_legacy": lambda _: {
        "kind": "balance",
        "rows": [
            {
                "migration_source_id": "old-1",
                "tenant_id": "acme",
                "product_key": "CALLS",
                "amount": "12",
            }
        ],
    },
    "billing.merge_customers": lambda _: {
        "target": "acme",
        "source": "anon-17",
        "idempotency_key": "merge",
    },
    "billing.move_merged_usage": lambda _: {},
    "billing.preview_merge": lambda _: {"target": "acme", "source": "anon-17"},
    "billing.notify_expiring_credits": lambda _: {},
    "billing.notify_low_credits": lambda _: {},
    "billing.ping_endpoint": lambda world: {
        "endpoint_id": world.ids["endpoint"],
        "idempotency_key": "ping",
    },
    "billing.prepare_partitions": lambda _: {},
    "billing.preview_invoice": lambda _: {"tenant_id": "acme"},
    "billing.process_payment": lambda world: {
        "order_id": world.ids["order"],
        "payment_id": "pay-1",
        "payment_method": "stripe",
        "amount": "18",
    },
    "billing.purge": lambda _: {"as_of": "2027-01-01T00:00:00+00:00"},
    "billing.quote": lambda _: {
        "model": "per_unit",
        "params": {"unit_price": "0.01"},
        "currency": "USD",
        "input": {"units": "250"},
    },
    "billing.record_payment": lambda world: {
        "invoice_id": world.ids["invoice"],
        "payment_id": "pay-1",
        "amount": "0.20",
    },
    "billing.record_usage": lambda _: {"events": CHUNK},
    "billing.recount_quotas": lambda _: {},
    "billing.recount_usage": lambda _: {"as_of": "2026-01-09T12:00:00+00:00"},
    "billing.refresh_drafts": lambda _: {},
    "billing.refund_order": lambda world: {
        "order_id": world.ids["order"],
        "reason": "a test",
        "idempotency_key": "back",
    },
    "billing.set_referral_program": lambda _: {"referrer_sku": "STARTER", "referee_sku": "TREAT"},
    "billing.refund_use": lambda _: {
        "tenant_id": "acme",
        "consume_key": "used",
        "amount": "25",
        "idempotency_key": "refund",
    },
    "billing.release_reserved_credits": lambda world: {
        "reservation_id": world.ids["hold"],
        "idempotency_key": "release",
        "as_of": HELD_UNTIL,
    },
    "billing.renew_subscriptions": lambda _: {},
    "billing.redeem_coupon": lambda _: {"tenant_id": "newcomer", "coupon_key": "HELLO"},
    "billing.render_invoice": lambda world: {"invoice": world.ids["invoice"]},
    "billing.replay_deliveries": lambda world: {
        "endpoint_id": world.ids["endpoint"],
        "since": OPENED,
        "idempotency_key": "replay",
    },
    "billing.replay_delivery": lambda world: {
        "delivery_id": int(world.ids["delivery"]),
        "idempotency_key": "replay",
    },
    "billing.replay_rejected": lambda world: {
        "rejected_message_id": int(world.ids["rejected"]),
        "payload": _event(9),
        "actor": "somebody",
    },
    "billing.reserve_credits": lambda _: {**CREDIT, "amount": "5", "idempotency_key": "hold"},
    "billing.set_entitlement": lambda _: {**QUOTA, "limit": "70", "soft": True},
    "billing.revoke": lambda _: {
        "tenant_id": "acme",
        "source": "manual",
        "reason": "a test",
        "actor": "somebody",
        "idempotency_key": "take back",
    },
    "billing.revoke_endpoint_secret": lambda world: {
        "endpoint_id": world.ids["endpoint"],
        "secret_id": world.ids["secret"],
        "idempotency_key": "away",
    },
    "billing.rotate_endpoint_secret": lambda world: {
        "endpoint_id": world.ids["endpoint"],
        "idempotency_key": "rotate",
    },
    "billing.set_auto_renew": lambda world: {
        "subscription_id": world.ids["gold"],
        "auto_renew": False,
    },
    "billing.set_coupon": lambda _: {
        "coupon_key": "MORE",
        "name": "More",
        "percent": "10",
        "max_redemptions": 3,
    },
    "billing.set_issuer": lambda _: {"name": "Us", "address": "1 Road\nTown"},
    "billing.set_meter": lambda _: {"metric": "calls", "aggregation": "count"},
    "billing.set_notices": lambda _: {**CREDIT, "low": ["10", "30"], "expiring_days": [7]},
    "billing.set_offer": lambda _: {"sku": "STARTER", "price": "12", "items": [MONTH_OF_CALLS]},
    "billing.set_plan": lambda _: {
        "plan_key": "pro",
        "name": "Professional",
        "prices": [{**PRICE, "unit_amount": "0.02"}],
    },
    "billing.set_price": lambda _: {
        "plan_key": "pro",
        "price": {**PRICE, "model": "graduated", "params": {"tiers": [{"unit_price": "0.02"}]}},
    },
    "billing.set_product": lambda _: {"product_key": "MORE", "name": "More", "type": "quantity"},
    "billing.set_subscription": lambda _: {
        "tenant_id": "newcomer",
        "plan_key": "pro",
        "idempotency_key": "join",
    },
    "billing.set_tax_rate": lambda _: {"tax_key": "vat", "name": "VAT", "percent": "20"},
    "billing.set_tenant": lambda _: {
        "tenant_id": "acme",
        "name": "Acme",
        "metadata": {"plan": "gold"},
    },
    "billing.skip_delivery": lambda world: {
        "delivery_id": int(world.ids["delivery"]),
        "reason": "a test",
    },
    "billing.set_prepaid_product": lambda _: {"currency": "EUR", "product_key": "MONEY"},
    "billing.set_tenant_taxes": lambda _: {"tenant_id": "acme", "exempt_note": "Reverse charge"},
    "billing.void_invoice": lambda world: {
        "invoice_id": world.ids["invoice"],
        "reason": "a test",
    },
    "billing.update_endpoint": lambda world: {
        "endpoint_id": world.ids["endpoint"],
        "description": "changed",
        "headers": {"X-Key": "hush"},
        "rate_per_minute": 90,
    },
    "billing.void_usage": lambda _: {
        "tenant_id": "acme",
        "metric": "calls",
        "idempotency_key": "event-3",
        "reason": "a test",
        "actor": "somebody",
    },
    "billing.write_off_invoice": lambda world: {
        "invoice_id": world.ids["invoice"],
        "reason": "a test",
    },
}

BEFORE_CREDIT_EXPIRES = frozenset(
    {"billing.adjust_credits", "billing.consume_quota", "billing.notify_expiring_credits"}
)

PLANS_CREDIT = frozenset(
    {
        "billing.allocate_subscription_credits",
        "billing.renew_subscriptions",
        "billing.set_auto_renew",
    }
)

CHANGES_NOTHING = frozenset(
    {
        "billing.check_entitlement",
        "billing.export_catalog",
        "billing.check_trial",
        "billing.get_order",
        "billing.get_referral_stats",
        "billing.list_orders",
        "billing.list_referral_programs",
        "billing.list_referrals",
        "billing.get_balance",
        "billing.get_delivery",
        "billing.get_endpoint",
        "billing.get_endpoint_stats",
        "billing.list_deliveries",
        "billing.get_entitlements",
        "billing.get_credit_note",
        "billing.get_invoice",
        "billing.get_notices",
        "billing.get_reservation",
        "billing.get_sync",
        "billing.list_syncs",
        "billing.get_plan",
        "billing.list_endpoints",
        "billing.list_entitlements",
        "billing.list_invoices",
        "billing.list_meters",
        "billing.list_reservations",
        "billing.check_quota",
        "billing.get_batch",
        "billing.get_offer",
        "billing.get_product",
        "billing.get_subscription",
        "billing.get_wallet",
        "billing.list_batches",
        "billing.list_ledger",
        "billing.list_offers",
        "billing.list_products",
        "billing.list_parked",
        "billing.list_subscriptions",
        "billing.list_plans",
        "billing.list_prices",
        "billing.list_usage",
        "billing.find_tenant",
        "billing.preview_merge",
        "billing.get_tenant",
        "billing.list_tenants",
        "billing.preview_invoice",
        "billing.quote",
        "billing.render_invoice",
    }
)


QUOTAS = frozenset(
    {
        "billing.check_entitlement",
        "billing.consume_entitlement",
        "billing.count_quotas",
        "billing.end_entitlement",
        "billing.get_entitlements",
        "billing.recount_quotas",
        "billing.set_entitlement",
    }
)
"""What works on a limit, some of it used, and usage that no counter counts yet."""


@pytest.fixture
def world(broker_url: str, tmp_path: Path) -> Iterator[World]:
    """The far end of the webhooks, a provider, a Redis on which nothing waits, an empty folder."""
    with receiver() as peer, stripe() as provider:
        yield World(peer, provider, broker_url, tmp_path)
    with contextlib.closing(Redis.from_url(broker_url)) as client:
        client.delete(STREAM)


@pytest.fixture(params=sorted(contract.REGISTRY))
def name(request: pytest.FixtureRequest) -> str:
    """The name of a task of the register, each in turn."""
    given: str = request.param
    return given


def test_every_task_stands_in_the_table() -> None:
    assert not contract.REGISTRY.keys() - ARGUMENTS.keys()


@pytest.mark.slow
def test_twice_or_eight_at_once_leaves_the_state_of_one(
    db: Engine, world: World, name: str, roles: None
) -> None:
    """With the rights of a worker of its queue, and no others."""
    arguments = furnish(world, name)
    furnished = contents(db)
    seen_again = SEEN_AGAIN.get(name, frozenset())
    role = of_task(name)

    with acting_as(db, role):
        first = run(name, arguments)
    once = contents(db)
    one = of_one_world(once)
    with acting_as(db, role):
        again = run(name, arguments)

    assert (once == furnished) == (name in CHANGES_NOTHING)
    assert_same(contents(db), once, but_for=seen_again)
    if "idempotency_key" in arguments:
        assert again == first

    if name not in CHANGES_NOTHING:
        with db.begin() as connection:
            connection.execute(text(EMPTY_TABLES))
        arguments = furnish(world, name)

    with acting_as(db, role):
        answers = at_once(name, arguments)

    assert_same(of_one_world(contents(db)), one, but_for=seen_again)
    if "idempotency_key" in arguments:
        assert all(answer == answers[0] for answer in answers)


def at_once(name: str, arguments: dict[str, Any]) -> list[Any]:
    """Run a task in eight threads that begin at the same instant."""
    gate = threading.Barrier(AT_ONCE)

    def call(_: int) -> Any:
        gate.wait()
        return run(name, arguments)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(call, range(AT_ONCE)))


WITH_A_HOLD = frozenset(
    {
        "billing.commit_reserved_credits",
        "billing.expire_reservations",
        "billing.get_reservation",
        "billing.list_reservations",
        "billing.release_reserved_credits",
    }
)

SEEN_AGAIN = {"billing.record_usage": frozenset({"seen_count", "last_seen_at"})}
"""A bad event that comes again is counted where it is kept: that is what these columns are for."""


def furnish(world: World, name: str) -> dict[str, Any]:
    """Make a world in which the task has something to do; return the task's arguments."""
    do, opened = world.do, {"as_of": OPENED}
    do("set_product", product_key="CALLS", name="Calls", type="quantity", **opened)
    do(
        "set_product",
        product_key="COINS",
        name="Coins",
        type="quantity",
        is_currency=True,
        **opened,
    )
    for sku, paid_in in (("STARTER", "USD"), ("TREAT", "COINS")):
        items = [MONTH_OF_CALLS, {"product_key": "COINS", "quantity": "3"}]
        do("set_offer", sku=sku, name=sku, price="9", currency=paid_in, items=items, **opened)
    do(
        "set_plan",
        plan_key="pro",
        name="Pro",
        prices=[{**PRICE, "unit_amount": "0.013"}],
        **opened,
    )
    do("set_tenant", tenant_id="acme", **opened)
    for key, disabled in (("endpoint", False), ("disabled", True)):
        made = do(
            "create_endpoint",
            url=world.peer.url,
            topics=["*"],
            tenant_id="acme",
            idempotency_key=key,
            **opened,
        )
        world.ids[key] = made["endpoint_id"]
        if disabled:
            do("disable_endpoint", endpoint_id=made["endpoint_id"], **opened)
    subscription = do(
        "set_subscription", tenant_id="acme", plan_key="pro", idempotency_key="s", **opened
    )
    world.ids["subscription"] = subscription["subscription_id"]
    # One after the other: of two batches of one instant it is chance which is spent first.
    for key, over, at in (("short", CLOSED, OPENED), ("long", None, A_SECOND_LATER)):
        batch = {"amount": "20", "idempotency_key": key, "expires_at": over, "as_of": at}
        world.ids["batch"] = do("add_credits", **CREDIT, **batch)["batch_id"]
    coins = {"tenant_id": "acme", "product_key": "COINS", "amount": "20"}
    do("add_credits", **coins, idempotency_key="coins", as_of=A_SECOND_LATER)
    do("record_usage", events=[_event(number) for number in range(1, 9)], as_of=CLOSED)
    _furnish_for(name, world)
    return {**_as_of(name), **ARGUMENTS[name](world)}


def _furnish_for(name: str, world: World) -> None:
    """Add what only this task has to do with."""
    if name == "billing.refund_use":
        world.do("consume_quota", **CREDIT, amount="30", idempotency_key="used", as_of=HELD_UNTIL)
    if name in WITH_A_HOLD:
        _reserve(world)
    if name in QUOTAS:
        _use_quota(world)
    if name in PLANS_CREDIT:
        _give_plans_credit(world)
    if name in FURNISHED:
        FURNISHED[name](world)


def _reserve(world: World) -> None:
    held = world.do(
        "reserve_credits",
        **CREDIT,
        amount="4",
        ttl_seconds=86_400,
        idempotency_key="held",
        as_of="2026-01-19T12:00:00+00:00",
    )
    world.ids["hold"] = held["reservation_id"]


def _use_quota(world: World) -> None:
    world.do("set_entitlement", **QUOTA, limit="7", as_of=OPENED)
    world.do("consume_entitlement", **QUOTA, amount="1", idempotency_key="first", as_of=LATER)
    late = _event(8, amount="9", at=LATER, idempotency_key="late")
    world.do("record_usage", events=[late], as_of=LATER)


def _give_plans_credit(world: World) -> None:
    gold: dict[str, Any] = {"plan_key": "gold", "as_of": OPENED}
    month = {"product_key": "CALLS", "credit_limit": "9", "rollover": "all"}
    world.do("set_plan", name="Gold", prices=[], credits=[month], **gold)
    made = world.do("set_subscription", tenant_id="acme", idempotency_key="gold", **gold)
    world.ids["gold"] = made["subscription_id"]


def _reject_an_event(world: World) -> None:
    answer = world.do("record_usage", events=[_event(9, amount="-1")], as_of=CLOSED)
    world.ids["rejected"] = str(answer["refused"][0]["rejected_message_id"])


def _fill_the_stream(world: World) -> None:
    where: dict[str, Any] = {"stream_url": world.broker_url}
    config.use(replace(config.current(), **where))
    with contextlib.closing(Redis.from_url(world.broker_url)) as client:
        for event in CHUNK:
            client.xadd(STREAM, {"event": json.dumps(event)})


def _let_quotas_drift(_: World) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE quota_counters SET used = used + 1"))


def _let_totals_drift(world: World) -> None:
    world.do("aggregate_usage", as_of=CLOSED)
    with database.transaction() as session:
        session.execute(text("UPDATE usage_aggregates SET total = total + 1"))


def _grow_old(world: World) -> None:
    _make_an_invoice(world)
    world.do("finalize_invoice", invoice_id=world.ids["invoice"], as_of=CLOSED)
    retention: Any = config.Retention(after=dt.timedelta(days=1), folder=world.folder)
    config.use(replace(config.current(), retention=retention))


def _relay(world: World) -> None:
    with database.transaction() as session:
        relay.fan_out(session, most=100, now=dt.datetime.now(dt.UTC))
        first = session.scalars(text("SELECT min(id) FROM deliveries WHERE state = 'pending'"))
        world.ids["delivery"] = str(first.one())


def _let_deliveries_die(world: World) -> None:
    _relay(world)
    with database.transaction() as session:
        session.execute(
            text("UPDATE deliveries SET state = 'dead', completed_at = now() WHERE id = :one"),
            {"one": int(world.ids["delivery"])},
        )
        endpoint_id = session.scalar(
            text("SELECT endpoint_id::text FROM deliveries WHERE id = :one"),
            {"one": int(world.ids["delivery"])},
        )
        world.ids["endpoint"] = str(endpoint_id)


def _grow_old_and_told(world: World) -> None:
    world.do("prepare_partitions", as_of=OPENED)
    _relay(world)
    with database.transaction() as session:
        session.execute(
            text("UPDATE deliveries SET state = 'delivered', completed_at = now() - interval '1 y'")
        )


def _rotate(world: World) -> None:
    rotated: dict[str, Any] = {"endpoint_id": world.ids["endpoint"], "keep_old_seconds": 604_800}
    made = world.do(
        "rotate_endpoint_secret", **rotated, idempotency_key="before", as_of="2026-02-02T12:00:00Z"
    )
    old = world.do("get_endpoint", endpoint_id=rotated["endpoint_id"], as_of=LATER)["keys"]
    [world.ids["secret"]] = [
        one["secret_id"] for one in old if one["secret_id"] != made["secret_id"]
    ]


def _make_an_invoice(world: World) -> None:
    arguments = ARGUMENTS["billing.generate_monthly_invoice"](world)
    made = world.do("generate_monthly_invoice", **arguments, as_of=CLOSED)
    world.ids["invoice"] = made["invoice_id"]


def _leave_and_use_late(world: World) -> None:
    world.do(
        "end_subscription", subscription_id=world.ids["subscription"], ended_at=CLOSED, as_of=CLOSED
    )
    _finalize_an_invoice(world)
    world.do("record_usage", **_event(25), as_of=CLOSED)
    world.do("aggregate_usage", as_of=CLOSED)


def _draft_and_use(world: World) -> None:
    world.do("generate_invoices", as_of=CLOSED)
    world.do("record_usage", **_event(25), as_of=CLOSED)
    world.do("aggregate_usage", as_of=CLOSED)


def _cancel(world: World) -> None:
    ended = {"subscription_id": world.ids["subscription"], "ended_at": "2026-12-01T00:00:00+00:00"}
    world.do("end_subscription", **ended, as_of=OPENED)


def _plan_more_seats(world: World) -> None:
    more = {"subscription_id": world.ids["subscription"], "quantity": "7", "when": "period_end"}
    world.do("change_subscription", **more, idempotency_key="seats to come", as_of=LATER)


def _park(_: World) -> None:
    fault = ValueError("a test")
    parking.park("acme", Stage.invoicing, fault, now=dt.datetime.fromisoformat(LATER))


def _finalize_an_invoice(world: World) -> None:
    _make_an_invoice(world)
    world.do("finalize_invoice", invoice_id=world.ids["invoice"], as_of=CLOSED)


def _have_a_provider(world: World) -> None:
    use_provider(world.provider)
    world.provider.account.begin_anew()
    _finalize_an_invoice(world)


def _take_an_invoice_back(world: World) -> None:
    _finalize_an_invoice(world)
    arguments = ARGUMENTS["billing.create_credit_note"](world)
    note = world.do("create_credit_note", **arguments, as_of=CLOSED)
    world.ids["credit_note"] = note["credit_note_id"]


def _redeem_a_coupon(world: World) -> None:
    world.do("set_coupon", coupon_key="HELLO", name="Hello", percent="5", as_of=OPENED)
    world.do("redeem_coupon", tenant_id="acme", coupon_key="HELLO", as_of=OPENED)


def _make_money(world: World) -> None:
    money = {"name": "Money", "type": "quantity", "is_currency": True}
    world.do("set_product", product_key="MONEY", **money, as_of=OPENED)


def _come_near_a_threshold(world: World) -> None:
    at = {"as_of": A_SECOND_LATER}
    world.do("set_notices", **CREDIT, low=["30"], expiring_days=[7], **at)
    world.do("consume_quota", **CREDIT, amount="15", idempotency_key="use", **at)


def _order(world: World) -> None:
    items = [{"sku": "STARTER", "quantity": 2}]
    made = world.do(
        "create_order", tenant_id="acme", items=items, idempotency_key="o", as_of=HELD_UNTIL
    )
    world.ids["order"] = made["order_id"]


def _buy(world: World) -> None:
    _order(world)
    arguments = ARGUMENTS["billing.process_payment"](world)
    world.do("process_payment", **arguments, as_of=HELD_UNTIL)


def _sell_a_trial(world: World) -> None:
    items = [MONTH_OF_CALLS, {"product_key": "COINS", "quantity": "3"}]
    trial: dict[str, Any] = {"price": "0", "currency": "USD", "metadata": {"is_trial": True}}
    world.do("set_offer", sku="TASTE", name="Taste", items=items, **trial, as_of=OPENED)


def _start_a_program(world: World) -> None:
    arguments = ARGUMENTS["billing.set_referral_program"](world)
    world.do("set_referral_program", **arguments, as_of=OPENED)


def _bring_a_buyer(world: World) -> None:
    _start_a_program(world)
    world.do("set_tenant", tenant_id="friend", as_of=OPENED)
    world.do("attach_referral", tenant_id="acme", referrer_tenant_id="friend", as_of=OPENED)
    _buy(world)


def _know_by_name(world: World) -> None:
    world.do("link_identity", tenant_id="acme", provider="google", external_id="4711")


def _meet_a_stranger(world: World) -> None:
    stranger: dict[str, Any] = {"tenant_id": "anon-17", "product_key": "CALLS"}
    world.do("add_credits", **stranger, amount="3", idempotency_key="gift", as_of=OPENED)
    world.do("record_usage", events=[_event(3, tenant_id="anon-17")], as_of=CLOSED)


def _merge_a_stranger(world: World) -> None:
    _meet_a_stranger(world)
    world.do(
        "merge_customers", target="acme", source="anon-17", idempotency_key="merge", as_of=CLOSED
    )


FURNISHED: dict[str, Callable[[World], None]] = {
    "billing.erase_tenant": _know_by_name,
    "billing.merge_customers": _meet_a_stranger,
    "billing.preview_merge": _meet_a_stranger,
    "billing.move_merged_usage": _merge_a_stranger,
    "billing.find_tenant": _know_by_name,
    "billing.identify": _know_by_name,
    "billing.unlink_identity": _know_by_name,
    "billing.archive_usage": _grow_old,
    "billing.attach_referral": _start_a_program,
    "billing.cancel_order": _order,
    "billing.check_trial": _sell_a_trial,
    "billing.claim_referral_bonus": _bring_a_buyer,
    "billing.get_order": _order,
    "billing.grant_trial": _sell_a_trial,
    "billing.list_orders": _order,
    "billing.list_referrals": _bring_a_buyer,
    "billing.process_payment": _order,
    "billing.refund_order": _buy,
    "billing.discard_rejected": _reject_an_event,
    "billing.replay_rejected": _reject_an_event,
    "billing.drain_usage_stream": _fill_the_stream,
    "billing.notify_expiring_credits": _come_near_a_threshold,
    "billing.notify_low_credits": _come_near_a_threshold,
    "billing.recount_quotas": _let_quotas_drift,
    "billing.recount_usage": _let_totals_drift,
    "billing.get_delivery": _relay,
    "billing.purge": _grow_old_and_told,
    "billing.list_deliveries": _relay,
    "billing.replay_deliveries": _let_deliveries_die,
    "billing.replay_delivery": _let_deliveries_die,
    "billing.revoke_endpoint_secret": _rotate,
    "billing.skip_delivery": _relay,
    "billing.bill_late_usage": _leave_and_use_late,
    "billing.refresh_drafts": _draft_and_use,
    "billing.retry_parked": _park,
    "billing.reactivate_subscription": _cancel,
    "billing.get_sync": _have_a_provider,
    "billing.list_syncs": _have_a_provider,
    "billing.retry_sync": _have_a_provider,
    "billing.set_provider_customer": _have_a_provider,
    "billing.sync_invoices": _have_a_provider,
    "billing.undo_change": _plan_more_seats,
    "billing.create_credit_note": _finalize_an_invoice,
    "billing.end_coupon": _redeem_a_coupon,
    "billing.finalize_invoice": _make_an_invoice,
    "billing.finalize_invoices": _make_an_invoice,
    "billing.get_credit_note": _take_an_invoice_back,
    "billing.get_invoice": _make_an_invoice,
    "billing.list_invoices": _make_an_invoice,
    "billing.record_payment": _finalize_an_invoice,
    "billing.redeem_coupon": _redeem_a_coupon,
    "billing.render_invoice": _make_an_invoice,
    "billing.set_prepaid_product": _make_money,
    "billing.void_invoice": _finalize_an_invoice,
    "billing.write_off_invoice": _finalize_an_invoice,
}


def _as_of(name: str) -> dict[str, str]:
    if "as_of" not in contract.REGISTRY[name].model.model_fields:
        return {}
    if name in {"billing.adjust_credits", "billing.consume_quota", "billing.reserve_credits"}:
        return {"as_of": "2026-01-20T00:00:00+00:00"}
    if name in BEFORE_CREDIT_EXPIRES:
        return {"as_of": "2026-01-28T00:00:00+00:00"}
    if name == "billing.deliver_webhooks":  # what is due is made so by the real clock
        return {"as_of": (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)).isoformat()}
    return {"as_of": LATER}


def run(name: str, arguments: dict[str, Any]) -> Any:
    """Run a task; a refusal is an answer as well."""
    try:
        return app.tasks[name](**arguments)
    except Refusal as refusal:
        return refusal.code


Rows = list[dict[str, Any]]


def contents(db: Engine) -> dict[str, Rows]:
    """Every row of every table, and the partitions there are."""
    found: dict[str, Rows] = {table: [] for table in Base.metadata.tables}
    with db.connect() as connection:
        for table in tables_with_rows(connection):
            rows = connection.execute(select(Base.metadata.tables[table])).mappings()
            found[table] = sorted((dict(row) for row in rows), key=str)
        partitions = connection.execute(
            text("SELECT inhrelid::regclass::text AS name FROM pg_inherits ORDER BY 1")
        ).mappings()
        found["partitions"] = [dict(row) for row in partitions]
    return found


def of_one_world(held: dict[str, Rows]) -> dict[str, Rows]:
    """The contents that any world comes to in which the same was done."""
    found = {table: masked(rows) for table, rows in held.items()}
    found[STATISTICS] = []
    found[LOG_OF_TOUCHED_DAYS] = [span for span, _ in itertools.groupby(found[LOG_OF_TOUCHED_DAYS])]
    return found


def masked(rows: Rows) -> Rows:
    """Rows without what differs from one world to the next."""
    unequal = CLOCK | NUMBERED | SEALED
    return sorted(
        ({key: _masked(value) for key, value in row.items() if key not in unequal} for row in rows),
        key=str,
    )


def _masked(value: Any) -> Any:
    if isinstance(value, UUID):
        return "*"
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    elif isinstance(value, dict | list):
        value = json.dumps(value, sort_keys=True, default=str)
    return MADE_UP.sub("*", value) if isinstance(value, str) else value


def assert_same(
    found: dict[str, Rows], wanted: dict[str, Rows], *, but_for: frozenset[str]
) -> None:
    """Table by table, so that a difference is short."""
    for table, rows in wanted.items():
        assert _without(found[table], but_for) == _without(rows, but_for), table


def _without(rows: Rows, columns: frozenset[str]) -> Rows:
    return [{key: row[key] for key in row.keys() - columns} for row in rows]
