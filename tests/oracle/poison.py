#!/usr/bin/env python3
"""Sends what a topic should not hold, between what others send: broken bytes, broken rows, repeats, late and strange values.

    poison.py --brokers HOST:PORT --topic NAME [--rounds N] [--seed S] [--seconds S]

Each round sends every kind once, in a seeded order, spread over the partitions; rounds are spread over the seconds.
"""

import argparse
import io
import json
import random
import struct
import time
from datetime import UTC, datetime, timedelta

import fastavro
from confluent_kafka import Producer

from exactly_once import CONTRACTS

SCHEMAS = {n: fastavro.schema.load_schema(str(CONTRACTS / f"transactions.v{n}.avsc")) for n in (1, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    producer = Producer({"bootstrap.servers": arguments.brokers, "acks": "all", "enable.idempotence": True, "message.max.bytes": 4_000_000})
    partitions = len(producer.list_topics(arguments.topic, timeout=30).topics[arguments.topic].partitions)
    sent = 0
    for number in range(arguments.rounds):
        kinds = round_of(number, rng)
        rng.shuffle(kinds)
        for payload in kinds:
            producer.produce(
                arguments.topic,
                payload,
                key=rng.choice([None, b"", b"key", b"\xff\x00"]),
                partition=rng.randrange(partitions),
                headers=rng.choice([None, [("trace", b"\x00\xff"), ("trace", None)], [("", b"")]]),
            )
            sent += 1
        left = producer.flush(30)
        if left:
            raise SystemExit(f"{left} messages were not delivered")
        time.sleep(arguments.seconds / arguments.rounds)
    print(f"{sent} messages in {arguments.rounds} rounds, seed {arguments.seed}")


def round_of(number: int, rng: random.Random) -> list[bytes | None]:
    now = datetime.now(UTC)
    stamp = (now - timedelta(seconds=rng.randrange(60))).isoformat()
    names = iter(range(1000))

    def good(schema=1, **changes) -> bytes:
        usual = {
            "transaction_id": f"poison-{number}-{next(names)}", "user_id": rng.randrange(50), "amount": round(rng.uniform(1, 900), 2),
            "merchant": "Strange & Sons", "timestamp": stamp, "is_fraud": False, "payment_method": "crypto",
            "location": "Lima, Peru", "device_id": "device-1", "merchant_id": None,
        }
        # An id that comes again in another round is a duplicate: the same event, so at the same time.
        if "transaction_id" in changes:
            usual["timestamp"] = "2026-01-05T08:00:00Z"
        body = io.BytesIO()
        fastavro.schemaless_writer(body, SCHEMAS[schema], {**usual, **changes})
        return b"\0" + struct.pack(">i", schema) + body.getvalue()

    plain = good()
    body = plain[5:]
    same = good(transaction_id="poison-for-ever")
    broken = [
        None, b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\x01", b"\x01" + plain[1:], b"\0\x7f\xff\xff\xff" + body, b"\0\xff\xff\xff\xff" + body,
        plain[: rng.randrange(6, len(plain))], plain + b"\0", plain + body, plain.replace(b"Strange", b"Str\xff\xfe\xc3("),
        b"\0\0\0\0\x01\x01" + body[1:],  # a negative length
        b"\0\0\0\0\x01" + b"\xff" * 10 + body,  # a length that no 64 bits hold
        b"\0\0\0\0\x01\xfe\xff\xff\xff\x0f" + body,  # a length of 2 GiB
        good(schema=2)[:-1] + b"\x04",  # a branch that the union does not have
        json.dumps({"transaction_id": "json"}).encode(), rng.randbytes(rng.randrange(1, 200)), b"\0\0\0\0\x01" + rng.randbytes(80),
    ]
    rows = [
        good(amount=value)
        for value in (float("nan"), float("inf"), float("-inf"), 1e300, -1e300, -0.0, 0.0, 5e-324, -5.0, 0.005, 2.675, 999999.99, 999999.996, 1e6)
    ]
    rows += [
        good(timestamp=text)
        for text in (
            "", "yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1999-12-31T23:59:59Z", "2026-02-30T00:00:00Z",
            (now + timedelta(days=2)).isoformat(), (now - timedelta(minutes=30)).isoformat(), (now - timedelta(days=3)).isoformat(),
            now.strftime("%Y-%m-%d %H:%M:%S"), now.strftime("%Y-%m-%dT%H:%M:%S.123456789Z"), now.strftime("%Y-%m-%dT%H:%M:%S+05:30"),
        )
    ]
    rows += [
        good(transaction_id=""), good(payment_method="barter"), good(payment_method=""), good(location=""), good(location="nowhere"),
        good(location="a, b, c"), good(location=", x"), good(location=" \u00a0Lima ,\u2003Peru "), good(merchant="\U0001f600\u0000\u202e"),
        good(transaction_id="\u0000"), good(merchant="\u00e9" * 500_000) if number % 5 == 0 else good(), good(user_id=-(2**31)),
        good(user_id=2**31 - 1), good(schema=2, merchant_id="m-1"), good(schema=2, merchant_id=""), same, same, plain, plain,
    ]
    return broken + rows


if __name__ == "__main__":
    main()
