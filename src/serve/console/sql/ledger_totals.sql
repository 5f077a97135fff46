-- All that was ever read, and what became of it. A rebuild reads bronze again, and no message.
SELECT
    count(*) AS epochs,
    max(epoch) AS last_epoch,
    coalesce(sum(messages) FILTER (WHERE kind = 'stream'), 0) AS messages,
    coalesce(sum(bronze_rows) FILTER (WHERE kind = 'stream'), 0) AS bronze_rows,
    coalesce(sum(dead_letters) FILTER (WHERE kind = 'stream'), 0) AS dead_letters,
    coalesce(sum(silver_rows) FILTER (WHERE kind = 'stream'), 0) AS silver_rows,
    coalesce(sum(duplicates) FILTER (WHERE kind = 'stream'), 0) AS duplicates,
    coalesce(sum(quarantined) FILTER (WHERE kind = 'stream'), 0) AS quarantined,
    coalesce(sum(late_rows) FILTER (WHERE kind = 'stream'), 0) AS late_rows,
    coalesce(sum(warned_rows) FILTER (WHERE kind = 'stream'), 0) AS warned_rows,
    min(published_at) AS first_published_at,
    max(published_at) AS last_published_at,
    count(*) FILTER (WHERE
        messages <> bronze_rows + dead_letters
        OR (kind = 'stream' AND bronze_rows <> silver_rows + duplicates + quarantined)
    ) AS unbalanced_epochs
FROM ops.epochs
