"""Bills: one line of a bill per record, with the bill's own dates; a cancellation is a bill of its own that names the other.

Signs, states and what a cancel and rebill looks like: schemas/silver/bills.yaml. Source of the rules: reference of the domain,
"Billing and payment rules" (estimated bills and their true-up, cancel and rebill, proration).
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import codes

FILLED = (
    "bill_id", "line_number", "kind", "cancels_bill_id", "account_id", "customer_id", "service_point_id", "meter_id",
    "charge", "description", "rate_schedule", "quantity", "unit", "unit_price", "amount", "currency", "is_estimated",
    "bill_date", "due_date", "period_start", "period_end", "updated_at",
)  # fmt: skip
DAY = "bill_date"  # equal records agree in it

# what a feed that does not map the column means
DEFAULTS = {"kind": "bill", "charge": "energy"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - days come as days
    """Canonical bill lines from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS, and an unmapped line number is 1.
    :param zone: the utility's zone (not used: bills have days, no instants).
    """
    return typed.withColumns({
        **codes(DEFAULTS, mapped),
        "line_number": F.col("line_number") if "line_number" in mapped else F.lit(1),
        "currency": F.upper("currency"),
    })  # fmt: skip
