#!/usr/bin/env python3
"""Tests the oracles: they accept a right lake, and they name the table of each wrong value.

    selftest.py [PART…]        parts: values, recompute, features, topic, same, retail, readers; all by default

The lake is written with the `deltalake` package from a few dozen messages with duplicates, bad rows, late rows and
broken bytes. The values that matter are computed by hand, below.
"""

import contextlib
import io
import struct
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import deltalake
import fastavro
import pyarrow as pa
import pyarrow.compute as pc

import exactly_once
import expected
import features
import recompute
import retail
import same
import tables

HERE = Path(__file__).resolve().parent
TOPIC = "ecommerce.transactions"
NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)  # a Sunday
COUNTRIES = "country,why\nIran,test\n"
V1 = {
    "type": "record",
    "name": "Transaction",
    "fields": [
        {"name": "transaction_id", "type": "string"},
        {"name": "user_id", "type": "int"},
        {"name": "amount", "type": "double"},
        {"name": "merchant", "type": "string"},
        {"name": "timestamp", "type": "string"},
        {"name": "is_fraud", "type": "boolean"},
        {"name": "payment_method", "type": "string"},
        {"name": "location", "type": "string"},
        {"name": "device_id", "type": "string"},
    ],
}
V2 = {**V1, "fields": [*V1["fields"], {"name": "merchant_id", "type": ["null", "string"], "default": None}]}
SCHEMAS = {1: fastavro.parse_schema(V1), 2: fastavro.parse_schema(V2)}


def main() -> int:
    parts = {"values": values, "recompute": recomputation, "features": feature_values, "topic": topic, "same": same_lakes, "retail": retail_lake, "readers": readers}
    for name in sys.argv[1:] or parts:
        parts[name]()
        print(f"ok {name}")
    return 0


# --- by hand ----------------------------------------------------------------------------------------------------------


def values() -> None:
    for amount, cents in [
        (0.005, 0), (0.015, 2), (0.025, 2), (2.675, 268), (-2.675, -268), (-0.0, 0), (5e-324, 0), (0.1 + 0.2, 30), (999999.995, 100000000),
        (1e300, None), (float("nan"), None), (float("inf"), None), (1e16, None), (123456789012.345, 12345678901234),
    ]:
        assert expected.cents(amount) == cents, (amount, expected.cents(amount))
    for text, us in [
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01", 0), ("1970-01-01 00:00:01.5", 1_500_000), ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00.1234567Z", 123_456), ("1969-12-31T19:00-05", 0), ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ("0001-01-01T00:00:00+00:01", None), ("2026-02-29", None), ("2026-01-01T24:00:00Z", None), ("yesterday", None), ("", None),
        ("2026-01-01T10:00:60Z", None), ("2026-01-01T10:00:00 Z", None), ("2026-01-01\n", None),
    ]:
        assert expected.instant_us(text) == us, (text, expected.instant_us(text))
    for text, parts in [
        ("Paris, France", ("Paris", "France")), ("a, b, c", ("a, b", "c")), ("Iran", (None, "Iran")), (", x", (None, ", x")),
        ("x, ", (None, "x, ")), ("", (None, "")),
    ]:
        assert expected.place(text) == dict(zip(("city", "country"), parts)), text


