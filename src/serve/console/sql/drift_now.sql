-- How far each feature of the newest watched day is from what each version learned from.
WITH newest AS (
    SELECT model, version, grain, max(window_start) AS window_start
    FROM ml.drift
    WHERE grain = 'day'
    GROUP BY model, version, grain
)
SELECT
    d.model,
    d.version,
    d.window_start,
    d.feature,
    d.status,
    d.rows,
    d.psi,
    d.jensen_shannon,
    d.psi_by_chance,
    d.missing,
    d.largest_change,
    d.psi_watch,
    d.psi_act,
    d.epoch
FROM ml.drift AS d
JOIN newest AS n
    ON d.model = n.model AND d.version = n.version AND d.grain = n.grain AND d.window_start = n.window_start
ORDER BY d.version DESC, d.psi DESC, d.feature
