#!/usr/bin/env bash
# SQL for clients of PostgreSQL: psql, psycopg and SQLAlchemy ask `assay serve --postgres`, and what they get is what
# `assay sql` writes and DuckDB reads. Then passwords, encryption, what a role may read, limits, and a stop in the middle.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-20000}"

PYTHON="$("$SERVICES_DIR/python" postgres)" || exit $?
need psql postgresql-client
need openssl openssl
assay demo --events "$EVENTS" --seed 7 --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
MORE=()
for number in 1 2 3 4; do
  MORE+=("$WORK/more$number.jsonl")
  assay generate --events 3000 --seed "$((100 + number))" --start-at "2026-01-0$((5 + number))T00:00:00Z" --malformed 0 \
    --json-share 0 --v2 0 --output "${MORE[-1]}" >"$WORK/generate.log" 2>&1 || { log_end generate && die "generate failed"; }
done

# serve NAME ARGUMENTS...: sets PORT, HTTP and SERVER.
serve() {
  local name="$1"
  shift
  PORT="$(free_port)"
  HTTP="$(free_port)"
  background "$name" "$ASSAY" serve --lake "$LAKE" --http "127.0.0.1:$HTTP" --postgres "127.0.0.1:$PORT" "$@"
  SERVER=$CHILD
  until_listening "$SERVER" "$PORT" "$name"
}
stop() {
  kill -s TERM "$SERVER"
  finish "$SERVER" 20 "$1"
}
ask() { PGOPTIONS='' PGCONNECT_TIMEOUT=10 psql -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PORT" -U ana -d assay "$@"; }
# shows TEXT ARGUMENTS...: psql's answer has a text.
shows() {
  local text="$1"
  shift
  ask "$@" >"$WORK/answer" 2>&1 || { cat "$WORK/answer" >&2 && die "psql $* failed"; }
  grep -qF -- "$text" "$WORK/answer" || { cat "$WORK/answer" >&2 && die "no \`$text\` in psql $*"; }
}
# refuses TEXT ARGUMENTS...: psql fails, and says why.
refuses() {
  local text="$1"
  shift
  ! ask "$@" >"$WORK/answer" 2>&1 || { cat "$WORK/answer" >&2 && die "psql $* was not refused"; }
  grep -qF -- "$text" "$WORK/answer" || { cat "$WORK/answer" >&2 && die "no \`$text\` in psql $*"; }
}

serve open
say "psql"
shows "(5 rows)" -c "select transaction_id, amount, score, class from gold.fraud_scores limit 5"
shows " silver | transactions " -c '\dt'
shows " gold   | fraud_scores " -c '\dt gold.*'
shows " ops    " -c '\dn'
shows "timestamp with time zone" -c '\d gold.fraud_scores'
shows " gold   | fraud_scores " -c '\d'
shows " assay " -c '\l'
refuses "LINE 1: select amuont" -c "select amuont from silver.transactions"
query="SELECT class, count(*) AS transactions, sum(amount) AS amount FROM gold.fraud_scores GROUP BY class ORDER BY class"
assay sql --lake "$LAKE" --format csv "$query" >"$WORK/expected" 2>/dev/null
ask --csv -c "$query" >"$WORK/found"
cmp "$WORK/expected" "$WORK/found" || die "psql and assay sql differ"

say "psycopg, SQLAlchemy, DuckDB"
"$PYTHON" "$ORACLE/postgres.py" --port "$PORT" --lake "$LAKE" --assay "$ASSAY" --more "${MORE[@]}" || die "the clients found something"
curl -s "http://127.0.0.1:$HTTP/metrics" >"$WORK/metrics"
for metric in 'assay_sql_statements_total{outcome="ok",protocol="postgres"}' 'assay_sql_statements_total{outcome="cancelled",protocol="postgres"}' 'assay_sql_errors_total{protocol="postgres",sqlstate="25006"}' 'assay_sql_connections{protocol="postgres"} 0'; do
  grep -qF "$metric" "$WORK/metrics" || die "no $metric"
done
say "a stop in the middle"
ask -c "select count(*) from silver.transactions a, silver.transactions b, silver.transactions c where a.amount + b.amount > c.amount" \
  >"$WORK/slow.log" 2>&1 &
CHILDREN+=("$!")
sleep 1
stop open

say "passwords, roles, encryption"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout "$WORK/key.pem" -out "$WORK/certificate.pem" 2>/dev/null
hashed="$(printf %s "kept secret" | assay serve --hash-password 2>/dev/null)"
printf 'ana:%s\nbob:another\n' "$hashed" >"$WORK/passwords"
cat >"$WORK/assay.toml" <<TOML
[postgres]
password_file = "passwords"
certificate_file = "certificate.pem"
key_file = "key.pem"
connections_max = 3
rows_max = 1000
[postgres.roles.ana]
tables = ["gold.*", "silver.transactions"]
rows = { "silver.transactions" = "country = 'Germany'" }
[postgres.roles.bob]
tables = ["*"]
TOML
serve closed --config "$WORK/assay.toml"
refuses "no password supplied" -w -c "select 1"
export PGPASSWORD="kept secret"
shows "1" -c "select 1"
shows "SSL connection" -c '\conninfo'
PGSSLMODE=disable shows "1" -c "select 1"
PGPASSWORD=wrong refuses "password authentication failed for user \"ana\"" -c "select 1"
PGPASSWORD=wrong refuses "password authentication failed" -U nobody -c "select 1"
refuses "permission denied for table ops.epochs" -c "select * from ops.epochs"
refuses "permission denied for table bronze.transactions" -c "select * from bronze.transactions"
refuses "there is no table" -c "select * from gold.nothing"
shows "(6 rows)" -c '\dt gold.*'
! ask -c '\dt bronze.*' 2>&1 | grep -q "bronze | transactions" || die "a table is listed that may not be read"
seen="$(ask -At -c "select string_agg(distinct country, ',') from silver.transactions")"
[ "$seen" = Germany ] || die "rows of other countries are seen: $seen"
all="$(assay sql --lake "$LAKE" --format csv "SELECT count(*) AS n FROM silver.transactions WHERE country = 'Germany'" 2>/dev/null | tail -n 1)"
[ "$(ask -At -c "select count(*) from silver.transactions")" = "$all" ] || die "not all rows of a role are seen"
[ "$(PGPASSWORD=another ask -U bob -At -c "select count(distinct country) > 1 from silver.transactions")" = t ] || die "bob sees not all"
refuses "more than 1000 rows" -c "select * from gold.fraud_scores"
HOLD=()
for _ in 1 2 3; do
  ask -c '\! sleep 8' >/dev/null 2>&1 &
  HOLD+=("$!")
done
sleep 2
refuses "too many clients" -c "select 1"
wait "${HOLD[@]}"
shows "1" -c "select 1"
stop closed
unset PGPASSWORD

say "without a password, only loopback is served"
status=0
assay serve --lake "$LAKE" --http "127.0.0.1:$(free_port)" --postgres "0.0.0.0:$(free_port)" >"$WORK/refused.log" 2>&1 || status=$?
[ "$status" -eq 2 ] || die "serve on 0.0.0.0 without a password ended with $status"
grep -q "there is no password" "$WORK/refused.log" || die "it does not say why"
say "postgres: all held"
