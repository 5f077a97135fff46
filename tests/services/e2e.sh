# Shared by the end-to-end tests: a folder of their own, the binary, the oracles; all that was started ends with the test.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ROOT="$(cd "$SERVICES_DIR/../.." && pwd)"
ORACLE="$ROOT/tests/oracle"
TARGET="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/assay/target}"
ASSAY="${ASSAY:-$TARGET/release/assay}"
SEED="${SEED:-$RANDOM}"
TOPIC=ecommerce.transactions
CHILDREN=()

[ -x "$ASSAY" ] || die "there is no $ASSAY: cargo build --release, or set ASSAY"
WORK="$(mktemp -d "${TMPDIR:-/tmp}/assay-e2e.XXXXXX")"
LAKE="$WORK/lake"
cd "$ROOT"

cleanup() {
  local status=$? pid
  for pid in ${CHILDREN[@]+"${CHILDREN[@]}"}; do
    # Only while it is still ours: the number may have gone to another process.
    [ "$(cut -d ' ' -f 4 "/proc/$pid/stat" 2>/dev/null)" != "$$" ] || kill -s KILL "$pid" 2>/dev/null || true
  done
  for service in kafka s3 registry postgresql redis; do
    [ ! -e "$WORK/$service/pid" ] || "$SERVICES_DIR/$service" stop "$WORK/$service" || true
  done
  if [ "$status" -eq 0 ] || [ "$status" -eq "$SKIPPED" ] || [ -z "${KEEP:-}" ]; then
    rm -rf "$WORK"
  else
    say "kept: $WORK"
  fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

need python3 python3
say "seed $SEED (repeat with SEED=$SEED)"

kafka_up() {
  local line
  line="$("$SERVICES_DIR/kafka" start "$WORK/kafka")" || exit $?
  BROKERS="${line#BOOTSTRAP=}"
}

oracle_python() { PYTHON="$("$SERVICES_DIR/python" lake)" || exit $?; }

# background NAME COMMAND...: sets CHILD; its output goes to WORK/NAME.log.
background() {
  local name="$1"
  shift
  "$@" >>"$WORK/$name.log" 2>&1 </dev/null &
  CHILD=$!
  CHILDREN+=("$CHILD")
}

# finish PID SECONDS NAME: waits for a child; its exit code, or a death by our hand when it takes too long.
finish() {
  local deadline=$((SECONDS + $2)) status=0
  while kill -0 "$1" 2>/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      log_end "$3"
      die "$3 did not end within $2 s"
    fi
    sleep 0.1
  done
  wait "$1" || status=$?
  [ "$status" -eq 0 ] || {
    log_end "$3"
    die "$3 ended with $status"
  }
}

# until_listening PID PORT NAME: until a child takes connections.
until_listening() {
  for _ in $(seq 300); do
    ! listening "$2" || return 0
    kill -0 "$1" 2>/dev/null || { log_end "$3" && die "$3 ended"; }
    sleep 0.1
  done
  log_end "$3" && die "$3 does not listen"
}

log_end() {
  say "the end of $1.log:"
  tail -n 30 "$WORK/$1.log" >&2
}

assay() {
  say "\$ assay $*"
  timeout "${ASSAY_TIMEOUT:-300}" "$ASSAY" "$@"
}

drain() {
  assay ingest --until-end --brokers "$BROKERS" --topic "$TOPIC" --contracts contracts --lake "$LAKE" >"$WORK/ingest.log" 2>&1 ||
    { log_end ingest && die "ingest failed"; }
  assay refine --lake "$LAKE" >"$WORK/refine.log" 2>&1 || { log_end refine && die "refine failed"; }
}

# A random duration in seconds between two numbers of milliseconds.
between_ms() { awk -v low="$1" -v high="$2" -v r="$RANDOM" 'BEGIN { printf "%.3f", (low + (high - low) * r / 32767) / 1000 }'; }
