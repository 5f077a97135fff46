#!/usr/bin/env bash
# Runs told to a real MLflow server: parameters, metrics, files and the registered version are there as assay has them; a
# server that refuses, or is not there, is a warning that the summary counts, and costs no training.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"

PYTHON="$("$SERVICES_DIR/python" mlflow)" || exit $?
need curl curl
export ASSAY_MODEL_FOLDER="$WORK/models" ASSAY_TRAIN_FAMILIES='["logistic"]' ASSAY_TRAIN_FOLDS=2
export ASSAY_TRAIN_PRECISION_MIN=0 ASSAY_TRAIN_RECALL_MIN=0 ASSAY_TRAIN_F1_MIN=0

"$PYTHON" - "$WORK/rows.csv" <<'PYTHON'
import random, sys
random.seed(1)
with open(sys.argv[1], "w") as file:
    file.write("amount,count,label\n")
    for _ in range(3000):
        amount, count = random.expovariate(1 / 50), random.randint(0, 9)
        file.write(f"{amount:.2f},{count},{int(amount + 10 * count + random.gauss(0, 15) > 140)}\n")
PYTHON

PORT="$(free_port)"
export MLFLOW_TRACKING_URI="http://127.0.0.1:$PORT"
mkdir "$WORK/mlflow"
# In the background only what is needed: its jobs would be more processes to end.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false launch "$WORK/mlflow" "$(dirname "$PYTHON")/mlflow" server --workers 1 \
  --host 127.0.0.1 --port "$PORT" --backend-store-uri "sqlite:///$WORK/mlflow/m.db" --artifacts-destination "$WORK/mlflow/files"
stop_mlflow() { end TERM "$WORK/mlflow" 20; }
trap 'stop_mlflow; cleanup' EXIT
wait_until 120 "MLflow" "$WORK/mlflow" curl -sf "$MLFLOW_TRACKING_URI/health"

train() { assay train --data "$WORK/rows.csv" --label label --name shop --json "$@" 2>"$WORK/train.log"; }
train >"$WORK/first.json" || { log_end train && die "train failed"; }
sleep 1.1
MLFLOW_EXPERIMENT_NAME=weekly train --seed 3 --no-promote >"$WORK/second.json" || { log_end train && die "train failed"; }
assay models export shop --onnx "$WORK/shop.onnx" >/dev/null
"$PYTHON" - "$WORK" <<'PYTHON'
import json, pathlib, sys
import mlflow
folder = pathlib.Path(sys.argv[1])
client = mlflow.MlflowClient()
for file, experiment, number in (("first.json", "assay", "1"), ("second.json", "weekly", "2")):
    told = json.loads((folder / file).read_text())
    assert told["mlflow"]["failures"] == [] and told["mlflow"]["model_version"] == number, told["mlflow"]
    run = client.get_run(told["mlflow"]["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == experiment, experiment
    assert run.info.status == "FINISHED" and run.info.end_time >= run.info.start_time > 1.7e12, run.info
    test = told["winner"]["test"]
    for name in ("f1", "precision", "recall", "average_precision", "log_loss"):
        assert run.data.metrics[f"test.{name}"] == test[name], name
    pooled = told["families"][0]["out_of_fold"]
    assert run.data.metrics["out_of_fold.logistic.f1"] == pooled["f1"], run.data.metrics
    assert run.data.params["winner.family"] == "logistic", run.data.params
    assert float(run.data.params["threshold"]) == told["winner"]["threshold"], run.data.params
    assert run.data.tags["assay.version"] == told["version"], run.data.tags
    kept = folder / "models" / "shop" / told["version"]
    (folder / "got" / number).mkdir(parents=True)
    got = pathlib.Path(client.download_artifacts(run.info.run_id, "", str(folder / "got" / number)))
    assert (got / "card.html").read_text() == (kept / "card.html").read_text()
    assert json.loads((got / "manifest.json").read_text())["version"] == told["version"]
    version = client.get_model_version("shop", number)
    assert version.run_id == run.info.run_id and version.tags["assay.version"] == told["version"], version
    model = mlflow.artifacts.download_artifacts(f"models:/shop/{number}")
    if number == "1":
        assert (pathlib.Path(model) / "model.onnx").read_bytes() == (folder / "shop.onnx").read_bytes()
assert client.get_model_version_by_alias("shop", "champion").version == "1"
print("two runs, as assay has them")
PYTHON

say "a server that is not there"
stop_mlflow
sleep 1.1
train >"$WORK/third.json" || { log_end train && die "a dead MLflow failed the training"; }
grep -q "not told to MLflow" "$WORK/train.log" || { log_end train && die "no warning"; }
"$PYTHON" -c 'import json, sys
told = json.load(sys.stdin)
assert told["version"] and len(told["mlflow"]["failures"]) == 1 and told["mlflow"]["run_id"] is None, told["mlflow"]' <"$WORK/third.json"
say "ok"
