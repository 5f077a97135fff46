#!/usr/bin/env bash
# Serving: a model trained from a lake answers curl and a Python client that keeps asking while models are promoted and
# rolled back (no request fails); limits, keys, and what is documented hold; a signal lets requests under way finish. A
# challenger answers its share of users over TLS and in the shadow, requests name versions, a slow challenger is taken out.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-60000}"

PYTHON="$("$SERVICES_DIR/python" serving)" || exit $?
need curl curl
need openssl openssl
export ASSAY_FEATURES_LABEL_DELAY_HOURS=24
# Sparse in time, so that the span is longer than labels take to arrive.
assay demo --events "$EVENTS" --event-rate 0.02 --users 2000 --seed 7 --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 ||
  { log_end demo && die "demo failed"; }
MODELS="$WORK/models"
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0.1 ASSAY_TRAIN_RECALL_MIN=0.1 ASSAY_TRAIN_F1_MIN=0.1
export ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_MODEL_FOLDER="$MODELS"
# One learns from the rows as they are, the other from the features of user, merchant and device too.
for set in fraud fraud_features; do
  assay train --lake "$LAKE" --set "$set" --label-delay 24 --json >"$WORK/train.$set.log" 2>&1 ||
    { log_end "train.$set" && die "train failed"; }
  sleep 1.1
