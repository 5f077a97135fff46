-- table   = "fct_transactions"
-- mode    = "rows"
-- about   = "Every valid transaction once, with the score that it got when it came."
-- key     = ["transaction_id"]
-- columns = [
--   { name = "transaction_id", not_null = true, about = "The identity of the transaction." },
--   { name = "user_id", not_null = true, about = "Who paid: dim_users." },
--   { name = "merchant", not_null = true, about = "Who was paid: dim_merchants." },
--   { name = "country", not_null = true, about = "Where it was paid: dim_countries. By it rows are granted to analysts." },
--   { name = "city", about = "Where it was paid; NULL where the message names no city." },
--   { name = "event_at", not_null = true, about = "When it was paid." },
--   { name = "event_date", not_null = true, about = "The day of event_at, UTC." },
--   { name = "event_hour", not_null = true, about = "The hour of event_at, UTC, from 0 to 23." },
--   { name = "event_day_of_week", not_null = true, about = "The weekday of event_at, UTC: 1 is Monday, 7 is Sunday." },
--   { name = "is_weekend", not_null = true, about = "Whether that is Saturday or Sunday." },
--   { name = "amount", not_null = true, about = "The price paid, in the one currency of the shop." },
--   { name = "amount_category", not_null = true, about = "micro, small, medium, large or very_large." },
--   { name = "is_high_value", not_null = true, about = "Whether the amount is above 1,000." },
--   { name = "payment_method", not_null = true, about = "How it was paid." },
--   { name = "device_id", not_null = true, about = "The device that it was paid from." },
--   { name = "is_fraud", not_null = true, about = "What the sender said: whether fraud was known." },
--   { name = "risk_score", about = "The points of gold.fraud_scores." },
--   { name = "risk_class", about = "CRITICAL, HIGH, MEDIUM, LOW or MINIMAL, by these points." },
--   { name = "fraud_probability", about = "What the champion said when the transaction came; NULL where none was asked." },
--   { name = "is_predicted_fraud", about = "Whether that reached the champion's threshold." },
--   { name = "model_version", about = "The version of the model that was asked." },
--   { name = "source_topic", not_null = true, about = "Where the message came from: its topic," },
--   { name = "source_partition", not_null = true, about = "the partition," },
--   { name = "source_offset", not_null = true, about = "and the offset." },
--   { name = "ingested_at", not_null = true, about = "When assay read the message." },
--   { name = "epoch", not_null = true, about = "The epoch of the lake that brought the row." },
-- ]
-- indexes = [
--   { columns = ["user_id", "event_at"] },
--   { columns = ["merchant", "event_at"] },
--   # Rows lie in the order in which they came: a few pages of these say where a day or an epoch is.
--   { columns = ["event_at"], using = "brin" },
--   { columns = ["epoch"], using = "brin" },
-- ]
-- access  = [
--   { role = "assay_auditor" },
--   # Rows of the countries that access_countries grants to the user.
--   { role = "assay_analyst", rows = "country = ANY (ARRAY(SELECT granted.country FROM access_countries AS granted WHERE granted.member = current_user))" },
-- ]

SELECT
    transactions.transaction_id,
    transactions.user_id,
    transactions.merchant,
    transactions.country,
    transactions.city,
    transactions.event_at,
    transactions.event_date,
    transactions.event_hour,
    transactions.event_day_of_week,
    transactions.is_weekend,
    transactions.amount,
    transactions.amount_category,
    transactions.is_high_value,
    transactions.payment_method,
    transactions.device_id,
    transactions.is_fraud,
    scores.score AS risk_score,
    scores.class AS risk_class,
    scores.fraud_probability,
    scores.is_predicted_fraud,
    scores.model_version,
    transactions.source_topic,
    transactions.source_partition,
    transactions.source_offset,
    transactions.ingested_at,
    transactions.epoch
FROM warehouse.stg_transactions AS transactions
-- A row of silver has its score by the same epoch.
LEFT JOIN gold.fraud_scores AS scores ON scores.transaction_id = transactions.transaction_id
