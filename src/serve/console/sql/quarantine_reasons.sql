-- Which expectations rows broke; a row that breaks two counts under both.
SELECT
    expectation,
    count(*) AS rows,
    min(ingested_at) AS first_at,
    max(ingested_at) AS last_at,
    max(epoch) AS last_epoch
FROM (SELECT unnest(broken_expectations) AS expectation, ingested_at, epoch FROM {quarantine})
GROUP BY expectation
ORDER BY rows DESC, expectation
