#!/usr/bin/env python3
"""Recomputes silver.transaction_features of a lake from its silver in DuckDB's SQL, and compares every value to the bit.

    features.py LAKE [--label-delay-hours N] [--countries CSV]

Panes become window functions in the order of arrival: each row stands once for each pane that still sees it, and a value
is the sum over the rows before. Prints a line and exits 1 on any difference.
"""

import argparse
import csv
import sys
from pathlib import Path

import pyarrow as pa

import expected
import tables
from compare import SHOWN, Report, quoted

MINUTE_US = expected.MINUTE_US
HOUR_US = 60 * MINUTE_US
DAY_US = expected.DAY_US
LAST = 20
LAST_WINDOW_US = 30 * DAY_US
LABEL_DELAY_HOURS = 168

BEFORE = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
COUNT = "count_if(gives)"
SUM = "sum(cents)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", help="a folder, or s3://bucket/prefix with AWS_* variables")
    parser.add_argument("--label-delay-hours", type=int, default=LABEL_DELAY_HOURS)
    parser.add_argument("--countries", type=Path, default=expected.REPOSITORY / "sql/reference/high_risk_countries.csv")
    arguments = parser.parse_args()

    con = tables.database()
    report = Report()
    for relation, table in [("silver", tables.SILVER), ("actual", tables.FEATURES)]:
        found = tables.arrow(arguments.lake, table)
        if found is None:
            print(f"{arguments.lake} holds no {table}", file=sys.stderr)
            return 1
        con.register("dataset", found)
        con.execute(f"CREATE TABLE {relation} AS FROM dataset")
    build(con, arguments.label_delay_hours * HOUR_US, arguments.countries)
    counts = ", ".join(f"count({name})" for name in NULLABLE)
    rows, *filled = con.execute(f"SELECT count(*), {counts} FROM expected_features").fetchone()
    report.add(tables.FEATURES, differences(con), f"{rows} rows")
    # What is NULL everywhere proves nothing.
    for name, count in zip(NULLABLE, filled):
        report.add(name, [] if count else ["it has no value at all: a longer stream is needed"], f"{count} values")
    return report.code()


# --- the definition ---------------------------------------------------------------------------------------------------

NULLABLE = ["amount_to_user_avg_30d", "user_seconds_since_previous", "country_mismatch_rate_20", "merchant_fraud_rate_30d", "device_fraud_rate_30d"]


