#!/usr/bin/env bash
# The registry of models on an S3-compatible store: train, promote, serve from s3://; a client keeps asking while models are
# promoted and rolled back, and while the store does not answer (no request fails); many hands lose no alias; what is
# damaged there is refused.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-40000}"

PYTHON="$("$SERVICES_DIR/python" serving)" || exit $?
BOTO="$("$SERVICES_DIR/python" s3)" || exit $?
need curl curl
variables="$("$SERVICES_DIR/s3" start "$WORK/s3" models)" || exit $?
while IFS= read -r variable; do export "${variable?}"; done <<<"$variables"
export ASSAY_FEATURES_LABEL_DELAY_HOURS=24
# Sparse in time, so that the span is longer than labels take to arrive.
demo=(--events "$EVENTS" --event-rate 0.02 --users 2000 --seed 7 --json)
assay demo "${demo[@]}" --lake "$LAKE" >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0.1 ASSAY_TRAIN_RECALL_MIN=0.1 ASSAY_TRAIN_F1_MIN=0.1
export ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_MODEL_FOLDER=s3://models/assay

# objects list | get KEY FILE | put KEY FILE
objects() {
  "$BOTO" - "$@" <<'PY'
import sys, boto3
s3, (what, *rest) = boto3.client("s3"), sys.argv[1:]
if what == "list":
    for found in s3.list_objects_v2(Bucket="models").get("Contents", []): print(found["Key"])
elif what == "get":
    s3.download_file("models", rest[0], rest[1])
else:
    s3.put_object(Bucket="models", Key=rest[0], Body=open(rest[1], "rb").read())
PY
}

for set in fraud fraud_features; do
  assay train --lake "$LAKE" --set "$set" --label-delay 24 --json >"$WORK/train.$set" 2>"$WORK/train.$set.log" ||
    { log_end "train.$set" && die "train failed"; }
  grep -q '"folder":"s3://models/assay/fraud/' "$WORK/train.$set" || die "the place is not told: $(cat "$WORK/train.$set")"
done
mapfile -t VERSIONS < <(assay models --json 2>/dev/null | python3 -c 'import json, sys
for line in json.load(sys.stdin): print(line["version"])')
[ "${#VERSIONS[@]}" -eq 2 ] || die "expected two versions: ${VERSIONS[*]}"
objects list >"$WORK/keys"
for key in "${VERSIONS[0]}/model.json" "${VERSIONS[1]}/card.html" "${VERSIONS[1]}/manifest.json" aliases.json; do
  grep -qx "assay/fraud/$key" "$WORK/keys" || die "there is no $key: $(cat "$WORK/keys")"
done

export ASSAY_LOG_FILTER=info ASSAY_SERVE_API_KEY=open-sesame ASSAY_SCORING_HORIZON_S=60000
export ASSAY_SCORING_RECEIPTS_EVERY_MS=500
PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
JSON="content-type: application/json"
KEY="x-api-key: open-sesame"
background serve "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$PORT"
SERVER=$CHILD
# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local deadline=$((SECONDS + $1)) what="$2"
  shift 2
  until "$@"; do
    kill -0 "$SERVER" 2>/dev/null || { log_end serve && die "serve ended"; }
    [ "$SECONDS" -lt "$deadline" ] || { log_end serve && die "$what"; }
    sleep 0.05
  done
}
is_ready() { [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/ready")" = 200 ]; }
is_unready() { ! is_ready; }
wait_for 120 "serve is not ready" is_ready
NEWEST="$(assay sql --lake "$LAKE" --format csv "SELECT max(event_at) AS newest FROM silver.transactions" 2>/dev/null | tail -n 1)"
BODY='{"transaction_id":"c-1","user_id":7,"amount":12.5,"merchant":"Shop","timestamp":"'"$NEWEST"'","payment_method":"paypal","location":"Lyon, France","device_id":"d"}'
answering() { curl -sf "$URL/predict" -H "$JSON" -H "$KEY" -d "$BODY" | python3 -c 'import json, sys; print(json.load(sys.stdin)["model"]["version"])'; }
answers() { [ "$(answering)" = "$1" ]; }
failures() { curl -sf "$URL/metrics" | awk '/^assay_model_registry_failures_total/ { print $2 }'; }

say "asking while models are promoted and rolled back"
background client "$PYTHON" "$ORACLE/serving.py" --url "$URL" --key open-sesame --seconds "${SECONDS_LOAD:-30}" --lake "$LAKE"
CLIENT=$CHILD
for round in 0 1 0; do
  "$ASSAY" promote "fraud@${VERSIONS[$round]}" --lake "$LAKE" >/dev/null 2>"$WORK/promote.log" || { log_end promote && die "promote failed"; }
  began="$(date +%s%N)"
  wait_for 60 "${VERSIONS[$round]} does not answer" answers "${VERSIONS[$round]}"
  say "followed $((($(date +%s%N) - began) / 1000000)) ms after the promotion"
done
"$ASSAY" rollback fraud --lake "$LAKE" >/dev/null 2>&1 || die "rollback failed"
wait_for 60 "the rollback is not followed" answers "${VERSIONS[1]}"

