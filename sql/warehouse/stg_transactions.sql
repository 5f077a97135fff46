-- table = "stg_transactions"
-- mode  = "view"
-- about = "The transactions of the epochs that are loaded, in the names and types of the warehouse. The other files read it."

SELECT
    transaction_id,
    user_id,
    merchant,
    merchant_id,
    -- A text of blanks names no country, and a dimension needs a name.
    CASE WHEN trim(country) = '' THEN 'unknown' ELSE country END AS country,
    city,
    event_at,
    transaction_date AS event_date,
    hour AS event_hour,
    day_of_week AS event_day_of_week,
    is_weekend,
    amount,
    amount_category,
    is_high_value,
    payment_method,
    device_id,
    is_fraud,
    source_topic,
    source_partition,
    source_offset,
    ingested_at,
    epoch
FROM silver.transactions