def check_by_hand(con) -> None:
    """The recomputation of the lake of `sent`, against values that a person computed."""

    def one(sql):
        rows = con.execute(sql).fetchall()
        assert len(rows) == 1, (sql, rows)
        return rows[0]

    assert one("SELECT count(*) FROM expected_duplicates") == (3,)
    broken = dict(con.execute("SELECT transaction_id, broken_expectations FROM expected_quarantine").fetchall())
    assert broken == {
        "": ["transaction_id_present"],
        "zero": ["amount_positive"],
        "rounds-to-zero": ["amount_positive"],
        "nan": ["amount_positive", "amount_sane"],
        "infinite": ["amount_positive", "amount_sane"],
        "huge": ["amount_positive", "amount_sane"],
        "too-much": ["amount_sane"],
        "no-time": ["event_at_parsable"],
        "ancient": ["event_at_not_ancient"],
        "future": ["event_at_not_in_future"],
        "future-odd-method": ["event_at_not_in_future", "payment_method_known"],
        "all-wrong": ["amount_positive", "event_at_parsable"],
        "again": ["amount_positive"],
    }, broken
    # "again" was quarantined first and came in when it was sent right.
    assert one("SELECT source_offset, amount FROM expected_silver WHERE transaction_id = 'again'")[1] == Decimal("7.00")
    # The first of the three is kept, although the others bring other amounts.
    assert one("SELECT amount, epoch FROM expected_silver WHERE transaction_id = 'twice'") == (Decimal("10.00"), 1)
    # Seven payments of user 1, at 11:00, 11:05, … 11:30; the first one is just out of the 30 minutes of the last.
    burst = con.execute(
        "SELECT user_transactions_30m, velocity_points FROM expected_scores WHERE transaction_id LIKE 'burst-%' ORDER BY transaction_id"
    ).fetchall()
    assert burst == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 25), (6, 25)], burst
    # At 11:15:00.5 it came last: it counts 11:00 to 11:15 and itself, and nobody who came earlier counts it.
    assert one("SELECT user_transactions_30m FROM expected_scores WHERE transaction_id = 'late'") == (5,)
    # 50 flagged + 30 amount + 20 crypto + 15 Iran + 10 at 23:30 + 5 Saturday.
    score = "score, class, reasons, night_points, velocity_points"
    assert one(f"SELECT {score} FROM expected_scores WHERE transaction_id = 'worst'") == (
        130, "CRITICAL", "flagged as fraud; amount above 5,000; paid in crypto; high-risk country; at night; at the weekend", 10, 0,
    )
    # 5,000.00 is not above 5,000, and 05:00 is no night.
    assert one(f"SELECT {score} FROM expected_scores WHERE transaction_id = 'edge'") == (5, "MINIMAL", "at the weekend", 0, 0)
    assert one(
        "SELECT hour, day_of_week, is_weekend, transaction_date::VARCHAR, city, country, amount_category, is_high_value FROM expected_silver WHERE transaction_id = 'worst'"
    ) == (23, 6, True, "2026-03-07", "Tehran", "Iran", "very_large", True)
    # 10:00:00 belongs to the window that begins then, 09:59:59.999999 to the one that ends then.
    rows = con.execute(
        "SELECT window_start::VARCHAR, transactions, revenue, average_amount FROM expected_merchant_activity WHERE merchant = 'Edge' ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("2026-03-08 09:45:00+00", 1, Decimal("1.00"), Decimal("1.000000")),
        ("2026-03-08 09:50:00+00", 3, Decimal("4.00"), Decimal("1.333333")),
        ("2026-03-08 09:55:00+00", 3, Decimal("4.00"), Decimal("1.333333")),
        ("2026-03-08 10:00:00+00", 2, Decimal("3.00"), Decimal("1.500000")),
    ], rows
    assert one(
        "SELECT transactions, users, devices, fraud_rate FROM expected_segment_activity WHERE merchant = 'Edge' AND window_start = TIMESTAMPTZ '2026-03-08 10:00:00+00'"
    ) == (2, 1, 2, 0.5)
    assert one("SELECT is_suspicious, countries FROM expected_user_activity WHERE user_id = 3") == (True, 3)
    assert one("SELECT count(*) FILTER (WHERE is_suspicious) FROM expected_user_activity") == (1,)
    assert one("SELECT sum(other_transactions) FROM expected_platform_hourly") == (1,)


