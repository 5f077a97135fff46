#!/usr/bin/env bash
# The second source: a year of a real shop, by configuration alone, against DuckDB's own answer from the file.
#
#   ASSAY_RETAIL_CSV=FILE retail.sh     online_retail.csv.gz of the UCI data set; skipped when it is not there
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
FILE="${ASSAY_RETAIL_CSV:-$ROOT/../shared/data/online_retail.csv.gz}"
[ -f "$FILE" ] || skip "$FILE is not there; name the file in ASSAY_RETAIL_CSV"

oracle_python
load() { assay load "$FILE" --config examples/retail/assay.toml --lake "$LAKE" >"$WORK/load.log" 2>&1 || { log_end load && die "load failed"; }; }
load
"$PYTHON" "$ORACLE/retail.py" "$LAKE" "$FILE"
say "loaded again, the file changes nothing"
load
"$PYTHON" "$ORACLE/retail.py" "$LAKE" "$FILE"
assay verify --config examples/retail/assay.toml --lake "$LAKE"
