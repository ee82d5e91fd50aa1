"""What a tenant may use: to the unit, in its own days and months, however usage was recorded."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks.quota_counts import count_quotas, recount_quotas
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_refused import UsageConflict
from tests.integration import allowance
from tests.integration.allowance import NOON, allow, at, check, record, use, used, void
from tests.integration.billing_world import said


def test_a_month_quota_is_enforced(db: Engine) -> None:
    allow(3)

    answers = [use(1, f"k{number}", when=at(f"2026-03-{number:02}")) for number in range(1, 6)]
    next_month = use(1, "k6", when=at("2026-04-01"))

    assert [answer["allowed"] for answer in answers] == [True, True, True, False, False]
    assert [answer["used"] for answer in answers] == ["1", "2", "3", "3", "3"]
    assert answers[3]["reason"] == "quota_exceeded"
    assert answers[3]["resets_at"] == "2026-04-01T00:00:00Z"
    assert (next_month["allowed"], next_month["used"]) == (True, "1")


def test_an_answer_says_all_there_is_to_know(db: Engine) -> None:
    allow("10.5", zone="Asia/Kathmandu")
    allow(4, window="day", soft=True)

    before = check(2)
    after = use("2.25", "k")

    day = {
        "window": "day",
        "limit": "4",
        "used": "2.25",
        "remaining": "1.75",
        "soft": True,
        "exceeded": False,
        "window_start": "2026-03-09T18:15:00Z",
        "resets_at": "2026-03-10T18:15:00Z",
    }
    month = {
        "window": "month",
        "limit": "10.5",
        "used": "2.25",
        "remaining": "8.25",
        "soft": False,
        "exceeded": False,
        "window_start": "2026-02-28T18:15:00Z",
        "resets_at": "2026-03-31T18:15:00Z",
    }
    assert after == {
        "tenant_id": "acme",
        "metric": "api",
        "allowed": True,
        "reason": None,
        **day,
        "windows": [day, month],
    }
    assert (before["allowed"], before["used"], before["remaining"]) == (True, "0", "4")


def test_no_entitlement_is_no_right(db: Engine) -> None:
    """No right, no use: also of a tenant and a metric that nobody knows."""
    allow(5)

    nothing = {"limit": "0", "used": "0", "remaining": "0", "window": None, "resets_at": None}
    for answer in (
        check(tenant_id="nobody"),
        use(1, "a", tenant_id="nobody"),
        check(metric="other"),
        use(1, "b", metric="other"),
        check(when=at("2025-12-31")),
    ):
        assert (answer["allowed"], answer["reason"]) == (False, "no_entitlement")
        assert {name: answer[name] for name in nothing} == nothing
    assert allowance.rows("SELECT * FROM tenants WHERE tenant_id = 'nobody'") == []
    assert allowance.rows("SELECT * FROM usage_events") == []
    assert said("billing.quota_exceeded") == []


def test_a_limit_of_zero_allows_nothing(db: Engine) -> None:
    allow(0)

    answer = use("0.000000000001", "k")

    assert (answer["allowed"], answer["reason"], answer["limit"]) == (False, "quota_exceeded", "0")


def test_without_limit_everything_is_allowed_and_counted(db: Engine) -> None:
    allow(None)

    answer = use(10**17, "k")

    assert (answer["allowed"], answer["limit"], answer["remaining"]) == (True, None, None)
    assert answer["used"] == "100000000000000000"
    assert answer["resets_at"] == "2026-04-01T00:00:00Z"


def test_all_or_nothing_is_used(db: Engine) -> None:
    allow(10)
    use(8, "a")

    refused = use(3, "b")

    assert (refused["allowed"], refused["used"], refused["remaining"]) == (False, "8", "2")
    assert use(2, "c")["remaining"] == "0"
    assert allowance.rows("SELECT amount FROM usage_events ORDER BY 1") == [(2,), (8,)]


def test_a_use_is_recorded_as_usage(db: Engine) -> None:
    allow(10)

    use("1.5", "k", metadata={"model": "atlas"})

    assert allowance.rows(
        "SELECT tenant_id, metric, idempotency_key, amount, at, received_at, metadata "
        "FROM usage_events"
    ) == [("acme", "api", "k", Decimal("1.5"), NOON, NOON, {"model": "atlas"})]
    assert allowance.rows("SELECT metrics, firsts, lasts FROM usage_touched_days") == [
        (["api"], [NOON], [NOON])
    ]
    assert allowance.rows("SELECT * FROM quota_arrivals") == []


def test_a_day_and_a_month_must_both_have_room(db: Engine) -> None:
    allow(5)
    allow(3, window="day")

    first = [use(1, f"a{number}")["allowed"] for number in range(4)]
    tomorrow = [use(1, f"b{number}", when=at("2026-03-11")) for number in range(3)]

    assert first == [True, True, True, False]
    assert [answer["allowed"] for answer in tomorrow] == [True, True, False]
    assert (tomorrow[2]["window"], tomorrow[2]["resets_at"]) == ("month", "2026-04-01T00:00:00Z")


def test_a_soft_limit_allows_more_and_flags_it(db: Engine) -> None:
    allow(2, soft=True)

    answers = [use(1, f"k{number}") for number in range(4)]

    assert all(answer["allowed"] and answer["soft"] for answer in answers)
    assert [answer["exceeded"] for answer in answers] == [False, False, True, True]
    assert [answer["used"] for answer in answers] == ["1", "2", "3", "4"]
    assert check(1)["allowed"] is True
    assert len(said("billing.quota_exceeded")) == 1


def test_subscribers_hear_once_a_window_that_it_is_exceeded(db: Engine) -> None:
    allow(2, zone="Asia/Tokyo")

    for number in range(5):
        use(1, f"march{number}")
    for number in range(3):
        use(2, f"april{number}", when=at("2026-04-10"))

    events = said("billing.quota_exceeded")
    assert [event["data"]["window_start"] for event in events] == [
        "2026-02-28T15:00:00Z",
        "2026-03-31T15:00:00Z",
    ]
    assert events[0]["tenant_id"] == "acme"
    assert events[0]["data"] == {
        "tenant_id": "acme",
        "metric": "api",
        "window": "month",
        "window_start": "2026-02-28T15:00:00Z",
        "resets_at": "2026-03-31T15:00:00Z",
        "limit": "2",
        "used": "2",
        "soft": False,
    }


def test_a_check_tells_and_changes_nothing(db: Engine) -> None:
    allow(1)
    record(5, "k")

    assert check(1)["allowed"] is False

    assert said("billing.quota_exceeded") == []
    assert allowance.counters() == []


def test_the_same_key_is_one_use(db: Engine) -> None:
    allow(10)

    first, again = use(3, "k"), use(3, "k", when=at("2026-03-20"))

    assert first == again
    assert used() == 3
    with pytest.raises(Refusal, match="was used before for another"):
        use(4, "k")


def test_a_refusal_is_kept_with_its_key(db: Engine) -> None:
    allow(1)
    use(1, "a")

    refused = use(1, "b")
    allow(10, as_of=NOON)

    assert use(1, "b") == refused
    assert use(1, "c")["allowed"] is True


def test_what_was_recorded_before_and_after_the_first_use_counts(db: Engine) -> None:
    record(2, "before", when=at("2026-03-01"))
    allow(10)
    record(3, "between")

    assert used() == 5
    assert use(1, "k")["used"] == "6"
    record(2, "after")
    assert used() == 8
    assert use(3, "refused")["allowed"] is False
    assert use(2, "fits")["remaining"] == "0"


def test_an_event_that_is_sent_again_counts_once(db: Engine) -> None:
    allow(10)
    use(2, "k")
    event = {"tenant_id": "acme", "metric": "api", "amount": "2", "idempotency_key": "k"}
    events: Any = [event, {**event, "idempotency_key": "n"}]

    again = record_usage(events=events, as_of=NOON)

    assert again["verdicts"] == ["duplicate", "accepted"]
    assert used() == 4


def test_usage_that_was_recorded_already_is_not_used_again(db: Engine) -> None:
    """As when the first answer to a key is no longer kept."""
    allow(3)
    event = {"tenant_id": "acme", "metric": "api", "amount": "2", "idempotency_key": "k"}
    record_usage(**event, as_of=NOON)

    answer = use(2, "k", when=at("2026-03-11"))
    wide = use(1, "other")

    assert (answer["allowed"], answer["used"]) == (True, "2")
    assert (wide["allowed"], wide["used"]) == (True, "3")


def test_a_key_that_other_usage_has_is_a_conflict(db: Engine) -> None:
    allow(10)
    record(2, "k")

    with pytest.raises(UsageConflict, match="another amount"):
        use(3, "k")

    assert used() == 2
    assert use(1, "new")["used"] == "3"


def test_late_usage_counts_in_the_window_in_which_it_happened(db: Engine) -> None:
    allow(10)
    allow(5, window="day")
    use(1, "yesterday", when=at("2026-03-09T12:00"))
    use(1, "today")

    late = {"tenant_id": "acme", "metric": "api", "amount": "3"}
    for key, happened in (("a", "2026-03-09T23:59:59Z"), ("b", "2026-02-28T23:59:59Z")):
        record_usage(**late, idempotency_key=key, at=happened, as_of=NOON)

    assert used() == 5
    assert used(window="day") == 1
    assert used(window="day", when=at("2026-03-09T23:00")) == 4
    assert used(when=at("2026-02-20")) == 3
    record(2, "in time")
    count_quotas(as_of=NOON)
    assert used() == 7
    assert used(window="day") == 3
    assert used(window="day", when=at("2026-03-09T23:00")) == 4
    assert recount_quotas(as_of=NOON)["drifted"] == 0


def test_a_void_gives_the_use_back(db: Engine) -> None:
    allow(3)
    use(2, "a")
    use(1, "b")
    record(4, "c")

    void("a")
    void("c")
    void("c")

    assert used() == 1
    assert use(2, "d")["remaining"] == "0"
    assert recount_quotas(as_of=NOON)["drifted"] == 0


def test_a_void_before_the_first_use_counts_too(db: Engine) -> None:
    allow(3)
    record(3, "a")
    void("a")

    assert use(3, "b")["allowed"] is True


def test_another_zone_is_another_window(db: Engine) -> None:
    """What was used in the new zone's month counts, whatever the old one's counter says."""
    allow(10, zone="Pacific/Pago_Pago")
    use(3, "a", when=at("2026-03-01T05:00"))  # still February there
    use(2, "b", when=at("2026-03-02T05:00"))
    assert used(when=at("2026-03-02T05:00")) == 2

    set_tenant(tenant_id="acme", timezone="Pacific/Kiritimati")
    assert use(1, "c", when=at("2026-03-02T05:00"))["used"] == "6"
    set_tenant(tenant_id="acme", timezone="Pacific/Pago_Pago")

    assert use(1, "d", when=at("2026-03-02T05:00"))["used"] == "4"
    assert recount_quotas(as_of=at("2026-03-02T05:00"))["drifted"] == 0


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("Asia/Kathmandu", "2026-03-31T18:14:59.999999", "2026-03-31T18:15:00"),
        ("Pacific/Kiritimati", "2026-02-28T09:59:59.999999", "2026-02-28T10:00:00"),
        ("Europe/Berlin", "2026-03-31T21:59:59.999999", "2026-03-31T22:00:00"),
        ("America/Santiago", "2026-08-01T03:59:59.999999", "2026-08-01T04:00:00"),
    ],
)
def test_a_window_ends_with_the_last_instant_of_the_tenants_month(
    db: Engine, zone: str, last: str, first: str
) -> None:
    allow(1, zone=zone)

    assert use(1, "a", when=at(last))["allowed"] is True
    assert use(1, "b", when=at(last))["allowed"] is False
    assert use(1, "c", when=at(first))["allowed"] is True


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-28T23:00", 23),
        ("Europe/Berlin", "2026-10-24T22:00", 25),
        ("America/Havana", "2026-11-01T04:00", 25),
        ("Australia/Lord_Howe", "2026-04-04T13:00", 24.5),
        ("America/Santiago", "2026-09-06T04:00", 23),
    ],
)
def test_a_day_has_as_many_hours_as_it_has(db: Engine, zone: str, day: str, hours: float) -> None:
    allow(100, zone=zone, window="day")
    begins = at(day)

    for half in range(int(hours * 2)):
        assert use(1, f"h{half}", when=begins.replace() + half * HALF_AN_HOUR)["allowed"]

    last = begins + (hours * 2 - 1) * HALF_AN_HOUR
    answer = check(1, when=last)
    assert answer["used"] == str(int(hours * 2))
    assert answer["window_start"] == begins.isoformat().replace("+00:00", "Z")
    assert at(answer["resets_at"]) == last + HALF_AN_HOUR
    assert check(1, when=last + HALF_AN_HOUR)["used"] == "0"


HALF_AN_HOUR = at("2026-01-01T00:30") - at("2026-01-01T00:00")


@pytest.mark.parametrize("amount", ["0", "-1", "1e18", "0.0000000000001", "NaN"])
@pytest.mark.parametrize("ask", [check, lambda amount: use(amount, "k")])
def test_an_amount_that_is_none_is_refused(
    db: Engine, ask: Callable[[str], Any], amount: str
) -> None:
    allow(10)

    with pytest.raises(Refusal, match="amount"):
        ask(amount)


def test_amounts_are_exact_to_the_last_decimal(db: Engine) -> None:
    allow("999999999999999999.999999999999")
    use("999999999999999999.999999999998", "a")

    assert use("0.000000000002", "b")["allowed"] is False
    assert use("0.000000000001", "c")["remaining"] == "0"
