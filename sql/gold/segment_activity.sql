-- table      = "gold.segment_activity"
-- mode       = "window"
-- about      = "Sales, fraud and reach of each merchant, payment method and country, every 10 minutes."
-- event_time = "event_at"
-- window     = { size = "10 minutes", slide = "10 minutes" }
-- key        = ["window_start", "merchant", "payment_method", "country"]

SELECT
    window_start,
    window_end,
    merchant,
    payment_method,
    country,
    count(*) AS transactions,
    sum(amount) AS revenue,
    avg(amount) AS average_amount,
    count(*) FILTER (WHERE is_fraud) AS fraud_transactions,
    CAST(count(*) FILTER (WHERE is_fraud) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS fraud_rate,
    count(DISTINCT user_id) AS users,
    count(DISTINCT device_id) AS devices
FROM silver.transactions
GROUP BY window_start, window_end, merchant, payment_method, country
