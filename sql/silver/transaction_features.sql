-- table        = "silver.transaction_features"
-- mode         = "rows"
-- about        = "What was known of user, merchant and device when each transaction came, itself not included."
-- event_time   = "event_at"
-- key          = ["transaction_id"]
-- partition_by = ["transaction_date"]
-- features     = [
--   { column = "user_count_5m", entity = "user_id", aggregate = "count", window = "5 minutes", about = "Transactions of the user." },
--   { column = "user_count_30m", entity = "user_id", aggregate = "count", window = "30 minutes", about = "Transactions of the user." },
--   { column = "user_count_24h", entity = "user_id", aggregate = "count", window = "24 hours", grain = "1 hour", about = "Transactions of the user." },
--   { column = "user_count_7d", entity = "user_id", aggregate = "count", window = "7 days", grain = "1 day", about = "Transactions of the user." },
--   { column = "user_amount_sum_5m", entity = "user_id", aggregate = "sum", of = "amount", window = "5 minutes", about = "What the user spent." },
--   { column = "user_amount_sum_24h", entity = "user_id", aggregate = "sum", of = "amount", window = "24 hours", grain = "1 hour", about = "What the user spent." },
--   { column = "user_amount_sum_30d", entity = "user_id", aggregate = "sum", of = "amount", window = "30 days", grain = "1 day", about = "What the user spent." },
--   { column = "user_amount_avg_5m", entity = "user_id", aggregate = "average", of = "amount", window = "5 minutes", about = "What the user spent each time." },
--   { column = "user_amount_avg_24h", entity = "user_id", aggregate = "average", of = "amount", window = "24 hours", grain = "1 hour", about = "What the user spent each time." },
--   { column = "user_amount_avg_30d", entity = "user_id", aggregate = "average", of = "amount", window = "30 days", grain = "1 day", about = "What the user spent each time." },
--   { column = "user_seconds_since_previous", entity = "user_id", aggregate = "seconds_since_previous", last = 20, window = "30 days", about = "Since the user's transaction before." },
--   { column = "user_distinct_merchants_24h", entity = "user_id", aggregate = "distinct", of = "merchant", window = "24 hours", grain = "1 hour", about = "Merchants at which the user bought." },
--   { column = "user_distinct_countries_24h", entity = "user_id", aggregate = "distinct", of = "country", window = "24 hours", grain = "1 hour", about = "Countries in which the user bought." },
--   { column = "user_distinct_devices_24h", entity = "user_id", aggregate = "distinct", of = "device_id", window = "24 hours", grain = "1 hour", about = "Devices that the user used." },
--   { column = "device_seen_before", entity = "user_id", aggregate = "seen", of = "device_id", last = 20, window = "30 days", about = "The user's last transactions know the device." },
--   { column = "country_seen_before", entity = "user_id", aggregate = "seen", of = "country", last = 20, window = "30 days", about = "The user's last transactions know the country." },
--   { column = "device_mismatch_rate_20", entity = "user_id", aggregate = "mismatch_rate", of = "device_id", last = 20, window = "30 days", about = "Share of the user's last transactions by another device." },
--   { column = "country_mismatch_rate_20", entity = "user_id", aggregate = "mismatch_rate", of = "country", last = 20, window = "30 days", about = "Share of the user's last transactions in another country." },
--   { column = "merchant_count_24h", entity = "merchant", aggregate = "count", window = "24 hours", grain = "1 hour", about = "Transactions at the merchant." },
--   { column = "merchant_amount_24h", entity = "merchant", aggregate = "sum", of = "amount", window = "24 hours", grain = "1 hour", about = "What was spent at the merchant." },
--   { column = "merchant_fraud_rate_30d", entity = "merchant", aggregate = "rate", of = "is_fraud", window = "30 days", grain = "1 day", label_delay = true, about = "Share of fraud at the merchant, as far as labels are in." },
--   { column = "device_count_24h", entity = "device_id", aggregate = "count", window = "24 hours", grain = "1 hour", about = "Transactions by the device." },
--   { column = "device_amount_24h", entity = "device_id", aggregate = "sum", of = "amount", window = "24 hours", grain = "1 hour", about = "What was spent by the device." },
--   { column = "device_fraud_rate_30d", entity = "device_id", aggregate = "rate", of = "is_fraud", window = "30 days", grain = "1 day", label_delay = true, about = "Share of fraud by the device, as far as labels are in." },
-- ]

-- What follows from the transaction itself stands beside, so that a model finds all it may use in one row. The label
-- does not: join silver.transactions by transaction_id for it.
SELECT
    transaction_id,
    user_id,
    event_at,
    amount,
    amount_category,
    payment_method,
    hour,
    day_of_week,
    is_weekend,
    -- From 23:00 up to 05:00, UTC.
    hour >= 23 OR hour < 5 AS is_night,
    -- The list is sql/reference/high_risk_countries.csv.
    is_listed('high_risk_countries', country) AS is_high_risk_country,
    user_count_5m,
    user_count_30m,
    user_count_24h,
    user_count_7d,
    user_amount_sum_5m,
    user_amount_sum_24h,
    user_amount_sum_30d,
    user_amount_avg_5m,
    user_amount_avg_24h,
    user_amount_avg_30d,
    -- NULL for the first transaction in 30 days.
    CAST(amount AS DOUBLE) / user_amount_avg_30d AS amount_to_user_avg_30d,
    user_seconds_since_previous,
    user_distinct_merchants_24h,
    user_distinct_countries_24h,
    user_distinct_devices_24h,
    device_seen_before,
    country_seen_before,
    device_mismatch_rate_20,
    country_mismatch_rate_20,
    merchant_count_24h,
    merchant_amount_24h,
    merchant_fraud_rate_30d,
    device_count_24h,
    device_amount_24h,
    device_fraud_rate_30d,
    transaction_date,
    epoch
FROM silver.transactions
