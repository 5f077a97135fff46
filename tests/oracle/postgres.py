#!/usr/bin/env python3
"""Asks a running `assay serve --postgres` as its users do, and compares what it says.

    postgres.py --port N --lake LAKE --assay BINARY --more FILE...

Every table, by the simple and the extended protocol, in text and in binary, must be what `assay sql` writes and what
DuckDB reads from the Delta tables. Then transactions, parameters, refusals, limits, cancelling, and what tools ask first.
The files of --more are loaded meanwhile, so that epochs come.
"""

import argparse
import csv
import datetime
import decimal
import io
import json
import subprocess
import threading
import time

import duckdb
import duckdb_ext
import psycopg
import sqlalchemy
from psycopg import sql as pgsql

from postgres_clients import STARTUP

UTC = datetime.timezone.utc
checked = 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--assay", required=True)
    parser.add_argument("--more", nargs="+", required=True)
    args = parser.parse_args()
    args.url = f"host=127.0.0.1 port={args.port} user=ana dbname=assay sslmode=disable"
    for part in (tables, questions, parameters, refusals, session, transactions, stopping, inspected, clients, loads):
        before = checked
        part(args)
        print(f"{part.__name__}: {checked - before} comparisons")


def same(found, expected, what):
    global checked
    checked += 1
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        # The first place, not all rows.
        for number, (one, other) in enumerate(zip(found, expected)):
            if one != other and isinstance(one, (list, tuple)) and len(one) == len(other):
                cells = [(at, a, b) for at, (a, b) in enumerate(zip(one, other)) if a != b]
                raise AssertionError(f"{what}: row {number}, (column, found, expected): {cells}")
    raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


def connect(args, **more):
    return psycopg.connect(args.url, autocommit=True, **more)


def of_assay(args, query):
    """The rows of `assay sql`, as texts."""
    out = subprocess.run(
        [args.assay, "sql", "--lake", args.lake, "--format", "csv", query], capture_output=True, text=True, check=True
    )
    return list(csv.reader(io.StringIO(out.stdout)))


