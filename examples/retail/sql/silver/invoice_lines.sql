-- table        = "silver.invoice_lines"
-- mode         = "rows"
-- about        = "Every line of every invoice once: sales, cancellations and stock corrections, typed."
-- event_time   = "invoiced_at"
-- # A line has no number of its own: a line is a repeat when all of it is the same.
-- key          = ["invoice_no", "stock_code", "description", "quantity", "invoiced_at", "unit_price", "customer_id", "country"]
-- deduplicate  = true
-- partition_by = ["invoice_month"]
-- quarantine   = "silver.quarantine"
-- expectations = [
--   { name = "invoice_no_present", check = "invoice_no <> ''", on_fail = "quarantine" },
--   { name = "invoiced_at_parsable", check = "invoiced_at IS NOT NULL", on_fail = "quarantine" },
--   { name = "quantity_not_zero", check = "quantity <> 0", on_fail = "quarantine" },
--   # Two lines of -11,062.06 write off bad debt: bookkeeping, not trade.
--   { name = "unit_price_not_negative", check = "unit_price >= 0", on_fail = "quarantine" },
--   # Damaged and lost goods are booked at price 0. They carry no revenue and stay, so that stock can be counted.
--   { name = "unit_price_above_zero", check = "unit_price > 0", on_fail = "warn" },
--   # Guests buy too: a quarter of the lines names no customer.
--   { name = "customer_known", check = "customer_id IS NOT NULL", on_fail = "warn" },
--   { name = "cancellation_negative", check = "is_cancellation = (quantity < 0)", on_fail = "warn" },
-- ]

SELECT
    invoice_no,
    stock_code,
    nullif(description, '') AS description,
    quantity,
    -- The shop's own clock, taken as UTC.
    event_time(invoice_date) AS invoiced_at,
    -- Four places, because some prices are a tenth of a penny.
    CAST(unit_price AS DECIMAL(18, 4)) AS unit_price,
    -- "17850.0" is customer 17850: the file went through a tool that makes numbers of everything.
    TRY_CAST(split_part(customer_id, '.', 1) AS INT) AS customer_id,
    country,
    starts_with(invoice_no, 'C') AS is_cancellation,
    -- A cancellation has a negative quantity, so that revenue goes down by itself.
    money(unit_price * quantity) AS revenue,
    CAST(date_trunc('month', event_time(invoice_date)) AS DATE) AS invoice_month,
    source_topic,
    source_partition,
    source_offset,
    source_at,
    source_key,
    source_headers,
    schema_id,
    ingested_at,
    epoch,
    processing_date
FROM bronze.invoice_lines
