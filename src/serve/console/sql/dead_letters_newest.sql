-- The newest messages that could not become rows.
SELECT
    source_topic,
    source_partition,
    source_offset,
    epoch,
    ingested_at,
    stage,
    reason,
    detail,
    length(encode(payload, 'hex')) / 2 AS bytes,
    payload
FROM bronze.dead_letters
ORDER BY epoch DESC, source_partition, source_offset DESC
LIMIT 50
