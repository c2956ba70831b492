"""64-bit keys from several columns: deterministic, free of order and of coordination.

``xxhash64`` skips nulls and depends on types (reference: Spark's own function), so every part is led by a null marker and
brought to one type by the contract's: texts as they are, days, instants and whole numbers as BIGINT, decimals with their
contract's scale. Each part is hashed with the hash of the parts before it as its seed, so ('ab', 'c') and ('a', 'bc')
differ. (Texts of dates and decimals would say the same at five times the cost.)
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column
from pyspark.sql import functions as F

from utilityflow.contracts import Contract, sql_text

_AS_BIGINT = {
    "date": "cast(unix_date({0}) AS bigint)",
    "timestamp": "unix_micros({0})",
    "int": "cast({0} AS bigint)",
    "smallint": "cast({0} AS bigint)",
}


def hash64(contract: Contract, names: Iterable[str], *, domain: str) -> Column:
    """BIGINT hash of columns of a contract within ``domain`` (a literal that keeps keys of different kinds apart).

    :raises TypeError: for a column whose type has no one form (arrays, floating numbers).
    """
    parts = [sql_text(domain)]
    for name in names:
        kind = contract.column(name).type
        if kind.startswith("array") or kind in ("double", "float"):
            raise TypeError(f"{contract.name}.{name}: {kind} cannot be part of a key")
        parts += [f"{name} IS NULL", _AS_BIGINT.get(kind, "{0}").format(name)]
    return F.expr(f"xxhash64({', '.join(parts)})")
