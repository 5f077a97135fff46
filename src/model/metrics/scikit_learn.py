"""Regenerates scikit_learn.json: python3 scikit_learn.py > scikit_learn.json (needs scikit-learn and numpy)."""

import json

import numpy as np
from sklearn import metrics as sk

state = 12_345


def draw():
    global state
    state = (state * 1_664_525 + 1_013_904_223) % 2**32
    return (state >> 8) / 2**24


labels, scores = [], []
for _ in range(20_000):
    label = draw() < 0.03
    score = 1.0 - draw() * draw() if label else draw() * draw()
    labels.append(label)
    scores.append(np.floor(score * 500.0) / 500.0)
labels, scores = np.array(labels), np.array(scores)
decided = scores >= 0.7
print(json.dumps({
    "positives": float(labels.sum()),
    "precision": sk.precision_score(labels, decided),
    "recall": sk.recall_score(labels, decided),
    "f1": sk.f1_score(labels, decided),
    "average_precision": sk.average_precision_score(labels, scores),
    "roc_auc": sk.roc_auc_score(labels, scores),
    "brier": sk.brier_score_loss(labels, scores),
    "log_loss": sk.log_loss(labels, scores),
}, indent=2))
