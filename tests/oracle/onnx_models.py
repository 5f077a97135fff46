"""ONNX files of assay by onnxruntime, and models of scikit-learn and XGBoost for assay to read.

    onnx_models.py data FOLDER ROWS       rows to learn from, in two kinds
    onnx_models.py edges FOLDER MODEL     rows with missing cells, unknown values, and cells on the splits of a model
    onnx_models.py exported FOLDER MODEL  MODEL.onnx says of them what `assay predict` said
    onnx_models.py calibrations FOLDER    each way of calibrating was among them
    onnx_models.py foreign FOLDER         models of others, as ONNX, with what they say of foreign.parquet
    onnx_models.py imported FOLDER MODEL  `assay predict` said the same
    onnx_models.py again FOLDER MODEL     and so does what assay exports of it
"""

import base64
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

TOLERANCE = 1e-6


def draw(rows, seed, noise):
    """Cells of every kind, each missing now and then, and a label that follows from them but for some noise."""
    random = np.random.default_rng(seed)
    amount = np.round(np.exp(random.normal(3, 1.4, rows)), 2)
    count = random.poisson(3, rows).astype(float)
    ratio = random.uniform(-1, 1, rows).astype(np.float32).astype(float)
    night = random.uniform(size=rows) < 0.3
    country = random.choice(["DE", "FR", "IT", "ES", "ü"], rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    method = random.choice(["card", "paypal", ""], rows)
    score = 1.1 * np.log(amount) + 0.9 * night + 1.5 * (country == "IT") * ratio + 0.2 * count - 7
    score += random.normal(0, noise, rows)
    absent = lambda share: random.uniform(size=rows) < share
    cells = {
        "amount": pa.array(amount, mask=absent(0.03)),
        "count": pa.array(count, mask=absent(0.1)),
        "ratio": pa.array(ratio),
        "night": pa.array(night, mask=absent(0.05)),
        "country": pa.array(country, mask=absent(0.04)),
        "method": pa.array(method),
    }
    label = random.uniform(size=rows) < 1 / (1 + np.exp(-3 * score))
    at = pa.array(np.arange(rows) * 60_000_000, pa.timestamp("us", "UTC"))
    return pa.table(cells | {"is_fraud": pa.array(label), "at": at})


def data(folder, rows):
    pq.write_table(draw(int(rows), 1, 0.2), folder / "clean.parquet")
    pq.write_table(draw(int(rows), 2, 2.0), folder / "noisy.parquet")


def version(folder, model):
    """The folder of the only version of a model."""
    (found,) = [path for path in (folder / "models" / model).iterdir() if path.is_dir()]
    return found


def edges(folder, model):
    """Rows as the model has seen them; then, for each split, a row on it, one just above, and one just below."""
    path = version(folder, model)
    manifest = json.loads((path / "manifest.json").read_text())["manifest"]
    learned = json.loads((path / "model.json").read_text())["calibrated"]["model"]
    rows = draw(3_000, 3, 1.0).drop(["is_fraud", "at"]).to_pylist()
    plain = dict(rows[0], country="DE", amount=10.0, count=2.0)
    for changed in (
        {"country": "XX"}, {"country": ""}, {"country": None}, {"method": None}, {"night": None}, {"amount": None},
        {"amount": 0.0}, {"amount": -0.0}, {"amount": -5.5}, {"amount": 1e30}, {"amount": 0.1}, {"count": None},
        {"amount": 16_777_217.0}, {name: None for name in plain},
    ):
        rows.append(plain | changed)
    (family,) = learned.values()
    if "trees" in family:
        trees = family["trees"]
        decode = lambda name, kind: np.frombuffer(base64.b64decode(trees[name]), kind)
        thresholds, features = decode("thresholds", "<f4"), decode("links", "<u4") >> 22
        split = np.isfinite(thresholds)
        for feature, name in enumerate(manifest["features"]):
            if name not in ("amount", "count", "ratio"):
                continue
            on = np.unique(thresholds[split & (features == feature)])[:400]
            for values in (on, np.nextafter(on, np.float32(np.inf)), np.nextafter(on, np.float32(-np.inf))):
                rows += [plain | {name: float(value)} for value in values]
    columns = {name: [row[name] for row in rows] for name in plain}
    kinds = {"night": pa.bool_(), "country": pa.string(), "method": pa.string()}
    arrays = {name: pa.array(cells, kinds.get(name, pa.float64())) for name, cells in columns.items()}
    pq.write_table(pa.table(arrays), folder / f"{model}.edges.parquet")


def feed(session, table):
    """A table as the metadata of the file says it is to be given."""
    metadata = session.get_modelmeta().custom_metadata_map
    fed = {}
    for column in json.loads(metadata["assay.columns"]):
        cells = table[column["column"]].to_pylist()
        if column["type"] == "text":
            cells = [column["missing"] if cell is None else cell for cell in cells]
            fed[column["column"]] = np.array(cells, dtype=object).reshape(-1, 1)
        else:
            cells = [np.nan if cell is None else float(cell) for cell in cells]
            fed[column["column"]] = np.array(cells, dtype=np.float64).reshape(-1, 1)
    return fed


def run(file, table):
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    probability, decision = session.run(["fraud_probability", "is_fraud"], feed(session, table))
    return session.get_modelmeta().custom_metadata_map, probability, decision


def compare(what, found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    apart = np.abs(found - expected)
    worst = int(np.argmax(apart))
    assert np.isfinite(found).all(), f"{what}: not finite"
    assert apart[worst] <= TOLERANCE, f"{what}: row {worst}: {found[worst]} and {expected[worst]}"
    print(f"{what}: {len(found)} rows, {len(np.unique(np.round(expected, 9)))} values, at most {apart[worst]:.1e} apart")


def exported(folder, model):
    told = pq.read_table(folder / f"{model}.parquet")
    table = pq.read_table(folder / f"{model}.edges.parquet")
    metadata, probability, decision = run(folder / f"{model}.onnx", table)
    compare(model, probability, told["fraud_probability"].to_numpy())
    differ = (decision != told["is_fraud"].to_numpy(zero_copy_only=False)).sum()
    assert differ == 0, f"{model}: {differ} decisions differ"
    manifest = json.loads((version(folder, model) / "manifest.json").read_text())["manifest"]
    assert metadata["assay.model"] == model and metadata["assay.version"] == manifest["version"], metadata
    assert metadata["assay.model_blake3"] == manifest["files"]["model.json"]["blake3"], metadata
    assert json.loads(metadata["assay.features"]) == manifest["features"], metadata
    assert float(metadata["assay.threshold"]) == manifest["recorded"]["threshold"], metadata


def calibrations(folder):
    used = {}
    for path in sorted((folder / "models").glob("*/*/manifest.json")):
        recorded = json.loads(path.read_text())["manifest"]["recorded"]
        used.setdefault(recorded["calibration"]["method"], []).append(path.parts[-3])
    print("calibrations:", used)
    assert {"platt", "isotonic"} <= set(used), used


def foreign(folder):
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters import XGBoost  # noqa: F401
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as XgbFloat
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import (
        AdaBoostClassifier, ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
    from sklearn.tree import DecisionTreeClassifier

    names = [f"f{at}" for at in range(8)]
    random = np.random.default_rng(5)
    # Few values a column, so that many rows lie on splits.
    rows = np.round(random.normal(0, 2, (4_000, len(names))), 1).astype(np.float32)
    label = rows[:, 0] + rows[:, 1] * rows[:, 2] + random.normal(0, 1, len(rows)) > 3
    gaps = np.where(random.uniform(size=rows.shape) < 0.1, np.float32(np.nan), rows)
    cells = {name: pa.array(gaps[:, at], from_pandas=True) for at, name in enumerate(names)}
    at = pa.array(np.arange(len(rows)) * 60_000_000, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(cells | {"is_fraud": pa.array(label), "at": at}), folder / "foreign.parquet")

    def named(model):
        del model.metadata_props[:]
        model.metadata_props.add(key="feature_names", value=json.dumps(names))
        return model

    def by_runtime(model, rows):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.array([told[1] for told in session.run(None, {"rows": rows})[1]])

    def keep(name, model, says):
        (folder / f"{name}.onnx").write_bytes(named(model).SerializeToString())
        np.save(folder / f"{name}.npy", says)

    filled = np.where(np.isnan(gaps), np.nanmedian(gaps, axis=0), gaps).astype(np.float32)
    imputer = lambda: SimpleImputer(strategy="median")
    kept = {
        "forest": make_pipeline(imputer(), RandomForestClassifier(60, min_samples_leaf=3, random_state=1)),
        "extra": make_pipeline(imputer(), ExtraTreesClassifier(20, min_samples_leaf=3, random_state=1)),
        "tree": make_pipeline(imputer(), DecisionTreeClassifier(max_depth=6, random_state=1)),
        "boosted": make_pipeline(imputer(), GradientBoostingClassifier(n_estimators=50, random_state=1)),
        "line": make_pipeline(imputer(), StandardScaler(), LogisticRegression()),
        # It knows by itself where a missing one goes; its file does not say (skl2onnx 1.20), so the file's word counts.
        "gaps-forest": RandomForestClassifier(30, min_samples_leaf=5, random_state=1),
    }
    for name, model in kept.items():
        model.fit(gaps, label.astype(int))
        converted = to_onnx(model, initial_types=[("rows", FloatTensorType([None, len(names)]))], target_opset=18)
        says = by_runtime(named(converted), gaps) if name == "gaps-forest" else model.predict_proba(gaps)[:, 1]
        keep(name, converted, says)
    boosted = xgboost.XGBClassifier(n_estimators=40, max_depth=5, random_state=1)
    boosted.fit(gaps, label)
    converted = convert_xgboost(boosted, initial_types=[("rows", XgbFloat([None, len(names)]))], target_opset=15)
    keep("gaps-xgboost", converted, boosted.predict_proba(gaps)[:, 1])
    (folder / "foreign.txt").write_text("\n".join([*kept, "gaps-xgboost"]) + "\n")

    refused = []
    for name, model, operator in (
        ("refused-ada", AdaBoostClassifier(n_estimators=3, random_state=1), "Operator|operator"),
        ("refused-svc", LinearSVC(), "LinearClassifier"),
    ):
        model.fit(filled, label.astype(int))
        converted = to_onnx(model, initial_types=[("rows", FloatTensorType([None, len(names)]))], target_opset=18)
        (folder / f"{name}.onnx").write_bytes(named(converted).SerializeToString())
        refused.append((f"{name}.onnx", operator.split("|")[-1]))
    three = RandomForestClassifier(3, random_state=1).fit(filled, np.digitize(filled[:, 0], [-1, 1]))
    converted = to_onnx(three, initial_types=[("rows", FloatTensorType([None, len(names)]))], target_opset=18)
    (folder / "refused-three.onnx").write_bytes(named(converted).SerializeToString())
    (folder / "refused-cut.onnx").write_bytes((folder / "forest.onnx").read_bytes()[:-100])
    refused += [("refused-three.onnx", "3 classes"), ("refused-cut.onnx", "no ONNX file")]
    (folder / "refused.txt").write_text("".join(f"{file} {operator}\n" for file, operator in refused))


def imported(folder, model):
    told = pq.read_table(folder / f"{model}.parquet")["fraud_probability"].to_numpy()
    compare(f"{model} in assay", told, np.load(folder / f"{model}.npy").astype(np.float64))


def again(folder, model):
    table = pq.read_table(folder / "foreign.parquet")
    _, probability, _ = run(folder / f"{model}.again.onnx", table)
    compare(f"{model} out again", probability, np.load(folder / f"{model}.npy").astype(np.float64))


if __name__ == "__main__":
    steps = {step.__name__: step for step in (data, edges, exported, calibrations, foreign, imported, again)}
    if len(sys.argv) < 3 or sys.argv[1] not in steps:
        sys.exit(__doc__)
    steps[sys.argv[1]](pathlib.Path(sys.argv[2]), *sys.argv[3:])
