"""The step to what is owed keeps what was billed before, and freezes it as it was."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import migrations

BEFORE = """
    INSERT INTO tenants (tenant_id) VALUES ('acme');
    INSERT INTO invoice_series (series, last_number) VALUES ('INV', 3);
    INSERT INTO invoices (id, tenant_id, currency, timezone, period_start, period_end, total_minor,
                          state, series, sequence, number, finalized_at)
    SELECT ('00000000-0000-7000-8000-00000000000' || place)::uuid, 'acme', 'USD', 'UTC',
           make_date(2025, place, 1), make_date(2025, place + 1, 1), total_minor, state,
           CASE WHEN sequence IS NOT NULL THEN 'INV' END, sequence, 'INV-' || sequence,
           CASE WHEN sequence IS NOT NULL THEN timestamptz '2025-06-01Z' END
    FROM (VALUES (1, 500, 'finalized', 1), (2, 0, 'finalized', 2), (3, 700, 'paid', 3),
                 (4, 900, 'draft', NULL)) AS made(place, total_minor, state, sequence);
"""


def test_what_was_billed_is_owed_and_what_was_nothing_is_paid(empty_database: Engine) -> None:
    migrations.upgrade(empty_database, "0010")
    with empty_database.begin() as connection:
        connection.exec_driver_sql(BEFORE)

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT state, subtotal_minor, total_minor, amount_due_minor, paid_minor,
                       closed_at IS NOT NULL
                FROM invoices ORDER BY period_start
            """)
        ).all()
    assert [tuple(row) for row in found] == [
        ("finalized", 500, 500, 500, 0, False),
        ("paid", 0, 0, 0, 0, True),
        ("paid", 700, 700, 700, 700, True),
        ("draft", 900, 900, 900, 0, False),
    ]
    with pytest.raises(IntegrityError, match="can not be edited"), empty_database.begin() as again:
        again.exec_driver_sql("UPDATE invoices SET due_at = now() WHERE number = 'INV-1'")
