-- table   = "dim_users"
-- mode    = "upsert"
-- about   = "Who pays: one row for each user of fct_transactions. What a user spent in all countries is not for analysts of one."
-- key     = ["user_id"]
-- columns = [
--   { name = "user_id", not_null = true, about = "The identity of the user." },
--   { name = "first_seen_at", not_null = true, merge = "least", about = "The first transaction, by event time." },
--   { name = "last_seen_at", not_null = true, merge = "greatest", about = "The last transaction, by event time." },
--   { name = "transactions", not_null = true, merge = "sum", about = "Transactions of the user." },
--   { name = "amount", not_null = true, merge = "sum", about = "What the user spent." },
--   { name = "frauds", not_null = true, merge = "sum", about = "Transactions that the sender said were fraud." },
--   { name = "epoch", not_null = true, merge = "greatest", about = "The last epoch of the lake that changed the row." },
-- ]
-- access  = [{ role = "assay_auditor" }]

SELECT
    user_id,
    min(event_at) AS first_seen_at,
    max(event_at) AS last_seen_at,
    count(*) AS transactions,
    sum(amount) AS amount,
    sum(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds,
    max(epoch) AS epoch
FROM warehouse.stg_transactions
GROUP BY user_id