def build(con, label_delay_us: int, countries: Path) -> None:
    """From the relation `silver`: the table `expected_features`."""
    con.execute(
        f"""
        CREATE OR REPLACE TABLE arrived AS
        SELECT
            row_number() OVER (ORDER BY {expected.ARRIVAL}) AS n,
            transaction_id, user_id, merchant, device_id, country, is_fraud,
            CAST(amount * 100 AS BIGINT) AS cents, epoch_us(event_at) AS at_us
        FROM silver
        """
    )
    con.execute("CREATE OR REPLACE TABLE features AS SELECT n FROM arrived")
    for entity in ["user_id", "merchant", "device_id"]:
        panes(con, f"{entity}_hours", entity, HOUR_US, 24, {"events": COUNT, "cents": SUM})
    panes(con, "user_week", "user_id", DAY_US, 7, {"events": COUNT})
    panes(con, "user_month", "user_id", DAY_US, 30, {"events": COUNT, "cents": SUM})
    for entity in ["merchant", "device_id"]:
        frauds = "count_if(is_fraud)"
        panes(con, f"{entity}_labels", entity, DAY_US, 30, {"events": COUNT, "frauds": frauds}, label_delay_us)
    for of in ["merchant", "country", "device_id"]:
        distinct(con, f"different_{of}", of)
    for minutes in [5, 30]:
        exact(con, f"minutes_{minutes}", minutes * MINUTE_US)
    last(con)
    with open(countries, newline="", encoding="utf-8") as file:
        listed = [row["country"] for row in csv.DictReader(file)]
    con.register("listed_countries", pa.table({"country": pa.array(listed, pa.string())}))
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_features AS
        SELECT
            s.transaction_id, s.user_id, s.event_at, s.amount, s.amount_category, s.payment_method,
            s.hour, s.day_of_week, s.is_weekend,
            a.at_us // {HOUR_US} % 24 IN (23, 0, 1, 2, 3, 4) AS is_night,
            a.country IN (FROM listed_countries) AS is_high_risk_country,
            minutes_5.events AS user_count_5m,
            minutes_30.events AS user_count_30m,
            user_id_hours.events AS user_count_24h,
            user_week.events AS user_count_7d,
            {money("minutes_5.cents")} AS user_amount_sum_5m,
            {money("user_id_hours.cents")} AS user_amount_sum_24h,
            {money("user_month.cents")} AS user_amount_sum_30d,
            {average("minutes_5")} AS user_amount_avg_5m,
            {average("user_id_hours")} AS user_amount_avg_24h,
            {average("user_month")} AS user_amount_avg_30d,
            a.cents / 100 / {average("user_month")} AS amount_to_user_avg_30d,
            newest_events.since_us / 1000000 AS user_seconds_since_previous,
            different_merchant.different AS user_distinct_merchants_24h,
            different_country.different AS user_distinct_countries_24h,
            different_device_id.different AS user_distinct_devices_24h,
            newest_events.events > newest_events.other_devices AS device_seen_before,
            newest_events.events > newest_events.other_countries AS country_seen_before,
            newest_events.other_devices / nullif(newest_events.events, 0) AS device_mismatch_rate_20,
            newest_events.other_countries / nullif(newest_events.events, 0) AS country_mismatch_rate_20,
            merchant_hours.events AS merchant_count_24h,
            {money("merchant_hours.cents")} AS merchant_amount_24h,
            merchant_labels.frauds / nullif(merchant_labels.events, 0) AS merchant_fraud_rate_30d,
            device_id_hours.events AS device_count_24h,
            {money("device_id_hours.cents")} AS device_amount_24h,
            device_id_labels.frauds / nullif(device_id_labels.events, 0) AS device_fraud_rate_30d,
            s.transaction_date, s.epoch
        FROM arrived a JOIN silver s USING (transaction_id)
        {" ".join(f"JOIN {name} ON {name}.n = a.n" for name in PARTS)}
        """
    )


PARTS = [
    "user_id_hours", "merchant_hours", "device_id_hours", "user_week", "user_month", "merchant_labels", "device_id_labels",
    "different_merchant", "different_country", "different_device_id", "minutes_5", "minutes_30", "newest_events",
]


def seen_in_panes(grain_us: int, panes_: int, delay_us: int | None) -> tuple[str, str]:
    """For a row, the panes that see it, and the pane that it asks itself."""
    own = f"at_us // {grain_us}"
    if delay_us is None:
        # Its own pane and those after it.
        return f"{own} + step", own
    # A row asks for the panes before the one of its time less the delay, so a pane is seen from the next one on.
    return f"{own} + 1 + step", f"(at_us - {delay_us}) // {grain_us}"


def panes(con, name: str, entity: str, grain_us: int, count: int, measures: dict[str, str], delay_us: int | None = None) -> None:
    """The measures of the rows of an entity that arrived before, in `count` panes of event time."""
    sees, asks = seen_in_panes(grain_us, count, delay_us)
    values = ", ".join(f"coalesce({measure} OVER earlier, 0) AS {column}" for column, measure in measures.items())
    con.execute(
        f"""
        CREATE OR REPLACE TABLE {name} AS
        WITH turns AS (
            SELECT n, {entity} AS entity, {sees} AS pane, true AS gives, is_fraud, cents FROM arrived, range({count}) steps(step)
            UNION ALL
            SELECT n, {entity}, {asks}, false, NULL, NULL FROM arrived
        ),
        counted AS (
            -- A row asks before it gives.
            SELECT n, gives, {values} FROM turns
            WINDOW earlier AS (PARTITION BY entity, pane ORDER BY n, gives {BEFORE})
        )
        SELECT n, {", ".join(measures)} FROM counted WHERE NOT gives
        """
    )


def distinct(con, name: str, of: str) -> None:
    """How many values of `of` the user's earlier rows of 24 hours have."""
    sees, asks = seen_in_panes(HOUR_US, 24, None)
    con.execute(
        f"""
        CREATE OR REPLACE TABLE {name} AS
        WITH turns AS (
            SELECT n, user_id, {of} AS value, {sees} AS pane, true AS gives FROM arrived, range(24) steps(step)
            UNION ALL
            SELECT n, user_id, NULL, {asks}, false FROM arrived
        ),
        firsts AS (
            SELECT *, gives AND row_number() OVER (PARTITION BY user_id, pane, gives, value ORDER BY n) = 1 AS is_first FROM turns
        ),
        counted AS (
            SELECT n, gives, coalesce(count_if(is_first) OVER earlier, 0) AS different FROM firsts
            WINDOW earlier AS (PARTITION BY user_id, pane ORDER BY n, gives {BEFORE})
        )
        SELECT n, different FROM counted WHERE NOT gives
        """
    )


