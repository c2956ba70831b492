"""fact_compliance: the final state of each filing, when it was filed in truth, and what auditors found; the step that keeps it.

Pure functions first. Definitions: schemas/silver/compliance_filings.yaml (states, submissions), schemas/silver/audit_events.yaml
(tellings of an event) and schemas/gold/fact_compliance.yaml (filed, late). It is no fact of ``gold/events.py``: a filing has no
customer whose history could move, and a second source counts in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import final_states
from utilityflow.gold.days import day_key
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY

NAME, FILINGS, AUDITS = "gold.fact_compliance", "silver.compliance_filings", "silver.audit_events"
STANDS = ("filed", "accepted", "amended")  # last states of a submission that counts
NOT_FILED = ("due", "withdrawn")  # final states of a filing that is not filed, whatever was submitted
SEVERITIES = ("critical", "high", "medium", "low")  # of findings


# -- pure functions ----------------------------------------------------------------------------------------------------


def submissions(filings: DataFrame) -> DataFrame:
    """What all states of a filing say together: one row per ``filing_id``.

    Columns: ``_submissions``, ``_rejections``, ``_restatements`` (INT) and ``_filed`` (struct of filed_date and filed_at of
    the first submission whose last state is one of STANDS; null for none). A submission is the time of filing that a state
    names; a state that names none speaks of the one before it. ``due`` after a submission asks for another one, and leaves
    it its last state.

    :param filings: rows of silver.compliance_filings, of whole filings.
    """
    in_time = Window.partitionBy("filing_id").orderBy(F.asc_nulls_first("updated_at"), "_batch_id", "_row_number")
    moment = F.coalesce("filed_at", F.col("filed_date").cast("timestamp"))
    states = filings.withColumns({
        "_moment": F.last(moment, ignorenulls=True).over(in_time.rowsBetween(Window.unboundedPreceding, 0)),
        "_place": F.row_number().over(in_time),
        "_before": F.last("metric_value", ignorenulls=True).over(in_time.rowsBetween(Window.unboundedPreceding, -1)),
    })  # fmt: skip
    each = states.groupBy("filing_id", "_moment").agg(
        F.max_by("status", F.when(F.col("status") != "due", F.col("_place"))).alias("_last"),
        F.max(F.expr("IF(status = 'rejected', 1, 0)")).alias("_rejected"),
        F.min(F.when(F.col("filed_date").isNotNull(), F.struct("filed_date", "filed_at"))).alias("_at"),
        F.count_if(F.col("metric_value") != F.col("_before")).alias("_restated"),
    )  # fmt: skip
    named = F.col("_moment").isNotNull()
    return each.groupBy("filing_id").agg(
        F.count_if(named).cast("int").alias("_submissions"),
        F.sum(F.when(named, F.col("_rejected")).otherwise(0)).cast("int").alias("_rejections"),
        F.sum("_restated").cast("int").alias("_restatements"),
        F.min(F.when(F.col("_last").isin(*STANDS), F.col("_at"))).alias("_filed"),
    )  # fmt: skip


def findings(audits: DataFrame) -> DataFrame:
    """What the audit trail says of filings: one row per ``filing_id`` that an event names.

    Columns: audit_events, audit_findings, findings_<severity> (INT).

    :param audits: rows of silver.audit_events, all that tell of their events; of these the last telling counts.
    """
    last = final_states(audits.withColumn("updated_at", F.lit(None).cast("timestamp")), "event_id")
    found = F.col("outcome") == "finding"
    counts = {f"findings_{name}": found & (F.col("severity") == name) for name in SEVERITIES}
    return last.where("filing_id IS NOT NULL").groupBy("filing_id").agg(
        F.count(F.lit(1)).cast("int").alias("audit_events"),
        *[F.count_if(test).cast("int").alias(name) for name, test in {"audit_findings": found, **counts}.items()],
    )  # fmt: skip


def compliance_facts(filings: DataFrame, audits: DataFrame, contract: Contract) -> DataFrame:
    """Rows of fact_compliance in the contract's columns, one per filing.

    :param filings: as ``submissions`` takes them. :param audits: as ``findings`` takes them.
    """
    rows = final_states(filings, "filing_id").drop("filed_at", "filed_date")
    rows = rows.join(submissions(filings), "filing_id").join(findings(audits), "filing_id", "left")
    filed = F.when(~F.col("status").isin(*NOT_FILED), F.col("_filed"))
    counts = ("audit_events", "audit_findings", *(f"findings_{name}" for name in SEVERITIES))
    rows = rows.withColumns({"filed_date": filed["filed_date"], "filed_at": filed["filed_at"]})
    return rows.withColumns({
        "compliance_key": hash64(contract, ["filing_id"], domain=contract.table),
        "date_key": day_key("due_date"),
        "filed_date_key": F.coalesce(day_key("filed_date"), F.lit(UNKNOWN_KEY)),
        "is_filed": F.col("filed_date").isNotNull(),
        "days_late": F.datediff("filed_date", "due_date"),
        "on_time": F.col("filed_date") <= F.col("due_date"),
        **{name: F.col(f"_{name}") for name in ("submissions", "rejections", "restatements")},
        **{name: F.coalesce(name, F.lit(0)) for name in counts},
    }).select(*contract.column_names)  # fmt: skip


def telling_of(audits: DataFrame, filings: DataFrame) -> DataFrame:
    """All tellings of the events of which one names a filing of ``filings`` (``filing_id``)."""
    events = audits.join(filings, "filing_id", "left_semi").select("event_id").distinct()
    return audits.join(events, "event_id", "left_semi")


# -- the step ----------------------------------------------------------------------------------------------------------


def run_fact_compliance(run: Run) -> StepResult:
    """Bring fact_compliance to the standing filings and audit events: made anew are the filings that either told of."""
    house, fact = run.house, run.house.table(NAME)
    now: dict[str, Any] = {n: house.table(n).version() for n in (FILINGS, AUDITS)}
    was = run.consumed.get(NAME, {}) if fact.version() > 0 else {}  # a table made anew reflects nothing yet
    if was == now:
        return StepResult(NAME, "skipped", version=fact.version(), consumed=now)
    filings, audits, present = house.table(FILINGS).read(now[FILINGS]), house.table(AUDITS).read(now[AUDITS]), fact.read()
    if was.keys() == now.keys():
        touched = F.broadcast(run.staged(_touched(run, was, now), "filings_touched"))
        filings, present = (rows.join(touched, "filing_id", "left_semi") for rows in (filings, present))
        audits = telling_of(audits, touched)
    wanted = run.staged(compliance_facts(filings, audits, fact.contract), "compliance_wanted")
    written = replace(run, fact, present, wanted, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=fact.version(), consumed=now)


def _touched(run: Run, was: Mapping[str, Any], now: Mapping[str, Any]) -> DataFrame:
    """``filing_id`` of the filings of which records came or went, or that a changed event names or named."""
    filings, audits = run.house.table(FILINGS), run.house.table(AUDITS)
    found = [filings.read(now[FILINGS]).select("filing_id").limit(0)]
    if was[FILINGS] < now[FILINGS]:
        found.append(filings.changes(was[FILINGS], now[FILINGS]).select("filing_id"))
    if was[AUDITS] < now[AUDITS]:
        changed = run.staged(audits.changes(was[AUDITS], now[AUDITS]).select("event_id", "filing_id"), "audits_changed")
        others = audits.read(now[AUDITS]).join(changed.select("event_id").distinct(), "event_id", "left_semi")
        found += [changed.select("filing_id"), others.select("filing_id")]
    return reduce(DataFrame.unionByName, found).where("filing_id IS NOT NULL").distinct()
