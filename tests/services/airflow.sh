#!/usr/bin/env bash
# The DAGs in a real Airflow: no import errors, their structure, what they make of exit codes, and a run of each: from a
# real Kafka into a lake, the lake's proof, a model learned from it, and its tables in a real PostgreSQL.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-40000}"

PYTHON="$("$SERVICES_DIR/python" airflow)" || exit $?
export AIRFLOW_HOME="$WORK/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False PYTHONDONTWRITEBYTECODE=1
export AIRFLOW__CORE__DAGS_FOLDER="$ROOT/airflow/dags" AIRFLOW__CORE__PLUGINS_FOLDER="$ROOT/airflow/plugins"
export AIRFLOW_VAR_ASSAY_BIN="$ASSAY" AIRFLOW_VAR_ASSAY_LAKE="$LAKE"

airflow() { timeout --kill-after=5 300 "$(dirname "$PYTHON")/airflow" "$@"; }

# dag WANTED-EXIT DAG [CONF]: a whole run of one DAG in this process.
dag() {
  local wanted="$1" name="$2" status=0
  shift 2
  say "\$ airflow dags test $name $*"
  airflow dags test "$name" ${1:+--conf "$1"} >"$WORK/$name.log" 2>&1 || status=$?
  [ "$status" -eq "$wanted" ] || { log_end "$name" && die "airflow dags test $name ended with $status instead of $wanted"; }
}

logged() { grep -qF "$2" "$WORK/$1.log" || { log_end "$1" && die "$1 does not log: $2"; }; }

rows() { "$ASSAY" sql --lake "$LAKE" --format csv "$1" 2>/dev/null | tail -n 1; }

airflow db migrate >"$WORK/migrate.log" 2>&1 || { log_end migrate && die "airflow db migrate failed"; }
airflow dags list-import-errors --local >"$WORK/import.log" 2>&1 || { log_end import && die "a DAG cannot be imported"; }
"$PYTHON" "$SERVICES_DIR/airflow_dags.py" structure | grep '^ok' || die "the DAGs are not what they should be"

# See airflow/README.md.
export ASSAY_AIRFLOW_DEADLINES=off
"$PYTHON" "$SERVICES_DIR/airflow_dags.py" exits "$WORK/stub" >"$WORK/exits.log" 2>&1 || { log_end exits && die "an exit code is not obeyed"; }
grep '^ok' "$WORK/exits.log"

kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 3
export ASSAY_KAFKA_BROKERS="$BROKERS" ASSAY_KAFKA_TOPICS="[\"$TOPIC\"]"
# Sparse in time, so that there are weeks to learn from.
assay generate --events "$EVENTS" --event-rate 0.02 --users 2000 --seed 7 >"$WORK/generate.log" 2>&1 ||
  { log_end generate && die "generate failed"; }
dag 0 assay_refine
sent="$(rows "SELECT sum(messages) FROM ops.epochs")"
[ "$sent" -ge "$EVENTS" ] || die "the lake has $sent messages of $EVENTS"
[ "$(rows "SELECT count(*) FROM silver.transactions")" = "$(rows "SELECT count(*) FROM gold.fraud_scores")" ] || die "gold is behind silver"
dag 0 assay_verify

export ASSAY_MODEL_FOLDER="$WORK/models" ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_TRAIN_LABEL_DELAY_HOURS=24
dag 1 assay_train
logged assay_train "(passed: False, champion: False"
logged assay_train "exit code 3, the data was refused"
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0.01 ASSAY_TRAIN_RECALL_MIN=0.01 ASSAY_TRAIN_F1_MIN=0.01
dag 0 assay_train '{"epoch": 1}'
logged assay_train "train --set fraud --epoch 1 --json"
logged assay_train "(passed: True, champion: True"
card="$(sed -n 's/.*model card: \([^ ]*\).*/\1/p' "$WORK/assay_train.log")"
[ -f "$card" ] || die "the model card is not at $card"

day="$(rows "SELECT CAST(max(event_at) AS DATE) - INTERVAL '3 days' FROM silver.transactions" | cut -c 1-10)"
dag 0 assay_drift "{\"from\": \"$day\", \"to\": \"$day\"}"
logged assay_drift "$day to $day: far off are []"
AIRFLOW_VAR_ASSAY_DRIFT_METRICS="$WORK/assay.prom" ASSAY_DRIFT_PSI_WATCH=0.00001 ASSAY_DRIFT_PSI_ACT=0.0001 dag 1 assay_drift
logged assay_drift "exit code 3, the data was refused"
grep -q '^assay_drift_psi' "$WORK/assay.prom" || die "no metrics of drift were left"

started="$("$SERVICES_DIR/postgresql" start "$WORK/postgresql")" || exit $?
export ASSAY_WAREHOUSE_URL="postgres://postgres@127.0.0.1:${started#PGPORT=}/postgres"
dag 0 assay_warehouse
logged assay_warehouse "full: up to epoch"
dag 0 assay_warehouse '{"full": true}'
logged assay_warehouse "warehouse --full --json"
found="$(psql -X -At -h 127.0.0.1 -p "${started#PGPORT=}" -U postgres -c "SELECT count(*) FROM warehouse.fct_transactions")"
[ "$found" = "$(rows "SELECT count(*) FROM silver.transactions")" ] || die "the warehouse has $found rows"

say "a table that does not follow from silver fails the proof, without another try"
mkdir -p "$WORK/sql/gold"
sed 's/amount > 5000 THEN 30/amount > 5000 THEN 31/' sql/gold/fraud_scores.sql >"$WORK/sql/gold/fraud_scores.sql"
ASSAY_SQL_FOLDER="$WORK/sql" dag 1 assay_verify
logged assay_verify "exit code 3, the data was refused"
say "airflow: all held"
