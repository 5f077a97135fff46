"""Asks a running `assay serve` with a challenger over TLS, and holds who answered against the hash, computed here anew.

`ask`: each user is answered by the version that SHA-256 says, at every route, over connections of its own, in any order; the
share is within its binomial bounds; a request gets the version that it names, and one that names none that there is gets 400
with those that there are. `drain`: a request that is half sent when the process is told to end is answered. `slow`: without
TLS; no request fails while a challenger is taken out, and in the end the champion answers everybody. `kept`: what the lake keeps of it.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import signal
import ssl
import time
import urllib.parse

from leaving import leave

USERS = 3000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ask", "drain", "slow", "kept"])
    parser.add_argument("--url")
    parser.add_argument("--key")
    parser.add_argument("--ca")
    parser.add_argument("--share", type=float)
    parser.add_argument("--champion")
    parser.add_argument("--challenger")
    parser.add_argument("--body")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--lake")
    parser.add_argument("--shed", type=int, help="transactions that nobody was asked about in the shadow")
    parser.add_argument("--without", type=int, help="decisions whose receipts were shed or lost")
    args = parser.parse_args()
    globals()[args.what](args)


def connect(args):
    parts = urllib.parse.urlsplit(args.url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=30, context=ssl.create_default_context(cafile=args.ca))


def post(connection, args, path, sent, version=None):
    headers = {"content-type": "application/json", "x-api-key": args.key}
    if version is not None:
        headers["X-Model-Version"] = version
    connection.request("POST", path, json.dumps(sent), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def is_drawn(args, user):
    first = int.from_bytes(hashlib.sha256(f"{args.challenger}:{user}".encode()).digest()[:8], "big") >> 11
    return first / 2**53 < args.share


def transaction(args, user, number):
    return dict(json.loads(args.body), transaction_id=f"canary-{user}-{number}", user_id=user, amount=round(user * 3.7 + 0.5, 2))


def ask(args):
    expected = {user: ("challenger", args.challenger) if is_drawn(args, user) else ("champion", args.champion) for user in range(USERS)}

    def one_by_one(seed):
        users = list(range(USERS))
        random.Random(seed).shuffle(users)
        connection, seen = connect(args), {}
        for user in users:
            status, told = post(connection, args, "/predict", transaction(args, user, seed))
            assert status == 200, told
            assert told["model"]["version"] == told["model_version"], told
            seen[user] = (told["role"], told["model_version"])
        return seen

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for seen in pool.map(one_by_one, range(3)):
            wrong = {user: (seen[user], expected[user]) for user in seen if seen[user] != expected[user]}
            assert not wrong, list(wrong.items())[:5]
    taken = sum(role == "challenger" for role, _ in expected.values())
    off = 5 * (USERS * args.share * (1 - args.share)) ** 0.5
    assert abs(taken - USERS * args.share) < off, f"{taken} of {USERS}"
    connection = connect(args)
    status, told = post(connection, args, "/predict/batch", [transaction(args, user, "b") for user in range(USERS)])
    assert status == 200 and told["model"] is None, told.get("model")
    for user, result in enumerate(told["results"]):
        assert (result["role"], result["model_version"]) == expected[user], (user, result)
    pins(args, connection)
    print(f"{USERS} users, {taken} of them by the challenger, each by the same version each time")


def pins(args, connection):
    for named, version in [(args.champion, args.champion), (args.challenger, args.challenger), ("challenger", args.challenger), ("champion", args.champion)]:
        for user in range(20):
            status, told = post(connection, args, "/predict", transaction(args, user, f"p-{named}"), named)
            assert (status, told["role"], told["model_version"]) == (200, "pinned", version), told
        status, told = post(connection, args, "/predict/batch", [transaction(args, user, f"pb-{named}") for user in range(20)], named)
        assert (status, told["model"]["version"]) == (200, version), told
    for wrong in ("20000101T000000Z", "nobody", "?", ""):
        status, told = post(connection, args, "/predict", transaction(args, 1, "w"), wrong)
        assert (status, told["header"], told["code"]) == (400, "X-Model-Version", "unknown_version"), told
        assert set(told["versions"]) == {args.champion, args.challenger}, told
        assert told["aliases"]["challenger"] == args.challenger, told


def drain(args):
    # No shadow follows the answer of a challenger: what is counted by now stays so.
    user = next(user for user in range(USERS) if is_drawn(args, user))
    body = json.dumps(transaction(args, user, "drain")).encode()
    busy, idle = connect(args), connect(args)
    assert post(idle, args, "/predict", transaction(args, user, "idle"))[0] == 200
    busy.putrequest("POST", "/predict")
    for name, value in (("content-type", "application/json"), ("x-api-key", args.key), ("content-length", str(len(body)))):
        busy.putheader(name, value)
    busy.endheaders()
    busy.send(body[:20])
    time.sleep(0.5)
    os.kill(args.pid, signal.SIGTERM)
    time.sleep(0.5)
    busy.send(body[20:])
    answer = busy.getresponse()
    told = answer.read()
    assert answer.status == 200, told
    print("a request under way was answered")


def slow(args):
    connection, roles = connect(args), []
    for user in range(400):
        status, told = post(connection, args, "/predict", transaction(args, user, "s"))
        assert status == 200, told
        roles.append(told["role"])
    first = roles.index("champion")
    assert roles[:first] and set(roles[first:]) == {"champion"}, collections.Counter(roles)
    connection.request("GET", "/models", headers={"x-api-key": args.key})
    told = json.loads(connection.getresponse().read())["challenger"]
    assert told["version"] == args.challenger and told["taken_out"]["cause"] == "latency" and told["share"] == 0, told
    print(f"after {first} transactions the challenger was taken out: {told['taken_out']}")


def kept(args):
    from deltalake import DeltaTable

    columns = ["prediction_id", "transaction_id", "role", "shadow_of", "model_version", "fraud_probability", "sent"]
    rows = DeltaTable(f"{args.lake}/gold/predictions").to_pyarrow_table(columns=columns).to_pylist()
    rows = [row for row in rows if row["transaction_id"].startswith("canary-")]
    by_id = {row["prediction_id"]: row for row in rows}
    assert len(by_id) == len(rows), "an id stands twice"
    roles, absent = collections.Counter(row["role"] for row in rows), 0
    for row in rows:
        assert (row["shadow_of"] is not None) == (row["role"] == "shadow"), row
        if row["role"] == "shadow":
            of = by_id.get(row["shadow_of"])
            if of is None:
                absent += 1
                continue
            assert (of["role"], of["transaction_id"], of["sent"]) == ("champion", row["transaction_id"], row["sent"]), (row, of)
        if row["role"] in ("shadow", "challenger"):
            assert row["model_version"] == args.challenger, row
    assert absent <= args.without, f"{absent} answers have a shadow and no receipt, and {args.without} receipts were shed"
    assert abs(roles["shadow"] + args.shed - roles["champion"]) <= args.without, (roles, args.shed, args.without)
    assert min(roles[role] for role in ("champion", "challenger", "pinned", "shadow")) > 100, roles
    # What a version says does not depend on its role.
    said = collections.defaultdict(set)
    for row in rows:
        said[row["model_version"], row["sent"].replace(row["transaction_id"], "")].add(row["fraud_probability"])
    assert all(len(values) == 1 for values in said.values())
    print(dict(roles))
    for role in ("challenger", "pinned", "shadow"):
        print(next(row["prediction_id"] for row in rows if row["role"] == role))


if __name__ == "__main__":
    leave(main())
