-- Roles with the least rights that each process needs (docs/safety.md). Printed by
-- `billing schema roles`; run it after `billing migrate`, and again whenever you like, as a
-- superuser or as an owner of the tables who may create roles:
--
--   billing schema roles | psql --set ON_ERROR_STOP=1 "$ADMIN_URL"
--
-- These are groups. Processes log in as members, as many as you like, such as
--
--   CREATE ROLE worker_1 LOGIN PASSWORD '…' IN ROLE billing_worker;
--   CREATE ROLE sender_1 LOGIN PASSWORD '…' IN ROLE billing_sender;
--   ALTER ROLE worker_1 SET log_error_verbosity = 'terse';  -- no rows in the server's log
--
-- and one that works for all queues is a member of both. `billing migrate` goes on as the owner.

BEGIN;

DO $$ BEGIN
    IF to_regrole('billing_worker') IS NULL THEN
        CREATE ROLE billing_worker NOLOGIN;
        COMMENT ON ROLE billing_worker
            IS 'workers of the queues usage and billing, and operators';
    END IF;
END $$;

DO $$ BEGIN
    IF to_regrole('billing_sender') IS NULL THEN
        CREATE ROLE billing_sender NOLOGIN;
        COMMENT ON ROLE billing_sender
            IS 'workers of the queue webhooks: endpoints, deliveries, the invoicing provider';
    END IF;
END $$;

DO $$ BEGIN
    IF to_regrole('billing_producer') IS NULL THEN
        CREATE ROLE billing_producer NOLOGIN;
        COMMENT ON ROLE billing_producer
            IS 'a service that records usage in its own process, without a queue';
    END IF;
END $$;

DO $$ BEGIN
    IF to_regrole('billing_reader') IS NULL THEN
        CREATE ROLE billing_reader NOLOGIN;
        COMMENT ON ROLE billing_reader
            IS 'billing status, billing metrics, billing doctor, dashboards';
    END IF;
END $$;

-- Nobody but the owner makes tables, lasting or temporary, and nobody else comes in.
DO $$
DECLARE
    everyone text := 'billing_worker, billing_sender, billing_producer, billing_reader';
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), everyone);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), everyone);
END $$;

-- billing_worker: workers of the queues usage and billing, and operators
REVOKE ALL ON
    alembic_version, tenants, tenant_identities, tenant_merges, tenant_zones, parked_tenants,
    legacy_rows, usage_events, usage_voids, usage_touched_days, usage_aggregates,
    usage_quarter_hours, usage_horizons, usage_archives, usage_purged_keys, meters, check_runs,
    entitlements, quota_metrics, quota_counters, quota_arrivals, credit_balances,
    credit_batches, ledger_entries, reservations, reservation_slices, credit_notices,
    expiry_notices, plan_credits, subscription_credits, credit_allocations, prepaid_products,
    catalog_keys, products, offers, offer_items, plans, prices, subscriptions,
    subscription_quantities, coupons, coupon_redemptions, orders, order_items, order_grants,
    order_payments, trials, trial_identities, referral_programs, referrals, issuers, tax_rates,
    tax_profiles, tax_profile_rates, invoice_series, invoices, invoice_lines, invoice_discounts,
    invoice_taxes, late_usage, late_usage_credits, payments, credit_notes, credit_note_lines,
    invoice_syncs, invoice_sync_attempts, provider_customers, provider_health, idempotency_keys,
    rejected_messages, outbox_messages, outbox_pending, endpoints, endpoint_secrets,
    endpoint_health, deliveries, delivery_leases, delivery_attempts, delivery_attempts_default
