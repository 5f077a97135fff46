"""What silver, gold and scores must hold, computed from bronze alone, by DuckDB and plain Python.

It restates the rules of the tables in its own words. Where SQL engines differ (instants in ISO 8601, rounding of money,
the average of decimals, the running count per user), it computes with Python's integers and decimals instead.
"""

import bisect
import csv
import re
from collections import defaultdict
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pyarrow as pa

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = ["credit_card", "debit_card", "paypal", "bank_transfer", "digital_wallet", "crypto"]
PROVENANCE = [
    "source_topic",
    "source_partition",
    "source_offset",
    "source_at",
    "source_key",
    "source_headers",
    "schema_id",
    "ingested_at",
    "epoch",
    "processing_date",
]
PLACE = ["source_topic", "source_partition", "source_offset"]
# The order in which rows arrive: whole epochs; in one, micro-batches. A micro-batch has one moment of ingestion; within it rows go by topic, partition and offset.
ARRIVAL = "epoch, ingested_at, source_topic, source_partition, source_offset"

MINUTE_US = 60_000_000
DAY_US = 24 * 60 * MINUTE_US
FUTURE_TOLERANCE_US = 5 * MINUTE_US
AMOUNT_BOUND_CENTS = 1_000_000 * 100
OLDEST = date(2000, 1, 1)
VELOCITY_WINDOW_US = 30 * MINUTE_US


def build(con, countries: Path = REPOSITORY / "sql/reference/high_risk_countries.csv") -> None:
    """From the relation `bronze`: the tables `expected_silver`, `expected_quarantine`, `expected_duplicates`, `expected_scores` and
    `expected_<name>` of each gold table."""
    checked(con)
    quarantine(con)
    silver(con)
    scores(con, countries)
    segments(con)
    merchants(con)
    users(con)
    countries_activity(con)
    platform(con)


# --- silver -----------------------------------------------------------------------------------------------------------


def checked(con) -> None:
    """`checked`: every bronze row with its instant, its money, its place, and the expectations that it breaks."""
    lookup(con, "instants", '"timestamp"', instant_us, pa.int64())
    lookup(con, "moneys", "amount", cents, pa.int64())
    lookup(con, "places", "location", place, pa.struct([("city", pa.string()), ("country", pa.string())]))
    oldest_us = (OLDEST - date(1970, 1, 1)).days * DAY_US
    con.execute(
        f"""
        CREATE OR REPLACE TABLE checked AS
        SELECT
            b.*,
            i.result AS at_us,
            m.result AS cents,
            p.result AS place,
            list_filter([
                CASE WHEN coalesce(transaction_id, '') = '' THEN 'transaction_id_present' END,
                CASE WHEN m.result IS NULL OR m.result <= 0 THEN 'amount_positive' END,
                CASE WHEN m.result IS NULL OR m.result >= {AMOUNT_BOUND_CENTS} THEN 'amount_sane' END,
                CASE WHEN i.result IS NULL THEN 'event_at_parsable' END,
                CASE WHEN i.result < {oldest_us} THEN 'event_at_not_ancient' END,
                CASE WHEN i.result > epoch_us(ingested_at) + {FUTURE_TOLERANCE_US} THEN 'event_at_not_in_future' END
            ], lambda name: name IS NOT NULL) AS broken
        FROM bronze b
        LEFT JOIN instants i ON i.value = b."timestamp"
        LEFT JOIN moneys m ON m.value = b.amount
        LEFT JOIN places p ON p.value = b.location
        """
    )


