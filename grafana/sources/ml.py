"""Serving: requests, answers, who decided, and with what knowledge."""

from .panels import GREEN, RED, YELLOW, Dashboard, coloured, metric, override, series, stat, steps, table

ONE = 'instance=~"$instance"'
SERVE = 'job="assay-serve", instance=~"$instance"'

DASHBOARD = Dashboard(
    "ml",
    "assay / ML serving",
    "Requests to score: how many, how fast, who decided (which version of the model, or the rules), and how old what they knew was. Below: drift and quality.",
    start="now-1h",
    refresh="30s",
    by_instance=True,
)

DASHBOARD.row(
    None,
    stat(
        "Answered",
        "Requests to score, answered, a second.",
        "reqps",
        [metric(f"sum(rate(assay_requests_total{{{ONE}}}[5m]))", "requests")],
        none="no requests",
    ),
    stat(
        "Answer, p99",
        "One transaction, within the process. The alert begins at 10 ms.",
        "s",
        [metric(f'histogram_quantile(0.99, sum by (le) (rate(assay_request_seconds_bucket{{{ONE}, route="/predict"}}[5m])))', "p99")],
        thresholds=steps((0.005, YELLOW), (0.01, RED)),
        none="no requests",
    ),
    stat(
        "Failed",
        "Share answered with 5xx over 5 minutes. The alert begins at 1%.",
        "percentunit",
        [metric(
            f'(sum(rate(assay_requests_total{{{ONE}, status=~"5.."}}[5m])) or vector(0)) / sum(rate(assay_requests_total{{{ONE}}}[5m]))',
            "5xx",
        )],
        thresholds=steps((0.001, YELLOW), (0.01, RED)),
        decimals=2,
        none="no requests",
    ),
    stat(
        "Turned away",
        "Share answered with 429, because `serve.requests_max` or `batches_max` were under way. The alert begins at 1%.",
        "percentunit",
        [metric(
            f'(sum(rate(assay_requests_total{{{ONE}, status="429"}}[5m])) or vector(0)) / sum(rate(assay_requests_total{{{ONE}}}[5m]))',
            "429",
        )],
        thresholds=steps((0.001, YELLOW), (0.01, RED)),
        decimals=2,
        none="no requests",
    ),
    stat(
        "Rules instead of model",
        "Share of transactions that the rules scored alone. The alert begins at 5%.",
        "percentunit",
        [metric(f"sum(rate(assay_predictions_degraded_total{{{ONE}}}[5m])) / sum(rate(assay_predictions_total{{{ONE}}}[5m]))", "degraded")],
        thresholds=steps((0.01, YELLOW), (0.05, RED)),
        decimals=1,
        none="no requests",
    ),
    stat(
        "Called fraud",
        "Share of scored transactions that were decided as fraud, over 5 minutes. A jump is a campaign, or a model that drifted.",
        "percentunit",
        [metric(
            f'(sum(rate(assay_predictions_total{{{ONE}, decision="fraud"}}[5m])) or vector(0)) / sum(rate(assay_predictions_total{{{ONE}}}[5m]))',
            "fraud",
        )],
        decimals=2,
        none="no requests",
    ),
    width=4,
    height=4,
)

