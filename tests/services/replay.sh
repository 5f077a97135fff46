#!/usr/bin/env bash
# Dead letters of a real Kafka, repaired and replayed: a lake learns of a schema that its messages had all along, its letters
# are sent again, what is still wrong is sent once more, and an oracle that is not ours counts every message. In
# between: a letter larger than the client's own bound, two replays at once, and a lake that others read beside.
#
#   EVENTS=5000 SEED=… replay.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-5000}"

oracle_python
need flock util-linux
kafka_up
"$SERVICES_DIR/kafka" topic "$WORK/kafka" "$TOPIC" 3 max.message.bytes=4000000
cp -r contracts "$WORK/more"
cp contracts/transactions.v2.avsc "$WORK/more/transactions.v3.avsc"

say "a stream, messages of a schema that nobody knows yet, and what should not be there"
assay generate --brokers "$BROKERS" --topic "$TOPIC" --events "$EVENTS" --seed "$SEED" --live >"$WORK/generate.log" 2>&1 ||
  { log_end generate && die "generate failed"; }
"$PYTHON" "$ORACLE/poison.py" --brokers "$BROKERS" --topic "$TOPIC" --rounds 3 --seed "$SEED"
PYTHONPATH="$ORACLE" "$PYTHON" - "$BROKERS" "$TOPIC" <<'PYTHON'
import io, random, struct, sys
import fastavro
from confluent_kafka import Producer
from poison import SCHEMAS
producer = Producer({"bootstrap.servers": sys.argv[1], "message.max.bytes": 4_000_000})
producer.produce(sys.argv[2], b"\x01" + random.Random(1).randbytes(3_000_000), key=b"large", partition=1)
for number in range(300):
    body = io.BytesIO()
    row = {
        "transaction_id": f"third-{number}", "user_id": number % 40, "amount": 5.0 + number, "merchant": "Third", "is_fraud": False,
        "timestamp": f"2026-01-05T{number % 24:02}:00:00Z", "payment_method": "paypal", "location": "Lyon, France", "device_id": "d", "merchant_id": "m-3",
    }
    fastavro.schemaless_writer(body, SCHEMAS[2], row)
    producer.produce(sys.argv[2], b"\0" + struct.pack(">i", 3) + body.getvalue(), key=str(number).encode(), partition=number % 3, headers=[("n", str(number).encode())])
if producer.flush(30):
    raise SystemExit("the large message was not delivered")
PYTHON

# read CONTRACTS: all that the topic has, into gold.
read_all() {
  assay ingest --until-end --brokers "$BROKERS" --topic "$TOPIC" --contracts "$1" --lake "$LAKE" >"$WORK/ingest.log" 2>&1 ||
    { log_end ingest && die "ingest failed"; }
  assay refine --lake "$LAKE" >"$WORK/refine.log" 2>&1 || { log_end refine && die "refine failed"; }
}
count() { assay sql --quiet --lake "$LAKE" --format csv "SELECT count(*) FROM $1" 2>/dev/null | tail -n 1; }
# replay WANTED-EXIT ARGUMENTS...: its words are in WORK/replay.log.
replay() {
  local wanted="$1" status=0
  shift
  assay replay --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE" "$@" >"$WORK/replay.log" 2>&1 || status=$?
  [ "$status" -eq "$wanted" ] || { log_end replay && die "replay $* ended with $status instead of $wanted"; }
}
letters() { sed -nE "s/^([0-9]+) (would be sent|sent) to .*/\1/p" "$WORK/replay.log"; }

say "read by a lake that does not know schema 3"
read_all contracts
"$SERVICES_DIR/kafka" offsets "$WORK/kafka" "$TOPIC" >"$WORK/first"
waiting="$(count "bronze.dead_letters WHERE payload IS NOT NULL")"
[ "$waiting" -gt 100 ] && [ "$(count silver.quarantine)" -gt 0 ] || die "there are $waiting letters, and perhaps no quarantine"
replay 0 --dry-run
[ "$(letters)" = "$waiting" ] || die "a dry run counts $(letters) letters, and $waiting wait"

say "two at a time"
exec 8>>"$LAKE/_assay/replay.lock"
flock 8
replay 1
grep -q "are being sent again by" "$WORK/replay.log" || { log_end replay && die "replay does not say who is at work"; }
exec 8>&-

say "sent again, and read by a lake that knows it"
replay 0 --json
"$PYTHON" -c 'import json, sys
told = json.loads(open(sys.argv[1]).read().splitlines()[-1])
assert told["letters"] == int(sys.argv[2]) and told["refused"] == 0, told' "$WORK/replay.log" "$waiting" || die "not all letters were sent"
read_all "$WORK/more"
[ "$(count "silver.transactions WHERE merchant = 'Third'")" -eq 300 ] || die "not all letters of schema 3 came right"
[ "$(count "bronze.dead_letters WHERE length(encode(payload, 'hex')) = 6000002")" -eq 2 ] || die "the large letter was not sent again"

say "what is still wrong, once more"
replay 0 --dry-run
again="$(letters)"
[ "$again" -gt 0 ] && [ "$again" -lt "$waiting" ] || die "$again of $waiting letters wait once more"
replay 0
[ "$(letters)" = "$again" ] || die "$(letters) letters were sent, and $again waited"
read_all "$WORK/more"
replay 0 --dry-run
[ "$(letters)" = "$again" ] || die "$(letters) letters wait after the third reading, and $again should"

"$PYTHON" "$ORACLE/replayed.py" --brokers "$BROKERS" --topic "$TOPIC" --lake "$LAKE" --first "$WORK/first"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
assay verify --lake "$LAKE" --brokers "$BROKERS"

say "a lake that reads the same topic has letters of its own"
OTHER="$WORK/other"
assay ingest --until-end --brokers "$BROKERS" --topic "$TOPIC" --contracts "$WORK/more" --lake "$OTHER" >"$WORK/ingest.log" 2>&1 ||
  { log_end ingest && die "ingest failed"; }
assay refine --lake "$OTHER" >"$WORK/refine.log" 2>&1 || { log_end refine && die "refine failed"; }
LAKE="$OTHER" replay 0 --dry-run
wanted="$(LAKE="$OTHER" count "bronze.dead_letters WHERE payload IS NOT NULL")"
[ "$(letters)" = "$wanted" ] || die "the other lake counts $(letters) letters, and has $wanted"
say "replay: all held"
