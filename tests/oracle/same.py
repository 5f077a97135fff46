#!/usr/bin/env python3
"""Compares silver, gold and scores of two lakes: the same transactions give the same tables, whatever the epochs.

    same.py LAKE OTHER         exits 1 with what differs
"""

import sys

import expected
import tables
from compare import Report, columns, differences

# What depends on when and how the messages were read, not on what they say.
ACCIDENTAL = {*expected.PROVENANCE, "epoch"}


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    report = Report()
    keys = {tables.SILVER: ["transaction_id"], **{table: key for table, (_, key) in expected.GOLD.items()}}
    for table, key in keys.items():
        con = tables.database()
        missing = []
        for lake, relation in zip(sys.argv[1:], ("want", "have")):
            dataset = tables.arrow(lake, table)
            if dataset is None:
                missing.append(f"{lake} does not hold it")
                continue
            con.register("dataset", dataset)
            con.execute(f"CREATE TABLE {relation} AS FROM dataset")
        if missing:
            report.add(table, missing)
            continue
        only = [name for name in columns(con, "want") if name not in ACCIDENTAL]
        rows = con.execute("SELECT count(*) FROM want").fetchone()[0]
        report.add(table, differences(con, "want", "have", key, only), f"{rows} rows")
    return report.code()


if __name__ == "__main__":
    tables.leave(main())
