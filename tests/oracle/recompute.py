#!/usr/bin/env python3
"""Recomputes silver, quarantine, gold and scores of a lake from its bronze with another engine, and compares every row.

    recompute.py LAKE [--countries CSV]

Prints a line for each table and exits 1 on any difference.
"""

import argparse
import sys
from pathlib import Path

import expected
import tables
from compare import Report, differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", help="a folder, or s3://bucket/prefix with AWS_* variables")
    parser.add_argument("--countries", type=Path, default=expected.REPOSITORY / "sql/reference/high_risk_countries.csv")
    arguments = parser.parse_args()

    con = tables.database()
    report = Report()
    bronze = tables.arrow(arguments.lake, tables.BRONZE)
    if bronze is None:
        print(f"{arguments.lake} holds no {tables.BRONZE}", file=sys.stderr)
        return 1
    con.register("bronze_dataset", bronze)
    con.execute("CREATE TABLE bronze AS FROM bronze_dataset")
    report.add("bronze.transactions (each message once)", bronze_duplicates(con))
    expected.build(con, arguments.countries)

    compare(con, report, arguments.lake, tables.SILVER, "expected_silver", ["transaction_id"])
    compare(con, report, arguments.lake, tables.QUARANTINE, "expected_quarantine", expected.PLACE)
    for table, (relation, key) in expected.GOLD.items():
        compare(con, report, arguments.lake, table, relation, key)
    ledger(con, report, arguments.lake)
    return report.code()


def bronze_duplicates(con) -> list[str]:
    place = ", ".join(expected.PLACE)
    rows = con.execute(f"SELECT {place}, count(*) FROM bronze GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 5").fetchall()
    return [f"{topic}/{partition} at {offset} is there {count} times" for topic, partition, offset, count in rows]


def compare(con, report: Report, lake: str, table: str, relation: str, key: list[str]) -> None:
    rows = con.execute(f"SELECT count(*) FROM {relation}").fetchone()[0]
    actual = tables.arrow(lake, table)
    if actual is None:
        report.add(table, [f"the table is missing, {rows} rows are expected"])
        return
    con.register("actual_dataset", actual)
    selected = "*"
    if table == tables.QUARANTINE:
        # The order of the names of broken expectations carries no meaning.
        selected = "* REPLACE (list_sort(broken_expectations) AS broken_expectations)"
    said = [name for name in tables.SAID if name in actual.schema.names]
    if table == tables.SCORES and said:
        # It follows from a model, not from bronze: streamed.py holds it against the topic of predictions.
        selected = f"* EXCLUDE ({', '.join(said)})"
    con.execute(f"CREATE OR REPLACE TABLE actual AS SELECT {selected} FROM actual_dataset")
    report.add(table, differences(con, relation, "actual", key), f"{rows} rows")


def ledger(con, report: Report, lake: str) -> None:
    """The counts of ops.epochs against those that follow from bronze, epoch by epoch."""
    epochs = tables.arrow(lake, tables.EPOCHS)
    if epochs is None:
        report.add(tables.EPOCHS, ["the table is missing"])
        return
    con.register("epochs_dataset", epochs)
    # Two steps: a comparison pushed down into string views would find nothing.
    con.execute("CREATE OR REPLACE TABLE all_epochs AS FROM epochs_dataset")
    con.execute("CREATE OR REPLACE TABLE epochs AS FROM all_epochs WHERE kind = 'stream'")
    counts = {
        "bronze_rows": "bronze",
        "silver_rows": "expected_silver",
        "duplicates": "expected_duplicates",
        "quarantined": "expected_quarantine",
    }
    per_epoch = " UNION ALL ".join(f"SELECT epoch, '{name}' AS what FROM {relation}" for name, relation in counts.items())
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_counts AS
        SELECT epoch, {", ".join(f"coalesce(count_if(what = '{name}'), 0) AS {name}" for name in counts)}
        FROM (SELECT epoch, NULL AS what FROM epochs UNION ALL {per_epoch}) GROUP BY epoch
        """
    )
    rows = con.execute("SELECT count(*) FROM epochs").fetchone()[0]
    lines = differences(con, "expected_counts", "epochs", ["epoch"], ["epoch", *counts])
    report.add(f"{tables.EPOCHS} (counts)", lines, f"{rows} epochs")


if __name__ == "__main__":
    tables.leave(main())
