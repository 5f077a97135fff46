#!/usr/bin/env bash
# Schemas from a registry: one that asks for a password and is away for a while (nothing is dead-lettered meanwhile), and a
# real one (Apicurio), each against the oracle.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-20000}"

oracle_python
need curl curl
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 3
assay generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --seed "$SEED" --live >"$WORK/generate.log" 2>&1 ||
  { log_end generate && die "generate failed"; }
"$PYTHON" "$ORACLE/poison.py" --brokers "$BROKERS" --topic "$TOPIC" --rounds 3 --seed "$SEED"

compare() {
  assay refine --lake "$LAKE" >"$WORK/refine.log" 2>&1 || { log_end refine && die "refine failed"; }
  "$PYTHON" "$ORACLE/exactly_once.py" --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE"
  assay verify --lake "$LAKE" --brokers "$BROKERS"
}

# The second file is registered second, so the ids are 1 and 2, as in the messages.
background stub python3 "$SERVICES_DIR/registry_stub.py" --user assay:open-sesame \
  --schema "$TOPIC-value=contracts/transactions.v1.avsc" --schema "$TOPIC-value=contracts/transactions.v2.avsc"
for _ in $(seq 100); do
  URL="$(sed -n 's/^REGISTRY=//p' "$WORK/stub.log")"
  [ -z "$URL" ] || break
  sleep 0.1
done
[ -n "$URL" ] || { log_end stub && die "the stub did not start"; }
printf '[registry]\nurl = "%s"\nusername = "assay"\n' "$URL" >"$WORK/assay.toml"
curl -sf -X PUT -d '{"fail": -1, "status": 503}' "$URL/control" >/dev/null
say "the registry is away"
LAKE="$WORK/stub-lake"
ASSAY_REGISTRY_PASSWORD=open-sesame background ingest "$ASSAY" ingest --until-end --brokers "$BROKERS" --topic "$TOPIC" \
  --contracts contracts --config "$WORK/assay.toml" --lake "$LAKE"
INGEST=$CHILD
asked=0
for _ in $(seq 300); do
  asked="$(curl -sf "$URL/control" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["requests"]))')"
  [ "$asked" -lt 4 ] || break
  kill -0 "$INGEST" 2>/dev/null || { log_end ingest && die "ingest gave up while the registry was away"; }
  sleep 0.2
done
[ "$asked" -ge 4 ] || { log_end ingest && die "ingest asked the registry $asked times"; }
curl -sf -X PUT -d '{"fail": 0}' "$URL/control" >/dev/null
say "the registry is back, after $asked requests"
finish "$INGEST" 120 ingest
compare

line="$("$SERVICES_DIR/registry" start "$WORK/registry")" || exit $?
URL="${line#REGISTRY=}"
assay register --registry "$URL" --topic "$TOPIC" --contracts contracts
assay register --check --registry "$URL" --topic "$TOPIC" --contracts contracts
LAKE="$WORK/registry-lake"
assay ingest --until-end --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --registry "$URL" --lake "$LAKE" >"$WORK/ingest.log" 2>&1 ||
  { log_end ingest && die "ingest failed"; }
compare
