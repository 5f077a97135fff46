"""Asks servers that answer from memory and servers that answer from Redis the same, and compares what they say.

`compare`: once all of them know the newest epoch, every answer of /score, /predict and /predict/batch must be the same,
field by field; probabilities and contributions to the last bit. `load`: keeps asking until the file `--until` is there,
and tells how many answers there were by kind; none may be a 5xx, none may be wrong by omission: an answer that is not
degraded has the probability that a server from memory gives.
"""

import argparse
import collections
import datetime
import http.client
import json
import pathlib
import random
import threading
import time
import urllib.parse

# What differs between two answers to the same question: who answered, when, and how fast.
OWN = {"prediction_id", "latency_us", "age_s"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["compare", "load", "wait"])
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--memory", help="a server that answers from memory, of a lake that stands still")
    parser.add_argument("--rows", help="JSON lines: transactions of the lake")
    parser.add_argument("--newest", help="the newest event time")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--until")
    parser.add_argument("--degraded", choices=["yes", "no"], default="no")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    {"compare": compare, "load": load, "wait": wait}[args.what](args)


def connect(url):
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


def post(connection, path, body):
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def questions(args):
    """Transactions of users, merchants and devices that the lake knows, put together anew; some of strangers, some of before.

    Every other one is of somebody who was there in the last hours, so that short windows are not empty.
    """
    chance = random.Random(args.seed)
    with open(args.rows, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    newest = instant(args.newest)
    known = sorted((row for row in rows if instant(row["timestamp"]) <= newest), key=lambda row: instant(row["timestamp"]))
    for number in range(300):
        row = dict(chance.choice(known[-40:] if number % 2 else known))
        for field in ("merchant", "device_id", "location"):
            if chance.random() < 0.3:
                row[field] = chance.choice(known)[field]
        at = newest if chance.random() < 0.3 else instant(row["timestamp"]) + datetime.timedelta(seconds=chance.random() * 600)
        row["timestamp"] = max(at, newest - datetime.timedelta(seconds=7000)).isoformat()
        if chance.random() < 0.1:
            row["user_id"] = 10_000_000 + number
        if chance.random() < 0.1:
            row["device_id"] = f"nobody's {number}"
        row["amount"] = round(chance.random() * 6000, 2) + 0.01
        row["transaction_id"] = f"asked-{number}"
        yield row


def instant(text):
    at = datetime.datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)


def same(told):
    if isinstance(told, dict):
        return {key: same(value) for key, value in told.items() if key not in OWN}
    return [same(value) for value in told] if isinstance(told, list) else told


def wait(args):
    """Until every server answers as of the epoch, or degraded where that is wanted."""
    row = next(questions(args))
    deadline = time.monotonic() + 60
    for url in args.url:
        while True:
            status, told = post(connect(url), "/predict", row)
            epoch, degraded = told["features"]["epoch"], told["degraded"]
            if status == 200 and (degraded if args.degraded == "yes" else not degraded and epoch >= args.epoch):
                break
            assert time.monotonic() < deadline, f"{url}: {status} {told}"
            time.sleep(0.1)


def compare(args):
    wait(args)
    asked = list(questions(args))
    connections = [connect(url) for url in args.url]
    seen = collections.Counter()
    for row in asked:
        entity = {"user_id": row["user_id"]}
        context = {key: value for key, value in row.items() if key != "user_id"}
        for path, body in (("/predict", row), ("/score", {"entity": entity, "context": context})):
            answers = [post(connection, path, body) for connection in connections]
            first = answers[0]
            assert first[0] == 200 and first[1]["degraded"] is False, first
            assert first[1]["features"]["epoch"] == args.epoch, first
            for url, answer in zip(args.url, answers):
                assert (answer[0], same(answer[1])) == (first[0], same(first[1])), f"{url}\n{answer}\n{first}"
            seen[first[1]["fraud_probability"]] += 1
    batches = [same(post(connection, "/predict/batch", asked)[1]) for connection in connections]
    assert all(batch == batches[0] for batch in batches), "the batch differs"
    assert len(seen) > 20, f"the answers hardly differ: {seen}"
    print(f"{len(asked)} questions at {len(args.url)} servers as of epoch {args.epoch}: all the same")


def load(args):
    counts, reasons, failures = collections.Counter(), collections.Counter(), []
    ended = threading.Event()

    def ask(number):
        args_of = argparse.Namespace(**vars(args))
        args_of.seed = args.seed + number
        rows = list(questions(args_of))
        memory = connect(args.memory)
        expected = [post(memory, "/predict", row)[1]["fraud_probability"] for row in rows]
        connection = connect(args.url[number % len(args.url)])
        while not ended.is_set():
            for row, probability in zip(rows, expected):
                status, told = post(connection, "/predict", row)
                if status != 200:
                    failures.append((status, told))
                elif told["degraded"]:
                    counts["degraded"] += 1
                    reasons[told["degraded_reason"]] += 1
                    assert told["rules"] is not None, told
                else:
                    counts["whole"] += 1
                    if told["fraud_probability"] != probability:
                        failures.append((row, told["fraud_probability"], probability))
                if ended.is_set():
                    break

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while not pathlib.Path(args.until).exists() and all(thread.is_alive() for thread in threads):
        time.sleep(0.1)
    ended.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    print(json.dumps({**counts, "reasons": reasons}))


if __name__ == "__main__":
    main()
