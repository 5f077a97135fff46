-- about   = "What was known of each transaction when it arrived, and whether it was fraud."
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
    transactions.amount,
    transactions.payment_method,
    transactions.country,
    transactions.hour,
    transactions.day_of_week,
    -- Counted by arrival: what a scorer knew at that moment.
    scores.user_transactions_30m,
    -- Neither `score` nor `known_fraud_points`: the sender's flag is in them, and it is the label.
    scores.high_risk_country_points
FROM silver.transactions AS transactions
JOIN gold.fraud_scores AS scores ON scores.transaction_id = transactions.transaction_id
