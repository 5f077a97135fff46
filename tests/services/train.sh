#!/usr/bin/env bash
# Training beside scikit-learn and XGBoost, on the same rows with the same settings: no family's average precision lies more
# than 0.005 below, and what chance does to so few frauds (two forests of one library, of two seeds, differ by 0.01 here).
# ROWS=500000 is the size that figures of speed are quoted for; what it takes is printed and not judged.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
ROWS="${ROWS:-60000}"

PYTHON="$("$SERVICES_DIR/python" onnx)" || exit $?
ASSAY_TIMEOUT=800 assay bench train --rows "$ROWS" --seed "$SEED" --python "$PYTHON" --scratch "$WORK" --json >"$WORK/bench.json"
"$PYTHON" - "$WORK/bench.json" <<'PYTHON'
import json, sys
told = json.load(open(sys.argv[1]))["figures"]
for name, ours in told["families"].items():
    theirs = told["beside"]["families"][name]
    print(f"{name}: AP {ours['average_precision']:.4f} beside {theirs['average_precision']:.4f}, "
          f"CPU {ours['cpu_s']:.1f} s beside {theirs['cpu_s']:.1f} s")
    below = theirs["average_precision"] - ours["average_precision"]
    assert below <= 0.005 + 0.3 / told["positives"] ** 0.5, f"{name}: {below:.4f} below"
print(f"the whole job: {told['job']['wall_s']:.1f} s")
PYTHON
say "ok"
