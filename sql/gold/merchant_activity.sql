-- table      = "gold.merchant_activity"
-- mode       = "window"
-- about      = "Volume, revenue, fraud rate and payment mix of each merchant, every 5 minutes over 15."
-- event_time = "event_at"
-- window     = { size = "15 minutes", slide = "5 minutes" }
-- key        = ["window_start", "merchant"]

SELECT
    window_start,
    window_end,
    merchant,
    count(*) AS transactions,
    sum(amount) AS revenue,
    avg(amount) AS average_amount,
    CAST(count(*) FILTER (WHERE is_fraud) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS fraud_rate,
    count(DISTINCT user_id) AS customers,
    count(DISTINCT device_id) AS devices,
    -- Shares of the number of transactions. They add up to 1 unless a method that is not known was used.
    CAST(count(*) FILTER (WHERE payment_method = 'credit_card') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS credit_card_share,
    CAST(count(*) FILTER (WHERE payment_method = 'debit_card') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS debit_card_share,
    CAST(count(*) FILTER (WHERE payment_method = 'paypal') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS paypal_share,
    CAST(count(*) FILTER (WHERE payment_method = 'bank_transfer') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS bank_transfer_share,
    CAST(count(*) FILTER (WHERE payment_method = 'digital_wallet') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS digital_wallet_share,
    CAST(count(*) FILTER (WHERE payment_method = 'crypto') AS DOUBLE) / CAST(count(*) AS DOUBLE) AS crypto_share
FROM silver.transactions
GROUP BY window_start, window_end, merchant