def feature_values() -> None:
    """A few rows in the order of their arrival, with features that a person computed."""
    noon = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
    usual = {"user_id": 1, "merchant": "A", "device_id": "d", "country": "France", "is_fraud": False, "cents": 1000}
    rows = [
        ("label", noon - timedelta(days=9), {"is_fraud": True}),
        ("young", noon - timedelta(days=6), {"is_fraud": True}),
        ("first", noon, {}),
        ("five-minutes", noon + timedelta(minutes=5), {"cents": 500, "device_id": "e"}),
        # Exactly five minutes: the one before is just out.
        ("ten-minutes", noon + timedelta(minutes=10), {"merchant": "B", "country": "Iran"}),
        ("late", noon + timedelta(minutes=4), {}),
        # The first hour that does not see that of noon any more, and the first day that does not see the one of "young".
        ("next-day", noon + timedelta(hours=24), {"user_id": 1}),
        ("other", noon + timedelta(minutes=11), {"user_id": 2, "device_id": "f"}),
    ]
    con = tables.database()
    con.register("given", pa.table({
        "transaction_id": [name for name, _, _ in rows],
        "event_at": [at for _, at, _ in rows],
        "source_offset": list(range(len(rows))),
        **{column: [{**usual, **changes}[column] for _, _, changes in rows] for column in usual},
    }))
    con.execute(
        """
        CREATE TABLE silver AS SELECT *, CAST(CAST(cents AS VARCHAR) || 'e-2' AS DECIMAL(18, 2)) AS amount, 1 AS epoch, event_at AS ingested_at,
            't' AS source_topic, 0 AS source_partition, 'x' AS amount_category, 'x' AS payment_method, 0 AS hour, 0 AS day_of_week,
            false AS is_weekend, CAST(event_at AS DATE) AS transaction_date
        FROM given
        """
    )
    con.execute("UPDATE silver SET ingested_at = TIMESTAMPTZ '2026-03-10 00:00:00+00'")
    features.build(con, 7 * features.DAY_US, expected.REPOSITORY / "sql/reference/high_risk_countries.csv")

    def values(name, *columns):
        return con.execute(f"SELECT {', '.join(columns)} FROM expected_features WHERE transaction_id = '{name}'").fetchone()

    assert values("label", "user_count_7d", "user_amount_sum_30d", "user_amount_avg_30d", "user_seconds_since_previous") == (0, Decimal("0.00"), None, None)
    assert values("first", "user_count_5m", "user_count_7d", "user_amount_sum_30d", "user_seconds_since_previous") == (0, 1, Decimal("20.00"), 6 * 86400.0)
    # The fraud of nine days ago is known, that of six days ago is not.
    assert values("first", "merchant_fraud_rate_30d", "merchant_count_24h") == (1.0, 0)
    assert values("five-minutes", "user_count_5m", "user_count_30m", "device_seen_before", "device_mismatch_rate_20") == (0, 1, False, 1.0)
    assert values("ten-minutes", "user_count_5m", "user_count_30m", "user_amount_avg_24h", "user_distinct_devices_24h") == (0, 2, 7.5, 2)
    assert values("ten-minutes", "country_seen_before", "country_mismatch_rate_20", "is_high_risk_country", "amount_to_user_avg_30d") == (False, 1.0, True, 10 / 8.75)
    # It came last: of the day before it knows all, of the minutes only those before its time.
    assert values("late", "user_count_5m", "user_count_24h", "user_distinct_countries_24h", "user_seconds_since_previous") == (1, 3, 2, 240.0)
    assert values("next-day", "user_count_24h", "user_amount_sum_24h", "user_count_7d") == (0, Decimal("0.00"), 4)
    assert values("other", "user_count_24h", "merchant_count_24h", "device_count_24h", "device_fraud_rate_30d") == (0, 3, 0, None)
    con.execute("CREATE TABLE actual AS FROM expected_features")
    assert features.differences(con) == []
    con.execute("UPDATE actual SET user_amount_avg_24h = user_amount_avg_24h + 1e-15 WHERE transaction_id = 'ten-minutes'")
    assert features.differences(con)[0] == 'column "user_amount_avg_24h" differs in 1 rows', features.differences(con)


# --- the lake ---------------------------------------------------------------------------------------------------------


