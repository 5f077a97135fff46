#!/usr/bin/env bash
# A broker that dies and one that restarts: `assay run` stays up, loses and doubles nothing, and ends at SIGTERM with 0.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-150000}" RATE="${RATE:-5000}"

oracle_python
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 6

background run "$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --lake "$LAKE" --http 127.0.0.1:0
RUN=$CHILD
background generate "$ASSAY" generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --rate "$RATE" --seed "$SEED" --live
GENERATE=$CHILD

sleep 4
say "the broker is killed"
"$SERVICES_DIR/kafka" kill "$WORK/kafka"
sleep 3
kafka_up
say "the broker is back"
sleep 4
say "the broker is stopped"
"$SERVICES_DIR/kafka" stop "$WORK/kafka"
kafka_up
say "the broker is back"

finish "$GENERATE" 240 generate
kill -0 "$RUN" 2>/dev/null || { log_end run && die "run did not survive"; }
kill -s TERM "$RUN"
finish "$RUN" 60 run
drain
"$PYTHON" "$ORACLE/exactly_once.py" --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
assay verify --lake "$LAKE" --brokers "$BROKERS"
