#!/usr/bin/env python3
"""Compares a topic with the lake after dead letters were replayed: nothing lost, nothing sent twice, nothing changed on the way.

    replayed.py --brokers HOST:PORT --topic NAME --lake LAKE --first FILE

FILE has the end offsets (NAME:PARTITION:OFFSET a line) up to which messages were read with the schemas 1 and 2 alone: there, 3 is
unknown. Everything after it was read with 3 too, which says what 2 says. On top of all that exactly_once.py checks:
- each replayed message has the bytes, the key, the partition and the headers of the letter that its header names;
- each letter with a payload was sent again, but for those that came of the last replay, and none was sent twice;
- letters without a payload never were.
"""

import argparse
import sys

import fastavro
import pyarrow as pa

import exactly_once
import tables
from exactly_once import CONTRACTS, Message

REPLAYED = "assay-replay"
KNOWN = {n: fastavro.schema.load_schema(str(CONTRACTS / f"transactions.v{n}.avsc")) for n in (1, 2)}
SCHEMAS = {**KNOWN, 3: KNOWN[2]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--brokers", "--topic", "--lake", "--first"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    first = {}
    for line in open(arguments.first, encoding="utf-8"):
        topic, partition, offset = line.strip().rsplit(":", 2)
        if topic == arguments.topic:
            first[int(partition)] = int(offset)
    messages, ends = exactly_once.read_topic(arguments.brokers, arguments.topic)
    wrong = replays(arguments.topic, messages, first)
    for each in wrong[:20]:
        print(f"WRONG {each}", file=sys.stderr)
    plain = exactly_once.sort_out

    def sort_out(topic, messages, schemas):
        """What was read first did not know all of them."""
        old = [message for message in messages if message.offset < first[message.partition]]
        new = [message for message in messages if message.offset >= first[message.partition]]
        parts = plain(topic, old, KNOWN), plain(topic, new, schemas)
        return tuple(pa.concat_tables(both, promote_options="default") for both in zip(*parts, strict=True))

    exactly_once.sort_out = sort_out
    code = exactly_once.check(arguments.lake, arguments.topic, messages, ends, SCHEMAS)
    return code or (1 if wrong else 0)


def replays(topic: str, messages: list[Message], first: dict[int, int]) -> list[str]:
    by_place = {f"{topic}/{message.partition}/{message.offset}": message for message in messages}
    copies: dict[str, Message] = {}
    lakes = set()
    wrong = []
    for place, message in by_place.items():
        named = [value for name, value in message.headers or [] if name == REPLAYED]
        if not named:
            continue
        if len(named) > 1:
            wrong.append(f"{place} names {len(named)} letters")
        lake, _, origin = named[0].decode().partition("/")
        lakes.add(lake)
        letter = by_place.get(origin)
        if letter is None:
            wrong.append(f"{place} names {origin}, which there is not")
            continue
        if origin in copies:
            wrong.append(f"{origin} was sent twice")
        copies[origin] = message
        rest = [header for header in message.headers if header[0] != REPLAYED]
        own = [header for header in letter.headers or [] if header[0] != REPLAYED]
        for what, now, then in (
            ("payload", message.payload, letter.payload),
            ("key", message.key, letter.key),
            ("partition", message.partition, letter.partition),
            ("headers", rest, own),
        ):
            if now != then:
                wrong.append(f"{place} has another {what} than {origin}")
        if letter.payload is None:
            wrong.append(f"{origin} has no payload and was sent again")
    if len(lakes) != 1:
        wrong.append(f"one lake sent letters again, and the headers name {sorted(lakes)}")
    repaired = waiting = 0
    for place, message in by_place.items():
        knows = KNOWN if message.offset < first[message.partition] else SCHEMAS
        is_letter = exactly_once.decode(message.payload, knows)[2] is not None
        if not is_letter or message.payload is None:
            if place in copies:
                wrong.append(f"{place} is no letter and was sent again")
            continue
        copy = copies.get(place)
        if copy is None and message.offset < first[message.partition]:
            wrong.append(f"{place} is a letter and was not sent again")
        elif copy is None:
            waiting += 1
        elif exactly_once.decode(copy.payload, SCHEMAS)[2] is None:
            repaired += 1
    if not repaired or not waiting:
        wrong.append(f"{repaired} letters came right and {waiting} are still wrong: both are wanted")
    print(f"{len(copies)} letters were sent again: {repaired} came right, {waiting} wait once more")
    return wrong


if __name__ == "__main__":
    tables.leave(main())
