"""``bench defects`` on the accounts and agreements of customer management's database, which is asked after each of two months."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.bench import defects
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings
from utilityflow.simulate import simulate
from utilityflow.simulate.agreements import ACCOUNTS_FEED, FEED

from .conftest import entries

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.slow]
ZONE, START = "America/New_York", dt.date(2025, 1, 1)
# what becomes of each, but for what it becomes where the row came again; often enough that 300 customers have each
ACCOUNTS: dict[tuple[str, str, str], tuple[str, str]] = {
    ("padded", "account_no", ""): ("repaired", ""),
    ("wrong_case", "account_no", ""): ("repaired", ""),
    ("wrong_case", "currency", ""): ("repaired", ""),
    ("missing", "customer_no", ""): ("flagged", "no_customer"),
    ("unknown_id", "customer_no", ""): ("missed", ""),
    ("unknown_code", "currency", ""): ("quarantined", "AC-04"),
    ("bad_date", "opened_on", ""): ("quarantined", "conversion:effective_at"),
    ("ancient_date", "opened_on", ""): ("quarantined", "AC-08"),
    ("lost_account", "account_no", ""): ("flagged", "is_inferred"),
}
AGREEMENTS: dict[tuple[str, str, str], tuple[str, str]] = {
    ("missing", "account_no", ""): ("flagged", "no_account"),
    ("unknown_id", "account_no", ""): ("missed", ""),
    ("missing", "rate_code", ""): ("flagged", "no_rate_schedule"),
    ("unknown_code", "rate_code", ""): ("missed", ""),
    ("missing", "service_point", ""): ("flagged", "no_service_point"),
    ("unknown_code", "commodity", ""): ("quarantined", "conversion:commodity"),
    ("unknown_code", "start_code", ""): ("flagged", "unknown_start_reason"),
    ("bad_date", "begins_on", ""): ("quarantined", "conversion:effective_from"),
    ("swapped", "begins_on", "ends_on"): ("quarantined", "SA-04"),
    ("begins_early", "begins_on", ""): ("missed", ""),
}


def specs(outcomes: dict[tuple[str, str, str], tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"kind": kind, "column": column, "rate": 0.05} | ({"other": other, "rate": 0.4} if other else {})
            for kind, column, other in outcomes]  # fmt: skip


def test_the_scorer_accounts_for_every_defect_of_the_tables(spark: SparkSession, tmp_path: Path) -> None:
    home, ledger = tmp_path / "home", tmp_path / "own"
    settings = Settings(home=str(home), time_zone=ZONE)
    profile = {"accounts": specs(ACCOUNTS), "service_agreements": specs(AGREEMENTS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UTILITYFLOW_CIS_URL", f"jdbc:sqlite:{tmp_path / 'sources' / 'cis.sqlite'}")
        for month, day in ((1, dt.date(2025, 1, 31)), (2, dt.date(2025, 2, 28))):
            simulate(spark, landing=home / "landing", defects=tmp_path / "ledger", sources=tmp_path / "sources", customers=300,
                     months=2, only_month=month, start=START, seed=5, profile=profile, time_zone=ZONE,
                     systems=("customer_database", "billing"))  # fmt: skip
            answer = pipeline.run(settings, as_of=day, wanted=["+gold.dim_account", "+gold.dim_service_agreement"])
            assert answer["error"] is None, answer["error"]
    for feed in (ACCOUNTS_FEED, FEED):
        shutil.copytree(tmp_path / "ledger" / feed, ledger / feed)
    result = defects.defects(settings, defects=str(ledger), tell=lambda _: None)
    assert result["fits"], result["unmatched"]
    assert result["files"] == {"scored": 4, "under_fault": 0, "not_landed": 0}
    planted = Counter((e["kind"], e["column"]) for e in entries(ledger))
    kinds = {(k["kind"], k["column"]): k for k in result["kinds"]}
    assert {name: k["planted"] for name, k in kinds.items()} == planted
    assert result["total"]["planted"] == planted.total() > 200
    assert result["total"]["not_landed"] == result["total"]["unmatched"] == 0

    for (kind, column, other), (outcome, signal) in (ACCOUNTS | AGREEMENTS).items():
        for name in (column, other) if other else (column,):
            one = kinds[kind, name]
            told = {o for o in ("quarantined", "flagged", "repaired", "missed", "repeat") if one[o]}
            besides = {"repeat"} | ({"missed"} if kind == "lost_account" else set())  # nobody names it any more
            assert outcome in told <= {outcome, *besides}, (kind, name, one)
            assert not signal or signal in one["signals"], (kind, name, one)
    assert [a for a in result["false_alarms"] if a["severity"] == "error"] == [], "nothing clean is quarantined"
    # what no rule over one record can see
    broken = {c["check"] for c in verify(settings, only=["history"])["checks"] if c["status"] == "failed"}
    assert broken == {"history.agreements"}
