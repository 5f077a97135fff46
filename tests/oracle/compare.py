"""Compares two relations of DuckDB row for row and says, in a few lines, where they differ."""

import re

SHOWN = 5
TOLERANCE = 1e-12


def kind(sql_type: str) -> str:
    """The type without what engines may choose freely: the width of an integer, the digits of a decimal."""
    if re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?(INT|INTEGER)", sql_type):
        return "integer"
    if decimal := re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", sql_type):
        return f"decimal with {decimal[1]} places"
    return sql_type


def columns(con, relation: str) -> dict[str, str]:
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE {relation}").fetchall()}


def differences(con, expected: str, actual: str, key: list[str], only: list[str] | None = None) -> list[str]:
    """The differences between two relations with the columns of `expected`, or with those of `only`; none: they agree.

    Doubles agree within 1e-12 of the larger; everything else must be equal, NULL and NaN to themselves as well.
    """
    want, have = columns(con, expected), columns(con, actual)
    compared = [name for name in want if only is None or name in only]
    lines = [f"column {name} is missing" for name in compared if name not in have]
    if only is None:
        lines += [f"column {name} is not expected" for name in have if name not in want]
    compared = [name for name in compared if name in have]
    lines += [
        f"column {name} is {have[name]}, expected {want[name]}"
        for name in compared
        if kind(want[name]) != kind(have[name])
    ]
    if lines:
        return lines

    keys = ", ".join(quoted(name) for name in key)
    twice = con.execute(
        f"SELECT {keys}, count(*) FROM {actual} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT {SHOWN}"
    ).fetchall()
    if twice:
        return [f"{shown(key, row)} is there {row[-1]} times" for row in twice]

    counts = [con.execute(f"SELECT count(*) FROM {side}").fetchone()[0] for side in (expected, actual)]
    if counts[0] != counts[1]:
        lines.append(f"{counts[1]} rows, expected {counts[0]}")
    for label, left, right in (("missing", expected, actual), ("not expected", actual, expected)):
        rows = con.execute(
            f"SELECT {keys} FROM {left} l WHERE NOT EXISTS (FROM {right} r WHERE {same_key(key)}) ORDER BY ALL LIMIT {SHOWN}"
        ).fetchall()
        lines += [f"{shown(key, row)} is {label}" for row in rows]

    values = [name for name in compared if name not in key]
    differs = {name: unequal(name, want[name]) for name in values}
    if differs:
        found = con.execute(
            f"SELECT {', '.join(f'count(*) FILTER (WHERE {test})' for test in differs.values())} "
            f"FROM {expected} l JOIN {actual} r ON {same_key(key)}"
        ).fetchone()
        for name, count in zip(values, found):
            if count:
                lines += column_differences(con, expected, actual, key, name, differs[name], count)
    return lines


def column_differences(con, expected, actual, key, name, test, count) -> list[str]:
    keys = ", ".join(f"l.{quoted(column)}" for column in key)
    rows = con.execute(
        f"SELECT {keys}, l.{quoted(name)}::VARCHAR, r.{quoted(name)}::VARCHAR "
        f"FROM {expected} l JOIN {actual} r ON {same_key(key)} WHERE {test} ORDER BY ALL LIMIT {SHOWN}"
    ).fetchall()
    examples = [f"  {shown(key, row)}: {name} is {short(row[-1])}, expected {short(row[-2])}" for row in rows]
    return [f"column {name} differs in {count} rows", *examples]


def unequal(name: str, sql_type: str) -> str:
    left, right = f"l.{quoted(name)}", f"r.{quoted(name)}"
    test = f"{left} IS DISTINCT FROM {right}"
    if sql_type in ("DOUBLE", "FLOAT"):
        near = f"abs({left} - {right}) <= {TOLERANCE} * greatest(1, abs({left}), abs({right}))"
        # A difference with NaN or infinity is neither near nor small.
        return f"({test} AND NOT coalesce(isfinite({left}) AND isfinite({right}) AND {near}, false))"
    return f"({test})"


def same_key(key: list[str]) -> str:
    return " AND ".join(f"l.{quoted(name)} IS NOT DISTINCT FROM r.{quoted(name)}" for name in key)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def shown(key, row) -> str:
    return ", ".join(f"{name}={short(value)}" for name, value in zip(key, row))


def short(value) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Report:
    """Prints a line for each thing compared, and counts those that differ."""

    def __init__(self):
        self.failed = []

    def add(self, what: str, lines: list[str], note: str = "") -> None:
        if lines:
            self.failed.append(what)
            print(f"DIFFERENT  {what}")
            for line in lines[:40]:
                print(f"    {line}")
        else:
            print(f"equal      {what}{f': {note}' if note else ''}")

    def code(self) -> int:
        print(f"{len(self.failed)} different: {', '.join(self.failed)}" if self.failed else "no difference")
        return 1 if self.failed else 0
