"""reliability_benchmark: the reliability that utilities filed with the EIA (form 861, schedule 3), pooled by customers.

Source: reference of the domain, section 1.3 and vector V4. The rules by which filings are flagged (V3) are those of
schemas/silver/reliability_filings.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import final_states
from utilityflow.gold.marts import replace_rows
from utilityflow.keys import hash64
from utilityflow.silver.reliability_filings import INDICES, METHODS

if TYPE_CHECKING:
    from utilityflow.contracts import Contract

NAME, FILINGS = "gold.reliability_benchmark", "silver.reliability_filings"
FILING = ("report_year", "utility_number", "state")  # what a filing is known by, however often it is revised
GROUP = ("report_year", "state", "method")
COUNTRY, BOTH = "US", "all"  # state and method of what is pooled over all of them
POOLED = ("saidi_with_med", "saifi_with_med", "saidi_without_med", "saifi_without_med")
_FIGURES = (*INDICES["ieee"], "customers")
# exact, so that a sum is the same in whatever order it is made; of these types the engine keeps 18 decimals of a quotient
_SUM, _CUSTOMERS, _FIGURE = "decimal(24,8)", "decimal(18,4)", "decimal(18,10)"


def filed(filings: DataFrame) -> DataFrame:
    """One row per filing and method that says a number of customers or any index.

    :param filings: rows of silver.reliability_filings, of whole filings: the final revision of each counts.
    :return: FILING, ``method`` (one of METHODS), the indices (minutes, interruptions per customer) and ``customers`` without
        the method in their names, null for what a method lacks; ``quality_flags``.
    """
    final = final_states(filings, *FILING)

    def of(method: str) -> DataFrame:
        own = [F.col(f"{method}_{n}").alias(n) for n in _FIGURES if f"{method}_{n}" in final.columns]
        return final.select(*FILING, F.lit(method).alias("method"), *own, "quality_flags")

    parts = [of(method) for method in METHODS]
    rows = reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)
    return rows.where(F.coalesce(*_FIGURES).isNotNull())


def pooled(rows: DataFrame, by: Sequence[str] = ()) -> DataFrame:
    """The averages weighted by customers, each over the rows that have both, index and customers.

    :param rows: as ``filed`` gives them. :param by: columns by which they are told apart.
    :return: ``by``, POOLED, ``customers`` (of the rows that say SAIDI with major event days), ``filings``, ``flagged_filings``;
        an average is null where no row has both, or nobody is a customer.
    """

    def average(name: str) -> Column:
        whole = f"CAST(sum({name} * customers) AS {_SUM})"
        return F.expr(f"CAST({whole} / nullif({weight(name)}, 0) AS {_FIGURE}) AS {name}")

    def weight(name: str) -> str:
        return f"CAST(sum(IF({name} IS NOT NULL, customers, NULL)) AS {_CUSTOMERS})"

    return rows.groupBy(*by).agg(
        *[average(name) for name in POOLED],
        F.expr(f"{weight(POOLED[0])} AS customers"),
        F.count(F.lit(1)).alias("filings"),
        F.count_if(F.size("quality_flags") > 0).alias("flagged_filings"),
    )


def benchmark(filings: DataFrame, contract: Contract) -> DataFrame:
    """Rows of the mart: each filing counts for its state and the country, by its method and by both.

    :param filings: as ``filed`` takes them.
    """
    several = {"state": F.array("state", F.lit(COUNTRY)), "method": F.array("method", F.lit(BOTH))}
    rows = reduce(lambda frame, name: frame.withColumn(name, F.explode(several[name])), several, filed(filings))
    key = hash64(contract, GROUP, domain=contract.table)
    return pooled(rows, GROUP).withColumn("benchmark_key", key).select(*contract.column_names)


def run_benchmark(run: Run) -> StepResult:
    """Make the mart anew from all filings, and write it where it differs: they are few, some thousands a year."""
    table = run.house.table(NAME)
    now = {FILINGS: run.house.table(FILINGS).version()}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    rows = benchmark(run.house.table(FILINGS).read(now[FILINGS]), table.contract)
    return replace_rows(run, table, rows, None, now)
