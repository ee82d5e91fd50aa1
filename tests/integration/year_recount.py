"""What the year comes to, worked out once more, without a line of the program's own.

From the story: every line that there has to be, day by day. From the database: the plain rows of
invoices. Amounts in minor units.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import text

from models import database
from tests.integration import year_catalogue as catalogue
from tests.integration.billing_world import query
from tests.integration.year_calendar import DAY
from tests.integration.year_story import SECOND, Story, Term, Used

MINOR: Final = {"USD": 100, "JPY": 1, "KWD": 1000}


@dataclass(frozen=True)
class Key:
    """One price of one subscription, on some days of one billing period; or in some seconds of it,
    as instants."""

    subscription_id: str
    price_key: str
    first: dt.date
    after: dt.date

    def begins_at(self, term: Term) -> dt.datetime:
        if isinstance(self.first, dt.datetime):
            return self.first
        return term.tenant.places.midnight(self.first)


@dataclass(frozen=True)
class Due:
    """What it comes to. `cost` is what another quantity would."""

    kind: str
    quantity: Fraction
    amount: int
    cost: Callable[[Fraction], int]

    def is_billed_by(self, quantity: Fraction, amount: int) -> bool:
        """Whether the amount is right, and the quantity: another one must cost the same, since
        late usage that costs nothing more is on no line."""
        if self.kind == "commitment":
            return amount == self.amount
        return amount == self.amount and (
            quantity == self.quantity or self.cost(quantity) == self.amount
        )


def half_up(value: Fraction) -> int:
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


# From the story.


def expected(story: Story) -> dict[Key, Due]:
    """Every line there has to be of what is charged when a period is over, in all, late usage in
    the line of its own days."""
    used: dict[tuple[str, str], list[Used]] = defaultdict(list)
    for one in story.used.values():
        used[one.tenant_id, one.metric].append(one)
    found: dict[Key, Due] = {}
    for term in story.terms:
        own = dict(_lines_of(story, term, used))
        paid = _ahead_of(story, term)
        for key, due in own.items():
            if due.kind == "commitment":
                spans = {"fixed": _span(term, key), "usage": _days_of(term, key, own)}
                reached = sum(
                    other.amount
                    for at, other in own.items()
                    if other.kind in spans
                    and spans[other.kind][0] <= at.begins_at(term) < spans[other.kind][1]
                ) + sum(
                    one
                    for at, one in paid.items()
                    if at.price_key == "base" and spans["fixed"][0] <= at.came < spans["fixed"][1]
                )
                own[key] = replace(due, amount=max(0, due.amount - reached))
        found |= own
    return found


def _span(term: Term, key: Key) -> tuple[dt.datetime, dt.datetime]:
    if isinstance(key.after, dt.datetime):
        return key.begins_at(term), key.after
    return key.begins_at(term), term.tenant.places.midnight(key.after)


def _days_of(term: Term, key: Key, own: Mapping[Key, Due]) -> tuple[dt.datetime, dt.datetime]:
    """When the usage begins that counts for a commitment: that of a day on which one takes the
    place of another is the new one's."""
    begin, end = _span(term, key)
    if not isinstance(key.first, dt.datetime):
        return begin, end
    places = term.tenant.places
    if any(other.price_key == key.price_key and other.first == end for other in own):
        end = places.midnight(places.day(end))
    return places.midnight(places.day(begin)), end


def _lines_of(
    story: Story, term: Term, used: Mapping[tuple[str, str], list[Used]]
) -> Iterator[tuple[Key, Due]]:
    plan, places = catalogue.PLANS[term.plan_key], term.tenant.places
    for price_key in sorted(set(plan.prices) - set(plan.ahead)):
        if plan.is_by_second(price_key):
            yield from _lines_by_second(story, term, price_key)
            continue
        if price_key == "setup" and plan.proration == "second":
            begin, end = term.touched
        else:
            begin, end = term.charged
        for raised, since, until in _versions(story, term, price_key):
            first = max(begin, since)
            last = min(end, until)
            if price_key == "setup":
                last = min(last, begin + DAY) if term.owes_setup else first
            while first < last:
                period = term.period(first)
                after = min(last, period[1])
                events = used[term.tenant.tenant_id, price_key]
                quantity = sum((Fraction(one.amount) for one in events
                                if first <= term.day(one.at) < after), Fraction(0))  # fmt: skip
                price = catalogue.terms(price_key, term.tenant.currency, raised)
                is_fee = price["kind"] == "fixed"
                for begins, ends, seats in (
                    term.runs(first, after) if is_fee else [(first, after, 1)]
                ):
                    key = Key(term.subscription_id, price_key, begins, ends)
                    if places.midnight(begins) == places.midnight(ends):
                        continue  # Nobody lived that day: its tenant crossed the date line.
                    yield (
                        key,
                        _due(term, price, key, period, Fraction(seats) if is_fee else quantity),
                    )
                first = after


