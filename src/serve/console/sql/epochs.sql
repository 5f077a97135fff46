-- Epochs below $1, the newest first, each with whether its counts add up.
SELECT
    epoch,
    kind,
    started_at,
    published_at,
    watermark_at,
    messages,
    bronze_rows,
    dead_letters,
    silver_rows,
    duplicates,
    quarantined,
    late_rows,
    restated_rows,
    warned_rows,
    messages = bronze_rows + dead_letters
        AND (kind <> 'stream' OR bronze_rows = silver_rows + duplicates + quarantined) AS is_balanced,
    date_part('epoch', published_at) - date_part('epoch', started_at) AS seconds,
    offsets,
    tables,
    stages
FROM ops.epochs
WHERE epoch < $1
ORDER BY epoch DESC
LIMIT 100