say "the store does not answer for a while"
read -r STORE _ <"$WORK/s3/pid"
said() { grep -c "the registry cannot be read" "$WORK/serve.log" || true; }
before="$(said)" failed="$(failures)"
kill -s STOP "$STORE"
has_failed() { [ "$(failures)" -ge $((failed + 2)) ]; }
wait_for 60 "no failure is counted" has_failed
is_ready || die "serve is not ready although its champion answers"
answers "${VERSIONS[1]}" || die "another version answers"
kill -s CONT "$STORE"
can_be_read() { grep -q "the registry can be read again" "$WORK/serve.log"; }
wait_for 60 "the registry is not read again" can_be_read
[ "$(said)" -eq $((before + 1)) ] || { log_end serve && die "it is not said once"; }
"$ASSAY" promote "fraud@${VERSIONS[0]}" --lake "$LAKE" >/dev/null 2>&1 || die "promote failed"
wait_for 60 "what came after is not followed" answers "${VERSIONS[0]}"
finish "$CLIENT" 180 client
tail -n 1 "$WORK/client.log" >&2

say "a decision is explained by its version, which is the champion no more"
curl -sf "$URL/predict" -H "$JSON" -H "$KEY" -d "${BODY/c-1/e-1}" >/dev/null
"$ASSAY" promote "fraud@${VERSIONS[1]}" --lake "$LAKE" >/dev/null 2>&1 || die "promote failed"
explained() { "$ASSAY" explain e-1 --lake "$LAKE" >"$WORK/explained" 2>&1; }
wait_for 30 "it is not explained: $(cat "$WORK/explained" 2>/dev/null)" explained
assay models export "fraud@${VERSIONS[0]}" --onnx "$WORK/model.onnx" >/dev/null
[ -s "$WORK/model.onnx" ] || die "there is no ONNX file"

say "many hands at once lose none of the aliases"
HANDS=()
for hand in 1 2 3 4 5 6; do
  background "hand.$hand" "$ASSAY" promote "fraud@${VERSIONS[$((hand % 2))]}" --alias "hand-$hand" --lake "$WORK/none"
  HANDS+=("$CHILD")
done
for hand in 1 2 3 4 5 6; do finish "${HANDS[$((hand - 1))]}" 60 "hand.$hand"; done
assay models --json 2>/dev/null | python3 -c 'import json, sys
found = sorted(alias for line in json.load(sys.stdin) for alias in line["aliases"])
assert found == ["champion"] + [f"hand-{n}" for n in range(1, 7)], found'

say "a stream is scored by the champion there, and verified"
python3 - "$BODY" >"$WORK/rows.jsonl" <<'PY'
import json, sys
body = json.loads(sys.argv[1])
for n in range(2000): print(json.dumps(dict(body, transaction_id=f"l-{n}", user_id=n % 50, amount=1 + n * 1.37, is_fraud=False)))
PY
SECOND="$WORK/second"
assay load "$WORK/rows.jsonl" --lake "$SECOND" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }
# scored VERSION: all rows of the second lake are. It has no features of user, merchant and device: only the older one fits.
scored() {
  local rows
  rows="$("$ASSAY" sql --lake "$SECOND" --quiet --format csv \
    "SELECT count(*) FROM gold.fraud_scores WHERE model_version = '$1'" 2>/dev/null | tail -n 1)"
  [ "$rows" -eq 2000 ] || die "$1 scored $rows rows"
}
scored "${VERSIONS[1]}"
assay rebuild scores --lake "$SECOND" >"$WORK/rebuild.log" 2>&1 || { log_end rebuild && die "rebuild failed"; }
scored "${VERSIONS[1]}"
assay verify --lake "$SECOND" >"$WORK/verify.log" 2>&1 || { log_end verify && die "verify found something"; }

say "what is damaged there is refused"
victim="${VERSIONS[0]}"
objects get "assay/fraud/$victim/model.json" "$WORK/model.json"
cp "$WORK/model.json" "$WORK/damaged.json" && printf x >>"$WORK/damaged.json"
objects put "assay/fraud/$victim/model.json" "$WORK/damaged.json"
status=0
"$ASSAY" promote "fraud@$victim" >"$WORK/refused.log" 2>&1 || status=$?
[ "$status" -eq 3 ] && grep -q "s3://models/assay/fraud/$victim/model.json. is not what was written" "$WORK/refused.log" ||
  { log_end refused && die "a damaged version was not refused: $status"; }
# Behind assay's back.
objects get assay/fraud/aliases.json "$WORK/aliases.json"
python3 - "$WORK/aliases.json" "$victim" <<'PY'
import json, sys
path, version = sys.argv[1:]
aliases = json.load(open(path))
aliases["aliases"]["champion"] = version
aliases["champions"].append({"version": version, "at_us": 1})
json.dump(aliases, open(path + ".new", "w"))
PY
objects put assay/fraud/aliases.json "$WORK/aliases.json.new"
wait_for 60 "a damaged champion is taken" is_unready
answers "${VERSIONS[1]}" || die "another version answers"
objects put "assay/fraud/$victim/model.json" "$WORK/model.json"
objects put assay/fraud/aliases.json "$WORK/aliases.json"
wait_for 60 "the champion is not taken back" is_ready

kill -s TERM "$SERVER"
finish "$SERVER" 20 serve
# No bucket is no empty registry.
status=0
assay models --models s3://nowhere/models >"$WORK/nowhere.log" 2>&1 || status=$?
[ "$status" -ne 0 ] && grep -q "NoSuchBucket\|create the bucket" "$WORK/nowhere.log" || { log_end nowhere && die "a bucket that is not there is empty"; }
say "models on S3: all held"
