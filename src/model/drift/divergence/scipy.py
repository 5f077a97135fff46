"""Regenerates scipy.json: python3 scipy.py > scipy.json, in another folder than this one (needs scipy and numpy)."""

import json

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

draws = np.random.default_rng(20_261_121)
cases = []
for case in range(60):
    bins = int(draws.integers(2, 24))
    before = draws.multinomial(int(draws.integers(50, 200_000)), draws.dirichlet(np.full(bins, 0.7)))
    now = before if case % 10 == 9 else draws.multinomial(int(draws.integers(20, 50_000)), draws.dirichlet(np.full(bins, 0.7)))
    # An empty bin counts as half a row in the index; the divergence needs no such thing.
    p, q = np.maximum(before, 0.5) / before.sum(), np.maximum(now, 0.5) / now.sum()
    held = (before > 0) | (now > 0)
    # Not the formula of the sum: Jeffreys' divergence, from the two relative entropies of parts that may not sum to 1.
    index = sum((q[held] - p[held]) * (np.log(q[held]) - np.log(p[held])))
    if (before > 0).all() and (now > 0).all():
        assert abs(index - (entropy(p, q) + entropy(q, p))) < 1e-9
    distance = 0.0 if (before == now).all() else jensenshannon(before, now, base=2)
    cases.append({
        "before": before.tolist(),
        "now": now.tolist(),
        "psi": float(index),
        "jensen_shannon": float(distance) ** 2,
    })
print(json.dumps(cases))