done
mapfile -t VERSIONS < <(assay models --json 2>/dev/null | python3 -c 'import json, sys
for line in json.load(sys.stdin): print(line["version"])')
[ "${#VERSIONS[@]}" -eq 2 ] || die "expected two versions: ${VERSIONS[*]}"

export ASSAY_SCORING_RECEIPTS_EVERY_MS=500
export ASSAY_LOG_FILTER=info ASSAY_SERVE_API_KEY=open-sesame ASSAY_SCORING_HORIZON_S=60000
PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
SOCKET="$WORK/http.sock"
# As a server that was killed leaves it.
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$SOCKET"
# serve NAME: sets SERVER, and waits until it is ready.
serve() {
  local ready=""
  background "$1" "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$PORT" --socket "$SOCKET"
  SERVER=$CHILD
  for _ in $(seq 600); do
    ready="$(curl -s --cacert "$WORK/certificate.pem" -o /dev/null -w '%{http_code}' "$URL/ready" || true)"
    [ "$ready" != 200 ] || break
    kill -0 "$SERVER" 2>/dev/null || { log_end "$1" && die "serve ended"; }
    sleep 0.1
  done
  [ "$ready" = 200 ] || { log_end "$1" && die "serve is not ready"; }
}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE \
  -addext subjectAltName=DNS:localhost -keyout "$WORK/key.pem" -out "$WORK/certificate.pem" 2>/dev/null
serve serve

# status WANTED CURL-ARGUMENTS...
status() {
  local wanted="$1" got
  shift
  got="$(curl -s -o "$WORK/answer" -w '%{http_code}' "$@")"
  [ "$got" = "$wanted" ] || { cat "$WORK/answer" >&2 && die "$got instead of $wanted: $*"; }
}
NEWEST="$(assay sql --lake "$LAKE" --format csv "SELECT max(event_at) AS newest FROM silver.transactions" 2>/dev/null | tail -n 1)"
BODY='{"transaction_id":"c-1","user_id":7,"amount":12.5,"merchant":"Shop","timestamp":"'"$NEWEST"'","payment_method":"paypal","location":"Lyon, France","device_id":"d"}'
JSON="content-type: application/json"
KEY="x-api-key: open-sesame"
status 401 "$URL/predict" -H "$JSON" -d "$BODY"
status 200 "$URL/predict" -H "$JSON" -H "$KEY" -d "$BODY"
python3 -c 'import json, sys
told = json.load(open(sys.argv[1]))
assert told["degraded"] is False and told["model"] and 0 <= told["fraud_probability"] <= 1, told
assert told["features"]["epoch"] > 0, told' "$WORK/answer"
status 422 "$URL/predict" -H "$JSON" -H "$KEY" -d '{"transaction_id":"c-1"}'
grep -q '"field":"user_id"' "$WORK/answer" || die "the field is not named: $(cat "$WORK/answer")"
status 415 "$URL/predict" -H "content-type: text/csv" -H "$KEY" -d "$BODY"
status 405 "$URL/predict" -H "$KEY"
head -c 1100000 /dev/zero | tr '\0' x >"$WORK/large"
status 413 "$URL/predict" -H "$JSON" -H "$KEY" --data-binary "@$WORK/large"
status 200 "$URL/docs"

say "asking while models are promoted and rolled back"
"$PYTHON" "$ORACLE/serving.py" --url "$URL" --key open-sesame --seconds "${SECONDS_LOAD:-15}" --lake "$LAKE" \
  >"$WORK/client.log" 2>&1 &
CLIENT=$!
CHILDREN+=("$CLIENT")
for round in $(seq 6); do
  assay promote "fraud@${VERSIONS[$((round % 2))]}" >/dev/null
  sleep 1
  [ $((round % 3)) -ne 0 ] || { assay rollback fraud >/dev/null && sleep 1; }
done
finish "$CLIENT" 120 client
tail -n 3 "$WORK/client.log" >&2

say "driven by its own description"
# One worker: two that parse Python at once fail now and then in CPython 3.11 (python/cpython#106905).
(cd "$WORK" && timeout 240 "$(dirname "$PYTHON")/schemathesis" run "$URL/openapi.json" -H "X-Api-Key: open-sesame" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance \
  --max-examples 60 --seed 1 --workers 1) >"$WORK/schemathesis.log" 2>&1 || { log_end schemathesis && die "schemathesis found something"; }
tail -n 5 "$WORK/schemathesis.log" >&2
status 200 "$URL/metrics"
! grep -E 'assay_requests_total\{[^}]*status="5' "$WORK/answer" || die "answers with 5xx"

say "receipts: the decision comes out the same, by a version that need not be the champion"
assay promote "fraud@${VERSIONS[0]}" >/dev/null
sleep 1
BULK="$(python3 -c 'import json, sys
body = json.loads(sys.argv[1])
print(json.dumps([dict(body, transaction_id=f"b-{n}", user_id=n, amount=n * 137.31 + 0.07) for n in range(200)]))' "$BODY")"
status 200 "$URL/predict/batch" -H "$JSON" -H "$KEY" -d "$BULK"
cp "$WORK/answer" "$WORK/bulk"
assay promote "fraud@${VERSIONS[1]}" >/dev/null
sleep 2
for n in 0 117 199; do
  assay explain "b-$n" --lake "$LAKE" --json >"$WORK/explained" 2>/dev/null || { cat "$WORK/explained" >&2 && die "b-$n is not explained"; }
  python3 -c 'import json, sys
told, n = json.load(open(sys.argv[1])), int(sys.argv[3])
answer = json.load(open(sys.argv[2]))["results"][n]
assert told["same"] and told["checks"], told
for key in ("prediction_id", "fraud_probability", "decision", "threshold"): assert told[key] == answer[key], (key, told, answer)
assert told["sent"]["amount"] == n * 137.31 + 0.07, told' "$WORK/explained" "$WORK/bulk" "$n"
done
assay explain "b-117" --lake "$LAKE"
status=0
assay explain nobody --lake "$LAKE" >/dev/null 2>&1 || status=$?
[ "$status" -eq 2 ] || die "explain of nothing ended with $status"
status=0
ASSAY_FEATURES_LABEL_DELAY_HOURS=48 assay explain "b-117" --lake "$LAKE" >"$WORK/explained" 2>&1 || status=$?
[ "$status" -eq 3 ] && grep -q "DIFF" "$WORK/explained" || die "another delay of labels is another past, but: $(cat "$WORK/explained")"

say "a damaged champion is not taken"
cp -r "$MODELS" "$WORK/kept"
serving="$(curl -s "$URL/models" -H "$KEY" | python3 -c 'import json, sys; print(json.load(sys.stdin)["serving"]["version"])')"
other="${VERSIONS[0]}"
[ "$other" != "$serving" ] || other="${VERSIONS[1]}"
assay promote "fraud@$serving" >/dev/null
printf x >>"$MODELS/fraud/$other/model.json"
python3 - "$MODELS/fraud/aliases.json" "$other" <<'PY'
import json, sys
path, version = sys.argv[1:]
aliases = json.load(open(path))
aliases["aliases"]["champion"] = version
aliases["champions"].append({"version": version, "at_us": 1})
json.dump(aliases, open(path + ".new", "w"))
import os
os.replace(path + ".new", path)
PY
sleep 1.5
status 503 "$URL/ready"
status 200 "$URL/predict" -H "$JSON" -H "$KEY" -d "$BODY"
grep -q "\"version\":\"$serving\"" "$WORK/answer" || die "another model answers: $(cat "$WORK/answer")"
rm -rf "$MODELS" && mv "$WORK/kept" "$MODELS"

say "a socket answers as loopback does, and belongs to one server"
status 401 --unix-socket "$SOCKET" http://localhost/predict -H "$JSON" -d "$BODY"
status 200 --unix-socket "$SOCKET" http://localhost/predict -H "$JSON" -H "$KEY" -d "$BODY"
status=0
"$ASSAY" serve --lake "$LAKE" --http 127.0.0.1:0 --socket "$SOCKET" >"$WORK/second.log" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -qF "serve.socket (or --socket) $SOCKET: another process listens there" "$WORK/second.log" ||
  { log_end second && die "a second server on the socket ended with $status"; }
status 200 --unix-socket "$SOCKET" http://localhost/health
# One that has no place free is there too.
python3 - "$WORK/full.sock" <<'PY' &
import socket, sys, time
listener, clients = socket.socket(socket.AF_UNIX), []
listener.bind(sys.argv[1])
listener.listen(0)
try:
    while True:
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].setblocking(False)
        clients[-1].connect(sys.argv[1])
