-- The index of each feature, day by day, of the newest ninety days; the newest first, so that what does not fit is old.
SELECT model, version, feature, window_start, psi, status
FROM ml.drift
WHERE grain = 'day'
    AND window_start >= (SELECT max(window_start) - INTERVAL '90 days' FROM ml.drift WHERE grain = 'day')
ORDER BY window_start DESC, version DESC, feature
