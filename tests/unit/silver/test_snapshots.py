"""Records of one key in one snapshot that say different things: which of them counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from utilityflow.quality.rules import broken_rules, judge
from utilityflow.session import local_frame
from utilityflow.silver.snapshots import taken

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
ROWS = [  # file, record, the two columns of the key, what it says
    ("one", 1, "A", "x", 7), ("one", 2, "A", "x", 8), ("one", 3, "A", "x", 7), ("one", 4, "A", "x", 8),
    ("one", 5, "A", "y", 9), ("one", 6, None, "x", 1), ("one", 7, None, "x", 2), ("one", 8, "B", "x", 5), ("one", 9, "B", "x", 5),
    ("two", 1, "A", "x", 8), ("two", 2, "B", "x", 6),
]  # fmt: skip


@pytest.mark.parametrize(("which", "broken"), [
    ("first", {("one", 2), ("one", 4)}), ("reject", {("one", 1), ("one", 2), ("one", 3), ("one", 4)}),
])  # fmt: skip
def test_which_records_of_a_key_are_taken(spark: SparkSession, which: str, broken: set[tuple[str, int]]) -> None:
    """Equal records, other snapshots and what has no key break nothing."""
    rows = local_frame(spark, ROWS, "_file_sha256 string, _row_number bigint, id string, part string, said bigint")
    rows = rows.withColumns({"_corrupt_record": F.lit(None), "_place": F.expr("IF(_file_sha256 = 'one', 0, 1)")})
    marked, rule = taken(rows.repartition(2), ["id", "part"], F.col("said"), which)
    found = judge(marked, [rule]).withColumn("rules", broken_rules([rule])).where("size(rules) > 0").collect()
    assert {(r["_file_sha256"], r["_row_number"]) for r in found} == broken
    assert {tuple(r["rules"]) for r in found} == {("duplicate_key",)}
    assert (rule.severity, rule.dimension) == ("error", "uniqueness")
