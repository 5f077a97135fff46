"""Reads the Delta tables of a lake without a line of assay's: through the `deltalake` package, or Polars, or DuckDB."""

from pathlib import Path

import deltalake
import duckdb

from leaving import leave

BRONZE = "bronze.transactions"
DEAD_LETTERS = "bronze.dead_letters"
SILVER = "silver.transactions"
QUARANTINE = "silver.quarantine"
SCORES = "gold.fraud_scores"
# What a model says of a row of it.
SAID = ["fraud_probability", "is_predicted_fraud", "model_version"]
FEATURES = "silver.transaction_features"
EPOCHS = "ops.epochs"

# What a lake on an object store is asked for; a local one is searched.
KNOWN = [
    BRONZE,
    DEAD_LETTERS,
    SILVER,
    FEATURES,
    QUARANTINE,
    "gold.segment_activity",
    "gold.merchant_activity",
    "gold.user_activity",
    "gold.country_activity",
    "gold.platform_hourly",
    SCORES,
    EPOCHS,
    "ops.restatements",
]


def location(lake: str, table: str) -> str:
    layer, name = table.split(".")
    return f"{lake.rstrip('/')}/{layer}/{name}"


def names(lake: str) -> list[str]:
    """Every Delta table of the lake, as layer.name."""
    if "://" in lake:
        return [table for table in KNOWN if deltalake.DeltaTable.is_deltatable(location(lake, table))]
    found = (log.parent for log in Path(lake).glob("*/*/_delta_log"))
    return sorted(f"{folder.parent.name}.{folder.name}" for folder in found)


def arrow(lake: str, table: str):
    """The newest version of a table, as a lazy Arrow dataset; None when there is no such table."""
    place = location(lake, table)
    if not deltalake.DeltaTable.is_deltatable(place):
        return None
    return deltalake.DeltaTable(place).to_pyarrow_dataset()


def database() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, in UTC, on the two cores that assay is built for."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET threads = 2")
    return con
