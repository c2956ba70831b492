"""Canonical values and hashes: equal content gives equal hashes on every lane, in every session time zone.

A part is written as its length, a colon and its text, or ``-`` when null; so neither a null nor a delimiter inside a
value can make two different rows look alike (``xxhash64`` and ``concat_ws`` skip nulls).
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from utilityflow.scd2.dimension import BEGIN, Dimension

MICROS_PER_DAY = 86_400_000_000


def canonical(column: Column, kind: str) -> Column:
    """The column as its contract's type; -0.0 becomes 0.0 (NaN equals NaN in Spark already)."""
    value = column.cast(kind)
    if kind.lower() in ("double", "float", "real"):
        return F.when(value == F.lit(0.0), F.lit(0.0).cast(kind)).otherwise(value)
    return value


def text(column: Column, kind: str) -> Column:
    """A canonical text of a value: timestamps as microseconds since 1970 UTC, bytes as hexadecimal digits."""
    lower = kind.lower()
    if lower == "timestamp":
        return F.unix_micros(column).cast("string")
    return F.hex(column) if lower == "binary" else column.cast("string")


def encoded(part: Column) -> Column:
    """A text with its length before it, or the mark of null; such parts can be joined without a delimiter."""
    return F.coalesce(F.concat(F.length(part).cast("string"), F.lit(":"), part), F.lit("-"))


def row_hash(dimension: Dimension) -> Column:
    """SHA-256 of an event's attributes, in the order of their names: it decides full ties, the smallest wins."""
    kinds = dimension.types
    parts = {name: encoded(text(F.col(name), kinds[name])) for name in sorted(dimension.attributes)}
    if dimension.partial:
        parts = {name: F.when(carries(name), part).otherwise(F.lit("~")) for name, part in parts.items()}
    return F.sha2(F.concat(*parts.values()), 256)


def carries(name: str) -> Column:
    """Whether an event says anything of an attribute: its ``_provided`` lists it, or is null."""
    return F.col("_provided").isNull() | F.array_contains("_provided", name)


def surrogate_key(dimension: Dimension, start: Column | None) -> Column:
    """64-bit key of a version: hash of the dimension's name, the natural key and the version's start.

    :param start: the start as DATE or TIMESTAMP; where it is null (or if it is None) the fixed start of a key's
        earliest version is hashed: an inferred member and the real version that takes it over share one key.
    """
    kinds = dimension.types
    first = F.lit(BEGIN)
    moment = first if start is None else F.coalesce(text(start, kinds[dimension.valid_from]), first)
    parts = [F.lit(dimension.name), *(text(F.col(name), kinds[name]) for name in dimension.key), moment]
    return F.xxhash64(F.concat(*(encoded(part) for part in parts)))


def local_day(instant: Column, zone: str) -> Column:
    """The calendar day of an instant in a zone, whatever the session's time zone is."""
    shifted = F.unix_micros(F.from_utc_timestamp(instant, zone))
    day = F.lit(MICROS_PER_DAY)
    return F.date_from_unix_date(F.round((shifted - F.pmod(shifted, day)) / day).cast("int"))