except BlockingIOError:
    open(sys.argv[1] + ".full", "w").close()
time.sleep(120)
PY
FULL=$!
CHILDREN+=("$FULL")
for _ in $(seq 100); do [ ! -e "$WORK/full.sock.full" ] || break; sleep 0.1; done
status=0
timeout 60 "$ASSAY" serve --lake "$LAKE" --http 127.0.0.1:0 --socket "$WORK/full.sock" >"$WORK/full.log" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -qF "another process listens there" "$WORK/full.log" ||
  { log_end full && die "a server on a socket without a free place ended with $status"; }
kill "$FULL"

say "without a key, only loopback is served"
status=0
env -u ASSAY_SERVE_API_KEY "$ASSAY" serve --lake "$LAKE" --http "0.0.0.0:$PORT" >"$WORK/open.log" 2>&1 || status=$?
[ "$status" -eq 2 ] || die "serve on 0.0.0.0 without a key ended with $status"
say "every decision has its receipt, or was counted as shed"
status 200 "$URL/metrics"
decided="$(awk '/^assay_predictions_total/ { n += $2 } END { print n }' "$WORK/answer")"
shed="$(awk '/^assay_receipts_total\{outcome="shed"\}/ { n += $2 } END { print n + 0 }' "$WORK/answer")"
kill -s TERM "$SERVER"
finish "$SERVER" 20 serve
[ ! -e "$SOCKET" ] || die "the socket outlives its server"
kept="$(PYTHONPATH="$ORACLE" "$PYTHON" -c 'import sys
from deltalake import DeltaTable
from leaving import leave
ids = DeltaTable(sys.argv[1] + "/gold/predictions").to_pyarrow_table(columns=["prediction_id"])["prediction_id"].to_pylist()
assert len(set(ids)) == len(ids), "an id stands twice"
print(len(ids))
leave(0)' "$LAKE")"
[ $((kept + shed)) -eq "$decided" ] && [ "$kept" -gt 1000 ] || die "$decided decisions, $kept receipts and $shed shed"
say "$decided decisions, $kept receipts, $shed shed"

