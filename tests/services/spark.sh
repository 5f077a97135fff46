#!/usr/bin/env bash
# Spark reads the tables as they are after compaction, restatement and rebuild.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"

oracle_python
assay demo --events "${EVENTS:-30000}" --seed 7 --lake "$LAKE" --json >"$WORK/demo.log" 2>&1 || { log_end demo && die "demo failed"; }
assay rebuild all --lake "$LAKE" >"$WORK/rebuild.log" 2>&1 || { log_end rebuild && die "rebuild failed"; }
"$PYTHON" "$ORACLE/spark_read.py" "$LAKE"
