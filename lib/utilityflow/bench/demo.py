"""The demo: six source systems, run month by month, and a short summary of what came out.

Customer management is asked over JDBC, the service desk over REST from a real server in this process; the others land files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from utilityflow import pipeline
from utilityflow.bench._world import START, ZONE, month_end
from utilityflow.control.home import open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.session import get_session
from utilityflow.settings import Settings
from utilityflow.silver.judging import ENTITIES, tables_of_entity
from utilityflow.simulate import SYSTEMS, customer_database, requests, simulate
from utilityflow.simulate.serve import PATH, serve

# an analyst's question: what each class used, by the class that the customer had on the day of the read
QUERY = """SELECT u.billing_period AS month, c.customer_type AS class, count(DISTINCT u.customer_id) AS customers,
       round(sum(u.usage_kwh) / 1000) AS mwh, round(100 * avg((u.read_quality <> 'actual')::INT), 2) AS not_actual_pct
FROM gold.fact_usage u JOIN gold.dim_customer c USING (customer_key)
WHERE u.usage_kwh IS NOT NULL GROUP BY ALL ORDER BY month, mwh DESC"""

# the marts' headlines: sums before shares, as a mean of shares would weigh a hamlet like a town
HEADLINES = {
    "kpi_service_reliability": """SELECT period AS month, max(value) FILTER (metric_code = 'saidi') AS saidi_minutes,
       max(value) FILTER (metric_code = 'saifi') AS saifi, max(value) FILTER (metric_code = 'caidi') AS caidi_minutes,
       100 * max(value) FILTER (metric_code = 'asai') AS asai_pct
FROM gold.kpi_regulatory_scorecard
WHERE span = 'month' AND exclusions = 'none' AND metric_code IN ('saidi', 'saifi', 'caidi', 'asai')
GROUP BY period ORDER BY period""",
    "kpi_customer_satisfaction": """SELECT billing_period AS month, sum(requests) AS requests, sum(complaints) AS complaints,
       sum(resolution_hours) / nullif(sum(resolved_requests), 0) AS hours_to_resolve,
       100 * sum(on_time_requests) / nullif(sum(due_requests), 0) AS on_time_pct,
       100 * sum(first_contact_requests) / nullif(sum(contact_requests), 0) AS first_contact_pct
FROM gold.kpi_customer_satisfaction GROUP BY billing_period ORDER BY billing_period""",
    "kpi_operational_efficiency": """SELECT billing_period AS month, 100 * estimated_share AS estimated_pct,
       average_processing_days AS days_to_book_a_payment, 100 * bills_in_time_share AS bills_in_time_pct,
       average_hours_to_begin AS hours_to_begin_work, average_response_hours AS hours_to_close_urgent
