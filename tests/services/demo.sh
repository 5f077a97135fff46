#!/usr/bin/env bash
# The demo's lake: proved by `verify`, recomputed by another engine, read by others, and rebuilt without a difference.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
EVENTS="${EVENTS:-200000}"

oracle_python
for name in first second; do
  assay demo --events "$EVENTS" --seed 7 --lake "$WORK/$name" --json >"$WORK/$name.log" 2>"$WORK/$name.stderr" ||
    { cat "$WORK/$name.stderr" >&2 && die "demo failed"; }
done
LAKE="$WORK/first"
assay verify --lake "$LAKE"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
"$PYTHON" "$ORACLE/same.py" "$WORK/first" "$WORK/second"
"$PYTHON" "$ORACLE/readers.py" "$LAKE"
say "rebuilt, the tables are the same"
assay rebuild all --lake "$LAKE"
assay verify --lake "$LAKE"
"$PYTHON" "$ORACLE/recompute.py" "$LAKE"
"$PYTHON" "$ORACLE/same.py" "$LAKE" "$WORK/second"