def quarantine(con) -> None:
    """A row that is refused also tells what would only have been a warning."""
    helpers = ["at_us", "cents", "place", "broken"]
    known = ", ".join(f"'{method}'" for method in METHODS)
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_quarantine AS
        SELECT * EXCLUDE ({", ".join(helpers)}), list_sort(list_concat(
            broken, CASE WHEN payment_method IN ({known}) THEN [] ELSE ['payment_method_known'] END
        )) AS broken_expectations
        FROM checked WHERE len(broken) > 0
        """
    )


def silver(con) -> None:
    con.execute(
        f"""
        CREATE OR REPLACE TABLE ranked AS
        SELECT *, row_number() OVER (PARTITION BY transaction_id ORDER BY {ARRIVAL}) AS occurrence
        FROM checked WHERE len(broken) = 0
        """
    )
    con.execute(
        f"CREATE OR REPLACE TABLE expected_duplicates AS SELECT {', '.join(PLACE)}, epoch, transaction_id FROM ranked WHERE occurrence > 1"
    )
    # Day 0 of 1970 was a Thursday, which ISO 8601 counts as 4.
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_silver AS
        SELECT
            transaction_id,
            user_id,
            {decimal("cents", 18, 2)} AS amount,
            merchant,
            merchant_id,
            make_timestamptz(at_us) AS event_at,
            is_fraud,
            payment_method,
            place.city AS city,
            place.country AS country,
            device_id,
            CASE
                WHEN cents < 1000 THEN 'micro' WHEN cents < 10000 THEN 'small' WHEN cents < 100000 THEN 'medium'
                WHEN cents < 500000 THEN 'large' ELSE 'very_large'
            END AS amount_category,
            CAST(at_us // {60 * MINUTE_US} % 24 AS INTEGER) AS hour,
            CAST((at_us // {DAY_US} + 3) % 7 + 1 AS INTEGER) AS day_of_week,
            (at_us // {DAY_US} + 3) % 7 + 1 IN (6, 7) AS is_weekend,
            cents > 100000 AS is_high_value,
            DATE '1970-01-01' + CAST(at_us // {DAY_US} AS INTEGER) AS transaction_date,
            {", ".join(PROVENANCE)}
        FROM ranked WHERE occurrence = 1
        """
    )
    # What the gold tables count, as plain integers and texts.
    con.execute(
        """
        CREATE OR REPLACE TABLE refined AS
        SELECT transaction_id, user_id, device_id, merchant, payment_method, place.country AS country, is_fraud, cents, at_us,
            epoch, ingested_at, source_topic, source_partition, source_offset
        FROM ranked WHERE occurrence = 1
        """
    )


# --- gold -------------------------------------------------------------------------------------------------------------


