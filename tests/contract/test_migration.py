"""A contract that gains a column migrates a live lakehouse and warehouse, plan first; one that loses data is refused.

The contracts are real files in a copy of schemas/ and are read by the suite's own loader.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import contracts, pipeline
from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.plan import plan
from utilityflow.settings import Settings, load_settings

from .conftest import Live
from .test_tables import differences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUSTOMERS = """feed: cis
system: customer_management
entity: customers
format: csv
path: cis/*.csv
columns: {customer_id: id, customer_name: name, city: city}
event: {effective_at: to_timestamp(changed_at)}
"""
READS = """feed: reads
system: usage_monitoring
entity: meter_reads
format: csv
path: reads/*.csv
columns: {customer_id: cust, meter_id: meter, quantity: kwh, usage_date: to_date(day)}
"""
HEAD = "id,name,city,changed_at"
ANN, BOB = "C1,Ann,Springfield,2025-01-01 00:00:00", "C2,Bob,Shelbyville,2025-01-02 00:00:00"


class House:
    """A home with its own copy of the contracts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.schemas = folder, folder / "schemas"
        shutil.copytree(Path(__file__).resolve().parents[2] / "schemas", self.schemas)
        for name, text in {"feeds/cis.yaml": CUSTOMERS, "feeds/reads.yaml": READS}.items():
            self.write(name, text)

    @property
    def settings(self) -> Settings:
        places = {n: str(self.folder / n) for n in ("home", "landing", "feeds")}
        return load_settings(places, environ={})

    @property
    def words(self) -> list[str]:
        return [w for n in ("home", "landing", "feeds") for w in (f"--{n}", str(self.folder / n))]

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, contract: str, *changes: tuple[str, str]) -> None:
        """Change the text of a contract, and let the suite read it anew."""
        file = self.schemas / f"{contract.replace('.', '/')}.yaml"
        text = file.read_text("utf-8")
        for old, new in changes:
            assert text.count(old) == 1, (contract, old, text.count(old))
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        load_contracts.cache_clear()

    def run(self, day: str) -> dict[str, Any]:
        answer = pipeline.run(self.settings, as_of=dt.date.fromisoformat(day))
        assert answer["error"] is None, answer["error"]
        return answer

    def path(self, table: str) -> Path:
        return self.folder / "home" / "lakehouse" / table.replace(".", "/")

    def published(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
            return db.execute(query).fetchall()

    def state(self) -> dict[str, int]:
        """Every file of the home with its time of change, the run's own logs and scratch space aside."""
        home = self.folder / "home"
        files = (p for p in home.rglob("*") if p.is_file() and p.relative_to(home).parts[0] in ("lakehouse", "warehouse"))
        return {str(p): p.stat().st_mtime_ns for p in files}


def column(name: str, before: str, *, kind: str = "VARCHAR(20)", more: str = "") -> tuple[str, str]:
    """The change that puts a new column before another one."""
    logical = {"VARCHAR(20)": "string", "INT": "integer"}[kind]
    text = f"      - name: {name}\n        logicalType: {logical}\n        physicalType: {kind}\n{more}"
    text += f"        description: 'What {name} says, it''s new.'\n"
    text += "        customProperties:\n          - {property: addedIn, value: 1.1.0}\n"
    return f"      - name: {before}\n", f"{text}      - name: {before}\n"


VERSION = ("version: 1.0.0", "version: 1.1.0")


@pytest.fixture(scope="module")
def house(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A home with published data under the contracts of before."""
    made = House(tmp_path_factory.mktemp("migration"))
    patch = pytest.MonkeyPatch()
    patch.setattr(contracts, "resource", lambda *parts: made.folder.joinpath(*parts))
    load_contracts.cache_clear()
    made.write("landing/cis/1.csv", f"{HEAD}\n{ANN}\n{BOB}\n")
    made.write("landing/reads/1.csv", "cust,meter,kwh,day\nC1,M1,1.5,2025-01-10\nC2,M2,2.5,2025-01-11\n")
    made.run("2025-01-31")
    yield made
    patch.undo()
    load_contracts.cache_clear()


CODES = "      - name: quality_code\n"
AFTER_CODES = "      - name: period_kind\n"


@pytest.fixture
def older(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, str]]:
    """A house whose contract of reads has no quality codes yet, and the columns that it lacks."""
    made = House(tmp_path)
    monkeypatch.setattr(contracts, "resource", lambda *parts: made.folder.joinpath(*parts))
    text = (made.schemas / "silver" / "meter_reads.yaml").read_text("utf-8")
    codes = text[text.index(CODES) : text.index(AFTER_CODES)]
    made.edit("silver.meter_reads", (VERSION[1], VERSION[0]), (codes, ""))
    yield made, codes
    monkeypatch.undo()
    load_contracts.cache_clear()


@pytest.mark.engine
@pytest.mark.slow
def test_reads_that_stand_are_the_same_when_codes_are_told_of_them(
    spark: SparkSession, older: tuple[House, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A read without a code equals the one of before; one with a code stands beside it, and no fact differs."""
    house, codes = older
    head, first = "cust,meter,kwh,day,q,why", "C1,M1,1.5,2025-01-10,S14,32 Comms failure"

    def ran(day: str) -> dict[str, tuple[int, ...]]:
        counts = ("rows_read", "rows_loaded", "rows_quarantined", "rows_duplicate")
        return {f["file"]: tuple(f[n] for n in counts) for f in house.run(day)["files"] if f["status"] != "skipped"}

    def told() -> list[tuple[Any, ...]]:
        rows = spark.read.format("delta").load(str(house.path("silver.meter_reads")))
        names = ["meter_id", "quantity", *[n for n in ("quality_code", "quality_reason") if n in rows.columns]]
        return sorted((tuple(r) for r in rows.select(*names).collect()), key=str)

    def facts() -> list[tuple[Any, ...]]:
        return house.published("SELECT * EXCLUDE (_file_sha256, _row_number) FROM gold.fact_usage ORDER BY meter_id")

    house.write("landing/cis/1.csv", f"{HEAD}\n{ANN}\n{BOB}\n")
    house.write("landing/reads/1.csv", f"{head}\n{first}\n")
    house.write("landing/reads/2.csv", f"{head}\n{first}\nC2,M2,2.5,2025-01-11,A,\nC2,M2,none,2025-01-12,A,\n")
    assert ran("2025-01-31")["reads/2.csv"] == (3, 1, 1, 1)
    before = facts()

    house.edit("silver.meter_reads", VERSION, (AFTER_CODES, codes + AFTER_CODES))
    mapped = """quantity: "replace(kwh, 'none', '0')", quality_code: q, quality_reason: why"""
    house.write("feeds/reads.yaml", READS.replace("quantity: kwh", mapped))
    house.write("landing/reads/3.csv", f"{head}\nC1,M1,1.5,2025-01-10,,\nC1,M1,1.5,2025-01-10,F14,79 Power Outage\n")
    assert ran("2025-02-28") == {"reads/3.csv": (2, 1, 0, 1)}, "the one without a code is known"
    one, two = Decimal("1.5"), Decimal("2.5")
    final = ("M1", one, "F14", "79 Power Outage")
    assert told() == sorted([("M1", one, None, None), final, ("M2", two, None, None)], key=str)
    assert facts() == before
    assert main(["verify", *house.words]) == 0, capsys.readouterr()

    # the first file is corrected: what equalled it is loaded as it is read now, what stands, or is broken, does not come again
    house.write("landing/reads/1.csv", f"{head}\n{first.replace('1.5', '1.75')}\n")
    counts = ran("2025-02-28")
    assert (counts["reads/2.csv"], counts["reads/3.csv"]) == ((3, 2, 1, 0), (2, 2, 0, 0))
    substitute = ("S14", "32 Comms failure")
    assert told() == sorted([("M1", Decimal("1.75"), *substitute), ("M1", one, *substitute), ("M1", one, None, None), final,
                             ("M2", two, None, None)], key=str)  # fmt: skip
    kwh = "SELECT meter_id, usage_kwh::DOUBLE FROM gold.fact_usage ORDER BY 1"
    assert house.published(kwh) == [("M1", 1.75), ("M2", 2.5)]
    assert main(["verify", *house.words]) == 0, capsys.readouterr()


REFUSED = {
    "a column dropped": ("gold.fact_usage", [("      - name: peak_demand\n", "      - name: peak_load\n")],
                         "gold.fact_usage: column peak_demand is in the table but not in its contract"),
    "a column retyped": ("silver.meter_reads", [("logicalType: integer\n        physicalType: INT",
                                                 "logicalType: integer\n        physicalType: BIGINT")],
                         "silver.meter_reads: column months_in_period is int in the table and bigint in its contract"),
    "a column narrowed": ("gold.fact_usage", [("physicalType: 'DECIMAL(8,2)'", "physicalType: 'DECIMAL(7,2)'")],
                          "gold.fact_usage: column peak_demand is decimal(8,2) in the table and decimal(7,2)"),
    "null no longer allowed": ("gold.fact_usage", [("physicalType: 'DECIMAL(8,2)'\n",
                                                    "physicalType: 'DECIMAL(8,2)'\n        required: true\n")],
                               "gold.fact_usage: column peak_demand may be null in the table"),
    "a new column that is required": ("ops.metric", [("      - name: step\n", "      - name: host\n        logicalType: string\n"
                                      "        physicalType: STRING\n        required: true\n        description: Where.\n"
                                      "      - name: step\n")],
                                      "ops.metric: the new column host is required"),
    "a column that would change the hashes of records": (
        "silver.customers", [("      - name: district\n", "      - name: nick\n        logicalType: string\n"
                              "        physicalType: STRING\n        description: Nick.\n      - name: district\n")],
        "silver.customers: the new column nick has no custom property addedIn"),
}  # fmt: skip


@pytest.mark.engine
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_lose_data_is_refused_with_table_and_column(house: House, case: str) -> None:
    contract, changes, words = REFUSED[case]
    file = house.schemas / f"{contract.replace('.', '/')}.yaml"
    text, before = file.read_text("utf-8"), house.state()
    try:
        house.edit(contract, *changes)
        for attempt in (lambda: plan(house.settings, dt.date(2025, 2, 1)), lambda: pipeline.run(house.settings)):
            with pytest.raises(UtilityFlowError) as caught:
                attempt()
            assert (caught.value.code, caught.value.exit_code) == ("UF-3002", 5)
            assert words in caught.value.message
        assert house.state() == before, "a refused migration must leave lakehouse and warehouse as they were"
    finally:
        file.write_text(text, encoding="utf-8")
        load_contracts.cache_clear()


@pytest.mark.engine
def test_a_new_column_migrates_lakehouse_and_warehouse(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.edit("silver.customers", VERSION, column("segment", "district"))
    house.edit("gold.dim_customer", VERSION, column("segment", "district"))
    house.edit("gold.fact_usage", VERSION, column("crew", "unit", kind="INT"))
    house.edit("ops.run", ("description: The run.", "description: The run's name."))
    house.write("feeds/cis.yaml", CUSTOMERS.replace("city: city}", "city: city, segment: seg}"))
    before = house.state()

    assert main(["plan", "--json", "--as-of", "2025-02-28", *house.words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["tables"]) == [
        "add column gold.dim_customer.segment", "add column gold.fact_usage.crew", "add column silver.customers.segment",
        "describe ops.run.run_id anew",
    ]  # fmt: skip
    assert "publish.duckdb" in [s["step"] for s in told["steps"] if s["will_run"]]
    assert house.state() == before, "plan touches nothing"

    # the first file's records come again in other content: they are what they were, though the contract has grown
    later = ["C2,Bob,Shelbyville,2025-02-03 00:00:00,farm", "C3,Cid,Ogdenville,2025-02-01 00:00:00,shop"]
    house.write("landing/cis/2.csv", "\n".join([f"{HEAD},seg", f"{ANN},", *later, ""]))
    house.write("landing/reads/2.csv", "cust,meter,kwh,day\nC3,M3,3.5,2025-02-10\n")
    answer = house.run("2025-02-28")
    counts = {f["file"]: (f["rows_read"], f["rows_loaded"], f["rows_duplicate"]) for f in answer["files"]}
    assert counts["cis/2.csv"] == (3, 2, 1)
    assert answer["publication"] == 2
    for name in ("silver.customers", "gold.dim_customer", "gold.fact_usage", "ops.run"):
        assert differences(load_contracts()[name], Live.read(house.path(name))) == [], name
    customers = "SELECT customer_id, segment FROM gold.dim_customer WHERE customer_id <> '?' AND is_current ORDER BY 1"
    assert house.published(customers) == [("C1", None), ("C2", "farm"), ("C3", "shop")]
    facts = "SELECT customer_id, crew, usage_kwh::DOUBLE FROM gold.fact_usage ORDER BY 1"
    assert house.published(facts) == [("C1", None, 1.5), ("C2", None, 2.5), ("C3", None, 3.5)]
    order = [r[0] for r in house.published("SELECT column_name FROM duckdb_columns() WHERE table_name = 'dim_customer' "
                                           "ORDER BY column_index")]  # fmt: skip
    assert order == list(load_contracts()["gold.dim_customer"].column_names)

    settled = house.state()
    assert plan(house.settings, dt.date(2025, 2, 28))["tables"] == []
    assert house.run("2025-02-28")["status"] == "nothing_to_do"
    moved = {p for p, at in house.state().items() if settled.get(p) != at and "/ops/" not in p}
    assert moved == set(), "once migrated, nothing moves"
    assert main(["verify", *house.words]) == 0, capsys.readouterr()