FROM billing_worker;
GRANT SELECT ON alembic_version TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON tenants TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_identities TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON tenant_merges TO billing_worker;
GRANT SELECT, INSERT ON tenant_zones TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON parked_tenants TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON legacy_rows TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_events TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON usage_voids TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_touched_days TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_aggregates TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_quarter_hours TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON usage_horizons TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON usage_archives TO billing_worker;
GRANT SELECT, INSERT, DELETE ON usage_purged_keys TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON meters TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON check_runs TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON entitlements TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON quota_metrics TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON quota_counters TO billing_worker;
GRANT SELECT, INSERT, DELETE ON quota_arrivals TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON credit_balances TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON credit_batches TO billing_worker;
GRANT SELECT, INSERT ON ledger_entries TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON reservations TO billing_worker;
GRANT SELECT, INSERT ON reservation_slices TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON credit_notices TO billing_worker;
GRANT SELECT, INSERT ON expiry_notices TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON plan_credits TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON subscription_credits TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON credit_allocations TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON prepaid_products TO billing_worker;
GRANT SELECT, INSERT ON catalog_keys TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON products TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON offers TO billing_worker;
GRANT SELECT, INSERT, DELETE ON offer_items TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON plans TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON prices TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON subscriptions TO billing_worker;
GRANT SELECT, INSERT, DELETE ON subscription_quantities TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON coupons TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON coupon_redemptions TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON orders TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON order_items TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON order_grants TO billing_worker;
GRANT SELECT, INSERT ON order_payments TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON trials TO billing_worker;
GRANT SELECT, INSERT ON trial_identities TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON referral_programs TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON referrals TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON issuers TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON tax_rates TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON tax_profiles TO billing_worker;
GRANT SELECT, INSERT, DELETE ON tax_profile_rates TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON invoice_series TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON invoices TO billing_worker;
GRANT SELECT, INSERT, DELETE ON invoice_lines TO billing_worker;
GRANT SELECT, INSERT, DELETE ON invoice_discounts TO billing_worker;
GRANT SELECT, INSERT, DELETE ON invoice_taxes TO billing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON late_usage TO billing_worker;
GRANT SELECT, INSERT ON late_usage_credits TO billing_worker;
GRANT SELECT, INSERT ON payments TO billing_worker;
GRANT SELECT, INSERT ON credit_notes TO billing_worker;
GRANT SELECT, INSERT ON credit_note_lines TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON invoice_syncs TO billing_worker;
GRANT SELECT ON invoice_sync_attempts TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON provider_customers TO billing_worker;
GRANT SELECT ON provider_health TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO billing_worker;
GRANT SELECT, INSERT, UPDATE ON rejected_messages TO billing_worker;
GRANT SELECT, INSERT ON outbox_messages TO billing_worker;
GRANT SELECT, INSERT ON outbox_pending TO billing_worker;
GRANT SELECT, UPDATE ON endpoints TO billing_worker;
GRANT SELECT ON endpoint_health TO billing_worker;
GRANT SELECT ON deliveries TO billing_worker;
GRANT SELECT ON delivery_leases TO billing_worker;
GRANT SELECT ON delivery_attempts TO billing_worker;
GRANT EXECUTE ON FUNCTION prepare_attempts_day(date) TO billing_worker;
REVOKE EXECUTE ON FUNCTION drop_attempts_day(date) FROM billing_worker;

-- billing_sender: workers of the queue webhooks: endpoints, deliveries, the invoicing provider
REVOKE ALL ON
    alembic_version, tenants, tenant_identities, tenant_merges, tenant_zones, parked_tenants,
    legacy_rows, usage_events, usage_voids, usage_touched_days, usage_aggregates,
    usage_quarter_hours, usage_horizons, usage_archives, usage_purged_keys, meters, check_runs,
    entitlements, quota_metrics, quota_counters, quota_arrivals, credit_balances,
    credit_batches, ledger_entries, reservations, reservation_slices, credit_notices,
    expiry_notices, plan_credits, subscription_credits, credit_allocations, prepaid_products,
    catalog_keys, products, offers, offer_items, plans, prices, subscriptions,
    subscription_quantities, coupons, coupon_redemptions, orders, order_items, order_grants,
    order_payments, trials, trial_identities, referral_programs, referrals, issuers, tax_rates,
    tax_profiles, tax_profile_rates, invoice_series, invoices, invoice_lines, invoice_discounts,
    invoice_taxes, late_usage, late_usage_credits, payments, credit_notes, credit_note_lines,
    invoice_syncs, invoice_sync_attempts, provider_customers, provider_health, idempotency_keys,
    rejected_messages, outbox_messages, outbox_pending, endpoints, endpoint_secrets,
    endpoint_health, deliveries, delivery_leases, delivery_attempts, delivery_attempts_default
