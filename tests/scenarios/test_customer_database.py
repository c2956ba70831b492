"""Customer management as a database, from the simulator through extracts to the dimensions, against the same by files."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.bench import defects
from utilityflow.contracts import load_contracts
from utilityflow.gold.agreements import in_force, overlaps
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.verify import verify
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.scd2 import Dimension
from utilityflow.settings import Settings
from utilityflow.simulate import simulate
from utilityflow.simulate.tariffs import TARIFFS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow

ZONE, START, CUSTOMERS = "America/New_York", dt.date(2025, 1, 1), 300
# often enough that 300 customers have each; some meters that nobody knows
PROFILE: dict[str, Any] = {
    "customer_management": [
        {"kind": "padded", "column": "city", "rate": 0.03},
        {"kind": "bad_date", "column": "changed_at", "rate": 0.03},
        {"kind": "mistyped", "column": "zip", "rate": 0.03},
        {"kind": "missing", "column": "customer_id", "rate": 0.03},
        {"kind": "missing", "column": "name", "rate": 0.03},
        {"kind": "unknown_code", "column": "op", "rate": 0.03},
        {"kind": "bad_number", "column": "seq", "rate": 0.03},
    ],
    "usage_monitoring": [{"kind": "unknown_id", "column": "meter_id", "rate": 0.0005}],
}
ASKED = tuple(f"cis_database_{name}" for name in ("customers", "meters", "rates", "accounts", "agreements", "service_points"))
DIMENSIONS = ("dim_customer", "dim_meter", "dim_rate_schedule", "dim_account", "dim_service_agreement", "dim_service_point")
END = dt.date(9999, 12, 31)


class World:
    """Two homes with the reads of one utility: customers come to one as files, to the other from a database.

    ``both``: a third one, with the service points of the outage system's files and of that database.
    """

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.spark, self.root = spark, root
        self.files, self.base, self.both = root / "files", root / "base", root / "both"

    @property
    def database(self) -> Path:
        return self.root / "sources" / "cis.sqlite"

    def month(self, only: int) -> None:
        simulate(self.spark, landing=self.files / "landing", defects=self.root / "ledger", sources=self.root / "sources",
                 customers=CUSTOMERS, months=2, only_month=only, start=START, seed=11, profile=PROFILE, time_zone=ZONE,
                 systems=("customer_management", "customer_database", "usage_monitoring", "regulatory_reporting"))  # fmt: skip
        reads = "ami_daily_reads"
        shutil.copytree(self.files / "landing" / reads, self.base / "landing" / reads, dirs_exist_ok=True)
        points = "oms_service_points"
        shutil.copytree(self.files / "landing" / points, self.both / "landing" / points, dirs_exist_ok=True)

    def run(self, home: Path, as_of: dt.date, *dimensions: str) -> dict[str, Any]:
        settings = Settings(home=str(home), time_zone=ZONE)
        answer = pipeline.run(settings, as_of=as_of, wanted=[f"+gold.{name}" for name in dimensions])
        assert answer["error"] is None, answer["error"]
        return {step["step"]: step for step in answer["steps"]}

    def table(self, home: Path, name: str) -> DataFrame:
        return Lakehouse(self.spark, str(home / "lakehouse"), load_contracts()).table(name).read()

    def hash(self, home: Path, name: str) -> str:
        table = Lakehouse(self.spark, str(home / "lakehouse"), load_contracts()).table(name)
        return content_hash(partition_hashes(table.read(), table.contract))

    def planted(self, feed: str) -> list[dict[str, str]]:
        found = []
        for file in sorted((self.root / "ledger" / feed).glob("*.csv")):
            with file.open(newline="", encoding="utf-8") as stream:
                found += list(csv.DictReader(stream))
        return found

    def score(self, home: Path, feed: str) -> Mapping[str, Any]:
        """What became of the defects of one feed."""
        ledger = self.root / f"ledger of {feed}"
        shutil.copytree(self.root / "ledger" / feed, ledger / feed)
        return defects.defects(Settings(home=str(home), time_zone=ZONE), defects=str(ledger), tell=lambda _: None)

    def sql(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.database)) as base:
            return base.execute(query).fetchall()


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Both homes after two months; the database was asked after each."""
    made = World(spark, tmp_path_factory.mktemp("customer_database"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UTILITYFLOW_CIS_URL", f"jdbc:sqlite:{made.database}")
        for month, day in ((1, dt.date(2025, 1, 31)), (2, dt.date(2025, 2, 28))):
            made.month(month)
            steps = made.run(made.base, day, *DIMENSIONS)
            ended = {feed: steps[f"extract.{feed}"]["status"] for feed in ASKED}
            assert {n for n, status in ended.items() if status != "ok"} == ({"cis_database_rates"} if month == 2 else set())
            assert ended["cis_database_rates"] in ("ok", "skipped"), "no price has changed"
            (logged,) = made.sql(f"SELECT count(*) FROM customer_change WHERE batch = '2025-0{month}'")[0]
            assert steps["extract.cis_database_customers"]["rows_written"] == logged > 0
            made.run(made.both, day, "dim_service_point")
    made.run(made.files, dt.date(2025, 2, 28), "dim_customer")
    return made


def test_the_customers_are_those_of_the_files(world: World) -> None:
    for name in ("gold.dim_customer", "silver.customers"):
        assert world.hash(world.base, name) == world.hash(world.files, name), name
    real = world.table(world.base, "gold.dim_customer").where("customer_key <> -1 AND NOT is_inferred")
    assert real.select("customer_id").distinct().count() > 250, "all but those whose record was planted with a defect"
    assert real.count() > real.select("customer_id").distinct().count(), "some changed"
    fences = [world.table(home, "silver.customers__quarantine").count() for home in (world.base, world.files)]
    assert fences[0] == fences[1] > 0


def test_the_meters_are_real_members_but_for_planted_ones(world: World) -> None:
    meters = world.table(world.base, "gold.dim_meter").where("meter_key <> -1")
    inferred = {row["meter_id"] for row in meters.where("is_inferred").collect()}
    assert inferred == {entry["planted_value"] for entry in world.planted("ami_daily_reads")} != set()
    days = ("installed_date", "removed_date", "effective_date", "expiry_date")
    shown = ("meter_id", "status", "service_point_id", *days, "is_current")
    rows = meters.where("NOT is_inferred").select(*shown).collect()
    expected = []
    for meter, point, since, until in world.sql("SELECT meter, service_point, installed_at, removed_at FROM meter_installation"):
        first, last = (dt.date.fromisoformat(at[:10]) if at else None for at in (since, until))
        if first != last:
            expected.append((meter, "installed", point, first, None, first, last or END, last is None))
        if last:
            expected.append((meter, "removed", None, first, last, last, END, True))
    assert sorted(map(tuple, rows), key=repr) == sorted(expected, key=repr)
    assert sum(row["removed_date"] is not None for row in rows) > 0, "no meter was exchanged, so nothing was checked"


def test_the_rate_schedules_hold_what_they_were_before(world: World) -> None:
    rates = world.table(world.base, "gold.dim_rate_schedule").where("rate_schedule_key <> -1")
    assert rates.where("is_inferred").count() == 0
    versions = Counter(row["rate_schedule"] for row in rates.collect())
    assert versions == {tariff.code: 2 for tariff in TARIFFS}
    shown = rates.where("rate_schedule = 'RS-1'").selectExpr("cast(effective_date AS string)", "cast(expiry_date AS string)",
                                                             "fixed_charge", "is_current").collect()  # fmt: skip
    assert sorted((*row[:2], float(row[2]), row[3]) for row in shown) == [
        ("2019-01-01", "2024-01-01", 15.9, False), ("2024-01-01", "9999-12-31", 16.5, True),
    ]  # fmt: skip


def versions(changes: list[tuple[str, str | None]], as_of: str = "2025-02-28") -> list[tuple[str, dt.date, dt.date, bool]]:
    """What the changes of one thing make: status, days from and to, whether it is current. Of one day the last one counts."""
    last = {day: status for status, day in changes if day}
    days = [*sorted(last), END.isoformat()]
    return [
        (last[day], dt.date.fromisoformat(day), dt.date.fromisoformat(until), day <= as_of < until)
        for day, until in zip(days, days[1:], strict=False)
    ]


def test_the_accounts_are_opened_and_closed_as_the_database_says(world: World) -> None:
    rows = world.table(world.base, "gold.dim_account").where("account_key <> -1")
    shown = ("account_id", "customer_id", "status", "effective_date", "expiry_date", "is_current")
    expected = []
    for account, customer, *days in world.sql("SELECT account_no, customer_no, opened_on, final_on, closed_on FROM account"):
        changes = list(zip(("active", "final", "closed"), days, strict=True))
        expected += [(account, customer, *version) for version in versions(changes)]
    assert sorted(map(tuple, rows.select(*shown).collect())) == sorted(expected)
    assert {row[2] for row in expected} == {"active", "final", "closed"}
    closed = rows.where("status = 'closed'").selectExpr("closed_date = effective_date AND opened_date < closed_date").distinct()
    assert [row[0] for row in closed.collect()] == [True]
    assert world.table(world.base, "silver.accounts__quarantine").isEmpty()


def test_the_agreements_begin_with_a_move_in_and_end_with_a_move_out(world: World) -> None:
    rows = world.table(world.base, "gold.dim_service_agreement").where("service_agreement_key <> -1")
    own = ("agreement_id", "account_id", "service_point_id", "rate_schedule")
    shown = (*own, "effective_from", "effective_to", "status", "effective_date", "expiry_date", "is_current")
    query = """SELECT agreement_no, account_no, service_point, rate_code, begins_on, ends_on, billed_on FROM service_agreement"""
    expected = []
    for *names, begins, ends, billed in world.sql(query):
        held = (dt.date.fromisoformat(begins), dt.date.fromisoformat(ends) if ends else None)
        changes = [("active", begins), ("stopped", ends), ("closed", billed)]
        expected += [(*names, *held, *version) for version in versions(changes)]
    found = rows.select(*shown).collect()
    assert sorted(map(tuple, found), key=repr) == sorted(expected, key=repr)
    assert any(row["effective_to"] for row in found) and rows.where("commodity <> 'electric'").isEmpty()
    assert world.table(world.base, "silver.service_agreements__quarantine").isEmpty()
    assert world.table(world.base, "silver.service_agreements").where("size(quality_flags) > 0").isEmpty()
    dimension = Dimension.from_contract(load_contracts()["gold.dim_service_agreement"])
    assert overlaps(rows, dimension).isEmpty(), "no service point has two at once"
    now = in_force(rows.where("is_current"), dimension).where("_to > DATE'2025-02-28'")
    assert now.count() == now.select("service_point_id").distinct().count() > 290


def test_the_service_points_are_served_as_the_database_says_and_hang_nowhere(world: World) -> None:
    rows = world.table(world.base, "gold.dim_service_point").where("service_point_key <> -1")
    tenancy = ("service_point_id", "premise_id", "account_id", "customer_id", "status", "effective_date", "expiry_date")
    stays: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for point, place, *stay in world.sql("""SELECT service_point, premise, account_no, customer_no, begins_on, ends_on
            FROM service_agreement ORDER BY service_point, begins_on"""):
        stays.setdefault((point, place), []).append(tuple(stay))
    expected = []
    for named, held in stays.items():
        changes: dict[str, tuple[str | None, str | None, str]] = {}
        for account, customer, begins, ends in held:
            changes[begins] = (account, customer, "active")
            changes |= {ends: (None, None, "inactive")} if ends else {}
        days = [*sorted(changes), END.isoformat()]
        expected += [(*named, *changes[day], dt.date.fromisoformat(day), dt.date.fromisoformat(until))
                     for day, until in zip(days, days[1:], strict=False)]  # fmt: skip
    assert sorted(map(tuple, rows.select(*tenancy).collect()), key=repr) == sorted(expected, key=repr)
    assert Counter(row[4] for row in expected)["inactive"] > 0
    network = " OR ".join(f"{name} IS NOT NULL" for name in ("transformer_id", "circuit_id", "feeder_id", "district", "region"))
    assert rows.where(network).isEmpty()
    silver = world.table(world.base, "silver.service_points")
    assert silver.where("size(quality_flags) > 0").isEmpty(), "that it does not know the circuit is no defect of it"
    assert world.table(world.base, "silver.service_points__quarantine").isEmpty()


def test_two_systems_that_tell_of_the_service_points_take_nothing_from_each_other(world: World) -> None:
    """What the dimension says is what the outage system's files alone say: nothing flips, nothing is lost, no version is more."""
    last: dict[tuple[str, str], dict[str, str]] = {}
    for file in sorted((world.both / "landing" / "oms_service_points").iterdir()):
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                key = row["service_point"], row["valid_from"]
                if key not in last or int(row["change_no"]) >= int(last[key]["change_no"]):
                    last[key] = row
    raw = ("service_point", "premise", "transformer_no", "circuit_no", "feeder_no", "substation_no", "operating_district",
           "region")  # fmt: skip
    expected, ordered = [], sorted(last.items())
    for ((point, day), row), after in zip(ordered, [*ordered[1:], None], strict=True):
        until = after[0][1] if after and after[0][0] == point else END.isoformat()
        tenancy = ("AC-" + row["account_no"].replace("/", "-"), row["customer_no"].lstrip("0"), "active")
        days = (dt.date.fromisoformat(day), dt.date.fromisoformat(until))
        expected.append((*(row[c] for c in raw), *(tenancy if row["account_no"] else (None, None, "inactive")), *days))
    shown = ("service_point_id", "premise_id", "transformer_id", "circuit_id", "feeder_id", "substation_id", "district", "region",
             "account_id", "customer_id", "status", "effective_date", "expiry_date")  # fmt: skip
    rows = world.table(world.both, "gold.dim_service_point").where("service_point_key <> -1")
    assert sorted(map(tuple, rows.select(*shown).collect()), key=repr) == sorted(expected, key=repr)
    told = world.table(world.both, "silver.service_points").groupBy("_feed").count().collect()
    assert {row["_feed"] for row in told if row["count"] > CUSTOMERS} == {"oms_service_points", "cis_database_service_points"}
    checks = {c["check"]: c["status"] for c in verify(Settings(home=str(world.both), time_zone=ZONE))["checks"]}
    assert "failed" not in checks.values(), checks  # what is published is skipped: nothing is
    assert checks["history.rebuild"] == checks["history.whole"] == checks["accounting.silver"] == "ok"


def test_the_ledger_is_scored_as_that_of_the_files(world: World) -> None:
    asked, filed = world.score(world.base, ASKED[0]), world.score(world.files, "cis_customers")
    assert asked["fits"], asked["unmatched"]
    assert asked["files"] == filed["files"] == {"scored": 2, "under_fault": 0, "not_landed": 0}
    assert asked["kinds"] == filed["kinds"]
    assert asked["total"]["planted"] == len(world.planted(ASKED[0])) > 50
    assert asked["total"]["quarantined"] > 0 and asked["total"]["repaired"] > 0
