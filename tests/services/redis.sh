#!/usr/bin/env bash
# Features from a real Redis: two servers that share it answer as one that holds the lake in memory does, field by field,
# while epochs are fed by a feeder that is killed (SIGKILL), after an epoch is fed twice, after Redis was wiped and rebuilt by
# one command, and after it was stopped and started again. Meanwhile no request fails, and who cannot know says so.
#
#   EVENTS=24000 KILLS=4 SEED=… redis.sh      KEEP=1 keeps the folder of a failure
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-24000}" KILLS="${KILLS:-4}"
RANDOM=$SEED

line="$("$SERVICES_DIR/redis" start "$WORK/redis")" || exit $?
REDIS="${line#REDIS=}"
ASSAY_ONLINE_PASSWORD="$(cat "$WORK/redis/password")"
export ASSAY_ONLINE_PASSWORD
need curl curl
redis() { "$SERVICES_DIR/redis" cli "$WORK/redis" "$@"; }

export ASSAY_FEATURES_ENABLED=true ASSAY_FEATURES_LABEL_DELAY_HOURS=24 ASSAY_LOG_FILTER=info ASSAY_MODEL_FOLDER="$WORK/models"
export ASSAY_SCORING_RECEIPTS_EVERY_MS=500 ASSAY_SCORING_HORIZON_S=7200
# How fast a busy machine is, is not what is tested here.
export ASSAY_ONLINE_TIMEOUT_MS=2000
say "a model that reads all features"
assay demo --events 40000 --event-rate 0.02 --users 2000 --seed 7 --lake "$WORK/past" --json >"$WORK/demo.log" 2>&1 ||
  { log_end demo && die "demo failed"; }
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0.1 ASSAY_TRAIN_RECALL_MIN=0.1 ASSAY_TRAIN_F1_MIN=0.1 ASSAY_TRAIN_FAMILIES='["logistic"]'
assay train --lake "$WORK/past" --set fraud_features --label-delay 24 --json >"$WORK/train.log" 2>&1 || { log_end train && die "train failed"; }

# Small epochs, so that there are many.
export ASSAY_EPOCH_MESSAGES_MAX=2000
assay generate --events "$EVENTS" --event-rate 0.006 --users 500 --merchants 100 --seed "$SEED" --late 0.03 --out-of-order 0.1 \
  --duplicates 0.02 --malformed 0 --bad-rows 0 --output "$WORK/all.jsonl" >/dev/null
split -n l/6 --additional-suffix=.jsonl "$WORK/all.jsonl" "$WORK/part-"
PARTS=("$WORK"/part-*.jsonl)
load() { assay load "$1" --lake "$LAKE" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }; }
for part in "${PARTS[@]:0:3}"; do load "$part"; done

say "memory alone, then two servers on one Redis"
URLS=()
# serve NAME [REDIS]: appends its address to URLS.
serve() {
  local port
  port="$(free_port)"
  ASSAY_ONLINE_REDIS="${2:-}" background "$1" "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$port"
  URLS+=("http://127.0.0.1:$port")
  for _ in $(seq 600); do
    ! listening "$port" || return 0
    kill -0 "$CHILD" 2>/dev/null || { log_end "$1" && die "serve ended"; }
    sleep 0.1
  done
  die "$1 does not listen"
}
serve memory
serve one "$REDIS"
serve two "$REDIS"
ready() { curl -s -o "$WORK/ready" -w '%{http_code}' "$1/ready"; }
online() { assay online "$@" --lake "$LAKE" --redis "$REDIS"; }
# field NAME: of the status.
field() { online status --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
cp "$WORK/all.jsonl" "$WORK/rows"
ask() {
  local what="$1"
  shift
  newest="$(assay sql --lake "$LAKE" --format csv "SELECT max(event_at) FROM silver.transactions" 2>/dev/null | tail -n 1)"
  python3 "$ORACLE/online.py" "$what" --rows "$WORK/rows" --newest "$newest" --seed "$RANDOM" "$@"
}
urls() { printf -- '--url %s ' "${URLS[@]}"; }
newest_epoch() { field newest_epoch; }
# shellcheck disable=SC2046
compare() { ask compare $(urls) --epoch "$(newest_epoch)"; }

ask wait --url "${URLS[1]}" --degraded yes
[ "$(ready "${URLS[1]}")" = 503 ] && grep -q "assay online feed" "$WORK/ready" || die "an empty Redis is no past: $(cat "$WORK/ready")"
online feed --once
compare
[ "$(ready "${URLS[1]}")" = 200 ] || die "one is not ready: $(cat "$WORK/ready")"

say "an epoch that is fed twice changes nothing"
digest() { redis --raw DBSIZE; redis DEBUG DIGEST; }
# What follows differs by who feeds: that is let go each time.
before="$(digest)"
online feed --once >"$WORK/again"
grep -q "nothing is new" "$WORK/again" || die "it was written twice: $(cat "$WORK/again")"
[ "$before" = "$(digest)" ] || die "Redis is not what it was"
# As if the marker had not been moved yet: a feeder that died before its last word.
marker="$(redis --raw --scan --pattern '*:marker')"
load "${PARTS[3]}"
epoch="$(redis --raw HGET "$marker" epoch)"
online feed --once
after="$(digest)"
newest="$(redis --raw HGET "$marker" epoch)"
[ "$newest" -gt "$epoch" ] || die "no epoch came"
compare
redis HSET "$marker" epoch "$epoch" >/dev/null
online feed --once >"$WORK/again"
[ "$after" = "$(digest)" ] || die "an epoch that was written twice is another one: $(cat "$WORK/again")"

say "no identifier stands in Redis in clear"
user="$(python3 -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline())["device_id"])' "$WORK/rows")"
[ -z "$(redis --raw --scan --pattern "*$user*")" ] || die "the device $user stands in a key"

say "epochs come while the feeder is killed $KILLS times"
background load python3 -c 'import subprocess, sys
for part in sys.argv[3:]: subprocess.run([sys.argv[1], "load", part, "--lake", sys.argv[2]], check=True)' "$ASSAY" "$LAKE" "${PARTS[@]:4}"
LOADING=$CHILD
for _ in $(seq "$KILLS"); do
  background feed "$ASSAY" online feed --lake "$LAKE" --redis "$REDIS"
  sleep "$(between_ms 1500 4000)"
  kill -s KILL "$CHILD" 2>/dev/null || { log_end feed && die "the feeder ended by itself"; }
  wait "$CHILD" 2>/dev/null || true
  # What is left of it would be waited for.
  redis DEL "$(redis --raw --scan --pattern '*:feeder')" >/dev/null
done
finish "$LOADING" 240 load
background feed "$ASSAY" online feed --lake "$LAKE" --redis "$REDIS"
FEED=$CHILD
compare
status=0
online feed --once >"$WORK/second" 2>&1 || status=$?
[ "$status" -eq 1 ] && grep -q "feeds this Redis" "$WORK/second" || die "two feed at a time: $status $(cat "$WORK/second")"

say "receipts say what the lake says as of their epoch"
curl -s "${URLS[1]}/predict" -H "content-type: application/json" -o "$WORK/answer" -d "$(python3 - "$WORK/rows" "$(assay sql --lake "$LAKE" --format csv "SELECT max(event_at) FROM silver.transactions" 2>/dev/null | tail -n 1)" <<'PY'
import json, sys
print(json.dumps({**json.loads(open(sys.argv[1]).readline()), "transaction_id": "kept", "timestamp": sys.argv[2]}))
PY
)"
sleep 2
assay explain kept --lake "$LAKE" >"$WORK/explained" 2>&1 || { cat "$WORK/explained" >&2 && die "the receipt is not explained"; }
grep -q "what the lake says of the past" "$WORK/explained" || die "the past was not compared: $(cat "$WORK/explained")"

