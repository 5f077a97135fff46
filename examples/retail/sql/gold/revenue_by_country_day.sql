-- table      = "gold.revenue_by_country_day"
-- mode       = "window"
-- about      = "What each country bought and sent back, day by day, in pounds sterling."
-- event_time = "invoiced_at"
-- window     = { size = "1 day", slide = "1 day" }
-- key        = ["window_start", "country"]

SELECT
    window_start,
    window_end,
    country,
    count(*) AS lines,
    count(*) FILTER (WHERE is_cancellation) AS cancelled_lines,
    count(DISTINCT invoice_no) AS invoices,
    count(DISTINCT customer_id) AS customers,
    sum(quantity) AS items,
    sum(revenue) AS revenue
FROM silver.invoice_lines
GROUP BY window_start, window_end, country
