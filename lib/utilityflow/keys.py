"""64-bit keys from several columns: deterministic, free of order and of coordination.

``xxhash64`` skips nulls and depends on types (reference: Spark's own function), so every part is cast to text and led by
a null marker; each part is hashed with the hash of the parts before it as its seed, so ('ab', 'c') and ('a', 'bc') differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F


def hash64(parts: Sequence[Column], *, domain: str) -> Column:
    """BIGINT hash of ``parts`` within ``domain`` (a literal that keeps keys of different kinds apart)."""
    chained: list[Column] = [F.lit(domain)]
    for part in parts:
        chained += [part.isNull(), part.cast("string")]
    return F.xxhash64(*chained)
