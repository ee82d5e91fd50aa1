"""Forms, amounts and errors as Stripe has them."""

import datetime as dt

import pytest

from webhooks import stripe_wire
from webhooks.caller import Caller, Reply
from webhooks.provider import Item, Try, Verdict
from webhooks.retry import Outcome
from webhooks.stripe_objects import folded
from webhooks.stripe_wire import AmountRefused, Wire

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SECRET = "sk_live_51hunter2"


def test_a_form_is_nested_by_brackets_and_leaves_out_what_is_not_said() -> None:
    form = {
        "name": "A & B",
        "paid": True,
        "none": None,
        "metadata": {"tenant_id": "a=b"},
        "lines": [{"amount": -5}, {"amount": 0, "period": {"start": 1}}],
    }

    assert stripe_wire.encode(form) == (
        b"name=A+%26+B&paid=true&metadata%5Btenant_id%5D=a%3Db&lines%5B0%5D%5Bamount%5D=-5"
        b"&lines%5B1%5D%5Bamount%5D=0&lines%5B1%5D%5Bperiod%5D%5Bstart%5D=1"
    )


@pytest.mark.parametrize(
    ("minor", "currency", "remote"),
    [
        (1234, "USD", 1234),
        (-5, "EUR", -5),
        (500, "JPY", 500),
        (500, "ISK", 50_000),
        (7, "UGX", 700),
        (300, "MGA", 3),
        (1230, "KWD", 1230),
    ],
)
def test_amounts_are_in_the_units_that_stripe_counts(
    minor: int, currency: str, remote: int
) -> None:
    assert stripe_wire.to_remote(minor, currency) == remote
    assert stripe_wire.from_remote(remote, currency) == minor


@pytest.mark.parametrize(("minor", "currency"), [(1234, "KWD"), (150, "MGA"), (-1, "TND")])
def test_an_amount_that_stripe_has_no_unit_for_is_refused(minor: int, currency: str) -> None:
    with pytest.raises(AmountRefused, match=currency):
        stripe_wire.to_remote(minor, currency)


@pytest.mark.parametrize(
    ("status", "verdict", "unwell"),
    [
        (400, Verdict.refused, False),
        (402, Verdict.refused, False),
        (404, Verdict.refused, False),
        (408, Verdict.later, False),
        (409, Verdict.later, False),
        (429, Verdict.later, True),
        (401, Verdict.later, True),
        (403, Verdict.later, True),
        (500, Verdict.later, True),
        (302, Verdict.later, True),
        (200, Verdict.later, True),
    ],
)
def test_only_what_is_said_of_this_request_is_held_against_it(
    status: int, verdict: Verdict, unwell: bool
) -> None:
    body = b'{"error": {"code": "c", "message": "Bearer sk_live_51hunter2 and sk_test_****1234"}}'
    reply = Reply(Outcome.HTTP_ERROR, status, 5, b"cut" if status == 200 else body, "7")
    caller = Caller()
    try:
        answer = Wire(caller, base_url="https://x.example", secret_key=SECRET).fault(
            reply, Try("k", NOW)
        )
    finally:
        caller.close()

    assert (answer.verdict, answer.unwell, answer.status) == (verdict, unwell, status)
    assert answer.fault is not None
    assert not {"hunter2", "sk_test"} & set(answer.fault.reason.replace("_", " ").split())
    if status != 200:
        assert answer.retry_after == dt.timedelta(seconds=7)
        assert answer.fault.code == "provider.c"
        assert answer.fault.reason == f"answered with status {status}: Bearer *** and ***"


def test_very_many_items_become_as_many_as_stripe_takes_and_sum_to_the_same() -> None:
    items = [Item(f"line {n}", n) for n in range(1000)]

    sent = folded(items)

    assert len(sent) == 250
    assert sum(item.amount_minor for item in sent) == sum(item.amount_minor for item in items)
    assert sent[-1].description == "751 more lines"
    assert folded(items[:250]) == items[:250]
