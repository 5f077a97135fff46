-- table = "fct_transactions"
-- about = "Silver sends what is not above 0 to quarantine: here it means that a rule was lost on the way."

SELECT transaction_id, amount
FROM fct_transactions
WHERE amount <= 0
    AND epoch > current_setting('assay.after_epoch')::bigint
    AND epoch <= current_setting('assay.epoch')::bigint