def _lines_by_second(story: Story, term: Term, price_key: str) -> Iterator[tuple[Key, Due]]:
    begin, end = term.charged_time
    raises = story.raised.get(term.plan_key, ())
    while begin < end:
        days = term.period(term.day(begin))
        whole = _time_of(term, days)
        until = min([end, whole[1], *(at for at in raises if at > begin)])
        raised = sum(1 for at in raises if at <= begin)
        price = catalogue.terms(price_key, term.tenant.currency, raised)
        runs = term.runs_of(begin, until) if price_key == "base" else [(begin, until, 1)]
        for first, after, seats in runs:
            share = Fraction((after - first) // SECOND, (whole[1] - whole[0]) // SECOND)
            amount = half_up(
                Fraction(price["unit_amount"]) * seats * share * MINOR[term.tenant.currency]
            )
            yield (
                Key(term.subscription_id, price_key, first, after),
                Due(price["kind"], Fraction(seats), amount, lambda _: 0),
            )
        begin = until


def _time_of(term: Term, days: tuple[dt.date, dt.date]) -> tuple[dt.datetime, dt.datetime]:
    first, after = (term.tenant.places.midnight(day) for day in days)
    return first, after


@dataclass(frozen=True)
class Ahead:
    """What is charged ahead for once: a fee, for the seats that come at an instant, to its period's
    end; or for the setup."""

    subscription_id: str
    price_key: str
    came: dt.datetime


def expected_ahead(story: Story) -> dict[Ahead, int]:
    """What was to be charged ahead in the end, less what is given back of it."""
    return {key: due for term in story.terms for key, due in _ahead_of(story, term).items()}


def _ahead_of(story: Story, term: Term) -> dict[Ahead, int]:
    plan, minor = catalogue.PLANS[term.plan_key], MINOR[term.tenant.currency]
    found: dict[Ahead, int] = {}
    for price_key in plan.ahead:
        by_second = plan.is_by_second(price_key)
        begin, end = term.touched if plan.proration == "second" else term.charged
        first = begin
        while first < end:
            days = term.period(first)
            after = min(end, days[1])
            at = max(term.tenant.places.midnight(first), term.starts_at)
            if by_second:
                at = max(at, term.charged_time[0])  # perhaps in the middle of its first day
            raised = sum(1 for each in story.raised.get(term.plan_key, ()) if each <= at)
            price = catalogue.terms(price_key, term.tenant.currency, raised)
            amount = Fraction(price["unit_amount"]) * minor
            if price_key == "setup":
                if term.owes_setup:
                    came = term.tenant.places.midnight(first)
                    found[Ahead(term.subscription_id, price_key, came)] = half_up(amount)
                break
            for came, share in _shares(term, days, first, after, by_second=by_second):
                found[Ahead(term.subscription_id, price_key, came)] = half_up(amount * share)
            first = after
    return found


def _shares(
    term: Term, days: tuple[dt.date, dt.date], first: dt.date, after: dt.date, *, by_second: bool
) -> Iterator[tuple[dt.datetime, Fraction]]:
    """When seats came, and for how many periods they are paid, all of them together."""
    if by_second:
        whole = _time_of(term, days)
        begin, end = term.charged_time
        length = (whole[1] - whole[0]) // SECOND
        spans = term.runs_of(max(begin, whole[0]), min(end, whole[1]))
        runs = [(came, (until - came) // SECOND, seats) for came, until, seats in spans]
    else:
        midnight = term.tenant.places.midnight
        length = (days[1] - days[0]).days
        runs = [
            (midnight(came), (until - came).days, seats)
            for came, until, seats in term.runs(first, after)
        ]
    for came, units in _seat_units(runs).items():
        yield came, Fraction(units, length)


def _seat_units(runs: list[tuple[dt.datetime, int, int]]) -> dict[dt.datetime, int]:
    """How many days or seconds all the seats that came at an instant were there. Who came last goes
    first."""
    there: list[dt.datetime] = []
    units: Counter[dt.datetime] = Counter()
    for first, lasting, seats in runs:
        there = there[:seats] + [first] * (seats - len(there))
        for came in there:
            units[came] += lasting
    return dict(units)


def _versions(story: Story, term: Term, price_key: str) -> Iterator[tuple[int, dt.date, dt.date]]:
    """How often the price was raised, from which day, until which; versions that are alike are
    one."""
    begins = [dt.date.min, *(term.day(at) for at in story.raised.get(term.plan_key, ()))]
    if price_key == "mails":
        begins = begins[:1]
    yield from (
        (raised, since, until)
        for raised, (since, until) in enumerate(
            zip(begins, [*begins[1:], dt.date.max], strict=True)
        )
    )


def _due(
    term: Term,
    price: Mapping[str, Any],
    key: Key,
    period: tuple[dt.date, dt.date],
    count: Fraction,
) -> Due:
    share = Fraction((key.after - key.first).days, (period[1] - period[0]).days)
    kind = price["kind"]

    def cost(quantity: Fraction) -> int:
        if kind == "usage":
            exact = _cost(price, quantity, share)
        else:
            exact = Fraction(price["unit_amount"]) * quantity * (1 if kind == "setup" else share)
        return half_up(exact * MINOR[term.tenant.currency])

    quantity = count if kind in ("usage", "fixed") else Fraction(1)
    return Due(kind, quantity, cost(quantity), cost)


def _cost(price: Mapping[str, Any], quantity: Fraction, share: Fraction) -> Fraction:
    if price["model"] == "per_unit":
        return quantity * Fraction(price["unit_amount"])
    params = price["params"]
    if price["model"] == "package":
        packages = -(-quantity // Fraction(params["package_size"]))
        return packages * Fraction(params["package_price"])
    bounds = [Fraction(tier.get("up_to", 10**12)) * share for tier in params["tiers"]]
    prices = [Fraction(tier["unit_price"]) for tier in params["tiers"]]
    if price["model"] == "volume":
        return quantity * next(
            each for each, bound in zip(prices, bounds, strict=True) if quantity <= bound
        )
    cost, below = Fraction(0), Fraction(0)
    for tier, each, bound in zip(params["tiers"], prices, bounds, strict=True):
        if below < quantity:
            cost += (min(quantity, bound) - below) * each
            cost += Fraction(tier.get("flat_fee", 0)) * share
        below = bound
    return cost


# From the database.


LINES = """
    SELECT line.subscription_id::text, price.price_key, line.period_start, line.period_end,
           line.kind, line.quantity, line.amount_minor,
           coalesce(adjusted.timezone, invoice.timezone), invoice.state,
           line.details ->> 'ahead_from', line.details ->> 'ahead_at'
    FROM invoice_lines AS line JOIN invoices AS invoice ON invoice.id = line.invoice_id
    LEFT JOIN invoices AS adjusted ON adjusted.id = line.adjusts_invoice_id
    LEFT JOIN prices AS price ON price.id = line.price_id
    WHERE invoice.state <> 'void' AND (:withdrawn IS FALSE)
       -- What was withdrawn and nobody asked for again counts as charged.
       OR (:withdrawn AND invoice.state = 'void' AND NOT EXISTS (
              SELECT FROM invoices AS other
              WHERE (other.tenant_id, other.currency, other.kind)
                    = (invoice.tenant_id, invoice.currency, invoice.kind)
                AND (other.state <> 'void' OR other.id > invoice.id)
                AND (other.period_start AT TIME ZONE other.timezone)::date
                    = (invoice.period_start AT TIME ZONE invoice.timezone)::date
                AND (other.period_end AT TIME ZONE other.timezone)::date
                    = (invoice.period_end AT TIME ZONE invoice.timezone)::date))
    UNION ALL
    SELECT line.subscription_id::text, price.price_key, line.period_start, line.period_end,
           'credited', -back.quantity, -back.amount_minor,
           coalesce(adjusted.timezone, invoice.timezone), 'finalized',
           line.details ->> 'ahead_from', line.details ->> 'ahead_at'
    FROM late_usage_credits AS back
    JOIN invoice_lines AS line USING (invoice_id, position)
    JOIN invoices AS invoice ON invoice.id = line.invoice_id
    LEFT JOIN invoices AS adjusted ON adjusted.id = line.adjusts_invoice_id
    JOIN prices AS price ON price.id = line.price_id
    WHERE (:withdrawn IS FALSE)
"""


def billed(story: Story) -> tuple[dict[Key, tuple[Fraction, int]], Counter[Key]]:
    """What was billed by key, and of how many lines that are no corrections each is made."""
    sums: dict[Key, tuple[Fraction, int]] = defaultdict(lambda: (Fraction(0), 0))
    lines: Counter[Key] = Counter()
    plans = {term.subscription_id: catalogue.PLANS[term.plan_key] for term in story.terms}
    for subscription_id, price_key, start, end, kind, *figures in query(LINES, withdrawn=False):
        quantity, amount, timezone, state, ahead_from, _ = figures
        assert state in ("finalized", "paid"), state
        if ahead_from is not None:
            continue
        if plans[subscription_id].is_by_second(price_key):
            key = Key(subscription_id, price_key, start, end)
        else:
            days = (at.astimezone(ZoneInfo(timezone)).date() for at in (start, end))
            key = Key(subscription_id, price_key, *days)
        before = sums[key]
        sums[key] = before[0] + Fraction(quantity), before[1] + amount
        if kind not in ("adjustment", "credited"):
            lines[key] += 1
    return dict(sums), lines


def check_lines(story: Story) -> None:
    """Each day of each subscription is charged once, and each event is in one billed figure."""
    wanted = expected(story)
    sums, lines = billed(story)
    assert set(sums) == set(wanted), _differ(story, set(wanted), set(sums))
    assert lines == Counter(wanted.keys())
    wrong = {
        key: (due, sums[key]) for key, due in wanted.items() if not due.is_billed_by(*sums[key])
    }
    assert not wrong, _shown(story, wrong)


def check_days(story: Story) -> None:
    """The same, said as plainly as it can be: the days that fees were charged for, in a row; and
    the seconds, one run after the other."""
    _, lines = billed(story)
    days: dict[str, list[dt.date]] = defaultdict(list)
    times: dict[str, list[tuple[dt.date, dt.date]]] = defaultdict(list)
    for key in lines.elements():
        if isinstance(key.first, dt.datetime):
            if key.price_key == "base":
                times[key.subscription_id].append((key.first, key.after))
        elif key.price_key == "base":
            days[key.subscription_id] += [
                key.first + DAY * number for number in range((key.after - key.first).days)
            ]
    for term in story.terms:
        plan, places = catalogue.PLANS[term.plan_key], term.tenant.places
        if "base" not in plan.prices or "base" in plan.ahead:
            continue
        if plan.proration == "second":
            _check_seconds(term, sorted(times.pop(term.subscription_id, [])))
            continue
        first, after = term.charged
        whole = {first + DAY * number for number in range((after - first).days)}
        found = days.pop(term.subscription_id, [])
        assert len(found) == len(set(found)), term
        assert set(found) <= whole, term
        for day in whole - set(found):
            assert places.midnight(day) == places.midnight(day + DAY), (term, day)
    assert not days
    assert not times


def _check_seconds(term: Term, found: list[tuple[dt.date, dt.date]]) -> None:
    begin, end = term.charged_time
    ends = [begin, *(after for _, after in found)]
    if begin < end:
        assert [first for first, _ in found] == ends[:-1], term
        assert ends[-1] == end, term
    else:
        assert not found, term


def check_ahead(story: Story) -> None:
    """What was charged ahead, less what was given back, is for the days and the seats there were:
    to the minor unit, for each run of days by itself. What was withdrawn for good is not asked for
    again, and not given back."""
    found, withdrawn = _charged_ahead(story, withdrawn=False), _charged_ahead(story, withdrawn=True)
    wanted = {
        key: amount - withdrawn[key]
        for key, amount in expected_ahead(story).items()
        if amount > withdrawn[key]
    }
    terms = {term.subscription_id: term for term in story.terms}
    wrong = [
        f"{key}: {found[key]} and not {wanted.get(key, 0)}, of {terms[key.subscription_id]}"
        for key in wanted.keys() | found.keys()
        if found[key] != wanted.get(key, 0)
    ]
    assert not wrong, f"{len(wrong)} differ: " + "; ".join(sorted(wrong)[:3])


def _charged_ahead(story: Story, *, withdrawn: bool) -> Counter[Ahead]:
    terms = {term.subscription_id: term for term in story.terms}
    found: Counter[Ahead] = Counter()
    for subscription_id, price_key, *_, amount, _, _, day, at in query(LINES, withdrawn=withdrawn):
        if day is not None:
            places = terms[subscription_id].tenant.places
            came = (
                places.midnight(dt.date.fromisoformat(day))
                if at is None
                else dt.datetime.fromisoformat(at)
            )
            found[Ahead(subscription_id, price_key, came)] += amount
    return found


def _differ(story: Story, wanted: set[Key], found: set[Key]) -> str:
    return f"missing {_known(story, wanted - found)}, not wanted {_known(story, found - wanted)}"


def _shown(story: Story, wrong: Mapping[Key, Any]) -> str:
    return f"{len(wrong)} differ: " + "; ".join(
        f"{one}: {wrong[key]}" for key in list(wrong)[:3] for one in _known(story, {key})
    )


def _known(story: Story, keys: set[Key]) -> list[str]:
    terms = {term.subscription_id: term for term in story.terms}
    return [f"{key} of {terms[key.subscription_id]}" for key in sorted(keys, key=str)[:3]]


# Invoices.


INVOICES = """
    SELECT id::text, tenant_id, currency, timezone, kind, state, period_start, period_end, series,
           sequence, number, subtotal_minor, discount_minor, tax_minor, included_tax_minor,
           total_minor, credit_minor, amount_due_minor, reduced_minor
    FROM invoices ORDER BY sequence
"""
DISCOUNTS = """
    SELECT invoice_id::text, coupon_key, amount_minor FROM invoice_discounts ORDER BY position
"""
TAXES = "SELECT invoice_id::text, tax_key, amount_minor FROM invoice_taxes ORDER BY position"
PARTS = """
    SELECT invoice_id::text, amount_minor, discounts_minor, taxes_minor FROM invoice_lines
"""


def check_invoices(story: Story) -> None:
    """Lines, discounts, taxes and credit make the figures of each invoice; numbers have no gap."""
    parts, discounts, taxes = (_by_invoice(each) for each in (PARTS, DISCOUNTS, TAXES))
    of_tenant = {tenant.tenant_id: tenant for tenant in story.tenants}
    invoices = [row._mapping for row in _rows(INVOICES)]
    for one in invoices:
        lines = parts.pop(one["id"], [])
        assert one["timezone"] in of_tenant[one["tenant_id"]].places.zones
        # What came to nothing as a draft has neither lines nor a number.
        assert bool(lines) == (one["number"] is not None), one
        if not lines:
            assert (one["state"], one["total_minor"]) == ("void", 0)
            continue
        left = sum(line[1] for line in lines)
        assert left == one["subtotal_minor"]
        for place, (_, coupon_key, amount) in enumerate(discounts[one["id"]]):
            assert amount == sum(line[2][place] for line in lines)
            assert amount == _off(coupon_key, left), one
            left -= amount
        rates = of_tenant[one["tenant_id"]].taxes
        assert [tax[1] for tax in taxes[one["id"]]] == list(rates)
        inside = sum(Fraction(catalogue.TAXES[key][0]) for key in rates if catalogue.TAXES[key][1])
        levied = {True: 0, False: 0}
        for place, (_, tax_key, amount) in enumerate(taxes[one["id"]]):
            percent, inclusive = catalogue.TAXES[tax_key]
            assert amount == sum(line[3][place] for line in lines)
            assert amount == half_up(Fraction(left) / (1 + inside / 100) * Fraction(percent) / 100)
            levied[inclusive] += amount
        assert one["discount_minor"] == one["subtotal_minor"] - left
        assert (one["tax_minor"], one["included_tax_minor"]) == (sum(levied.values()), levied[True])
        assert one["total_minor"] == left + levied[False]
        assert one["amount_due_minor"] == one["total_minor"] - one["credit_minor"]
        owed = one["amount_due_minor"] - one["reduced_minor"]
        assert (one["state"] == "paid") == (owed == 0)
    assert not parts
    _check_numbers([one for one in invoices if one["number"] is not None])


def _off(coupon_key: str, left: int) -> int:
    said = catalogue.COUPONS[coupon_key]
    if "percent" in said:
        return half_up(max(0, left) * Fraction(said["percent"]) / 100)
    return min(max(0, left), int(said["amount"]) * MINOR[said["currency"]])


def _check_numbers(invoices: list[Any]) -> None:
    sequences: dict[str, list[int]] = defaultdict(list)
    for one in invoices:
        sequences[one["series"]].append(one["sequence"])
    for series, sequence in query("SELECT series, sequence FROM credit_notes"):
        sequences[series].append(sequence)
    for series, given in sequences.items():
        assert sorted(given) == list(range(1, len(given) + 1)), series
    ends: dict[str, dt.datetime] = {}
    again = {_period_of(one) for one in invoices if one["state"] == "void"}
    for one in invoices:  # by number
        if one["kind"] == "subscription" and _period_of(one) not in again:
            before = ends.get(one["tenant_id"], one["period_end"])
            assert before <= one["period_end"], one
            ends[one["tenant_id"]] = one["period_end"]


def _period_of(one: Any) -> tuple[Any, ...]:
    return tuple(one[name] for name in ("tenant_id", "currency", "period_start", "period_end"))


def check_coupons(story: Story) -> None:
    """Each coupon is on as many invoices as it may be; one for ever on all that it can be on."""
    on: dict[tuple[str, str], set[str]] = defaultdict(set)
    for invoice_id, tenant_id, coupon_key in query("""
        SELECT invoices.id::text, tenant_id, coupon_key
        FROM invoices JOIN invoice_discounts ON invoice_id = invoices.id
        WHERE state <> 'void'
    """):
        on[tenant_id, coupon_key].add(invoice_id)
    invoices = [row._mapping for row in _rows(INVOICES) if row.state != "void"]
    redeemed = {
        (tenant_id, coupon_key): at
        for tenant_id, held in story.redeemed.items()
        for coupon_key, at in reversed(held)
    }
    assert on.keys() <= redeemed.keys()
    for (tenant_id, coupon_key), at in redeemed.items():
        said, found = catalogue.COUPONS[coupon_key], on[tenant_id, coupon_key]
        could = {
            one["id"]
            for one in invoices
            if one["tenant_id"] == tenant_id
            and one["currency"] == said.get("currency", one["currency"])
            and at < one["period_end"]
            # Or other coupons left nothing to be taken off.
            and (one["subtotal_minor"] - one["discount_minor"] > 50 or one["id"] in found)
        }
        most = {"once": 1, "repeating": 3, "forever": len(could)}[said["duration"]]
        assert found <= could, (tenant_id, coupon_key)
        assert len(found) == min(len(could), most), (tenant_id, coupon_key)


def check_credit(story: Story) -> None:
    """What was granted, less what paid invoices, is what is left."""
    moved: dict[str, Decimal] = defaultdict(Decimal, story.granted)
    for row in _rows(INVOICES):
        if row.state != "void":  # what paid one was given back
            moved[row.tenant_id] -= Decimal(row.credit_minor) / MINOR[row.currency]
    for tenant_id, currency, back in query(
        "SELECT tenant_id, currency, to_credit_minor FROM credit_notes"
    ):
        moved[tenant_id] += Decimal(back) / MINOR[currency]
    left = dict(query("SELECT tenant_id, balance FROM credit_balances"))
    assert {key: value for key, value in moved.items() if value} == {
        key: value for key, value in left.items() if value
    }


def check_events() -> None:
    """Every invoice was told of: once when it was made, once when it got its number."""
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for topic, invoice_id in query("""
        SELECT type, convert_from(body, 'UTF8')::json -> 'data' ->> 'invoice_id'
        FROM outbox_messages WHERE type LIKE 'billing.invoice.%'
    """):
        told[topic.removeprefix("billing.invoice.")][invoice_id] += 1
    invoices = {row.id: "dropped" if row.number is None else row.state for row in _rows(INVOICES)}
    assert told["created"] == Counter(invoices.keys())
    assert told["finalized"] == Counter(key for key in invoices if invoices[key] != "dropped")
    for state, topic in (("paid", "paid"), ("void", "voided"), ("dropped", "dropped")):
        assert told[topic] == Counter(key for key, each in invoices.items() if each == state)


def _rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)))


def _by_invoice(statement: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in query(statement):
        found[row[0]].append(row)
    return found
