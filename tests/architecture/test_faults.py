"""The faults of the systems that billing replaces: each has a test here that it is not ours."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAULTS: dict[str, list[tuple[str, str]]] = {
    "concurrent calls with one idempotency key debit more than once": [
        ("integration/test_credit_races.py", "test_eight_calls_with_one_key_debit_once"),
        ("integration/test_contract.py", "test_eight_concurrent_calls_with_one_key_run_once"),
    ],
    "a tenant waits for another": [
        ("integration/test_credit_races.py", "test_one_tenant_never_waits_for_another"),
        ("integration/test_reservation_races.py", "test_one_tenant_never_waits_for_another"),
        ("integration/test_quota_races.py", "test_one_tenant_never_waits_for_another"),
    ],
    "a refunded order is confirmed again": [
        (
            "integration/test_orders.py",
            "test_a_refunded_order_can_not_be_confirmed_again_by_any_payment",
        ),
    ],
    "one payment confirms two orders": [
        ("integration/test_orders.py", "test_one_payment_confirms_one_order"),
        ("integration/test_order_races.py", "test_of_six_orders_one_payment_confirms_one"),
    ],
    "trial claims at once grant more than once": [
        ("integration/test_trials.py", "test_six_claims_at_once_grant_once"),
    ],
    "credit expires without an entry, or more of it than is left": [
        ("integration/test_credit_expiry.py", "test_ninety_of_a_hundred_spent_then_ten_expire"),
    ],
    "credit of the future is spent": [
        ("integration/test_credits.py", "test_credit_of_the_future_is_not_spendable"),
    ],
    "a hold is both committed and released, or charged twice": [
        ("integration/test_reservation_races.py", "test_a_hold_has_one_end"),
        ("integration/test_reservation_races.py", "test_eight_commits_with_one_key_charge_once"),
    ],
    "a plan's credit is allocated twice": [
        (
            "integration/test_allocations.py",
            "test_each_period_is_given_once_however_often_the_bell_rings",
        ),
    ],
    "an invoice that is run twice is two": [
        ("integration/test_invoices.py", "test_twice_is_one_invoice_and_says_nothing_more"),
        ("integration/test_invoices.py", "test_eight_at_once_are_one_invoice"),
    ],
    "two metrics are one line, or have no price": [
        (
            "integration/test_invoices.py",
            "test_a_fee_and_two_metrics_are_three_priced_lines_that_add_up",
        ),
    ],
    "midnight at +09:00 is relabelled instead of converted": [
        ("unit/rules/test_period.py", "test_a_bound_elsewhere_is_converted_not_relabelled"),
        (
            "integration/test_invoices.py",
            "test_instants_of_local_midnights_name_the_same_period_as_days",
        ),
    ],
    "a month's quota is not enforced": [
        ("integration/test_quotas.py", "test_a_month_quota_is_enforced"),
    ],
    "a missing tenant_id is the tenant 'None'": [
        (
            "architecture/test_tasks.py",
            "test_a_missing_tenant_is_an_error_and_never_a_tenant_called_none",
        ),
        ("unit/test_usage_event.py", "test_a_missing_field_is_refused_by_its_name"),
    ],
    "a tenant receives events of another": [
        (
            "integration/test_delivery.py",
            "test_a_tenant_never_hears_of_another_and_the_operator_hears_of_all",
        ),
    ],
    "other bytes are sent than were signed": [
        (
            "integration/webhooks/test_transport.py",
            "test_any_body_arrives_unchanged_and_verifies_independently",
        ),
    ],
    "loopback and metadata addresses are called": [
        ("unit/test_guard.py", "test_inside_address_is_denied_with_a_reason"),
        (
            "integration/webhooks/test_transport.py",
            "test_name_that_leads_inside_even_partly_is_refused",
        ),
    ],
    "a kill between commit and enqueue loses a webhook": [
        (
            "integration/test_delivery.py",
            "test_a_kill_between_the_commit_and_the_ring_loses_no_webhook",
        ),
        ("acceptance/test_kills.py", "test_no_figure_is_wrong_after_kills_at_random"),
    ],
    "tenants that share a referee can not be merged": [
        (
            "integration/test_merging_orders.py",
            "test_two_who_were_brought_by_one_or_by_two_keep_the_targets_referral",
        ),
    ],
    "deleting something deletes entries of the ledger": [
        ("integration/test_ledger_lasts.py", "test_whatever_is_deleted_the_ledger_stays"),
        ("integration/test_credits.py", "test_the_database_refuses_to_change_the_past"),
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_test(fault: str) -> None:
    for file, name in FAULTS[fault]:
        defined = ast.parse((TESTS / file).read_text()).body
        assert name in {one.name for one in defined if isinstance(one, ast.FunctionDef)}, file
