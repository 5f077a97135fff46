"""What the numbers say of the business, by SQL on the gold tables.

The SQL is what DataFusion and PostgreSQL both run. Of Grafana's macros only those are used that expand to plain
comparisons: $__timeFilter, $__timeFrom, $__timeTo. Sums over longer spans are made from tumbling windows; sliding ones
(gold.merchant_activity) hold each transaction several times.
"""

from .panels import BLUE, GREEN, RED, YELLOW, Dashboard, bars, coloured, override, series, sql, stat, steps, table

DASHBOARD = Dashboard(
    "business",
    "assay / Business KPIs",
    "Transactions, revenue, fraud and risk by event time, from complete epochs of the lake. The current hour is still filling.",
    start="now-24h",
    refresh="1m",
)

RISK = {"CRITICAL": RED, "HIGH": "orange", "MEDIUM": YELLOW, "LOW": BLUE, "MINIMAL": GREEN}
FRAUD = steps((0.01, YELLOW), (0.03, RED))


def total(title, about, unit, value, thresholds=None, decimals=None):
    text = f"SELECT {value} AS value FROM gold.platform_hourly WHERE $__timeFilter(window_start)"
    given = {"thresholds": thresholds} if thresholds else {}
    return stat(title, about, unit, [sql(text)], decimals=decimals, spark=False, **given)


DASHBOARD.row(
    None,
    total("Transactions", "Valid transactions, each once.", "short", "sum(transactions)"),
    total("Revenue", "Sum of the amounts.", "short", "CAST(sum(revenue) AS DOUBLE PRECISION)", decimals=2),
    total(
        "Average amount",
        "Revenue by transactions.",
        "short",
        "CAST(sum(revenue) AS DOUBLE PRECISION) / nullif(sum(transactions), 0)",
        decimals=2,
    ),
    total(
        "Fraud rate",
        "Share of transactions that the sender flagged as fraud.",
        "percentunit",
        "sum(fraud_rate * transactions) / nullif(sum(transactions), 0)",
        thresholds=FRAUD,
        decimals=2,
    ),
    total(
        "High-value share",
        "Share of transactions above 1,000.",
        "percentunit",
        "sum(high_value_rate * transactions) / nullif(sum(transactions), 0)",
        decimals=1,
    ),
    stat(
        "Complete data is behind by",
        "Now, less the watermark of the last complete epoch: windows that end before it are closed. Late rows may still restate them.",
        "s",
        [sql("SELECT extract(epoch FROM now()) - extract(epoch FROM max(watermark_at)) AS value FROM ops.epochs")],
        thresholds=steps((900, YELLOW), (3600, RED)),
        spark=False,
    ),
    width=4,
    height=4,
)

DASHBOARD.row(
    "Hour by hour",
    series(
        "Revenue and transactions",
        "By hour of event time.",
        "short",
        [sql("""
SELECT window_start AS "time", CAST(revenue AS DOUBLE PRECISION) AS revenue, transactions
FROM gold.platform_hourly
WHERE $__timeFilter(window_start)
ORDER BY window_start
""", series=True)],
        bars=True,
        right=("transactions", "short"),
    ),
    series(
        "Fraud rate and high-value share",
        "By hour of event time.",
        "percentunit",
        [sql("""
SELECT window_start AS "time", fraud_rate AS "fraud rate", high_value_rate AS "high-value share"
FROM gold.platform_hourly
WHERE $__timeFilter(window_start)
ORDER BY window_start
""", series=True)],
        colors={"fraud rate": RED, "high-value share": BLUE},
        decimals=2,
    ),
    series(
        "Payment methods",
        "Transactions by hour of event time and method; `other` are methods that the contract does not know.",
        "short",
        [sql("""
SELECT
    window_start AS "time",
    credit_card_transactions AS "credit card",
    debit_card_transactions AS "debit card",
    paypal_transactions AS "paypal",
    bank_transfer_transactions AS "bank transfer",
    digital_wallet_transactions AS "digital wallet",
    crypto_transactions AS "crypto",
    other_transactions AS "other"
FROM gold.platform_hourly
WHERE $__timeFilter(window_start)
ORDER BY window_start
""", series=True)],
        stack=True,
        bars=True,
    ),
    series(
        "Who takes part",
        "Distinct users and merchants of each hour. Hours cannot be added up: a user counts in each.",
        "short",
        [sql("""
SELECT window_start AS "time", active_users AS users, active_merchants AS merchants
FROM gold.platform_hourly
WHERE $__timeFilter(window_start)
ORDER BY window_start
""", series=True)],
    ),
    width=12,
)

