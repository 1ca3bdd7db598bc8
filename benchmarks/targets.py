"""The figures we aim at, in one table, so that the output can say "target <= 0.04, got 0.031".

A target is an upper bound; a name without one is shown for information.
"""

TARGETS: dict[str, float] = {
    # ours / peer
    "record_vs_otel_histogram": 1 / 25,
    "record_vs_prometheus_observe": 1 / 5,
    "middleware_vs_otel_asgi": 1 / 50,
    "middleware_vs_starlette_exporter": 1 / 15,
    "middleware_vs_bare_wrapper": 3,
    "wsgi_vs_otel_wsgi": 1 / 30,
    # the unit is the name's last part
    "record_many_ns": 10,
    "count_30d_us": 5,
    "row_bytes": 400_000,
    "latency_row_bytes": 2_000_000,
    "leader_cpu_percent": 0.5,
    "track_function_added_ns": 1_000,
    "track_coroutine_added_ns": 1_500,
    "track_generator_item_added_ns": 300,
    "track_async_generator_item_added_ns": 300,
    "inference_function_added_ns": 2_000,
    "inference_coroutine_added_ns": 2_000,
    "stream_generator_token_added_ns": 500,
    "stream_async_generator_token_added_ns": 500,
    "stream_iterator_token_added_ns": 500,
    "stream_chunk_token_added_ns": 500,
    "stream_openai_chunk_token_added_ns": 500,
    "gen_ai_call_added_ns": 20_000,
    "gen_ai_stream_added_ns": 40_000,
    "drift_numeric_row_us": 3,
    "drift_mixed_row_us": 3,
    "drift_alarms_1_features_100_rows_percent": 3,
    "drift_alarms_20_features_100_rows_percent": 3,
    "drift_alarms_1_features_1000_rows_percent": 1.5,
    "drift_alarms_20_features_1000_rows_percent": 1.5,
    "drift_alarms_1_features_10000_rows_percent": 1.5,
    "drift_alarms_20_features_10000_rows_percent": 1.5,
    "drift_million_rows_alarms": 0,
    "drift_missed_at_a_quarter_percent": 1,
    "drift_outliers_that_hide_it": 0,
    "budget_allows_yes_ns": 1_000,
    "budget_allows_no_ns": 1_000,
    "log_prediction_us": 20,
    "labels_10000_s": 1,
    "labels_request_p99_ms": 6,  # the interpreter lets others in after 5
}
