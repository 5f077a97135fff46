#!/usr/bin/env python3
"""Asks a running `assay serve --flight` through ADBC's driver, and compares what it says.

    flight.py open --flight N --postgres N --lake LAKE --assay BINARY --more FILE...
    flight.py closed --flight N --certificate FILE --germany ROWS
    flight.py bulk --flight N --postgres N

`open`: every table, cell by cell, must be what the clients of PostgreSQL are told; then types, epochs, transactions, parameters,
refusals, and cancelling. `closed`: passwords, what a role may read, encryption, limits. `bulk`: rows per second of a whole table,
as an Arrow table and over PostgreSQL's text protocol, whole and by row.
"""

import argparse
import datetime
import json
import math
import subprocess
import threading
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

UTC = datetime.timezone.utc
checked = 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("open", "closed", "bulk"))
    parser.add_argument("--flight", type=int, required=True)
    parser.add_argument("--postgres", type=int)
    parser.add_argument("--lake")
    parser.add_argument("--assay")
    parser.add_argument("--more", nargs="*", default=[])
    parser.add_argument("--certificate")
    parser.add_argument("--germany", type=int)
    args = parser.parse_args()
    parts = {
        "open": (tables, metadata, types, questions, parameters, epochs, refusals, stopping, loads),
        "closed": (passwords, grants, limits),
        "bulk": (bulk,),
    }
    for part in parts[args.what]:
        before = checked
        part(args)
        print(f"{part.__name__}: {checked - before} comparisons")


def same(found, expected, what):
    global checked
    checked += 1
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def connect(args, autocommit=True, **options):
    return flightsql.connect(f"grpc://127.0.0.1:{args.flight}", db_kwargs=options, autocommit=autocommit)


def ask(client, query, parameters=None):
    with client.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetch_arrow_table()


def rows(client, query, parameters=None):
    return [tuple(row.values()) for row in ask(client, query, parameters).to_pylist()]


def psql(args):
    return psycopg.connect(f"host=127.0.0.1 port={args.postgres} user=ana dbname=assay sslmode=disable", autocommit=True)


def plain(value):
    """A value that can be compared: what PostgreSQL's clients get as JSON is what Arrow has as a struct or a map."""
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case datetime.datetime():
            return value.astimezone(UTC)
        case memoryview() | bytearray():
            return bytes(value)
        case dict():
            return {name: in_json(item) for name, item in value.items()}
        case list():
            return [in_json(item) if isinstance(item, (dict, list)) else plain(item) for item in value]
        case _:
            return value


def in_json(value):
    match value:
        case bytes() | memoryview() | bytearray():
            return bytes(value).hex()
        case datetime.datetime():
            return value.astimezone(UTC)
        case dict():
            return {name: in_json(item) for name, item in value.items()}
        case list():
            # A map comes as its pairs.
            if value and all(isinstance(item, tuple) for item in value):
                return {key: in_json(item) for key, item in value}
            return [in_json(item) for item in value]
        case str():
            try:
                return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC) if "T" in value else value
            except ValueError:
                return value
        case _:
            return value


KEYS = {
    "bronze.transactions": "source_topic, source_partition, source_offset",
    "bronze.dead_letters": "source_topic, source_partition, source_offset",
    "silver.transactions": "transaction_id",
    "silver.transaction_features": "transaction_id",
    "gold.fraud_scores": "transaction_id",
    "ops.epochs": "epoch",
}


def compare(args, client, query):
    with psql(args) as other:
        cursor = other.execute(query)
        names, expected = [column.name for column in cursor.description], cursor.fetchall()
    table = ask(client, query)
    same(table.column_names, names, f"columns of {query}")
    same(table.num_rows, len(expected), f"rows of {query}")
    for number, (row, other) in enumerate(zip(table.to_pylist(), expected)):
        for (name, found), wanted in zip(row.items(), other):
            assert plain(found) == plain(wanted), f"{query}: row {number}, {name}: {plain(found)!r} instead of {plain(wanted)!r}"
    global checked
    checked += table.num_rows * table.num_columns
    return table


def listed(client):
    objects = client.adbc_get_objects(depth="tables").read_all().to_pylist()
    return {
        f"{schema['db_schema_name']}.{table['table_name']}": table["table_type"]
        for catalog in objects
        for schema in catalog["catalog_db_schemas"] or []
        for table in schema["db_schema_tables"] or []
    }


