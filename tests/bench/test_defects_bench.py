"""``bench defects`` on a simulated utility; and the pipeline does not read the ledger that it is scored by."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.bench import defects
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, simulate

from .conftest import entries

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# often enough that 200 customers have each
PROFILE: dict[str, Any] = {
    "customer_management": [
        {"kind": "padded", "column": "city", "rate": 0.05},
        {"kind": "wrong_case", "column": "state", "rate": 0.05},
        {"kind": "bad_date", "column": "changed_at", "rate": 0.05},
        {"kind": "mistyped", "column": "zip", "rate": 0.05},
        {"kind": "swapped", "column": "city", "other": "zip", "rate": 0.1},
        {"kind": "missing", "column": "customer_id", "rate": 0.05},
        {"kind": "lost_account", "column": "customer_id", "rate": 0.03},
        {"kind": "repeated", "column": "seq", "rate": 0.03},
    ],
    "usage_monitoring": [
        {"kind": "negative", "column": "kwh", "rate": 0.01},
        {"kind": "lost_point", "column": "kwh", "rate": 0.01},
        {"kind": "wrong_unit", "column": "unit", "rate": 0.01},
        {"kind": "missing", "column": "meter_id", "rate": 0.02, "among": "circuit"},
        {"kind": "unknown_id", "column": "customer_id", "rate": 0.005},
        {"kind": "spike", "column": "kwh", "rate": 0.01},
        {"kind": "stuck", "column": "kwh", "rate": 0.03, "days": 4},
        {"kind": "wrong_multiplier", "column": "kwh", "other": "peak_kw", "rate": 0.03, "days": 28},
        {"kind": "frozen", "column": "kwh", "rate": 0.03, "days": 5},
        {"kind": "repeated", "column": "read_date", "rate": 1, "among": "source"},
        {"kind": "late", "column": "read_date", "rate": 1, "among": "source"},
        {"kind": "lost", "column": "kwh", "rate": 1, "among": "source"},
    ],
    "wall_boxes": [
        {"kind": "lost", "column": "wh", "rate": 0.1, "hours": 4},
        {"kind": "repeated", "column": "interval_start", "rate": 0.02},
    ],
}
TABLES = (
    *("bronze.cis_customers", "bronze.ami_daily_reads", "silver.customers", "silver.customers__quarantine"),
    *("silver.meter_reads", "silver.meter_reads__quarantine", "gold.dim_customer", "gold.dim_meter", "gold.fact_usage"),
)


def run(spark: SparkSession, home: Path) -> dict[str, str]:
    """Run everything; the content hash of each table."""
    answer = pipeline.run(Settings(home=str(home), time_zone="America/New_York"), as_of=dt.date(2025, 1, 31))
    assert answer["error"] is None, answer["error"]
    house, found = Lakehouse(spark, str(home / "lakehouse"), load_contracts()), {}
    for name in TABLES:
        table = house.table(name)
        found[name] = content_hash(partition_hashes(table.read(), table.contract))
    return found


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A home after its run, the ledger elsewhere, and the content of the home's tables. Three files are not as they should be."""
    root = tmp_path_factory.mktemp("scored")
    simulate(spark, landing=root / "home" / "landing", defects=root / "ledger", customers=200, months=1,
             systems=CORE, interval_meters=4, profile=PROFILE, start=dt.date(2025, 1, 1), seed=5,
             faults=["half_file", "missing_day", "header_change"])  # fmt: skip
    return root / "home", root / "ledger", run(spark, root / "home")


def score(home: Path, ledger: Path, out: str = "") -> dict[str, Any]:
    settings = Settings(home=str(home), time_zone="America/New_York")
    return defects.defects(settings, defects=str(ledger), out=out, tell=lambda _: None)


