#!/usr/bin/env bash
# Arrow Flight SQL: ADBC's driver asks `assay serve --flight`, and what it gets is, cell by cell, what clients of PostgreSQL get.
# Then passwords, encryption, what a role may read, limits, and a stop in the middle. At last a whole table by both protocols, with
# its rows per second.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-20000}"
BULK="${BULK:-1000000}"

PYTHON="$("$SERVICES_DIR/python" flight)" || exit $?
need openssl openssl
assay demo --events "$EVENTS" --seed 7 --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
MORE=()
for number in 1 2 3; do
  MORE+=("$WORK/more$number.jsonl")
  assay generate --events 3000 --seed "$((100 + number))" --start-at "2026-01-0$((5 + number))T00:00:00Z" --malformed 0 \
    --json-share 0 --v2 0 --output "${MORE[-1]}" >"$WORK/generate.log" 2>&1 || { log_end generate && die "generate failed"; }
done

# serve NAME LAKE ARGUMENTS...: sets FLIGHT, PORT, HTTP and SERVER.
serve() {
  local name="$1" lake="$2"
  shift 2
  FLIGHT="$(free_port)"
  PORT="$(free_port)"
  HTTP="$(free_port)"
  background "$name" "$ASSAY" serve --lake "$lake" --http "127.0.0.1:$HTTP" --postgres "127.0.0.1:$PORT" \
    --flight "127.0.0.1:$FLIGHT" "$@"
  SERVER=$CHILD
  until_listening "$SERVER" "$FLIGHT" "$name"
}
stop() {
  kill -s TERM "$SERVER"
  finish "$SERVER" 20 "$1"
}
oracle() { "$PYTHON" "$ORACLE/flight.py" "$@" --flight "$FLIGHT" || die "the client found something"; }

serve open "$LAKE"
say "ADBC"
oracle open --postgres "$PORT" --lake "$LAKE" --assay "$ASSAY" --more "${MORE[@]}"
curl -s "http://127.0.0.1:$HTTP/metrics" >"$WORK/metrics"
for metric in 'assay_sql_statements_total{outcome="ok",protocol="flight"}' 'assay_sql_statements_total{outcome="ok",protocol="postgres"}' \
  'assay_sql_errors_total{protocol="flight",sqlstate="25006"}' 'assay_sql_rows_total{protocol="flight"}' \
  'assay_sql_connections{protocol="flight"} 0'; do
  grep -qF "$metric" "$WORK/metrics" || { grep assay_sql "$WORK/metrics" >&2 && die "no $metric"; }
done
say "a stop in the middle"
"$PYTHON" - "$FLIGHT" >"$WORK/slow.log" 2>&1 <<'PYTHON' &
import sys
import adbc_driver_flightsql.dbapi as flightsql
with flightsql.connect(f"grpc://127.0.0.1:{sys.argv[1]}", autocommit=True) as client, client.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM silver.transactions a, silver.transactions b, silver.transactions c WHERE a.amount + b.amount > c.amount")
    cursor.fetchall()
PYTHON
CHILDREN+=("$!")
sleep 2
stop open

say "passwords, roles, encryption, limits"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$WORK/key.pem" -out "$WORK/certificate.pem" 2>/dev/null
hashed="$(printf %s "kept secret" | assay serve --hash-password 2>/dev/null)"
printf 'ana:%s\nbob:another\n' "$hashed" >"$WORK/passwords"
cat >"$WORK/assay.toml" <<TOML
[postgres]
password_file = "passwords"
certificate_file = "certificate.pem"
key_file = "key.pem"
[postgres.roles.ana]
tables = ["gold.*", "silver.transactions"]
rows = { "silver.transactions" = "country = 'Germany'" }
[postgres.roles.bob]
tables = ["*"]
[flight]
rows_max = 100000
statement_timeout_ms = 3000
TOML
serve closed "$LAKE" --config "$WORK/assay.toml"
germany="$(assay sql --lake "$LAKE" --format csv "SELECT count(*) AS n FROM silver.transactions WHERE country = 'Germany'" 2>/dev/null | tail -n 1)"
oracle closed --certificate "$WORK/certificate.pem" --germany "$germany"
stop closed

say "without a password, only loopback is served"
status=0
assay serve --lake "$LAKE" --http "127.0.0.1:$(free_port)" --flight "0.0.0.0:$(free_port)" >"$WORK/refused.log" 2>&1 || status=$?
[ "$status" -eq 2 ] || die "serve on 0.0.0.0 without a password ended with $status"
grep -q "flight.address .* there is no password" "$WORK/refused.log" || die "it does not say why"

say "many rows"
assay demo --events "$BULK" --seed 8 --lake "$WORK/bulk" --json >"$WORK/bulk.log" 2>&1 || { log_end bulk && die "demo failed"; }
serve bulk "$WORK/bulk"
oracle bulk --postgres "$PORT"
stop bulk
say "flight: all held"
