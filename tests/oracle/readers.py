#!/usr/bin/env python3
"""Opens every table of a lake with the `deltalake` package, with Polars and with DuckDB's Delta extension, and compares what they see.

    readers.py LAKE            exits 1 when two readers disagree, or one cannot read a table
    readers.py LAKE --json READER
                               prints the digests of one reader: deltalake, polars or duckdb

Each reader runs in a process of its own: their thread pools do not always get along.
"""

import argparse
import json
import subprocess
import sys

import tables
from compare import Report
from digest import differences, duckdb_digest

READERS = ["deltalake", "polars", "duckdb"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake")
    parser.add_argument("--json", choices=READERS)
    arguments = parser.parse_args()
    if arguments.json:
        json.dump(digests(arguments.lake, arguments.json), sys.stdout)
        return 0

    seen = {reader: ask(arguments.lake, reader) for reader in READERS}
    report = Report()
    reference = seen[READERS[0]]
    if not reference:
        report.add(arguments.lake, ["it holds no table"])
    for table, digest in reference.items():
        lines = [f"{READERS[0]}: {digest['error']}"] if "error" in digest else []
        for reader in READERS[1:]:
            other = seen[reader].get(table, {"error": "the table was not found"})
            if "error" in other:
                lines.append(f"{reader}: {other['error']}")
            elif not lines:
                lines += [f"{reader}: {line}" for line in differences(digest, other)]
        report.add(table, lines, f"{digest.get('rows', {}).get('rows')} rows by {', '.join(READERS)}")
    return report.code()


def ask(lake: str, reader: str) -> dict:
    run = subprocess.run([sys.executable, __file__, lake, "--json", reader], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def digests(lake: str, reader: str) -> dict:
    found = {}
    for table in tables.names(lake):
        try:
            found[table] = digest(tables.location(lake, table), reader)
        except Exception as error:  # noqa: BLE001 - whatever a reader raises is the finding
            found[table] = {"error": f"{type(error).__name__}: {error}"}
    return found


def digest(place: str, reader: str) -> dict:
    con = tables.database()
    if reader == "duckdb":
        import duckdb_ext

        duckdb_ext.init(con)
        con.execute("LOAD delta")
        con.execute(f"CREATE TABLE seen AS FROM delta_scan('{place}')")
    elif reader == "polars":
        import polars

        con.register("frame", polars.scan_delta(place).collect().to_arrow())
        con.execute("CREATE TABLE seen AS FROM frame")
    else:
        import deltalake

        con.register("dataset", deltalake.DeltaTable(place).to_pyarrow_dataset())
        con.execute("CREATE TABLE seen AS FROM dataset")
    return duckdb_digest(con, "seen")


if __name__ == "__main__":
    tables.leave(main())
