"""The way of the data: Kafka, epochs, what is refused, commits, memory."""

from .panels import GREEN, RED, YELLOW, Dashboard, fresh_increase, metric, series, stat, steps

RUN = 'job="assay-run", instance=~"$instance"'
REFUSED = 'table=~"bronze.dead_letters|silver.quarantine"'

DASHBOARD = Dashboard(
    "pipeline",
    "assay / Data pipeline",
    "From Kafka to gold: what comes in, how far behind it is, what becomes of it, what the epochs cost.",
    start="now-3h",
    refresh="30s",
    by_instance=True,
)


def quantiles(name, by, wanted=(0.5, 0.99)):
    """Quantiles of a histogram, a query each."""
    return [
        metric(
            f"histogram_quantile({quantile}, sum by (le{', ' + by if by else ''}) (rate({name}_bucket{{{RUN}}}[$__rate_interval])))",
            f"p{quantile * 100:g}" + (f" {{{{{by}}}}}" if by else ""),
        )
        for quantile in wanted
    ]


DASHBOARD.row(
    None,
    stat(
        "Epoch",
        "The latest complete epoch. `assay sql` reads complete epochs only.",
        "none",
        [metric(f"max(assay_epoch{{{RUN}}})", "epoch")],
        spark=False,
    ),
    stat(
        "Unread messages",
        "Messages in Kafka that are still to be read.",
        "short",
        [metric(f"sum(assay_consumer_lag{{{RUN}}})", "unread")],
        thresholds=steps((10_000, YELLOW), (100_000, RED)),
    ),
    stat(
        "Time to catch up",
        "Unread messages at the pace of the last 5 minutes. The alert begins at 5 minutes.",
        "s",
        [metric(f"sum(assay_consumer_lag{{{RUN}}}) / sum(rate(assay_messages_total{{{RUN}}}[5m]))", "time")],
        thresholds=steps((60, YELLOW), (300, RED)),
        none="no messages",
    ),
    stat(
        "Watermark behind now",
        "Windows whose end is at or before the watermark are closed. It also grows when no messages come; the alert begins at 15 minutes while they do.",
        "s",
        [metric(f"max(assay_watermark_lag_seconds{{{RUN}}})", "behind")],
        thresholds=steps((300, YELLOW), (900, RED)),
        none="no rows yet",
    ),
    stat(
        "Dead letters",
        "Messages that could not become a row, as a share of all, over 15 minutes. The alert begins at 0.1%.",
        "percentunit",
        [metric(
            f'sum(rate(assay_rows_total{{{RUN}, table="bronze.dead_letters"}}[15m])) / sum(rate(assay_messages_total{{{RUN}}}[15m]))',
            "share",
        )],
        thresholds=steps((0.0005, YELLOW), (0.001, RED)),
        decimals=2,
        none="no messages",
    ),
    stat(
        "Quarantined",
        "Rows that broke an expectation, as a share of all messages, over 15 minutes. The alert begins at 0.1%.",
        "percentunit",
        [metric(
            f'sum(rate(assay_rows_total{{{RUN}, table="silver.quarantine"}}[15m])) / sum(rate(assay_messages_total{{{RUN}}}[15m]))',
            "share",
        )],
        thresholds=steps((0.0005, YELLOW), (0.001, RED)),
        decimals=2,
        none="no messages",
    ),
    width=4,
    height=4,
)

DASHBOARD.row(
    "What comes in",
    series(
        "Messages read",
        "By topic; read is not yet published, which is what the epochs below do.",
        "cps",
        [metric(f"sum by (topic) (rate(assay_messages_total{{{RUN}}}[$__rate_interval]))", "{{topic}}")],
    ),
    series(
        "Bytes read",
        "Keys and payloads, by topic.",
        "Bps",
        [metric(f"sum by (topic) (rate(assay_message_bytes_total{{{RUN}}}[$__rate_interval]))", "{{topic}}")],
    ),
    series(
        "Unread messages by partition",
        "One partition alone: a hot key, or a partition whose leader is away. All: the stream is too slow.",
        "short",
        [metric(f"assay_consumer_lag{{{RUN}}}", "{{topic}} {{partition}}")],
    ),
    series(
        "Connected to Kafka",
        "1 while the brokers answer. It is 0 also while the stream waits for the schema registry.",
        "none",
        [metric(f"assay_source_connected{{{RUN}}}", "{{instance}}")],
        high=1,
    ),
    width=12,
)

