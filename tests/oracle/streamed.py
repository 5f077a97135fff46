#!/usr/bin/env python3
"""Compares a topic of predictions with gold.fraud_scores of the lake that assay made beside it.

    streamed.py --brokers HOST:PORT --topic NAME --lake LAKE

Messages are sent before their epoch is written, so some come twice; none may be missing, and the last one of a
transaction says what the table says, to the bit. Exits 1 with what differs.
"""

import argparse
import json
import struct
from collections import Counter

import tables
from exactly_once import read_topic


def bits(value):
    return None if value is None else struct.pack(">d", value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--lake", required=True)
    arguments = parser.parse_args()

    messages, _ = read_topic(arguments.brokers, arguments.topic)
    told, partitions = {}, {}
    problems = Counter()
    for message in sorted(messages, key=lambda message: (message.partition, message.offset)):
        value = json.loads(message.payload)
        key = value["transaction_id"]
        if partitions.setdefault(key, message.partition) != message.partition:
            problems["a transaction in two partitions"] += 1
        told[key] = value
    columns = ["transaction_id", "fraud_probability", "is_predicted_fraud", "model_version", "score", "class"]
    rows = tables.arrow(arguments.lake, tables.SCORES).to_table(columns=columns).to_pylist()
    versions = Counter()
    for row in rows:
        value = told.pop(row["transaction_id"], None)
        versions[row["model_version"]] += 1
        if value is None:
            problems["a transaction without a prediction"] += 1
            continue
        if bits(value["fraud_probability"]) != bits(row["fraud_probability"]):
            problems["another probability"] += 1
        if (value["model"] or {}).get("version") != row["model_version"]:
            problems["another version"] += 1
        if row["model_version"] and (value["decision"] == "fraud") != row["is_predicted_fraud"]:
            problems["another decision"] += 1
        if (value["rules"]["score"], value["rules"]["class"]) != (row["score"], row["class"]):
            problems["other rules"] += 1
    if told:
        problems["a prediction of a transaction that is not in the table"] += len(told)
    if len([version for version in versions if version]) < 2:
        problems["fewer than two versions answered: nothing was exchanged"] += 1
    print(f"{len(messages)} predictions of {len(rows)} transactions, {len(messages) - len(rows)} of them sent again")
    print(f"by version: {dict(versions)}")
    for problem, count in problems.items():
        print(f"FAIL {problem}: {count}")
    return 1 if problems else 0


if __name__ == "__main__":
    tables.leave(main())
