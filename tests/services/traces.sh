#!/usr/bin/env bash
# Traces: a receiver that decodes with OpenTelemetry's own classes gets one trace of each epoch, whose figures are those of
# the ledger, and one of each request, in the trace of the client's SDK and linked to the epoch that it was answered from. A
# receiver that is gone changes nothing but a counter.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-20000}"

PYTHON="$("$SERVICES_DIR/python" traces)" || exit $?
need curl curl
SPANS="$WORK/spans.jsonl"
RECEIVER_PORT="$(free_port)"
background receiver "$PYTHON" "$ORACLE/otlp.py" --port "$RECEIVER_PORT" --out "$SPANS" --token "Bearer open sesame"
RECEIVER=$CHILD
for _ in $(seq 100); do
  ! listening "$RECEIVER_PORT" || break
  sleep 0.1
done
oracle() { "$PYTHON" "$ORACLE/traces.py" "$1" --spans "$SPANS" --lake "$LAKE" "${@:2}" || die "$1: the traces are wrong"; }
# counted PATTERN: whether a line of the metrics is so.
counted() { curl -s "$URL/metrics" >"$WORK/metrics" && grep -q "$1" "$WORK/metrics"; }
ledger() { assay sql --lake "$LAKE" --format json "SELECT * FROM ops.epochs ORDER BY epoch" >"$WORK/ledger.jsonl" 2>/dev/null; }

say "one trace of each epoch"
printf 'authorization=Bearer%%20open%%20sesame\n' >"$WORK/headers"
export ASSAY_TRACES_HEADERS_FILE="$WORK/headers" ASSAY_LOG_FILTER=info ASSAY_LOG_FORMAT=json
ASSAY_TRACES_ENDPOINT="http://127.0.0.1:$RECEIVER_PORT" ASSAY_EPOCH_MESSAGES_MAX=2000 ASSAY_KAFKA_BATCH_MESSAGES=1000 ASSAY_MAINTENANCE_FAN_IN=2 \
  assay demo --events "$EVENTS" --seed 7 --lake "$LAKE" --quiet >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
ledger
oracle epochs --ledger "$WORK/ledger.jsonl"
python3 - "$WORK/demo.log" "$SPANS" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
published = [line for line in lines if line["message"] == "epoch published"]
roots = {span["attributes"]["assay.epoch"]: span for span in map(json.loads, open(sys.argv[2])) if span["name"] == "epoch"}
assert published and all(line["trace_id"] == roots[line["epoch"]]["trace"] for line in published), "the log names other traces"
PY

say "a rebuild is an epoch too"
ASSAY_TRACES_ENDPOINT="http://127.0.0.1:$RECEIVER_PORT" assay rebuild gold --lake "$LAKE" >"$WORK/rebuild.log" 2>&1 ||
  { log_end rebuild && die "rebuild failed"; }
ledger
oracle rebuilt --ledger "$WORK/ledger.jsonl"

say "one trace of each request, by OpenTelemetry's own variables"
: >"$SPANS"
unset ASSAY_TRACES_HEADERS_FILE
export OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$RECEIVER_PORT" OTEL_SERVICE_NAME=shop-assay
export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20open%20sesame" ASSAY_TRACES_INTERVAL_MS=100
PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
background serve "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$PORT"
SERVER=$CHILD
NEWEST="$(ledger && python3 -c 'import json, sys; print([json.loads(line)["epoch"] for line in open(sys.argv[1])][-1])' "$WORK/ledger.jsonl")"
for _ in $(seq 900); do
  # Ready but for a model: the rules answer, with what the lake knows.
  ! counted "^assay_features_epoch $NEWEST\$" || break
  kill -0 "$SERVER" 2>/dev/null || { log_end serve && die "serve ended"; }
  sleep 0.2
done
NEWEST_AT="$(assay sql --lake "$LAKE" --format csv "SELECT max(event_at) AS newest FROM silver.transactions" 2>/dev/null | tail -n 1)"
BODY='{"transaction_id":"c-1","user_id":7,"amount":12.5,"merchant":"Shop","timestamp":"'"$NEWEST_AT"'","payment_method":"paypal","location":"Lyon, France","device_id":"d"}'
oracle requests --url "$URL" --body "$BODY"
grep -q '"service.name": "shop-assay"' "$SPANS" || die "the service has another name"
counted '^assay_trace_spans_total{outcome="sent"} [1-9]' || die "spans are not counted"

say "a receiver that is gone loses spans and nothing else"
kill -s KILL "$RECEIVER"
for n in $(seq 50); do
  [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/predict" -H 'content-type: application/json' -d "$BODY")" = 200 ] || die "request $n failed"
done
for _ in $(seq 100); do
  ! counted '^assay_trace_spans_total{outcome="lost"} [1-9]' || break
  sleep 0.2
done
counted '^assay_trace_spans_total{outcome="lost"} [1-9]' || die "lost spans are not counted"
[ "$(grep -c 'traces are not taken' "$WORK/serve.log")" -eq 1 ] || { log_end serve && die "it is not said once"; }
kill -s TERM "$SERVER"
finish "$SERVER" 20 serve
LAKE="$WORK/second"
assay demo --events "$EVENTS" --seed 7 --lake "$LAKE" --json >"$WORK/second.json" 2>"$WORK/second.log" || { log_end second && die "demo failed"; }
assay verify --lake "$LAKE" >"$WORK/verify.log" 2>&1 || { log_end verify && die "the lake is not whole"; }

say "an address that cannot be used stops the start"
status=0
ASSAY_TRACES_ENDPOINT=collector:4318 assay verify --lake "$LAKE" >"$WORK/wrong.log" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -q "ASSAY_TRACES_ENDPOINT: traces.endpoint" "$WORK/wrong.log" || die "ended with $status: $(cat "$WORK/wrong.log")"
say "traces: all held"
