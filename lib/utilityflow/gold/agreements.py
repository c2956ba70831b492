"""On which days a service agreement holds, by dim_service_agreement, and which of them share a day of one service point.

Source of the rules: reference of the domain, 3.1 (an agreement ends where a later one begins) and 3.2 (a move-out and a
move-in of one day are two customers of one service point).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from utilityflow.scd2 import UNKNOWN_KEY, surrogate_key
from utilityflow.scd2.dimension import END

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.scd2 import Dimension

NAME = "gold.dim_service_agreement"


def in_force(rows: DataFrame, dimension: Dimension) -> DataFrame:
    """The versions that hold on a day at least, with ``_from`` and ``_to`` DATE: from _from until the day before _to.

    A version's own days, cut to those of the agreement. The first version stands from the agreement's first day on, whenever
    the source told of it. A cancelled agreement never held.

    :param rows: of dim_service_agreement.
    """
    d = dimension
    first = F.col(d.surrogate_key) == surrogate_key(d, None)
    begin = F.when(first, F.coalesce("effective_from", d.valid_from)).otherwise(F.greatest(d.valid_from, "effective_from"))
    standing = rows.where((F.col(d.surrogate_key) != UNKNOWN_KEY) & ~F.col("status").eqNullSafe("cancelled"))
    spans = {"_from": begin, "_to": F.least(d.valid_to, F.coalesce("effective_to", F.lit(END).cast("date")))}
    return standing.withColumns(spans).where("_from < _to")


def overlaps(rows: DataFrame, dimension: Dimension) -> DataFrame:
    """Of the versions in force, those that begin while another agreement of their service point and commodity holds.

    :param rows: of dim_service_agreement; agreements without a service point overlap nothing.
    """
    held = in_force(rows, dimension).where("service_point_id IS NOT NULL")
    place = Window.partitionBy("service_point_id", "commodity").orderBy("_from", "_to", dimension.surrogate_key)
    # the versions of one agreement share no day, so whatever still holds is another one's
    before = F.max("_to").over(place.rowsBetween(Window.unboundedPreceding, -1))
    return held.withColumn("_before", before).where("_from < _before")
