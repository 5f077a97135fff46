-- about   = "As fraud.sql, with the features of user, merchant and device: for a lake whose features are enabled."
-- key     = "transaction_id"
-- label   = "is_fraud"
-- time    = "event_at"
-- card    = "user_id"
-- segment = ["country", "payment_method"]

SELECT
    transactions.transaction_id,
    transactions.event_at,
    transactions.user_id,
    transactions.is_fraud,
    transactions.country,
    features.amount,
    features.payment_method,
    features.hour,
    features.day_of_week,
    features.is_weekend,
    features.is_night,
    features.is_high_risk_country,
    features.user_count_5m,
    features.user_count_30m,
    features.user_count_24h,
    features.user_count_7d,
    features.user_amount_sum_5m,
    features.user_amount_sum_24h,
    features.user_amount_sum_30d,
    features.user_amount_avg_5m,
    features.user_amount_avg_24h,
    features.user_amount_avg_30d,
    features.amount_to_user_avg_30d,
    features.user_seconds_since_previous,
    features.user_distinct_merchants_24h,
    features.user_distinct_countries_24h,
    features.user_distinct_devices_24h,
    features.device_seen_before,
    features.country_seen_before,
    features.device_mismatch_rate_20,
    features.country_mismatch_rate_20,
    features.merchant_count_24h,
    features.merchant_amount_24h,
    features.merchant_fraud_rate_30d,
    features.device_count_24h,
    -- Not device_fraud_rate_30d: few devices have a fraud that is known, and where none has, the column never varies,
    -- which a training refuses.
    features.device_amount_24h
FROM silver.transactions AS transactions
JOIN silver.transaction_features AS features ON features.transaction_id = transactions.transaction_id
