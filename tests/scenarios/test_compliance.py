"""Filings and audit events from run to run: only filings that were told of change; and what the simulator lands, as shipped."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.bench import defects
from utilityflow.contracts import load_contracts
from utilityflow.gold.compliance import NAME
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.explain import explain
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.regulatory import write_regulatory

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.long]
FILINGS = """feed: register
system: regulatory_reporting
entity: compliance_filings
format: csv
path: register/*.csv
columns: {filing_id: id, regulation: form, due_date: to_date(due), filed_date: to_date(filed), status: state,
          metric_code: "if(figure is null, null, 'saidi')", metric_unit: "if(figure is null, null, 'minutes')",
          metric_value: "cast(figure as decimal(24,6))", updated_at: to_timestamp(changed)}
"""
AUDITS = """feed: trail
system: regulatory_reporting
entity: audit_events
format: csv
path: trail/*.csv
columns: {event_id: id, occurred_at: to_timestamp(at), actor_id: who, action: did, object_kind: kind, object_id: thing,
          filing_id: filing, outcome: came, severity: weight}
"""
REGISTER, TRAIL = "id,form,due,filed,state,figure,changed\n", "id,at,who,did,kind,thing,filing,came,weight\n"
FILED = REGISTER + """F1,Reliability Report,2025-02-14,2025-02-20,Filed,90.5,2025-02-20
F2,EIA-861,2025-04-30,,Due,,2025-01-02
F3,Rate Case Report,2025-02-28,2025-02-20,Rejected,,2025-03-05
F4,Rate Case Report,soon,,Due,,2025-01-02
"""
# an older state of F1 told late, which changes nothing; F2 was filed
LATER = REGISTER + """F1,Reliability Report,2025-02-14,,Due,,2025-01-02
F2,EIA-861,2025-04-30,2025-04-30,Accepted,,2025-05-06
"""
FOUND = "A1,2025-01-20 10:00,E1,Review,metric,saidi,{},Finding,high\n"


def run(settings: Settings, name: str, text: str) -> dict[str, Any]:
    file = Path(settings.landing or "") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    answer = pipeline.run(settings, as_of=dt.date(2025, 6, 1))
    assert answer["error"] is None, answer["error"]
    return {s["step"]: s for s in answer["steps"]} | {"status": answer["status"], "files": answer["files"]}


def broken(settings: Settings, *only: str) -> list[dict[str, Any]]:
    return [c for c in verify(settings, only=[*only])["checks"] if c["status"] != "ok"]


def test_only_the_filings_that_were_told_of_change(spark: SparkSession, tmp_path: Path) -> None:
    home, feeds = tmp_path / "home", tmp_path / "feeds"
    feeds.mkdir()
    for name, text in (("register", FILINGS), ("trail", AUDITS)):
        (feeds / f"{name}.yaml").write_text(text, encoding="utf-8")
    settings = Settings(home=str(home), landing=str(tmp_path / "landing"), feeds=str(feeds), time_zone="America/New_York")
    house = Lakehouse(spark, str(home / "lakehouse"), load_contracts())

    def rows() -> dict[str, dict[str, Any]]:
        return {r["filing_id"]: r.asDict() for r in house.table(NAME).read().collect()}

    run(settings, "trail/1.csv", TRAIL + FOUND.format("F1"))
    assert rows() == {}, "an audit event makes no filing"

    second = run(settings, "register/1.csv", FILED)
    first = rows()
    assert second[NAME]["rows_written"] == len(first) == 3
    loaded = {f["file"]: (f["rows_loaded"], f["rows_quarantined"]) for f in second["files"] if f["feed"] == "register"}
    assert loaded == {"register/1.csv": (3, 1)}
    assert (first["F1"]["days_late"], first["F1"]["on_time"], first["F1"]["findings_high"]) == (6, False, 1)
    assert [(first[f]["filed_date_key"], first[f]["on_time"]) for f in ("F2", "F3")] == [(-1, None), (-1, None)]

    third = run(settings, "register/2.csv", LATER)
    now = rows()
    assert third[NAME]["rows_written"] == 1 and {f for f in now if now[f] != first[f]} == {"F2"}
    assert (now["F2"]["on_time"], now["F2"]["days_late"], now["F2"]["submissions"]) == (True, 0, 1)

    fourth = run(settings, "trail/2.csv", TRAIL + "A2,2025-03-01 10:00,,Review,filing,F3,,Finding,low\n")
    before, now = now, rows()
    assert fourth[NAME]["rows_written"] == 1 and {f for f in now if now[f] != before[f]} == {"F3"}
    assert (now["F3"]["audit_findings"], now["F3"]["findings_low"]) == (1, 1)

    fifth = run(settings, "trail/1.csv", TRAIL + FOUND.format("F2"))  # corrected: another filing
    before, now = now, rows()
    assert fifth[NAME]["rows_written"] == 2 and {f for f in now if now[f] != before[f]} == {"F1", "F2"}
    assert [now[f]["audit_events"] for f in ("F1", "F2", "F3")] == [0, 1, 1]

    version = house.table(NAME).version()
    sixth = run(settings, "trail/2.csv", (tmp_path / "landing" / "trail" / "2.csv").read_text("utf-8"))
    assert (sixth["status"], house.table(NAME).version()) == ("nothing_to_do", version)
    assert broken(settings) == []
    with duckdb.connect(str(home / "warehouse" / "utilityflow.duckdb"), read_only=True) as base:
        told = base.execute("""SELECT c.filing_id, d.date FROM gold.fact_compliance c
            JOIN gold.dim_date d ON d.date_key = c.filed_date_key WHERE c.is_filed ORDER BY 1""").fetchall()
    assert [(f, str(day)) for f, day in told] == [("F1", "2025-02-20"), ("F2", "2025-04-30")]
    back = explain(settings, "fact_compliance", str(now["F2"]["compliance_key"]))
    assert [(r["file"], r["row_number"], r["final"]) for r in back["records"]] == [
        ("register/2.csv", 2, True), ("register/1.csv", 2, False), ("trail/1.csv", 1, True)
    ]  # fmt: skip
    assert explain(settings, "fact_compliance", str(now["F3"]["compliance_key"]))["records"][1]["flags"].keys() == {"no_actor"}
    spark.sql(f"UPDATE delta.`{home}/lakehouse/gold/fact_compliance` SET on_time = true WHERE filing_id = 'F1'")
    (one,) = broken(settings, "facts.filings")
    assert one["count"] == 1 and one["offenders"][0].endswith("is not what its final state gives")


@pytest.mark.slow
def test_what_the_simulator_lands_goes_through_the_shipped_feeds(spark: SparkSession, tmp_path: Path, repository: Path) -> None:
    """Each planted defect is found or mended, nothing else is quarantined, and the trail's findings reach their filings."""
    feeds, landing, ledger = tmp_path / "feeds", tmp_path / "landing", tmp_path / "defects"
    feeds.mkdir()
    for name in ("reg_filings", "reg_audit"):
        shutil.copy(repository / "conf" / "feeds" / f"{name}.yaml", feeds)
    utility = Utility(7, 50, Almanac(7, dt.date(2025, 2, 1), 2, "America/New_York"), load_pools())
    made = write_regulatory(utility, range(2), load_profile(), landing, ledger, lambda _: None)
    settings = Settings(home=str(tmp_path / "home"), landing=str(landing), feeds=str(feeds), time_zone="America/New_York")
    answer = pipeline.run(settings, as_of=dt.date(2025, 4, 1))
    assert answer["error"] is None, answer["error"]
    read = {f["feed"]: sum(g["rows_read"] for g in answer["files"] if g["feed"] == f["feed"]) for f in answer["files"]}
    assert read == {feed: w.rows for feed, w in made.items()}
    same = [f["rows_duplicate"] for f in answer["files"] if f["file"].endswith("reg_filings_2025-03.xlsx")]
    assert same[0] > 200, "most filings stand as they stood the month before"

    result = defects.defects(settings, defects=str(ledger), tell=lambda _: None)
    assert result["fits"], result["unmatched"]
    planted = Counter()  # type: ignore[var-annotated]
    for file in ledger.glob("*/*.csv"):
        with file.open(newline="", encoding="utf-8") as stream:
            planted.update((row["kind"], row["column"]) for row in csv.DictReader(stream))
    assert {(k["kind"], k["column"]): k["planted"] for k in result["kinds"]} == planted
    assert {k["column"] for k in result["kinds"] if k["missed"]} <= {"filing"}, "only another filing's number can hide"
    assert not [a for a in result["false_alarms"] if a["severity"] == "error"], "nothing clean is quarantined"
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())
    facts = house.table(NAME).read().selectExpr(
        "count(*) AS filings", "count_if(NOT on_time) AS late", "sum(audit_findings) AS findings",
        "sum(penalty_amount) AS penalty", "count_if(district IS NULL) AS utility_wide",
    ).first()  # fmt: skip
    assert facts is not None and facts["filings"] > 390 and facts["utility_wide"] > 12
    assert facts["late"] > 0 and facts["findings"] > 0 and facts["penalty"] > 0
    assert broken(settings) == []
