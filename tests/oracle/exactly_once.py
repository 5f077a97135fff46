#!/usr/bin/env python3
"""Compares a Kafka topic with the lake that assay made of it: nothing lost, nothing doubled, nothing changed.

    exactly_once.py --brokers HOST:PORT --topic NAME --lake LAKE [--schema ID=FILE…] [--partial]

Reads the whole topic with librdkafka and decodes it with fastavro; assay is not asked. It checks that
- each message is one row of bronze or one dead letter, never both, never twice;
- what can be decoded is in bronze as it was sent, what cannot is among the dead letters with the very bytes;
- silver holds each valid transaction id once, and no other;
- ops.epochs counts from 1 without a gap, its offset ranges join, it reached the end of the topic, and its sums hold.

With --partial the lake may lag behind the topic: what lies beyond the offsets of ops.epochs is left out.
Exits 1 with what differs.
"""

import argparse
import io
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import fastavro
import pyarrow as pa

import expected
import tables
from compare import Report, differences

CONTRACTS = expected.REPOSITORY / "contracts"


@dataclass
class Message:
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    payload: bytes | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--schema", action="append", default=[], metavar="ID=FILE", help="default: 1 and 2, of contracts/")
    parser.add_argument("--partial", action="store_true")
    arguments = parser.parse_args()

    pairs = arguments.schema or [f"{n}={CONTRACTS}/transactions.v{n}.avsc" for n in (1, 2)]
    schemas = {int(pair.split("=", 1)[0]): fastavro.schema.load_schema(pair.split("=", 1)[1]) for pair in pairs}
    messages, ends = read_topic(arguments.brokers, arguments.topic)
    print(f"{len(messages)} messages in {len(ends)} partitions of {arguments.topic}")
    return check(arguments.lake, arguments.topic, messages, ends, schemas, arguments.partial)


