#!/usr/bin/env bash
# The warehouse in a real PostgreSQL, held against the lake by an oracle that is not ours: a first load, what is new, kills
# at random while epochs are added, a rebuild, drift, roles, checks that do not hold, and how fast rows come.
#
#   EVENTS=20000 KILLS=25 RATE_EVENTS=300000 SEED=… warehouse.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-20000}" KILLS="${KILLS:-25}" RATE_EVENTS="${RATE_EVENTS:-300000}"
RANDOM=$SEED

PYTHON="$("$SERVICES_DIR/python" warehouse)" || exit $?
started="$("$SERVICES_DIR/postgresql" start "$WORK/postgresql")" || exit $?
PORT="${started#PGPORT=}"
export ASSAY_WAREHOUSE_URL="postgres://loader@127.0.0.1:$PORT/shop" ASSAY_WAREHOUSE_PASSWORD="kept-secret"

# sql [ARGUMENTS] QUERY: as the administrator.
sql() { PGOPTIONS='--search_path=warehouse,public --client_min_messages=warning' psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PORT" -U postgres -d shop "$@"; }
# warehouse WANTED-EXIT ARGUMENTS...: one run; its words are in WORK/warehouse.log.
warehouse() {
  local wanted="$1" status=0
  shift
  assay warehouse --lake "$LAKE" "$@" >"$WORK/warehouse.log" 2>&1 || status=$?
  [ "$status" -eq "$wanted" ] || { log_end warehouse && die "warehouse $* ended with $status instead of $wanted"; }
}
says() { grep -qF -- "$1" "$WORK/warehouse.log" || { log_end warehouse && die "warehouse does not say: $1"; }; }
compare() { "$PYTHON" "$ORACLE/warehouse.py" --lake "$LAKE" --port "$PORT" --database shop "$@" || die "the warehouse is not what the lake is"; }
# more NAME SEED EVENTS [LAKE]: an epoch or more.
more() {
  "$ASSAY" generate --events "$3" --seed "$2" --start-at "2026-02-01T00:00:00Z" --output "$WORK/$1.jsonl" >"$WORK/generate.log" 2>&1 ||
    { log_end generate && die "generate failed"; }
  add "$1" "${4:-$LAKE}"
}
add() { "$ASSAY" load "$WORK/$1.jsonl" --lake "${2:-$LAKE}" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }; }

sql -d postgres -c "CREATE ROLE loader LOGIN PASSWORD 'kept-secret'" -c "CREATE DATABASE shop OWNER loader"
assay demo --events "$EVENTS" --seed "$SEED" --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }

say "who may not come in, and who is not there"
ASSAY_WAREHOUSE_PASSWORD=wrong warehouse 2
says "password authentication failed"
warehouse 1 --url "postgres://loader@127.0.0.1:$(free_port)/shop"
says "cannot be reached"
warehouse 2 --url "postgres://loader:kept-secret@127.0.0.1:$PORT/shop"
says "ASSAY_WAREHOUSE_PASSWORD"
! grep -v '^\$ ' "$WORK/warehouse.log" | grep -q kept-secret || die "the password is told"

say "a first load, by a user who may not make roles"
warehouse 0
cat "$WORK/warehouse.log"
says "there is no role assay_analyst, and loader may not make one"
[ "$(sql -c "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'warehouse' AND relkind = 'i'")" -ge 9 ] || die "indexes are missing"
[ "$(sql -c "SELECT count(*) FROM pg_attribute WHERE attrelid = 'fct_transactions'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL")" -eq 0 ] || die "a column has no comment"
compare
warehouse 0
says "nothing is new"

say "what is new, encrypted, with the password in a file"
more new1 "$((SEED + 1))" 3000
printf 'kept-secret\n' >"$WORK/password"
cat >"$WORK/assay.toml" <<TOML
[warehouse]
password_file = "password"
sslmode = "verify-full"
ca_file = "postgresql/certificate.pem"
TOML
(
  unset ASSAY_WAREHOUSE_PASSWORD
  warehouse 0 --config "$WORK/assay.toml" --url "postgres://loader@localhost:$PORT/shop"
  says "added"
  warehouse 2 --config "$WORK/assay.toml"
  says "warehouse.ca_file does not vouch for 127.0.0.1"
)
compare

