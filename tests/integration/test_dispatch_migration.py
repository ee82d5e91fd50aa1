"""The step to dispatch's tables keeps what was known of endpoints."""

from sqlalchemy import Engine, text

from models import migrations

BEFORE = """
    INSERT INTO tenants (tenant_id) VALUES ('acme');
    INSERT INTO endpoints (id, tenant_id, url, topics, state, hold_until, consecutive_failures)
    VALUES
        ('00000000-0000-7000-8000-000000000001', 'acme', 'https://a.example/x?y=/z', '{*}',
         'enabled', '2999-01-01', 7),
        ('00000000-0000-7000-8000-000000000002', 'acme', 'http://127.0.0.1:8080/', '{*}',
         'enabled', NULL, 0),
        ('00000000-0000-7000-8000-000000000003', 'acme', 'https://c.example/', '{*}',
         'disabled', '2999-01-01', 0);
"""


def test_holds_are_kept_and_hosts_are_read_from_the_urls(empty_database: Engine) -> None:
    migrations.upgrade(empty_database, "0003")
    with empty_database.begin() as connection:
        connection.exec_driver_sql(BEFORE)

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        hosts = connection.execute(text("SELECT host, ordered FROM endpoints ORDER BY id")).all()
        held = connection.execute(
            text("SELECT endpoint_id, extract(year FROM hold_until) FROM endpoint_health")
        ).all()
    assert [tuple(row) for row in hosts] == [
        ("a.example", False),
        ("127.0.0.1:8080", False),
        ("c.example", False),
    ]
    assert [(str(key)[-1], year) for key, year in held] == [("1", 2999)]
