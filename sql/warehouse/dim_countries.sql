-- table   = "dim_countries"
-- mode    = "upsert"
-- about   = "Where it is paid: one row for each country of fct_transactions."
-- key     = ["country"]
-- columns = [
--   { name = "country", not_null = true, about = "The name of the country, as messages have it." },
--   { name = "is_high_risk", not_null = true, merge = "last", about = "Whether sql/reference/high_risk_countries.csv lists it." },
--   { name = "first_seen_at", not_null = true, merge = "least", about = "The first transaction, by event time." },
--   { name = "last_seen_at", not_null = true, merge = "greatest", about = "The last transaction, by event time." },
--   { name = "transactions", not_null = true, merge = "sum", about = "Transactions in the country." },
--   { name = "epoch", not_null = true, merge = "greatest", about = "The last epoch of the lake that changed the row." },
-- ]
-- access  = [
--   { role = "assay_auditor" },
--   { role = "assay_analyst", rows = "country = ANY (ARRAY(SELECT granted.country FROM access_countries AS granted WHERE granted.member = current_user))" },
-- ]

SELECT
    country,
    is_listed('high_risk_countries', country) AS is_high_risk,
    min(event_at) AS first_seen_at,
    max(event_at) AS last_seen_at,
    count(*) AS transactions,
    max(epoch) AS epoch
FROM warehouse.stg_transactions
GROUP BY country
