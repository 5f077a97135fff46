"""Checks the spans that a receiver kept (otlp.py) against the ledger of the lake and against the answers of a server.

The ids of epochs are computed here once more, from the key in the lake's `_assay/lake.json`; clients send the headers that
OpenTelemetry's own SDK makes.
"""

import argparse
import collections
import json
import struct
import time
import urllib.error
import urllib.request

import blake3
from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

STAGES = {"fetch", "decode", "silver", "scores", "windows", "encode", "store"}
COMMITS = {"bronze.transactions", "silver.transactions", "gold.fraud_scores", "gold.merchant_activity", "ops.epochs"}
COUNTS = ["dead_letters", "silver_rows", "duplicates", "quarantined", "late_rows", "restated_rows", "bronze_rows", "messages"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["epochs", "rebuilt", "requests"])
    parser.add_argument("--spans", required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--ledger", help="ops.epochs as JSON lines")
    parser.add_argument("--url")
    parser.add_argument("--body")
    args = parser.parse_args()
    {"epochs": epochs, "rebuilt": rebuilt, "requests": requests}[args.what](args)


def ids(lake):
    key = json.load(open(f"{lake}/_assay/lake.json"))["key"]

    def of_epoch(epoch):
        data = struct.pack("<QQq", *key, epoch)
        digest = blake3.blake3(data, derive_key_context="assay 2026-11 trace of an epoch").hexdigest(24)
        return digest[:32], digest[32:]

    return of_epoch


def read(path):
    # The receiver may be in the middle of a line.
    spans = [json.loads(line) for line in open(path) if line.endswith("\n")]
    seen = collections.Counter((span["trace"], span["span"]) for span in spans)
    assert max(seen.values(), default=1) == 1, "a span was told twice"
    for span in spans:
        assert span["resource"]["service.name"] and span["resource"]["service.version"], span
        assert span["began"] <= span["ended"], span
    return spans


def tree(spans, trace, root):
    """The root of a trace and its children, each within its parent."""
    own = [span for span in spans if span["trace"] == trace]
    by_id = {span["span"]: span for span in own}
    assert root in by_id, f"trace {trace} has no span {root}: {[span['name'] for span in own]}"
    for span in own:
        parent = by_id.get(span["parent"])
        if span["span"] == root:
            continue
        assert parent, f"{span['name']} has no parent in its trace"
        assert parent["began"] <= span["began"] and span["ended"] <= parent["ended"], (span, parent)
    return by_id[root], [span for span in own if span["span"] != root]


def ledger(args):
    return [json.loads(line) for line in open(args.ledger)]


def epochs(args):
    spans, of_epoch, records = read(args.spans), ids(args.lake), ledger(args)
    streamed = [record for record in records if record["kind"] == "stream"]
    assert streamed, "no epoch was written"
    roots = [span for span in spans if span["name"] == "epoch"]
    assert len(roots) == len(records), f"{len(roots)} roots for {len(records)} epochs"
    for record in streamed:
        root, children = tree(spans, *of_epoch(record["epoch"]))
        assert root["parent"] == "" and root["status"] == 0 and root["kind"] == "SPAN_KIND_INTERNAL", root
        told = root["attributes"]
        assert told["assay.epoch"] == record["epoch"]
        for count in COUNTS:
            assert told[f"assay.{count}"] == record[count], (count, told, record)
        names = [child["name"] for child in children]
        assert len(names) == len(set(names)), names
        assert STAGES <= set(names), STAGES - set(names)
        assert {f"commit {table}" for table in COMMITS} <= set(names), names
        commits = {child["attributes"]["db.collection.name"]: child["attributes"] for child in children if child["name"].startswith("commit ")}
        for table in record["tables"]:
            if table["table"] in commits:
                assert commits[table["table"]]["assay.table.version"] == table["version"], (table, commits)
                assert commits[table["table"]]["assay.rows_added"] == table["rows_added"], (table, commits)
        busy = {child["name"]: child["attributes"]["assay.busy_us"] for child in children}
        for stage in record["stages"]:
            if stage["stage"] in busy:
                assert busy[stage["stage"]] == stage["micros"], (stage, busy)
        fetch = next(child for child in children if child["name"] == "fetch")
        assert fetch["kind"] == "SPAN_KIND_CONSUMER" and fetch["attributes"]["messaging.system"] == "kafka", fetch
        assert fetch["attributes"]["messaging.batch.message_count"] == record["messages"]
        read_of = {
            (event["messaging.destination.name"], int(event["messaging.destination.partition.id"])): (event["assay.offset.first"], event["assay.offset.next"])
            for event in root["events"]
            if event["name"] == "read"
        }
        offsets = {(place["topic"], place["partition"]): (place["first_offset"], place["next_offset"]) for place in record["offsets"]}
        assert read_of == offsets, (read_of, offsets)
    roots_of = {of_epoch(record["epoch"]) for record in records}
    for span in spans:
        if span["name"] in ("compaction", "restatement"):
            assert {(link["trace"], link["span"]) for link in span["links"]} <= roots_of and span["links"], span
    beside = sum(span["name"] in ("compaction", "restatement") for span in spans)
    print(f"{len(streamed)} epochs, {len(spans)} spans, {beside} rewrites beside them")


def rebuilt(args):
    spans, of_epoch, records = read(args.spans), ids(args.lake), ledger(args)
    last = records[-1]
    assert last["kind"] == "rebuild", last
    root, children = tree(spans, *of_epoch(last["epoch"]))
    assert root["attributes"]["assay.epoch.kind"] == "rebuild"
    assert {"recompute", "commit ops.epochs", "commit gold.merchant_activity"} <= {child["name"] for child in children}
    print(f"the rebuild is epoch {last['epoch']}, with {len(children)} spans")


def ask(args, path, body, sampler, state=None):
    """The status, the answer, and the span of the client, whose headers OpenTelemetry makes."""
    headers = {"Content-Type": "application/json"}
    client = None
    if sampler is not None:
        tracer = TracerProvider(sampler=sampler).get_tracer("shop")
        with tracer.start_as_current_span("checkout") as span:
            propagate.inject(headers)
            client = span.get_span_context()
        assert "traceparent" in headers, headers
        if state:
            headers["tracestate"] = state
    data = body.encode() if body is not None else None
    request = urllib.request.Request(args.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), client
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), client


