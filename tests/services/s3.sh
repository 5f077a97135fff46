#!/usr/bin/env bash
# The lake on an S3-compatible store: Kafka to s3://lake/assay in two rounds, then every oracle over the store.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-50000}"

oracle_python
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 3
variables="$("$SERVICES_DIR/s3" start "$WORK/s3" lake)" || exit $?
while IFS= read -r variable; do export "${variable?}"; done <<<"$variables"
LAKE=s3://lake/assay

for round in 1 2; do
  assay generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --seed "$((SEED + round))" >"$WORK/generate.log" 2>&1 ||
    { log_end generate && die "generate failed"; }
  drain
done
"$PYTHON" "$ORACLE/exactly_once.py" --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
assay verify --lake "$LAKE" --brokers "$BROKERS"

# On a store nobody is kept out: what a writer adds meanwhile is no finding.
say "verify beside a writer"
background generate "$ASSAY" generate --brokers "$BROKERS" --topic "$TOPIC" --events 10000000 --rate 2000 --seed "$((SEED + 3))" --live
GENERATE=$CHILD
background run "$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --lake "$LAKE" --http 127.0.0.1:0
RUN=$CHILD
epoch() { "$ASSAY" sql --quiet --lake "$LAKE" --format csv "SELECT max(epoch) FROM ops.epochs" 2>/dev/null | tail -n 1; }
before="$(epoch)"
for _ in 1 2 3; do
  assay verify --lake "$LAKE" >"$WORK/verify.log" 2>&1 || { log_end verify && die "verify finds something beside a writer"; }
done
kill -0 "$RUN" 2>/dev/null || { log_end run && die "run ended by itself"; }
[ "$(epoch)" -gt "$before" ] || die "the writer added no epoch meanwhile"
kill -s TERM "$GENERATE" "$RUN"