def as_text(value):
    """A value as `assay sql --format csv` writes it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime.datetime():
            text = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
            return text.replace(".000000Z", "Z") if text.endswith(".000000Z") else text
        case dict() | list():
            return json.dumps(value)
        case bytes():
            return value.hex()
        case _:
            return str(value)


def like(told, written):
    """Whether a value of a client is that of the CSV: instants and JSON by their meaning."""
    if as_text(told) == written:
        return True
    match told:
        case datetime.datetime():
            return told == datetime.datetime.fromisoformat(written.replace("Z", "+00:00"))
        case dict() | list():
            return told == json.loads(written)
        case float():
            return told == float(written)
        case decimal.Decimal():
            return told == decimal.Decimal(written)
        case _:
            return False


def by_every_way(args, query):
    """The rows of a query by both protocols and both formats, which must not differ."""
    with connect(args) as client:
        text = [[plain(value) for value in row] for row in client.execute(query).fetchall()]
        binary = client.execute(query, binary=True).fetchall()
        same([[plain(value) for value in row] for row in binary], text, f"binary rows of {query}")
        with psycopg.ClientCursor(client) as simple:
            rows = simple.execute(query).fetchall()
            same([[plain(value) for value in row] for row in rows], text, f"simple rows of {query}")
    return text


KEYS = {
    "bronze.transactions": "source_topic, source_partition, source_offset",
    "bronze.dead_letters": "source_topic, source_partition, source_offset",
    "silver.transactions": "transaction_id",
    "silver.transaction_features": "transaction_id",
    "gold.fraud_scores": "transaction_id",
    "ops.epochs": "epoch",
}


def tables(args):
    with connect(args) as client:
        names = [row[0] for row in client.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1"
        ).fetchall()]
    assert {"gold.fraud_scores", "silver.transactions", "ops.epochs"} <= set(names), names
    duck = duckdb.connect()
    duckdb_ext.init(duck)
    duck.execute("SET TimeZone = 'UTC'; LOAD delta")
    for name in names:
        with connect(args) as client:
            columns = [column.name for column in client.execute(f"SELECT * FROM {name} LIMIT 0").description]
        order = KEYS.get(name) or ", ".join(f'"{column}"' for column in columns[:6])
        query = f"SELECT * FROM {name} ORDER BY {order} LIMIT 3000"
        rows = by_every_way(args, query)
        header, *written = of_assay(args, query)
        same(columns, header, f"columns of {name}")
        same(len(rows), len(written), f"rows of {name}")
        for row, line in zip(rows, written):
            for column, told, text in zip(header, row, line):
                assert like(told, text), f"{name}.{column}: {told!r} instead of {text!r}"
        if name not in KEYS:
            continue
        location = f"{args.lake}/{name.replace('.', '/')}"
        found = duck.execute(f"SELECT * FROM delta_scan('{location}') ORDER BY {order} LIMIT 3000").fetchall()
        same(rows, [[plain(value) for value in row] for row in found], f"{name} by DuckDB")


def plain(value):
    """A value that can be compared: instants of one zone, bytes of one type, and a NaN that is like another."""
    match value:
        case float() if value != value:
            return "NaN"
        case datetime.datetime():
            return value.astimezone(UTC)
        case dict():
            # JSON has no bytes.
            return {name: item.hex() if isinstance(item, bytes) else plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case memoryview() | bytearray():
            return bytes(value)
        case _:
            return value


def questions(args):
    for query in [
        "SELECT count(*) AS n, sum(amount) AS total, avg(amount) AS mean, max(event_at) AS newest FROM silver.transactions",
        "SELECT class, count(*) AS n, round(avg(score), 3) AS mean FROM gold.fraud_scores GROUP BY class ORDER BY class",
        "SELECT date_trunc('hour', event_at) AS hour, count(DISTINCT user_id) AS users FROM silver.transactions GROUP BY 1 ORDER BY 1",
        "SELECT CAST(event_at AS DATE) AS day, min(amount) AS least FROM silver.transactions GROUP BY 1 ORDER BY 1",
        "SELECT t.merchant, f.score FROM gold.fraud_scores f JOIN silver.transactions t USING (transaction_id) ORDER BY f.score DESC, t.transaction_id LIMIT 50",
        "SELECT epoch, messages FROM ops.epochs AS OF EPOCH 1",
        "SELECT array_agg(epoch ORDER BY epoch) AS epochs, true AS yes, NULL AS nothing, 1.50 AS price FROM ops.epochs",
    ]:
        rows = by_every_way(args, query)
        _, *written = of_assay(args, query)
        same(len(rows), len(written), query)
        for row, line in zip(rows, written):
            for told, text in zip(row, line):
                assert like(told, text), f"{query}: {told!r} instead of {text!r}"
    with connect(args) as client:
        kinds = {column.name: column.type_display for column in client.execute(
            "SELECT amount, event_at, CAST(event_at AS DATE) AS day, transaction_id, epoch, amount > 1 AS large,"
            " array_agg(epoch) OVER () AS epochs, CAST(1 AS DOUBLE) AS float FROM silver.transactions LIMIT 1"
        ).description}
    expected = {"amount": "numeric(", "event_at": "timestamptz", "day": "date", "transaction_id": "text", "epoch": "int8",
                "large": "bool", "epochs": "int8[]", "float": "float8"}
    for name, kind in expected.items():
        same(kinds[name].startswith(kind), True, f"type of {name} ({kinds[name]})")


def parameters(args):
    with connect(args) as client:
        amount, event_at, user, merchant, epoch = client.execute(
            "SELECT amount, event_at, user_id, merchant, epoch FROM silver.transactions ORDER BY transaction_id LIMIT 1"
        ).fetchone()
        for column, value in [("amount", amount), ("event_at", event_at), ("user_id", user), ("merchant", merchant), ("epoch", epoch)]:
            literal = client.execute(pgsql.SQL("SELECT count(*) FROM silver.transactions WHERE {} = {}").format(
                pgsql.Identifier(column), pgsql.Literal(value))).fetchone() if column in ("user_id", "merchant", "epoch") else None
            for placeholder in ("%s", "%b", "%t"):
                for _ in range(2):
                    found = client.execute(f"SELECT count(*) FROM silver.transactions WHERE {column} = {placeholder}", [value]).fetchone()
                    assert found[0] >= 1, (column, placeholder, found)
                    if literal:
                        same(found, literal, f"{column} = {value!r} as {placeholder}")
        # More digits than the column has are not rounded away.
        finer = amount + decimal.Decimal("0.001")
        same(client.execute("SELECT count(*) FROM silver.transactions WHERE amount = %s AND merchant = %s", [finer, merchant]).fetchone(), (0,), "a finer amount")
        for value, expected in [(100, 100), (10**12, 10**12), (1.5, 1.5), ("text", "text"), (True, True), (None, None),
                                (decimal.Decimal("-12345.6700"), decimal.Decimal("-12345.6700")),
                                (datetime.date(2026, 1, 31), datetime.date(2026, 1, 31)),
                                (datetime.datetime(2026, 1, 31, 12, 30, 1, 5, UTC), datetime.datetime(2026, 1, 31, 12, 30, 1, 5, UTC)),
                                (b"\x00\xff", b"\x00\xff")]:
            for placeholder, binary in (("%s", False), ("%b", True), ("%t", False), ("%t", True)):
                found = client.execute(f"SELECT {placeholder} AS told", [value], binary=binary).fetchone()[0]
                same(found, expected, f"{value!r} as {placeholder}, binary {binary}")
        whole = client.execute("SELECT count(*) FROM silver.transactions WHERE amount > %s", [100]).fetchone()
        same(client.execute("SELECT count(*) FROM silver.transactions WHERE amount > 100").fetchone(), whole, "an integer beside a decimal")
        same(len(client.execute("SELECT transaction_id FROM silver.transactions LIMIT %s OFFSET %s", [7, 2]).fetchall()), 7, "LIMIT and OFFSET")
        day = datetime.date(2026, 1, 1)
        same(client.execute("SELECT count(*) FROM silver.transactions WHERE event_at > %s", ["2000-01-01"]).fetchone(),
             client.execute("SELECT count(*) FROM silver.transactions").fetchone(), "an instant as text")
        assert client.execute("SELECT count(*) FROM silver.transactions WHERE event_at > %s", [day]).fetchone() is not None
        users = [row[0] for row in client.execute("SELECT DISTINCT user_id FROM silver.transactions ORDER BY 1 LIMIT 3").fetchall()]
        several = client.execute("SELECT count(*) FROM silver.transactions WHERE user_id = ANY(%s)", [users]).fetchone()
        listed = client.execute("SELECT count(*) FROM silver.transactions WHERE user_id IN (%s, %s, %s)", users).fetchone()
        same(several, listed, "= ANY")
        # Prepared by the driver after some rounds, and read in parts.
        for number in range(12):
            same(client.execute("SELECT %s + 1", [number]).fetchone(), (number + 1,), "prepared")
        with client.cursor() as cursor:
            same(len(list(cursor.stream("SELECT transaction_id FROM silver.transactions LIMIT 500"))), 500, "row by row")


def refused(client, query, code, *parts):
    try:
        client.execute(query)
    except psycopg.Error as error:
        same(error.diag.sqlstate, code, f"{query} ({error})")
        text = f"{error.diag.message_primary} {error.diag.message_hint} {error.diag.statement_position}"
        for part in parts:
            same(part in text, True, f"{part!r} in {text!r} of {query}")
        return
    raise AssertionError(f"{query} was not refused")


def refusals(args):
    with connect(args) as client:
        for query, code, *parts in [
            ("INSERT INTO gold.fraud_scores VALUES (1)", "25006", "read-only"),
            ("UPDATE silver.transactions SET amount = 0", "25006"),
            ("DELETE FROM silver.transactions", "25006"),
            ("CREATE TABLE x (a int)", "25006"),
            ("DROP TABLE gold.fraud_scores", "25006"),
            ("TRUNCATE silver.transactions", "25006"),
            ("WITH x AS (SELECT 1) INSERT INTO gold.fraud_scores SELECT * FROM x", "25006"),
            ("SET no_such_setting = 1", "42704"),
            ("SET timezone = 'Europe/Berlin'", "22023", "UTC"),
            ("SET client_encoding = 'LATIN1'", "22023"),
            ("SELECT * FROM gold.fraud_score", "42P01", "gold.fraud_scores", " 15"),
            ("SELECT amuont FROM silver.transactions", "42703", "amount", " 8"),
            ("SELECT no_such_function(1)", "42883"),
            ("SELEC 1", "42601", " 1"),
            ("SELECT 1 +", "42601"),
            ("SELECT 'x", "42601"),
            ("SELECT epoch / 0 FROM ops.epochs", "22012"),
            ("SELECT CAST(merchant AS INT) FROM silver.transactions", "22P02"),
            ("SELECT 1 FROM ops.epochs AS OF EPOCH 999999", "22023", "999999"),
            ("SELECT 1 FROM ops.epochs AS OF EPOCH x", "42601"),
            ("DECLARE c CURSOR FOR SELECT 1", "0A000"),
        ]:
            refused(client, query, code, *parts)
            with psycopg.ClientCursor(client) as simple:
                refused(simple, query, code, *parts)
        same(client.execute("SELECT 1").fetchone(), (1,), "after refusals")


def session(args):
    with connect(args, application_name="oracle") as client:
        show = lambda name: client.execute(f"SHOW {name}").fetchone()[0]  # noqa: E731
        same(show("application_name"), "oracle", "application_name")
        for name, value in [("TimeZone", "UTC"), ("transaction_isolation", "repeatable read"), ("default_transaction_read_only", "on"),
                            ("search_path", "silver"), ("server_encoding", "UTF8"), ("statement_timeout", "1min")]:
            same(show(name), value, name)
        client.execute("SET statement_timeout = '5s'; SET search_path TO gold, public; SET extra_float_digits = 3")
        same((show("statement_timeout"), show("search_path")), ("5s", "gold, public"), "SET")
        same(client.execute("SELECT count(*) > 0 FROM fraud_scores").fetchone(), (True,), "the search path")
        same(client.execute("SELECT current_schema(), current_user, current_database(), current_setting('search_path')").fetchone(),
             ("gold", "ana", "assay", "gold, public"), "the session")
        assert client.execute("SELECT version()").fetchone()[0].startswith("PostgreSQL 16")
        same(client.info.server_version, 160006, "the version that drivers see")
        client.execute("DISCARD ALL")
        same(show("search_path"), "silver", "DISCARD ALL")
        same(client.execute("").fetchone() if client.execute("").description else None, None, "an empty query")


def load_more(args):
    subprocess.run([args.assay, "load", args.more.pop(0), "--lake", args.lake, "--quiet"], check=True, capture_output=True)


def newest(client):
    return client.execute("SELECT max(epoch), count(*) FROM ops.epochs").fetchone()


def transactions(args):
    with connect(args) as client, connect(args) as other:
        first = newest(client)
        count = client.execute("SELECT count(*) FROM silver.transactions").fetchone()
        client.execute("BEGIN")
        same(newest(client), first, "in a transaction")
        other.execute("SELECT count(*) FROM silver.transactions", prepare=True)
        load_more(args)
        same(newest(client), first, "a transaction keeps its epoch")
        same(client.execute("SELECT count(*) FROM silver.transactions").fetchone(), count, "in all tables")
        later = newest(other)
        assert later[0] > first[0], (later, first)
        client.execute("COMMIT")
        same(newest(client), later, "after the transaction")
        more = other.execute("SELECT count(*) FROM silver.transactions", prepare=True).fetchone()
        assert more[0] > count[0], "a prepared statement reads the newest epoch"
        same(client.execute(f"SELECT count(*) FROM silver.transactions AS OF EPOCH {first[0]}").fetchone(), count, "AS OF EPOCH")
        client.execute("BEGIN READ ONLY; SAVEPOINT a; RELEASE SAVEPOINT a")
        refused(client, "SELECT nothing", "42703")
        refused(client, "SELECT 1", "25P02")
        same(client.execute("COMMIT").statusmessage, "ROLLBACK", "a failed transaction ends")
        same(client.execute("SELECT 1").fetchone(), (1,), "after it")
        same(client.info.transaction_status.name, "IDLE", "its status")
    with psycopg.connect(args.url) as client:
        with client.transaction():
            same(newest(client), later, "as psycopg begins them")
            with client.transaction():
                client.execute("SELECT 1")


SLOW = "SELECT count(*) FROM silver.transactions a, silver.transactions b, silver.transactions c WHERE a.amount + b.amount > c.amount"


def stopping(args):
    with connect(args) as client:
        client.execute("SET statement_timeout = '300ms'")
        began = time.monotonic()
        refused(client, SLOW, "57014", "timeout")
        assert time.monotonic() - began < 5, "the timeout came late"
        client.execute("SET statement_timeout = 0")
        for way in (client.execute, psycopg.ClientCursor(client).execute):
            timer = threading.Timer(0.5, client.cancel)
            timer.start()
            began = time.monotonic()
            try:
                way(SLOW)
                raise AssertionError("it was not cancelled")
            except psycopg.errors.QueryCanceled:
                same(time.monotonic() - began < 5, True, "cancelled in time")
            timer.join()
        same(client.execute("SELECT 1").fetchone(), (1,), "after cancelling")
        # What was stopped computes no more: another is answered at once.
        began = time.monotonic()
        same(client.execute("SELECT count(*) > 0 FROM ops.epochs").fetchone(), (True,), "and soon")
        assert time.monotonic() - began < 5


def inspected(args):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://ana@127.0.0.1:{args.port}/assay?sslmode=disable")
    inspector = sqlalchemy.inspect(engine)
    assert {"bronze", "silver", "gold", "ops"} <= set(inspector.get_schema_names()), inspector.get_schema_names()
    names = inspector.get_table_names(schema="gold")
    assert "fraud_scores" in names, names
    columns = {column["name"]: column["type"] for column in inspector.get_columns("transactions", schema="silver")}
    for name, kind in [("transaction_id", sqlalchemy.types.TEXT), ("amount", sqlalchemy.types.NUMERIC), ("event_at", sqlalchemy.types.TIMESTAMP)]:
        same(isinstance(columns[name], kind), True, f"type of {name}: {columns[name]!r}")
    same(inspector.get_pk_constraint("transactions", schema="silver")["constrained_columns"], [], "keys")
    same((inspector.get_foreign_keys("transactions", schema="silver"), inspector.get_indexes("transactions", schema="silver")), ([], []), "no keys")
    metadata = sqlalchemy.MetaData()
    scores = sqlalchemy.Table("fraud_scores", metadata, schema="gold", autoload_with=engine)
    with engine.connect() as client:
        query = sqlalchemy.select(scores.c["class"], sqlalchemy.func.count()).where(scores.c.score >= 0).group_by(scores.c["class"])
        found = sorted(map(tuple, client.execute(query).fetchall()))
        _, *written = of_assay(args, "SELECT class, count(*) FROM gold.fraud_scores GROUP BY class ORDER BY class")
        same(found, [(name, int(count)) for name, count in written], "by SQLAlchemy")
        ids = [row[0] for row in client.execute(sqlalchemy.select(scores.c.transaction_id).limit(3))]
        listed = client.execute(sqlalchemy.select(sqlalchemy.func.count()).where(scores.c.transaction_id.in_(ids))).scalar()
        same(listed, 3, "IN with parameters")
    engine.dispose()


def clients(args):
    """What tools ask before their users do."""
    failures = []
    for tool, queries in STARTUP.items():
        for query, *expected in queries:
            with connect(args) as client:
                try:
                    cursor = psycopg.ClientCursor(client).execute(query)
                    rows = cursor.fetchall() if cursor.description else None
                except psycopg.Error as error:
                    failures.append(f"{tool}: {error.diag.sqlstate} {error}: {' '.join(query.split())[:300]}")
                    continue
            if expected and not expected[0](rows):
                failures.append(f"{tool}: {rows[:5]}: {' '.join(query.split())[:300]}")
            global checked
            checked += 1
    assert not failures, "\n".join(failures)


def loads(args):
    """Many clients at once, while epochs come; nothing fails, and nobody sees half an epoch."""
    failures, done = [], threading.Event()

    def ask():
        try:
            with psycopg.connect(args.url) as client:
                while not done.is_set():
                    with client.transaction():
                        rows, silver = client.execute("SELECT sum(silver_rows) FROM ops.epochs").fetchone()[0], None
                        silver = client.execute("SELECT count(*) FROM silver.transactions").fetchone()[0]
                        gold = client.execute("SELECT count(*) FROM gold.fraud_scores").fetchone()[0]
                        assert rows == silver == gold, (rows, silver, gold)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            failures.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while args.more:
        load_more(args)
    time.sleep(1)
    done.set()
    for thread in threads:
        thread.join()
    same(failures, [], "eight clients")


if __name__ == "__main__":
    main()
