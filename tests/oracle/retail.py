#!/usr/bin/env python3
"""Compares the lake of examples/retail with DuckDB's own answer from the CSV file: every line, and revenue by country and day.

    retail.py LAKE CSV         exits 1 with what differs
"""

import sys
from decimal import ROUND_HALF_EVEN, Decimal

import pyarrow as pa

import tables
from compare import Report, differences

LINE = ["invoice_no", "stock_code", "description", "quantity", "invoice_date", "unit_price", "customer_id", "country"]
BRONZE, SILVER, GOLD = "bronze.invoice_lines", "silver.invoice_lines", "gold.revenue_by_country_day"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    lake, csv = sys.argv[1:]
    con = tables.database()
    report = Report()
    con.execute(
        """
        CREATE TABLE lines AS SELECT
            InvoiceNo AS invoice_no, StockCode AS stock_code, nullif(Description, '') AS description,
            CAST(Quantity AS INTEGER) AS quantity, InvoiceDate AS invoice_date, CAST(UnitPrice AS DOUBLE) AS unit_price,
            nullif(CustomerID, '') AS customer_id, Country AS country
        FROM read_csv(?, header = true, all_varchar = true)
        """,
        [csv],
    )
    total = count(con, "lines")
    print(f"{total} lines in {csv}")

    relations = {BRONZE: "bronze", "bronze.dead_letters": "letters", SILVER: "silver", "silver.quarantine": "quarantine", GOLD: "gold", tables.EPOCHS: "epochs"}
    for table, relation in relations.items():
        dataset = tables.arrow(lake, table)
        if dataset is None:
            report.add(table, ["the table is missing"])
            return report.code()
        con.register("dataset", dataset)
        con.execute(f"CREATE TABLE {relation} AS FROM dataset")

    report.add("every line is accounted for", accounted(con, total), f"{total} lines")
    compare_lines(con, report, "bronze holds each line as it stands", "lines", "bronze")
    expect(con)
    compare_counts(con, report)
    report.add("revenue by country and day", differences(con, "expected_gold", "gold", ["window_start", "country"]), f"{count(con, 'gold')} rows")
    return report.code()


def count(con, relation: str) -> int:
    return con.execute(f"SELECT count(*) FROM {relation}").fetchone()[0]


def accounted(con, total: int) -> list[str]:
    read, rows, letters, silver, duplicates, quarantined = con.execute(
        "SELECT sum(messages), sum(bronze_rows), sum(dead_letters), sum(silver_rows), sum(duplicates), sum(quarantined) FROM epochs WHERE kind = 'stream'"
    ).fetchone()
    lines = []
    for said, name, real in (
        (read, "messages", total),
        (rows, "bronze_rows", count(con, "bronze")),
        (letters, "dead_letters", count(con, "letters")),
        (silver, "silver_rows", count(con, "silver")),
        (quarantined, "quarantined", count(con, "quarantine")),
        (rows + letters, "bronze_rows + dead_letters", total),
        (silver + duplicates + quarantined, "silver_rows + duplicates + quarantined", rows),
    ):
        if said != real:
            lines.append(f"{name}: ops.epochs says {said}, there are {real}")
    return lines


def compare_lines(con, report: Report, what: str, expected: str, actual: str) -> None:
    columns = ", ".join(LINE)
    empty_is_null = "* REPLACE (nullif(description, '') AS description, nullif(customer_id, '') AS customer_id)"
    for relation, source in (("want", expected), ("have", actual)):
        con.execute(f"CREATE OR REPLACE TABLE {relation} AS SELECT {columns}, count(*) AS times FROM (SELECT {empty_is_null} FROM {source}) GROUP BY ALL")
    report.add(what, differences(con, "want", "have", LINE), f"{count(con, 'have')} different ones")


def expect(con) -> None:
    """What silver and gold must be, from the lines of the file."""
    pairs = con.execute("SELECT DISTINCT unit_price, quantity FROM lines").fetchall()
    # What is rounded is the product of the doubles, as it would be written.
    cents = [int(Decimal(repr(price * quantity)).quantize(Decimal("0.01"), ROUND_HALF_EVEN).scaleb(2)) for price, quantity in pairs]
    con.register("products", pa.table({"unit_price": [price for price, _ in pairs], "quantity": pa.array([q for _, q in pairs], pa.int32()), "cents": cents}))
    con.execute(
        """
        CREATE TABLE expected_silver AS
        SELECT DISTINCT l.*, cents, CAST(invoice_date AS TIMESTAMP) AS invoiced_at
        FROM lines l JOIN products USING (unit_price, quantity)
        WHERE quantity <> 0 AND unit_price >= 0 AND invoice_no <> ''
        """
    )
    con.execute(
        """
        CREATE TABLE expected_gold AS
        SELECT
            CAST(date_trunc('day', invoiced_at) AS TIMESTAMPTZ) AS window_start,
            CAST(date_trunc('day', invoiced_at) + INTERVAL 1 DAY AS TIMESTAMPTZ) AS window_end,
            country,
            count(*) AS lines,
            count_if(invoice_no LIKE 'C%') AS cancelled_lines,
            count(DISTINCT invoice_no) AS invoices,
            count(DISTINCT customer_id) AS customers,
            CAST(sum(quantity) AS BIGINT) AS items,
            CAST(CAST(sum(cents) AS VARCHAR) || 'e-2' AS DECIMAL(28, 2)) AS revenue
        FROM expected_silver GROUP BY ALL
        """
    )


def compare_counts(con, report: Report) -> None:
    total, bad = count(con, "lines"), con.execute("SELECT count(*) FROM lines WHERE NOT (quantity <> 0 AND unit_price >= 0 AND invoice_no <> '')").fetchone()[0]
    kept = count(con, "expected_silver")
    duplicates = con.execute("SELECT sum(duplicates) FROM epochs WHERE kind = 'stream'").fetchone()[0]
    lines = []
    for name, have, want in (("silver rows", count(con, "silver"), kept), ("quarantined lines", count(con, "quarantine"), bad), ("duplicates", duplicates, total - bad - kept)):
        if have != want:
            lines.append(f"{have} {name}, expected {want}")
    report.add("silver, quarantine, duplicates", lines, f"{kept} + {bad} + {total - bad - kept}")
    value, places = con.execute("SELECT sum(revenue), count(*) FROM silver").fetchone()
    expected = con.execute("SELECT CAST(CAST(sum(cents) AS VARCHAR) || 'e-2' AS DECIMAL(28, 2)), count(*) FROM expected_silver").fetchone()
    report.add("revenue of silver", [] if (value, places) == expected else [f"{value} of {places} rows, expected {expected}"], f"{value}")


if __name__ == "__main__":
    tables.leave(main())