say "a challenger for a share of the users and in the shadow, over TLS"
export ASSAY_SERVE_CERTIFICATE_FILE="$WORK/certificate.pem" ASSAY_SERVE_KEY_FILE="$WORK/key.pem"
export ASSAY_SCORING_CHALLENGER_SHARE=0.3 ASSAY_SCORING_SHADOW=true ASSAY_SCORING_CHALLENGER_LATENCY_US=10000000
CHAMPION="${VERSIONS[1]}" CHALLENGER="${VERSIONS[0]}"
assay promote "fraud@$CHAMPION" >/dev/null
assay promote "fraud@$CHALLENGER" --alias challenger >/dev/null
URL="https://localhost:$PORT"
serve canary
canary() {
  local what="$1"
  shift
  "$PYTHON" "$ORACLE/canary.py" "$what" --url "$URL" --key open-sesame --ca "$WORK/certificate.pem" --body "$BODY" \
    --champion "$CHAMPION" --challenger "$CHALLENGER" "$@"
}
canary ask --share 0.3
for route in /health /ready /docs /openapi.json; do status 200 --cacert "$WORK/certificate.pem" "$URL$route"; done
! curl -s "$URL/health" >/dev/null || die "a certificate that nobody vouches for was taken"
! curl -s "http://localhost:$PORT/health" >/dev/null || die "plain HTTP is answered beside TLS"
status 200 --unix-socket "$SOCKET" http://localhost/health
# The shadow catches up.
shadows() { curl -s --cacert "$WORK/certificate.pem" "$URL/metrics" | awk -v role="$1" '$1 ~ "^assay_role_predictions_total" && $1 ~ "role=\"" role "\"" { n += $2 } /^assay_shadow_shed_total/ && role == "shadow" { n += $2 } END { print n + 0 }'; }
for _ in $(seq 600); do
  [ "$(shadows shadow)" -lt "$(shadows champion)" ] || break
  sleep 0.1
done
[ "$(shadows shadow)" -eq "$(shadows champion)" ] || die "after a minute the shadow was asked $(shadows shadow) times, the champion $(shadows champion) times"
status 200 --cacert "$WORK/certificate.pem" "$URL/metrics"
shed="$(awk '/^assay_shadow_shed_total/ { print $2 }' "$WORK/answer")"
without="$(awk '/^assay_receipts_total\{outcome="(shed|lost)"\}/ { n += $2 } END { print n + 0 }' "$WORK/answer")"
for line in "assay_role_version_info{model=\"fraud\",role=\"champion\",version=\"$CHAMPION\"} 1" \
  "assay_role_version_info{model=\"fraud\",role=\"challenger\",version=\"$CHALLENGER\"} 1" "assay_challenger_share 0.3"; do
  grep -qF "$line" "$WORK/answer" || die "no $line in the metrics"
done
canary drain --share 0.3 --pid "$SERVER"
finish "$SERVER" 20 canary
mapfile -t KEPT < <("$PYTHON" "$ORACLE/canary.py" kept --lake "$LAKE" --challenger "$CHALLENGER" --shed "$shed" --without "$without")
[ "${#KEPT[@]}" -eq 4 ] || die "what the lake keeps is not what was answered: ${KEPT[*]}"
say "kept: ${KEPT[0]}"
for id in "${KEPT[@]:1}"; do assay explain "$id" --lake "$LAKE" >"$WORK/explained" || { cat "$WORK/explained" >&2 && die "$id is not explained"; }; done

say "a slow challenger is taken out, and nobody is refused"
unset ASSAY_SERVE_CERTIFICATE_FILE ASSAY_SERVE_KEY_FILE
export ASSAY_SCORING_SHADOW=false ASSAY_SCORING_CHALLENGER_SHARE=1 ASSAY_SCORING_CHALLENGER_LATENCY_US=1
export ASSAY_SCORING_CHALLENGER_TRANSACTIONS_MIN=50
URL="http://localhost:$PORT"
serve slow
canary slow
grep -q "the challenger is taken out" "$WORK/slow.log" || { log_end slow && die "the log does not say so"; }
status 200 "$URL/metrics"
grep -q 'assay_challenger_returns_total{cause="latency"} 1' "$WORK/answer" || die "it is not counted"
kill -s TERM "$SERVER"
finish "$SERVER" 20 slow
say "serving: all held"
