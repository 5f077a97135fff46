"""scikit-learn and XGBoost on the rows of `assay bench train`, with the same settings: what a family takes, and how good it is.

    train.py FOLDER

FOLDER has train.parquet, test.parquet and settings.json. Prints JSON: for each family the average precision on the test, and
CPU and wall time of the fit alone.
"""

import json
import os
import pathlib
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import sklearn
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def read(path):
    table = pq.read_table(path)
    features = [name for name in table.column_names if name not in ("label", "at")]
    rows = np.column_stack([table[name].to_numpy() for name in features])
    return rows, table["label"].to_numpy(zero_copy_only=False)


def families(settings):
    logistic, forest, boost = (settings[name] for name in ("logistic", "forest", "boost"))
    cores = os.cpu_count()
    signed_log = FunctionTransformer(lambda rows: np.sign(rows) * np.log1p(np.abs(rows)))
    line = LogisticRegression(C=1 / logistic["l2"], max_iter=1_000)
    return {
        "logistic": make_pipeline(signed_log, StandardScaler(), line),
        "forest": RandomForestClassifier(
            forest["trees"],
            max_depth=forest["depth_max"],
            min_samples_leaf=forest["leaf_rows_min"],
            max_features="sqrt",
            n_jobs=cores,
            random_state=forest["seed"],
        ),
        "boost": xgboost.XGBClassifier(
            n_estimators=boost["rounds_max"],
            learning_rate=boost["learning_rate"],
            max_depth=boost["depth_max"],
            reg_lambda=boost["l2"],
            gamma=boost["gain_min"],
            min_child_weight=boost["child_weight_min"],
            max_bin=boost["bins_max"],
            tree_method="hist",
            n_jobs=cores,
            random_state=boost["seed"],
        ),
    }


def main(folder):
    folder = pathlib.Path(folder)
    rows, labels = read(folder / "train.parquet")
    test, truth = read(folder / "test.parquet")
    told = {}
    for name, model in families(json.loads((folder / "settings.json").read_text())).items():
        cpu, wall = time.process_time(), time.perf_counter()
        model.fit(rows, labels)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        scores = model.predict_proba(test)[:, 1]
        told[name] = {"average_precision": average_precision_score(truth, scores), "cpu_s": cpu, "wall_s": wall}
    versions = {"scikit-learn": sklearn.__version__, "xgboost": xgboost.__version__}
    print(json.dumps({"families": told, "versions": versions}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