def tables(args):
    with connect(args) as client, psql(args) as other:
        names = [row[0] for row in other.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1"
        ).fetchall()]
        found = listed(client)
        same(sorted(found), names, "tables")
        same(set(found.values()), {"TABLE"}, "their types")
        for name in names:
            columns = [column.name for column in other.execute(f"SELECT * FROM {name} LIMIT 0").description]
            order = KEYS.get(name) or ", ".join(f'"{column}"' for column in columns[:6])
            table = compare(args, client, f"SELECT * FROM {name} ORDER BY {order} LIMIT 2000")
            layer, bare = name.split(".")
            known = client.adbc_get_table_schema(bare, db_schema_filter=layer)
            same([(f.name, f.type) for f in known], [(f.name, f.type) for f in table.schema], f"the schema of {name}")


def metadata(args):
    with connect(args) as client:
        info = client.adbc_get_info()
        same((info["vendor_name"], info["driver_name"].startswith("ADBC Flight SQL")), ("assay", True), "names")
        same(client.adbc_get_table_types(), ["TABLE"], "types of tables")
        objects = client.adbc_get_objects(depth="db_schemas").read_all().to_pylist()
        same([catalog["catalog_name"] for catalog in objects], ["assay"], "catalogs")
        layers = {schema["db_schema_name"] for schema in objects[0]["catalog_db_schemas"]}
        same(layers, {"bronze", "silver", "gold", "ml", "ops"}, "layers")
        some = client.adbc_get_objects(depth="all", db_schema_filter="gold", table_name_filter="fraud%").read_all().to_pylist()
        found = [table for schema in some[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
        same([table["table_name"] for table in found], ["fraud_scores"], "one table")
        assert {"score", "class"} <= {column["column_name"] for column in found[0]["table_columns"]}
        with client.cursor() as cursor:
            schema = cursor.adbc_execute_schema("SELECT 1 AS one, 'x' AS text")
            same([(field.name, str(field.type)) for field in schema], [("one", "int64"), ("text", "string")], "a schema alone")


def types(args):
    with connect(args) as client:
        schema = ask(client, "SELECT amount, event_at, CAST(event_at AS DATE) AS day, transaction_id, epoch, amount > 1 AS large,"
                             " array_agg(epoch) OVER () AS epochs, CAST(1 AS DOUBLE) AS float, NULL AS nothing"
                             " FROM silver.transactions LIMIT 1").schema
        kinds = {field.name: str(field.type) for field in schema}
        assert kinds.pop("amount").startswith("decimal128("), kinds
        same(kinds, {"event_at": "timestamp[us, tz=UTC]", "day": "date32[day]", "transaction_id": "string", "epoch": "int64",
                     "large": "bool", "epochs": str(pa.list_(pa.int64())), "float": "double", "nothing": "null"}, "types")


def questions(args):
    with connect(args) as client:
        for query in [
            "SELECT count(*) AS n, sum(amount) AS total, avg(amount) AS mean, max(event_at) AS newest FROM silver.transactions",
            "SELECT class, count(*) AS n, round(avg(score), 3) AS mean FROM gold.fraud_scores GROUP BY class ORDER BY class",
            "SELECT t.merchant, f.score FROM gold.fraud_scores f JOIN transactions t USING (transaction_id) ORDER BY f.score DESC, t.transaction_id LIMIT 50",
            "SELECT epoch, messages FROM ops.epochs AS OF EPOCH 1",
            "SELECT nspname FROM pg_catalog.pg_namespace ORDER BY 1",
            "SELECT * FROM silver.transactions WHERE false",
        ]:
            compare(args, client, query)
        out = subprocess.run([args.assay, "sql", "--lake", args.lake, "--format", "csv",
                              "SELECT class, count(*) AS n FROM gold.fraud_scores GROUP BY class ORDER BY class"],
                             capture_output=True, text=True, check=True).stdout.split()[1:]
        found = rows(client, "SELECT class, count(*) AS n FROM gold.fraud_scores GROUP BY class ORDER BY class")
        same([f"{name},{count}" for name, count in found], out, "assay sql")


def parameters(args):
    with connect(args) as client:
        table = "silver.transactions"
        one = rows(client, f"SELECT amount, event_at, user_id, merchant, epoch FROM {table} ORDER BY transaction_id LIMIT 1")[0]
        for column, value in zip(("amount", "event_at", "user_id", "merchant", "epoch"), one):
            expected = rows(client, f"SELECT count(*) FROM {table} WHERE {column} = (SELECT {column} FROM {table} ORDER BY transaction_id LIMIT 1)")
            same(rows(client, f"SELECT count(*) FROM {table} WHERE {column} = $1", (value,)), expected, column)
        with client.cursor() as cursor:
            for most in (3, 5):
                cursor.execute(f"SELECT transaction_id FROM {table} ORDER BY 1 LIMIT $1", (most,))
                same(cursor.fetch_arrow_table().num_rows, most, "LIMIT by a parameter")
        same(rows(client, "SELECT $1 AS a, $2 AS b", ("x'; --", None)), [("x'; --", None)], "text")


def refused(client, query, kind, part, parameters=None):
    global checked
    try:
        ask(client, query, parameters)
    except kind as error:
        assert part in str(error), f"{query}: no `{part}` in {error}"
        checked += 1
        return error
    raise AssertionError(f"{query} was not refused")


def refusals(args):
    wrong = flightsql.ProgrammingError
    with connect(args) as client:
        for query, kind, part in [
            ("SELECT amuont FROM silver.transactions", wrong, "line 1, column 8"),
            ("SELECT * FROM gold.fraud_score", wrong, "Did you mean gold.fraud_scores"),
            ("INSERT INTO gold.fraud_scores VALUES (1)", wrong, "read-only"),
            ("DROP TABLE gold.fraud_scores", wrong, "read-only"),
            ("SELECT 1; SELECT 2", wrong, "one question at a time"),
            ("SELECT epoch / 0 FROM ops.epochs", wrong, "divides by zero"),
            ("SELECT 1 AS OF EPOCH 99999", wrong, "99999"),
            ("SELECT $1", wrong, "none was bound"),
            ("SET search_path TO gold", flightsql.NotSupportedError, "no session"),
        ]:
            refused(client, query, kind, part)
        with client.cursor() as cursor:
            for change in (lambda: cursor.adbc_ingest("new", pa.table({"a": [1]})),
                           lambda: cursor.executemany("INSERT INTO gold.x VALUES ($1)", [(1,), (2,)])):
                try:
                    change()
                    raise AssertionError("it was not refused")
                except flightsql.Error as error:
                    same("read" in str(error), True, f"{error}")


def load_more(args):
    subprocess.run([args.assay, "load", args.more.pop(0), "--lake", args.lake, "--quiet"], check=True, capture_output=True)


NEWEST = "SELECT max(epoch), count(*) FROM ops.epochs"


def epochs(args):
    with connect(args) as client, connect(args, autocommit=False) as other:
        first = rows(client, NEWEST)
        count = rows(client, "SELECT count(*) FROM silver.transactions")
        with other.cursor() as cursor:
            cursor.execute(NEWEST)
            same([tuple(row) for row in cursor.fetchall()], first, "the newest epoch")
            with client.cursor() as waiting:
                # Planned before the epoch comes, fetched after it.
                waiting.execute("SELECT count(*) FROM silver.transactions")
                load_more(args)
                same(waiting.fetchall(), count, "a ticket keeps its epoch")
            later = rows(client, NEWEST)
            assert later[0][0] > first[0][0], (later, first)
            cursor.execute(NEWEST)
            same([tuple(row) for row in cursor.fetchall()], first, "a transaction keeps its epoch")
            cursor.execute("SELECT count(*) FROM silver.transactions")
            same(cursor.fetchall(), count, "in all tables")
            other.commit()
            cursor.execute(NEWEST)
            same([tuple(row) for row in cursor.fetchall()], later, "after the transaction")
            other.rollback()
        same(rows(client, f"SELECT count(*) FROM silver.transactions AS OF EPOCH {first[0][0]}"), count, "AS OF EPOCH")


SLOW = "SELECT count(*) FROM silver.transactions a, silver.transactions b, silver.transactions c WHERE a.amount + b.amount > c.amount"


def stopping(args):
    with connect(args) as client:
        with client.cursor() as cursor:
            timer = threading.Timer(1, cursor.adbc_cancel)
            timer.start()
            began = time.monotonic()
            try:
                cursor.execute(SLOW)
                cursor.fetchall()
                raise AssertionError("it was not cancelled")
            except (flightsql.Error, adbc_driver_manager.Error) as error:
                same("ancel" in str(error), True, f"cancelled: {error}")
            same(time.monotonic() - began < 10, True, "cancelled in time")
            timer.join()
        began = time.monotonic()
        same(rows(client, "SELECT 1"), [(1,)], "after it")
        assert time.monotonic() - began < 10, "what was cancelled still computes"
        cursor = client.cursor()
        cursor.execute("SELECT * FROM generate_series(1, 100000000)")
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        # Who leaves in the middle keeps nobody waiting.
        cursor.close()
        same(rows(client, "SELECT 2"), [(2,)], "after one that was left")


def loads(args):
    """Many clients at once, while epochs come; nothing fails, and nobody sees half an epoch."""
    failures, done = [], threading.Event()

    def each():
        try:
            with connect(args) as client:
                while not done.is_set():
                    found = rows(client, "SELECT (SELECT sum(silver_rows) FROM ops.epochs) AS a, (SELECT count(*) FROM silver.transactions) AS b,"
                                         " (SELECT count(*) FROM gold.fraud_scores) AS c")[0]
                    assert len(set(found)) == 1, found
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            failures.append(repr(error))

    threads = [threading.Thread(target=each) for _ in range(6)]
    for thread in threads:
        thread.start()
    while args.more:
        load_more(args)
    time.sleep(1)
    done.set()
    for thread in threads:
        thread.join()
    same(failures, [], "six clients")


def encrypted(args, user, password):
    certificate = open(args.certificate, encoding="ascii").read()
    option = adbc_driver_flightsql.DatabaseOptions.TLS_ROOT_CERTS.value
    options = {"username": user, "password": password, option: certificate}
    return flightsql.connect(f"grpc+tls://localhost:{args.flight}", db_kwargs=options, autocommit=True)


def passwords(args):
    with encrypted(args, "ana", "kept secret") as client:
        same(rows(client, "SELECT current_user"), [("ana",)], "who asks")
    for user, password in [("ana", "wrong"), ("nobody", "kept secret"), ("ana", "")]:
        try:
            encrypted(args, user, password).close()
            raise AssertionError(f"{user} was let in")
        except flightsql.Error as error:
            same("password authentication failed" in str(error) or "UNAUTHENTICATED" in str(error).upper(), True, f"{error}")
    for uri, options in [
        (f"grpc+tls://localhost:{args.flight}", {}),
        (f"grpc://127.0.0.1:{args.flight}", {"username": "ana", "password": "kept secret"}),
    ]:
        options |= {"adbc.flight.sql.rpc.timeout_seconds.query": "5", "adbc.flight.sql.rpc.timeout_seconds.fetch": "5"}
        try:
            with flightsql.connect(uri, db_kwargs=options, autocommit=True) as client:
                rows(client, "SELECT 1")
            raise AssertionError(f"{uri} {sorted(options)} was let in")
        except flightsql.Error as error:
            same(bool(str(error)), True, uri)


def grants(args):
    with encrypted(args, "ana", "kept secret") as client:
        found = set(listed(client))
        assert "silver.transactions" in found and "gold.fraud_scores" in found, found
        same([name for name in found if not name.startswith("gold.") and name != "silver.transactions"], [], "what is listed")
        for table in ("ops.epochs", "bronze.transactions"):
            refused(client, f"SELECT count(*) FROM {table}", flightsql.Error, f"permission denied for table {table}")
        same(rows(client, "SELECT DISTINCT country FROM silver.transactions"), [("Germany",)], "a condition on rows")
        same(rows(client, "SELECT count(*) FROM silver.transactions"), [(args.germany,)], "all rows of a role")
    with encrypted(args, "bob", "another") as client:
        same(rows(client, "SELECT count(DISTINCT country) > 1 FROM silver.transactions"), [(True,)], "bob sees all")


def limits(args):
    with encrypted(args, "bob", "another") as client:
        refused(client, "SELECT * FROM generate_series(1, 100001)", flightsql.Error, "more than 100000 rows")
        same(ask(client, "SELECT * FROM generate_series(1, 100000)").num_rows, 100_000, "as many as there may be")
        refused(client, SLOW, flightsql.Error, "statement timeout")


def bulk(args):
    query = "SELECT * FROM silver.transactions"

    def best(way, times):
        found = []
        for _ in range(times):
            began = time.monotonic()
            count = way()
            found.append((count / (time.monotonic() - began), count))
        return max(found)

    def by_flight():
        with connect(args) as client:
            table = ask(client, query)
            return table.num_rows

    def by_rows():
        with psql(args) as client:
            return len(client.execute(query).fetchall())

    def by_text():
        # As libpq has it, before any value is read.
        with psql(args) as client:
            return client.pgconn.exec_(query.encode()).ntuples

    (arrow, count), (text, texts), (row, found) = best(by_flight, 3), best(by_text, 2), best(by_rows, 1)
    same((count, count), (texts, found), "rows of both protocols")
    with connect(args) as client, psql(args) as other:
        total = pc.sum(ask(client, query)["amount"]).as_py()
        same(total, other.execute("SELECT sum(amount) FROM silver.transactions").fetchone()[0], "the sum of what came")
    print(json.dumps({"rows": count, "flight_rows_per_s": round(arrow), "text_rows_per_s": round(row),
                      "text_unread_rows_per_s": round(text), "times": round(arrow / row, 1), "times_unread": round(arrow / text, 1)}))


if __name__ == "__main__":
    main()
