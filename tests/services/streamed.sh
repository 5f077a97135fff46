#!/usr/bin/env bash
# The stream scored by a champion, with a real Kafka: `assay run --predictions` is killed (SIGKILL) and the champion is
# exchanged while events flow; then the topic of predictions is compared with the table by an oracle that is not ours.
#
#   EVENTS=60000 RATE=3000 KILLS=5 SEED=… streamed.sh      KEEP=1 keeps the folder of a failure
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-60000}" RATE="${RATE:-3000}" KILLS="${KILLS:-5}"
RANDOM=$SEED
PREDICTIONS=predictions

oracle_python
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 6
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$PREDICTIONS" 3

say "two models to choose from"
assay demo --events 40000 --event-rate 0.02 --users 2000 --seed 7 --lake "$WORK/past" --json >"$WORK/demo.log" 2>&1 ||
  { log_end demo && die "demo failed"; }
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0.1 ASSAY_TRAIN_RECALL_MIN=0.1 ASSAY_TRAIN_F1_MIN=0.1 ASSAY_MODEL_FOLDER="$WORK/models"
for family in logistic boost; do
  ASSAY_TRAIN_FAMILIES="[\"$family\"]" assay train --lake "$WORK/past" --set fraud --label-delay 24 --json \
    >"$WORK/train.log" 2>&1 || { log_end train && die "train failed"; }
  sleep 1.1
done
mapfile -t VERSIONS < <(ls "$ASSAY_MODEL_FOLDER/fraud" | grep Z)
[ "${#VERSIONS[@]}" -eq 2 ] || die "expected two versions: ${VERSIONS[*]}"

run_it() {
  background run "$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --lake "$LAKE" \
    --predictions "$PREDICTIONS" --http 127.0.0.1:0 "$@"
}

epochs() { { find "$LAKE/ops/epochs/_delta_log" -name '*.json' 2>/dev/null || true; } | wc -l; }

background generate "$ASSAY" generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --rate "$RATE" --seed "$SEED" --live
GENERATE=$CHILD
for kill in $(seq "$KILLS"); do
  assay promote "fraud@${VERSIONS[$((kill % 2))]}" >"$WORK/promote.log" 2>&1 || { log_end promote && die "promote failed"; }
  before="$(epochs)"
  run_it
  # Each champion answers an epoch at least.
  for _ in $(seq 300); do
    [ "$(epochs)" -le "$((before + 1))" ] || break
    sleep 0.1
  done
  sleep "$(between_ms 0 2000)"
  kill -s KILL "$CHILD" 2>/dev/null || { log_end run && die "run ended by itself before kill $kill"; }
  wait "$CHILD" 2>/dev/null || true
done
finish "$GENERATE" 240 generate
run_it --until-end
finish "$CHILD" 240 run

"$PYTHON" "$ORACLE/streamed.py" --brokers "$BROKERS" --topic "$PREDICTIONS" --lake "$LAKE"
assay verify --lake "$LAKE" --brokers "$BROKERS" >"$WORK/verify.log" 2>&1 || { log_end verify && die "verify finds something"; }
! grep -q "not computed again" "$WORK/verify.log" || die "what the models said was not recomputed"

say "a version that is gone is told; a rebuild asks the champion of now"
mv "$ASSAY_MODEL_FOLDER" "$WORK/gone"
assay verify --lake "$LAKE" 2>/dev/null | grep "not computed again" || die "nothing is said of the models"
mv "$WORK/gone" "$ASSAY_MODEL_FOLDER"
assay rebuild scores --lake "$LAKE" >/dev/null 2>&1
[ "$(assay sql --lake "$LAKE" --format csv "SELECT count(DISTINCT model_version) FROM gold.fraud_scores" 2>/dev/null | tail -n 1)" = 1 ] ||
  die "the rebuilt scores are not of one version"

say "a topic that is read, or that is not there, is refused"
status=0
"$ASSAY" run --brokers "$BROKERS" --topic "$TOPIC" --predictions "$TOPIC" --lake "$LAKE" >"$WORK/same.log" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -q "scoring.topic" "$WORK/same.log" || { log_end same && die "ended with $status"; }
