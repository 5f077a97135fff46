"""The digest of a table: rows, and for each column how many values there are and what they add up to.

Two readers that give the same digest see the same table. The same definition is written once per dialect.
"""

# Sums of doubles depend on their order; beyond this they would drown everything else.
LARGE = 1e9


def duckdb_digest(con, relation: str) -> dict:
    """Of a relation of DuckDB."""
    return _digest(con.execute(f"DESCRIBE {relation}").fetchall(), lambda sql: con.execute(f"SELECT {sql} FROM {relation}").fetchone(), DUCKDB)


def spark_digest(frame) -> dict:
    """Of a DataFrame of Spark."""
    types = [(name, kind.upper()) for name, kind in frame.dtypes]
    return _digest(types, lambda sql: tuple(frame.selectExpr(*sql.split(SEPARATOR)).first()), SPARK)


SEPARATOR = ",\n"
DUCKDB = {
    "instant": "epoch_us({c})",
    "day": "date_diff('day', DATE '1970-01-01', {c})",
    "length": "strlen({c})",
    "bytes": "octet_length({c})",
    "size": "len({c})",
}
SPARK = {
    "instant": "unix_micros({c})",
    "day": "datediff({c}, DATE '1970-01-01')",
    "length": "octet_length({c})",
    "bytes": "octet_length({c})",
    "size": "CASE WHEN {c} IS NOT NULL THEN size({c}) END",
}
# Sums of microseconds since 1970 fit no 64 bits.
EXACT = "CAST(sum(CAST({v} AS DECIMAL(28, {p}))) AS STRING)"


def _digest(types, run, dialect) -> dict:
    parts, labels = ["count(*)"], [("rows", "rows")]
    for name, kind in ((row[0], str(row[1]).upper()) for row in types):
        quote = '"' if dialect is DUCKDB else "`"
        column = f"{quote}{name}{quote}"
        value, places = None, 0
        if kind.startswith("TIMESTAMP"):
            value = dialect["instant"].format(c=column)
        elif kind == "DATE":
            value = dialect["day"].format(c=column)
        elif kind.endswith("[]") or kind.startswith("ARRAY"):
            value = dialect["size"].format(c=column)
        elif kind in ("VARCHAR", "STRING"):
            value = dialect["length"].format(c=column)
        elif kind in ("BLOB", "BINARY"):
            value = dialect["bytes"].format(c=column)
        elif kind == "BOOLEAN":
            value = f"CASE WHEN {column} THEN 1 ELSE 0 END"
        elif kind.startswith("DECIMAL"):
            value, places = column, int(kind.rstrip(")").split(",")[1])
        elif "INT" in kind:
            value = column
        parts.append(f"count({column})")
        labels.append((name, "values"))
        if kind in ("DOUBLE", "FLOAT"):
            parts.append(f"sum(CASE WHEN abs({column}) < {LARGE} THEN {column} END)")
            labels.append((name, "sum"))
        elif value is not None:
            text = EXACT.format(v=value, p=places)
            parts.append(text.replace("AS STRING", "AS VARCHAR") if dialect is DUCKDB else text)
            labels.append((name, "sum"))
    digest = {}
    for (name, what), value in zip(labels, run(SEPARATOR.join(parts))):
        digest.setdefault(name, {})[what] = value
    return digest


def differences(expected: dict, actual: dict) -> list[str]:
    lines = []
    for name in sorted(expected.keys() | actual.keys()):
        left, right = expected.get(name), actual.get(name)
        if left is None or right is None:
            lines.append(f"column {name} is {'not expected' if left is None else 'missing'}")
            continue
        for what in sorted(left.keys() | right.keys()):
            if not same(left.get(what), right.get(what)):
                lines.append(f"{name}: {what} is {right.get(what)}, expected {left.get(what)}")
    return lines


def same(left, right) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= 1e-9 * max(1.0, abs(left), abs(right))
    return left == right
