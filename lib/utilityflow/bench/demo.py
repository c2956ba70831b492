"""The demo: two months of two source systems, run month by month, and a short summary of what came out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from utilityflow import pipeline
from utilityflow.bench._world import START, ZONE, month_end
from utilityflow.control.home import open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.session import get_session
from utilityflow.settings import Settings
from utilityflow.simulate import simulate

# an analyst's question: what each class used, by the class that the customer had on the day of the read
QUERY = """SELECT u.billing_period AS month, c.customer_type AS class, count(DISTINCT u.customer_id) AS customers,
       round(sum(u.usage_kwh) / 1000) AS mwh, round(100 * avg((u.read_quality <> 'actual')::INT), 2) AS not_actual_pct
FROM gold.fact_usage u JOIN gold.dim_customer c USING (customer_key)
WHERE u.usage_kwh IS NOT NULL GROUP BY ALL ORDER BY month, mwh DESC"""


def demo(
    settings: Settings, *, customers: int = 100_000, months: int = 2, seed: int = 1, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Simulate, run month by month, and sum up; the home is made anew.

    :param tell: takes one line of progress.
    :raises UtilityFlowError: UF-1008 when the home holds something else than an earlier demo, or what a run raises.
    """
    settings = replace(settings, time_zone=ZONE, landing=None, feeds=None)
    _empty(settings.home_path)
    home = open_home(settings, create=True)
    (home.path / "demo").touch()  # what says that the next demo may make this home anew
    began = time.monotonic()
    timings: dict[str, float] = {}
    results = []
    spark = get_session("utilityflow demo", settings=settings, scratch=home.tmp.parent / "spark")
    for month in range(1, months + 1):
        at = time.monotonic()
        simulate(spark, landing=settings.landing_path, defects=home.path / "defects", customers=customers, months=months,
                 start=START, seed=seed, only_month=month, profile=None, time_zone=ZONE, progress=tell)  # fmt: skip
        timings[f"simulate month {month}"] = time.monotonic() - at
        tell(f"month {month} has landed")
        at = time.monotonic()
        answer = pipeline.run(settings, as_of=month_end(month))
        timings[f"run month {month}"] = time.monotonic() - at
        if answer["error"]:
            raise UtilityFlowError(answer["error"]["code"], answer["error"]["message"])
        results.append(answer)
    return {"home": str(home.path), "warehouse": str(home.warehouse), "customers": customers, "months": months,
            "runs": results, "seconds": {k: round(v, 1) for k, v in timings.items()},
            "total_seconds": round(time.monotonic() - began, 1), **_figures(home.warehouse, settings)}  # fmt: skip


def _empty(home: Path) -> None:
    if not home.exists() or not any(home.iterdir()):
        return
    if not (home / "demo").exists() and (home / "home.json").exists():
        raise UtilityFlowError(
            "UF-1008", f"{home} holds a lakehouse that is not a demo's", hint="give --home another folder"
        )
    shutil.rmtree(home)


def _figures(warehouse: Path, settings: Settings) -> dict[str, Any]:
    with duckdb.connect(str(warehouse), read_only=True) as base:
        counts = {
            t: _one(base, f'SELECT count(*) FROM gold."{t}"')
            for t in ("dim_customer", "dim_meter", "dim_date", "fact_usage")
        }  # noqa: S608 - fixed names
        versions = _one(base, "SELECT count(*) FROM gold.dim_customer WHERE customer_key <> -1 AND NOT is_inferred")
        people = _one(
            base,
            "SELECT count(DISTINCT customer_id) FROM gold.dim_customer WHERE customer_key <> -1 AND NOT is_inferred",
        )
        answer = base.execute(QUERY)
        names = [d[0] for d in answer.description or []]
        rows = [[str(v) if v is not None else "" for v in row] for row in answer.fetchall()]
    reasons = _reasons(settings)
    return {"rows": counts, "customers_known": people, "customer_versions": versions, "quarantined": reasons,
            "query": QUERY, "answer": {"columns": names, "rows": rows}}  # fmt: skip


def _reasons(settings: Settings) -> list[dict[str, Any]]:
    house = pipeline.open_lakehouse(settings, open_home(settings, create=False))
    found = []
    for entity in ("customers", "meter_reads"):
        fence = house.table(f"silver.{entity}__quarantine").read()
        for row in fence.selectExpr("explode(rules) AS rule").groupBy("rule").count().collect():
            found.append({"entity": entity, "rule": row[0], "records": row[1]})
    return sorted(found, key=lambda r: (r["entity"], -r["records"]))


def _one(base: Any, query: str) -> int:
    return int(base.execute(query).fetchone()[0])


def summary(result: dict[str, Any]) -> str:
    """The result as a short text for people."""
    lines = [f"{result['customers']:,} customers, {result['months']} months, {result['total_seconds']} s", ""]
    for number, answer in enumerate(result["runs"], start=1):
        counted = {
            k: sum(f[k] for f in answer["files"])
            for k in ("rows_read", "rows_loaded", "rows_quarantined", "rows_duplicate")
        }
        lines.append(
            f"month {number}: publication {answer['publication']}, "
            + ", ".join(f"{v:,} {k[5:]}" for k, v in counted.items())
        )
    rows = result["rows"]
    lines += ["", f"dim_customer {result['customer_versions']:,} versions of {result['customers_known']:,} customers; "
              f"dim_meter {rows['dim_meter'] - 1:,}; fact_usage {rows['fact_usage']:,} rows", "", "in quarantine:"]  # fmt: skip
    lines += [f"  {q['records']:>8,}  {q['entity']}: {q['rule']}" for q in result["quarantined"]]
    lines += ["", "where the time went: " + ", ".join(f"{k} {v} s" for k, v in result["seconds"].items()),
              "", f"the warehouse: {result['warehouse']}", "", *result["query"].splitlines(), ""]  # fmt: skip
    table = [result["answer"]["columns"], *result["answer"]["rows"]]
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    lines += ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
    return "\n".join(lines)