DASHBOARD.row(
    "How far behind",
    series(
        "Freshness",
        "From the Kafka timestamp of a message to its committed row in gold; one message in 64 is measured.",
        "s",
        quantiles("assay_freshness_seconds", ""),
        limit=10,
    ),
    series(
        "Watermark, seconds behind now",
        "The newest event time of the slowest partition, less the tolerance. A steady slope of 1: no messages, or one partition that stands still.",
        "s",
        [metric(f"assay_watermark_lag_seconds{{{RUN}}}", "{{instance}}")],
        limit=900,
        low=None,
    ),
    width=12,
)

DASHBOARD.row(
    "What becomes of it",
    series(
        "Outcome of messages",
        "Each message ends in exactly one of these. Published rows, so it moves at the pace of epochs.",
        "cps",
        [
            metric(f'sum(rate(assay_rows_total{{{RUN}, table="silver.transactions"}}[$__rate_interval]))', "silver"),
            metric(f"sum(rate(assay_duplicates_total{{{RUN}}}[$__rate_interval]))", "duplicate"),
            metric(f'sum(rate(assay_rows_total{{{RUN}, table="silver.quarantine"}}[$__rate_interval]))', "quarantined"),
            metric(f'sum(rate(assay_rows_total{{{RUN}, table="bronze.dead_letters"}}[$__rate_interval]))', "dead letter"),
        ],
        stack=True,
        colors={"silver": GREEN, "duplicate": "blue", "quarantined": YELLOW, "dead letter": RED},
    ),
    series(
        "Refused, as a share of messages",
        "Dead letters and quarantine together, over 5 minutes.",
        "percentunit",
        [metric(f"sum(rate(assay_rows_total{{{RUN}, {REFUSED}}}[5m])) / sum(rate(assay_messages_total{{{RUN}}}[5m]))", "refused")],
        limit=0.001,
        decimals=2,
    ),
    series(
        "Dead letters by reason",
        "A reason that begins at one moment is a producer that changed. The messages stand in bronze.dead_letters.",
        "cps",
        [metric(f"sum by (stage, reason) (rate(assay_rejected_total{{{RUN}}}[$__rate_interval]))", "{{stage}}: {{reason}}")],
        stack=True,
    ),
    series(
        "Quarantined rows by expectation",
        "A row that breaks two expectations counts under both. The rows stand in silver.quarantine.",
        "cps",
        [metric(f"sum by (expectation) (rate(assay_quarantined_total{{{RUN}}}[$__rate_interval]))", "{{expectation}}")],
        stack=True,
    ),
    series(
        "Warned rows by expectation",
        "Rows that broke an expectation and went on to silver.",
        "cps",
        [metric(f"sum by (expectation) (rate(assay_warned_total{{{RUN}}}[$__rate_interval]))", "{{expectation}}")],
    ),
    series(
        "Late rows, and rows restated for them",
        "A late row changes closed windows; what stood there before is in ops.restatements.",
        "cps",
        [
            metric(f"sum(rate(assay_late_rows_total{{{RUN}}}[$__rate_interval]))", "late rows"),
            metric(f"sum by (table) (rate(assay_restated_rows_total{{{RUN}}}[$__rate_interval]))", "restated {{table}}"),
        ],
    ),
    width=12,
)

DASHBOARD.row(
    "What the epochs cost",
    series(
        "Epochs published a minute",
        "When behind, epochs grow and become fewer; that is no fault.",
        "none",
        [metric(f"sum by (instance) (changes(assay_epoch{{{RUN}}}[1m]))", "{{instance}}")],
    ),
    series(
        "Time of the stages of an epoch",
        "Mean for one epoch. Stages overlap, so the sum is not what an epoch takes.",
        "s",
        [metric(
            f"sum by (stage) (rate(assay_epoch_seconds_sum{{{RUN}}}[$__rate_interval]))"
            f" / sum by (stage) (rate(assay_epoch_seconds_count{{{RUN}}}[$__rate_interval]))",
            "{{stage}}",
        )],
        stack=True,
    ),
    series(
        "Commits, p99 by table",
        "Time of the put that makes a table's part of an epoch durable. Slow for all: the store.",
        "s",
        quantiles("assay_commit_seconds", "table", (0.99,)),
    ),
    series(
        "Failed commits a minute, by table",
        "Each is tried again with growing pauses, for `epoch.store_patience_s`. None is what should be here.",
        "none",
        [metric(f"sum by (table) ({fresh_increase('assay_commit_failures_total', RUN, '1m')})", "{{table}}")],
        bars=True,
    ),
    series(
        "Rows published by table",
        "Gold counts the rows of its open windows again with each epoch that changes them.",
        "cps",
        [metric(f"sum by (table) (rate(assay_rows_total{{{RUN}}}[$__rate_interval]))", "{{table}}")],
    ),
    series(
        "Queues, how full",
        "A queue that stays full: the stage behind it is the slow one. `decoded` full: refining; `epochs` full: the store.",
        "percentunit",
        [metric(f"assay_queue_depth{{{RUN}}} / assay_queue_capacity{{{RUN}}}", "{{queue}}")],
        high=1,
    ),
    width=12,
)

