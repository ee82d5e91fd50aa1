"""The step to leases of their own takes what is under way along."""

from sqlalchemy import Engine, text

from models import migrations

BEFORE = """
    INSERT INTO tenants (tenant_id) VALUES ('acme');
    INSERT INTO endpoints (id, tenant_id, url, topics)
    VALUES ('00000000-0000-7000-8000-000000000001', 'acme', 'https://a.example/', '{*}');
    INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
    SELECT ('00000000-0000-7000-8000-00000000001' || n)::uuid, 'billing.ping', 'acme', 1, n, '{}'
    FROM generate_series(1, 3) AS n;
    INSERT INTO deliveries (message_id, endpoint_id, state, due_at, lease_token, leased_until)
    SELECT ('00000000-0000-7000-8000-00000000001' || n)::uuid,
           '00000000-0000-7000-8000-000000000001', state, '2026-03-10', token, leased_until
    FROM (VALUES
        (1, 'pending', NULL, NULL),
        (2, 'sending', '00000000-0000-4000-8000-000000000009'::uuid, '2026-03-11'::timestamptz),
        (3, 'dead', NULL, NULL)) AS given(n, state, token, leased_until);
"""


def test_what_is_being_sent_keeps_its_lease(empty_database: Engine) -> None:
    migrations.upgrade(empty_database, "0019")
    with empty_database.begin() as connection:
        connection.exec_driver_sql(BEFORE)

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        states = connection.execute(text("SELECT state FROM deliveries ORDER BY id")).scalars()
        leases = connection.execute(
            text(
                "SELECT m.sequence, l.lease_token, l.leased_until::date::text "
                "FROM delivery_leases l JOIN deliveries d ON d.id = l.delivery_id "
                "JOIN outbox_messages m ON m.id = d.message_id"
            )
        ).all()
        assert list(states) == ["pending", "pending", "dead"]
    assert [(number, str(token)[-1], day) for number, token, day in leases] == [
        (2, "9", "2026-03-11")
    ]
