-- How good the decisions of each day were, once the labels had come; the newest first.
SELECT model, version, window_start, rows, frauds, precision, recall, f1, average_precision
FROM ml.performance
WHERE window_start >= (SELECT max(window_start) - INTERVAL '90 days' FROM ml.performance)
ORDER BY window_start DESC, version DESC