DASHBOARD.row(
    "Where",
    bars(
        "Revenue by country",
        "The 15 largest.",
        "short",
        [sql("""
SELECT country, CAST(sum(revenue) AS DOUBLE PRECISION) AS revenue
FROM gold.country_activity
WHERE $__timeFilter(window_start)
GROUP BY country
ORDER BY revenue DESC
LIMIT 15
""")],
    ),
    bars(
        "Fraud rate by country",
        "The 15 highest, of countries with at least 100 transactions.",
        "percentunit",
        [sql("""
SELECT country, sum(fraud_rate * transactions) / sum(transactions) AS fraud_rate
FROM gold.country_activity
WHERE $__timeFilter(window_start)
GROUP BY country
HAVING sum(transactions) >= 100
ORDER BY fraud_rate DESC
LIMIT 15
""")],
        thresholds=FRAUD,
        none="no country with 100 transactions",
    ),
    table(
        "Merchants by revenue",
        "The 50 largest, from 10-minute windows that do not overlap.",
        [sql("""
SELECT
    merchant,
    sum(transactions) AS transactions,
    CAST(sum(revenue) AS DOUBLE PRECISION) AS revenue,
    CAST(sum(fraud_transactions) AS DOUBLE PRECISION) / sum(transactions) AS "fraud rate"
FROM gold.segment_activity
WHERE $__timeFilter(window_start)
GROUP BY merchant
ORDER BY revenue DESC
LIMIT 50
""")],
        overrides=[
            override("transactions", unit="locale"),
            override("revenue", unit="locale", decimals=2),
            coloured("fraud rate", FRAUD, unit="percentunit", decimals=2),
        ],
        none="no transactions in this time",
    ),
    width=8,
    height=11,
)

DASHBOARD.row(
    "Risk",
    series(
        "Transactions by risk class",
        "What the rules of gold.fraud_scores say, every 10 minutes; MINIMAL is left out.",
        "short",
        [sql("""
SELECT date_bin(INTERVAL '10 minutes', event_at, TIMESTAMP '1970-01-01 00:00:00') AS "time", class AS metric, count(*) AS transactions
FROM gold.fraud_scores
WHERE $__timeFilter(event_at) AND class <> 'MINIMAL'
GROUP BY 1, 2
ORDER BY 1, 2
""", series=True)],
        stack=True,
        bars=True,
        colors={name: color for name, color in RISK.items() if name != "MINIMAL"},
    ),
    table(
        "Newest high-risk transactions",
        "The last 50 of class CRITICAL or HIGH, with the reasons.",
        [sql("""
SELECT event_at, class, score, CAST(amount AS DOUBLE PRECISION) AS amount, user_id, reasons, transaction_id
FROM gold.fraud_scores
WHERE $__timeFilter(event_at) AND class IN ('CRITICAL', 'HIGH')
ORDER BY event_at DESC, transaction_id
LIMIT 50
""")],
        overrides=[
            override("class", mappings=[{"type": "value", "options": {
                "CRITICAL": {"color": RED, "index": 0, "text": "CRITICAL"},
                "HIGH": {"color": "orange", "index": 1, "text": "HIGH"},
            }}], **{"custom.cellOptions": {"type": "color-text"}}),
            override("amount", unit="locale", decimals=2),
            override("reasons", **{"custom.minWidth": 240}),
        ],
        none="none in this time",
    ),
    table(
        "Suspicious users",
        "Hours with more than 20 payments, 3 countries, 4 devices, or 10,000 spent over 5 merchants: the 50 newest.",
        [sql("""
SELECT
    window_start AS hour, user_id, transactions, CAST(spending AS DOUBLE PRECISION) AS spending, countries, devices, merchants
FROM gold.user_activity
WHERE $__timeFilter(window_start) AND is_suspicious
ORDER BY window_start DESC, spending DESC
LIMIT 50
""")],
        overrides=[override("spending", unit="locale", decimals=2)],
        none="none in this time",
    ),
    bars(
        "Amount at risk by class",
        "Sum of the amounts of CRITICAL, HIGH and MEDIUM transactions.",
        "short",
        [sql("""
SELECT class, CAST(sum(amount) AS DOUBLE PRECISION) AS amount
FROM gold.fraud_scores
WHERE $__timeFilter(event_at) AND class IN ('CRITICAL', 'HIGH', 'MEDIUM')
GROUP BY class
ORDER BY min(score) DESC
""")],
    ),
    width=12,
)

DASHBOARD.row(
    "Can the numbers be trusted?",
    series(
        "What became of the messages",
        "From the ledger, by hour of publication. Each message ends in exactly one of these.",
        "short",
        [sql("""
SELECT
    date_trunc('hour', published_at) AS "time",
    sum(silver_rows) AS silver,
    sum(duplicates) AS duplicates,
    sum(quarantined) AS quarantined,
    sum(dead_letters) AS "dead letters"
FROM ops.epochs
WHERE $__timeFilter(published_at)
GROUP BY 1
ORDER BY 1
""", series=True)],
        stack=True,
        bars=True,
        colors={"silver": GREEN, "duplicates": BLUE, "quarantined": YELLOW, "dead letters": RED},
    ),
    bars(
        "Dead letters by reason",
        "Messages that could not become a row, by time of ingestion.",
        "short",
        [sql("""
SELECT reason, count(*) AS messages
FROM bronze.dead_letters
WHERE $__timeFilter(ingested_at)
GROUP BY reason
ORDER BY messages DESC
LIMIT 15
""")],
        none="none in this time",
    ),
    bars(
        "Quarantined rows by expectation",
        "A row that breaks two counts under both, by time of ingestion.",
        "short",
        [sql("""
SELECT expectation, count(*) AS rows
FROM (SELECT unnest(broken_expectations) AS expectation FROM silver.quarantine WHERE $__timeFilter(ingested_at)) AS broken
GROUP BY expectation
ORDER BY rows DESC
LIMIT 15
""")],
        none="none in this time",
    ),
    width=8,
    height=9,
)
