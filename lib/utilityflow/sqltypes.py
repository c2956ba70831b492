"""The types that contracts use, as Spark SQL, as Spark's objects, as DuckDB SQL; and SQL literals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import DataType


def struct_type(name: str) -> DataType:
    """The engine's type object of a Spark SQL type that contracts use."""
    from pyspark.sql import types as t

    if name.startswith("decimal("):
        precision, scale = name[8:-1].split(",")
        return t.DecimalType(int(precision), int(scale))
    return {
        "bigint": t.LongType(), "int": t.IntegerType(), "double": t.DoubleType(), "date": t.DateType(),
        "timestamp": t.TimestampType(), "boolean": t.BooleanType(), "string": t.StringType(), "smallint": t.ShortType(),
        "array<string>": t.ArrayType(t.StringType()),
    }[name]  # fmt: skip


_VARCHAR = re.compile(r"VARCHAR\([1-9]\d*\)\Z")
_DECIMAL = re.compile(r"DECIMAL\(([1-9]\d*), ?(\d+)\)\Z")
PHYSICAL = {
    "BIGINT": "bigint", "INT": "int", "SMALLINT": "smallint", "DOUBLE": "double", "DATE": "date",
    "TIMESTAMP": "timestamp", "BIT": "boolean", "BOOLEAN": "boolean", "STRING": "string", "ARRAY<VARCHAR>": "array<string>",
}  # fmt: skip


def spark_type(physical: str) -> str:
    """Spark SQL type of a contract's physical type.

    :raises KeyError: for a type that the suite does not use.
    """
    if _VARCHAR.match(physical):
        return "string"
    if (found := _DECIMAL.match(physical)) and int(found[2]) <= int(found[1]) <= 38:
        return f"decimal({found[1]},{found[2]})"
    return PHYSICAL[physical]


def duckdb_type(physical: str) -> str:
    """DuckDB type of a contract's physical type; instants keep their zone (UTC)."""
    if physical.startswith(("VARCHAR(", "STRING")):
        return "VARCHAR"
    return {"BIT": "BOOLEAN", "ARRAY<VARCHAR>": "VARCHAR[]", "TIMESTAMP": "TIMESTAMPTZ"}.get(physical, physical)


def sql_text(text: str) -> str:
    """A Spark SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ")
    return f"'{escaped}'"
