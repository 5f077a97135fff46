-- table      = "gold.platform_hourly"
-- mode       = "window"
-- about      = "Totals, payment mix, fraud rate and high-value rate of the whole platform, hour by hour."
-- event_time = "event_at"
-- window     = { size = "1 hour", slide = "1 hour" }
-- key        = ["window_start"]

SELECT
    window_start,
    window_end,
    count(*) AS transactions,
    sum(amount) AS revenue,
    avg(amount) AS average_amount,
    min(amount) AS smallest_amount,
    max(amount) AS largest_amount,
    count(DISTINCT user_id) AS active_users,
    count(DISTINCT merchant) AS active_merchants,
    count(DISTINCT country) AS countries,
    count(*) FILTER (WHERE payment_method = 'credit_card') AS credit_card_transactions,
    count(*) FILTER (WHERE payment_method = 'debit_card') AS debit_card_transactions,
    count(*) FILTER (WHERE payment_method = 'paypal') AS paypal_transactions,
    count(*) FILTER (WHERE payment_method = 'bank_transfer') AS bank_transfer_transactions,
    count(*) FILTER (WHERE payment_method = 'digital_wallet') AS digital_wallet_transactions,
    count(*) FILTER (WHERE payment_method = 'crypto') AS crypto_transactions,
    -- Methods that are not known come in with a warning and are counted here.
    count(*) FILTER (WHERE payment_method NOT IN ('credit_card', 'debit_card', 'paypal', 'bank_transfer', 'digital_wallet', 'crypto')) AS other_transactions,
    CAST(count(*) FILTER (WHERE is_fraud) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS fraud_rate,
    CAST(count(*) FILTER (WHERE is_high_value) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS high_value_rate
FROM silver.transactions
GROUP BY window_start, window_end
