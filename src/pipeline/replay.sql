-- Dead letters of the epochs $1 to $2 that were not sent again yet. One that was sent says so in a header of its new place.
WITH headers AS (
    SELECT unnest(source_headers) AS header FROM {bronze} WHERE source_headers IS NOT NULL
    UNION ALL
    SELECT unnest(source_headers) AS header FROM bronze.dead_letters WHERE source_headers IS NOT NULL
),
replayed AS (
    SELECT DISTINCT CAST(header['value'] AS VARCHAR) AS place FROM headers WHERE header['name'] = 'assay-replay'
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
    WHERE {wanted} AND epoch >= $1 AND epoch <= $2
)
SELECT letters.*
FROM letters
LEFT ANTI JOIN replayed ON letters.place = replayed.place
ORDER BY epoch, source_topic, source_partition, source_offset
