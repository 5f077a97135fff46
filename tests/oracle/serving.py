"""Asks a running `assay serve` over kept-alive connections, and compares what it says.

No request may fail. A transaction of the lake that is asked about again must get the rule points that the lake holds for
it, but for the velocity, which depends on when one asks; the model's probability must be that of the batch routes, JSON
and Arrow, to the last bit while one version answers.
"""

import argparse
import collections
import http.client
import json
import threading
import time
import urllib.parse

import pyarrow as pa
from deltalake import DeltaTable

from leaving import leave

COLUMNS = ["transaction_id", "user_id", "amount", "merchant", "timestamp", "payment_method", "location", "device_id", "merchant_id"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--threads", type=int, default=4)
    args = parser.parse_args()
    sent = transactions(args.lake, 400)
    expected = points(args.lake, [row["transaction_id"] for row in sent])
    counts, failures = collections.Counter(), []
    deadline = time.monotonic() + args.seconds
    threads = [
        threading.Thread(target=ask, args=(args, sent[number :: args.threads], expected, deadline, counts, failures))
        for number in range(args.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    assert len([version for version in counts if version.startswith("2")]) >= 2, f"one version answered: {counts}"
    compare_routes(args, sent)
    print(f"{counts['asked']} requests, none failed; by version {dict(counts)}")


def connect(url):
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


def post(connection, path, key, body, kind="application/json"):
    connection.request("POST", path, body, {"content-type": kind, "x-api-key": key})
    answer = connection.getresponse()
    return answer.status, answer.read()


def ask(args, sent, expected, deadline, counts, failures):
    connection = connect(args.url)
    while time.monotonic() < deadline and not failures:
        for row in sent:
            try:
                status, body = post(connection, "/predict", args.key, json.dumps(row))
            except OSError as error:
                failures.append(repr(error))
                return
            counts["asked"] += 1
            if status != 200:
                failures.append((status, body))
                return
            told = json.loads(body)
            counts[told["model"]["version"]] += 1
            score = told["rules"]["score"] - 25 * ("more than 5 transactions in 30 minutes" in told["rules"]["reasons"])
            if score != expected[row["transaction_id"]]:
                failures.append((row, told, expected[row["transaction_id"]]))
            if time.monotonic() >= deadline:
                return


def compare_routes(args, sent):
    """The versions may move between two requests, so all routes are asked until one version has answered."""
    connection = connect(args.url)
    entities = ("user_id", "merchant", "device_id")
    questions = [
        {
            "entity": {name: value for name, value in row.items() if name in entities},
            "context": {name: value for name, value in row.items() if name not in entities},
        }
        for row in sent[:50]
    ]
    for _ in range(20):
        asked = [json.loads(post(connection, "/score", args.key, json.dumps(question))[1]) for question in questions]
        singles = [json.loads(post(connection, "/predict", args.key, json.dumps(row))[1]) for row in sent[:50]]
        status, body = post(connection, "/predict/batch", args.key, json.dumps(sent[:50]))
        assert status == 200, body
        batch = json.loads(body)
        if {told["model"]["version"] for told in singles + asked} == {batch["model"]["version"]}:
            break
    one = [told["fraud_probability"] for told in singles]
    assert one == [told["fraud_probability"] for told in batch["results"]]
    assert one == [told["fraud_probability"] for told in asked]
    for told, row in zip(asked, sent):
        assert abs(told["inputs"]["amount"] - row["amount"]) < 1e-3, (told, row)
    kinds = {"user_id": pa.int32(), "amount": pa.float64()}
    table = pa.table({name: pa.array([row[name] for row in sent[:50]], kinds.get(name, pa.string())) for name in COLUMNS})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    kind = "application/vnd.apache.arrow.stream"
    status, body = post(connection, "/predict/batch", args.key, sink.getvalue().to_pybytes(), kind)
    assert status == 200, body
    told = pa.ipc.open_stream(body).read_all()
    assert told.column("fraud_probability").to_pylist() == one
    assert told.column("transaction_id").to_pylist() == [row["transaction_id"] for row in sent[:50]]


def transactions(lake, count):
    """The newest transactions as they were sent, without the sender's flag."""
    silver = DeltaTable(f"{lake}/silver/transactions").to_pyarrow_table(columns=["transaction_id", "event_at"])
    newest = silver.sort_by([("event_at", "descending")]).slice(0, count).column("transaction_id").to_pylist()
    wanted = set(newest)
    bronze = DeltaTable(f"{lake}/bronze/transactions").to_pyarrow_table(columns=COLUMNS)
    rows = {row["transaction_id"]: row for row in bronze.to_pylist() if row["transaction_id"] in wanted}
    return list(rows.values())


def points(lake, ids):
    columns = ["transaction_id", "score", "known_fraud_points", "velocity_points"]
    scores = DeltaTable(f"{lake}/gold/fraud_scores").to_pyarrow_table(columns=columns)
    wanted = set(ids)
    return {
        row["transaction_id"]: row["score"] - row["known_fraud_points"] - row["velocity_points"]
        for row in scores.to_pylist()
        if row["transaction_id"] in wanted
    }


if __name__ == "__main__":
    leave(main())
