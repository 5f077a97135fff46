-- Dead letters of the epochs $1 to $2 that were not sent again yet. A message that was says so in a header.
WITH named AS (
    SELECT
        concat(source_topic, '/', source_partition, '/', source_offset) AS place,
        epoch,
        true AS is_letter,
        unnest(source_headers) AS header
    FROM bronze.dead_letters
    WHERE source_headers IS NOT NULL
    UNION ALL
    SELECT NULL, epoch, false, unnest(source_headers) AS header FROM {bronze} WHERE source_headers IS NOT NULL
),
-- What came of letters that were sent: the letter's place, and the new one's where it is a letter again.
came AS (
    SELECT substr(TRY_CAST(header['value'] AS VARCHAR), length('{lake}/') + 1) AS origin, place, epoch, is_letter
    FROM named
    -- What another lake sent to the topic is a message like others.
    WHERE header['name'] = 'assay-replay' AND starts_with(TRY_CAST(header['value'] AS VARCHAR), '{lake}/')
),
-- A letter that was sent twice came back twice: one of them stands for it, and none where another was taken.
copies AS (
    SELECT place
    FROM (
        SELECT place, is_letter, row_number() OVER (PARTITION BY origin ORDER BY is_letter, epoch, place) AS copy
        FROM came
        WHERE origin IS NOT NULL
    )
    WHERE is_letter AND copy > 1
),
done AS (
    SELECT origin AS place FROM came WHERE origin IS NOT NULL
    UNION
    SELECT place FROM copies
),
letters AS (
    SELECT
        concat(source_topic, '/', source_partition, '/', source_offset) AS place,
        source_topic,
        source_partition,
        source_offset,
        source_key,
        source_headers,
        payload,
        reason,
        epoch
    FROM bronze.dead_letters
    -- A message without a payload is bad whoever reads it, and in a compacted topic it would delete its key.
    WHERE {wanted} AND payload IS NOT NULL AND epoch >= $1 AND epoch <= $2
)
-- The places are held in memory, the letters are not.
SELECT letters.*, concat('{lake}/', letters.place) AS origin
FROM done
RIGHT ANTI JOIN letters ON letters.place = done.place
ORDER BY epoch, source_topic, source_partition, source_offset
