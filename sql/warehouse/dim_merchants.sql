-- table   = "dim_merchants"
-- mode    = "upsert"
-- about   = "Who is paid: one row for each merchant of fct_transactions."
-- key     = ["merchant"]
-- columns = [
--   { name = "merchant", not_null = true, about = "The name of the merchant." },
--   { name = "merchant_id", merge = "greatest", about = "The merchant's identity, the greatest one seen; NULL where no message has one." },
--   { name = "first_seen_at", not_null = true, merge = "least", about = "The first transaction, by event time." },
--   { name = "last_seen_at", not_null = true, merge = "greatest", about = "The last transaction, by event time." },
--   { name = "transactions", not_null = true, merge = "sum", about = "Transactions at the merchant." },
--   { name = "epoch", not_null = true, merge = "greatest", about = "The last epoch of the lake that changed the row." },
-- ]
-- access  = [{ role = "assay_auditor" }, { role = "assay_analyst" }]

SELECT
    merchant,
    max(merchant_id) AS merchant_id,
    min(event_at) AS first_seen_at,
    max(event_at) AS last_seen_at,
    count(*) AS transactions,
    max(epoch) AS epoch
FROM warehouse.stg_transactions
GROUP BY merchant
