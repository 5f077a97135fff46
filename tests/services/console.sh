#!/usr/bin/env bash
# The console in a real Chromium: every view by mouse and keyboard, at the size of a desk and of a phone, light and dark;
# what it shows is what `assay sql` says; no error, no request to elsewhere, no markup from data, nothing that axe finds.
# A merchant is named so that a careless page would run it. Screenshots go to $CONSOLE_SHOTS, where that is set.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-12000}"

BROWSER="$("$SERVICES_DIR/console-browser")" || exit $?
need curl curl
SHOTS="${CONSOLE_SHOTS:-$WORK/shots}"
mkdir -p "$SHOTS"
MODELS="$WORK/models"
export ASSAY_MODEL_FOLDER="$MODELS" ASSAY_FEATURES_LABEL_DELAY_HOURS=24 ASSAY_DRIFT_ROWS_MIN=50
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_LABELS_MIN=20 ASSAY_TRAIN_PRECISION_MIN=0.01 ASSAY_TRAIN_RECALL_MIN=0.01 ASSAY_TRAIN_F1_MIN=0.01
export ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_TRAIN_FOLDS=2 ASSAY_SCORING_RECEIPTS_EVERY_MS=300 ASSAY_LOG_FILTER=info
# Sparse in time, so that the span is longer than labels take to arrive.
assay demo --events "$EVENTS" --event-rate 0.02 --users 800 --seed 7 --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 ||
  { log_end demo && die "demo failed"; }
NEWEST="$("$ASSAY" sql --lake "$LAKE" --format csv "SELECT max(event_at) FROM silver.transactions" 2>/dev/null | tail -n 1)"
python3 - "$NEWEST" "$WORK/evil.jsonl" <<'PYTHON'
import json, sys
row = {"transaction_id": "evil-1", "user_id": 7, "amount": 6543.21, "merchant": "<img src=x onerror=alert(1)>",
       "timestamp": sys.argv[1], "payment_method": "crypto", "location": "Lyon<script>alert(2)</script>, Iran", "device_id": "d'1\"",
       "is_fraud": False}
bad = row | {"transaction_id": "bad-1", "amount": -1.0, "merchant": "<b>bold</b>"}
open(sys.argv[2], "w").write("".join(json.dumps(one) + "\n" for one in (row, row, bad)))
PYTHON
assay load "$WORK/evil.jsonl" --lake "$LAKE" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }
for number in 1 2; do
  assay train --lake "$LAKE" --label-delay 24 --json >"$WORK/train.log" 2>&1 || { log_end train && die "train failed"; }
  sleep 1.1
done
assay drift --lake "$LAKE" --days 4 >"$WORK/drift.log" 2>&1 || true

# serve NAME PORT ARGUMENTS...: sets SERVER.
serve() {
  local name="$1" port="$2"
  shift 2
  background "$name" "$@" --http "127.0.0.1:$port"
  SERVER=$CHILD
  for _ in $(seq 600); do
    ! curl -s -o /dev/null "http://127.0.0.1:$port/health" || return 0
    kill -0 "$SERVER" 2>/dev/null || { log_end "$name" && die "$name ended"; }
    sleep 0.1
  done
  die "$name does not answer"
}
drive() { node "$SERVICES_DIR/console.mjs" "$@"; }
export WORK CONSOLE_BROWSER="$BROWSER" CONSOLE_SHOTS="$SHOTS" ASSAY
CHROMIUM="$(command -v chromium)"
export CHROMIUM

say "a lake with models, drift and receipts"
PORT="$(free_port)" URL=""
URL="http://127.0.0.1:$PORT"
ASSAY_SERVE_ADMIN_KEY=may-change serve serve "$PORT" "$ASSAY" serve --lake "$LAKE"
for _ in $(seq 300); do
  [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/ready")" != 200 ] || break
  sleep 0.1
done
curl -sf "$URL/predict" -H 'content-type: application/json' -d "$(head -n 1 "$WORK/evil.jsonl")" >/dev/null || die "the transaction is not scored"
sleep 1
drive views "$URL" "$LAKE"
say "the commands of the page bring a corrected row back"
grep -q "^assay load refused.jsonl" "$WORK/commands" || die "no commands: $(cat "$WORK/commands")"
python3 - "$WORK/commands" <<'PYTHON'
import pathlib, sys
path = pathlib.Path(sys.argv[1])
mend = "sed -i -E 's/\"amount\":-?[0-9.eE+]+/\"amount\":5.0/' refused.jsonl"
path.write_text(path.read_text().replace("# correct refused.jsonl, then", mend))
PYTHON
mkdir "$WORK/bin" && ln -s "$ASSAY" "$WORK/bin/assay"
(cd "$WORK" && PATH="$WORK/bin:$PATH" bash -euo pipefail commands) >"$WORK/commands.log" 2>&1 || { log_end commands && die "the commands fail"; }
[ "$("$ASSAY" sql --lake "$LAKE" --format csv "SELECT count(*) FROM silver.transactions WHERE transaction_id = 'bad-1'" 2>/dev/null | tail -n 1)" = 1 ] ||
  die "the corrected row did not come back"
drive changes "$URL" "$LAKE" may-change
# The server goes, and comes back.
drive gone "$URL" "$SERVER" >"$WORK/driver.log" 2>&1 &
DRIVER=$!
CHILDREN+=("$DRIVER")
finish "$SERVER" 60 serve
for _ in $(seq 600); do
  [ ! -e "$WORK/seen" ] || break
  kill -0 "$DRIVER" 2>/dev/null || { log_end driver && die "nobody saw that the server was gone"; }
  sleep 0.1
done
serve again "$PORT" "$ASSAY" serve --lake "$LAKE"
finish "$DRIVER" 120 driver
kill -s TERM "$SERVER"
finish "$SERVER" 30 again

say "behind a key, from elsewhere"
PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
ASSAY_SERVE_API_KEY=may-look serve keyed "$PORT" "$ASSAY" serve --lake "$LAKE"
drive keyed "$URL" may-look
kill -s TERM "$SERVER"
finish "$SERVER" 30 keyed

say "no lake, no models; and a pipeline of other tables"
PORT="$(free_port)"
serve none "$PORT" "$ASSAY" serve --lake "$WORK/none" --models "$WORK/no-models"
drive empty "http://127.0.0.1:$PORT"
kill -s TERM "$SERVER"
finish "$SERVER" 30 none
cat >"$WORK/lines.jsonl" <<'LINES'
{"invoice_no":"1","stock_code":"a","description":"<i>cup</i>","quantity":2,"invoice_date":"2026-01-05 10:00:00","unit_price":1.5,"customer_id":"17850.0","country":"France"}
{"invoice_no":"2","stock_code":"b","description":"pot","quantity":0,"invoice_date":"2026-01-05 11:00:00","unit_price":2.5,"customer_id":null,"country":"Spain"}
LINES
assay load "$WORK/lines.jsonl" --config examples/retail/assay.toml --lake "$WORK/retail" >"$WORK/retail.log" 2>&1 ||
  { log_end retail && die "the retail example does not load"; }
PORT="$(free_port)"
serve retail-serve "$PORT" "$ASSAY" serve --config examples/retail/assay.toml --lake "$WORK/retail" --models "$WORK/no-models"
drive retail "http://127.0.0.1:$PORT"
kill -s TERM "$SERVER"
finish "$SERVER" 30 retail-serve
say "console: all held; $(find "$SHOTS" -name '*.png' | wc -l) screenshots"