def read_topic(brokers: str, topic: str) -> tuple[list[Message], dict[int, int]]:
    """Every message from the beginning to the end offsets of now, and those end offsets."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "assay-oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        described = consumer.list_topics(topic, timeout=30).topics[topic]
        if described.error:
            sys.exit(f"{topic}: {described.error}")
        marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30) for p in described.partitions}
        ends = {partition: high for partition, (_, high) in marks.items()}
        open_partitions = {partition for partition, (low, high) in marks.items() if low < high}
        consumer.assign([TopicPartition(topic, partition, low) for partition, (low, high) in marks.items() if low < high])
        messages = []
        while open_partitions:
            batch = consumer.consume(10_000, timeout=30)
            if not batch:
                sys.exit(f"{topic}: no message for 30 s, partitions {sorted(open_partitions)} are not at their end")
            for message in batch:
                partition = message.partition()
                if message.error():
                    if message.error().code() != KafkaError._PARTITION_EOF:
                        sys.exit(f"{topic}: {message.error()}")
                    # End of partition comes after the last message, also where markers fill the last offsets.
                    open_partitions.discard(partition)
                elif message.offset() < ends[partition]:
                    kind, at_ms = message.timestamp()
                    messages.append(
                        Message(
                            partition,
                            message.offset(),
                            at_ms if kind else None,
                            message.key(),
                            message.headers(),
                            message.value(),
                        )
                    )
        return messages, ends
    finally:
        consumer.close()


def check(lake: str, topic: str, messages: list[Message], ends: dict[int, int], schemas: dict, partial: bool = False) -> int:
    con = tables.database()
    report = Report()
    for table, relation in ((tables.BRONZE, "bronze"), (tables.DEAD_LETTERS, "letters"), (tables.SILVER, "silver"), (tables.EPOCHS, "epochs")):
        dataset = tables.arrow(lake, table)
        if dataset is None:
            report.add(table, ["the table is missing"])
            return report.code()
        con.register("dataset", dataset)
        con.execute(f"CREATE TABLE {relation} AS FROM dataset")
    for relation in ("bronze", "letters"):
        # A message without headers may have none or an empty list of them.
        con.execute(
            f"CREATE OR REPLACE TABLE {relation} AS SELECT * REPLACE (CASE WHEN len(source_headers) > 0 THEN source_headers END AS source_headers) "
            f"FROM {relation} WHERE source_topic = ?",
            [topic],
        )

    if partial:
        next_of = dict(
            con.execute(
                "SELECT r.partition, max(r.next_offset) FROM (SELECT unnest(offsets) AS r FROM epochs) WHERE r.topic = ? GROUP BY 1", [topic]
            ).fetchall()
        )
        messages = [message for message in messages if message.offset < next_of.get(message.partition, 0)]
        ends = {partition: next_of.get(partition, 0) for partition in ends}
        print(f"{len(messages)} of them are within the epochs")

    rows, refused = sort_out(topic, messages, schemas)
    con.register("sent_rows", rows)
    con.register("sent_refused", refused)
    key = expected.PLACE

    con.execute("CREATE TABLE places AS SELECT source_topic, source_partition, source_offset FROM bronze UNION ALL SELECT source_topic, source_partition, source_offset FROM letters")
    con.execute("CREATE TABLE sent_places AS SELECT source_topic, source_partition, source_offset FROM sent_rows UNION ALL SELECT source_topic, source_partition, source_offset FROM sent_refused")
    report.add("topic = bronze + dead letters", differences(con, "sent_places", "places", key), f"{len(messages)} messages")

    compared = con.execute("SELECT column_name FROM (DESCRIBE sent_rows)").fetchall()
    report.add("bronze as sent", differences(con, "sent_rows", "bronze", key, [name for (name,) in compared]), f"{rows.num_rows} rows")
    con.execute(f"CREATE TABLE plain_letters AS SELECT * REPLACE ({REASON_GROUP} AS reason) FROM letters")
    compared = [*key, "payload", "source_at", "source_key", "source_headers", "reason"]
    report.add("dead letters as sent", differences(con, "sent_refused", "plain_letters", key, compared), f"{refused.num_rows} rows")

    expected.checked(con)
    expected.silver(con)
    con.execute("CREATE TABLE expected_ids AS SELECT transaction_id, source_partition, source_offset FROM expected_silver")
    con.execute(
        "CREATE TABLE ids AS SELECT transaction_id, source_partition, source_offset FROM silver WHERE source_topic = ?", [topic]
    )
    valid = con.execute("SELECT count(*) FROM expected_ids").fetchone()[0]
    report.add("silver = each valid id once", differences(con, "expected_ids", "ids", ["transaction_id"]), f"{valid} ids")
    report.add("ops.epochs", ledger(con, topic, ends), f"{con.execute('SELECT count(*) FROM epochs').fetchone()[0]} epochs")
    return report.code()


# --- the topic --------------------------------------------------------------------------------------------------------

# Two decoders may call the same broken record by different names; the envelope has one name only.
REASON_GROUP = """CASE WHEN reason IN ('truncated', 'trailing_bytes', 'invalid_utf8', 'malformed', 'wrong_type', 'missing_field')
    THEN 'undecodable' ELSE reason END"""

HEADERS = pa.list_(pa.field("element", pa.struct([pa.field("name", pa.string()), pa.field("value", pa.binary())])))
PROVENANCE = [
    ("source_topic", pa.string()),
    ("source_partition", pa.int32()),
    ("source_offset", pa.int64()),
    ("source_at", pa.timestamp("us", "UTC")),
    ("source_key", pa.binary()),
    ("source_headers", HEADERS),
]
TYPES = {"string": pa.string(), "int": pa.int32(), "long": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}


def sort_out(topic: str, messages: list[Message], schemas: dict) -> tuple[pa.Table, pa.Table]:
    """What bronze must hold of the messages, and what the dead letters must."""
    fields = contract_fields(schemas)
    rows = {name: [] for name in (*fields, "schema_id", *(name for name, _ in PROVENANCE))}
    refused = {name: [] for name in ("payload", "reason", *(name for name, _ in PROVENANCE))}
    for message in messages:
        schema_id, record, reason = decode(message.payload, schemas)
        into = refused if reason else rows
        if reason:
            refused["payload"].append(message.payload)
            refused["reason"].append(reason)
        else:
            rows["schema_id"].append(schema_id)
            for name in fields:
                rows[name].append(record.get(name))
        into["source_topic"].append(topic)
        into["source_partition"].append(message.partition)
        into["source_offset"].append(message.offset)
        into["source_at"].append(None if message.timestamp_ms is None else message.timestamp_ms * 1000)
        into["source_key"].append(message.key)
        headers = [{"name": name, "value": value} for name, value in message.headers or []]
        into["source_headers"].append(headers or None)
    row_schema = pa.schema([*((name, kind) for name, kind in fields.items()), ("schema_id", pa.int32()), *PROVENANCE])
    refused_schema = pa.schema([("payload", pa.binary()), ("reason", pa.string()), *PROVENANCE])
    return pa.table(rows, schema=row_schema), pa.table(refused, schema=refused_schema)


def contract_fields(schemas: dict) -> dict[str, pa.DataType]:
    fields = {}
    for schema in schemas.values():
        for field in schema["fields"]:
            kind = field["type"]
            if isinstance(kind, list):
                kind = next(branch for branch in kind if branch != "null")
            fields[field["name"]] = TYPES[kind]
    return fields


def decode(payload: bytes | None, schemas: dict) -> tuple[int | None, dict | None, str | None]:
    """The schema id and the record of a message in Confluent's framing, or the reason why it has none."""
    if payload is None:
        return None, None, "null_payload"
    if payload[:1] not in (b"", b"\0"):
        return None, None, "wrong_magic"
    if len(payload) < 5:
        return None, None, "short_frame"
    (schema_id,) = struct.unpack(">i", payload[1:5])
    if schema_id not in schemas:
        return schema_id, None, "unknown_schema_id"
    body = io.BytesIO(payload[5:])
    try:
        record = fastavro.schemaless_reader(body, schemas[schema_id])
    except Exception:  # noqa: BLE001 - fastavro raises whatever the broken bytes lead to
        return schema_id, None, "undecodable"
    if body.tell() != len(payload) - 5 or not in_range(record, schemas[schema_id]):
        return schema_id, None, "undecodable"
    return schema_id, record, None


