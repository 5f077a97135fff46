"""The first look: what fires, and whether data and answers flow."""

from .panels import GREEN, RED, YELLOW, Dashboard, coloured, fresh_increase, metric, override, series, stat, steps, table, words

RUN = 'job="assay-run"'
# The kinds of file system that hold no data of ours.
DISK = 'fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*", mountpoint!~"/(boot|run|sys|proc|dev)(/.*)?"'

DASHBOARD = Dashboard(
    "overview",
    "assay / Platform overview",
    "Is anything wrong, and where? From left to right: alerts, the stream into the lake, answers to requests, the machine.",
    start="now-1h",
    refresh="30s",
)

DASHBOARD.row(
    None,
    table(
        "Firing now",
        "Alerts of grafana/prometheus/rules.yml that fire. The description of each, in Prometheus under Alerts, names the command to begin with.",
        [metric('ALERTS{alertstate="firing", alertname=~"Assay.*"}', instant=True, table=True)],
        overrides=[
            override("severity", mappings=[{"type": "value", "options": {
                "critical": {"color": RED, "index": 0, "text": "critical"},
                "warning": {"color": YELLOW, "index": 1, "text": "warning"},
            }}], **{"custom.cellOptions": {"type": "color-background"}}),
        ],
        transformations=[{
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value": True, "__name__": True, "alertstate": True},
                "indexByName": {"severity": 0, "alertname": 1, "job": 2, "instance": 3},
                "renameByName": {"alertname": "alert"},
            },
        }],
        none="Nothing fires.",
    ),
    height=6,
)

DASHBOARD.row(
    None,
    stat(
        "Processes down",
        "Targets that Prometheus cannot scrape. Any above 0: look at the table of the service, then `curl <instance>/ready`.",
        "none",
        [metric("count(up == 0) or vector(0)", "down")],
        thresholds=steps((1, RED)),
    ),
    stat(
        "Kafka",
        "Whether `assay run` reaches the brokers. While it does not, it waits and reconnects by itself; nothing is lost.",
        "none",
        [metric(f"min(assay_source_connected{{{RUN}}})", "connected")],
        thresholds=steps((1, GREEN), base=RED),
        mappings=words(one=("connected", GREEN), zero=("CUT OFF", RED)),
    ),
    stat(
        "Unread messages",
        "Messages in Kafka that are still to be read. Growing: the stream is too slow or stands still.",
        "short",
        [metric(f"sum(assay_consumer_lag{{{RUN}}})", "unread")],
        thresholds=steps((10_000, YELLOW), (100_000, RED)),
    ),
    stat(
        "Freshness, p99",
        "From the Kafka timestamp of a message to its committed row in gold. The alert begins at 10 s.",
        "s",
        [metric(f"histogram_quantile(0.99, sum by (le) (rate(assay_freshness_seconds_bucket{{{RUN}}}[5m])))", "p99")],
        thresholds=steps((5, YELLOW), (10, RED)),
        none="no messages",
    ),
    stat(
        "Refused by the pipeline",
        "Dead letters and quarantined rows as a share of all messages, over 15 minutes. The alerts begin at 0.1% for either.",
        "percentunit",
        [metric(
            f'sum(rate(assay_rows_total{{{RUN}, table=~"bronze.dead_letters|silver.quarantine"}}[15m]))'
            f" / sum(rate(assay_messages_total{{{RUN}}}[15m]))",
            "share",
        )],
        thresholds=steps((0.0005, YELLOW), (0.001, RED)),
        decimals=2,
        none="no messages",
    ),
    stat(
        "Failed commits, 10 min",
        "Commits to the lake that failed and are tried again. For `epoch.store_patience_s`; then the process ends.",
        "short",
        [metric(f"sum({fresh_increase('assay_commit_failures_total', RUN, '10m')}) or vector(0)", "failed")],
        thresholds=steps((1, RED)),
        decimals=0,
    ),
    stat(
        "Requests",
        "Requests to score, answered, a second.",
        "reqps",
        [metric("sum(rate(assay_requests_total[5m]))", "requests")],
        none="no requests",
    ),
    stat(
        "Failed requests",
        "Share of requests that were answered with 5xx over 5 minutes. The alert begins at 1%.",
        "percentunit",
        [metric(
            '(sum(rate(assay_requests_total{status=~"5.."}[5m])) or vector(0)) / sum(rate(assay_requests_total[5m]))',
            "5xx",
        )],
        thresholds=steps((0.001, YELLOW), (0.01, RED)),
        decimals=2,
        none="no requests",
    ),
    stat(
        "Answer, p99",
        "Time from a request of one transaction to its answer, within the process. The alert begins at 10 ms.",
        "s",
        [metric('histogram_quantile(0.99, sum by (le) (rate(assay_request_seconds_bucket{route="/predict"}[5m])))', "p99")],
        thresholds=steps((0.005, YELLOW), (0.01, RED)),
        none="no requests",
    ),
    stat(
        "Rules instead of model",
        "Share of transactions that the rules scored alone, because model or features were missing. The alert begins at 5%.",
        "percentunit",
        [metric("sum(rate(assay_predictions_degraded_total[5m])) / sum(rate(assay_predictions_total[5m]))", "degraded")],
        thresholds=steps((0.01, YELLOW), (0.05, RED)),
        decimals=1,
        none="no requests",
    ),
    stat(
        "Memory, most",
        "Physical memory of the largest assay process.",
        "bytes",
        [metric("max(assay_resident_memory_bytes)", "resident")],
    ),
    stat(
        "Disk free, least",
        "The fullest file system, by the node exporter. The alert begins at 10%. Files of before go after `lake.history_s`.",
        "percentunit",
        [metric(f"min(node_filesystem_avail_bytes{{{DISK}}} / node_filesystem_size_bytes{{{DISK}}})", "free")],
        thresholds=steps((0.1, YELLOW), (0.2, GREEN), base=RED),
        none="no node exporter",
        decimals=0,
    ),
    width=4,
    height=4,
)