@pytest.mark.slow
def test_the_scorer_accounts_for_every_planted_defect(made: Any, tmp_path: Path) -> None:
    home, ledger, _ = made
    result = score(home, ledger, str(tmp_path / "out"))
    assert result["fits"], result["unmatched"]
    planted = Counter((e["system"], e["kind"], e["column"]) for e in entries(ledger, "[ace]*"))
    kinds = {(k["system"], k["kind"], k["column"]): k for k in result["kinds"]}
    assert {name: k["planted"] for name, k in kinds.items()} == planted
    assert result["total"]["planted"] == planted.total() > 200
    assert result["files"] == {"scored": 1 + 2 * 31 - 2, "under_fault": 1, "not_landed": 1}
    with (ledger / "operations" / "2025-01.csv").open(newline="", encoding="utf-8") as stream:
        away = {row["file"] for row in csv.DictReader(stream) if row["kind"] != "header_change"}
    assert result["total"]["not_landed"] == sum(e["file"] in away for e in entries(ledger, "[ace]*")) > 0

    def alone(kind: str, outcome: str, *besides: str, column: str = "", by: str = "") -> None:
        (one,) = [k for name, k in kinds.items() if name[1] == kind and column in ("", name[2])]
        told = {o for o in ("quarantined", "flagged", "repaired", "missed", "repeat") if one[o]}
        assert outcome in told <= {outcome, *besides}, (kind, one)
        assert by in ("", *one["signals"]), (kind, one)

    alone("padded", "repaired", "repeat")
    alone("wrong_case", "repaired", "repeat")
    alone("bad_date", "quarantined")
    alone("mistyped", "missed", "repeat")
    alone("negative", "flagged", "repeat")
    alone("lost_point", "flagged", "repeat", "quarantined")  # 100 GWh are too much for a day
    alone("spike", "flagged", "repeat")
    alone("stuck", "flagged", "repeat")
    alone("wrong_unit", "quarantined")
    alone("unknown_id", "missed", "repeat")
    alone("frozen", "missed", "repeat", "flagged")  # as plausible as the use; more than the peak of a quiet day allows
    if any(name[1:] == ("lost", "kwh") for name in kinds):
        alone("lost", "missed", column="kwh")  # nothing expects a read
    alone("lost", "flagged", column="wh", by="incomplete_day")
    alone("lost_account", "flagged", "missed", by="is_inferred")  # missed: nobody else names the customer any more
    for column in ("seq", "read_date", "interval_start"):
        alone("repeated", "repaired", column=column, by="equal_record")
    alone("late", "repaired")
    for column in ("kwh", "peak_kw"):  # ten times both is as plausible as both
        (one,) = [k for name, k in kinds.items() if name[1:] == ("wrong_multiplier", column)]
        assert one["missed"] > 0 == one["flagged"] + one["quarantined"] + one["repaired"]
    for column in ("city", "zip"):
        (one,) = [k for name, k in kinds.items() if name[1:] == ("swapped", column)]
        assert one["quarantined"] > 0 == one["repaired"]  # most towns are longer than a zip code may be
    assert all(k["quarantined"] + k["not_landed"] == k["planted"] for name, k in kinds.items() if name[1] == "missing")
    assert not [a for a in result["false_alarms"] if a["severity"] == "error"], "nothing clean is quarantined"
    assert result["total"]["precision"] == 1.0
    assert json.loads((tmp_path / "out" / "defects.json").read_text())["total"] == result["total"]
    text = (tmp_path / "out" / "defects.md").read_text()
    assert "negative_quantity" in text and "DOES NOT FIT" not in text


@pytest.mark.slow
def test_a_wrong_ledger_is_told(made: Any, tmp_path: Path) -> None:
    home, ledger, _ = made
    shutil.copytree(ledger, tmp_path / "ledger")
    file = tmp_path / "ledger" / "cis_customers" / "cis_customers_2025-01.csv"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    # of a missing key the ledger itself says what it was
    place = next(i for i, line in enumerate(lines) if i > 0 and ",customer_id," not in line)
    number = re.search(r"\d{9}", lines[place])
    assert number is not None
    lines[place] = lines[place].replace(number[0], "999999999")
    file.write_text("".join(lines), "utf-8")
    result = score(home, tmp_path / "ledger")
    assert not result["fits"]
    assert [(u["file"], u["line"]) for u in result["unmatched"]] == [(f"{file.stem}.csv", place)]
    assert result["total"]["unmatched"] == 1
    assert "THE LEDGER DOES NOT FIT" in defects.summary(result)


@pytest.mark.slow
def test_the_pipeline_ends_alike_with_a_poisoned_ledger(made: Any, spark: SparkSession, tmp_path: Path) -> None:
    """The first home had no ledger near it; this one has another's, in every place where one would look."""
    home, ledger, expected = made
    shutil.copytree(home / "landing", tmp_path / "home" / "landing")
    for place in (tmp_path / "home" / "defects", tmp_path / "home" / "landing" / "defects", tmp_path / "defects"):
        for file in ledger.glob("*/*.csv"):
            poisoned = place / file.parent.name / file.name
            poisoned.parent.mkdir(parents=True, exist_ok=True)
            poisoned.write_text(file.read_text("utf-8").replace("0", "7") + '"broken\x00\n', "utf-8")
    assert run(spark, tmp_path / "home") == expected


def mentions(source: str) -> list[str]:
    """Words that only those who make or score the ledger need."""
    return re.findall(r"\bdefects\b|utilityflow\.simulate|\bplanted|clean_value|first_sha256", source)


def test_only_the_simulator_and_measurements_mention_the_ledger(repository: Path) -> None:
    files = [
        *(repository / "lib").rglob("*.py"),
        *(repository / "jobs").glob("*"),
        *(repository / "conf").rglob("*.yaml"),
    ]
    kept = [f for f in files if f.is_file() and not {"simulate", "bench"} & set(f.relative_to(repository).parts)]
    assert len(kept) > 60
    # the command line hands the folder on to the simulator
    assert {f.name for f in kept if mentions(f.read_text("utf-8"))} == {"commands.py", "words.py"}
    assert mentions('Path(home / "defects").glob("*.csv")') and mentions("from utilityflow.simulate import score")


def test_without_a_ledger_it_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1004"):
        score(tmp_path, tmp_path / "nowhere")
