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