DASHBOARD.row(
    "Into the lake",
    series(
        "Messages in, rows out",
        "Messages read, and what of them was published: rows of silver, and rows refused. Duplicates are in neither.",
        "cps",
        [
            metric(f"sum(rate(assay_messages_total{{{RUN}}}[$__rate_interval]))", "messages read"),
            metric(f'sum(rate(assay_rows_total{{{RUN}, table="silver.transactions"}}[$__rate_interval]))', "rows of silver"),
            metric(
                f'sum(rate(assay_rows_total{{{RUN}, table=~"bronze.dead_letters|silver.quarantine"}}[$__rate_interval]))',
                "refused",
            ),
        ],
        colors={"refused": RED},
    ),
    series(
        "Unread messages by topic",
        "A hill that shrinks is a burst; a slope that does not end is a stream that is too slow.",
        "short",
        [metric(f"sum by (topic) (assay_consumer_lag{{{RUN}}})", "{{topic}}")],
    ),
    series(
        "Freshness",
        "From the Kafka timestamp of a message to its committed row in gold; one message in 64 is measured.",
        "s",
        [
            metric(
                f"histogram_quantile({quantile}, sum by (le) (rate(assay_freshness_seconds_bucket{{{RUN}}}[$__rate_interval])))",
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ],
        limit=10,
    ),
    series(
        "Epochs published",
        "How many epochs a minute became complete. None while messages wait: see the alert AssayEpochStalled.",
        "none",
        [metric(f"sum by (instance) (changes(assay_epoch{{{RUN}}}[1m]))", "{{instance}}")],
    ),
    width=12,
)

DASHBOARD.row(
    "Answers",
    series(
        "Requests by status",
        "200 is an answer; 4xx is a request that was refused with its reason, 429 one that came while too many were under way.",
        "reqps",
        [metric("sum by (status) (rate(assay_requests_total[$__rate_interval]))", "{{status}}")],
        stack=True,
        colors={"500": RED, "503": RED, "429": YELLOW, "200": GREEN},
    ),
    series(
        "Time to answer, one transaction",
        "Within the process; the way through the network comes on top.",
        "s",
        [
            metric(
                f'histogram_quantile({quantile}, sum by (le) (rate(assay_request_seconds_bucket{{route="/predict"}}[$__rate_interval])))',
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ],
        limit=0.01,
    ),
    width=12,
)

DASHBOARD.row(
    "Processes",
    series(
        "Memory",
        "Physical memory of each process.",
        "bytes",
        [metric("assay_resident_memory_bytes", "{{job}} {{instance}}")],
    ),
    table(
        "Versions",
        "Which build each process runs.",
        [metric("assay_build_info", instant=True, table=True)],
        overrides=[coloured("version", steps(base=GREEN))],
        transformations=[{
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value": True, "__name__": True},
                "indexByName": {"job": 0, "instance": 1, "version": 2},
                "renameByName": {},
            },
        }],
        none="no process answers",
    ),
    width=12,
)