def transaction(name: str, at: str, **changes) -> dict:
    usual = {
        "transaction_id": name, "user_id": 2, "amount": 20.0, "merchant": "Shop", "timestamp": at, "is_fraud": False,
        "payment_method": "credit_card", "location": "Paris, France", "device_id": "d-1",
    }
    return {**usual, **changes}


def sent() -> list[tuple[int, int, bytes | None]]:
    """(epoch, partition, payload) in the order of sending."""
    out = []

    def send(epoch, partition, name, at="2026-03-08T08:00:00Z", schema=1, **changes):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, SCHEMAS[schema], transaction(name, at, **changes))
        out.append((epoch, partition, b"\0" + struct.pack(">i", schema) + body.getvalue()))

    for n in range(7):
        send(1 + n // 4, 0, f"burst-{n}", f"2026-03-08T11:{5 * n:02}:00Z", user_id=1, amount=1.5 + n)
    send(1, 1, "twice", amount=10.0)
    send(1, 1, "twice", amount=11.0)
    send(2, 0, "twice", amount=12.0)
    send(3, 1, "twice", amount=13.0, schema=2, merchant_id="m-9")
    send(1, 1, "again", amount=-7.0)
    send(2, 1, "again", amount=7.0)
    send(1, 1, "worst", "2026-03-07T23:30:00Z", is_fraud=True, amount=5000.01, payment_method="crypto", location="Tehran, Iran")
    send(1, 1, "edge", "2026-03-08T05:00:00Z", amount=5000.0)
    send(1, 0, "window-1", "2026-03-08T09:59:59.999999Z", merchant="Edge", amount=1.0, user_id=4)
    send(2, 0, "window-2", "2026-03-08T10:00:00Z", merchant="Edge", amount=1.0, user_id=4)
    send(2, 0, "window-3", "2026-03-08T11:04:59+01:00", merchant="Edge", amount=2.0, user_id=4, device_id="d-2", is_fraud=True)
    for n, country in enumerate(["Paris, France", "Rome, Italy", "nowhere"]):
        send(2, 1, f"traveller-{n}", "2026-03-08T06:30:00Z", user_id=3, location=country, schema=2, merchant_id=f"m-{n}")
    send(2, 1, "odd-method", "2026-03-08T07:00:00Z", payment_method="barter")
    send(2, 1, "emoji-\U0001f600-\0", "2026-03-08T07:10:00Z", merchant="Café \U0001f600")
    send(3, 0, "late", "2026-03-08T11:15:00.500Z", user_id=1)
    for name, changes in {
        "": {}, "zero": {"amount": 0.0}, "rounds-to-zero": {"amount": 0.004}, "nan": {"amount": float("nan")},
        "infinite": {"amount": float("inf")}, "huge": {"amount": 1e300}, "too-much": {"amount": 1_000_000.0},
        "no-time": {"at": "yesterday"}, "ancient": {"at": "1999-12-31T23:59:59Z"}, "future": {"at": "2026-03-08T12:05:04Z"},
        "all-wrong": {"amount": -1.0, "at": ""}, "future-odd-method": {"at": "2026-03-08T12:05:04Z", "payment_method": "barter"},
    }.items():
        send(3, 1, name, **changes)
    good = out[0][2]
    for payload in [None, b"", b"\0\0", b"\x01abcd", b"\0\0\0\0\x63abc", good[:-3], good + b"\0", good.replace(b"Shop", b"Sh\xff\xfe")]:
        out.append((3, 0, payload))
    return out


def write_lake(folder: Path) -> list[exactly_once.Message]:
    """A lake as assay would write it: bronze and dead letters from the messages, the rest from the recomputation."""
    offsets, messages, epochs = {}, [], []
    for epoch, partition, payload in sorted(sent(), key=lambda entry: entry[0]):
        offset = offsets.get(partition, 0)
        offsets[partition] = offset + 1
        headers = [("trace", b"\x00\xff")] if offset % 3 == 0 else None
        at_ms = int(NOW.timestamp() * 1000) + offset
        messages.append(exactly_once.Message(partition, offset, at_ms, b"k" if offset % 2 else None, headers, payload))
        epochs.append(epoch)
    by_place = {(message.partition, message.offset): epoch for message, epoch in zip(messages, epochs)}
    rows, refused = exactly_once.sort_out(TOPIC, messages, SCHEMAS)
    bronze, letters = provenance(rows, by_place), provenance(refused, by_place)
    for column in ("stage", "detail"):
        letters = letters.append_column(column, pa.array(["decode"] * letters.num_rows))
    letters = letters.set_column(letters.schema.get_field_index("reason"), "reason", real_reasons(letters["reason"]))

    con = tables.database()
    con.register("bronze_rows", bronze)
    con.execute("CREATE TABLE bronze AS FROM bronze_rows")
    countries = folder / "countries.csv"
    countries.write_text(COUNTRIES)
    expected.build(con, countries)
    check_by_hand(con)

    lake = folder / "lake"
    write(lake, tables.BRONZE, bronze, ["processing_date"])
    write(lake, tables.DEAD_LETTERS, letters)
    for table, relation, partitions in [
        (tables.SILVER, "expected_silver", ["transaction_date"]), (tables.QUARANTINE, "expected_quarantine", None),
        *((table, relation, None) for table, (relation, _) in expected.GOLD.items()),
    ]:
        write(lake, table, micros(con.execute(f"FROM {relation}").fetch_arrow_table()), partitions)
    write(lake, tables.EPOCHS, ledger(con, bronze, letters))
    return messages


def provenance(table: pa.Table, epochs: dict) -> pa.Table:
    places = zip(table["source_partition"].to_pylist(), table["source_offset"].to_pylist())
    if "schema_id" not in table.schema.names:
        table = table.append_column("schema_id", pa.nulls(table.num_rows, pa.int32()))
    at = [epochs[place] for place in places]
    table = table.append_column("ingested_at", pa.array([NOW + timedelta(seconds=epoch) for epoch in at], pa.timestamp("us", "UTC")))
    table = table.append_column("epoch", pa.array(at, pa.int64()))
    return table.append_column("processing_date", pa.array([date(2026, 3, 8)] * table.num_rows))


def real_reasons(reasons: pa.ChunkedArray) -> pa.Array:
    names = iter(["truncated", "trailing_bytes", "invalid_utf8"])
    return pa.array([next(names) if reason == "undecodable" else reason for reason in reasons.to_pylist()])


def ledger(con, bronze: pa.Table, letters: pa.Table) -> pa.Table:
    con.register("letter_rows", letters)
    return micros(con.execute(
        f"""
        WITH places AS (SELECT epoch, source_topic, source_partition, source_offset FROM bronze
            UNION ALL SELECT epoch, source_topic, source_partition, source_offset FROM letter_rows),
        ranges AS (SELECT epoch, source_topic AS topic, source_partition AS partition, min(source_offset) AS first_offset,
            max(source_offset) + 1 AS next_offset, count(*) AS messages FROM places GROUP BY ALL)
        SELECT epoch, 'stream' AS kind, TIMESTAMPTZ '2026-03-08 12:00:00+00' AS watermark_at,
            (SELECT count(*) FROM places p WHERE p.epoch = e.epoch) AS messages,
            (SELECT count(*) FROM bronze p WHERE p.epoch = e.epoch) AS bronze_rows,
            (SELECT count(*) FROM letter_rows p WHERE p.epoch = e.epoch) AS dead_letters,
            (SELECT count(*) FROM expected_silver p WHERE p.epoch = e.epoch) AS silver_rows,
            (SELECT count(*) FROM expected_duplicates p WHERE p.epoch = e.epoch) AS duplicates,
            (SELECT count(*) FROM expected_quarantine p WHERE p.epoch = e.epoch) AS quarantined,
            (SELECT list({{topic: topic, partition: partition, first_offset: first_offset, next_offset: next_offset, messages: messages}})
                FROM ranges r WHERE r.epoch = e.epoch) AS offsets
        FROM range(1, 4) e(epoch)
        """
    ).fetch_arrow_table())


def micros(table: pa.Table) -> pa.Table:
    """DuckDB widens some integers further than Delta does."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            table = table.set_column(index, field.name, table[field.name].cast(pa.int64()))
    return table


def write(lake: Path, table: str, rows: pa.Table, partitions=None) -> None:
    deltalake.write_deltalake(tables.location(str(lake), table), rows, mode="overwrite", schema_mode="overwrite", partition_by=partitions)


# --- the oracles ------------------------------------------------------------------------------------------------------


def recomputation() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_lake(folder)
        lake = folder / "lake"
        run = lambda: call(recompute.main, ["recompute.py", str(lake), "--countries", str(folder / "countries.csv")])  # noqa: E731
        code, text = run()
        assert code == 0, text
        for table, column in [
            (tables.SILVER, "amount"), (tables.SILVER, "city"), (tables.SILVER, "source_headers"), (tables.SILVER, "event_at"),
            (tables.QUARANTINE, "broken_expectations"), (tables.QUARANTINE, "amount"),
            ("gold.segment_activity", "users"), ("gold.segment_activity", "fraud_rate"), ("gold.merchant_activity", "average_amount"),
            ("gold.user_activity", "is_suspicious"), ("gold.country_activity", "revenue"), ("gold.platform_hourly", "window_end"),
            (tables.SCORES, "user_transactions_30m"), (tables.SCORES, "reasons"), (tables.EPOCHS, "duplicates"),
        ]:
            with changed(lake, table, lambda rows, column=column: nudge(rows, column)):
                expect_difference(run, table, column)
        for table in [tables.SILVER, tables.QUARANTINE, *expected.GOLD]:
            with changed(lake, table, lambda rows: rows.slice(1)):
                expect_difference(run, table, "missing")
            with changed(lake, table, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)])):
                expect_difference(run, table, "2 times")
        with changed(lake, tables.SILVER, lambda rows: rows.drop_columns(["city"])):
            expect_difference(run, tables.SILVER, "column city is missing")
        with changed(lake, tables.BRONZE, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)])):
            expect_difference(run, tables.BRONZE, "2 times")
        code, text = run()
        assert code == 0, text


def topic() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        messages = write_lake(folder)
        lake = folder / "lake"
        ends = {partition: max(m.offset for m in messages if m.partition == partition) + 1 for partition in (0, 1)}

        def run(messages=messages, ends=ends):
            return call(lambda: exactly_once.check(str(lake), TOPIC, messages, ends, SCHEMAS), [])

        code, text = run()
        assert code == 0, text
        everything = "topic = bronze + dead letters"
        for table, change, named, detail in [
            (tables.BRONZE, lambda rows: rows.slice(1), everything, "missing"),
            (tables.BRONZE, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), everything, "2 times"),
            (tables.DEAD_LETTERS, lambda rows: rows.slice(1), everything, "missing"),
            (tables.DEAD_LETTERS, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), everything, "2 times"),
            (tables.BRONZE, lambda rows: nudge(rows, "amount"), "bronze as sent", "amount"),
            (tables.BRONZE, lambda rows: nudge(rows, "source_headers"), "bronze as sent", "source_headers"),
            (tables.DEAD_LETTERS, lambda rows: nudge(rows, "payload"), "dead letters as sent", "payload"),
            (tables.DEAD_LETTERS, lambda rows: nudge(rows, "reason"), "dead letters as sent", "reason"),
            (tables.SILVER, lambda rows: rows.slice(1), "silver = each valid id once", "missing"),
            (tables.SILVER, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), "silver = each valid id once", "2 times"),
            (tables.EPOCHS, lambda rows: rows.filter(pc.not_equal(rows["epoch"], 2)), "ops.epochs", "missing [2]"),
            (tables.EPOCHS, lambda rows: nudge(rows, "messages"), "ops.epochs", "messages = bronze_rows + dead_letters"),
            (tables.EPOCHS, lambda rows: nudge(rows, "duplicates"), "ops.epochs", "silver_rows + duplicates"),
            (tables.EPOCHS, lambda rows: rows.filter(pc.less(rows["epoch"], 3)), "ops.epochs", "the epochs reached"),
        ]:
            with changed(lake, table, change):
                expect_difference(run, named, detail)
        more = [*messages, exactly_once.Message(0, ends[0], 0, None, None, b"x")]
        expect_difference(lambda: run(more, {**ends, 0: ends[0] + 1}), everything, "missing")


def same_lakes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lakes = [Path(folder) / name / "lake" for name in ("a", "b")]
        for lake in lakes:
            lake.parent.mkdir()
            write_lake(lake.parent)
        run = lambda: call(same.main, ["same.py", *map(str, lakes)])  # noqa: E731
        with changed(lakes[1], tables.SILVER, lambda rows: nudge(rows, "ingested_at")):
            code, text = run()
            assert code == 0, text
        for table, column in [(tables.SILVER, "city"), ("gold.user_activity", "spending"), (tables.SCORES, "score")]:
            with changed(lakes[1], table, lambda rows, column=column: nudge(rows, column)):
                expect_difference(run, table, column)


RETAIL_CSV = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,"LAMP, RED",2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
1,A,"LAMP, RED",2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
2,B,,1,2010-12-01 23:59:59,0.125,,United Kingdom
C3,A,"LAMP, RED",-1,2010-12-02 00:00:00,2.55,17850.0,United Kingdom
A4,B,Adjust bad debt,1,2010-12-02 10:00:00,-11.06,,France
5,C,found,3,2010-12-02 10:00:00,0.0,,France
"""


def retail_lake() -> None:
    with tempfile.TemporaryDirectory() as folder:
        csv, lake = Path(folder) / "retail.csv", Path(folder) / "lake"
        csv.write_text(RETAIL_CSV)
        con = tables.database()
        lines = con.execute(
            """SELECT InvoiceNo AS invoice_no, StockCode AS stock_code, Description AS description, CAST(Quantity AS INTEGER) AS quantity,
            InvoiceDate AS invoice_date, CAST(UnitPrice AS DOUBLE) AS unit_price, CustomerID AS customer_id, Country AS country
            FROM read_csv(?, all_varchar = true)""",
            [str(csv)],
        ).fetch_arrow_table()
        write(lake, "bronze.invoice_lines", lines)
        write(lake, tables.DEAD_LETTERS, pa.table({"payload": pa.array([], pa.binary())}))
        write(lake, tables.QUARANTINE, lines.slice(4, 1))
        # 2 x 2.55, 0.125 half to even, -2.55, nothing.
        revenue = pa.array([Decimal("5.10"), Decimal("0.12"), Decimal("-2.55"), Decimal("0.00")], pa.decimal128(18, 2))
        write(lake, "silver.invoice_lines", lines.take([0, 2, 3, 5]).append_column("revenue", revenue))
        day = pa.timestamp("us", "UTC")
        write(lake, "gold.revenue_by_country_day", pa.table({
            "window_start": pa.array([datetime(2010, 12, d, tzinfo=UTC) for d in (1, 2, 2)], day),
            "window_end": pa.array([datetime(2010, 12, d, tzinfo=UTC) for d in (2, 3, 3)], day),
            "country": ["United Kingdom", "United Kingdom", "France"],
            "lines": [2, 1, 1], "cancelled_lines": [0, 1, 0], "invoices": [2, 1, 1], "customers": [1, 1, 0], "items": [3, -1, 3],
            "revenue": pa.array([Decimal("5.22"), Decimal("-2.55"), Decimal("0.00")], pa.decimal128(28, 2)),
        }))
        write(lake, tables.EPOCHS, pa.table({
            "kind": ["stream"], "messages": [6], "bronze_rows": [6], "dead_letters": [0], "silver_rows": [4], "duplicates": [1], "quarantined": [1],
        }))
        run = lambda: call(retail.main, ["retail.py", str(lake), str(csv)])  # noqa: E731
        code, text = run()
        assert code == 0, text
        for table, change, named, detail in [
            ("bronze.invoice_lines", lambda rows: rows.slice(1), "every line is accounted for", "bronze_rows"),
            ("bronze.invoice_lines", lambda rows: nudge(rows, "unit_price"), "bronze holds each line", "missing"),
            ("silver.invoice_lines", lambda rows: nudge(rows, "revenue"), "revenue of silver", "expected"),
            ("gold.revenue_by_country_day", lambda rows: nudge(rows, "revenue"), "revenue by country", "revenue"),
            (tables.EPOCHS, lambda rows: nudge(rows, "duplicates"), "silver, quarantine, duplicates", "2 duplicates"),
        ]:
            with changed(lake, table, change):
                expect_difference(run, named, detail)


def readers() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_lake(Path(folder))
        command = [sys.executable, HERE / "readers.py", Path(folder) / "lake"]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count("equal  ") == 11, run.stdout
        # One file of data gone: each reader must fail on the table, and the comparison with it.
        next((Path(folder) / "lake/gold/fraud_scores").glob("*.parquet")).unlink()
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 1 and "DIFFERENT  gold.fraud_scores" in run.stdout, run.stdout + run.stderr
    from digest import differences

    left = {"rows": {"rows": 2}, "a": {"values": 2, "sum": "3.00"}, "x": {"values": 2, "sum": 1.5}}
    assert differences(left, left) == []
    for change in [{"rows": {"rows": 3}}, {"a": {"values": 2, "sum": "3.01"}}, {"x": {"values": 1, "sum": 1.5}}, {"b": {"values": 1, "sum": 1}}]:
        assert differences(left, {**left, **change}), change


@contextlib.contextmanager
def changed(lake: Path, table: str, change):
    """The table with another content, for a while."""
    place = tables.location(str(lake), table)
    version = deltalake.DeltaTable(place).version()
    rows = deltalake.DeltaTable(place).to_pyarrow_table()
    write(lake, table, change(rows))
    try:
        yield
    finally:
        deltalake.DeltaTable(place).restore(version)


def nudge(rows: pa.Table, column: str) -> pa.Table:
    """The table with the last row's value of one column changed as little as it can be."""
    kept = rows[column].to_pylist()
    value, kind = kept[-1], rows.schema.field(column).type
    if isinstance(value, bool):
        kept[-1] = not value
    elif isinstance(value, float):
        kept[-1] = 0.25 if value != value else value + 1e-9
    elif isinstance(value, Decimal):
        kept[-1] = value + Decimal(1).scaleb(-kind.scale)
    elif isinstance(value, datetime):
        kept[-1] = value + timedelta(microseconds=1)
    elif isinstance(value, int):
        kept[-1] = value + 1
    elif isinstance(value, bytes):
        kept[-1] = value + b"\0"
    elif isinstance(value, str):
        kept[-1] = value + " "
    elif value and isinstance(value[0], str):
        kept[-1] = [*value, "more"]
    elif kind == pa.string():
        kept[-1] = ""
    elif pa.types.is_binary(kind):
        kept[-1] = b""
    else:
        kept[-1] = [{"name": "more", "value": b""}]
    return rows.set_column(rows.schema.get_field_index(column), rows.schema.field(column), pa.array(kept, kind))


def expect_difference(run, table: str, detail: str) -> None:
    code, text = run()
    section = next((part for part in text.split("DIFFERENT  ")[1:] if part.startswith(table)), "")
    assert code == 1 and detail in section, f"a wrong {table} ({detail}) went unnoticed:\n{text}"


def call(function, arguments: list[str]) -> tuple[int, str]:
    before, sys.argv = sys.argv, arguments
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            return function(), output.getvalue()
    finally:
        sys.argv = before


if __name__ == "__main__":
    tables.leave(main())