FROM billing_sender;
GRANT SELECT ON alembic_version TO billing_sender;
GRANT SELECT, INSERT, UPDATE (updated_at) ON tenants TO billing_sender;
GRANT SELECT ON invoices TO billing_sender;
GRANT SELECT ON invoice_lines TO billing_sender;
GRANT SELECT ON invoice_discounts TO billing_sender;
GRANT SELECT ON invoice_taxes TO billing_sender;
GRANT SELECT ON payments TO billing_sender;
GRANT SELECT ON credit_notes TO billing_sender;
GRANT SELECT ON credit_note_lines TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON invoice_syncs TO billing_sender;
GRANT SELECT, INSERT ON invoice_sync_attempts TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON provider_customers TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON provider_health TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON rejected_messages TO billing_sender;
GRANT SELECT, INSERT, DELETE, UPDATE (truncated) ON outbox_messages TO billing_sender;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_pending TO billing_sender;
GRANT SELECT, INSERT, UPDATE ON endpoints TO billing_sender;
GRANT SELECT, INSERT, UPDATE, DELETE ON endpoint_secrets TO billing_sender;
GRANT SELECT, INSERT, UPDATE, DELETE ON endpoint_health TO billing_sender;
GRANT SELECT, INSERT, UPDATE, DELETE ON deliveries TO billing_sender;
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_leases TO billing_sender;
GRANT SELECT, INSERT ON delivery_attempts TO billing_sender;
GRANT SELECT, DELETE ON delivery_attempts_default TO billing_sender;
REVOKE EXECUTE ON FUNCTION prepare_attempts_day(date) FROM billing_sender;
GRANT EXECUTE ON FUNCTION drop_attempts_day(date) TO billing_sender;

-- billing_producer: a service that records usage in its own process, without a queue
REVOKE ALL ON
    alembic_version, tenants, tenant_identities, tenant_merges, tenant_zones, parked_tenants,
    legacy_rows, usage_events, usage_voids, usage_touched_days, usage_aggregates,
    usage_quarter_hours, usage_horizons, usage_archives, usage_purged_keys, meters, check_runs,
    entitlements, quota_metrics, quota_counters, quota_arrivals, credit_balances,
    credit_batches, ledger_entries, reservations, reservation_slices, credit_notices,
    expiry_notices, plan_credits, subscription_credits, credit_allocations, prepaid_products,
    catalog_keys, products, offers, offer_items, plans, prices, subscriptions,
    subscription_quantities, coupons, coupon_redemptions, orders, order_items, order_grants,
    order_payments, trials, trial_identities, referral_programs, referrals, issuers, tax_rates,
    tax_profiles, tax_profile_rates, invoice_series, invoices, invoice_lines, invoice_discounts,
    invoice_taxes, late_usage, late_usage_credits, payments, credit_notes, credit_note_lines,
    invoice_syncs, invoice_sync_attempts, provider_customers, provider_health, idempotency_keys,
    rejected_messages, outbox_messages, outbox_pending, endpoints, endpoint_secrets,
    endpoint_health, deliveries, delivery_leases, delivery_attempts, delivery_attempts_default