FROM gold.kpi_operational_efficiency ORDER BY billing_period""",
    "receivables_ageing": """SELECT sum(billed) AS billed, sum(received) AS received, sum(open_amount) AS open,
       sum(due_1_30 + due_31_60 + due_61_90 + due_over_90) AS past_due FROM gold.receivables_ageing""",
}
INTERVAL_METERS = 2000
# these two are asked, the others land files
_IN_PLACE = {customer_database.SYSTEM: "customer_database", requests.SYSTEM: requests.DESK}
SIMULATED = tuple(_IN_PLACE.get(name, name) for name in SYSTEMS)
PORT = 8311  # where a user serves the desk who goes on with the home
CIS_URL, DESK_URL = "UTILITYFLOW_CIS_URL", "UTILITYFLOW_DESK_URL"  # what the shipped feeds of the two wait for


def demo(
    settings: Settings, *, customers: int = 100_000, months: int = 1, seed: int = 1, tell: Callable[[str], None]
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
                 start=START, seed=seed, only_month=month, interval_meters=min(INTERVAL_METERS, customers // 20 + 1),
                 reads_format="parquet", systems=SIMULATED, sources=home.path / "sources", time_zone=ZONE,
                 progress=tell)  # fmt: skip
        timings[f"simulate month {month}"] = time.monotonic() - at
        tell(f"month {month} has landed")
        at = time.monotonic()
        with asked(home.path / "sources"):
            answer = pipeline.run(settings, as_of=month_end(month))
        timings[f"run month {month}"] = time.monotonic() - at
        if answer["error"]:
            raise UtilityFlowError(answer["error"]["code"], answer["error"]["message"])
        results.append(answer)
    return {"home": str(home.path), "warehouse": str(home.warehouse), "customers": customers, "months": months,
            "runs": results, "seconds": {k: round(v, 1) for k, v in timings.items()},
            "total_seconds": round(time.monotonic() - began, 1), **_figures(home.warehouse, settings)}  # fmt: skip


@contextmanager
def asked(sources: Path) -> Iterator[None]:
    """The shipped feeds ask the sources in this folder: customer management's database, and the service desk, which is served.

    The server has a free port of this machine alone and ends with the block, whatever becomes of it.
    """
    with serve(port=0, records=sources / requests.DESK_FEED) as server:
        addresses = {CIS_URL: f"jdbc:sqlite:{_database(sources)}", DESK_URL: server.address}
        before = {name: os.environ.get(name) for name in addresses}
        os.environ.update(addresses)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


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
        found = base.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold' "
                             "AND table_name NOT LIKE 'publication%' ORDER BY ALL").fetchall()  # fmt: skip
        counts = {t: _one(base, f'SELECT count(*) FROM gold."{t}"') for (t,) in found}  # noqa: S608 - our own tables
        known = "FROM gold.dim_customer WHERE customer_key <> -1 AND NOT is_inferred"
        versions, people = (_one(base, f"SELECT {what} {known}") for what in ("count(*)", "count(DISTINCT customer_id)"))  # noqa: S608
        answer = _answer(base, QUERY)
        headlines = {mart: _answer(base, query) for mart, query in HEADLINES.items() if mart in counts}
    return {"rows": counts, "customers_known": people, "customer_versions": versions, "quarantined": _reasons(settings),
            "query": QUERY, "answer": answer, "headlines": headlines}  # fmt: skip


def _answer(base: Any, query: str) -> dict[str, Any]:
    answer = base.execute(query)
    names = [d[0] for d in answer.description or []]
    return {"columns": names, "rows": [[_shown(v) for v in row] for row in answer.fetchall()]}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float | Decimal) else str(value)


def _reasons(settings: Settings) -> list[dict[str, Any]]:
    house = pipeline.open_lakehouse(settings, open_home(settings, create=False))
    found = []
    for entity in ENTITIES:
        fence = house.table(tables_of_entity(entity)[1])
        rows = fence.read().selectExpr("explode(rules) AS rule").groupBy("rule").count().collect() if fence.exists() else ()
        for row in rows:
            found.append({"entity": entity, "rule": row[0], "records": row[1]})
    return sorted(found, key=lambda r: (r["entity"], -r["records"]))


def _one(base: Any, query: str) -> int:
    return int(base.execute(query).fetchone()[0])


def summary(result: dict[str, Any]) -> str:
    """The result as a short text for people."""
    lines = [f"{result['customers']:,} customers, {result['months']} month(s), {result['total_seconds']} s", ""]
    for number, run in enumerate(result["runs"], start=1):
        counted = {
            k: sum(f[k] for f in run["files"])
            for k in ("rows_read", "rows_loaded", "rows_quarantined", "rows_duplicate")
        }
        lines.append(
            f"month {number}: publication {run['publication']}, "
            + ", ".join(f"{v:,} {k[5:]}" for k, v in counted.items())
        )
    lines += ["", "rows in the warehouse:", *(f"  {n:>12,}  {table}" for table, n in result["rows"].items()),
              f"dim_customer: {result['customer_versions']:,} versions of {result['customers_known']:,} customers"]  # fmt: skip
    lines += ["", "in quarantine:", *(f"  {q['records']:>8,}  {q['entity']}: {q['rule']}" for q in result["quarantined"])]
    for mart, answer in result["headlines"].items():
        lines += ["", f"{mart}:", *_table(answer)]
    lines += ["", "where the time went: " + ", ".join(f"{k} {v} s" for k, v in result["seconds"].items()),
              "", "to go on with this home, whose runs ask its two sources:",
              *(f"  {line}" for line in going_on(Path(result["home"]))),
              "", f"the warehouse: {result['warehouse']}", "", *result["query"].splitlines(), ""]  # fmt: skip
    return "\n".join(lines + _table(result["answer"]))


def going_on(home: Path) -> tuple[str, str]:
    """Two commands of a shell: the desk is served, and a run of a demo's home asks it and customer management's database."""
    sources = home / "sources"
    where, records, base = (shlex.quote(str(p)) for p in (home, sources / requests.DESK_FEED, _database(sources)))
    told = f"{CIS_URL}=jdbc:sqlite:{base} {DESK_URL}=http://127.0.0.1:{PORT}{PATH}"
    return f"utilityflow simulate serve --port {PORT} --records {records} &", f"{told} utilityflow run --home {where}"


def _database(sources: Path) -> Path:
    return sources / customer_database.FILE


def _table(answer: dict[str, Any]) -> list[str]:
    table = [answer["columns"], *answer["rows"]]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
