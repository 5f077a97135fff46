-- table        = "silver.transactions"
-- mode         = "rows"
-- about        = "Every valid transaction once, typed, with where it came from."
-- event_time   = "event_at"
-- key          = ["transaction_id"]
-- deduplicate  = true
-- partition_by = ["transaction_date"]
-- quarantine   = "silver.quarantine"
-- expectations = [
--   { name = "transaction_id_present", check = "transaction_id <> ''", on_fail = "quarantine" },
--   # Not a finite number is no amount either: money() makes NULL of it, and NULL is not above 0.
--   { name = "amount_positive", check = "amount > 0", on_fail = "quarantine" },
--   { name = "amount_sane", check = "amount < 1000000", on_fail = "quarantine" },
--   { name = "event_at_parsable", check = "event_at IS NOT NULL", on_fail = "quarantine" },
--   # An unparsable time is reported once, by the expectation above.
--   { name = "event_at_not_ancient", check = "event_at IS NULL OR event_at >= event_time('2000-01-01')", on_fail = "quarantine" },
--   # Clocks of senders drift. What lies further ahead would close every window too early.
--   { name = "event_at_not_in_future", check = "event_at IS NULL OR event_at <= ingested_at + INTERVAL '5 minutes'", on_fail = "quarantine" },
--   { name = "payment_method_known", check = "payment_method IN ('credit_card', 'debit_card', 'paypal', 'bank_transfer', 'digital_wallet', 'crypto')", on_fail = "warn" },
-- ]

WITH typed AS (
    SELECT
        *,
        event_time("timestamp") AS event_at,
        -- Money adds up only in decimals; half to even keeps sums free of drift.
        money(amount) AS exact_amount
    FROM bronze.transactions
)
SELECT
    transaction_id,
    user_id,
    exact_amount AS amount,
    merchant,
    merchant_id,
    event_at,
    is_fraud,
    payment_method,
    -- "City, Country". A text without both parts names no city, and stays whole as the country.
    before_last(location, ',') AS city,
    coalesce(after_last(location, ','), location) AS country,
    device_id,
    CASE
        WHEN exact_amount < 10 THEN 'micro'
        WHEN exact_amount < 100 THEN 'small'
        WHEN exact_amount < 1000 THEN 'medium'
        WHEN exact_amount < 5000 THEN 'large'
        ELSE 'very_large'
    END AS amount_category,
    date_part('hour', event_at) AS hour,
    -- ISO 8601: 1 is Monday, 7 is Sunday.
    date_part('isodow', event_at) AS day_of_week,
    date_part('isodow', event_at) >= 6 AS is_weekend,
    exact_amount > 1000 AS is_high_value,
    CAST(event_at AS DATE) AS transaction_date,
    source_topic,
    source_partition,
    source_offset,
    source_at,
    source_key,
    source_headers,
    schema_id,
    ingested_at,
    epoch,
    processing_date
FROM typed