def in_range(record: dict, schema: dict) -> bool:
    """fastavro reads an int of any width."""
    ints = (field["name"] for field in schema["fields"] if field["type"] == "int")
    return all(-(2**31) <= record[name] < 2**31 for name in ints)


# --- the ledger -------------------------------------------------------------------------------------------------------


def ledger(con, topic: str, ends: dict[int, int]) -> list[str]:
    lines = []
    epochs = [row[0] for row in con.execute("SELECT epoch FROM epochs ORDER BY epoch").fetchall()]
    if epochs != list(range(1, len(epochs) + 1)):
        gaps = sorted(set(range(1, max(epochs, default=0) + 1)) - set(epochs))[:5]
        lines.append(f"epochs are not 1 to {len(epochs)}, each once: {len(set(epochs))} different, missing {gaps}")
    laws = {
        "messages = bronze_rows + dead_letters": "messages <> bronze_rows + dead_letters",
        "bronze_rows = silver_rows + duplicates + quarantined": "kind = 'stream' AND bronze_rows <> silver_rows + duplicates + quarantined",
        "messages = the sum of its ranges": "messages <> coalesce(list_sum([r.messages for r in offsets]), 0)",
        "watermark never falls": "watermark_at < (SELECT max(p.watermark_at) FROM epochs p WHERE p.epoch < epochs.epoch)",
    }
    for law, broken in laws.items():
        rows = con.execute(f"SELECT epoch FROM epochs WHERE {broken} ORDER BY epoch LIMIT 5").fetchall()
        if rows:
            lines.append(f"{law}: broken in epochs {[row[0] for row in rows]}")

    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE ranges AS
        SELECT epoch, r.topic AS topic, r.partition AS partition, r.first_offset AS first, r.next_offset AS next, r.messages AS messages
        FROM (SELECT epoch, unnest(offsets) AS r FROM epochs)
        """
    )
    rows = con.execute(
        """
        SELECT epoch, partition, first, previous FROM (
            SELECT *, lag(next) OVER (PARTITION BY topic, partition ORDER BY epoch) AS previous FROM ranges
        ) WHERE first < previous OR next < first ORDER BY epoch LIMIT 5
        """
    ).fetchall()
    lines += [f"epoch {epoch} reads partition {partition} from {first} again, {previous} was next" for epoch, partition, first, previous in rows]
    # Offsets may have gaps that nobody can read; messages may not lie in a gap between two epochs.
    rows = con.execute(
        """
        SELECT s.source_partition, s.source_offset FROM sent_places s
        WHERE NOT EXISTS (FROM ranges r WHERE r.topic = ? AND r.partition = s.source_partition AND s.source_offset >= r.first AND s.source_offset < r.next)
        ORDER BY ALL LIMIT 5
        """,
        [topic],
    ).fetchall()
    lines += [f"no epoch read partition {partition} at {offset}" for partition, offset in rows]

    for relation, column in (("bronze", "bronze_rows"), ("letters", "dead_letters")):
        rows = con.execute(
            f"""
            SELECT epoch, {column}, coalesce(rows, 0) FROM epochs
            FULL JOIN (SELECT epoch, count(*) AS rows FROM {relation} GROUP BY epoch) USING (epoch)
            WHERE kind IS DISTINCT FROM 'rebuild' AND coalesce({column}, 0) <> coalesce(rows, 0) ORDER BY epoch LIMIT 5
            """
        ).fetchall()
        lines += [f"epoch {epoch} says {said} {column}, the table has {rows}" for epoch, said, rows in rows]

    reached = dict(con.execute("SELECT partition, max(next) FROM ranges WHERE topic = ? GROUP BY partition", [topic]).fetchall())
    lines += [
        f"partition {partition} ends at {end}, the epochs reached {reached.get(partition, 0)}"
        for partition, end in sorted(ends.items())
        if reached.get(partition, 0) != end and end > 0 and missing_messages(con, partition, reached.get(partition, 0))
    ]
    return lines


def missing_messages(con, partition: int, from_offset: int) -> bool:
    """Whether messages are left: the last offsets of a partition may be markers."""
    rows = con.execute(
        "SELECT 1 FROM sent_places WHERE source_partition = ? AND source_offset >= ? LIMIT 1", [partition, from_offset]
    ).fetchall()
    return bool(rows)


if __name__ == "__main__":
    tables.leave(main())
