"""The contract of webhooks, line by line: each has a test that it holds.

The first part is its fault table, row by row; the second what it says beside it.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAULTS_OF_AN_ATTEMPT = "integration/webhooks/test_faults.py"
TRANSPORT = "integration/webhooks/test_transport.py"
SENDERS = "integration/webhooks/test_sender_faults.py"
DELIVERY = "integration/test_delivery.py"
DISPATCH = "integration/test_dispatch.py"
HEALTH = "integration/test_endpoint_health.py"
SECRETS = "integration/test_endpoint_secrets.py"
REPLAYS = "integration/test_replays.py"
RECEIVERS = "integration/test_receivers.py"
PURGE = "integration/test_purge.py"
EXAMPLES = "acceptance/test_examples.py"

FAULTS: dict[str, dict[str, list[str]]] = {
    "header drip; body drip after a 200 head; never answers; never reads an 8 MiB body": {
        FAULTS_OF_AN_ATTEMPT: [
            "test_peer_without_a_complete_head_in_time_is_a_timeout",
            "test_a_200_that_comes_with_the_end_of_a_late_head_is_still_a_timeout",
            "test_body_drip_after_a_200_head_is_delivered_with_the_body_cut",
            "test_peer_that_never_reads_a_large_body_is_a_timeout",
        ],
        TRANSPORT: ["test_header_drip_under_tls_is_a_timeout"],
    },
    "endless 200 body; endless 302 body with Location; gzip bomb": {
        FAULTS_OF_AN_ATTEMPT: [
            "test_of_an_endless_body_16_kib_are_read",
            "test_endless_redirect_body_is_not_buffered",
            "test_gzip_bomb_is_not_decoded",
        ],
    },
    "endless 100 Continue; 103 then 200; 101, 199, 304, 600": {
        FAULTS_OF_AN_ATTEMPT: [
            "test_peer_with_nothing_but_interim_answers_is_not_waited_for",
            "test_interim_answers_are_skipped",
            "test_any_other_status_is_an_http_error",
        ],
    },
    "reset or close before a byte; stale pooled connection": {
        FAULTS_OF_AN_ATTEMPT: [
            "test_close_or_reset_before_a_byte_is_a_connection_error",
            "test_stale_connection_is_replaced_once_within_the_same_attempt",
            "test_peer_that_hangs_up_on_the_fresh_connection_too_is_an_error",
        ],
        TRANSPORT: ["test_stale_tls_connection_is_replaced_within_the_attempt"],
    },
    "bad chunking, two Content-Lengths, 1,000 headers, 70 KB header line, SSH, HTTP/2": {
        FAULTS_OF_AN_ATTEMPT: [
            "test_what_is_not_http_is_an_outcome_and_not_an_exception",
            "test_complete_2xx_head_is_a_delivery_whatever_else_is_wrong",
            "test_random_answers_never_raise",
            "test_hostile_heads_do_not_grow_memory",
        ],
        SENDERS: ["test_a_senders_memory_stays_bounded_while_hostile_peers_talk"],
    },
    "301-308 to a public or metadata address": {
        FAULTS_OF_AN_ATTEMPT: ["test_redirect_is_an_error_and_its_target_is_never_contacted"],
    },
    "every spelling of loopback, private, link-local, metadata, mapped, NAT64, 6to4": {
        "unit/test_deny_oracles.py": [
            "test_every_spelling_of_an_inner_address_is_refused",
            "test_the_deny_list_is_an_oracles_but_for_networks_that_are_named",
            "test_what_we_allow_both_allow",
            "test_what_we_take_as_a_url_an_oracle_takes",
            "test_an_oracle_and_we_mean_the_same_host",
        ],
        "unit/test_guard.py": ["test_inside_address_is_refused_as_a_url_and_as_an_answer"],
        "integration/test_endpoints.py": ["test_a_url_that_nothing_is_sent_to_is_refused"],
        "integration/test_endpoint_update.py": [
            "test_what_can_not_be_is_refused_and_nothing_changes"
        ],
        TRANSPORT: ["test_url_that_is_refused_at_creation_is_refused_at_sending"],
    },
    "name that resolves public, then private (rebinding); mixed answers": {
        TRANSPORT: [
            "test_rebinding_name_is_looked_up_once_and_the_checked_address_is_used",
            "test_each_new_connection_is_checked_again",
            "test_name_that_leads_inside_even_partly_is_refused",
        ],
    },
    "DNS hang, NXDOMAIN": {
        TRANSPORT: [
            "test_hanging_name_servers_are_a_dns_error_in_time",
            "test_unknown_name_is_a_dns_error",
        ],
        "unit/test_guard.py": [
            "test_hanging_lookups_end_for_the_caller_and_can_not_pile_up",
            "test_lookup_is_never_given_more_than_three_seconds",
        ],
    },
    "HTTP_PROXY, NETRC, CA variables set; Set-Cookie from a peer": {
        TRANSPORT: [
            "test_proxies_netrc_and_ca_variables_are_ignored",
            "test_cookies_are_never_sent_back",
        ],
    },
    "self-signed, expired, wrong host, TLS 1.0": {
        TRANSPORT: [
            "test_certificate_that_proves_nothing_is_a_tls_error",
            "test_certificate_of_an_authority_that_is_not_trusted_is_a_tls_error",
            "test_tls_1_0_is_a_tls_error",
        ],
    },
    "Retry-After 3600, a date, -5, 1e9, duplicated": {
        FAULTS_OF_AN_ATTEMPT: ["test_retry_after_is_read_from_the_answer"],
        "unit/test_retry.py": [
            "test_retry_after_is_honoured_up_to_a_day",
            "test_junk_past_and_repeated_retry_after_is_ignored",
        ],
        DELIVERY: ["test_retry_after_holds_the_whole_endpoint"],
    },
    "410; 404 for days; a success every tenth try": {
        FAULTS_OF_AN_ATTEMPT: ["test_410_is_gone"],
        DELIVERY: [
            "test_gone_disables_the_endpoint_once_holds_its_deliveries_and_says_so",
            "test_a_delivery_that_spent_its_attempts_is_dead",
        ],
        HEALTH: [
            "test_each_stage_of_a_failure_is_told_once",
            "test_the_disable_rule_needs_all_its_parts",
            "test_a_success_every_tenth_try_never_disables",
        ],
    },
    "a dead endpoint with 500,000 due rows; a 14 s endpoint; 1,000 tenants on one dead host": {
        "acceptance/test_benchmarks.py": ["test_every_way_is_measured_beside_its_floors"],
        DELIVERY: ["test_a_dead_endpoint_with_many_rows_does_not_delay_a_healthy_one"],
        DISPATCH: [
            "test_a_slow_tenant_leaves_three_quarters_of_the_slots",
            "test_the_end_of_a_run_makes_nobody_wait_for_a_slow_neighbour",
            "test_what_happens_while_all_that_is_on_the_wire_is_slow_goes_out_at_once",
        ],
        SENDERS: ["test_a_thousand_tenants_on_one_dead_host_cost_twenty_slots"],
    },
    "kill -9 before, during, after the 2xx; SIGTERM; SIGSTOP past the lease": {
        SENDERS: [
            "test_two_senders_killed_at_random_lose_nothing_and_double_only_what_was_in_flight",
            "test_what_was_claimed_but_not_begun_when_its_sender_was_killed_is_sent_once",
            "test_what_was_answered_well_but_not_written_when_its_sender_was_killed_is_sent_twice",
            "test_a_sender_that_stood_still_past_its_lease_changes_nothing_any_more",
        ],
        DELIVERY: [
            "test_shutdown_begins_nothing_and_gives_back_what_was_claimed",
            "test_a_run_that_is_stopped_gives_back_what_it_has_not_begun",
            "test_a_lease_that_ran_out_is_sent_again_and_its_late_result_is_refused",
        ],
        "acceptance/test_sigterm.py": ["test_a_busy_worker_loses_nothing_and_leaves_nothing_stuck"],
    },
    "PostgreSQL restarted; Redis flushed or down; Celery message duplicated, lost, reordered": {
        SENDERS: ["test_senders_outlive_a_restart_of_postgresql"],
        "acceptance/test_redis_flushed.py": [
            "test_the_month_closes_though_redis_forgets_everything_and_dies"
        ],
        DELIVERY: [
            "test_a_kill_between_the_commit_and_the_ring_loses_no_webhook",
            "test_a_second_run_sends_nothing_twice",
            "test_two_senders_at_once_deliver_each_once",
        ],
    },
    "domain rollback; a commit that lands late with a lower id; a task retried after emitting": {
        DELIVERY: [
            "test_what_is_rolled_back_was_never_said",
            "test_a_message_that_commits_late_with_a_lower_id_is_delivered",
        ],
        "integration/test_endpoint_crashes.py": [
            "test_dying_after_the_commit_leaves_all_and_the_call_comes_again"
        ],
    },
    "endpoint deleted, URL or secret changed mid-retry": {
        DELIVERY: [
            "test_an_endpoint_deleted_between_attempts_gets_nothing_more",
            "test_an_endpoint_deleted_during_an_attempt_cancels_it_unless_it_arrives",
        ],
        SENDERS: [
            "test_a_url_that_changed_between_attempts_gets_the_next_one",
            "test_a_secret_that_changed_between_attempts_signs_beside_the_old_one",
        ],
    },
    "300 KiB payload; emoji; empty data": {
        RECEIVERS: [
            "test_an_event_that_is_too_large_comes_thin_and_verifies",
            "test_a_receiver_takes_what_is_sent_once_however_often_it_comes",
        ],
        EXAMPLES: [
            "test_the_python_receiver_takes_a_signed_webhook",
            "test_the_node_receiver_takes_a_signed_webhook",
        ],
    },
    "tenant A reads or replays B's deliveries": {
        "integration/test_delivery_list.py": [
            "test_another_tenants_delivery_is_not_found",
            "test_figures_of_another_tenants_endpoint_are_not_shown",
        ],
        REPLAYS: ["test_everybodys_and_a_tenants_dead_ones_go_again_and_no_others"],
        DELIVERY: ["test_a_tenant_never_hears_of_another_and_the_operator_hears_of_all"],
    },
}

SAID: dict[str, dict[str, list[str]]] = {
    "an event is immutable, one compact body, stored and sent as the same bytes, never NaN": {
        "unit/test_event_bodies.py": [
            "test_a_body_is_compact_utf_8_with_the_fields_of_the_contract_in_order",
            "test_no_number_of_a_body_has_a_fraction",
            "test_what_is_no_number_is_no_event",
        ],
        DELIVERY: [
            "test_the_database_refuses_to_change_what_was_said",
            "test_a_failure_is_retried_later_under_the_same_id",
        ],
        TRANSPORT: ["test_any_body_arrives_unchanged_and_verifies_independently"],
    },
    "filters: exact types, prefixes mean children only, tenant or operator": {
        "integration/test_endpoints.py": [
            "test_a_prefix_means_children_only",
            "test_sql_and_python_agree_on_what_a_pattern_matches",
            "test_an_endpoint_belongs_to_a_tenant_or_to_the_operator",
        ],
    },
    "headers of the request, and which custom ones are refused": {
        TRANSPORT: ["test_request_carries_the_headers_of_the_contract_and_nothing_else"],
        "unit/test_headers.py": [
            "test_header_of_ours_or_without_a_proper_name_is_refused_by_name",
            "test_too_many_too_large_or_repeated_headers_are_refused",
        ],
    },
    "signatures: published vectors, v1 first, rotation, at most five keys, revoked at once": {
        "unit/test_signing.py": [
            "test_published_vector_is_matched_to_the_letter",
            "test_signatures_are_joined_by_one_space_and_v1_comes_first",
            "test_independent_verifier_accepts_our_signature",
        ],
        SECRETS: [
            "test_after_a_rotation_both_secrets_verify_until_the_old_ones_time_is_over",
            "test_a_revoked_secret_signs_no_more",
            "test_at_most_five_keys_live_at_one_time",
            "test_an_endpoint_with_a_key_pair_gives_its_public_half_away_and_signs_with_the_other",
        ],
    },
    "secrets at rest: sealed, the master key rotates, without it nothing is sent": {
        "unit/test_keyring.py": [
            "test_any_altered_or_missing_byte_is_noticed",
            "test_rotation_opens_with_the_old_key_and_seals_with_the_current",
        ],
        DELIVERY: ["test_without_a_master_key_everything_waits_and_nothing_is_sent"],
    },
    "one deadline; at most four addresses in five seconds": {
        TRANSPORT: [
            "test_deadline_outside_its_limits_is_refused",
            "test_addresses_that_do_not_answer_are_not_waited_for_until_the_deadline",
        ],
        "unit/test_guard.py": ["test_at_most_four_addresses_of_both_families_by_turns"],
    },
    "the schedule, its jitter and its cap, as a model written from the contract": {
        "unit/test_retry_model.py": [
            "test_a_delivery_lives_as_the_contract_says",
            "test_a_circuit_opens_exactly_when_the_contract_says",
            "test_the_model_knows_the_schedule_by_heart",
        ],
    },
    "circuit: probes after 30 s, doubling; open spends no attempts": {
        HEALTH: [
            "test_seven_failures_of_ten_open_the_circuit_without_five_in_a_row",
            "test_probes_go_at_doubling_intervals_one_at_a_time",
        ],
        DELIVERY: ["test_an_open_circuit_lets_one_probe_through_and_closes_on_success"],
    },
    "disabled: held, not discarded; enabling sends": {
        HEALTH: ["test_disabling_holds_and_enabling_sends_what_was_held"],
    },
    "replay: one, failed since, missing since, by type or tenant; resumable; same id": {
        REPLAYS: [
            "test_a_delivered_one_goes_out_again_with_the_same_id_and_bytes_and_is_marked",
            "test_all_dead_ones_of_an_endpoint_go_again_chunk_by_chunk_and_no_others",
            "test_what_is_replayed_can_be_narrowed_by_time_topic_and_state",
            "test_an_endpoint_gets_what_happened_before_it_was_there_under_the_same_ids",
            "test_replays_go_at_the_pace_that_the_endpoint_is_sent_anything",
        ],
    },
    "caps: 5 an endpoint, 1 ordered, 20 a host, a quarter a tenant; rates": {
        DELIVERY: ["test_no_more_than_five_are_under_way_to_one_endpoint_whoever_sends"],
        DISPATCH: [
            "test_an_ordered_endpoint_gets_one_at_a_time_oldest_first",
            "test_no_more_than_twenty_are_under_way_to_one_host_whoever_sends",
            "test_one_tenant_has_a_quarter_of_the_slots_on_the_wire",
            "test_a_rate_is_never_exceeded_over_any_stretch",
        ],
    },
    "attempts leave by the day; what is owed stays": {
        PURGE: [
            "test_attempts_leave_by_the_day_and_those_without_a_partition_one_by_one",
            "test_what_is_owed_stays_however_old_it_is",
            "test_after_a_purge_is_left_what_a_naive_reader_of_the_rules_would_leave",
        ],
    },
    "clock against the database: warn above 30 s, stop above 120 s": {
        SENDERS: ["test_a_clock_that_differs_much_from_the_databases_sends_nothing"],
    },
    "no transaction open while sending; nothing private in a log; our own servers refused": {
        SENDERS: [
            "test_nothing_is_begun_with_a_transaction_open",
            "test_our_own_servers_are_refused_at_creation_and_at_sending",
        ],
        DELIVERY: ["test_neither_secret_nor_body_nor_signature_reaches_a_log"],
    },
    "the catalogue: generated, committed, validated, additive": {
        "unit/test_published.py": [
            "test_the_committed_documents_are_what_the_code_says",
            "test_nothing_but_additions_happened_to_what_was_released",
            "test_an_example_is_what_is_sent",
        ],
        "acceptance/test_schemas.py": ["test_schemas_examples_and_the_asyncapi_document_are_sound"],
    },
}


@pytest.mark.parametrize("line", [*FAULTS, *SAID])
def test_a_line_of_the_contract_has_its_tests(line: str) -> None:
    for file, names in {**FAULTS, **SAID}[line].items():
        defined = ast.parse((TESTS / file).read_text()).body
        missing = set(names) - {one.name for one in defined if isinstance(one, ast.FunctionDef)}
        assert not missing, (file, missing)