def requests(args):
    of_epoch = ids(args.lake)
    status, told, client = ask(args, "/predict", args.body, ALWAYS_ON, "shop=1")
    assert status == 200, told
    epoch = told["features"]["epoch"]
    batch = "[" + ",".join([args.body] * 3) + "]"
    cases = {
        "/predict": (client, status),
        "/predict/batch": swap(ask(args, "/predict/batch", batch, ALWAYS_ON)),
        "/models": swap(ask(args, "/models", None, ALWAYS_ON)),
        "/nowhere": swap(ask(args, "/nowhere", None, ALWAYS_ON)),
        "/console/flow": swap(ask(args, "/console/flow", None, ALWAYS_ON)),
        "/console/rejects": swap(ask(args, "/console/rejects", None, ALWAYS_ON)),
    }
    refused = ask(args, "/predict", '{"transaction_id":"x"}', ALWAYS_ON)
    unsampled = ask(args, "/predict", args.body, ALWAYS_OFF)
    alone = ask(args, "/score", '{"context":' + args.body + "}", None)
    assert (refused[0], unsampled[0], alone[0]) == (422, 200, 200), (refused, unsampled, alone)
    for path in ("/metrics", "/health"):
        urllib.request.urlopen(args.url + path, timeout=30).read()
    spans = wait_for(args, lambda spans: any(span["attributes"].get("url.path") == "/score" for span in spans))
    servers = [span for span in spans if span["kind"] == "SPAN_KIND_SERVER"]
    for path, (client, status) in cases.items():
        own = [span for span in servers if span["trace"] == f"{client.trace_id:032x}"]
        assert len(own) == 1, f"{path}: {len(own)} spans of the server in the client's trace"
        span = own[0]
        attributes = span["attributes"]
        assert span["parent"] == f"{client.span_id:016x}", span
        assert attributes["url.path"] == path and attributes["http.response.status_code"] == status, span
        assert attributes.get("http.route") == (path if status != 404 else None), span
        method = attributes["http.request.method"]
        assert span["name"] == (f"{method} {path}" if status != 404 else method), span
        assert span["flags"] & 0x300 == 0x300, "the parent is remote"
        links = [(link["trace"], link["span"]) for link in span["links"]]
        if path in ("/predict", "/predict/batch", "/console/rejects"):
            assert links == [of_epoch(epoch)], f"{path}: {links}, not the trace of epoch {epoch}"
        names = {child["name"] for child in spans if child["parent"] == span["span"]}
        if path.startswith("/predict"):
            assert {"read body", "parse", "refine", "rules", "model"} <= names, (path, names)
            assert span["kind"] == "SPAN_KIND_SERVER"
        tree(spans, span["trace"], span["span"]) if names else None
    (client, _) = cases["/predict"]
    told = next(span for span in servers if span["trace"] == f"{client.trace_id:032x}")
    assert told["state"] == "shop=1", told
    (span,) = [span for span in servers if span["trace"] == f"{refused[2].trace_id:032x}"]
    assert span["attributes"]["http.response.status_code"] == 422 and span["status"] == 0, span
    assert not [span for span in spans if span["trace"] == f"{unsampled[2].trace_id:032x}"], "a client that records nothing"
    (span,) = [span for span in servers if span["attributes"]["url.path"] == "/score"]
    assert span["parent"] == "" and len(span["trace"]) == 32, span
    assert not [span for span in servers if span["attributes"]["url.path"] in ("/metrics", "/health", "/ready")]
    print(f"{len(servers)} requests, linked to epoch {epoch}")


def swap(asked):
    status, _, client = asked
    return client, status


def wait_for(args, done):
    deadline = time.monotonic() + 30
    while True:
        try:
            spans = read(args.spans)
        except FileNotFoundError:
            spans = []
        if done(spans):
            return spans
        assert time.monotonic() < deadline, f"not told within 30 s: {collections.Counter(span['name'] for span in spans)}"
        time.sleep(0.2)


if __name__ == "__main__":
    main()