DASHBOARD.row(
    "Requests",
    series(
        "Requests by route and status",
        "422: a transaction that does not fit the contract; 401: no key; 429: too many at once; 5xx: our fault.",
        "reqps",
        [metric(f"sum by (route, status) (rate(assay_requests_total{{{ONE}}}[$__rate_interval]))", "{{route}} {{status}}")],
        stack=True,
    ),
    series(
        "Time to answer, one transaction",
        "Within the process; the way through the network comes on top.",
        "s",
        [
            metric(
                f'histogram_quantile({quantile}, sum by (le) (rate(assay_request_seconds_bucket{{{ONE}, route="/predict"}}[$__rate_interval])))',
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ],
        limit=0.01,
    ),
    series(
        "Time to answer, batches",
        "Grows with the rows of a batch.",
        "s",
        [
            metric(
                f'histogram_quantile({quantile}, sum by (le) (rate(assay_request_seconds_bucket{{{ONE}, route="/predict/batch"}}[$__rate_interval])))',
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ],
    ),
    series(
        "Refused transactions by reason",
        "Transactions that do not fit the contract or break an expectation. One reason that begins at one moment: a client changed.",
        "cps",
        [metric(f"sum by (reason) (rate(assay_predictions_refused_total{{{ONE}}}[$__rate_interval]))", "{{reason}}")],
        stack=True,
    ),
    width=12,
)

DASHBOARD.row(
    "Decisions",
    series(
        "Transactions scored by version",
        "The version of the model that decided, or `rules`. A promotion is where one ends and the next begins.",
        "cps",
        [metric(f"sum by (version) (rate(assay_predictions_total{{{ONE}}}[$__rate_interval]))", "{{version}}")],
        stack=True,
    ),
    series(
        "Share called fraud, by version",
        "Compare before and after a promotion.",
        "percentunit",
        [metric(
            f'sum by (version) (rate(assay_predictions_total{{{ONE}, decision="fraud"}}[$__rate_interval]))'
            f" / sum by (version) (rate(assay_predictions_total{{{ONE}}}[$__rate_interval]))",
            "{{version}}",
        )],
        decimals=2,
    ),
    table(
        "Who decided since the start",
        "Transactions scored by each process, by version and decision. `assay models` lists the versions with quality, gate and alias.",
        [metric(f"sum by (instance, version, decision) (assay_predictions_total{{{ONE}}})", instant=True, table=True)],
        overrides=[
            override("Value", displayName="transactions", unit="locale"),
            coloured("decision", steps(base=GREEN), mappings=[{"type": "value", "options": {"fraud": {"color": RED, "index": 0, "text": "fraud"}}}]),
        ],
        transformations=[{
            "id": "organize",
            "options": {"excludeByName": {"Time": True}, "indexByName": {"version": 0, "decision": 1, "instance": 2, "Value": 3}, "renameByName": {}},
        }],
        none="nothing was scored yet",
    ),
    series(
        "Receipts of decisions",
        "Kept in gold.predictions; shed because too many waited; lost because the lake took none. Only `kept` should be here.",
        "cps",
        [metric(f"sum by (outcome) (rate(assay_receipts_total{{{ONE}}}[$__rate_interval]))", "{{outcome}}")],
        stack=True,
        colors={"kept": GREEN, "shed": YELLOW, "lost": RED},
    ),
    series(
        "Scored by the rules alone",
        "No champion, a champion that does not verify, or a transaction older than `scoring.horizon_s`. `curl <instance>/ready` says which.",
        "cps",
        [metric(f"sum by (instance) (rate(assay_predictions_degraded_total{{{ONE}}}[$__rate_interval]))", "{{instance}}")],
    ),
    width=12,
)

DASHBOARD.row(
    "Champion and challenger",
    series(
        "Transactions by role",
        "As what the version answered: champion, challenger (its share of users), pinned (named by a request); the shadow answers nobody. No challenger although one is wanted: it was taken out, and the log says why.",
        "cps",
        [metric(f"sum by (role) (rate(assay_role_predictions_total{{{ONE}}}[$__rate_interval]))", "{{role}}")],
        stack=True,
    ),
    series(
        "Share called fraud, by role",
        "Shadow and champion were asked about the same transactions; a challenger has other users.",
        "percentunit",
        [metric(
            f'sum by (role) (rate(assay_role_predictions_total{{{ONE}, decision="fraud"}}[$__rate_interval]))'
            f" / sum by (role) (rate(assay_role_predictions_total{{{ONE}}}[$__rate_interval]))",
            "{{role}}",
        )],
        decimals=2,
    ),
    series(
        "Probability by role",
        "What half of the transactions lie below, and 99 of 100. Apart for shadow and champion: the versions disagree.",
        "percentunit",
        [
            metric(
                f"histogram_quantile({quantile}, sum by (role, le) (rate(assay_role_probability_bucket{{{ONE}}}[$__rate_interval])))",
                f"{name} {{{{role}}}}",
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ],
        high=1,
    ),
    series(
        "Time to ask a version, p99",
        "Of transactions that came together, by role. `scoring.challenger_latency_us` bounds that of a challenger.",
        "s",
        [metric(f"histogram_quantile(0.99, sum by (role, le) (rate(assay_role_ask_seconds_bucket{{{ONE}}}[$__rate_interval])))", "{{role}}")],
    ),
    series(
        "Failures by role",
        "Transactions that the version could say nothing of: of a challenger the champion answered, of champion and pinned the rules.",
        "cps",
        [metric(f"sum by (role) (rate(assay_role_failures_total{{{ONE}}}[$__rate_interval]))", "{{role}}")],
    ),
    table(
        "Versions by role",
        "Which version each process has as champion and as challenger.",
        [metric(f"assay_role_version_info{{{ONE}}}", instant=True, table=True)],
        transformations=[{
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value": True, "__name__": True, "job": True},
                "indexByName": {"role": 0, "model": 1, "version": 2, "instance": 3},
                "renameByName": {},
            },
        }],
        none="no model is loaded",
    ),
    width=8,
)

DASHBOARD.row(
    "The stream, scored as it comes",
    series(
        "Scored by the stream",
        "Transactions of `assay run`, by who decided: the champion, or the rules alone where there is none.",
        "cps",
        [metric(f"sum by (decided_by) (rate(assay_stream_scored_total{{{ONE}}}[$__rate_interval]))", "{{decided_by}}")],
        stack=True,
    ),
    series(
        "From the message to its score",
        "From the production of the oldest event of a micro-batch to its score, handed to the topic of predictions.",
        "s",
        [
            metric(
                f"histogram_quantile({quantile}, sum by (le) (rate(assay_stream_score_seconds_bucket{{{ONE}}}[$__rate_interval])))",
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ],
    ),
    width=12,
)

DASHBOARD.row(
    "What it knows",
    series(
        "Epochs behind the lake",
        "Epochs that `assay run` has published and `assay serve` has not taken in yet. Meant for one lake; with several, look at one process each.",
        "none",
        [metric(f'scalar(max(assay_epoch{{job="assay-run"}})) - assay_features_epoch{{{SERVE}}}', "{{instance}}")],
        low=None,
    ),
    series(
        "Epochs of the lake taken in, a minute",
        "How often the knowledge of the past moves on. 0 while the lake moves: the alert AssayServeStale.",
        "none",
        [metric(f"sum by (instance) (changes(assay_features_epoch{{{SERVE}}}[1m]))", "{{instance}}")],
    ),
    series(
        "Memory",
        "Of the process, and what is held of the past for scoring.",
        "bytes",
        [
            metric(f"assay_resident_memory_bytes{{{SERVE}}}", "process {{instance}}"),
            metric(f'assay_cache_bytes{{{SERVE}, cache="serving"}}', "past {{instance}}"),
        ],
    ),
    width=8,
)

# What follows the calendar differs from day to day by its nature; `assay drift` does not judge it either.
FEATURES = 'feature!~"hour|day_of_week|is_weekend|is_night"'

DASHBOARD.row(
    "Drift and quality, by assay drift",
    stat(
        "Windows that drifted",
        "Days on which a feature or the score is at or above `drift.psi_act`, among those that the last run compared. The alert begins at 1.",
        "none",
        [metric("max(assay_drift_windows_to_act_on)", "windows")],
        thresholds=steps((1, RED)),
        none="assay drift has not run",
        spark=False,
    ),
    stat(
        "Compared day began",
        "How long ago the newest compared day began. Daily runs keep it below two days; the alert begins at three.",
        "s",
        [metric("time() - max(assay_drift_day_seconds)", "ago")],
        thresholds=steps((2 * 86400, YELLOW), (3 * 86400, RED)),
        none="assay drift has not run",
        spark=False,
    ),
    stat(
        "F1 of the newest labelled day",
        "Of the decisions that the champion takes, on the newest day whose labels have arrived. The gate of `assay train` asks for 0.75.",
        "percentunit",
        [metric("min(assay_live_f1)", "F1")],
        thresholds=steps((0.6, YELLOW), (0.75, GREEN), base=RED),
        none="no labels yet",
        spark=False,
    ),
    stat(
        "Rows of the compared day",
        "Days with few rows are not judged (`drift.rows_min`).",
        "short",
        [metric("sum(assay_drift_rows)", "rows")],
        none="assay drift has not run",
        spark=False,
    ),
    width=6,
    height=4,
)

DASHBOARD.row(
    None,
    series(
        "Drift by feature (PSI)",
        "The ten that moved most against the rows learned from: 0.1 is worth a look, 0.25 is another world. Hour and weekday are left out, they follow the calendar.",
        "none",
        [metric(f"topk(10, max by (feature) (assay_drift_psi{{{FEATURES}}}))", "{{feature}}")],
        limit=0.25,
        decimals=3,
    ),
    series(
        "Drift by feature (Jensen-Shannon)",
        "In bits, from 0 (the same) to 1 (nothing in common).",
        "none",
        [metric(f"topk(10, max by (feature) (assay_drift_jensen_shannon{{{FEATURES}}}))", "{{feature}}")],
        high=1,
        decimals=3,
    ),
    series(
        "Quality on labelled days",
        "What the champion's decisions were worth, once their labels had come. One day may hold few frauds: look at the trend.",
        "percentunit",
        [
            metric("min(assay_live_precision)", "precision"),
            metric("min(assay_live_recall)", "recall"),
            metric("min(assay_live_f1)", "F1"),
            metric("min(assay_live_roc_auc)", "area under ROC"),
        ],
        high=1,
    ),
    width=8,
)
