-- The newest rows that broke an expectation.
SELECT * FROM {quarantine} ORDER BY epoch DESC, source_partition, source_offset DESC LIMIT 50
