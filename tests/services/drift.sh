#!/usr/bin/env bash
# Drift: each value of ml.drift recomputed by numpy and scipy from the tables; a stream of another seed is no drift, a
# shifted one ends the job with exit code 3; the same days again change nothing; jobs at once lose no row.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-30000}"

PYTHON="$("$SERVICES_DIR/python" drift)" || exit $?
MODELS="$WORK/models"
export ASSAY_MODEL_FOLDER="$MODELS" ASSAY_FEATURES_LABEL_DELAY_HOURS=24 ASSAY_DRIFT_ROWS_MIN=300
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0 ASSAY_TRAIN_RECALL_MIN=0 ASSAY_TRAIN_F1_MIN=0 ASSAY_TRAIN_LABELS_MIN=20
export ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_TRAIN_FOLDS=2

# make NAME START SEED EVENTS: a stream without dirt, thirty days for EVENTS.
make() {
  assay generate --output "$WORK/$1.jsonl" --start-at "$2" --seed "$3" --events "$4" --users 5000 --merchants 1000 \
    --event-rate "$(awk -v events="$EVENTS" 'BEGIN { print events / 2592000 }')" \
    --malformed 0 --bad-rows 0 --late 0 --out-of-order 0 --duplicates 0 >/dev/null
}
load() { assay load "$WORK/$1.jsonl" --lake "$LAKE" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }; }
drift() { assay drift --lake "$LAKE" "$@"; }
changed() { "$PYTHON" -c 'import json, sys; print(sum(table["changed"] for table in json.load(sys.stdin)["tables"]))'; }
recompute() {
  assay sql --lake "$LAKE" --format parquet --output "$WORK/rows.parquet" \
    "SELECT t.transaction_id, t.amount, t.payment_method, t.country, t.hour, t.day_of_week, s.user_transactions_30m,
       s.high_risk_country_points
     FROM silver.transactions AS t JOIN gold.fraud_scores AS s ON s.transaction_id = t.transaction_id"
  assay predict --model fraud --data "$WORK/rows.parquet" --keep transaction_id --output "$WORK/scores.csv" >/dev/null
  "$PYTHON" "$ORACLE/drift.py" "$LAKE" "$MODELS/fraud/$VERSION" "$WORK/scores.csv"
}

make before 2026-01-01T00:00:00Z 1 "$EVENTS"
load before
assay train --lake "$LAKE" --label-delay 24 --json >"$WORK/train.log" 2>&1 || { log_end train && die "train failed"; }
VERSION="$(assay models --json 2>/dev/null | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)[0]["version"])')"

say "other customers of the same kind"
make same 2026-02-02T00:00:00Z 2 $((EVENTS / 6))
load same
drift --days 4
recompute
say "the same days again, and one job beside the other"
[ "$(drift --days 4 --json | changed)" -eq 0 ] || die "the same days changed ml.drift"
jobs=()
for day in 05 10 15 20 25; do
  drift --from "2026-01-$day" --to "2026-01-$day" --json >"$WORK/drift.$day.log" 2>&1 &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job" || die "one of five jobs at once failed"; done
days="$(assay sql --lake "$LAKE" --format csv "SELECT count(DISTINCT window_start) AS days FROM ml.drift WHERE grain = 'day'")"
[ "$(tail -n 1 <<<"$days")" -eq 9 ] || die "expected nine days in ml.drift: $days"
recompute
say "prices of three times as much"
make dear 2026-02-08T00:00:00Z 3 $((EVENTS / 6))
"$PYTHON" - "$WORK/dear.jsonl" <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
with open(sys.argv[1], "w") as file:
    for row in rows:
        file.write(json.dumps(row | {"amount": round(row["amount"] * 3, 2)}) + "\n")
PYTHON
load dear
status=0
drift --days 3 --report "$WORK/drift.html" --metrics-file "$WORK/drift.prom" 2>"$WORK/drift.log" || status=$?
[ "$status" -eq 3 ] || die "expected exit code 3, found $status"
grep -q "amount on 2026-02-" "$WORK/drift.log" || { log_end drift && die "the shifted feature is not named"; }
grep -q "country on" "$WORK/drift.log" && die "a feature is named that did not shift"
recompute
say "a value that is not right is found"
"$PYTHON" - "$MODELS/fraud/$VERSION/baseline.json" "$WORK/wrong" <<'PYTHON'
import json, pathlib, sys
baseline = json.loads(pathlib.Path(sys.argv[1]).read_text())
counts = baseline["columns"][0]["histogram"]["counts"]
counts[0], counts[1] = counts[0] + 50, counts[1] - 50
wrong = pathlib.Path(sys.argv[2]) / pathlib.Path(sys.argv[1]).parent.name
wrong.mkdir(parents=True)
(wrong / "baseline.json").write_text(json.dumps(baseline))
PYTHON
"$PYTHON" "$ORACLE/drift.py" "$LAKE" "$WORK/wrong/$VERSION" "$WORK/scores.csv" >/dev/null && die "the oracle finds nothing"
say "ok"
