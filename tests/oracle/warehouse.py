#!/usr/bin/env python3
"""Compares the warehouse with the lake: every silver row exactly once, dimensions recomputed, state and lineage right.

    warehouse.py --lake LAKE --port PORT --database NAME [--schema NAME] [--until EPOCH]

The lake is read with deltalake and DuckDB, PostgreSQL with psycopg; assay is not asked. Exits 1 with what differs.
"""

import argparse
import tempfile
from pathlib import Path

import psycopg

import tables
from compare import Report, differences

FACT = """
    SELECT t.transaction_id, t.user_id, t.merchant, t.country, t.city, t.event_at, t.transaction_date AS event_date,
        t.hour AS event_hour, t.day_of_week AS event_day_of_week, t.is_weekend, t.amount, t.amount_category,
        t.is_high_value, t.payment_method, t.device_id, t.is_fraud, s.score AS risk_score, s.class AS risk_class,
        s.fraud_probability, s.is_predicted_fraud, s.model_version, t.source_topic, t.source_partition, t.source_offset,
        t.ingested_at, t.epoch
    FROM silver AS t LEFT JOIN scores AS s ON s.transaction_id = t.transaction_id
"""
SEEN = "min(event_at) AS first_seen_at, max(event_at) AS last_seen_at, count(*) AS transactions"
DIMENSIONS = {
    "dim_merchants": (["merchant"], f"SELECT merchant, max(merchant_id) AS merchant_id, {SEEN}, max(epoch) AS epoch FROM silver GROUP BY ALL"),
    "dim_users": (["user_id"], f"SELECT user_id, {SEEN}, sum(amount)::DECIMAL(28,2) AS amount, count(*) FILTER (is_fraud) AS frauds, max(epoch) AS epoch FROM silver GROUP BY ALL"),
    "dim_countries": (["country"], f"SELECT country, {SEEN}, max(epoch) AS epoch FROM silver GROUP BY ALL"),
}
# What DuckDB calls the types of PostgreSQL that it does not know by their name.
KINDS = {"timestamp with time zone": "TIMESTAMPTZ", "text": "VARCHAR", "double precision": "DOUBLE", "uuid": "VARCHAR"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--schema", default="warehouse")
    parser.add_argument("--until", type=int, help="the epoch that is to be loaded; the newest without")
    arguments = parser.parse_args()

    report = Report()
    con = tables.database()
    epochs = tables.arrow(arguments.lake, tables.EPOCHS)
    con.register("epochs", epochs)
    newest = con.execute("SELECT max(epoch) FROM epochs").fetchone()[0]
    until = arguments.until or newest
    # A NUL cannot be in PostgreSQL: it is U+FFFD there.
    texts = ["transaction_id", "merchant", "merchant_id", "country", "city", "payment_method", "device_id"]
    con.register("silver_whole", tables.arrow(arguments.lake, tables.SILVER))
    con.register("scores_whole", tables.arrow(arguments.lake, tables.SCORES))
    silver = [row[0] for row in con.execute("DESCRIBE silver_whole").fetchall()]
    # No message may have had one yet.
    more = "" if "merchant_id" in silver else ", NULL::VARCHAR AS merchant_id"
    texts = [name for name in texts if name in silver]
    clean = ", ".join(f"replace({name}, chr(0), chr(65533)) AS {name}" for name in texts)
    con.execute(f"CREATE TABLE silver AS SELECT * REPLACE ({clean}){more} FROM silver_whole WHERE epoch <= {until}")
    con.execute("UPDATE silver SET country = 'unknown' WHERE trim(country) = ''")
    con.execute(
        f"CREATE TABLE scores AS SELECT * REPLACE (replace(transaction_id, chr(0), chr(65533)) AS transaction_id) "
        f"FROM scores_whole WHERE epoch <= {until}"
    )
    place = f"host=127.0.0.1 port={arguments.port} user=postgres dbname={arguments.database}"
    with psycopg.connect(place, options=f"-c search_path={arguments.schema} -c timezone=UTC") as pg, tempfile.TemporaryDirectory() as folder:
        fetch(con, pg, Path(folder), "fct_transactions", arguments.schema)
        con.execute(f"CREATE VIEW fact AS {FACT}")
        rows = con.execute("SELECT count(*), count(DISTINCT transaction_id), sum(amount) FROM fct_transactions").fetchone()
        want = con.execute("SELECT count(*), count(DISTINCT transaction_id), sum(amount) FROM fact").fetchone()
        report.add(f"fct_transactions: {rows[0]} rows, each once, {rows[2]} in all", lines([("rows, ids, amount", want, rows)]))
        added = ["run_id", "processing_type"]
        con.execute(f"CREATE VIEW loaded AS SELECT * EXCLUDE ({', '.join(added)}) FROM fct_transactions")
        report.add("fct_transactions: cell by cell", differences(con, "fact", "loaded", ["transaction_id"]))
        for name, (key, query) in DIMENSIONS.items():
            fetch(con, pg, Path(folder), name, arguments.schema)
            con.execute(f"CREATE VIEW {name}_wanted AS {query}")
            columns = [row[0] for row in con.execute(f"DESCRIBE {name}_wanted").fetchall()]
            con.execute(f"CREATE VIEW {name}_found AS SELECT {', '.join(columns)} FROM {name}")
            report.add(f"{name}: recomputed", differences(con, f"{name}_wanted", f"{name}_found", key))
        states = pg.execute("SELECT DISTINCT epoch FROM assay_state").fetchall()
        report.add(f"assay_state: epoch {until}", lines([("epoch", [(until,)], states)]))
        lost = pg.execute(
            "SELECT count(*) FROM fct_transactions f WHERE NOT EXISTS (SELECT 1 FROM assay_runs r WHERE r.run_id = f.run_id "
            "AND f.epoch > r.after_epoch AND f.epoch <= r.to_epoch AND f.processing_type = r.processing_type)"
        ).fetchone()
        report.add("lineage: each row is of a run that took its epoch", lines([("rows without a run", (0,), lost)]))
        noted = pg.execute(
            "SELECT r.run_id, r.to_epoch, (r.tables->>'fct_transactions')::bigint, count(f.*) FROM assay_runs r LEFT JOIN "
            "fct_transactions f ON f.run_id = r.run_id AND f.epoch > r.after_epoch AND f.epoch <= r.to_epoch WHERE r.to_epoch > "
            "coalesce((SELECT max(to_epoch) FROM assay_runs WHERE processing_type = 'full'), 0) GROUP BY 1, 2, 3"
        ).fetchall()
        report.add(
            f"assay_runs: {len(noted)} since the last refresh count their rows",
            lines([(f"run {run} to {to}", count, found) for run, to, count, found in noted]),
        )
    return report.code()


def fetch(con, pg, folder: Path, name: str, schema: str) -> None:
    """A table of PostgreSQL as one of DuckDB, with the types that PostgreSQL says."""
    columns = pg.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attnum",
        (f"{schema}.{name}",),
    ).fetchall()
    path = folder / f"{name}.csv"
    with open(path, "wb") as file, pg.cursor() as cursor:
        with cursor.copy(f"COPY {name} TO STDOUT (FORMAT csv, NULL '~null~')") as copy:
            for block in copy:
                file.write(block)
    kinds = ", ".join(f"'{column}': '{KINDS.get(kind, kind)}'" for column, kind in columns)
    con.execute(
        f"CREATE TABLE {name} AS SELECT * FROM read_csv('{path}', columns = {{{kinds}}}, header = false, nullstr = '~null~', "
        "quote = '\"', escape = '\"', allow_quoted_nulls = false)"
    )


def lines(pairs: list[tuple]) -> list[str]:
    return [f"{what}: {found}, expected {want}" for what, want, found in pairs if want != found]


if __name__ == "__main__":
    tables.leave(main())
