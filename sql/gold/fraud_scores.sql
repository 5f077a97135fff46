-- table        = "gold.fraud_scores"
-- mode         = "rows"
-- about        = "A score for each transaction by rules that people can read, with the points and the reasons."
-- event_time   = "event_at"
-- key          = ["transaction_id"]
-- partition_by = ["transaction_date"]
-- model        = "fraud"
-- trailing     = [{ column = "user_transactions_30m", key = "user_id", window = "30 minutes" }]

WITH rules AS (
    SELECT
        *,
        -- The flag comes from the sender: somebody has confirmed the fraud.
        CASE WHEN is_fraud THEN 50 ELSE 0 END AS known_fraud,
        CASE WHEN amount > 5000 THEN 30 ELSE 0 END AS high_amount,
        -- Crypto payments cannot be called back.
        CASE WHEN payment_method = 'crypto' THEN 20 ELSE 0 END AS crypto,
        -- The list is sql/reference/high_risk_countries.csv.
        CASE WHEN is_listed('high_risk_countries', country) THEN 15 ELSE 0 END AS high_risk_country,
        -- While the owner of the card sleeps: from 23:00 up to 05:00, UTC.
        CASE WHEN hour >= 23 OR hour < 5 THEN 10 ELSE 0 END AS night,
        CASE WHEN is_weekend THEN 5 ELSE 0 END AS weekend,
        -- More than 5 in 30 minutes, this one included: cards are tried in bursts.
        CASE WHEN user_transactions_30m > 5 THEN 25 ELSE 0 END AS velocity
    FROM silver.transactions
),
scored AS (
    SELECT
        *,
        CAST(known_fraud + high_amount + crypto + high_risk_country + night + weekend + velocity AS INT) AS total
    FROM rules
)
SELECT
    transaction_id,
    user_id,
    event_at,
    amount,
    CAST(known_fraud AS INT) AS known_fraud_points,
    CAST(high_amount AS INT) AS high_amount_points,
    CAST(crypto AS INT) AS crypto_points,
    CAST(high_risk_country AS INT) AS high_risk_country_points,
    CAST(night AS INT) AS night_points,
    CAST(weekend AS INT) AS weekend_points,
    CAST(velocity AS INT) AS velocity_points,
    user_transactions_30m,
    total AS score,
    -- concat_ws leaves out what is NULL.
    concat_ws(
        '; ',
        CASE WHEN known_fraud > 0 THEN 'flagged as fraud' END,
        CASE WHEN high_amount > 0 THEN 'amount above 5,000' END,
        CASE WHEN crypto > 0 THEN 'paid in crypto' END,
        CASE WHEN high_risk_country > 0 THEN 'high-risk country' END,
        CASE WHEN night > 0 THEN 'at night' END,
        CASE WHEN weekend > 0 THEN 'at the weekend' END,
        CASE WHEN velocity > 0 THEN 'more than 5 transactions in 30 minutes' END
    ) AS reasons,
    CASE
        WHEN total >= 75 THEN 'CRITICAL'
        WHEN total >= 50 THEN 'HIGH'
        WHEN total >= 25 THEN 'MEDIUM'
        WHEN total >= 10 THEN 'LOW'
        ELSE 'MINIMAL'
    END AS class,
    transaction_date,
    epoch
FROM scored