FROM billing_producer;
GRANT SELECT ON alembic_version TO billing_producer;
GRANT SELECT, INSERT, UPDATE (updated_at) ON tenants TO billing_producer;
GRANT SELECT, INSERT ON usage_events TO billing_producer;
GRANT SELECT ON usage_voids TO billing_producer;
GRANT SELECT, INSERT ON usage_touched_days TO billing_producer;
GRANT SELECT, UPDATE (updated_at) ON usage_horizons TO billing_producer;
GRANT SELECT ON usage_purged_keys TO billing_producer;
GRANT SELECT ON meters TO billing_producer;
GRANT SELECT ON quota_metrics TO billing_producer;
GRANT SELECT, INSERT ON quota_arrivals TO billing_producer;
GRANT SELECT, INSERT, UPDATE ON rejected_messages TO billing_producer;
GRANT SELECT, INSERT ON outbox_messages TO billing_producer;
GRANT SELECT, INSERT ON outbox_pending TO billing_producer;
REVOKE EXECUTE ON FUNCTION prepare_attempts_day(date) FROM billing_producer;
REVOKE EXECUTE ON FUNCTION drop_attempts_day(date) FROM billing_producer;

-- billing_reader: billing status, billing metrics, billing doctor, dashboards
REVOKE ALL ON
    alembic_version, tenants, tenant_identities, tenant_merges, tenant_zones, parked_tenants,
    legacy_rows, usage_events, usage_voids, usage_touched_days, usage_aggregates,
    usage_quarter_hours, usage_horizons, usage_archives, usage_purged_keys, meters, check_runs,
    entitlements, quota_metrics, quota_counters, quota_arrivals, credit_balances,
    credit_batches, ledger_entries, reservations, reservation_slices, credit_notices,
    expiry_notices, plan_credits, subscription_credits, credit_allocations, prepaid_products,
    catalog_keys, products, offers, offer_items, plans, prices, subscriptions,
    subscription_quantities, coupons, coupon_redemptions, orders, order_items, order_grants,
    order_payments, trials, trial_identities, referral_programs, referrals, issuers, tax_rates,
    tax_profiles, tax_profile_rates, invoice_series, invoices, invoice_lines, invoice_discounts,
    invoice_taxes, late_usage, late_usage_credits, payments, credit_notes, credit_note_lines,
    invoice_syncs, invoice_sync_attempts, provider_customers, provider_health, idempotency_keys,
    rejected_messages, outbox_messages, outbox_pending, endpoints, endpoint_secrets,
    endpoint_health, deliveries, delivery_leases, delivery_attempts, delivery_attempts_default
