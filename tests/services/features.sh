#!/usr/bin/env bash
# Features: streamed, recomputed by DuckDB to the bit, recomputed by `verify`, rebuilt, and after restarts in mid-stream.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-40000}"
# 23 days of event time with late and repeated events: labels of the first weeks are in, windows of a month fill.
RATE="$(awk -v events="$EVENTS" 'BEGIN { print events / 2000000 }')"
STREAM=(--seed 11 --event-rate "$RATE" --users 1500 --merchants 200 --late 0.03 --out-of-order 0.1 --duplicates 0.05)
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
say "in three processes, each of which starts from what silver holds; the first switches them on, the others keep them"
assay generate --events "$EVENTS" "${STREAM[@]}" --malformed 0 --output "$WORK/all.jsonl"
split -n l/3 --additional-suffix=.jsonl "$WORK/all.jsonl" "$WORK/part-"
enabled=true
for part in "$WORK"/part-*.jsonl; do
  ASSAY_FEATURES_ENABLED="$enabled" assay load "$part" --lake "$WORK/loaded" >"$WORK/load.log" 2>&1 ||
    { log_end load && die "load failed"; }
  enabled=auto
done
"$PYTHON" "$ORACLE/features.py" "$WORK/loaded"
assay verify --lake "$WORK/loaded"
say "a value that is not right is found"
assay sql --lake "$LAKE" --format csv "SELECT count(*) FROM silver.transaction_features WHERE merchant_fraud_rate_30d > 0"
status=0
ASSAY_FEATURES_LABEL_DELAY_HOURS=24 assay verify --features --lake "$LAKE" || status=$?
[ "$status" -eq 3 ] || die "another delay of labels gives other rates, but verify ended with $status"
say "switched off they leave the newest epoch, and a lake without them stays so until they are built"
has() { assay sql --lake "$LAKE" "SELECT count(*) FROM silver.transaction_features" >"$WORK/has.log" 2>&1; }
ASSAY_FEATURES_ENABLED=false assay rebuild scores --lake "$LAKE"
! has || die "the newest epoch still has features"
assay rebuild scores --lake "$LAKE"
! has || die "a lake without features got some"
ASSAY_FEATURES_ENABLED=true assay rebuild scores --lake "$LAKE"
has || { log_end has && die "the features were not built again"; }
"$PYTHON" "$ORACLE/features.py" "$LAKE"
