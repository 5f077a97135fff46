#!/usr/bin/env bash
# Exactly once, with a real Kafka: `assay run` is killed (SIGKILL) at random moments while events flow, then the topic is
# compared with the tables by an oracle that is not ours.
#
#   EVENTS=300000 RATE=12000 KILLS=20 SEED=… exactly_once.sh      KEEP=1 keeps the folder of a failure
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-300000}" RATE="${RATE:-12000}" KILLS="${KILLS:-20}"
RANDOM=$SEED

oracle_python
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 6

background generate "$ASSAY" generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --rate "$RATE" --seed "$SEED" --live
GENERATE=$CHILD
background poison "$PYTHON" "$ORACLE/poison.py" --brokers "$BROKERS" --topic "$TOPIC" --rounds 20 --seed "$SEED" --seconds 20
POISON=$CHILD

for kill in $(seq "$KILLS"); do
  background run "$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --lake "$LAKE" --http 127.0.0.1:0
  after="$(between_ms 50 3000)"
  sleep "$after"
  if ! kill -s KILL "$CHILD" 2>/dev/null; then
    log_end run
    die "run ended by itself before kill $kill (after $after s)"
  fi
  wait "$CHILD" 2>/dev/null || true
  say "kill $kill of $KILLS after $after s: $(find "$LAKE/ops/epochs/_delta_log" -name '*.json' 2>/dev/null | wc -l) commits in ops.epochs"
done

finish "$GENERATE" 240 generate
finish "$POISON" 60 poison
drain
"$PYTHON" "$ORACLE/exactly_once.py" --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
assay verify --lake "$LAKE" --brokers "$BROKERS"
