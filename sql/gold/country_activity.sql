-- table      = "gold.country_activity"
-- mode       = "window"
-- about      = "Volume, revenue, fraud rate and reach of each country, every 30 minutes."
-- event_time = "event_at"
-- window     = { size = "30 minutes", slide = "30 minutes" }
-- key        = ["window_start", "country"]

SELECT
    window_start,
    window_end,
    country,
    count(*) AS transactions,
    sum(amount) AS revenue,
    CAST(count(*) FILTER (WHERE is_fraud) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS fraud_rate,
    count(DISTINCT user_id) AS active_users,
    count(DISTINCT merchant) AS active_merchants
FROM silver.transactions
GROUP BY window_start, window_end, country