# Questions are put to `assay run` and to `assay serve` alike.
ASKED = 'instance=~"$instance"'

DASHBOARD.row(
    "Who asks: PostgreSQL's clients and the console",
    series(
        "Queries of PostgreSQL clients",
        "By how they ended. `cancelled` are timeouts too; `abandoned` clients hung up.",
        "reqps",
        [metric(f"sum by (outcome) (rate(assay_sql_statements_total{{{ASKED}}}[$__rate_interval]))", "{{outcome}}")],
        stack=True,
        colors={"ok": GREEN, "error": RED, "cancelled": YELLOW},
    ),
    series(
        "Time to the last row, p99",
        "Of queries of PostgreSQL clients, with waiting for a turn (`postgres.statements_max`).",
        "s",
        [metric(
            f"histogram_quantile(0.99, sum by (outcome, le) (rate(assay_sql_seconds_bucket{{{ASKED}}}[$__rate_interval])))",
            "{{outcome}}",
        )],
    ),
    series(
        "Connections of PostgreSQL clients",
        "Beyond `postgres.connections_max` they are refused with 53300.",
        "short",
        [metric(f"sum by (instance) (assay_sql_connections{{{ASKED}}})", "{{instance}}")],
    ),
    series(
        "Errors told to PostgreSQL clients",
        "By SQLSTATE: 42 and 54 are wrong or too large questions, 53 is memory or connections, 57014 a timeout, 58 and XX are ours.",
        "cps",
        [metric(f"sum by (sqlstate) (rate(assay_sql_errors_total{{{ASKED}}}[$__rate_interval]))", "{{sqlstate}}")],
    ),
    series(
        "Rows sent to PostgreSQL clients",
        "A client that fetches whole tables costs the pipeline its CPU.",
        "cps",
        [metric(f"sum(rate(assay_sql_rows_total{{{ASKED}}}[$__rate_interval]))", "rows")],
    ),
    series(
        "Questions of the console",
        "By view and outcome. `busy`: all turns were taken for `console.wait_timeout_ms`; `timeout`: stopped after `console.statement_timeout_ms`.",
        "reqps",
        [metric(f"sum by (view, outcome) (rate(assay_console_questions_total{{{ASKED}}}[$__rate_interval]))", "{{view}} {{outcome}}")],
        stack=True,
    ),
    series(
        "Time to answer the console, p99",
        "By view, with waiting for a turn and the opening of tables.",
        "s",
        [metric(
            f"histogram_quantile(0.99, sum by (view, le) (rate(assay_console_seconds_bucket{{{ASKED}}}[$__rate_interval])))",
            "{{view}}",
        )],
    ),
    width=8,
)

DASHBOARD.row(
    "Memory",
    series(
        "What is remembered of the past",
        "By table, estimated: ids, running counts, features, windows. Bounds: `refine.dedup_bytes_max`, `refine.trailing_bytes_max`, `windows.closed_bytes_max`.",
        "bytes",
        [metric(f"sum by (cache) (assay_cache_bytes{{{RUN}}})", "{{cache}}")],
        stack=True,
    ),
    series(
        "Windows read again",
        "Panes of closed windows read from silver again for late rows. When it keeps on, raise `windows.closed_bytes_max`.",
        "none",
        [metric(f"sum by (instance) (delta(assay_window_panes_reloaded{{{RUN}}}[$__rate_interval]))", "{{instance}}")],
    ),
    width=12,
)

DASHBOARD.row(
    "Kafka, by kafka-exporter",
    series(
        "Messages produced",
        "End offsets, a second. More here than assay reads: the lag grows.",
        "cps",
        [metric('sum by (topic) (rate(kafka_topic_partition_current_offset{topic!~"__.*"}[$__rate_interval]))', "{{topic}}")],
    ),
    series(
        "Unread, by the offsets of the group",
        "Offsets of the group follow the lake's commits and are telemetry only: assay starts at the positions in the lake.",
        "short",
        [metric("sum by (consumergroup, topic) (kafka_consumergroup_lag)", "{{consumergroup}} {{topic}}")],
    ),
    series(
        "Under-replicated partitions",
        "Partitions with fewer replicas in step than they should have. Above 0: a broker is away or slow.",
        "none",
        [metric("sum by (topic) (kafka_topic_partition_under_replicated_partition)", "{{topic}}")],
    ),
    width=8,
)