FROM billing_reader;
GRANT SELECT ON alembic_version TO billing_reader;
GRANT SELECT ON tenants TO billing_reader;
GRANT SELECT ON tenant_identities TO billing_reader;
GRANT SELECT ON tenant_merges TO billing_reader;
GRANT SELECT ON tenant_zones TO billing_reader;
GRANT SELECT ON parked_tenants TO billing_reader;
GRANT SELECT ON legacy_rows TO billing_reader;
GRANT SELECT ON usage_events TO billing_reader;
GRANT SELECT ON usage_voids TO billing_reader;
GRANT SELECT ON usage_touched_days TO billing_reader;
GRANT SELECT ON usage_aggregates TO billing_reader;
GRANT SELECT ON usage_quarter_hours TO billing_reader;
GRANT SELECT ON usage_horizons TO billing_reader;
GRANT SELECT ON usage_archives TO billing_reader;
GRANT SELECT ON usage_purged_keys TO billing_reader;
GRANT SELECT ON meters TO billing_reader;
GRANT SELECT ON check_runs TO billing_reader;
GRANT SELECT ON entitlements TO billing_reader;
GRANT SELECT ON quota_metrics TO billing_reader;
GRANT SELECT ON quota_counters TO billing_reader;
GRANT SELECT ON quota_arrivals TO billing_reader;
GRANT SELECT ON credit_balances TO billing_reader;
GRANT SELECT ON credit_batches TO billing_reader;
GRANT SELECT ON ledger_entries TO billing_reader;
GRANT SELECT ON reservations TO billing_reader;
GRANT SELECT ON reservation_slices TO billing_reader;
GRANT SELECT ON credit_notices TO billing_reader;
GRANT SELECT ON expiry_notices TO billing_reader;
GRANT SELECT ON plan_credits TO billing_reader;
GRANT SELECT ON subscription_credits TO billing_reader;
GRANT SELECT ON credit_allocations TO billing_reader;
GRANT SELECT ON prepaid_products TO billing_reader;
GRANT SELECT ON catalog_keys TO billing_reader;
GRANT SELECT ON products TO billing_reader;
GRANT SELECT ON offers TO billing_reader;
GRANT SELECT ON offer_items TO billing_reader;
GRANT SELECT ON plans TO billing_reader;
GRANT SELECT ON prices TO billing_reader;
GRANT SELECT ON subscriptions TO billing_reader;
GRANT SELECT ON subscription_quantities TO billing_reader;
GRANT SELECT ON coupons TO billing_reader;
GRANT SELECT ON coupon_redemptions TO billing_reader;
GRANT SELECT ON orders TO billing_reader;
GRANT SELECT ON order_items TO billing_reader;
GRANT SELECT ON order_grants TO billing_reader;
GRANT SELECT ON order_payments TO billing_reader;
GRANT SELECT ON trials TO billing_reader;
GRANT SELECT (pepper_id, trial_id) ON trial_identities TO billing_reader;
GRANT SELECT ON referral_programs TO billing_reader;
GRANT SELECT ON referrals TO billing_reader;
GRANT SELECT ON issuers TO billing_reader;
GRANT SELECT ON tax_rates TO billing_reader;
GRANT SELECT ON tax_profiles TO billing_reader;
GRANT SELECT ON tax_profile_rates TO billing_reader;
GRANT SELECT ON invoice_series TO billing_reader;
GRANT SELECT ON invoices TO billing_reader;
GRANT SELECT ON invoice_lines TO billing_reader;
GRANT SELECT ON invoice_discounts TO billing_reader;
GRANT SELECT ON invoice_taxes TO billing_reader;
GRANT SELECT ON late_usage TO billing_reader;
GRANT SELECT ON late_usage_credits TO billing_reader;
GRANT SELECT ON payments TO billing_reader;
GRANT SELECT ON credit_notes TO billing_reader;
GRANT SELECT ON credit_note_lines TO billing_reader;
GRANT SELECT ON invoice_syncs TO billing_reader;
GRANT SELECT ON invoice_sync_attempts TO billing_reader;
GRANT SELECT ON provider_customers TO billing_reader;
GRANT SELECT ON provider_health TO billing_reader;
GRANT SELECT (tenant_id, operation, key, created_at) ON idempotency_keys TO billing_reader;
GRANT SELECT (id, task, tenant_id, code, state, message_id, seen_count, received_at, last_seen_at, resolved_at, resolved_by, replayed_as) ON rejected_messages TO billing_reader;
GRANT SELECT (id, type, tenant_id, schema_version, sequence, truncated, created_at, correlation_id, traceparent) ON outbox_messages TO billing_reader;
GRANT SELECT ON outbox_pending TO billing_reader;
GRANT SELECT (id, tenant_id, operator, url, topics, description, host, ordered, rate_per_minute, state, unsettled, metadata, version, created_at, updated_at) ON endpoints TO billing_reader;
GRANT SELECT (id, endpoint_id, kind, created_at, expires_at) ON endpoint_secrets TO billing_reader;
GRANT SELECT ON endpoint_health TO billing_reader;
GRANT SELECT ON deliveries TO billing_reader;
GRANT SELECT ON delivery_leases TO billing_reader;
GRANT SELECT (id, attempted_at, delivery_id, endpoint_id, attempt_number, outcome, status, latency_ms, error) ON delivery_attempts TO billing_reader;
REVOKE EXECUTE ON FUNCTION prepare_attempts_day(date) FROM billing_reader;
REVOKE EXECUTE ON FUNCTION drop_attempts_day(date) FROM billing_reader;

COMMIT;
