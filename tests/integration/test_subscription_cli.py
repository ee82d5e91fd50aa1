"""`billing subscription`, as an operator sees it."""

import json

from tests.integration.billing_world import fee, make_plan, query, subscribe
from tests.integration.command import Command


def test_a_subscription_is_changed_cancelled_and_resumed(billing: Command) -> None:
    make_plan(fee("31"))
    make_plan(fee("310"), plan_key="max")
    first = str(subscribe("acme", "2026-01-01")["subscription_id"])
    at = ("--as-of", "2026-01-11")

    changed = billing("subscription", "change", first, "--plan", "max", "--quantity", "4",
                      "--key", "k1", *at)  # fmt: skip
    assert (changed.status, "2026-01-11 00:00" in changed.out) == (0, True)
    listed = json.loads(billing("subscription", "list", "acme", "--json").out)
    assert [(one["plan_key"], one["quantity"]) for one in listed] == [("pro", "1"), ("max", "4")]

    second = listed[1]["subscription_id"]
    cancelled = billing("subscription", "cancel", second, "--key", "k2", *at)
    assert "2026-02-01 00:00" in cancelled.out
    assert billing("subscription", "resume", second, *at).status == 0
    assert query("SELECT ended_at FROM subscriptions WHERE plan_key = 'max'") == [(None,)]
    refused = billing("subscription", "resume", first, *at)
    assert (refused.status, "begin a new one" in refused.err) == (1, True)
    assert "no subscription" in billing("subscription", "list", "bob").out