def exact(con, name: str, window_us: int) -> None:
    """The user's earlier rows with a time in (t - window, t]."""
    con.execute(
        f"""
        CREATE OR REPLACE TABLE {name} AS
        SELECT a.n, count(b.n) AS events, coalesce(sum(b.cents), 0) AS cents
        FROM arrived a LEFT JOIN arrived b
            ON b.user_id = a.user_id AND b.n < a.n AND b.at_us > a.at_us - {window_us} AND b.at_us <= a.at_us
        GROUP BY a.n
        """
    )


def last(con) -> None:
    """The user's earlier rows with the newest times: as many as `LAST`, where times are shared all or none."""
    con.execute(
        f"""
        CREATE OR REPLACE TABLE newest_events AS
        WITH pairs AS (
            SELECT
                a.n, a.at_us, b.at_us AS known_us,
                b.device_id IS DISTINCT FROM a.device_id AS other_device, b.country IS DISTINCT FROM a.country AS other_country,
                count(*) OVER (PARTITION BY a.n ORDER BY b.at_us DESC RANGE UNBOUNDED PRECEDING) AS as_new
            FROM arrived a JOIN arrived b ON b.user_id = a.user_id AND b.n < a.n
        ),
        newest AS (
            SELECT
                n, count(*) AS events, count_if(other_device) AS other_devices, count_if(other_country) AS other_countries,
                max(at_us) - max(known_us) FILTER (WHERE known_us <= at_us) AS since_us
            FROM pairs WHERE as_new <= {LAST} AND known_us > at_us - {LAST_WINDOW_US} GROUP BY n
        )
        SELECT arrived.n, coalesce(events, 0) AS events, coalesce(other_devices, 0) AS other_devices,
            coalesce(other_countries, 0) AS other_countries, since_us
        FROM arrived LEFT JOIN newest USING (n)
        """
    )


def money(cents: str) -> str:
    return expected.decimal(cents, 28, 2)


def average(part: str) -> str:
    """One division of whole numbers in double precision."""
    return f"(CAST({part}.cents AS DOUBLE) / nullif(100 * {part}.events, 0))"


# --- the comparison ---------------------------------------------------------------------------------------------------


def differences(con) -> list[str]:
    """As lines; doubles must be equal to the bit."""
    want = [row[0] for row in con.execute("DESCRIBE expected_features").fetchall()]
    have = [row[0] for row in con.execute("DESCRIBE actual").fetchall()]
    if sorted(want) != sorted(have):
        missing, surplus = sorted(set(want) - set(have)), sorted(set(have) - set(want))
        return [f"missing columns: {missing}, not expected: {surplus}"]
    counts = [con.execute(f"SELECT count(*), count(DISTINCT transaction_id) FROM {side}").fetchone() for side in ("expected_features", "actual")]
    lines = [] if counts[0] == counts[1] else [f"{counts[1]} rows and ids, expected {counts[0]}"]
    joined = "expected_features l JOIN actual r USING (transaction_id)"
    if (pairs := con.execute(f"SELECT count(*) FROM {joined}").fetchone()[0]) != counts[0][0]:
        lines.append(f"{pairs} ids of {counts[0][0]} are in both")
    for name in (quoted(column) for column in want if column != "transaction_id"):
        test = f"l.{name} IS DISTINCT FROM r.{name}"
        count = con.execute(f"SELECT count(*) FROM {joined} WHERE {test}").fetchone()[0]
        if count:
            rows = con.execute(f"SELECT transaction_id, l.{name}, r.{name} FROM {joined} WHERE {test} ORDER BY 1 LIMIT {SHOWN}").fetchall()
            lines.append(f"column {name} differs in {count} rows")
            lines += [f"  {id_}: it is {actual}, expected {should}" for id_, should, actual in rows]
    return lines


if __name__ == "__main__":
    tables.leave(main())
