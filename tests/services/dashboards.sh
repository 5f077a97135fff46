#!/usr/bin/env bash
# Dashboards and alerts against what there is: a real Kafka, `assay run` and `assay serve` with a trained model, a real
# Prometheus with the shipped configuration and rules, a real node exporter. Every query runs, every metric, label and
# value in it exists; SQL gives rows; Grafana's own types accept the JSON; alerts notice what is then broken.
# Kafka's exporter is in no package, so its three metrics are known by their documentation only.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
RATE="${RATE:-1000}"
GRAFANA="$ROOT/grafana"

PYTHON="$("$SERVICES_DIR/python" dashboards)" || exit $?
PROMETHEUS="$("$SERVICES_DIR/prometheus")" || exit $?
TYPES="$("$SERVICES_DIR/grafana-types")" || exit $?
need curl curl
need psql postgresql-client
check() { "$PYTHON" "$ORACLE/dashboards.py" "$@"; }

say "what can be seen in the files"
"$PYTHON" "$GRAFANA/build.py" --check
check structure "$GRAFANA"
"$PYTHON" "$ORACLE/grafana_types.py" "$TYPES" "$GRAFANA"/dashboards/*.json
"$PROMETHEUS/promtool" check config "$GRAFANA/prometheus/prometheus.yml"
"$PROMETHEUS/promtool" test rules "$GRAFANA"/prometheus/rules*_test.yml

say "a stream into a lake"
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 6
RUN_PORT="$(free_port)" SQL_PORT="$(free_port)" SERVE_PORT="$(free_port)" NODE_PORT="$(free_port)" PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
background run "$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE" --http "127.0.0.1:$RUN_PORT" \
  --postgres "127.0.0.1:$SQL_PORT"
mkdir "$WORK/node"
background node "$PROMETHEUS/prometheus-node-exporter" --collector.textfile.directory="$WORK/node" --web.listen-address="127.0.0.1:$NODE_PORT"
mkdir "$WORK/prometheus"
check configure "$GRAFANA" "$WORK/prometheus" "assay-run=127.0.0.1:$RUN_PORT" "assay-serve=127.0.0.1:$SERVE_PORT" \
  "node=127.0.0.1:$NODE_PORT" "prometheus=127.0.0.1:$PORT"
background prometheus "$PROMETHEUS/prometheus" --config.file="$WORK/prometheus/prometheus.yml" \
  --storage.tsdb.path="$WORK/prometheus/data" --web.listen-address="127.0.0.1:$PORT" --log.level=warn
background generate "$ASSAY" generate --brokers "$BROKERS" --topic "$TOPIC" --events 10000000 --rate "$RATE" --seed "$SEED" \
  --users 2000 --late 0.02 --live
GENERATE=$CHILD

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local deadline=$((SECONDS + $1)) what="$2"
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { log_end run && die "$what in vain"; }
    sleep 0.3
  done
}
wait_for 20 "waited for Prometheus" curl -sf "$URL/-/ready"

say "one commit fails and is tried again"
wait_for 60 "waited for an epoch" grep -q . "$LAKE/ops/epochs/_delta_log/00000000000000000002.json"
LOG="$LAKE/gold/country_activity/_delta_log"
mv "$LOG" "$LOG.away" && touch "$LOG"
failed() { curl -s "http://127.0.0.1:$RUN_PORT/metrics" | grep -q '^assay_commit_failures_total'; }
wait_for 30 "waited for a commit that fails" failed
rm "$LOG" && mv "$LOG.away" "$LOG"
check firing "$URL" 20 AssayCommitsRetried

say "a model, and a service that answers with it"
# Sparse in time, so that the span is longer than labels take to arrive. How good the model is does not matter here.
export ASSAY_MODEL_FOLDER="$WORK/models" ASSAY_TRAIN_FAMILIES='["logistic"]'
export ASSAY_TRAIN_PRECISION_MIN=0.01 ASSAY_TRAIN_RECALL_MIN=0.01 ASSAY_TRAIN_F1_MIN=0.01 ASSAY_TRAIN_LABELS_MIN=20
assay demo --events 20000 --event-rate 0.01 --users 2000 --seed 7 --lake "$WORK/days" --json >"$WORK/demo.log" 2>&1 ||
  { log_end demo && die "demo failed"; }
assay train --lake "$WORK/days" --label-delay 24 --json >"$WORK/train.log" 2>&1 || { log_end train && die "train failed"; }
# Exit code 3: something drifted, and that is a finding.
assay drift --lake "$WORK/days" --label-delay 24 --metrics-file "$WORK/node/assay.prom" --json >"$WORK/drift.log" 2>&1 ||
  [ $? -eq 3 ] || { log_end drift && die "drift failed"; }
background serve "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$SERVE_PORT"
SERVE=$CHILD

wait_for 60 "waited for assay serve" curl -sf "http://127.0.0.1:$SERVE_PORT/ready"

# post PATH BODY...: a request each, whatever the answer.
post() {
  local path="$1" body
  shift
  for body in "$@"; do
    curl -s -o "$WORK/answer" "http://127.0.0.1:$SERVE_PORT$path" -H "content-type: application/json" -d "$body"
  done
}
ask() {
  local now good old bad
  now="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  good='{"transaction_id":"c-1","user_id":7,"amount":12.5,"merchant":"Shop","timestamp":"'"$now"'","payment_method":"paypal","location":"Lyon, France","device_id":"d"}'
  bad="${good/12.5/-1}" old="${good/$now/2020-01-01T00:00:00Z}"
  while sleep 0.2; do
    post /predict "$good" "${good/12.5/9000}" "$old" "$bad" '{"transaction_id":"c-1"}'
    post /predict/batch "[$good,$bad]"
  done
}
ask &
CHILDREN+=("$!")

# A right and a wrong question, over PostgreSQL's protocol and by the console's prompt.
question() {
  local sql
  while sleep 1; do
    for sql in "SELECT count(*) FROM ops.epochs" "SELECT nonsense FROM ops.epochs"; do
      PGCONNECT_TIMEOUT=5 psql -X -q -At -h 127.0.0.1 -p "$SQL_PORT" -U assay -d assay -c "$sql"
      curl -s "http://127.0.0.1:$RUN_PORT/console/sql" -H "content-type: application/json" -H "x-assay-console: 1" -d "{\"sql\": \"$sql\"}"
    done
  done >"$WORK/question.log" 2>&1
}
question &
CHILDREN+=("$!")

# Receipts are kept every five seconds, and a rate wants two scrapes.
scored() { curl -sf "$URL/api/v1/query" --data-urlencode 'query=rate(assay_receipts_total[1m])' | grep -q '"value"'; }
wait_for 60 "waited for the first receipts" scored

say "each query against the live metrics"
check live "$GRAFANA" "$ROOT/README.md" "$URL"
kill -s TERM "$GENERATE"
say "each SQL query on the lake"
check sql "$GRAFANA" "$ASSAY" "$LAKE"

say "what is broken is noticed"
check firing "$URL" 20 AssayDeadLetterShareHigh AssayQuarantineShareHigh AssayPredictionsRefused
kill -s TERM "$SERVE"
"$SERVICES_DIR/kafka" kill "$WORK/kafka"
check firing "$URL" 30 AssayTargetDown AssaySourceDisconnected
for pid in "${CHILDREN[@]}"; do
  kill -s TERM "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
done
say "dashboards and alerts: all held"
