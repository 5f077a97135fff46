-- table      = "gold.user_activity"
-- mode       = "window"
-- about      = "What each user spent, where and how, hour by hour, with a mark on suspicious hours."
-- event_time = "event_at"
-- window     = { size = "1 hour", slide = "1 hour" }
-- key        = ["window_start", "user_id"]

SELECT
    window_start,
    window_end,
    user_id,
    count(*) AS transactions,
    sum(amount) AS spending,
    avg(amount) AS average_amount,
    max(amount) AS largest_amount,
    count(DISTINCT merchant) AS merchants,
    count(DISTINCT payment_method) AS payment_methods,
    count(DISTINCT country) AS countries,
    count(DISTINCT device_id) AS devices,
    -- Suspicious within one hour: more than 20 payments (a script), 3 or more countries (nobody travels that fast),
    -- 4 or more devices (an account passed around), or more than 10,000 spent over 5 or more merchants (a stolen card being emptied).
    count(*) > 20
        OR count(DISTINCT country) >= 3
        OR count(DISTINCT device_id) >= 4
        OR (sum(amount) > 10000 AND count(DISTINCT merchant) >= 5) AS is_suspicious
FROM silver.transactions
GROUP BY window_start, window_end, user_id