def scores(con, countries: Path) -> None:
    velocities(con)
    with open(countries, newline="", encoding="utf-8") as file:
        listed = [row["country"] for row in csv.DictReader(file)]
    con.register("listed", pa.table({"country": pa.array(listed, pa.string())}))
    # Points and words stand side by side, so that a rule that gives points gives its reason.
    rules = [
        ("known_fraud_points", 50, "flagged as fraud", "is_fraud"),
        ("high_amount_points", 30, "amount above 5,000", "cents > 500000"),
        ("crypto_points", 20, "paid in crypto", "payment_method = 'crypto'"),
        ("high_risk_country_points", 15, "high-risk country", "country IN (FROM listed)"),
        ("night_points", 10, "at night", f"at_us // {60 * MINUTE_US} % 24 IN (23, 0, 1, 2, 3, 4)"),
        ("weekend_points", 5, "at the weekend", f"(at_us // {DAY_US} + 3) % 7 + 1 IN (6, 7)"),
        ("velocity_points", 25, "more than 5 transactions in 30 minutes", "user_transactions_30m > 5"),
    ]
    points = ", ".join(f"CASE WHEN coalesce({test}, false) THEN {worth} ELSE 0 END AS {name}" for name, worth, _, test in rules)
    total = " + ".join(name for name, *_ in rules)
    words = ", ".join(f"CASE WHEN {name} > 0 THEN '{reason}' END" for name, _, reason, _ in rules)
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_scores AS
        SELECT
            transaction_id, user_id, make_timestamptz(at_us) AS event_at, {decimal("cents", 18, 2)} AS amount,
            {", ".join(name for name, *_ in rules)},
            user_transactions_30m,
            {total} AS score,
            coalesce(array_to_string(list_filter([{words}], lambda word: word IS NOT NULL), '; '), '') AS reasons,
            CASE
                WHEN {total} < 10 THEN 'MINIMAL' WHEN {total} < 25 THEN 'LOW' WHEN {total} < 50 THEN 'MEDIUM'
                WHEN {total} < 75 THEN 'HIGH' ELSE 'CRITICAL'
            END AS class,
            DATE '1970-01-01' + CAST(at_us // {DAY_US} AS INTEGER) AS transaction_date,
            epoch
        FROM (SELECT *, {points} FROM refined JOIN velocities USING (transaction_id))
        """
    )


def velocities(con) -> None:
    """For each silver row, the rows of its user with a time in (t - 30 minutes, t] that had arrived by then, itself included."""
    rows = con.execute(f"SELECT transaction_id, user_id, at_us FROM refined ORDER BY {ARRIVAL}").fetch_arrow_table()
    seen = defaultdict(list)
    counts = []
    for user, at_us in zip(rows["user_id"].to_pylist(), rows["at_us"].to_pylist()):
        times = seen[user]
        bisect.insort(times, at_us)
        counts.append(bisect.bisect_right(times, at_us) - bisect.bisect_right(times, at_us - VELOCITY_WINDOW_US))
    table = pa.table({"transaction_id": rows["transaction_id"], "user_transactions_30m": pa.array(counts, pa.int64())})
    con.register("velocities", table)


def windows(con, name: str, minutes: int, every: int, key: list[str], measures: list[str]) -> None:
    """A gold table: the measures of each group in each window of `minutes`, one beginning `every` minutes."""
    size_us, slide_us = minutes * MINUTE_US, every * MINUTE_US
    # The latest window of an instant begins at its floor; earlier ones hold it too as long as they have not ended.
    con.execute(
        f"""
        CREATE OR REPLACE TABLE expected_{name} AS
        SELECT
            make_timestamptz(start_us) AS window_start,
            make_timestamptz(start_us + {size_us}) AS window_end,
            {"".join(column + ", " for column in key)}
            {", ".join(measures)}
        FROM (
            SELECT refined.*, at_us // {slide_us} * {slide_us} - back * {slide_us} AS start_us
            FROM refined, range({minutes // every}) pane(back)
        )
        WHERE at_us >= start_us AND at_us < start_us + {size_us}
        GROUP BY {", ".join(["start_us", *key])}
        """
    )


def segments(con) -> None:
    windows(con, "segment_activity", 10, 10, ["merchant", "payment_method", "country"], [
        VOLUME, revenue("revenue"), average(), "count_if(is_fraud) AS fraud_transactions", share("is_fraud", "fraud_rate"),
        distinct("user_id", "users"), distinct("device_id", "devices"),
    ])


def merchants(con) -> None:
    windows(con, "merchant_activity", 15, 5, ["merchant"], [
        VOLUME, revenue("revenue"), average(), share("is_fraud", "fraud_rate"),
        distinct("user_id", "customers"), distinct("device_id", "devices"),
        *(share(f"payment_method = '{method}'", f"{method}_share") for method in METHODS),
    ])


def users(con) -> None:
    suspicious = (
        "count(*) >= 21 OR count(DISTINCT country) > 2 OR count(DISTINCT device_id) > 3 "
        "OR (sum(cents) > 1000000 AND count(DISTINCT merchant) > 4) AS is_suspicious"
    )
    windows(con, "user_activity", 60, 60, ["user_id"], [
        VOLUME, revenue("spending"), average(), f"{decimal('max(cents)', 18, 2)} AS largest_amount",
        distinct("merchant", "merchants"), distinct("payment_method", "payment_methods"),
        distinct("country", "countries"), distinct("device_id", "devices"), suspicious,
    ])


def countries_activity(con) -> None:
    windows(con, "country_activity", 30, 30, ["country"], [
        VOLUME, revenue("revenue"), share("is_fraud", "fraud_rate"),
        distinct("user_id", "active_users"), distinct("merchant", "active_merchants"),
    ])


def platform(con) -> None:
    known = ", ".join(f"'{method}'" for method in METHODS)
    windows(con, "platform_hourly", 60, 60, [], [
        VOLUME, revenue("revenue"), average(),
        f"{decimal('min(cents)', 18, 2)} AS smallest_amount", f"{decimal('max(cents)', 18, 2)} AS largest_amount",
        distinct("user_id", "active_users"), distinct("merchant", "active_merchants"), distinct("country", "countries"),
        *(f"count_if(payment_method = '{method}') AS {method}_transactions" for method in METHODS),
        f"count_if(payment_method NOT IN ({known})) AS other_transactions",
        share("is_fraud", "fraud_rate"), share("cents > 100000", "high_value_rate"),
    ])


# name -> the relation and the key of every gold table.
GOLD = {
    "gold.segment_activity": ("expected_segment_activity", ["window_start", "merchant", "payment_method", "country"]),
    "gold.merchant_activity": ("expected_merchant_activity", ["window_start", "merchant"]),
    "gold.user_activity": ("expected_user_activity", ["window_start", "user_id"]),
    "gold.country_activity": ("expected_country_activity", ["window_start", "country"]),
    "gold.platform_hourly": ("expected_platform_hourly", ["window_start"]),
    "gold.fraud_scores": ("expected_scores", ["transaction_id"]),
}

VOLUME = "count(*) AS transactions"


def revenue(name: str) -> str:
    return f"{decimal('sum(cents)', 28, 2)} AS {name}"


def average() -> str:
    """In millionths, cut and not rounded, as SQL engines divide decimals."""
    return f"{decimal('sum(cents) * 10000 // count(*)', 22, 6)} AS average_amount"


def share(test: str, name: str) -> str:
    return f"count_if({test}) / count(*) AS {name}"


def distinct(column: str, name: str) -> str:
    return f"count(DISTINCT {column}) AS {name}"


def decimal(integer: str, digits: int, places: int) -> str:
    """An integer of 10^-places as a decimal, without a division."""
    return f"CAST(CAST({integer} AS VARCHAR) || 'e-{places}' AS DECIMAL({digits},{places}))"


# --- values -----------------------------------------------------------------------------------------------------------


def lookup(con, name: str, expression: str, function, result: pa.DataType) -> None:
    """The relation `name`(value, result): a Python function over the distinct values of a bronze column."""
    values = con.execute(f"SELECT DISTINCT {expression} AS value FROM bronze WHERE {expression} IS NOT NULL").fetch_arrow_table()["value"]
    results = pa.array([function(value) for value in values.to_pylist()], result)
    con.register(name, pa.table({"value": values, "result": results}))


ISO_8601 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:[Zz]|([+-])(\d{2})(?::?(\d{2}))?)?)?",
    re.ASCII,
)


def instant_us(text: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 date or time, UTC unless it says otherwise; None when it is none."""
    match = ISO_8601.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, sign, ahead_hours, ahead_minutes = match.groups()
    try:
        days = (date(int(year), int(month), int(day)) - date(1970, 1, 1)).days
    except ValueError:
        return None
    hour, minute, second = int(hour or 0), int(minute or 0), int(second or 0)
    ahead_hours, ahead_minutes = int(ahead_hours or 0), int(ahead_minutes or 0)
    if hour > 23 or minute > 59 or second > 59 or ahead_hours > 23 or ahead_minutes > 59:
        return None
    ahead = (ahead_hours * 60 + ahead_minutes) * (-1 if sign == "-" else 1)
    at_us = days * DAY_US + (hour * 60 + minute - ahead) * MINUTE_US + second * 1_000_000
    at_us += int(((fraction or "") + "000000")[:6])
    first, last = date(1, 1, 1), date(9999, 12, 31)
    floor = (first - date(1970, 1, 1)).days * DAY_US
    ceiling = ((last - date(1970, 1, 1)).days + 1) * DAY_US
    return at_us if floor <= at_us < ceiling else None


def cents(amount: float) -> int | None:
    """Hundredths, half to even, of the shortest decimal that reads back as the double; None beyond decimal(18,2)."""
    exact = Decimal(repr(amount))
    if not exact.is_finite() or abs(exact) >= Decimal(10) ** 17:
        return None
    rounded = int(exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN).scaleb(2))
    return rounded if abs(rounded) < 10**18 else None


def place(location: str) -> dict:
    """ "City, Country"; without both parts there is no city, and the whole text is the country."""
    city, comma, country = location.rpartition(",")
    city, country = city.strip(), country.strip()
    if comma and city and country:
        return {"city": city, "country": country}
    return {"city": None, "country": location}
