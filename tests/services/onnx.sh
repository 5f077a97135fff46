#!/usr/bin/env bash
# ONNX both ways: what assay trains says the same in onnxruntime, row by row (missing cells, unknown values, rows that lie
# on a split); what scikit-learn and XGBoost train says the same in assay; what cannot be taken in is refused by its operator.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"
ROWS="${ROWS:-6000}"

PYTHON="$("$SERVICES_DIR/python" onnx)" || exit $?
export ASSAY_MODEL_FOLDER="$WORK/models"
# Whether the generated frauds are learned well is not what is tested here.
export ASSAY_TRAIN_PRECISION_MIN=0 ASSAY_TRAIN_RECALL_MIN=0 ASSAY_TRAIN_F1_MIN=0 ASSAY_TRAIN_FOLDS=3
export ASSAY_TRAIN_LABELS_MIN=20

oracle() { "$PYTHON" "$ORACLE/onnx_models.py" "$@"; }

oracle data "$WORK" "$ROWS"
for family in logistic forest boost; do
  for data in clean noisy; do
    model="$family-$data"
    say "$model"
    ASSAY_TRAIN_FAMILIES="[\"$family\"]" assay train --data "$WORK/$data.parquet" --label is_fraud --time at \
      --label-delay 0 --name "$model" --json >"$WORK/train.$model.json" 2>"$WORK/train.log" ||
      { log_end train && die "train failed"; }
    assay models export "$model" --onnx "$WORK/$model.onnx" --json >"$WORK/export.log" || die "export failed"
    # Rows on the splits of this very model are made of its file.
    oracle edges "$WORK" "$model"
    assay predict --quiet --model "$model" --data "$WORK/$model.edges.parquet" --output "$WORK/$model.parquet" >/dev/null
    oracle exported "$WORK" "$model"
  done
done
oracle calibrations "$WORK"

say "models of scikit-learn and XGBoost"
oracle foreign "$WORK"
while read -r model; do
  assay models import "$WORK/$model.onnx" --name "$model" --data "$WORK/foreign.parquet" --label is_fraud --time at \
    --json >"$WORK/import.$model.json" 2>"$WORK/import.log" || { log_end import && die "import of $model failed"; }
  assay predict --quiet --model "$model@$("$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["version"])' <"$WORK/import.$model.json")" \
    --data "$WORK/foreign.parquet" --output "$WORK/$model.parquet" >/dev/null
  oracle imported "$WORK" "$model"
  # And out again.
  assay promote "$model" >/dev/null
  assay models export "$model" --onnx "$WORK/$model.again.onnx" >/dev/null
  oracle again "$WORK" "$model"
done <"$WORK/foreign.txt"

say "what cannot be taken in"
while read -r file operator; do
  status=0
  assay models import "$WORK/$file" --name refused --data "$WORK/foreign.parquet" --label is_fraud --time at \
    >"$WORK/refused.log" 2>&1 || status=$?
  [ "$status" -eq 2 ] && grep -q "$operator" "$WORK/refused.log" ||
    { log_end refused && die "$file: expected exit code 2 that names $operator, found $status"; }
done <"$WORK/refused.txt"
[ -z "$(assay models refused 2>/dev/null)" ] || die "a refused file left a version behind"
say "ok"
