#!/usr/bin/env python3
"""Reads every table of a lake with Apache Spark and Delta's own jars, and compares it with what the `deltalake` package sees.

    spark_read.py LAKE         exits 1 when they disagree, 77 when a tool is missing

Runs under the Python of `tests/services/python lake`, and starts itself again under that of `tests/services/python spark`.
"""

import json
import subprocess
import sys
from pathlib import Path

from leaving import leave

SERVICES = Path(__file__).resolve().parents[1] / "services"
SKIPPED = 77


def main() -> int:
    if len(sys.argv) == 4 and sys.argv[1] == "--digest":
        return digest(sys.argv[2], Path(sys.argv[3]))
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2

    from compare import Report
    from digest import differences
    from readers import ask

    lake = sys.argv[1]
    jars, python = service("jars", "delta"), service("python", "spark")
    run = subprocess.run([python, __file__, "--digest", str(Path(lake).resolve()), jars], stdout=subprocess.PIPE)
    if run.returncode:
        print("Spark failed (see above)", file=sys.stderr)
        return 1
    by_spark = json.loads(run.stdout.splitlines()[-1])
    report = Report()
    for table, expected in ask(lake, "deltalake").items():
        seen = by_spark.get(table, {"error": "the table was not found"})
        lines = [f"{side['error']}" for side in (expected, seen) if "error" in side]
        report.add(table, lines or differences(expected, seen), f"{seen.get('rows', {}).get('rows')} rows by Spark")
    return report.code()


def service(name: str, argument: str) -> str:
    run = subprocess.run([SERVICES / name, argument], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(run.returncode)
    return run.stdout.strip()


def digest(lake: str, jars: Path) -> int:
    """In the Python of Spark: prints the digests of all tables as the last line."""
    from digest import spark_digest
    from pyspark.sql import SparkSession

    # Spark brings its own of everything else.
    delta = [str(jar) for jar in jars.glob("delta-*.jar")]
    session = (
        SparkSession.builder.master("local[2]")
        .appName("assay")
        .config("spark.jars", ",".join(delta))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    found = {}
    for log in sorted(Path(lake).glob("*/*/_delta_log")):
        table = f"{log.parent.parent.name}.{log.parent.name}"
        try:
            found[table] = spark_digest(session.read.format("delta").load(str(log.parent)))
        except Exception as error:  # noqa: BLE001 - whatever Spark raises is the finding
            found[table] = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    print(json.dumps(found))
    sys.stdout.flush()
    session.stop()
    return 0


if __name__ == "__main__":
    leave(main())
