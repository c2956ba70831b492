"""Customer management as a database: the events of the files, the meters of the reads, and how extracts ask for them."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.bronze.feeds import load_feed, parse_feed
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.jdbc import extract_jdbc
from utilityflow.extract.landed import Refused
from utilityflow.simulate import customer_database, customers, meters, progress, rate_schedules
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.customer_database import FEED, TABLES, Table
from utilityflow.simulate.landing import Written
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.tariffs import TARIFFS

from .conftest import CUSTOMERS, SEED, START, Landed, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SYSTEM = ("customer_database",)
Tables = dict[str, list[dict[str, Any]]]


def tables(landed: Landed) -> Tables:
    """All rows by table, in the order of their keys."""
    assert landed.summary.database is not None
    with closing(sqlite3.connect(f"file:{landed.summary.database}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        order = {t.name: ", ".join(t.key) for t in TABLES}
        return {n: [dict(r) for r in base.execute(f"SELECT * FROM {n} ORDER BY {keys}")] for n, keys in order.items()}


@pytest.fixture(scope="module")
def landed(simulated: Callable[..., Landed]) -> Landed:
    """The database of both months at once, with gas and wall boxes."""
    return simulated(systems=SYSTEM, gas=True, interval_meters=40)


@pytest.fixture(scope="module")
def held(landed: Landed) -> Tables:
    return tables(landed)


# -- customers -----------------------------------------------------------------------------------------------------------


def test_the_log_holds_the_events_of_the_files_with_their_defects(landed: Landed, held: Tables, events: list[Row]) -> None:
    raw = [{c: row[c] or "" for c in customers.COLUMNS} for row in held["customer_change"]]
    assert raw == [{c: row[c] for c in customers.COLUMNS} for row in events]
    assert len(raw) == landed.summary.rows[FEED] > CUSTOMERS
    files = Counter(row["_file"].removeprefix("cis_customers_").removesuffix(".csv") for row in events)
    assert Counter(r["batch"] for r in held["customer_change"]) == files


def test_the_ledger_is_that_of_the_files(landed: Landed, months: Landed) -> None:
    def entries(of: Landed, feed: str) -> list[tuple[str, ...]]:
        return [tuple(v for c, v in e.items() if c not in ("feed", "file", "_file")) for e in of.rows(feed, "defects")]

    planted = entries(landed, FEED)
    assert planted == entries(months, "cis_customers") != []
    assert landed.summary.defects[FEED] == months.summary.defects["cis_customers"]
    assert {e["feed"] for e in landed.rows(FEED, "defects")} == {FEED}


def test_a_customers_row_is_the_last_of_the_log(held: Tables) -> None:
    last: dict[int, dict[str, Any]] = {}
    for row in held["customer_change"]:  # what was told late does not undo what came after it
        if row["id"] not in last or row["version"] > last[row["id"]]["version"]:
            last[row["id"]] = row
    shown = ("customer_id", "name", "street", "city", "state", "zip", "class", "status", "changed_at")
    assert {r["id"]: [r[c] for c in shown] for r in held["customer"]} == {i: [r[c] for c in shown] for i, r in last.items()}
    assert {r["id"]: r["updated_at"] for r in held["customer"]} == {i: r["logged_at"] for i, r in last.items()}
    gone = [r for r in held["customer"] if r["deleted"]]
    assert gone and {r["status"] for r in gone} <= {"C", "X?"}
    # clean events are in the order that their stamps and sequence numbers say
    told = defaultdict(list)
    for row in held["customer_change"]:
        if row["customer_id"] == str(row["id"]) and str(row["seq"]).isdigit() and str(row["changed_at"])[5:8] != "-13":
            told[row["id"]].append((row["changed_at"], int(row["seq"]), row["version"]))
    assert all([v for *_, v in sorted(some)] == sorted(v for *_, v in some) for some in told.values())


def test_changes_are_logged_in_their_month_however_early_they_hold(held: Tables) -> None:
    march = [r for r in held["customer_change"] if r["batch"] == "2024-03"]
    assert {r["logged_at"][:7] for r in march} == {"2024-03"}
    assert any(str(r["changed_at"])[:7] == "2024-02" for r in march), "some are told late"
    first, second = (min(r["change_no"] for r in held["customer_change"] if r["batch"] == b) for b in ("2024-02", "2024-03"))
    assert (first, second) == (10**10 + 1, 2 * 10**10 + 1)


# -- months --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_month(simulated: Callable[..., Landed], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables, Landed]:
    """A folder of sources filled month by month: the folder, what was there after the first one, and the second."""
    sources = tmp_path_factory.mktemp("sources")
    first = tables(simulated(systems=SYSTEM, gas=True, interval_meters=40, only_month=1, sources=sources))
    return sources, first, simulated(systems=SYSTEM, gas=True, interval_meters=40, only_month=2, sources=sources)


def test_a_month_adds_what_it_changed(by_month: tuple[Path, Tables, Landed], held: Tables) -> None:
    _, first, landed = by_month
    assert tables(landed) == held
    assert first["customer_change"] == [r for r in held["customer_change"] if r["batch"] == "2024-02"]
    moved = [r for r in held["customer"] if r not in first["customer"]]
    assert moved and {r["updated_at"][:7] for r in moved} == {"2024-03"}
    hung = [r for r in held["meter_installation"] if r not in first["meter_installation"]]
    assert hung and {r["updated_at"][:7] for r in hung} == {"2024-03"}
    for table in ("account", "service_agreement"):
        changed = [r for r in held[table] if r not in first[table]]
        assert changed and {r["updated_at"][:7] for r in changed} == {"2024-03"}, table
    assert first["rate_schedule"] == held["rate_schedule"]


def test_a_month_told_again_changes_nothing_and_another_utility_is_refused(
    by_month: tuple[Path, Tables, Landed], held: Tables, simulated: Callable[..., Landed]
) -> None:
    sources, _, landed = by_month
    simulated(systems=SYSTEM, gas=True, interval_meters=40, only_month=2, sources=sources)
    assert tables(landed) == held
    with pytest.raises(UtilityFlowError, match="not the database of a simulation with this seed") as caught:
        simulated(systems=SYSTEM, only_month=2, seed=SEED + 1, sources=sources)
    assert caught.value.code == "UF-1004"
    (sources / "other").mkdir()
    (sources / "other" / "cis.sqlite").write_text("no database, but as long as one must be " * 20)
    with pytest.raises(UtilityFlowError, match="cannot be read as a database"):
        simulated(systems=SYSTEM, only_month=2, sources=sources / "other")
    assert tables(landed) == held
    assert sorted(p.name for p in sources.iterdir()) == ["cis.sqlite", "other"], "nothing is left of what was staged"


def test_a_row_gives_way_to_a_newer_one_alone() -> None:
    table = Table("t", ("id", "version", "name"), ("id",), "version")
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute(table.made)
        base.executemany(table.filled, [(1, 5, "a"), (1, 4, "late"), (1, 5, "again"), (2, 1, "b"), (2, 2, "c")])
        assert base.execute("SELECT * FROM t ORDER BY id").fetchall() == [(1, 5, "a"), (2, 2, "c")]


def test_filling_tells_rows_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*_: Any) -> Iterator[int]:
        for _ in range(6):
            time.sleep(0.02)
            yield 1000

    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(customer_database, "_load", slowly)
    utility, told = Utility(SEED, 10, Almanac(SEED, START, 1, "UTC"), load_pools()), list[str]()
    staged = {FEED: Written((), 4000, 0, {}), meters.FEED: Written((), 2000, 0, {})}
    customer_database.fill(tmp_path / "cis.sqlite", utility, range(1), staged, told.append)
    line = re.compile(r"cis\.sqlite: about ([\d,]+) of 6,000 rows, (\d+ s left|time left not known yet)")
    assert told[0] == "cis.sqlite: filling it with 6,000 rows" and all(line.fullmatch(one) for one in told[1:])
    assert any(one.startswith("cis.sqlite: about 3,000") and one.endswith(" s left") for one in told)


# -- meters and rates ----------------------------------------------------------------------------------------------------


def planted_meters(landed: Landed, feed: str) -> set[tuple[str, str]]:
    """(meter, day) of reads whose meter is a planted defect: another one, one that is gone, none."""
    entries = [e for e in landed.rows(feed, "defects") if e["column"] == "meter_id"]
    return {(e["planted_value"], e["row_key"].split("|")[1][:10]) for e in entries}


def test_the_meters_are_those_of_the_reads(months: Landed, held: Tables, reads: list[Row]) -> None:
    hung = {r["meter"]: (r["installed_at"][:10], (r["removed_at"] or "9999")[:10]) for r in held["meter_installation"]}
    days, planted = defaultdict(set), planted_meters(months, "ami_daily_reads")
    for read in reads:
        if (read["meter_id"], read["read_date"]) in planted:
            continue
        if read["meter_id"].startswith("M2") and len(read["meter_id"]) == 10 and read["read_date"][5:8] != "13-":
            days[read["meter_id"]].add(read["read_date"])
    assert len(days) > CUSTOMERS
    for meter, told in days.items():
        assert hung[meter][0] <= min(told) and max(told) <= hung[meter][1], meter
    unread = set(m for m in hung if m.startswith("M")) - set(days)
    assert len(unread) < 5, "each that hung in the two months is read, but where all of its reads were lost"
    removed = {m for m, (_, until) in hung.items() if until < "9999"}
    assert 5 < len(removed) < 40, "two of 180 months"
    assert sum(max(days[m]) == hung[m][1] for m in removed & set(days)) > 0.7 * len(removed), "both report on that day"


def test_one_meter_hangs_at_a_point_at_a_time(held: Tables) -> None:
    kinds = {r["meter"]: r["commodity"] for r in held["meter"]}
    assert Counter(kinds.values())["GAS"] > 100
    places = defaultdict(list)
    for r in held["meter_installation"]:
        places[(r["service_point"], r["meter"][0])].append((r["installed_at"], r["removed_at"]))
    stood = [p for p, kind in places if kind == "M"]
    assert len(stood) == len(set(stood)) == CUSTOMERS + CUSTOMERS // 64 + max(1, CUSTOMERS // 800)
    exchanges = 0
    for hung in places.values():
        hung.sort()
        for (since, until), (later, _) in zip(hung, hung[1:], strict=False):
            gap = dt.datetime.fromisoformat(later) - dt.datetime.fromisoformat(until)
            assert since < until and gap == dt.timedelta(minutes=15)
            exchanges += 1
        assert hung[-1][1] is None
    assert exchanges == sum(r["removed_at"] is not None for r in held["meter_installation"])


def test_gas_meters_and_wall_boxes_are_known_too(landed: Landed, held: Tables) -> None:
    known = {r["meter"] for r in held["meter"]}
    gas = {r["meter_id"] for r in landed.rows("gas_monthly_reads")}
    planted = {meter for meter, _ in planted_meters(landed, "ev_interval_reads")}
    boxes = {r["meter_id"] for r in landed.rows("ev_interval_reads")} - planted
    assert len(boxes) == 40 and len(gas) > 100
    assert gas | boxes <= known
    assert {m for m in known if m[0] == "V"} == boxes


def test_rate_schedules_are_the_tariffs_and_those_before(held: Tables, reads: list[Row]) -> None:
    rates = {(r["rate_code"], r["valid_from"]): r for r in held["rate_schedule"]}
    assert set(rates) == {(t.code, f"{year}-01-01") for t in TARIFFS for year in (2018, 2023)}
    assert {r["rate_code"] for r in reads} <= {code for code, _ in rates}
    now, before = rates["RS-1", "2023-01-01"], rates["RS-1", "2018-01-01"]
    # 55 cents a day; 0.11250 for the first 500 kWh
    assert (now["monthly_charge"], now["energy_price"], now["demand_price"], now["pricing"]) == ("16.50", "0.11250", None, "T")
    assert now["tier_prices"].startswith('{"tiers": [{"up_to_kwh": 500, "price": "0.11250"}, {"up_to_kwh": 1000')
    assert (before["monthly_charge"], before["energy_price"]) == ("15.90", "0.10912")  # 97 %, rounded down
    demand = rates["SC-2", "2023-01-01"]
    assert (demand["pricing"], Decimal(demand["demand_price"]), demand["tier_prices"]) == ("D", Decimal("9.50"), None)
    assert max(len(r["tier_prices"] or "") for r in rates.values()) <= 500
    assert all(len(row) == len(rate_schedules.COLUMNS) for row in rate_schedules.schedules(START))


# -- asked by the extracts -----------------------------------------------------------------------------------------------


def test_the_shipped_feeds_read_what_is_there(held: Tables, repository: Path) -> None:
    folder = repository / "conf" / "feeds"
    log, rates = (load_feed(folder / f"cis_database_{n}.yaml") for n in ("customers", "rates"))
    assert set(log.columns_read()) == set(customers.COLUMNS) < set(held["customer_change"][0])
    assert set(rates.columns_read()) == set(rate_schedules.COLUMNS)
    of_files = load_feed(folder / "cis_customers.yaml")
    assert (log.columns, log.event, log.time_zone) == (of_files.columns, of_files.event, of_files.time_zone)
    hung = load_feed(folder / "cis_database_meters.yaml")
    assert set(hung.columns_read()) == {*meters.COLUMNS, "meter_status", "valid_from", "change_no"} - {"updated_at"}


WAYS = {
    "log": "table: customer_change\n  increment: {column: change_no, kind: number, overlap_numbers: 1000}",
    "changed": "table: customer\n  increment: {column: updated_at, overlap_seconds: 86400}",
    "state": 'query: "SELECT * FROM customer WHERE deleted = 0"',
}
FEED_TEXT = """feed: {name}
system: customer_management
entity: customers
format: jdbc
path: {name}/*.parquet
options:
  url: jdbc:sqlite:{database}
  {way}
time_zone: America/New_York
columns: {{customer_id: customer_id, customer_name: name}}
event: {{effective_at: to_timestamp(changed_at)}}
"""


@pytest.mark.long
@pytest.mark.engine
def test_each_way_of_asking_brings_what_a_month_changed(
    by_month: tuple[Path, Tables, Landed], simulated: Callable[..., Landed], spark: SparkSession, tmp_path: Path
) -> None:
    """By the log, by the time of the last change, and by comparing whole states."""
    import pyarrow.parquet as pq

    sources = tmp_path / "sources"

    def ask(name: str) -> list[int]:
        """Ids of what landed, none when nothing did."""
        feed = parse_feed(FEED_TEXT.format(name=name, database=sources / "cis.sqlite", way=WAYS[name]), f"{name}.yaml")
        done = extract_jdbc(spark, feed, tmp_path / "landing", Refused(), lambda _: None, tmp_path / "stage")
        return [int(i) for i in pq.read_table(tmp_path / "landing" / done.file)["id"].to_pylist()] if done.file else []

    (tmp_path / "landing").mkdir()
    _, first, second = by_month
    both, last = tables(second), None
    for only in (1, 2):
        last = simulated(systems=SYSTEM, gas=True, interval_meters=40, only_month=only, sources=sources)
        told, before = (first, {"customer_change": [], "customer": []}) if only == 1 else (both, first)
        news = {n: [r["id"] for r in told[n] if r not in before[n]] for n in ("customer_change", "customer")}
        state = [r["id"] for r in told["customer"] if not r["deleted"]]
        assert (ask("log"), sorted(ask("changed")), ask("state")) == (news["customer_change"], news["customer"], state)
        assert [ask(name) for name in WAYS] == [[], [], []], "nothing has changed since"
    assert last is not None and len(both["customer"]) > len(news["customer"]) > 50
