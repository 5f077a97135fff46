#!/usr/bin/env bash
# Features: streamed, recomputed by DuckDB to the bit, recomputed by `verify`, rebuilt, and after restarts in mid-stream.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-40000}"
# 23 days of event time with late and repeated events: labels of the first weeks are in, windows of a month fill.
STREAM=(--seed 11 --event-rate 0.02 --users 1500 --merchants 200 --late 0.03 --out-of-order 0.1 --duplicates 0.05)
export ASSAY_FEATURES_ENABLED=true
# Many epochs, so that state passes from one to the next.
export ASSAY_EPOCH_MESSAGES_MAX=3000

oracle_python
say "streamed"
assay demo --events "$EVENTS" "${STREAM[@]}" --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
"$PYTHON" "$ORACLE/features.py" "$LAKE"
assay verify --features --sample 2000 --lake "$LAKE"
say "rebuilt"
assay rebuild scores --lake "$LAKE"
"$PYTHON" "$ORACLE/features.py" "$LAKE"
say "in three processes, each of which starts from what silver holds"
assay generate --events "$EVENTS" "${STREAM[@]}" --malformed 0 --output "$WORK/all.jsonl"
split -n l/3 --additional-suffix=.jsonl "$WORK/all.jsonl" "$WORK/part-"
for part in "$WORK"/part-*.jsonl; do
  assay load "$part" --lake "$WORK/loaded" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }
done
"$PYTHON" "$ORACLE/features.py" "$WORK/loaded"
assay verify --lake "$WORK/loaded"
say "a value that is not right is found"
assay sql --lake "$LAKE" --format csv "SELECT count(*) FROM silver.transaction_features WHERE merchant_fraud_rate_30d > 0"
status=0
ASSAY_FEATURES_LABEL_DELAY_HOURS=24 assay verify --features --lake "$LAKE" || status=$?
[ "$status" -eq 3 ] || die "another delay of labels gives other rates, but verify ended with $status"
