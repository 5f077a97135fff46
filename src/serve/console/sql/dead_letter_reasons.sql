-- Why messages became dead letters.
SELECT
    stage,
    reason,
    count(*) AS messages,
    min(ingested_at) AS first_at,
    max(ingested_at) AS last_at,
    max(epoch) AS last_epoch
FROM bronze.dead_letters
GROUP BY stage, reason
ORDER BY messages DESC, stage, reason
