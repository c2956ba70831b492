"""Reliability as utilities file it with the EIA (form 861, Schedule 3): pooled national figures, and rules for the rows.

Source: reference of the domain, section 1.3 and vectors V3 and V4; the footnote and headers of the workbook
Reliability_YYYY.xlsx, sheet Reliability_States, as a feed with ``header_rows: [1, 2]`` names its columns. A utility fills one of
two blocks: that of the IEEE standard, or that of another one, which knows nothing of losses of supply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

BLOCKS = {"ieee": "ieee_standard", "other": "other_standard"}
# ours -> the workbook's; the header of the third CAIDI is wrong there: it goes with the columns without loss of supply
_FIGURES = {
    "saidi_with": "saidi_with_med", "saifi_with": "saifi_with_med", "caidi_with": "caidi_with_med",
    "saidi_without": "saidi_without_med", "saifi_without": "saifi_without_med", "caidi_without": "caidi_without_med",
    "saidi_without_los": "saidi_with_med_minus_los", "saifi_without_los": "saifi_with_med_minus_los",
    "caidi_without_los": "caidi_minus_med", "customers": "number_of_customers",
}  # fmt: skip
_KEY = {"year": "data_year", "utility_number": "utility_number", "state": "state"}
POOLED = ("saidi_with", "saifi_with", "saidi_without", "saifi_without")
VARIANTS = ("with", "without", "without_los")
ROUNDING = 0.0005  # by which a filed CAIDI may differ from SAIDI / SAIFI
LONGEST_CAIDI = 7 * 1440  # minutes; what a loss of supply implies beyond is not believed


def filed(raw: DataFrame) -> DataFrame:
    """One row per filer, state and block that says a number of customers or any index.

    :param raw: the workbook's rows, all texts.
    :return: year, utility_number, state (texts), ``block`` (``ieee``, ``other``), the figures as DOUBLE: minutes, interruptions
        per customer, customers (which are no whole numbers in every row); null for ``.``, blanks and what a block lacks.
    """
    key = [F.col(f"utility_characteristics_{theirs}").alias(ours) for ours, theirs in _KEY.items()]
    blocks = []
    for name, head in BLOCKS.items():
        texts = {ours: f"{head}_{theirs}" for ours, theirs in _FIGURES.items()}
        figures = [
            F.expr(f"try_cast({text if text in raw.columns else 'NULL'} AS double) AS {ours}") for ours, text in texts.items()
        ]
        blocks.append(raw.select(*key, F.lit(name).alias("block"), *figures))
    return reduce(DataFrame.unionByName, blocks).where(F.coalesce(*_FIGURES).isNotNull())


def pooled(rows: DataFrame, by: Sequence[str] = ()) -> DataFrame:
    """The averages weighted by customers, each over the rows that have both, index and customers; and the customers of SAIDI with
    major event days.

    :param rows: as ``filed`` gives them. :param by: columns by which they are told apart.
    :return: ``by``, POOLED, ``customers`` (DOUBLE); null where no row has both.
    """  # noqa: D205

    def average(name: str) -> Column:
        weight = F.when(F.col(name).isNotNull(), F.col("customers"))
        every = F.sum(weight)
        return (F.sum(F.col(name) * weight) / F.when(every != 0.0, every)).alias(name)

    counted = F.sum(F.when(F.col("saidi_with").isNotNull(), F.col("customers"))).alias("customers")
    return rows.groupBy(*by).agg(*[average(name) for name in POOLED], counted)


def flagged(rows: DataFrame) -> DataFrame:
    """The rows with ``flags``, ARRAY of codes, sorted; nothing is corrected.

    caidi_differs: a filed CAIDI is not SAIDI / SAIFI. without_exceeds_with: an index without major event days is above that
    with them. los_exceeds_with: likewise without losses of supply. los_is_without: the columns without losses of supply repeat
    those without major event days although these left something out, as if the one had been taken for the other.
    los_caidi: what losses of supply took is minutes without interruptions, interruptions without minutes, or an average of
    more than LONGEST_CAIDI.
    """

    def above(variant: str) -> str:
        return " OR ".join(f"{index}_{variant} > {index}_with" for index in ("saidi", "saifi"))

    minutes, times = "(saidi_with - saidi_without_los)", "(saifi_with - saifi_without_los)"
    tests = {
        "caidi_differs": " OR ".join(
            f"abs(saidi_{v} / nullif(saifi_{v}, 0) - caidi_{v}) > {ROUNDING}" for v in VARIANTS
        ),
        "los_caidi": f"({minutes} > 0 AND {times} <= 0) OR ({minutes} <= 0 AND {times} > 0) "
        f"OR ({times} > 0 AND {minutes} / nullif({times}, 0) > {LONGEST_CAIDI})",
        "los_exceeds_with": above("without_los"),
        "los_is_without": "saidi_without_los = saidi_without AND saidi_without <> saidi_with",
        "without_exceeds_with": above("without"),
    }
    found = [F.when(F.expr(test), F.lit(flag)) for flag, test in tests.items()]
    return rows.withColumn("flags", F.array_compact(F.array(*found)))