say "wiped under load: no request fails, and one command makes it whole"
background asked python3 "$ORACLE/online.py" load --memory "${URLS[0]}" --url "${URLS[1]}" --url "${URLS[2]}" --rows "$WORK/rows" --newest "$newest" \
  --seed "$RANDOM" --until "$WORK/enough"
ASKED=$CHILD
sleep 2
kill -s TERM "$FEED"
finish "$FEED" 30 feed
redis FLUSHALL >/dev/null
ask wait --url "${URLS[1]}" --url "${URLS[2]}" --degraded yes
online rebuild
# What other definitions are fed with stays, and goes when nobody feeds it any more.
marker="$(redis --scan --pattern '*:marker' | head -n 1)"
other="${marker%:*:marker}:other"
redis SET "$other:feeder" somebody PX 600000 >/dev/null
redis HSET "$other:marker" generation 1 >/dev/null
redis HSET "$other:1:0.0:00" v 1 >/dev/null
online rebuild
[ "$(redis EXISTS "$other:feeder" "$other:marker" "$other:1:0.0:00")" = 3 ] || die "what somebody else feeds is gone"
redis DEL "$other:feeder" >/dev/null
compare
background feed "$ASSAY" online feed --lake "$LAKE" --redis "$REDIS"
FEED=$CHILD
# Beside a feeder, whose place it takes.
online rebuild --wipe
compare
[ "$(field others)" = 0 ] || die "something is left: $(online status)"
say "stopped and started under load"
"$SERVICES_DIR/redis" stop "$WORK/redis"
ask wait --url "${URLS[1]}" --url "${URLS[2]}" --degraded yes
[ "$(ready "${URLS[1]}")" = 200 ] || die "all servers would be taken out of turn: $(cat "$WORK/ready")"
"$SERVICES_DIR/redis" start "$WORK/redis" >/dev/null
# It kept nothing: the feeder notices, and writes all of it.
compare
touch "$WORK/enough"
finish "$ASKED" 60 asked
tail -n 1 "$WORK/asked.log" >&2
python3 -c 'import json, sys
told = json.loads(open(sys.argv[1]).read().splitlines()[-1])
assert told["whole"] > 100 and told["degraded"] > 10, told' "$WORK/asked.log"
curl -s "${URLS[1]}/metrics" >"$WORK/metrics"
! grep -E 'assay_requests_total\{[^}]*status="5' "$WORK/metrics" | grep -v '"/ready"' || die "answers with 5xx"
grep -q 'assay_online_ask_seconds_count{outcome="answered"}' "$WORK/metrics" || die "look-ups are not measured"

say "what may drop keys is refused, and so are other settings that cannot work"
kill -s TERM "$FEED"
finish "$FEED" 30 feed
redis CONFIG SET maxmemory-policy allkeys-lru >/dev/null
status=0
online rebuild >"$WORK/refused" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -q noeviction "$WORK/refused" || die "keys may be dropped: $status $(cat "$WORK/refused")"
status=0
ASSAY_ONLINE_PASSWORD=wrong assay online status --lake "$LAKE" --redis "$REDIS" >"$WORK/refused" 2>&1 || status=$?
[ "$status" -eq 1 ] && ! grep -q wrong "$WORK/refused" || die "another password: $status $(cat "$WORK/refused")"
say "redis: all held"