say "a NUL, which no text of PostgreSQL can hold"
"$PYTHON" - "$WORK/new1.jsonl" "$WORK/nul.jsonl" <<'PYTHON'
import json, sys
rows = []
for line in open(sys.argv[1], errors="replace"):
    try:
        row = json.loads(line)
        float(row["amount"])
    except (ValueError, KeyError, TypeError):
        continue
    if 0 < row["amount"] < 900000:
        rows.append(row)
with open(sys.argv[2], "w") as file:
    for number, row in enumerate(rows[:20]):
        file.write(json.dumps(row | {"transaction_id": f"nul-{number}", "device_id": "a\0b", "merchant": "shop\0"}) + "\n")
PYTHON
add nul
warehouse 0
says "cannot hold"
[ "$(sql -c "SELECT count(*) FROM fct_transactions WHERE device_id = U&'a\\FFFDb'")" -gt 0 ] || die "no row with a NUL came"
compare

say "kills at random while epochs are added"
# Small transactions, so that a run has several.
export ASSAY_WAREHOUSE_TRANSACTION_ROWS=700
(number=0
while [ ! -e "$WORK/enough" ]; do
  number=$((number + 1))
  more "more$number" "$((SEED + 100 + number))" 1500
done) &
ADDING=$!
CHILDREN+=("$ADDING")
# As long as a refresh takes: kills fall into all of it.
began="$(date +%s%N)"
warehouse 0 --full
took_ms=$((($(date +%s%N) - began) / 1000000 + 50))
killed=0 cut=0 done=0
for attempt in $(seq $((KILLS * 6))); do
  [ $((killed + cut)) -lt "$KILLS" ] || break
  # Every third run fills all tables anew; the others take less time.
  if [ $((attempt % 3)) -eq 0 ]; then
    background killed "$ASSAY" warehouse --lake "$LAKE" --full
    within=$took_ms
  else
    background killed "$ASSAY" warehouse --lake "$LAKE"
    within=$((took_ms * 2 / 3))
  fi
  JOB=$CHILD
  sleep "$(between_ms 20 "$within")"
  if ! kill -0 "$JOB" 2>/dev/null; then
    done=$((done + 1))
  elif [ $((attempt % 4)) -eq 3 ]; then
    # Not the job: its session.
    cut=$((cut + $(sql -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'assay warehouse%'")))
  else
    kill -s KILL "$JOB" 2>/dev/null && killed=$((killed + 1)) || true
  fi
  wait "$JOB" 2>/dev/null || true
done
touch "$WORK/enough"
wait "$ADDING" || die "epochs could not be added"
[ $((killed + cut)) -ge "$KILLS" ] || die "only $killed jobs were killed and $cut sessions cut off: raise KILLS or EVENTS"
say "$killed jobs killed, $cut sessions cut off, $done runs were done before; $(sql -c "SELECT count(*) FROM assay_runs") transactions were committed"
# The server may need a moment to see that its client is gone.
for _ in $(seq 20); do
  status=0
  assay warehouse --lake "$LAKE" >"$WORK/warehouse.log" 2>&1 || status=$?
  [ "$status" -eq 1 ] || break
  sleep 0.5
done
[ "$status" -eq 0 ] || { log_end warehouse && die "the run after the kills ended with $status"; }
compare
unset ASSAY_WAREHOUSE_TRANSACTION_ROWS

say "two at a time"
more new2 "$((SEED + 2))" 500
sql -c "BEGIN; LOCK TABLE assay_state IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(${HOLD_S:-6}); COMMIT" >/dev/null &
HOLDER=$!
CHILDREN+=("$HOLDER")
sleep 0.5
background first "$ASSAY" warehouse --lake "$LAKE"
FIRST=$CHILD
sleep "${SETTLE_S:-2}"
warehouse 1
says "is being loaded by assay warehouse"
finish "$FIRST" 60 first
wait "$HOLDER"
compare

say "up to an epoch, and no step back"
epoch="$(sql -c "SELECT max(epoch) FROM assay_state")"
more new3 "$((SEED + 3))" 500
more new4 "$((SEED + 4))" 500
warehouse 0 --until "$((epoch + 1))"
compare --until "$((epoch + 1))"
warehouse 2 --until 1
says "rows are never taken back"
warehouse 0

say "a rebuild"
assay rebuild all --lake "$LAKE" >"$WORK/rebuild.log" 2>&1 || { log_end rebuild && die "rebuild failed"; }
warehouse 2 --until "$(sql -c "SELECT max(epoch) FROM assay_state")"
says "a rebuild: rows of the epochs"
warehouse 0
says "is a rebuild"
[ "$(sql -c "SELECT count(*) FROM fct_transactions WHERE processing_type <> 'full'")" -eq 0 ] || die "rows were left"
compare
warehouse 0
says "nothing is new"

say "roles"
sql -c "CREATE ROLE assay_analyst" -c "CREATE ROLE assay_auditor" -c "CREATE ROLE ana LOGIN IN ROLE assay_analyst PASSWORD 'ana'" \
  -c "CREATE ROLE olga LOGIN IN ROLE assay_auditor PASSWORD 'olga'" -c "CREATE ROLE bob LOGIN PASSWORD 'bob'"
warehouse 0
as() { PGPASSWORD="$1" PGOPTIONS='--search_path=warehouse' psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PORT" -U "$1" -d shop -c "$2"; }
country="$(sql -c "SELECT country FROM dim_countries ORDER BY transactions DESC LIMIT 1")"
all="$(sql -c "SELECT count(*) FROM fct_transactions")"
[ "$(as olga "SELECT count(*) FROM fct_transactions")" = "$all" ] || die "the auditor sees not all rows"
[ "$(as ana "SELECT count(*) FROM fct_transactions")" = 0 ] || die "an analyst sees rows that nobody granted"
sql -c "INSERT INTO access_countries VALUES ('ana', '$country'), ('somebody else', 'Germany'), ('somebody else', 'Japan')"
[ "$(as ana "SELECT string_agg(DISTINCT country, ',') FROM fct_transactions")" = "$country" ] || die "an analyst sees other rows"
[ "$(as ana "SELECT count(*) FROM fct_transactions")" = "$(sql -c "SELECT count(*) FROM fct_transactions WHERE country = '$country'")" ] || die "not all rows of a country are seen"
[ "$(as ana "SELECT count(*) FROM dim_countries")" = 1 ] || die "an analyst sees other countries"
[ "$(as ana "SELECT count(*) FROM access_countries")" = 1 ] || die "an analyst sees the grants of others"
[ "$(as ana "SELECT count(*) > 1 FROM dim_merchants")" = t ] || die "an analyst sees no merchants"
! as ana "SELECT count(*) FROM dim_users" 2>/dev/null || die "an analyst reads dim_users"
! as ana "INSERT INTO access_countries VALUES ('ana', 'Japan')" 2>/dev/null || die "an analyst grants"
! as bob "SELECT count(*) FROM fct_transactions" 2>/dev/null || die "anybody reads"
# What people fill is kept by a refresh.
warehouse 0 --full
says "it was asked for"
[ "$(as ana "SELECT string_agg(DISTINCT country, ',') FROM fct_transactions")" = "$country" ] || die "a refresh lost the grants"

sql -c "REVOKE SELECT ON fct_transactions FROM assay_auditor"
warehouse 0
[ "$(as olga "SELECT count(*) > 0 FROM fct_transactions")" = t ] || die "a grant that was taken away is not given again"

say "tables of somebody else"
sql -c "ALTER TABLE dim_users OWNER TO postgres"
warehouse 2
says "loader cannot load warehouse"
says "dim_users belongs to postgres"
sql -c "ALTER TABLE dim_users OWNER TO loader"

say "views and keys of others that need the key"
sql -c "CREATE VIEW by_key AS SELECT transaction_id, amount FROM fct_transactions GROUP BY transaction_id"
warehouse 0 --full
[ "$(sql -c "SELECT count(*) FROM pg_constraint WHERE conname = 'fct_transactions_pkey'")" -eq 1 ] || die "the key is gone"
[ "$(sql -c "SELECT count(*) FROM by_key")" = "$(sql -c "SELECT count(*) FROM fct_transactions")" ] || die "the view has other rows"
sql -c "DROP VIEW by_key"
compare

say "drift"
sql -c "ALTER TABLE fct_transactions ALTER COLUMN amount TYPE double precision, DROP COLUMN city, ADD COLUMN note text"
warehouse 2
says "~ amount numeric(18,2) NOT NULL: amount double precision NOT NULL in the warehouse"
says "+ city text: in the file, not in the warehouse"
says "- note text: in the warehouse, not in the file"
warehouse 2 --migrate
warehouse 0 --full
compare
[ "$(as ana "SELECT string_agg(DISTINCT country, ',') FROM fct_transactions")" = "$country" ] || die "a table made anew has no policy"
mkdir -p "$WORK/sql/warehouse" "$WORK/sql/checks"
sed -e 's/^--   { name = "event_at", not_null/--   { name = "weekend_amount", about = "Its part of weekends." },\n&/' \
  -e 's/^    transactions.event_at,/    CASE WHEN transactions.is_weekend THEN transactions.amount END AS weekend_amount,\n&/' \
  sql/warehouse/fct_transactions.sql >"$WORK/sql/warehouse/fct_transactions.sql"
export ASSAY_SQL_FOLDER="$WORK/sql"
warehouse 2
says "+ weekend_amount numeric(18,2): in the file, not in the warehouse"
more new5 "$((SEED + 5))" 2000
warehouse 0 --migrate
says "added weekend_amount"
[ "$(sql -c "SELECT count(*) FROM fct_transactions WHERE is_weekend AND weekend_amount = amount")" -gt 0 ] || die "the new column is empty"
warehouse 0 --full
[ "$(sql -c "SELECT count(*) FROM fct_transactions WHERE is_weekend AND weekend_amount IS DISTINCT FROM amount")" -eq 0 ] || die "--full does not fill the new column"

say "another key, and a policy that names a new column"
sed 's/^-- key *= \["transaction_id"\]/-- key = ["transaction_id", "epoch"]/' sql/warehouse/fct_transactions.sql >"$WORK/sql/warehouse/fct_transactions.sql"
sql -c "ALTER TABLE fct_transactions DROP COLUMN weekend_amount"
warehouse 2
says "~ key (transaction_id, epoch): key (transaction_id) in the warehouse"
warehouse 2 --migrate
warehouse 0 --full
[ "$(sql -c "SELECT count(*) FROM pg_constraint WHERE conname = 'fct_transactions_pkey' AND cardinality(conkey) = 2")" -eq 1 ] || die "--full does not make the key"
sed -e 's/^--   { name = "event_at", not_null/--   { name = "sunday_amount", about = "Its part of Sundays." },\n&/' \
  -e 's/^    transactions.event_at,/    CASE WHEN transactions.event_day_of_week = 7 THEN transactions.amount END AS sunday_amount,\n&/' \
  -e 's/{ role = "assay_auditor" }/{ role = "assay_auditor", rows = "sunday_amount IS NOT NULL" }/' \
  sql/warehouse/fct_transactions.sql >"$WORK/sql/warehouse/fct_transactions.sql"
warehouse 2
warehouse 0 --full
[ "$(as olga "SELECT count(*) FROM fct_transactions")" = "$(sql -c "SELECT count(*) FROM fct_transactions WHERE event_day_of_week = 7")" ] || die "the new policy is not in force"

say "a query that cannot work, however often it is tried"
sed 's/count(\*) AS transactions/count(*) \/ (max(epoch) - max(epoch)) AS transactions/' sql/warehouse/dim_merchants.sql >"$WORK/sql/warehouse/dim_merchants.sql"
warehouse 2 --full
says "dim_merchants.sql: the lake cannot answer it: an expression divides by zero"
rm "$WORK/sql/warehouse/dim_merchants.sql"

say "checks that do not hold"
cat >"$WORK/sql/checks/small.sql" <<'SQL'
-- table = "fct_transactions"
-- about = "No amount is large."

SELECT transaction_id, amount FROM fct_transactions
WHERE amount > 20 AND epoch > current_setting('assay.after_epoch')::bigint
SQL
more new6 "$((SEED + 6))" 2000
before="$(sql -c "SELECT count(*), max(epoch) FROM fct_transactions")"
warehouse 3
says "small: "
says "transaction_id"
[ "$(sql -c "SELECT count(*), max(epoch) FROM fct_transactions")" = "$before" ] || die "rows came that a check refused"
sed -i 's/^-- about/-- severity = "warn"\n&/' "$WORK/sql/checks/small.sql"
warehouse 0
says "warning  small: "
sed -i 's/amount > 20/amuont > 20/' "$WORK/sql/checks/small.sql"
more new7 "$((SEED + 7))" 500
warehouse 2
says 'small.sql:6: column "amuont" does not exist'
unset ASSAY_SQL_FOLDER
warehouse 0 --full
compare

say "another lake"
OTHER="$WORK/other"
more new8 "$((SEED + 8))" 500 "$OTHER"
LAKE="$OTHER" warehouse 2
says "the lake was taken back, or is another one"
rm -rf "$OTHER"
ASSAY_PIPELINE=elsewhere more new9 "$((SEED + 9))" 500 "$OTHER"
sql -c "DROP TABLE dim_countries"
(LAKE="$OTHER" ASSAY_PIPELINE=elsewhere warehouse 2 --full)
says "was loaded from the pipeline \`transactions\`"
[ -z "$(sql -c "SELECT to_regclass('warehouse.dim_countries')")" ] || die "a table was made before the pipeline was looked at"
warehouse 0
compare

say "a lake without epochs"
: >"$WORK/nothing.jsonl"
add nothing "$WORK/empty"
(LAKE="$WORK/empty" warehouse 1 --full)
says "the lake has no complete epoch yet"
compare

say "a key that is too long for an index"
"$PYTHON" - "$WORK/nul.jsonl" "$WORK/long.jsonl" <<'PYTHON'
import json, random, sys
row = json.loads(open(sys.argv[1]).readline())
long = random.Random(1).randbytes(6000).hex()
open(sys.argv[2], "w").write(json.dumps(row | {"transaction_id": "long-1", "device_id": "d", "merchant": long}) + "\n")
PYTHON
add long "$WORK/longest"
(LAKE="$WORK/longest" warehouse 3 --schema longest)
says "octet_length(column) <= 2600"

say "rows a second"
LAKE="$WORK/large"
assay generate --events "$RATE_EVENTS" --seed "$SEED" --malformed 0 --bad-rows 0 --json-share 0 --v2 0 --output "$WORK/large.jsonl" >"$WORK/generate.log" 2>&1
assay load "$WORK/large.jsonl" --lake "$LAKE" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }
# rates NAME: of the fact, and of its rows over the time of the whole run. Told, not judged: machines differ.
rates() {
  local rate
  rate="$("$PYTHON" -c 'import json, sys
report = json.loads(sys.stdin.readlines()[-1])
fact = next(table for table in report["tables"] if table["table"] == "fct_transactions")
print(int(fact["rows"] / report["seconds"]), file=sys.stderr)
print(int(fact["rows_per_s"]))' 2>"$WORK/overall" <"$WORK/warehouse.log")"
  say "$1: fct_transactions at $rate rows/s; with dimensions, checks and all else at $(cat "$WORK/overall") rows/s"
}
warehouse 0 --schema large --full --json
rates "filled"
for number in 1 2; do
  assay generate --events "$((RATE_EVENTS / 4))" --seed "$((SEED + number))" --start-at "2026-03-0${number}T00:00:00Z" --malformed 0 --bad-rows 0 \
    --json-share 0 --v2 0 --output "$WORK/large$number.jsonl" >"$WORK/generate.log" 2>&1
  add "large$number"
  warehouse 0 --schema large --json
  rates "added a quarter, $number"
done
compare --schema large
[ "$(sql -c "SELECT count(*) FROM pg_index WHERE indrelid = 'large.fct_transactions'::regclass AND indisvalid")" -eq 5 ] || die "an index is missing"
say "warehouse: all held"
