"""Recomputes ml.drift from the rows of silver and gold with numpy and scipy, and shares no code with assay.

    drift.py LAKE VERSION_FOLDER SCORES.csv

The bins are those of the model's baseline.json, and so is what they held when the model learned; whether that is right is
looked at too. SCORES.csv is what `assay predict --keep transaction_id` says of each row. Exits 1 with what differs.
"""

import csv
import json
import sys
from pathlib import Path

import deltalake
import numpy as np
from scipy.spatial.distance import jensenshannon

from leaving import leave

SCORE = "(score)"
TOLERANCE = 1e-9


def main(lake, version, scores):
    lake, version = Path(lake), Path(version)
    baseline = json.loads((version / "baseline.json").read_text())
    columns, event_us = rows_of(lake, [one["column"] for one in baseline["columns"]], scores)
    histograms = {one["column"]: one["histogram"] for one in baseline["columns"]} | {SCORE: baseline["score"]}
    problems = learned_from(baseline, columns, event_us)
    compared = 0
    table = deltalake.DeltaTable(str(lake / "ml" / "drift")).to_pyarrow_table()
    for row in table.filter(of_version(table, version.name)).to_pylist():
        start, end = micros(row["window_start"]), micros(row["window_end"])
        within = (event_us >= start) & (event_us < end)
        histogram = histograms[row["feature"]]
        now = counted(histogram["bins"], columns[row["feature"]][within])
        before = np.array(histogram["counts"])
        place = f"{row['feature']}, {row['grain']} {row['window_start']}"
        if now.sum() != row["rows"]:
            problems.append(f"{place}: {row['rows']} rows, and {now.sum()} are there")
        if now.sum() == 0:
            continue
        for name, value in (("psi", index(before, now)), ("jensen_shannon", divergence(before, now))):
            if abs(row[name] - value) > TOLERANCE * (1 + abs(value)):
                problems.append(f"{place}: {name} is {row[name]}, recomputed {value}")
        compared += 1
    if compared == 0:
        problems.append("ml.drift has no row of this version")
    for problem in problems[:20]:
        print(f"FAIL  {problem}")
    print(f"{'FAIL' if problems else 'ok  '}  {compared} rows of ml.drift recomputed, {len(problems)} differ")
    return 1 if problems else 0


def of_version(table, version):
    return np.array([value == version for value in table["version"].to_pylist()])


def micros(at):
    return int(np.datetime64(at.replace(tzinfo=None), "us").astype(np.int64))


def rows_of(lake, wanted, scores):
    """Each column as an array in the order of silver, and the event times in microseconds."""
    silver = deltalake.DeltaTable(str(lake / "silver" / "transactions")).to_pyarrow_table().to_pydict()
    rules = deltalake.DeltaTable(str(lake / "gold" / "fraud_scores")).to_pyarrow_table().to_pydict()
    place = {key: row for row, key in enumerate(rules["transaction_id"])}
    order = [place[key] for key in silver["transaction_id"]]
    with open(scores, newline="") as file:
        said = {line["transaction_id"]: float(line["fraud_probability"]) for line in csv.DictReader(file)}
    columns = {SCORE: np.array([said[key] for key in silver["transaction_id"]])}
    for name in wanted:
        values = silver[name] if name in silver else [rules[name][row] for row in order]
        if any(isinstance(value, str) for value in values):
            columns[name] = np.array(values, dtype=object)
        else:
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
    return columns, np.array([micros(at) for at in silver["event_at"]])


def counted(bins, values):
    if bins["type"] == "number":
        edges = np.array([-np.inf, *bins["edges"], np.inf])
        known = values[~np.isnan(values)]
        # Upper bounds are included, and numpy's are not: mirrored, they are.
        held = np.histogram(-known, bins=-edges[::-1])[0][::-1] if len(known) else np.zeros(len(edges) - 1, dtype=int)
        return np.append(held, np.isnan(values).sum())
    if bins["type"] == "boolean":
        return np.array([(values == 0).sum(), (values == 1).sum(), np.isnan(values).sum()])
    held = [(values == value).sum() for value in bins["values"]]
    missing = sum(value is None for value in values)
    return np.array([*held, len(values) - sum(held) - missing, missing])


def index(before, now):
    held = (before > 0) | (now > 0)
    p, q = np.maximum(before[held], 0.5) / before.sum(), np.maximum(now[held], 0.5) / now.sum()
    return float(((q - p) * np.log(q / p)).sum())


def divergence(before, now):
    distance = jensenshannon(before, now, base=2)
    return 0.0 if np.isnan(distance) else float(distance) ** 2


def learned_from(baseline, columns, event_us):
    """The baseline holds the rows of its span, as far as they were there when the model learned."""
    within = (event_us >= baseline["from_us"]) & (event_us <= baseline["to_us"])
    problems = []
    for one in baseline["columns"]:
        expected = counted(one["histogram"]["bins"], columns[one["column"]][within]).tolist()
        if expected != one["histogram"]["counts"]:
            problems.append(f"baseline of {one['column']}: {one['histogram']['counts']}, recounted {expected}")
    return problems


if __name__ == "__main__":
    leave(main(*sys.argv[1:]))
