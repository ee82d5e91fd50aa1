"""The demo's page as a program reads it, and the same figures counted from the database."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0}
DRAWN = {"rect", "polyline", "circle", "path"}


@dataclass
class Shown:
    """What is on the page: figures by their key, how often each tag, the shapes of each plot."""

    source: str
    figures: dict[str, str] = field(default_factory=dict)
    tags: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)


class _Reader(HTMLParser):
    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self._shown = shown
        self._key = ""
        self._plot = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._shown.tags[tag] += 1
        self._key = given.get("data-figure") or ""
        if self._key:
            assert self._key not in self._shown.figures, self._key
            self._shown.figures[self._key] = ""
        if tag == "svg":
            self._plot = given.get("aria-labelledby") or ""
        if tag in DRAWN and self._plot:
            self._shown.shapes[self._plot] += 1

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (the parser's name for it)
        self._key = ""

    def handle_data(self, data: str) -> None:
        if self._key:
            self._shown.figures[self._key] += data


def read(path: Path) -> Shown:
    """Read the page."""
    shown = Shown(path.read_text(encoding="utf-8"))
    _Reader(shown).feed(shown.source)
    return shown


def figures_of(connection: Connection) -> dict[str, str]:
    """Return every figure of the page as the database has it, from events, ledger and attempts."""
    return {
        **dict(_usage(connection)),
        **dict(_invoices(connection)),
        **dict(_credit(connection)),
        **dict(_attempts(connection)),
    }


def _usage(connection: Connection) -> Iterator[tuple[str, str]]:
    """From the events themselves: the page draws the totals."""
    rows = _rows(
        connection,
        """
        SELECT metric, tenant_id, (at AT TIME ZONE timezone)::date AS day, sum(amount) AS total
        FROM usage_events JOIN tenants USING (tenant_id)
        GROUP BY metric, tenant_id, day
        """,
    )
    sums: Counter[str] = Counter()
    for metric, tenant_id, day, total in rows:
        for key in ("", f"/{tenant_id}", f"/{tenant_id}/{day}"):
            sums[f"usage/{metric}{key}"] += total
    yield from ((key, f"{total:,}") for key, total in sums.items())


def _invoices(connection: Connection) -> Iterator[tuple[str, str]]:
    lines = """
        SELECT number, 'line/' || position, amount_minor, invoices.currency
        FROM invoice_lines JOIN invoices ON invoices.id = invoice_id
        UNION ALL
        SELECT number, 'due', amount_due_minor, currency FROM invoices
        UNION ALL
        SELECT number,
               'step/' || row_number() OVER (PARTITION BY number ORDER BY steps.nth, position),
               minor, currency
        FROM (
            SELECT invoice_id, 1 AS nth, position, -amount_minor AS minor FROM invoice_discounts
            UNION ALL SELECT invoice_id, 2, position, amount_minor FROM invoice_taxes
            UNION ALL SELECT id, 3, 1, -credit_minor FROM invoices WHERE credit_minor <> 0
        ) AS steps JOIN invoices ON invoices.id = invoice_id
    """
    for number, key, minor, currency in _rows(connection, lines):
        amount = Decimal(minor).scaleb(-DECIMALS[currency])
        yield f"invoice/{number}/{key}", f"{amount:,} {currency}"


def _credit(connection: Connection) -> Iterator[tuple[str, str]]:
    rows = _rows(
        connection,
        """
        SELECT tenant_id, (created_at AT TIME ZONE 'UTC')::date, action,
               CASE direction WHEN 'CREDIT' THEN amount ELSE -amount END
        FROM ledger_entries WHERE product_key = 'FREE_CALLS'
        """,
    )
    sums: Counter[str] = Counter()
    days = sorted({day for _, day, _, _ in rows})
    for tenant_id, on, action, amount in rows:
        sums[f"credit/{tenant_id}/{action}"] += abs(amount)
        sums[f"credit/{tenant_id}/left"] += amount
        sums[f"credit/{on}/{action}"] += abs(amount)
        for day in days:
            sums[f"credit/{day}/left"] += amount if on <= day else 0
    yield from ((key, f"{amount:,}") for key, amount in sums.items())


def _attempts(connection: Connection) -> Iterator[tuple[str, str]]:
    rows = _rows(
        connection,
        """
        SELECT outcome, coalesce(status::text, '-'), attempt_number > 1, count(*)
        FROM delivery_attempts GROUP BY 1, 2, 3
        """,
    )
    for outcome, status, again, count in rows:
        yield f"attempts/{outcome}/{status}/{'retry' if again else 'first'}", f"{count:,}"
    yield "attempts", f"{sum(row[-1] for row in rows):,}"


def _rows(connection: Connection, statement: str) -> list[Any]:
    return list(connection.execute(text(statement)))
